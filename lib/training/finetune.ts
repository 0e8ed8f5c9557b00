/** Fine-tuning: the whole network learns to classify. The step is in `step.ts`, the recipes in `recipes.ts`. @module */
import { nepaConfig } from "../model/config.ts";
import { eraseRandomly, mixedLabels, mixImages } from "../data/augment.ts";
import type { Dataset } from "../data/dataset.ts";
import { makeDraws } from "../model/draws.ts";
import { refuseLabelled } from "../eval/evaluate.ts";
import { Referee } from "./best.ts";
import type { Finish } from "../data/loader.ts";
import { NepaClassifier } from "../model/classifier.ts";
import { FolderKeeper } from "./checkpoints.ts";
import { crossEntropy } from "../model/objective.ts";
import { makePlan, type Plan, type TrainOptions } from "./options.ts";
import { Random } from "../base/random.ts";
import { type FinetuneRecipe, finetuneRecipe, type FinetuneSettings } from "./recipes.ts";
import { Run } from "./run.ts";
import { layerCosine, layersAbove } from "../optim/schedule.ts";
import type { Trainable } from "./step.ts";
import { type Task, Trainer } from "./trainer.ts";

/** Options of {@linkcode finetune}. */
export interface FinetuneOptions extends TrainOptions, Partial<FinetuneSettings> {
  /**
   * Where the defaults come from. "default": a plain one for few labels; "nano": the same with the official warm-up by layer;
   * "small": at a lower rate, for a head that `fitHead` fitted to few labels.
   */
  recipe?: FinetuneRecipe;
  /** Labelled images held out from training. The run ends with the weights that did best on them. */
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
  if (!(classifier instanceof NepaClassifier)) {
    throw new TypeError(
      "finetune: expected a NepaClassifier; NepaClassifier.from puts a head on a pretrained model",
    );
  }
  const { recipe: name = "default", validation, test, every = {} } = options;
  const recipe = finetuneRecipe(name, {
    images: dataset.length,
    batchSize: options.batchSize,
    imageSize: classifier.config.imageSize,
    mean: classifier.preprocessor.imageMean,
  });
  const plan = makePlan(options, recipe, dataset, [...SETTINGS, "recipe", "validation", "test", "every"]);
  const settings = checkedSettings(recipe, options);
  refuseSets(classifier, [dataset, validation, test], settings, plan);
  const interval = every.validation ?? plan.steps;
  if (!(Number.isSafeInteger(interval) && interval >= 1)) {
    throw new RangeError(`every.validation: expected an integer from 1, got ${interval}`);
  }
  const schedules = learningRates(classifier, plan, settings);
  const ema = plan.emaDecay === null ? undefined : classifier.clone();
  const { prepare } = settings, { steps, compile } = plan;
  const referee = new Referee(ema ?? classifier, { validation, test, interval, steps, prepare, compile });
  const trainer = new Trainer(trainedPart(classifier, settings), dataset, plan, {
    loss: (images, labels, draws) =>
      crossEntropy(classifier.forward(images, { training: draws }).logits, labels, settings.labelSmoothing),
    ...schedules,
    finish: finishing(classifier.classes.length, plan.seed, settings),
    measure: (step) => referee.measure(step),
    dispose: () => referee.dispose(),
  }, ema);
  const keeper = plan.checkpoint && new FolderKeeper(plan.checkpoint, {
    kind: "finetune",
    model: classifier,
    ema,
    trainer,
    referee,
    plan,
    options: { ...settings, prepare: prepare !== null, every: { validation: interval } },
    data: dataset,
  });
  return new Run(classifier, trainer, { ema, signal: plan.signal, keeper });
}

const SHARE = (x: number) => x >= 0 && x < 1, FROM_ZERO = (x: number) => x >= 0 && x < Infinity;

