/**
 * What a network has learned: features, probes, neighbours, collapse: `nepa/eval`.
 *
 * @module
 */
export { type Collapse, collapse, type Trivial, trivialPredictors } from "./collapse.ts";
export { evaluate, EvaluationResult, fitHead, type Validation } from "./evaluate.ts";
export { type Layer, readFeatures, type Reading } from "./features.ts";
export type { Prepare } from "../data/encoded.ts";
export { linearProbe, type Probe, type ProbeOptions, ProbeResult } from "./probe.ts";
export type { FeatureFunction, FeatureSet, FeatureSets, Read } from "./sources.ts";
export { knn, type KnnOptions, KnnResult } from "./knn.ts";
export { attentiveProbe, AttentiveResult } from "./attentive.ts";
export type { AttentiveOptions, AttentiveSettings } from "./attentive.ts";
export { type Judged, Judgement, Showing } from "./scores.ts";
export { type Predicted, scoreMasks, SegmentationResult } from "./mask_scores.ts";
export { segmentationScores } from "./segmentation.ts";
export type { Segment, SegmentationScoresOptions } from "./segmentation.ts";
