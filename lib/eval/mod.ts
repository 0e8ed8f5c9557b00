/**
 * What a network has learned: features, probes, neighbours, collapse: `nepa/eval`.
 *
 * @module
 */
export { collapse } from "./collapse.ts";
export type { Collapse } from "./collapse.ts";
export { trivialPredictors } from "./trivial.ts";
export type { Trivial } from "./trivial.ts";
export { evaluate, EvaluationResult } from "./evaluate.ts";
export type { Validation } from "./evaluate.ts";
export { fitHead } from "./fit_head.ts";
export { readFeatures } from "./features.ts";
export type { Layer, Reading } from "./features.ts";
export type { Prepare } from "../data/encoded.ts";
export { linearProbe, ProbeResult } from "./probe.ts";
export type { Probe, ProbeOptions } from "./probe.ts";
export type { FeatureFunction, FeatureSet, FeatureSets, Read } from "./sources.ts";
export { knn, KnnResult } from "./knn.ts";
export type { KnnOptions } from "./knn.ts";
export { attentiveProbe, AttentiveResult } from "./attentive.ts";
export type { AttentiveOptions, AttentiveSettings } from "./attentive.ts";
export { Judgement, Showing } from "./scores.ts";
export type { Judged } from "./scores.ts";
