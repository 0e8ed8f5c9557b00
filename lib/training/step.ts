/**
 * The training step: a batch goes in, the weights change, loss and gradient norm come out. It is compiled as one function;
 * where a batch is computed in parts, as one for a part and one for the update.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";
import type { NepaConfig } from "../model/config.ts";
import type { Normalisation } from "../data/transforms.ts";
import { type Draws, partOf } from "../model/draws.ts";
import { Ema } from "../optim/ema.ts";
import { type Compiled, currentEngine, uncompiled } from "@nepa/engine";
import { type LossAndGradients, lossAndGradients } from "../base/gradient.ts";
import { AdamW, type AdamWOptions, clipByGlobalNorm } from "../optim/adamw.ts";
import type { Plan } from "./options.ts";
import type { Random } from "../base/random.ts";

/** A network that can be trained. */
export interface Trainable {
  readonly config: NepaConfig;
  readonly preprocessor: Normalisation;
  /** By official name. */
  readonly parameters: ReadonlyMap<string, tf.Variable>;
  /** Every random number of one training forward. */
  draws(batchSize: number, random: Random): Draws;
}

/** Class numbers [B], int32, or shares of the classes [B, K]. */
export type Labels = tf.Tensor1D | tf.Tensor2D;

/** The loss of a batch, a number. Called once if the step is compiled, else at every step. */
export type Loss = (images: tf.Tensor4D, labels: Labels, draws: Draws) => tf.Scalar;

/** A batch and its random numbers: what loss and gradients depend on besides the weights. */
export interface BatchInputs {
  /** [B, H, W, C], as `forward` takes them. */
  images: tf.Tensor4D;
  labels: Labels;
  draws: Draws;
}

/** What one update takes. */
export interface StepInputs extends BatchInputs {
  /** From `AdamW.rates`. */
  rates: tf.Tensor1D;
  /** What the averaged weights keep of themselves. */
  decay: tf.Scalar;
}

/** Loss and gradient norm before clipping. */
export type StepOutputs = [loss: tf.Tensor, norm: tf.Tensor];

/** Changes a model's weights, update by update. */
export class TrainingStep {
  readonly optimizer: AdamW;
  readonly #model: Trainable;
  readonly #loss: Loss;
  readonly #plan: Plan;
  readonly #average: Ema | undefined;
  readonly #whole: Compiled<tf.Tensor[], StepOutputs>;
  readonly #part: Compiled<tf.Tensor[], tf.Tensor>;
  readonly #end: Compiled<[tf.Tensor, tf.Tensor], tf.Tensor>;
  /** Gradients of the parts so far, over their number; by the optimizer's blocks. */
  readonly #sums = new Map<string, tf.Variable>();
  /** Names of the draws, in the order in which the compiled functions take them. */
  #chances: string[] = [];

