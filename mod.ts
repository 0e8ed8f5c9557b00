/**
 * Next-embedding predictive autoregression for images: the model, its training, and the tools to see what it learned.
 *
 * @module
 */
import "./lib/start.ts";
export * from "./lib/data/mod.ts";
export * from "./lib/eval/mod.ts";
export * from "./lib/files/mod.ts";
export * from "./lib/parts.ts";
export * from "./lib/plot/mod.ts";
export { currentEngine, DownloadError, installTensorFlow, RunInterrupted, useEngine } from "@nepa/engine";
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
export { finetune } from "./lib/training/finetune.ts";
export type { FinetuneOptions } from "./lib/training/classification.ts";
export type { SegmentationOptions } from "./lib/training/segmentation.ts";
export type { HeldOut } from "./lib/training/tuning.ts";
export type {
  FinetuneRecipe,
  FinetuneSettings,
  SegmentationRecipe,
  SegmentationSettings,
} from "./lib/training/recipes.ts";
export { pretrain } from "./lib/training/pretrain.ts";
export type { PretrainLoss, PretrainOptions } from "./lib/training/pretrain.ts";
export type { Group, TrainOptions } from "./lib/training/options.ts";
export type { CheckpointOptions } from "./lib/training/checkpoint_options.ts";
export { RunFolderError } from "./lib/training/run_folder.ts";
export type { RunFolderErrorKind } from "./lib/training/run_folder.ts";
export { readLog } from "./lib/training/log.ts";
export { NonFiniteError, Run } from "./lib/training/run.ts";
export type { Keeper, RunResult, Training } from "./lib/training/run.ts";
export type { Metrics, Step } from "./lib/training/history.ts";
export { lowShot, LowShotResult } from "./lib/training/low_shot.ts";
export type { Arm, LowShotOptions, LowShotRun } from "./lib/training/low_shot.ts";
