/** Fine-tuning: the whole network learns to classify. The step is in `step.ts`, the recipes in `recipes.ts`. @module */
import * as tf from "@tensorflow/tfjs";
import { callSite, checkOptions, type Rule } from "../base/check.ts";
import * as is from "../base/check.ts";
import { perImage, Random } from "../base/random.ts";
import { eraseRandomly, mixedLabels, mixImages } from "../data/augment.ts";
import type { Dataset } from "../data/dataset.ts";
import type { Finish } from "../data/loader.ts";
import { describeTransform } from "../data/transforms.ts";
import { notice } from "../display/jupyter.ts";
import { OVERLAP, type OverlapOption, refuseShared } from "../data/matching.ts";
import { noteFitted, refuseFitted, refuseLabelled } from "../eval/evaluate.ts";
import type { NepaClassifier } from "../model/classifier.ts";
import { nepaConfig, trainingFlops } from "../model/config.ts";
import { makeDraws } from "../model/draws.ts";
import { crossEntropy } from "../model/ops.ts";
import { layerCosine, layersAbove } from "../optim/schedule.ts";
import { Referee } from "./best.ts";
import { FolderKeeper } from "./checkpoints.ts";
import { groupsOf, makePlan, type Plan, type TrainOptions } from "./options.ts";
import { type FinetuneRecipe, finetuneRecipe, type FinetuneSettings } from "./recipes.ts";
import { Run } from "./run.ts";
import { type Task, Trainer } from "./trainer.ts";

/** Options of {@linkcode finetune}. */
export interface FinetuneOptions extends TrainOptions, Partial<FinetuneSettings>, OverlapOption {
  /**
   * Where the defaults come from. "default": a plain one for few labels; "layer-warmup" (before: "nano"): the same with the
   * official warm-up by layer; "fitted-head" (before: "small"): at a lower rate, for a head that `fitHead` fitted to few labels.
   */
  recipe?: FinetuneRecipe;
  /**
   * Labelled images held out from training, with the classifier's classes or some of them, by their names. The run ends with the
   * weights that did best on them.
   */
  validation?: Dataset;
  /** Labelled images that decide nothing: they are read once, after the last update. */
  test?: Dataset;
  /** How many updates lie between two readings of the validation images; they are read at the end too. Default: at the end. */
  every?: { validation?: number };
}

/**
 * Trains a classifier, backbone and head. Nothing is computed before the run is iterated; see {@linkcode Run}.
 *
 * Without options: 300 updates of 64 images with AdamW (0.9, 0.999), weight decay 0.05, gradients clipped at norm 1, label
 * smoothing 0.1, images mirrored half of the time; the learning rate rises to 3e-3 over a fifth of the updates, falls to 0
 * along a cosine, and is multiplied by 0.75 from each block to the one below it. `recipe: "official-base"` and
 * `"official-large"` are the authors' for the published sizes: 100 epochs, batches of 1,024, RandAugment, bicubic crops,
 * random erasing, mixup and cutmix, drop path, warm-up by layer, averaged weights, and the patch embedding left as it is.
 *
 * Validation and test images are read with the averaged weights if `emaDecay` is set, which then are also those that end as
 * the best; else with the classifier's own.
 *
 * @param classifier Its weights change in place: `NepaClassifier.from(model, …)`, or a new one to learn from scratch.
 * @param dataset Labelled images, with the classifier's classes.
 * @param options What differs from the recipe.
 * @returns A run; `run.ema` is a second classifier, the caller's to dispose of, if `emaDecay` is set.
 * @throws {RangeError | TypeError} If an option cannot be, or the images or the classes do not fit the classifier.
 *
 * @example
 * ```ts
 * import { fashionMnist, finetune, Nepa, NepaClassifier, useEngine } from "nepa";
 * import { assertEquals } from "@std/assert";
 *
 * await useEngine();
 * const { train } = await fashionMnist();
 * const model = new Nepa({ preset: "mini" }, { seed: 0 });
 * const classifier = NepaClassifier.from(model, { classes: train.classes });
 * const result = await finetune(classifier, train.balanced(10), { steps: 3, batchSize: 16 }).finish();
 * assertEquals(result.steps, 3);
 * classifier.dispose();
 * model.dispose();
 * ```
 */