  /** @param ema Gets the averaged weights; it becomes a copy of the model after the first update. */
  constructor(
    model: Trainable,
    plan: Plan,
    { loss, optimizer, ema }: { loss: Loss; optimizer?: Pick<AdamWOptions, "group">; ema?: Trainable },
  ) {
    const { betas, weightDecay, precision, accumulate } = plan;
    this.#model = model;
    this.#loss = loss;
    this.#plan = plan;
    this.optimizer = new AdamW(model.parameters, { betas, weightDecay, ...optimizer });
    this.#average = ema && new Ema(model.parameters, ema.parameters);
    if (accumulate > 1) this.#makeSums();
    const compiled = <A extends tf.Tensor[], R extends tf.TensorContainer>(
      name: string,
      fn: (...args: A) => R,
    ) => plan.compile ? currentEngine().compile(fn, { name, precision }) : uncompiled(fn, { name });
    this.#whole = compiled("training step", (images, labels, rates, decay, ...chance) => {
      const { loss, gradients } = this.#gradients(images!, labels!, chance);
      return [loss, this.#update(this.optimizer.join(gradients), rates!, decay!)];
    });
    this.#part = compiled("part of a training step", (images, labels, ...chance) => {
      const { loss, gradients } = this.#gradients(images!, labels!, chance);
      for (const [block, gradient] of Object.entries(this.optimizer.join(gradients))) {
        const sum = this.#sums.get(block)!;
        sum.assign(tf.add(sum, tf.div(gradient, accumulate)));
      }
      return tf.div(loss, accumulate);
    });
    this.#end = compiled("end of a training step", (rates, decay) => {
      const gradients = Object.fromEntries([...this.#sums].map(([block, sum]) => [block, sum.clone()]));
      const norm = this.#update(gradients, rates, decay);
      for (const sum of this.#sums.values()) sum.assign(tf.zerosLike(sum));
      return norm;
    });
  }

  /** Clip, AdamW, the average. Gives the norm before clipping; if that is not finite, nothing changes. */
  #update(gradients: Record<string, tf.Tensor>, rates: tf.Tensor, decay: tf.Tensor): tf.Scalar {
    const { clipped, norm } = clipByGlobalNorm(gradients, this.#plan.clipNorm ?? Infinity);
    this.optimizer.update(clipped, rates as tf.Tensor1D, tf.isFinite(norm));
    this.#average?.update(decay as tf.Scalar);
    return norm;
  }

  #gradients(images: tf.Tensor, labels: tf.Tensor, chance: readonly tf.Tensor[]): LossAndGradients {
    const draws = Object.fromEntries(chance.map((draw, i) => [this.#chances[i]!, draw]));
    return this.gradients({ images: images as tf.Tensor4D, labels: labels as Labels, draws });
  }

  /** Embed, predict, compare; and the gradients of that. */
  gradients({ images, labels, draws }: BatchInputs): LossAndGradients {
    return lossAndGradients(() => this.#loss(images, labels, draws), this.#model.parameters);
  }

  /** Seconds that went into recording and compiling so far. */
  get compileSeconds(): number {
    return this.#whole.compileSeconds + this.#part.compileSeconds + this.#end.compileSeconds;
  }

  /** Changes the weights. The caller owns the inputs and what it gets. */
  async run(inputs: StepInputs): Promise<StepOutputs> {
    const { images, labels, rates, decay, draws } = inputs;
    this.#chances = Object.keys(draws);
    if (this.#plan.accumulate === 1) {
      return await this.#whole(images, labels, rates, decay, ...Object.values(draws));
    }
    let total: tf.Tensor = tf.scalar(0);
    for (const part of this.parts(inputs)) {
      const loss = await this.#part(part.images, part.labels, ...Object.values(part.draws)), before = total;
      total = tf.add(before, loss);
      tf.dispose([before, loss]);
    }
    return [total, await this.#end(rates, decay)];
  }

  /** The parts of a batch; each is disposed of when the next is asked for. */
  *parts({ images, labels, draws }: BatchInputs): Generator<BatchInputs> {
    const { accumulate } = this.#plan, count = images.shape[0] / accumulate;
    for (let i = 0; i < accumulate; i++) {
      const part = tf.tidy(() => ({
        images: tf.slice(images, i * count, count),
        labels: tf.slice(labels, i * count, count),
        draws: partOf(draws, i * count, count),
      }));
      try {
        yield part;
      } finally {
        tf.dispose({ ...part });
      }
    }
  }

  #makeSums(): void {
    tf.tidy(() => {
      const blocks = this.optimizer.join(Object.fromEntries(this.#model.parameters));
      for (const [block, { shape }] of Object.entries(blocks)) {
        this.#sums.set(block, tf.variable(tf.zeros(shape), false));
      }
    });
  }

  dispose(): void {
    for (const compiled of [this.#whole, this.#part, this.#end]) compiled.dispose();
    this.optimizer.dispose();
    tf.dispose([...this.#sums.values()]);
  }
}
