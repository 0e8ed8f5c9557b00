/**
 * What pretraining and fine-tuning share: update after update, each with its data, its chance and its measurements.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";
import { trainingFlops } from "../model/config.ts";
import type { Dataset } from "../data/dataset.ts";
import { Ema } from "../optim/ema.ts";
import { type Feed, Feeder, type Finish } from "../data/loader.ts";
import type { Validation } from "../eval/evaluate.ts";
import { firstNonFinite, Watch } from "./health.ts";
import type { AdamWOptions } from "../optim/adamw.ts";
import type { Plan } from "./options.ts";
import { Random } from "../base/random.ts";
import { type Metrics, NonFiniteError, type Step, type Training } from "./run.ts";
import { type Loss, type StepInputs, type Trainable, TrainingStep } from "./step.ts";

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
  loss: Loss;
  /** Learning rate of update k, from 0, for each of the optimizer's groups. */
  rates(k: number): number[];
  /** What is done to a batch once it is normalised. */
  finish?: Finish | undefined;
  /** Which group a parameter is in. */
  optimizer?: Pick<AdamWOptions, "group">;
  /** Called after each update with how many are done. */
  measure(step: number): Promise<Measured>;
  /** Called when no further updates follow. */
  dispose(): void;
}

/** Moves a model on, update by update. */
export class Trainer implements Training {
  readonly steps: number;
  /** Batches that no update takes, rising; the updates after them take later ones. Call `prepare` after a change. */
  skipped: readonly number[] = [];
  readonly #model: Trainable;
  readonly #plan: Plan;
  readonly #task: Task;
  readonly #step: TrainingStep;
  readonly #feeder: Feeder;
  #watch = new Watch();
  readonly #flops: number;
  #next: Feed | undefined;

  /**
   * @param model What to train; its weights change in place.
   * @param dataset Where the images come from.
   * @param plan The checked options.
   * @param task The loss, the learning rates, the measurements.
   * @param ema Gets the averaged weights; it becomes a copy of the model after the first update.
   */
  constructor(model: Trainable, dataset: Dataset, plan: Plan, task: Task, ema?: Trainable) {
    const { batchSize, seed, augment } = plan, { optimizer, loss } = task;
    this.steps = plan.steps;
    this.#model = model;
    this.#plan = plan;
    this.#task = task;
    this.#step = new TrainingStep(model, plan, {
      loss,
      ...(optimizer && { optimizer }),
      ...(ema && { ema }),
    });
    const { imageSize } = model.config, size = { height: imageSize, width: imageSize };
    const { preprocessor: normalisation } = model, { finish } = task;
    this.#feeder = new Feeder(dataset, { batchSize, seed, augment, normalisation, size, finish });
    this.#flops = trainingFlops(model.config, batchSize);
  }

  /** What the optimizer remembers, by name. */
  get moments(): ReadonlyMap<string, tf.Variable> {
    return this.#step.optimizer.state;
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
    const notice = this.#watch.notice(step);
    return notice === undefined ? step : { ...step, notice };
  }

  /** What the step takes for update k. Whatever differs from update to update is among it. */
  #inputs(k: number, { images, shape, labels }: Feed): StepInputs {
    const { batchSize, seed, emaDecay } = this.#plan;
    return {
      images: tf.tensor4d(images, shape, images instanceof Uint8Array ? "int32" : "float32"),
      labels: labels instanceof Int32Array
        ? tf.tensor1d(labels, "int32")
        : tf.tensor2d(labels, [batchSize, labels.length / batchSize]),
      rates: this.#step.optimizer.rates(k, this.#task.rates(k)),
      decay: tf.scalar(Ema.decayAt(k, emaDecay ?? 0)),
      draws: this.#model.draws(batchSize, new Random(seed, "draws", this.batch(k))),
    };
  }

  async prepare(k: number): Promise<void> {
    this.#next = await this.#feeder.feed(this.batch(k));
  }

  async update(k: number): Promise<Step> {
    const started = performance.now(), { batchSize } = this.#plan, feed = this.#next!;
    const compiledBefore = this.#step.compileSeconds;
    const inputs = this.#inputs(k, feed);
    try {
      const outputs = await this.#step.run(inputs);
      const [loss, gradNorm] = [(await outputs[0].data())[0]!, (await outputs[1].data())[0]!];
      tf.dispose(outputs);
      if (!Number.isFinite(gradNorm) || !Number.isFinite(loss)) {
        throw await this.#diagnose(k, inputs, loss, gradNorm);
      }
      const seconds = (performance.now() - started) / 1000, gflops = this.#flops / seconds / 1e9;
      const lr = Math.max(...this.#task.rates(k)), imagesPerSecond = batchSize / seconds;
      const step: Step = { step: k + 1, epoch: feed.epoch, loss, lr, gradNorm, imagesPerSecond, gflops };
      const compileSeconds = this.#step.compileSeconds - compiledBefore;
      if (compileSeconds > 0) step.compileSeconds = compileSeconds;
      Object.assign(step, await this.#task.measure(k + 1));
      return this.#watched(step);
    } finally {
      tf.dispose({ ...inputs });
    }
  }

  /** Repeats the passes of an update that failed, operation by operation, to find where it began; the weights are as before. */
  async #diagnose(k: number, inputs: StepInputs, loss: number, norm: number): Promise<NonFiniteError> {
    let found: Awaited<ReturnType<typeof firstNonFinite>>;
    for (const part of this.#step.parts(inputs)) {
      const pass = tf.tidy(() => ({ ...this.#step.gradients(part) }));
      found ??= await firstNonFinite([
        ["images", part.images],
        ...this.#model.parameters,
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