export function finetune(
  classifier: NepaClassifier,
  dataset: Dataset,
  options: FinetuneOptions = {},
): Run<NepaClassifier> {
  const kinds = { dataset: [dataset, is.images], options: [options, is.optional] } as const;
  is.expectKinds("finetune", { classifier: [classifier, is.classifier], ...kinds });
  const { recipe: name = "default", validation, test, every = {} } = options;
  const recipe = finetuneRecipe(name, {
    images: dataset.length,
    batchSize: options.batchSize,
    imageSize: classifier.config.imageSize,
    mean: classifier.preprocessor.imageMean,
  });
  const plan = makePlan("finetune", options, recipe, dataset, RULES);
  checkOptions("every", every, { validation: is.count }, "every.");
  const given = Object.fromEntries(
    SETTINGS.flatMap((key) => options[key] === undefined ? [] : [[key, options[key]]]),
  );
  const settings = { ...settingsOf(recipe), ...given };
  const numbers = checkedSets(classifier, [dataset, validation, test], { ...options, ...settings }, plan);
  const interval = every.validation ?? plan.steps;
  const ema = plan.emaDecay === null ? undefined : classifier.clone();
  const averages = ema && { model: ema, own: new Map(), all: ema.parameters };
  const { prepare } = settings, { steps, compile } = plan;
  const referee = new Referee(ema ?? classifier, { validation, test, interval, steps, prepare, compile });
  const trainer = new Trainer(dataset, plan, {
    ...trainedPart(classifier, settings),
    ...learningRates(classifier, plan, settings),
    loss: ({ images, labels }, draws) =>
      crossEntropy(classifier.forward(images, { draws, last: true }).logits, labels, settings.labelSmoothing),
    averages: averages?.all,
    flops: (batchSize) => trainingFlops(classifier.config, batchSize),
    finish: finishing(classifier.classes.length, plan.seed, settings),
    classNumbers: numbers,
    read: () => referee.read(),
    measure: (step) => {
      noteFitted(dataset, classifier, ema);
      return referee.measure(step);
    },
    dispose: () => {
      if (plan.checkpoint) noteFitted(dataset, classifier, ema); // one that was read whole from its folder
      referee.dispose();
    },
    from: callSite(new Error()),
  });
  const { prepare: _, ...others } = settings;
  const keeper = plan.checkpoint && new FolderKeeper(plan.checkpoint, {
    ...{ kind: "finetune", model: classifier, averages, trainer, referee, plan, data: dataset, validation },
    options: {
      ...others,
      prepare: prepare && (describeTransform(prepare) ?? true),
      every: { validation: interval },
    },
  });
  return new Run(classifier, trainer, { averages, signal: plan.signal, keeper, notices: plan.notices });
}

/** What each option that pretraining does not have may be. */
const RULES: Record<Exclude<keyof FinetuneOptions, keyof TrainOptions>, Rule> = {
  recipe: is.oneOf(
    "default",
    "fitted-head",
    "official-base",
    "official-large",
    "layer-warmup",
    "small",
    "nano",
  ),
  ...{ validation: is.any, test: is.any, every: is.any, overlap: OVERLAP },
  layerDecay: is.numberThat("a number above 0, at most 1", (x) => x > 0 && x <= 1),
  layerDecayEnd: is.orNull(is.numberThat("a number above 0, at most 1", (x) => x > 0 && x <= 1)),
  ...{
    layerWarmup: is.flag,
    headLearningRate: is.orNull(is.positive),
    dropPath: is.orNull(is.belowOne),
    freezePatches: is.flag,
  },
  ...{
    labelSmoothing: is.belowOne,
    mixup: is.notNegative,
    cutmix: is.notNegative,
    erasing: is.share,
    prepare: is.orNull(is.callable),
  },
};

const SETTINGS: (keyof FinetuneSettings)[] = [
  ...["layerDecay", "layerDecayEnd", "layerWarmup", "headLearningRate", "dropPath", "freezePatches"] as const,
  ...["labelSmoothing", "mixup", "cutmix", "erasing", "prepare"] as const,
];

const settingsOf = (recipe: FinetuneSettings): FinetuneSettings =>
  Object.fromEntries(SETTINGS.map((name) => [name, recipe[name]])) as unknown as FinetuneSettings;