/** What each setting may be. */
const SETTING: Record<keyof FinetuneSettings, [expected: string, holds: (value: number) => boolean]> = {
  layerDecay: ["a number above 0, at most 1", (x) => x > 0 && x <= 1],
  layerDecayEnd: ["a number above 0, at most 1, or null", (x) => x > 0 && x <= 1],
  layerWarmup: ["true or false", (x) => typeof x === "boolean"],
  headLearningRate: ["a number above 0, or null", (x) => x > 0 && x < Infinity],
  dropPath: ["a number from 0 to below 1, or null", SHARE],
  freezePatches: ["true or false", (x) => typeof x === "boolean"],
  labelSmoothing: ["a number from 0 to below 1", SHARE],
  mixup: ["a number from 0", FROM_ZERO],
  cutmix: ["a number from 0", FROM_ZERO],
  erasing: ["a number from 0 to 1", (x) => x >= 0 && x <= 1],
  prepare: ["a transform or null", (x) => typeof x === "function"],
};
const SETTINGS = Object.keys(SETTING) as (keyof FinetuneSettings)[];

function checkedSettings(recipe: FinetuneSettings, options: FinetuneOptions): FinetuneSettings {
  const given = Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
  const all: FinetuneSettings = { ...recipe, ...given };
  for (const name of SETTINGS) {
    const [expected, holds] = SETTING[name], value = all[name];
    if (value === null ? !expected.endsWith("null") : !holds(value as number)) {
      throw new RangeError(`${name}: expected ${expected}, got ${value}`);
    }
  }
  return all;
}

/** Refuses sets that do not fit the classifier or that are one another's. */
function refuseSets(
  classifier: NepaClassifier,
  [dataset, ...heldOut]: [Dataset, ...(Dataset | undefined)[]],
  { prepare }: FinetuneSettings,
  { augment }: Plan,
): void {
  refuseLabelled(dataset, classifier, augment);
  for (const set of heldOut) if (set) refuseLabelled(set, classifier, prepare);
  const sets = [dataset, ...heldOut].filter((set) => set !== undefined);
  if (new Set(sets).size < sets.length) {
    throw new RangeError(
      "validation, test: expected images held out from training and from one another, got one set twice",
    );
  }
}

/** What the updates change, and the chance in them. */
function trainedPart(
  classifier: NepaClassifier,
  { freezePatches, dropPath }: FinetuneSettings,
): Trainable {
  const { preprocessor, parameters, config: { imageSize } } = classifier;
  const config = nepaConfig(
    dropPath === null ? classifier.config : { ...classifier.config, dropPathProb: dropPath },
  );
  const size = { height: imageSize, width: imageSize };
  return {
    config,
    preprocessor,
    parameters: new Map(
      [...parameters].filter(([name]) => !(freezePatches && name.includes(".projection."))),
    ),
    draws: (batchSize, random) => makeDraws(config, batchSize, random, size),
  };
}

/** A schedule for each layer and one for the head; which is whose. */
export function learningRates(
  { config: { numHiddenLayers: layers }, parameters }: NepaClassifier,
  { learningRate: peak, steps, warmupSteps }: Pick<Plan, "learningRate" | "steps" | "warmupSteps">,
  settings: Pick<FinetuneSettings, "layerDecay" | "layerDecayEnd" | "layerWarmup" | "headLearningRate">,
): Pick<Task, "rates" | "optimizer"> {
  const { layerDecay: decay, layerDecayEnd, layerWarmup, headLearningRate } = settings;
  const isHead = (name: string) =>
    headLearningRate !== null && (name.startsWith("classifier.") || name.startsWith("vit_nepa.layernorm."));
  const above = (name: string) => isHead(name) ? "head" : layersAbove(name, layers);
  const groups = [...new Set([...parameters.keys()].map(above))];
  const schedules = groups.map((group) =>
    layerCosine({
      peak: group === "head" ? headLearningRate! : peak,
      above: group === "head" ? 0 : group,
      steps,
      warmupSteps,
      decay,
      layerWarmup,
      ...(layerDecayEnd !== null && { decayEnd: layerDecayEnd }),
    })
  );
  return {
    rates: (k) => schedules.map((rate) => rate(k)),
    optimizer: { group: (name) => groups.indexOf(above(name)) },
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
