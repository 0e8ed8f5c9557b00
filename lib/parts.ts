/**
 * What a step or a method of your own is built from: `nepa/parts`.
 *
 * @module
 */
export * as tf from "@tensorflow/tfjs";
export { Random } from "./base/random.ts";
export { lossAndGradients, withGradient } from "./base/gradient.ts";
export type { LossAndGradients } from "./base/gradient.ts";
export { fromOfficialConfig, nepaConfig, presets, toOfficialConfig, trainingFlops } from "./model/config.ts";
export type { Activation, NepaConfig, NepaOptions, Preset } from "./model/config.ts";
export { causalMask } from "./model/masks.ts";
export { attention, block, layerNorm, linear, mlp } from "./model/transformer.ts";
export type { BlockContext, Weights } from "./model/transformer.ts";
export { rotate, rotation } from "./model/rope.ts";
export type { RopeDraws, Rotation } from "./model/rope.ts";
export { crossEntropy, nepaLoss } from "./model/objective.ts";
export type { NepaLossOptions } from "./model/objective.ts";
export { Nepa } from "./model/nepa.ts";
export type { FeatureOptions, ForwardOptions, ForwardOutputs, NepaInit } from "./model/nepa.ts";
export type { Draws } from "./model/draws.ts";
export { NepaClassifier } from "./model/classifier.ts";
export type { ClassifierInit, ClassifierOptions, ClassifierOutputs } from "./model/classifier.ts";
export { Network } from "./model/network.ts";
export type { Initial } from "./model/network.ts";
export { AdamW, clipByGlobalNorm } from "./optim/adamw.ts";
export type { AdamWOptions } from "./optim/adamw.ts";
export { Ema } from "./optim/ema.ts";
export { layerCosine, layersAbove, warmupCosine } from "./optim/schedule.ts";
export type { LayerCosineOptions, WarmupCosineOptions } from "./optim/schedule.ts";
