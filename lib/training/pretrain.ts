/** Pretraining: a causal transformer learns to predict each next embedding. The step is in `step.ts`. @module */
import type * as tf from "@tensorflow/tfjs";
import { type Dataset, refuseMisfit, refuseMislabelled } from "../data/dataset.ts";
import { compose, horizontalFlip, randomResizedCrop } from "../data/transforms.ts";
import { quickProbe } from "../eval/probe.ts";
import { refuseTransform } from "../data/loader.ts";
import { FolderKeeper } from "./checkpoints.ts";
import { Meter } from "./meter.ts";
import type { Nepa } from "../model/nepa.ts";
import { nepaLoss, type NepaLossOptions } from "../model/objective.ts";
import { makePlan, type Recipe, type TrainOptions } from "./options.ts";
import { Random } from "../base/random.ts";
import { Run } from "./run.ts";
import { warmupCosine } from "../optim/schedule.ts";
import { Trainer } from "./trainer.ts";

/** Options of {@linkcode pretrain}. */
export interface PretrainOptions extends TrainOptions, NepaLossOptions {
  /**
   * Where the defaults come from: "default", for small networks and data sets; "small", which differs from it by more updates
   * and standardised targets (`deno task bench learning` measures what each brings); or "official", the paper's.
   */
  recipe?: "default" | "small" | "official";
  /** Images held out from training, of the network's size: for the collapse meter and the held-out loss. */
  validation?: Dataset;
  /**
   * How many updates lie between two readings. `collapse`, the meter: at the first and the last too, default 250. `probe`,
   * a linear probe fitted to 2,000 training images and judged by 2,000 of `validation`, or other training images where
   * there is none: `step.probe`, at the last too; default never.
   */
  every?: { collapse?: number; probe?: number };
  /** Whether a token sees only itself and those before it. Default: the configuration's `isCausal`. */
  causal?: boolean;
  /**
   * What is made smaller, for objectives of your own: a number from what `forward` gives, z and ẑ [B, T, D]. The three
   * switches are `nepaLoss`'s and cannot be given beside it. A run in a folder goes on if this has the same source text.
   */
  loss?: PretrainLoss;
}

/** An objective: a number from the embeddings z and the predictions ẑ, both [B, T, D]. Called once if the step is compiled. */
export type PretrainLoss = (
  outputs: { readonly embeddings: tf.Tensor3D; readonly predictions: tf.Tensor3D },
) => tf.Scalar;

/** What `pretrain` does unless told otherwise. */
export const SMALL: Recipe = {
  steps: 1500,
  batchSize: 64,
  learningRate: 3e-3,
  weightDecay: 0.05,
  betas: [0.9, 0.95],
  warmupRatio: 0.1,
  clipNorm: 1,
  emaDecay: null,
  augment: horizontalFlip(0.5),
  seed: 0,
  compile: true,
};

/** The paper's recipe (arXiv 2512.16922; the official pretraining script). */
function official(size: number, images: number): Recipe {
  const { learningRate: _, ...rest } = SMALL as Recipe & { learningRate: number };
  const batchSize = 4096, epochs = 1600;
  return {
    ...rest,
    steps: epochs * Math.floor(images / batchSize),
    batchSize,
    baseLearningRate: 3e-4,
    warmupRatio: 0.025,
    emaDecay: 0.9999,
    augment: compose(
      randomResizedCrop({ size, scale: [0.08, 1], ratio: [3 / 4, 4 / 3] }),
      horizontalFlip(0.5),
    ),
  };
}

/** What a recipe sets. */
function pretrainRecipe(name: string, { config }: Nepa, { length }: Dataset): Recipe {
  if (name === "default") return SMALL;
  if (name === "small") return { ...SMALL, steps: 4800 };
  if (name === "official") return official(config.imageSize, Math.max(length, 4096));
  throw new RangeError(`recipe: expected "default", "small" or "official", got ${JSON.stringify(name)}`);
}

const SWITCHES = ["shift", "stopGradient", "standardizeTargets"] as const;

/** Options that fine-tuning does not have. */
const KNOWN = ["recipe", "validation", "every", "causal", "loss", ...SWITCHES];

/** The objective, what a folder is told of it, and whether it reads the last position's prediction. */
function objectiveOf(
  options: PretrainOptions,
): { loss: PretrainLoss; about: object; last: boolean; standardizeTargets: boolean } {
  const { loss, shift = true, stopGradient = true } = options;
  const { standardizeTargets = options.recipe === "small" } = options;
  if (loss === undefined) {
    const switches = { shift, stopGradient, standardizeTargets };
    return {
      loss: (outputs) => nepaLoss(outputs, switches),
      about: switches,
      last: !shift,
      standardizeTargets,
    };
  }
  const beside = SWITCHES.find((name) => options[name] !== undefined);
  if (beside !== undefined) throw new TypeError(`expected loss or ${beside}, got both`);
  return { loss, about: { loss: loss.toString() }, last: true, standardizeTargets: false };
}

