/**
 * What pretraining and fine-tuning share: update after update, each with its data, its chance and its measurements.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";
import { firstNonFinite, NonFiniteError } from "../base/finite.ts";
import { lossAndMetrics, type LossOutput } from "../base/gradient.ts";
import type { Draws } from "../base/random.ts";
import type { Dataset } from "../data/dataset.ts";
import { type Feed, Feeder, type Finish } from "../data/loader.ts";
import type { Preprocessor } from "../data/preprocessor.ts";
import type { Validation } from "../eval/evaluate.ts";
import { AdamW, type AdamWOptions } from "../optim/adamw.ts";
import { Ema } from "../optim/ema.ts";
import {
  type BatchInputs,
  CompiledStep,
  refuseBatchStatistics,
  type StepInputs,
  type TrainingBatch,
} from "./compiled_step.ts";
import { Watch } from "./health.ts";
import type { Plan } from "./options.ts";
import type { Metrics, Step } from "./history.ts";
import type { Training } from "./run.ts";
import { type Numbers, unreachedNotice, type UpdateOptions } from "./step.ts";

/** What is measured beside the loss. */
export interface Measured {
  metrics?: Metrics;
  validation?: Validation;
  probe?: number;
  best?: number;
  test?: Validation;
}

/** What a kind of training adds. */
export interface Task {
  /** All that gradients may move, by name: frozen ones too. */
  parameters: ReadonlyMap<string, tf.Variable>;
  /** Variables that the loss may read besides. */
  state?: ReadonlyMap<string, tf.Variable>;
  /** All of them as they are now. Default: `parameters`. */
  present?(): Iterable<readonly [string, tf.Variable]>;
  /** What images are normalised by. */
  preprocessor: Preprocessor;
  /** Of the images. */
  size: { height: number; width: number };
  views?: number;
  loss(batch: TrainingBatch, draws: Draws, numbers: Numbers): LossOutput;
  after?: UpdateOptions<TrainingBatch>["after"];
  /** The random numbers of a batch. */
  draws(batchSize: number, seed: number, batch: number): Draws;
  /** What changes by schedule at update k, from 0. */
  numbers?(k: number, steps: number): Record<string, number>;
  /** Learning rate of update k, from 0, for each of the optimizer's groups. */
  rates(k: number): number[];
  /** What is done to a batch once it is normalised. */
  finish?: Finish | undefined;
  /** Which group a parameter is in, and which decay. */
  optimizer?: Pick<AdamWOptions, "group" | "decay">;
  /** The classes' numbers, by those that the data set gives them. Default: those. */
  classNumbers?: Int32Array;
  /** Parameters that are left as they are. */
  frozen?: (name: string) => boolean;
  /** Gets the averaged weights: variables of the parameters' names. */
  averages?: ReadonlyMap<string, tf.Variable> | undefined;
  flops(batchSize: number): number;
  /** Called after each update with how many are done. */
  measure(step: number): Promise<Measured>;
  /** What is measured where a run stops after `step` updates; changes nothing. */
  read(step: number): Promise<Measured>;
  /** Whether the loss is minus a cosine. Default: yes. */
  cosine?(): boolean;
  /** Called when no further updates follow. */
  dispose(): void;
  /** Where the training was made, for messages. */
  from?: string | undefined;
}

/** Moves a model on, update by update. */
export class Trainer implements Training {
  readonly steps: number;
  /** Batches that no update takes, rising; the updates after them take later ones. Call `prepare` after a change. */
  skipped: readonly number[] = [];
  readonly optimizer: AdamW;
  readonly #plan: Plan;
  readonly #task: Task;
  readonly #step: CompiledStep;
  readonly #feeder: Feeder;
  readonly #trained: readonly unknown[];
  #watch = new Watch();
  #checked = false;
  readonly #flops: number;
  #next: Feed | undefined;

