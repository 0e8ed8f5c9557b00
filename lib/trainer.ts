/**
 * What pretraining and fine-tuning share: the training step, from a batch to new weights.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";
import { type NepaConfig, trainingFlops } from "./config.ts";
import type { Dataset } from "./data/dataset.ts";
import type { Normalisation } from "./data/transforms.ts";
import { Ema } from "./ema.ts";
import { type Compiled, currentEngine } from "./engine/mod.ts";
import { uncompiled } from "./engine/uncompiled.ts";
import { type Feed, Feeder } from "./feed.ts";
import { type LossAndGradients, lossAndGradients } from "./gradient.ts";
import { firstNonFinite, Watch } from "./health.ts";
import type { Draws } from "./draws.ts";
import { AdamW, type AdamWOptions, clipByGlobalNorm } from "./optimizer.ts";
import type { Plan } from "./plan.ts";
import { Random } from "./random.ts";
import { type Metrics, NonFiniteError, type Step, type Training, type Validation } from "./run.ts";

/** A network that can be trained. */
export interface Trainable {
  readonly config: NepaConfig;
  readonly preprocessor: Normalisation;
  /** By official name. */
  readonly parameters: ReadonlyMap<string, tf.Variable>;
  /** Every random number of one training forward. */
  draws(batchSize: number, random: Random): Draws;
}

/** What is measured beside the loss. */
export interface Measured {
  metrics?: Metrics;
  validation?: Validation;
}

/** What a kind of training adds. */
export interface Task {
  /** The loss of a batch, a number. Called once if the step is compiled, else at every step. */
  loss(images: tf.Tensor4D, labels: tf.Tensor1D, draws: Draws): tf.Scalar;
  /** Learning rate of update k, from 0, for each of the optimizer's groups. */
  rates(k: number): number[];
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
  readonly #model: Trainable;
  readonly #plan: Plan;
  readonly #task: Task;
  readonly #optimizer: AdamW;
  readonly #average: Ema | undefined;
  readonly #feeder: Feeder;
  readonly #run: Compiled<tf.Tensor[], [tf.Tensor, tf.Tensor]>;
  readonly #watch = new Watch();
  readonly #flops: number;
  /** Names of the draws, in the order in which the step takes them. */
  #chances: string[] = [];
  #next: Feed | undefined;

  /**
   * @param model What to train; its weights change in place.
   * @param dataset Where the images come from.
   * @param plan The checked options.
   * @param task The loss, the learning rates, the measurements.
   * @param ema Gets the averaged weights; it becomes a copy of the model after the first update.
   */
  constructor(model: Trainable, dataset: Dataset, plan: Plan, task: Task, ema?: Trainable) {
    const { batchSize, seed, augment, betas, weightDecay } = plan;
    this.steps = plan.steps;
    this.#model = model;
    this.#plan = plan;
    this.#task = task;
    this.#optimizer = new AdamW(model.parameters, { betas, weightDecay, ...task.optimizer });
    this.#average = ema && new Ema(model.parameters, ema.parameters);
    const { imageSize } = model.config, size = { height: imageSize, width: imageSize };
    this.#feeder = new Feeder(dataset, { batchSize, seed, augment, normalisation: model.preprocessor, size });
    this.#flops = trainingFlops(model.config, batchSize);
    const step = (...inputs: tf.Tensor[]) => this.#step(...inputs);
    this.#run = plan.compile ? currentEngine().compile(step, { name: "training step" }) : uncompiled(step);
  }

  /** The step: embed, predict, compare; gradients, clipped; AdamW; the average. The batch was sampled by `prepare`. */
  #step(...[images, labels, rates, decay, ...chance]: tf.Tensor[]): [tf.Tensor, tf.Tensor] {
    const { loss, gradients } = this.#lossAndGradients(images!, labels!, chance);
    const { clipped, norm } = clipByGlobalNorm(
      this.#optimizer.join(gradients),
      this.#plan.clipNorm ?? Infinity,
    );
    this.#optimizer.update(clipped, rates as tf.Tensor1D, tf.isFinite(norm));
    this.#average?.update(decay as tf.Scalar);
    return [loss, norm];
  }

  #lossAndGradients(images: tf.Tensor, labels: tf.Tensor, chance: tf.Tensor[]): LossAndGradients {
    const draws = Object.fromEntries(chance.map((draw, i) => [this.#chances[i]!, draw]));
    const loss = () => this.#task.loss(images as tf.Tensor4D, labels as tf.Tensor1D, draws);
    return lossAndGradients(loss, this.#model.parameters);
  }

  /** What the step takes for update k. Whatever differs from update to update is among it. */
  #inputs(k: number, { images, shape, labels }: Feed): tf.Tensor[] {
    const { batchSize, seed, emaDecay } = this.#plan;
    const draws = this.#model.draws(batchSize, new Random(seed, "draws", k));
    this.#chances = Object.keys(draws);
    return [
      tf.tensor4d(images, shape),
      tf.tensor1d(labels, "int32"),
      this.#optimizer.rates(k, this.#task.rates(k)),
      tf.scalar(Ema.decayAt(k, emaDecay ?? 0)),
      ...Object.values(draws),
    ];
  }

  prepare(k: number): Promise<void> {
    this.#next = this.#feeder.feed(k);
    return Promise.resolve();
  }

  async update(k: number): Promise<Step> {
    const started = performance.now(), { batchSize } = this.#plan, feed = this.#next!;
    const inputs = this.#inputs(k, feed);
    try {
      const outputs = await this.#run(...inputs);
      const [loss, gradNorm] = [(await outputs[0].data())[0]!, (await outputs[1].data())[0]!];
      tf.dispose(outputs);
      if (!Number.isFinite(gradNorm) || !Number.isFinite(loss)) {
        throw await this.#diagnose(k, inputs, loss, gradNorm);
      }
      const seconds = (performance.now() - started) / 1000, gflops = this.#flops / seconds / 1e9;
      const lr = Math.max(...this.#task.rates(k)), imagesPerSecond = batchSize / seconds;
      const step: Step = { step: k + 1, epoch: feed.epoch, loss, lr, gradNorm, imagesPerSecond, gflops };
      Object.assign(step, await this.#task.measure(k + 1));
      const notice = this.#watch.notice(step);
      return notice === undefined ? step : { ...step, notice };
    } finally {
      tf.dispose(inputs);
    }
  }

  /** Repeats the passes of an update that failed, operation by operation, to find where it began; the weights are as before. */
  async #diagnose(k: number, inputs: tf.Tensor[], loss: number, norm: number): Promise<NonFiniteError> {
    const [images, labels, , , ...chance] = inputs, { parameters } = this.#model;
    const pass = tf.tidy(() => ({ ...this.#lossAndGradients(images!, labels!, chance) }));
    const found = await firstNonFinite([
      ["images", images!],
      ...parameters,
      ["loss", pass.loss],
      ...Object.entries(pass.gradients).map(([name, gradient]) => [`gradient of ${name}`, gradient] as const),
    ]);
    tf.dispose([pass.loss, ...Object.values(pass.gradients)]);
    const where = found ? `the first is ${found.name}, with ${found.value}` : "each tensor alone is finite";
    return new NonFiniteError(
      `step ${k + 1}: expected finite numbers, got loss ${loss} and gradient norm ${norm}; ${where}. ` +
        `The weights are those of step ${k}. Try a smaller learning rate; it was ${
          Math.max(...this.#task.rates(k))
        }.`,
    );
  }

  dispose(): void {
    this.#run.dispose();
    this.#optimizer.dispose();
    this.#task.dispose();
  }
}