/** Refuses sets that do not fit the classifier, and held-out ones with images that are trained on. Gives the classifier's classes by the set's. */
function checkedSets(
  classifier: NepaClassifier,
  [dataset, ...given]: [Dataset, ...(Dataset | undefined)[]],
  { prepare, overlap }: FinetuneSettings & OverlapOption,
  { augment }: Plan,
): Int32Array {
  const numbers = refuseFitted(dataset, classifier, augment),
    heldOut = given.filter((set) => set !== undefined);
  const notes = heldOut.flatMap((set) => refuseLabelled(set, classifier, prepare).notes);
  const sets = [dataset, ...heldOut];
  if (new Set(sets).size < sets.length && overlap !== "allow") {
    throw new RangeError(
      "validation, test: expected images held out from training and from one another, got one set twice",
    );
  }
  for (const set of heldOut) refuseShared(dataset, set, overlap);
  for (const note of notes) notice(note);
  return numbers;
}

/** What the updates change, and the chance in them. */
function trainedPart(
  classifier: NepaClassifier,
  { dropPath }: FinetuneSettings,
): Pick<Task, "parameters" | "preprocessor" | "size" | "draws"> {
  const { preprocessor, parameters, config: own } = classifier, { imageSize, numHiddenLayers } = own;
  const config = nepaConfig(dropPath === null ? own : { ...own, dropPathProb: dropPath });
  const size = { height: imageSize, width: imageSize };
  return {
    parameters,
    preprocessor,
    size,
    draws: (batchSize, seed, batch) => {
      const draws = makeDraws(config, batchSize, new Random(seed, "draws", batch), size);
      if (dropPath !== 0 || own.dropPathProb === 0) return draws;
      return { ...draws, dropPath: perImage(tf.ones([2 * numHiddenLayers, batchSize]), 1) }; // nothing is dropped
    },
  };
}

/** A schedule for each layer and one for the head; which is whose; which parameters are left as they are. */
export function learningRates(
  { config: { numHiddenLayers: layers }, parameters }: NepaClassifier,
  { learningRate: peak, steps, warmupSteps, groups }: Pick<
    Plan,
    "learningRate" | "steps" | "warmupSteps" | "groups"
  >,
  settings:
    & Pick<FinetuneSettings, "layerDecay" | "layerDecayEnd" | "layerWarmup" | "headLearningRate">
    & Partial<Pick<FinetuneSettings, "freezePatches">>,
): Pick<Task, "rates" | "optimizer" | "frozen"> {
  const { layerDecay: decay, layerDecayEnd, layerWarmup, headLearningRate } = settings;
  const isHead = (name: string) =>
    headLearningRate !== null && (name.startsWith("classifier.") || /^\w+\.layernorm\./.test(name));
  const own = groupsOf(groups, parameters);
  const above = (name: string) => isHead(name) ? "head" : layersAbove(name, layers);
  const key = (name: string) => `${above(name)} ${own.factors[own.group(name)]}`;
  const members = new Map([...parameters.keys()].map((name) => [key(name), name]));
  const schedules = [...members.values()].map((name) => {
    const group = above(name), factor = own.factors[own.group(name)]!;
    if (group !== "head" && typeof peak === "function") {
      return (k: number) => factor * decay ** group * peak(k);
    }
    const rate = layerCosine({
      peak: group === "head" ? headLearningRate! : peak as number,
      above: group === "head" ? 0 : group,
      steps,
      warmupSteps,
      decay,
      layerWarmup,
      ...(layerDecayEnd !== null && { decayEnd: layerDecayEnd }),
    });
    return factor === 1 ? rate : (k: number) => factor * rate(k);
  });
  const names = [...members.keys()];
  return {
    rates: (k) => schedules.map((rate) => rate(k)),
    optimizer: { group: (name) => names.indexOf(key(name)), decay: own.decay },
    frozen: (name) => own.frozen(name) || settings.freezePatches === true && name.includes(".projection."),
  };
}

/** Erasing, then mixing: what is done to a batch's normalised images. */
function finishing(
  classes: number,
  seed: number,
  { erasing, mixup, cutmix }: FinetuneSettings,
): Finish | undefined {
  if (erasing === 0 && mixup === 0 && cutmix === 0) return undefined;
  return (images, shape, labels, k) => {
    const [batch, height, width, channels] = shape, size = height * width * channels;
    for (let i = 0; erasing > 0 && i < batch; i++) {
      const image = images.subarray(i * size, (i + 1) * size);
      eraseRandomly(image, [height, width, channels], erasing, new Random(seed, "erase", k, i));
    }
    if (mixup === 0 && cutmix === 0) return labels;
    return mixedLabels(
      labels,
      classes,
      mixImages(images, shape, { mixup, cutmix }, new Random(seed, "mix", k)),
    );
  };
}