  /**
   * @param dataset Where the images come from.
   * @param plan The checked options.
   * @param task What is trained: the loss, the learning rates, the measurements.
   */
  constructor(dataset: Dataset, plan: Plan, task: Task) {
    const { batchSize, seed, augment, betas } = plan, { finish, preprocessor, size, averages, frozen } = task;
    this.#flops = task.flops(batchSize); // which refuses what cannot be trained
    this.steps = plan.steps;
    this.#plan = plan;
    this.#task = task;
    const [held, parameters] = [true, false].map((is) =>
      new Map([...task.parameters].filter(([name]) => is === (frozen?.(name) ?? false)))
    ) as [Map<string, tf.Variable>, Map<string, tf.Variable>];
    const { state = new Map(), loss, after, from } = task;
    const weightDecay = plan.weightDecayAt(0);
    this.optimizer = new AdamW(parameters, { betas, weightDecay, ...task.optimizer });
    this.#step = new CompiledStep({
      ...{ loss, after, from, parameters, optimizer: this.optimizer, clipNorm: plan.clipNorm },
      state: new Map([...state, ...held]),
      average: averages && new Ema(task.parameters, averages),
    }, plan);
    this.#trained = signature(task);
    const options = {
      batchSize,
      seed,
      augment,
      normalisation: preprocessor,
      size,
      finish,
      numbers: task.classNumbers,
      views: task.views ?? 1,
    };
    this.#feeder = new Feeder(dataset, options);
  }

  /** The batch that update k takes, which decides about its images, their augmentation and the network's draws. */
  batch(k: number): number {
    return this.skipped.reduce((batch, skipped) => skipped <= batch ? batch + 1 : batch, k);
  }

  /** Takes note of steps that were made before: they come back with what had to be said at each. */
  recall(history: readonly Step[]): Step[] {
    this.#watch = new Watch();
    return history.map((step) => this.#watched(step));
  }

  #watched(step: Step): Step {
    const { unreached } = this.#step, first = step.step === 1 && unreached.length > 0;
    const notices = [first ? unreachedNotice(unreached) : undefined, this.#watch.notice(step)]
      .filter((notice) => notice !== undefined);
    return notices.length === 0 ? step : { ...step, notice: notices.join("\n") };
  }

  /** What the step takes for update k. Whatever differs from update to update is among it. */
  #inputs(k: number, { images, views, shape, labels, masks }: Feed): StepInputs {
    const { batchSize, seed, emaDecay, weightDecayAt } = this.#plan, task = this.#task;
    const tensor = (x: Feed["images"]) =>
      tf.tensor4d(x, shape, x instanceof Uint8Array ? "int32" : "float32");
    const make = (): StepInputs => {
      const first = tensor(images), numbers = Object.entries(task.numbers?.(k, this.steps) ?? {});
      return {
        batch: {
          images: first,
          labels: labels instanceof Int32Array
            ? tf.tensor1d(labels, "int32")
            : tf.tensor2d(labels, [batchSize, labels.length / batchSize]),
          ...(masks && { masks: tf.tensor3d(masks, [shape[0], shape[1], shape[2]], "int32") }),
          ...(views.length > 1 && { views: [first, ...views.slice(1).map(tensor)] }),
        },
        rates: this.optimizer.rates(k, task.rates(k), weightDecayAt(k)),
        decay: tf.scalar(Ema.decayAt(k, emaDecay ?? 0)),
        draws: task.draws(batchSize, seed, this.batch(k)),
        numbers: Object.fromEntries(numbers.map(([name, x]) => [name, tf.scalar(x)])),
      };
    };
    return tf.tidy(make as () => tf.TensorContainerObject) as unknown as StepInputs; // nothing is left where one of them throws
  }

  get cosine(): boolean {
    return this.#task.cosine?.() ?? true;
  }

  read(step: number): Promise<Measured> {
    return this.#task.read(step);
  }

  async prepare(k: number): Promise<void> {
    this.#next = await this.#feeder.feed(this.batch(k));
  }

  async update(k: number): Promise<Step> {
    const started = performance.now(), { batchSize } = this.#plan, feed = this.#next!;
    const compiledBefore = this.#step.compileSeconds;
    this.#refuseChanges();
    const inputs = this.#inputs(k, feed);
    try {
      if (!this.#checked) this.#check(inputs);
      const { loss: lossTensor, gradNorm: norm, ...others } = await this.#step.run(inputs);
      const [loss, gradNorm] = [(await lossTensor.data())[0]!, (await norm.data())[0]!];
      const logged = await Promise.all(
        Object.entries(others).map(async ([name, x]) => [name, (await x.data())[0]!] as const),
      );
      tf.dispose([lossTensor, norm, others]);
      if (!Number.isFinite(gradNorm) || !Number.isFinite(loss)) {
        throw await this.#diagnose(k, inputs, loss, gradNorm);
      }
      const seconds = (performance.now() - started) / 1000, gflops = this.#flops / seconds / 1e9;
      const lr = Math.max(...this.#task.rates(k)), imagesPerSecond = batchSize / seconds;
      const step: Step = { step: k + 1, epoch: feed.epoch, loss, lr, gradNorm, imagesPerSecond, gflops };
      const compileSeconds = this.#step.compileSeconds - compiledBefore;
      if (compileSeconds > 0) step.compileSeconds = compileSeconds;
      const { metrics, ...measured } = await this.#task.measure(k + 1);
      Object.assign(step, measured);
      if (metrics || logged.length > 0) {
        step.metrics = { ...Object.fromEntries(logged), ...metrics } as Metrics;
      }
      return this.#watched(step);
    } finally {
      tf.dispose({ ...inputs });
    }
  }

  /** Refuses parameters that came, went, froze or thawed since the training was made. */
  #refuseChanges(): void {
    const now = signature(this.#task), then = this.#trained;
    if (now.length === then.length && now.every((x, i) => x === then[i])) return;
    throw new TypeError(
      "parameters: expected those that were there when the training was made, with the same `trainable`, got others; " +
        "add and freeze them before, and begin a new training",
    );
  }

  /** What is looked at once, before the first update. */
  #check(inputs: StepInputs): void {
    const { accumulate } = this.#plan;
    const loss = ({ batch, draws, numbers }: BatchInputs) =>
      lossAndMetrics(this.#task.loss(batch, draws, numbers)).loss;
    if (accumulate > 1) refuseBatchStatistics(loss, inputs, accumulate);
    this.#checked = true;
  }

  /** Repeats the passes of an update that failed, operation by operation, to find where it began; the weights are as before. */
  async #diagnose(k: number, inputs: StepInputs, loss: number, norm: number): Promise<NonFiniteError> {
    let found: Awaited<ReturnType<typeof firstNonFinite>>;
    for (const part of this.#step.parts(inputs)) {
      const pass = tf.tidy(() => {
        const { loss, gradients } = this.#step.gradients(part);
        return { loss, gradients };
      });
      found ??= await firstNonFinite([
        ["images", part.batch.images],
        ...this.#task.parameters,
        ["loss", pass.loss],
        ...Object.entries(pass.gradients).map(([name, gradient]) =>
          [`gradient of ${name}`, gradient] as const
        ),
      ]);
      tf.dispose([pass.loss, ...Object.values(pass.gradients)]);
    }
    const where = found ? `the first is ${found.name}, with ${found.value}` : "each tensor alone is finite";
    return new NonFiniteError(
      `step ${k + 1}: expected finite numbers, got loss ${loss} and gradient norm ${norm}; ${where}. ` +
        `The weights are those of step ${k}. Try a smaller learning rate; it was ${
          Math.max(...this.#task.rates(k))
        }.`,
    );
  }

  dispose(): void {
    this.#step.dispose();
    this.#task.dispose();
  }
}

/** Which variables there are, and which of them are frozen. */
function signature(task: Task): unknown[] {
  const all = task.present?.() ?? task.parameters;
  return Array.from(all, ([name, variable]) => [name, variable, variable.trainable]).flat();
}