/**
 * Trains a model to predict each next patch's embedding. Nothing is computed before the run is iterated; see {@linkcode Run}.
 *
 * Without options: 1,500 updates of 64 images with AdamW (0.9, 0.95), weight decay 0.05, gradients clipped at norm 1, the
 * learning rate rising to 3e-3 over a tenth of the updates and falling to 0 along a cosine, images mirrored half of the
 * time. `recipe: "small"` makes 4,800 updates, five minutes of `mini` on two cores, with `standardizeTargets`.
 * `recipe: "official"` takes the paper's: batches of 4,096, crops, 3e-4 per 256 images, a 2.5 % warm-up, averaged
 * weights, 1,600 epochs; give `batchSize` and `epochs` to make it fit.
 *
 * @param model Its weights change in place.
 * @param dataset The images; their labels are not looked at, but for `every.probe`.
 * @param options What differs from the recipe. The three switches of the method, all on: `causal`, `shift`, `stopGradient`.
 * @returns A run; `run.ema` is a second model, the caller's to dispose of, if `emaDecay` is set.
 * @throws {RangeError | TypeError} If an option cannot be, or the images do not fit the model.
 *
 * @example An objective of your own: two positions ahead
 * ```ts
 * import { fashionMnist, Nepa, nepaLoss, pretrain, tf, useEngine } from "nepa";
 *
 * await useEngine();
 * const { train } = await fashionMnist();
 * const model = new Nepa({ preset: "mini" }, { seed: 0 });
 * await pretrain(model, train, {
 *   steps: 3,
 *   batchSize: 16,
 *   loss: ({ embeddings, predictions }) =>
 *     nepaLoss({
 *       embeddings: tf.slice(embeddings, [0, 2, 0]), // [B, T − 2, D]
 *       predictions: tf.slice(predictions, 0, [-1, predictions.shape[1] - 2, -1]),
 *     }, { shift: false }),
 * }).finish();
 * model.dispose();
 * ```
 *
 * @example
 * ```ts
 * import { fashionMnist, Nepa, pretrain, useEngine } from "nepa";
 * import { assertEquals } from "@std/assert";
 *
 * await useEngine();
 * const { train } = await fashionMnist();
 * const model = new Nepa({ preset: "mini" }, { seed: 0 });
 * const result = await pretrain(model, train, { steps: 3, batchSize: 16, seed: 0 }).finish();
 * assertEquals(result.steps, 3);
 * model.dispose();
 * ```
 */
export function pretrain(model: Nepa, dataset: Dataset, options: PretrainOptions = {}): Run<Nepa> {
  const { recipe = "default", validation, every = {}, causal = model.config.isCausal } = options;
  const { loss, about, last, standardizeTargets } = objectiveOf(options);
  const plan = makePlan(options, pretrainRecipe(recipe, model, dataset), dataset, KNOWN);
  refuseMisfit(
    dataset,
    model.config,
    options.augment === undefined && recipe !== "official" || plan.augment === null,
  );
  const { imageSize } = model.config, size = { height: imageSize, width: imageSize };
  if (plan.augment) refuseTransform(dataset, plan.augment, size);
  if (validation) refuseMisfit(validation, model.config, true);
  const { interval, probing } = intervals(every);
  const probe = probing === undefined
    ? undefined
    : onlineProbe(model, dataset, validation, causal, plan.seed);
  const meter = new Meter(model, {
    dataset: validation ?? dataset,
    heldOut: validation !== undefined,
    batchSize: plan.batchSize,
    causal,
    loss,
    standardizeTargets,
    seed: plan.seed,
    compile: plan.compile,
  });
  const rate = warmupCosine({ peak: plan.learningRate, steps: plan.steps, warmupSteps: plan.warmupSteps });
  const ema = plan.emaDecay === null ? undefined : model.clone();
  const trainer = new Trainer(model, dataset, plan, {
    loss: (images, _labels, draws) =>
      loss(model.forward(images, { training: draws, causal, last: last || !causal })),
    rates: (k) => [rate(k)],
    measure: async (step) => ({
      ...(step === 1 || step % interval === 0 || step === plan.steps) && await meter.read(),
      ...probe && (step % probing! === 0 || step === plan.steps) && { probe: await probe() },
    }),
    dispose: () => meter.dispose(),
  }, ema);
  const keeper = plan.checkpoint && new FolderKeeper(plan.checkpoint, {
    kind: "pretrain",
    model,
    ema,
    trainer,
    plan,
    options: { causal, ...about, every: { collapse: interval } },
    data: dataset,
  });
  return new Run(model, trainer, { ema, signal: plan.signal, keeper });
}

function intervals({ collapse = 250, probe }: NonNullable<PretrainOptions["every"]>) {
  for (const [name, value] of Object.entries({ collapse, probe: probe ?? 1 })) {
    if (!(Number.isSafeInteger(value) && value >= 1)) {
      throw new RangeError(`every.${name}: expected an integer from 1, got ${value}`);
    }
  }
  return { interval: collapse, probing: probe };
}

/** Images that a probe beside a training is fitted to, and as many to judge it by. */
const PROBED = 2000;

function onlineProbe(
  model: Nepa,
  dataset: Dataset,
  validation: Dataset | undefined,
  causal: boolean,
  seed: number,
): () => Promise<number> {
  const sets = [dataset, ...validation ? [validation] : []];
  for (const set of sets) {
    refuseMislabelled(set);
    refuseMisfit(set, model.config, true);
    if (set.length < 20) {
      throw new RangeError(`every.probe: expected 20 images or more in ${set.name}, got ${set.length}`);
    }
  }
  if (validation && validation.classes.length !== dataset.classes.length) {
    throw new RangeError(
      `${validation.name}: expected the ${dataset.classes.length} classes of ${dataset.name}, got ${validation.classes.length}`,
    );
  }
  const orders = sets.map(({ length }) => new Random(seed, "online probe").permutation(length));
  const count = Math.min(PROBED, validation ? dataset.length : Math.floor(dataset.length / 2));
  const fitted = dataset.subset(orders[0]!.slice(0, count));
  const judged = validation
    ? validation.subset(orders[1]!.slice(0, PROBED))
    : dataset.subset(orders[0]!.slice(count, count + PROBED));
  return () => quickProbe(model, fitted, judged, causal);
}
