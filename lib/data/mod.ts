/**
 * Data sets and what changes their images: `nepa/data`.
 *
 * @example
 * ```ts
 * import { arrayDataset } from "nepa/data";
 * import { assertEquals } from "@std/assert";
 *
 * const images = new Uint8Array(2 * 4 * 4), labels = [0, 1];
 * const set = arrayDataset({ name: "mine", images, shape: [2, 4, 4, 1], labels, classes: ["a", "b"] });
 * assertEquals(set.length, 2);
 * ```
 *
 * @module
 */
export { arrayDataset, type ArrayDatasetOptions } from "./rows.ts";
export type { Batch, BatchOptions, Change, Dataset, Example, Image, MemoryDataset } from "./dataset.ts";
export { IGNORED } from "./dataset.ts";
export type { Parts, SegmentationSet, SplitOptions, SplittableDataset } from "./dataset.ts";
export type { OverlapOption } from "./matching.ts";
export { generatedImages, type GeneratedImagesOptions } from "./generated.ts";
export { type SegmentationFolder, segmentationFolder } from "./segmentation.ts";
export type { SegmentationFolderOptions } from "./segmentation.ts";
export { type FashionScenes, fashionScenes, type FashionScenesOptions } from "./scenes.ts";
export { fingerprintOf } from "./fingerprint.ts";
export { TrainingBatches, trainingBatches } from "./loader.ts";
export type { TrainingBatch, TrainingBatchesOptions } from "./loader.ts";
export { type ImageFolder, imageFolder, type ImageFolderOptions } from "./folder.ts";
export type { DecodeOptions, EncodedImages, EncodedOptions } from "./encoded.ts";
export { parquetImages, type ParquetOptions, unpackParquet } from "./parquet.ts";
export { DataError, type DataErrorKind, type Idx, idxImages, type IdxImagesOptions, readIdx } from "./idx.ts";
export { FASHION_CLASSES, fashionMnist, type FashionOptions } from "./fashion.ts";
export { centerCrop, compose, horizontalFlip, randomResizedCrop, resize } from "./transforms.ts";
export { describeTransform, normalize } from "./transforms.ts";
export type { Extent, Normalisation, Part, RandomResizedCropOptions, Size, Transform } from "./transforms.ts";
export { pad, photometricDistortion, randomCrop, randomScale } from "./scene_transforms.ts";
export type {
  PhotometricDistortionOptions,
  RandomCropOptions,
  RandomScaleOptions,
} from "./scene_transforms.ts";
export { randAugment, type RandAugmentOptions } from "./randaugment.ts";
export type { Resample } from "./resample.ts";
export { defaultPreprocessor, type Preprocessor } from "./preprocessor.ts";
