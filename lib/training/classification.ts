/** Fine-tuning for classes of images: what differs from other kinds. @module */
import type { Rule } from "../base/check.ts";
import * as is from "../base/check.ts";
import { Random } from "../base/random.ts";
import { eraseRandomly, mixedLabels, mixImages } from "../data/augment.ts";
import type { Dataset } from "../data/dataset.ts";
import type { Finish } from "../data/loader.ts";
import { OVERLAP, type OverlapOption } from "../data/matching.ts";
import { describeTransform } from "../data/transforms.ts";
import { notice } from "../display/jupyter.ts";
import { Evaluation, noteFitted, refuseFitted, refuseLabelled } from "../eval/evaluate.ts";
import type { NepaClassifier } from "../model/classifier.ts";
import { trainingFlops } from "../model/config.ts";
import { crossEntropy } from "../model/ops.ts";
import { layerCosine, layersAbove } from "../optim/schedule.ts";
import type { Plan, TrainOptions } from "./options.ts";
import { type FinetuneRecipe, finetuneRecipe, type FinetuneSettings } from "./recipes.ts";
import { type HeldOut, heldOutOf, type Kind, type Tuning } from "./tuning.ts";

/** Options of {@linkcode finetune} for a classifier. */
export interface FinetuneOptions extends TrainOptions, Partial<FinetuneSettings>, HeldOut {
  /**
   * Where the defaults come from. "default": a plain one for few labels; "layer-warmup" (before: "nano"): the same with the
   * official warm-up by layer; "fitted-head" (before: "small"): at a lower rate, for a head that `fitHead` fitted to few labels.
   */
  recipe?: FinetuneRecipe;
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

/** How a classifier is fine-tuned. */
export const classification: Kind<NepaClassifier, FinetuneSettings> = {
  rules: RULES,
  settings: SETTINGS,
  recipe: ({ config, preprocessor }, name, images, batchSize) =>
    finetuneRecipe(name as FinetuneRecipe, {
      ...{ images, batchSize, imageSize: config.imageSize, mean: preprocessor.imageMean },
    }),
  tuning,
};

function tuning(
  classifier: NepaClassifier,
  sets: readonly [Dataset, ...Dataset[]],
  settings: FinetuneSettings & OverlapOption,
  plan: Plan,
): Tuning<NepaClassifier> {
  const { config: { imageSize }, preprocessor, parameters } = classifier, { dropPath, prepare } = settings;
  const size = { height: imageSize, width: imageSize }, { prepare: _, ...others } = settings;
  return {
    parameters,
    preprocessor,
    size,
    classNumbers: checkedSets(classifier, sets, settings, plan),
    loss: ({ images, labels }, draws) =>
      crossEntropy(classifier.forward(images, { draws, last: true }).logits, labels, settings.labelSmoothing),
    draws: (batchSize, seed, batch) =>
      classifier.draws(batchSize, new Random(seed, "draws", batch), {
        ...size,
        dropPath: dropPath ?? undefined,
      }),
    flops: (batchSize) => trainingFlops(classifier.config, batchSize),
    finish: finishing(classifier.classes.length, plan.seed, settings),
    ...layerRates(classifier, plan, settings),
    frozen: (name) => settings.freezePatches && name.includes(".projection."),
    reader(network) {
      const evaluation = new Evaluation(network, prepare, plan.compile);
      const read = async (set: Dataset) => {
        const { accuracy, loss } = await evaluation.read(set);
        return { accuracy, loss };
      };
      return { read, dispose: () => evaluation.dispose() };
    },
    fitted: (...networks) => noteFitted(sets[0], ...networks),
    about: { ...others, prepare: prepare && (describeTransform(prepare) ?? true) },
  };
}

/** Which layer a parameter is of, or that it is of the head, and the rates of these. */
export function layerRates(
  { config: { numHiddenLayers: layers } }: Pick<NepaClassifier, "config">,
  { learningRate: peak, steps, warmupSteps }: Pick<Plan, "learningRate" | "steps" | "warmupSteps">,
  settings: Pick<FinetuneSettings, "layerDecay" | "layerDecayEnd" | "layerWarmup" | "headLearningRate">,
): Pick<Tuning<NepaClassifier>, "above" | "rateOf"> {
  const { layerDecay: decay, layerDecayEnd, layerWarmup, headLearningRate } = settings;
  const isHead = (name: string) =>
    headLearningRate !== null && (name.startsWith("classifier.") || /^\w+\.layernorm\./.test(name));
  return {
    above: (name) => isHead(name) ? "head" : layersAbove(name, layers),
    rateOf(above) {
      if (above !== "head" && typeof peak === "function") return (k) => decay ** above * peak(k);
      return layerCosine({
        peak: above === "head" ? headLearningRate! : peak as number,
        above: above === "head" ? 0 : above,
        ...{ steps, warmupSteps, decay, layerWarmup },
        ...(layerDecayEnd !== null && { decayEnd: layerDecayEnd }),
      });
    },
  };
}

/** Refuses sets that do not fit the classifier, and held-out ones with images that are trained on. Gives the classifier's classes by the set's. */
function checkedSets(
  classifier: NepaClassifier,
  sets: readonly [Dataset, ...Dataset[]],
  { prepare, overlap }: FinetuneSettings & OverlapOption,
  { augment }: Plan,
): Int32Array {
  const numbers = refuseFitted(sets[0], classifier, augment);
  const notes = sets.slice(1).flatMap((set) => refuseLabelled(set, classifier, prepare).notes);
  heldOutOf(sets, overlap);
  for (const note of notes) notice(note);
  return numbers;
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
