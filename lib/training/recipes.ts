/** Recipes for fine-tuning: what is set where the options leave it open. @module */
import { randAugment } from "../data/randaugment.ts";
import {
  centerCrop,
  compose,
  horizontalFlip,
  randomResizedCrop,
  resize,
  type Size,
  type Transform,
} from "../data/transforms.ts";
import type { Recipe } from "./options.ts";
import { notice } from "../display/jupyter.ts";

/** What fine-tuning adds to the options that all training shares. */
export interface FinetuneSettings {
  /** Factor of the learning rate from each block to the one below it, above 0 to 1. 1: all learn alike. */
  layerDecay: number;
  /** What that factor moves to by the end, along half a cosine; null: it stays. */
  layerDecayEnd: number | null;
  /** Whether layers that learn slower warm up longer, or all alike. */
  layerWarmup: boolean;
  /** Peak learning rate of the last norm and the linear map, whatever the batch; null: that of the rest. */
  headLearningRate: number | null;
  /** Chance with which the last block's branches are left out, rising from 0 at the first; null: the classifier's own. */
  dropPath: number | null;
  /** Leave the embedding of the patches as it is. */
  freezePatches: boolean;
  /** Share of each label that goes to all classes alike, 0 to below 1. */
  labelSmoothing: number;
  /** α of the Beta distribution by which images of a batch are blended in pairs, labels too; 0: never. */
  mixup: number;
  /** The same for rectangles of images that are exchanged; 0: never. Both above 0: each every other time, by chance. */
  cutmix: number;
  /** Chance that a random rectangle of an image is replaced with noise, 0 to 1. */
  erasing: number;
  /** Brings validation and test images to the network's size; null: they have it. */
  prepare: Transform | null;
}

/** The names of the recipes. */
export type FinetuneRecipe =
  | ("default" | "fitted-head" | "layer-warmup" | "official-base" | "official-large")
  | ("small" | "nano");

/** The images and the network that a recipe is for. */
export interface RecipeContext {
  /** How many images there are. */
  images: number;
  /** Images in an update, where that is given. */
  batchSize: number | undefined;
  /** Side of the network's images. */
  imageSize: number;
  /** Of all images, by channel. */
  mean: readonly number[];
}

/** 300 updates of 64 images, and nothing changed but for mirroring. */
const PLAIN = {
  steps: 300,
  batchSize: 64,
  learningRate: 3e-3,
  weightDecay: 0.05,
  betas: [0.9, 0.999],
  warmupRatio: 0.2,
  clipNorm: 1,
  emaDecay: null,
  augment: horizontalFlip(0.5),
  seed: 0,
  compile: true,
  layerDecay: 0.75,
  layerDecayEnd: null,
  layerWarmup: false,
  headLearningRate: null,
  dropPath: null,
  freezePatches: false,
  labelSmoothing: 0.1,
  mixup: 0,
  cutmix: 0,
  erasing: 0,
  prepare: null,
} satisfies Recipe & FinetuneSettings;

/** The authors' (their scripts of fine-tuning; timm's augmentation), but for precision and the number of machines. */
function official(
  size: "base" | "large",
  { images, batchSize = 1024, imageSize, mean }: RecipeContext,
): Recipe & FinetuneSettings {
  const base = size === "base", side = Math.floor(imageSize / 0.95);
  return {
    ...PLAIN,
    steps: 100 * Math.max(1, Math.floor(images / batchSize)),
    batchSize,
    baseLearningRate: base ? 1.5e-3 : 1e-3,
    warmupRatio: base ? 0.2 : 0.3,
    emaDecay: 0.9999,
    layerDecay: base ? 0.65 : 0.75,
    layerWarmup: true,
    headLearningRate: 1e-3,
    dropPath: base ? 0.1 : 0.2,
    freezePatches: true,
    mixup: 0.8,
    cutmix: 1,
    erasing: 0.25,
    augment: compose(
      randomResizedCrop({ size: imageSize, resample: "bicubic" }),
      horizontalFlip(0.5),
      randAugment({ mean }),
    ),
    prepare: compose(
      resize(base ? Math.floor(imageSize * 256 / 224) : { height: side, width: side }, "bicubic"),
      centerCrop(imageSize),
    ),
  };
}

/** What a recipe sets. */
export function finetuneRecipe(name: FinetuneRecipe, context: RecipeContext): Recipe & FinetuneSettings {
  if (name === "small" || name === "nano") {
    const better = name === "small" ? "fitted-head" : "layer-warmup";
    notice(`recipe: "${name}" is now called "${better}"; the old name goes with the next version`);
    return finetuneRecipe(better, context);
  }
  if (name === "fitted-head") return { ...PLAIN, learningRate: 1e-3 };
  if (name === "layer-warmup") return { ...PLAIN, layerWarmup: true };
  if (name === "official-base") return official("base", context);
  if (name === "official-large") return official("large", context);
  return PLAIN;
}

/** What fine-tuning a segmenter adds to the options that all training shares. */
export interface SegmentationSettings {
  /** Of the images in an update, which `augment` gives; null: the network's. */
  size: Size | null;
  /** Leave the network below the heads as it is. */
  freeze: boolean;
  /** Norm by the running statistics and leave them as they are; then parts of a batch that `accumulate` makes count alike. */
  freezeStatistics: boolean;
  /** How much the auxiliary head's loss counts. */
  auxiliaryWeight: number;
  /** Chance with which the last block's branches are left out, rising from 0 at the first; null: the network's own. */
  dropPath: number | null;
  /** Chance with which a channel that UPerNet's classifiers read is left out. */
  dropout: number;
  /** How the learning rate falls: along a line to 0, or along half a cosine. */
  schedule: "poly" | "cosine";
  /** Factor of the learning rate from each block to the one below it, above 0 to 1; the last block's is the first below the heads'. */
  layerDecay: number;
}

/** The names of the recipes for segmenters. */
export type SegmentationRecipe = "linear" | "mae-upernet";

/** What a recipe for segmenters sets: DINOv3's protocol for linear heads, and mmsegmentation's for UPerNet over MAE, inferred for NEPA. */
export function segmentationRecipe(name: SegmentationRecipe): Recipe & SegmentationSettings {
  const { batchSize: _, ...shared } = PLAIN, linear = name === "linear", steps = linear ? 40_000 : 160_000;
  return {
    ...shared,
    ...{ steps, batchSize: 16, warmupRatio: 1500 / steps, clipNorm: null, size: null, schedule: "poly" },
    learningRate: linear ? 1e-3 : 1e-4,
    weightDecay: linear ? 1e-2 : 0.05,
    ...{ freeze: linear, freezeStatistics: false, auxiliaryWeight: 0.4 },
    ...{ layerDecay: linear ? 1 : 0.65, dropPath: linear ? null : 0.1, dropout: linear ? 0 : 0.1 },
  };
}
