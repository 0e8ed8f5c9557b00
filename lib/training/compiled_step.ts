/** The step as a training runs it: compiled, and cut into parts where a batch does not fit into memory. @module */
import * as tf from "@tensorflow/tfjs";
import { type Compiled, currentEngine } from "@nepa/engine";
import type { LossAndGradients } from "../base/gradient.ts";
import { partOf } from "../base/random.ts";
import { type AdamW, clipByGlobalNorm } from "../optim/adamw.ts";
import type { Plan } from "./options.ts";
import { gradientsOf, update, type UpdateInputs, type UpdateOptions, type UpdateOutputs } from "./step.ts";

/** The images of an update and what is known of them. */
export type TrainingBatch = {
  /** [B, H, W, C], as `forward` takes them. */
  images: tf.Tensor4D;
  /** Class numbers [B], int32, or shares of the classes [B, K]. */
  labels: tf.Tensor1D | tf.Tensor2D;
  /** The images augmented apart, the first among them, where there are several views. */
  views?: tf.Tensor4D[];
  /** [B, H, W] int32, the class of each pixel, of a data set with masks. */
  masks?: tf.Tensor3D;
};

/** Everything that an update takes. */
export type StepInputs = Required<UpdateInputs<TrainingBatch>>;

/** What loss and gradients depend on besides the weights. */
export type BatchInputs = Pick<StepInputs, "batch" | "draws" | "numbers">;

/** Changes a model's weights, update by update. */
export class CompiledStep {
  readonly #options: UpdateOptions<TrainingBatch>;
  readonly #parts: number;
  readonly #whole: Compiled<[StepInputs], UpdateOutputs>;
  readonly #part: Compiled<[BatchInputs], tf.NamedTensorMap>;
  readonly #end: Compiled<[Pick<StepInputs, "rates" | "decay" | "numbers">], tf.Tensor>;
  /** Gradients of the parts so far, over their number; by the optimizer's blocks. */
  readonly #sums = new Map<string, tf.Variable>();
  /** Parameters that the loss does not reach, once it was run. */
  unreached: readonly string[] = [];

