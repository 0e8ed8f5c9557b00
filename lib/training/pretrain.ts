/** Pretraining: a causal transformer learns to predict each next embedding. The step is in `step.ts`. @module */
import type * as tf from "@tensorflow/tfjs";
import { callSite, checkOptions, expect, type Rule } from "../base/check.ts";
import * as is from "../base/check.ts";
import { Random } from "../base/random.ts";
import { type Dataset, refuseMisfit, refuseMislabelled } from "../data/dataset.ts";
import { classNumbers, isAmong, matched, numbersIn } from "../data/matching.ts";
import { refuseTransform } from "../data/loader.ts";
import { compose, horizontalFlip, randomResizedCrop } from "../data/transforms.ts";
import { quickProbe } from "../eval/probe.ts";
import type { Encoder, LossContext, Method, Objective } from "../model/method.ts";
import { Nepa, nepaLoss, type NepaLossOptions } from "../model/nepa.ts";
import { warmupCosine } from "../optim/schedule.ts";
import { FolderKeeper } from "./checkpoints.ts";
import { Meter } from "./meter.ts";
import { averagesOf, trained } from "./objective.ts";
import { groupsOf, makePlan, type Plan, type Recipe, type TrainOptions } from "./options.ts";
import { Run } from "./run.ts";
import { Trainer } from "./trainer.ts";
import { notice } from "../display/jupyter.ts";
import { imageSizeOf, shapeOf } from "../data/preprocessor.ts";

/** Options of {@linkcode pretrain}. */
export interface PretrainOptions<M extends Method = Nepa>
  extends TrainOptions, Omit<NepaLossOptions, "where"> {
  /**
   * Where the defaults come from: "default", for small networks and data sets; "standardized", which differs from it by more
   * updates and standardised targets (`deno task bench learning` measures what each brings); or "official", the paper's.
   * "small" is an older name of "standardized". Another method has recipes of its own: I-JEPA "default" and "published".
   */
  recipe?: "default" | "standardized" | "official" | "published" | "small";
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
   * What is made smaller instead of `nepaLoss`, with what that needs: parameters, state, draws, numbers that change by schedule.
   * `nepaLoss`'s three switches cannot be given beside it.
   */
  objective?: Objective<M>;
  /** The older form of `objective`: a number from what `forward` gives, z and ẑ [B, T, D], alone. */
  loss?: PretrainLoss;
}

/** An objective: a number from the embeddings z and the predictions ẑ, both [B, T, D]. Called once if the step is compiled. */
export type PretrainLoss = (
  outputs: { readonly embeddings: tf.Tensor3D; readonly predictions: tf.Tensor3D },
) => tf.Scalar;

