/**
 * What a step or a method of your own is built from: `nepa/parts`.
 *
 * @module
 */
import "./display/tensor.ts";
export * as tf from "@tensorflow/tfjs";
export { perImage, Random } from "./base/random.ts";
export { lossAndGradients, stopGradient, withGradient } from "./base/gradient.ts";
export type { LossAndGradients, LossOutput } from "./base/gradient.ts";
export { trainingBatches } from "./data/loader.ts";
export { loadObjective, saveObjective } from "./files/variables.ts";
export { fromOfficialConfig, nepaConfig, presets, toOfficialConfig, trainingFlops } from "./model/config.ts";
export type { Activation, NepaConfig, NepaOptions, Preset } from "./model/config.ts";
export { BlockSampler, causalMask } from "./model/masks.ts";
export type { BlockMasks, BlockOptions } from "./model/masks.ts";
export { IJepa, ijepaLoss } from "./model/ijepa.ts";
export { IJepaEncoder } from "./model/ijepa_encoder.ts";
export type { IJepaOutputs, Masks } from "./model/ijepa.ts";
export { ijepaConfig } from "./model/ijepa_config.ts";
export type { IJepaConfig, IJepaOptions, IJepaPreset } from "./model/ijepa_config.ts";
export type { IJepaLoadOptions } from "./model/ijepa_files.ts";
export { attention, block, mlp } from "./model/transformer.ts";
export { crossEntropy, gather, layerNorm, linear, smoothL1, unit } from "./model/ops.ts";
export type { BlockContext, Weights } from "./model/transformer.ts";
export { rotate, rotation } from "./model/rope.ts";
export type { RopeDraws, Rotation } from "./model/rope.ts";
export { nepaLoss } from "./model/nepa.ts";
export type { NepaLossOptions } from "./model/nepa.ts";
export { Nepa } from "./model/nepa.ts";
export type { FeatureOptions, ForwardOptions, ForwardOutputs, NepaInit } from "./model/nepa.ts";
export type { Draws } from "./base/random.ts";
export { NepaClassifier } from "./model/classifier.ts";
export type { ClassifierInit, ClassifierOptions, ClassifierOutputs } from "./model/classifier.ts";
export { NepaSegmenter, segmentationLoss } from "./model/segmenter.ts";
export type {
  SegmentationLossOptions,
  SegmenterDraws,
  SegmenterForwardOptions,
  SegmenterOutputs,
} from "./model/segmenter.ts";
export type { SegmenterConfig, SegmenterOptions } from "./model/segmenter_config.ts";
export { Mlp } from "./model/mlp.ts";
export type { MlpOptions } from "./model/mlp.ts";
export type {
  AfterContext,
  DrawContext,
  DrawSize,
  Encoder,
  Layer,
  LossContext,
  Method,
  MethodRecipe,
  Objective,
  OutputContext,
  Outputs,
  TokenOptions,
} from "./model/method.ts";
export { Network } from "./model/network.ts";
export type { Initial } from "./model/network.ts";
export { AdamW, clipByGlobalNorm } from "./optim/adamw.ts";
export type { AdamWOptions } from "./optim/adamw.ts";
export { Ema } from "./optim/ema.ts";
export { layerCosine, layersAbove, warmupCosine, warmupPoly } from "./optim/schedule.ts";
export type { LayerCosineOptions, WarmupCosineOptions } from "./optim/schedule.ts";
export { update, updateRandom } from "./training/step.ts";
export type { Numbers, UpdateInputs, UpdateOptions, UpdateOutputs } from "./training/step.ts";
