/**
 * Next-embedding predictive autoregression for images: the model, its training, and the tools to see what it learned.
 *
 * @module
 */
import "./lib/start.ts";
export * as tf from "@tensorflow/tfjs";
export { Random } from "./lib/base/random.ts";
export { currentEngine, DownloadError, installTensorFlow, useEngine } from "@nepa/engine";
export type {
  Box,
  Compiled,
  CompileOptions,
  Engine,
  EngineDescription,
  EngineName,
  Environment,
  FindOptions,
  FoundTensorFlow,
  Precision,
  Wheel,
} from "@nepa/engine";
export { formatNumber, formatPercent, Table } from "./lib/display/table.ts";
export type { Cell, TableOptions } from "./lib/display/table.ts";
export { progress } from "./lib/display/progress.ts";
export type { Progress, ProgressOptions } from "./lib/display/progress.ts";
export { arrayDataset } from "./lib/data/rows.ts";
export type { ArrayDatasetOptions } from "./lib/data/rows.ts";
export type {
  Batch,
  BatchOptions,
  Change,
  Dataset,
  Example,
  Image,
  MemoryDataset,
} from "./lib/data/dataset.ts";
export { imageFolder } from "./lib/data/folder.ts";
export type { ImageFolder, ImageFolderOptions } from "./lib/data/folder.ts";
export type { DecodeOptions } from "./lib/data/encoded.ts";
export { parquetImages } from "./lib/data/parquet.ts";
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
export type {
  Extent,
  Normalisation,
  Part,
  RandomResizedCropOptions,
  Size,
  Transform,
} from "./lib/data/transforms.ts";
export { randAugment } from "./lib/data/randaugment.ts";
export type { RandAugmentOptions } from "./lib/data/randaugment.ts";
export type { Resample } from "./lib/data/resample.ts";
export { collapse } from "./lib/eval/collapse.ts";
export type { Collapse } from "./lib/eval/collapse.ts";
export { trivialPredictors } from "./lib/eval/trivial.ts";
export type { Trivial } from "./lib/eval/trivial.ts";
export { Figure } from "./lib/display/figure.ts";
export type { FigureLayout, Trace } from "./lib/display/figure.ts";
export { plotRun, runFigure } from "./lib/plot/run.ts";
export {
  fromOfficialConfig,
  nepaConfig,
  presets,
  toOfficialConfig,
  trainingFlops,
} from "./lib/model/config.ts";
export type { Activation, NepaConfig, NepaOptions, Preset } from "./lib/model/config.ts";
export { defaultPreprocessor } from "./lib/data/preprocessor.ts";
export type { Preprocessor } from "./lib/data/preprocessor.ts";
export { causalMask } from "./lib/model/masks.ts";
export { attention, block, layerNorm, linear, mlp } from "./lib/model/transformer.ts";
export type { BlockContext, Weights } from "./lib/model/transformer.ts";
export { rotate, rotation } from "./lib/model/rope.ts";
export type { RopeDraws, Rotation } from "./lib/model/rope.ts";
export { crossEntropy, nepaLoss } from "./lib/model/objective.ts";
export type { NepaLossOptions } from "./lib/model/objective.ts";
export { lossAndGradients, withGradient } from "./lib/base/gradient.ts";
export type { LossAndGradients } from "./lib/base/gradient.ts";
export { Nepa } from "./lib/model/nepa.ts";
export type { FeatureOptions, ForwardOptions, ForwardOutputs, NepaInit } from "./lib/model/nepa.ts";
export type { Draws } from "./lib/model/draws.ts";
export { NepaClassifier } from "./lib/model/classifier.ts";
export type { ClassifierInit, ClassifierOptions, ClassifierOutputs } from "./lib/model/classifier.ts";
export { Network } from "./lib/model/network.ts";
export type { Initial } from "./lib/model/network.ts";
export { attentionMap, displayContrast, predictionMap } from "./lib/plot/maps.ts";
export type { AttentionMapOptions, PredictionMapOptions } from "./lib/plot/maps.ts";
export { AdamW, clipByGlobalNorm } from "./lib/optim/adamw.ts";
export type { AdamWOptions } from "./lib/optim/adamw.ts";
export { Ema } from "./lib/optim/ema.ts";
export { layerCosine, layersAbove, warmupCosine } from "./lib/optim/schedule.ts";
export type { LayerCosineOptions, WarmupCosineOptions } from "./lib/optim/schedule.ts";
export { CheckpointError } from "./lib/files/model_folder.ts";
export type { SaveOptions } from "./lib/files/card.ts";
export { HubError } from "./lib/files/hub_files.ts";
export type { LoadOptions } from "./lib/files/hub.ts";
export { readSafetensors, SafetensorsError, writeSafetensors } from "./lib/files/safetensors.ts";
export type { Dtype, HostArray, HostTensor, SafetensorsFile, TensorInfo } from "./lib/files/safetensors.ts";
export { openSafetensors } from "./lib/files/tensor_files.ts";
export type { OpenSafetensors } from "./lib/files/tensor_files.ts";
export { imageGrid } from "./lib/display/pictures.ts";
export type { ImageGridOptions, Mark, Picture } from "./lib/display/pictures.ts";
export { barChart } from "./lib/display/bars.ts";
export type { BarChartOptions } from "./lib/display/bars.ts";
export { plotMask, plotPatches } from "./lib/plot/patches.ts";
export { plotExpectation } from "./lib/plot/expectation.ts";
export type { ExpectationOptions } from "./lib/plot/expectation.ts";
export { plotAttention } from "./lib/plot/attention.ts";
export type { AttentionOptions } from "./lib/plot/attention.ts";
export { plotClassMap, plotPatchColors } from "./lib/plot/components.ts";
export type { PatchColorOptions } from "./lib/plot/components.ts";
export { plotImagination } from "./lib/plot/imagination.ts";
export type { ImaginationOptions } from "./lib/plot/imagination.ts";
export { evaluate, EvaluationResult } from "./lib/eval/evaluate.ts";
export type { Validation } from "./lib/eval/evaluate.ts";
export { fitHead } from "./lib/eval/fit_head.ts";
export { finetune } from "./lib/training/finetune.ts";
export type { FinetuneOptions } from "./lib/training/finetune.ts";
export type { FinetuneRecipe, FinetuneSettings } from "./lib/training/recipes.ts";
export { pretrain } from "./lib/training/pretrain.ts";
export type { PretrainLoss, PretrainOptions } from "./lib/training/pretrain.ts";
export type { TrainOptions } from "./lib/training/options.ts";
export type { CheckpointOptions } from "./lib/training/checkpoint_options.ts";
export { RunFolderError } from "./lib/training/run_folder.ts";
export type { RunFolderErrorKind } from "./lib/training/run_folder.ts";
export { readLog } from "./lib/training/log.ts";
export { compareRuns, plotRuns } from "./lib/plot/compare.ts";
export { NonFiniteError, Run } from "./lib/training/run.ts";
export type { Keeper, Metrics, RunResult, Step, Training } from "./lib/training/run.ts";
export type { MediaBundle } from "./lib/display/jupyter.ts";
export { readFeatures } from "./lib/eval/features.ts";
export type { Layer, Reading } from "./lib/eval/features.ts";
export { linearProbe, ProbeResult } from "./lib/eval/probe.ts";
export type { Probe, ProbeOptions } from "./lib/eval/probe.ts";
export { knn, KnnResult } from "./lib/eval/knn.ts";
export type { KnnOptions } from "./lib/eval/knn.ts";
export { attentiveProbe, AttentiveResult } from "./lib/eval/attentive.ts";
export type { AttentiveOptions, AttentiveSettings } from "./lib/eval/attentive.ts";
export { lowShot, LowShotResult } from "./lib/training/low_shot.ts";
export type { Arm, LowShotOptions, LowShotRun } from "./lib/training/low_shot.ts";
export { Judgement, Showing } from "./lib/eval/scores.ts";
export type { Judged } from "./lib/eval/scores.ts";