/** What `pretrain` does unless told otherwise. */
const DEFAULT: Recipe = {
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

/** NEPA's recipes, for images of that size; "official" is the paper's (arXiv 2512.16922; the official pretraining script). */
const nepaRecipes = (size: number): NonNullable<Method["recipes"]> => ({
  default: () => ({}),
  standardized: () => ({ steps: 4800 }),
  official: (images) => ({
    ...{ steps: 1600 * Math.max(1, Math.floor(images / 4096)), batchSize: 4096 },
    ...{ baseLearningRate: 3e-4, warmupRatio: 0.025, emaDecay: 0.9999 },
    augment: compose(
      randomResizedCrop({ size, scale: [0.08, 1], ratio: [3 / 4, 4 / 3] }),
      horizontalFlip(0.5),
    ),
  }),
});

const SWITCHES = ["shift", "stopGradient", "standardizeTargets"] as const;

/** What the options that fine-tuning does not have may be. */
const RULES: Record<Exclude<keyof PretrainOptions, keyof TrainOptions>, Rule> = {
  recipe: is.text,
  ...{ validation: is.any, every: is.any, causal: is.flag, objective: is.any, loss: is.callable },
  ...{ shift: is.flag, stopGradient: is.flag, standardizeTargets: is.flag },
};

const EVERY: Record<"collapse" | "probe", Rule> = { collapse: is.count, probe: is.count };

/** What is made smaller, and what a folder is told of it. */
function objectiveOf<M extends Method>(
  model: M,
  options: PretrainOptions<M>,
): { objective: Objective<never> | undefined; about: object; standardizeTargets: boolean } {
  const { objective, loss, shift = true, stopGradient = true } = options;
  const { standardizeTargets = options.recipe === "standardized" } = options;
  const given = objective ? "objective" : loss ? "loss" : undefined;
  const beside = given &&
    [...SWITCHES, "loss" as const].find((name) => name !== given && options[name] !== undefined);
  if (beside !== undefined) throw new TypeError(`expected ${given} or ${beside}, got both`);
  if (objective) return { objective, about: {}, standardizeTargets: false };
  if (loss) {
    const own = { name: "loss", loss: ({ outputs }: LossContext) => loss(outputs) };
    return { objective: own, about: { loss: loss.toString() }, standardizeTargets: false };
  }
  if (!(model instanceof Nepa)) {
    const foreign = [...SWITCHES, ...model.outputs ? [] : ["causal" as const]]; // without outputs nothing asks for it
    const other = foreign.find((name) => options[name] !== undefined);
    if (other) {
      throw new TypeError(`${other}: expected no switch of NEPA, which ${model.name} does not have`);
    }
    return { objective: undefined, about: {}, standardizeTargets: false };
  }
  const switches = { shift, stopGradient, standardizeTargets };
  const own = { name: "nepa", loss: ({ outputs }: LossContext) => nepaLoss(outputs, switches) };
  return { objective: own, about: switches, standardizeTargets };
}

/**
 * Trains a model to predict each next patch's embedding. Nothing is computed before the run is iterated; see {@linkcode Run}.
 *
 * Without options: 1,500 updates of 64 images with AdamW (0.9, 0.95), weight decay 0.05, gradients clipped at norm 1, the
 * learning rate rising to 3e-3 over a tenth of the updates and falling to 0 along a cosine, images mirrored half of the
 * time. `recipe: "standardized"` makes 4,800 updates, five minutes of `mini` on two cores, with `standardizeTargets`.
 * `recipe: "official"` takes the paper's: batches of 4,096, crops, 3e-4 per 256 images, a 2.5 % warm-up, averaged
 * weights, 1,600 epochs; give `batchSize` and `epochs` to make it fit.
 *
 * @param model A `Nepa`, or a {@linkcode Method} of your own. Its weights change in place.
 * @param dataset The images; their labels are read by `every.probe` and by objectives that ask for them.
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
 *   objective: {
 *     name: "two ahead",
 *     loss: ({ embeddings, predictions }) =>
 *       nepaLoss({
 *         embeddings: tf.slice(embeddings, [0, 2, 0]), // [B, T − 2, D]
 *         predictions: tf.slice(predictions, 0, [-1, predictions.shape[1] - 2, -1]),
 *       }, { shift: false }),
 *   },
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
export function pretrain<M extends Method = Nepa>(
  model: M,
  dataset: Dataset,
  options: PretrainOptions<M> = {},
): Run<M> {
  const kinds = {
    model: [model, is.method],
    dataset: [dataset, is.images],
    options: [options, is.optional],
  } as const;
  is.expectKinds("pretrain", kinds);
  if (options.recipe === "small") return pretrain(model, dataset, { ...options, recipe: renamed("small") });
  const { recipe = "default", validation, every = {} } = options, { encoder } = model;
  const recipes = model.recipes ?? nepaRecipes(imageSizeOf(encoder).height);
  checkOptions("", { recipe }, { recipe: is.oneOf(...Object.keys(recipes)) });
  const { method = model, ...own } = recipes[recipe]!(dataset.length);
  const plan = makePlan("pretrain", options, { ...DEFAULT, ...own }, dataset, RULES);
  checkOptions("every", every, EVERY, "every.");
  const { causal = encoder.causal } = options;
  const { objective, about, standardizeTargets } = objectiveOf(model, options);
  const needLabels = () => refuseUnlabelled(dataset, validation);
  const subject = trained(method, objective, causal, options.objective !== undefined, needLabels);
  checkImages(encoder, dataset, plan, options);
  const { collapse = 250, probe: probing } = every, { seed, batchSize, compile, steps } = plan;
  const probe = probing === undefined ? undefined : onlineProbe(encoder, dataset, validation, causal, seed);
  const meter = new Meter(subject, {
    ...{ dataset: validation ?? dataset, heldOut: validation !== undefined, standardizeTargets },
    ...{ batchSize, seed, compile, steps },
    classNumbers: validation && numbersIn(dataset.classes, validation.classes),
  });
  const groups = groupsOf(plan.groups, subject.parameters), averages = averagesOf(subject, plan.emaDecay);
  const rate = rateOf(plan);
  const trainer = new Trainer(dataset, plan, {
    ...subject,
    ...{
      preprocessor: encoder.preprocessor,
      size: imageSizeOf(encoder),
      averages: averages?.all,
      from: callSite(new Error()),
    },
    flops: (batchSize) => method.flops(batchSize),
    rates: (k) => groups.factors.map((factor) => factor * rate(k)),
    optimizer: { group: groups.group, decay: groups.decay },
    frozen: groups.frozen,
    read: async (step) => ({ ...await meter.read(step), ...probe && { probe: await probe() } }),
    measure: async (step) => ({
      ...(step === 1 || step % collapse === 0 || step === steps) && await meter.read(step),
      ...probe && (step % probing! === 0 || step === steps) && { probe: await probe() },
    }),
    dispose: () => meter.dispose(),
  });
  const keeper = plan.checkpoint && new FolderKeeper(plan.checkpoint, {
    ...{ kind: "pretrain", model: method, subject, averages, trainer, plan, data: dataset, validation },
    options: { causal, ...about, every: { collapse } },
  });
  return new Run(model, trainer, { averages, signal: plan.signal, keeper, notices: plan.notices });
}

/** The better name of a recipe, and a notice that it has one. */
function renamed(old: "small"): "standardized" {
  notice(`recipe: "${old}" is now called "standardized"; the old name goes with the next version`);
  return "standardized";
}

/** The learning rate of update k, from 0. */
function rateOf({ learningRate, steps, warmupSteps }: Plan): (k: number) => number {
  if (typeof learningRate === "function") return learningRate;
  return warmupCosine({ peak: learningRate, steps, warmupSteps });
}

/** Refuses images that the network cannot take. */
function checkImages<M extends Method>(
  encoder: Encoder,
  dataset: Dataset,
  { augment }: Plan,
  options: PretrainOptions<M>,
): void {
  const crops = ["official", "published"].includes(options.recipe ?? "");
  const sized = options.augment === undefined && !crops || augment === null;
  refuseMisfit(dataset, shapeOf(encoder), sized);
  if (augment) refuseTransform(dataset, augment, imageSizeOf(encoder));
  if (options.validation) refuseMisfit(options.validation, shapeOf(encoder), true);
}

/** For a loss that reads labels: refuses images without one, unless all are, and held-out classes that training has not. */
function refuseUnlabelled(dataset: Dataset, validation: Dataset | undefined): void {
  if (dataset.classes.length === 0) return;
  for (const set of [dataset, validation]) if (set) refuseMislabelled(set);
  if (validation) classNumbers(dataset, validation);
}

/** Images that a probe beside a training is fitted to, and as many to judge it by. */
const PROBED = 2000;

function onlineProbe(
  model: Encoder,
  dataset: Dataset,
  validation: Dataset | undefined,
  causal: boolean | undefined,
  seed: number,
): () => Promise<number> {
  const sets = [dataset, ...validation ? [validation] : []];
  for (const set of sets) {
    refuseMislabelled(set);
    refuseMisfit(set, shapeOf(model), true);
    if (set.length < 20) {
      throw new RangeError(`every.probe: expected 20 images or more in ${set.name}, got ${set.length}`);
    }
  }
  const [order, others] = sets.map(({ length }) => new Random(seed, "online probe").permutation(length));
  const isJudged = validation ? isAmong(validation, dataset) : () => false;
  const own = order!.filter((i) => !isJudged(i)), least = own.length >= 20;
  expect(least, "every.probe", `20 images or more of ${dataset.name} that validation has not`, own.length);
  for (const note of validation ? matched(dataset, validation).notes : []) notice(note);
  const count = Math.min(PROBED, validation ? own.length : Math.floor(own.length / 2));
  const fitted = dataset.subset(own.slice(0, count));
  const judged = validation
    ? validation.subset(others!.slice(0, PROBED))
    : dataset.subset(own.slice(count, count + PROBED));
  return () => quickProbe(model, fitted, judged, causal);
}
