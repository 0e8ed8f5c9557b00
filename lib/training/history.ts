/** What a training tells of each of its updates. @module */
import type { Validation } from "../eval/evaluate.ts";

/** What is measured beside the loss: the meter's, now and then, and numbers of an objective's own, at every step. */
export interface Metrics {
  /** Spread of the patch embeddings: about 1, or 0 when collapsed. See {@linkcode collapse}. */
  featureStd: number;
  /** Effective rank of the patch embeddings, from 1. */
  effectiveRank: number;
  /** Mean cosine between two patch embeddings, -1 to 1; 1 when collapsed. */
  meanCosine: number;
  collapsed: boolean;
  /** Mean cosine with the targets that repeating the previous patch's would reach: a line to beat. */
  previousPatch: number;
  /** The same for the mean direction of all targets. */
  meanDirection: number;
  /** The same for the mean direction at each position. */
  meanDirectionPerPosition: number;
  /** What an objective's loss tells besides, under its own names; between two readings of the meter there is nothing else. */
  [name: string]: number | boolean;
}

/** The names of what the meter measures; an objective's own numbers have others. */
export const METER: readonly string[] = [
  ...["featureStd", "effectiveRank", "meanCosine", "collapsed"],
  ...["previousPatch", "meanDirection", "meanDirectionPerPosition"],
];

/** One update of the weights. */
export interface Step {
  /** Updates done, this one included: from 1. */
  step: number;
  /** Passes over the data begun, from 0. */
  epoch: number;
  /** Mean over the batch, before the update. */
  loss: number;
  /** Learning rate of this update. */
  lr: number;
  /** Euclidean norm of all gradients together, before clipping. */
  gradNorm: number;
  imagesPerSecond: number;
  /** 10^9 floating-point operations a second, products only. */
  gflops: number;
  /** Seconds that went into recording and compiling, in the updates that did. */
  compileSeconds?: number;
  metrics?: Metrics;
  validation?: Validation;
  /** Accuracy of a linear probe of the frozen features, 0 to 1, where one runs beside pretraining. */
  probe?: number;
  /** At the last update: the one whose weights the model has from here on, since they did best on the validation images. */
  best?: number;
  /** At the last update: what the test images say about those weights. They are read only here. */
  test?: Validation;
  /** Plain words, when something has to be said. */
  notice?: string;
}

/** How many losses are averaged where one alone says little. */
export const LOSS_WINDOW = 50;

/** Mean loss of some steps; NaN if there are none. */
export function meanLoss(steps: readonly Step[]): number {
  return steps.reduce((sum, { loss }) => sum + loss, 0) / steps.length;
}
