/**
 * Next-embedding predictive autoregression for images: the model, its training, and the tools to see what it learned.
 *
 * @module
 */
export * as tf from "@tensorflow/tfjs";
export { Random } from "./lib/random.ts";
export { currentEngine, useEngine } from "./lib/engine/mod.ts";
export type { Compiled, CompileOptions, Engine, EngineDescription, EngineName } from "./lib/engine/mod.ts";
export { formatNumber, formatPercent, Table } from "./lib/display/table.ts";
export type { Cell, TableOptions } from "./lib/display/table.ts";
export { progress } from "./lib/display/progress.ts";
export type { Progress, ProgressOptions } from "./lib/display/progress.ts";
export { arrayDataset } from "./lib/data/dataset.ts";
export type {
  ArrayDatasetOptions,
  Batch,
  BatchOptions,
  Dataset,
  Example,
  Image,
} from "./lib/data/dataset.ts";
export { DataError, readIdx } from "./lib/data/idx.ts";
export type { DataErrorKind, Idx } from "./lib/data/idx.ts";
export { FASHION_CLASSES, fashionMnist } from "./lib/data/fashion.ts";
export type { FashionOptions } from "./lib/data/fashion.ts";
export {
  centerCrop,
  compose,
  horizontalFlip,
  normalize,
  randomResizedCrop,
  resize,
} from "./lib/data/transforms.ts";
export type { Normalisation, RandomResizedCropOptions, Size, Transform } from "./lib/data/transforms.ts";
export type { Resample } from "./lib/data/resample.ts";
export { collapse } from "./lib/eval/collapse.ts";
export type { Collapse } from "./lib/eval/collapse.ts";
export { trivialPredictors } from "./lib/eval/trivial.ts";
export type { Trivial } from "./lib/eval/trivial.ts";
export { Figure } from "./lib/display/figure.ts";
export type { FigureLayout, Trace } from "./lib/display/figure.ts";
export { plotRun, runFigure } from "./lib/plot/run.ts";