  constructor(
    options: UpdateOptions<TrainingBatch>,
    plan: Pick<Plan, "accumulate" | "precision" | "compile">,
  ) {
    this.#options = { ...options, unreached: (names) => this.unreached = names };
    this.#parts = plan.accumulate;
    const { optimizer } = options, { compile, precision } = plan;
    if (this.#parts > 1) this.#makeSums(optimizer);
    const compiled = <A extends object, R extends tf.TensorContainer>(name: string, step: (inputs: A) => R) =>
      currentEngine().compile(step, { name, precision, compile });
    this.#whole = compiled("training step", update(this.#options));
    this.#part = compiled("part of a training step", (inputs: BatchInputs) => this.#add(optimizer, inputs));
    this.#end = compiled("end of a training step", ({ rates, decay, numbers }) => {
      const gradients = Object.fromEntries([...this.#sums].map(([block, sum]) => [block, sum.clone()]));
      const { clipped, norm } = clipByGlobalNorm(gradients, options.clipNorm ?? Infinity);
      optimizer.update(clipped, rates, tf.isFinite(norm));
      options.after?.(undefined as never, {}, numbers, {});
      options.average?.update(decay);
      for (const sum of this.#sums.values()) sum.assign(tf.zerosLike(sum));
      return norm;
    });
  }

  #add(optimizer: AdamW, { batch, draws, numbers }: BatchInputs): tf.NamedTensorMap {
    const { loss, gradients, metrics } = gradientsOf(this.#options, batch, draws, numbers),
      parts = this.#parts;
    for (const [block, gradient] of Object.entries(optimizer.join(gradients))) {
      const sum = this.#sums.get(block)!;
      sum.assign(tf.add(sum, tf.div(gradient, parts)));
    }
    const all = Object.entries({ loss, ...metrics }).map(([name, x]) => [name, tf.div(x, parts)]);
    return Object.fromEntries(all);
  }

  /** The loss of a batch and its gradients, operation by operation. */
  gradients({ batch, draws, numbers }: BatchInputs): LossAndGradients {
    return gradientsOf(this.#options, batch, draws, numbers);
  }

  /** Seconds that went into recording and compiling so far. */
  get compileSeconds(): number {
    return this.#whole.compileSeconds + this.#part.compileSeconds + this.#end.compileSeconds;
  }

  /** Changes the weights. The caller owns the inputs and what it gets. */
  async run(inputs: StepInputs): Promise<UpdateOutputs> {
    if (this.#parts === 1) return await this.#whole(inputs);
    let total: tf.NamedTensorMap | undefined;
    for (const part of cutInputs(inputs, this.#parts)) {
      const found = await this.#part(part), before = total;
      total = tf.tidy(() =>
        Object.fromEntries(
          Object.entries(found).map(([name, x]) => [name, before ? tf.add(before[name]!, x) : x.clone()]),
        )
      );
      tf.dispose([found, before ?? {}]);
    }
    const { rates, decay, numbers } = inputs;
    return { ...total, gradNorm: await this.#end({ rates, decay, numbers }) } as unknown as UpdateOutputs;
  }

  /** The parts of a batch; each is disposed of when the next is asked for. */
  parts(inputs: BatchInputs): Generator<BatchInputs> {
    return cutInputs(inputs, this.#parts);
  }

  #makeSums(optimizer: AdamW): void {
    tf.tidy(() => {
      for (
        const [block, { shape }] of Object.entries(optimizer.join(Object.fromEntries(optimizer.parameters)))
      ) {
        this.#sums.set(block, tf.variable(tf.zeros(shape), false));
      }
    });
  }

  dispose(): void {
    for (const compiled of [this.#whole, this.#part, this.#end]) compiled.dispose();
    this.#options.optimizer.dispose();
    tf.dispose([...this.#sums.values()]);
  }
}

/** A batch in equal parts, with its draws; each is disposed of when the next is asked for. */
export function* cutInputs(
  { batch, draws, numbers }: BatchInputs,
  parts: number,
  of: number = batch.images.shape[0],
): Generator<BatchInputs> {
  const count = of / parts;
  const cut = <T extends tf.Tensor>(x: T, i: number) => tf.slice(x, i * count, count);
  for (let i = 0; i < parts; i++) {
    const part = tf.tidy(() => ({
      batch: {
        images: cut(batch.images, i),
        labels: cut(batch.labels, i),
        ...(batch.masks && { masks: cut(batch.masks, i) }),
        ...(batch.views && { views: batch.views.map((view) => cut(view, i)) }),
      },
      draws: partOf(draws, i * count, count),
    }));
    try {
      yield { ...part, numbers };
    } finally {
      tf.dispose({ ...part });
    }
  }
}

/** How far the loss of one batch may lie from the mean over its parts. */
const TOLERANCE = 1e-4;

/**
 * Refuses a loss that is another in parts: one with statistics of the batch. A few images are tried, without gradients.
 *
 * @param loss As for the step.
 * @param inputs Of the first update.
 * @param parts How many the batch is cut into.
 * @throws {RangeError} If it differs.
 */
export function refuseBatchStatistics(
  loss: (inputs: BatchInputs) => tf.Scalar,
  inputs: BatchInputs,
  parts: number,
): void {
  const size = 2 * Math.min(4, inputs.batch.images.shape[0] / parts);
  const valueOf = (part: BatchInputs) => {
    const value = tf.tidy(() => loss(part)), [number] = value.dataSync();
    value.dispose();
    return number!;
  };
  const losses = (pieces: number) => Array.from(cutInputs(inputs, pieces, size), valueOf);
  const [whole] = losses(1), halves = losses(2);
  const mean = halves.reduce((sum, x) => sum + x, 0) / halves.length;
  if (!(Math.abs(whole! - mean) > TOLERANCE * Math.max(1, Math.abs(whole!)))) return;
  throw new RangeError(
    `accumulate: expected a loss that is the mean over the images, got ${whole} for ${size} images together and ${mean} ` +
      "as the mean of their halves: it depends on the batch as a whole (standardised targets, negatives from the batch). " +
      "Leave accumulate out, with a smaller batchSize",
  );
}
