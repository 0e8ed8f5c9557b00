/** A very small network and images for it. @module */
import {
  arrayDataset,
  finetune,
  type FinetuneOptions,
  IJepa,
  type IJepaOptions,
  Nepa,
  NepaClassifier,
} from "nepa";
import { pretrain, type PretrainOptions, Random, type Run } from "nepa";

const random = new Random(0), count = 96;

/** Noise, 8 by 8. */
export const noise = arrayDataset({
  name: "noise",
  images: Uint8Array.from({ length: count * 64 }, () => random.integer(256)),
  shape: [count, 8, 8, 1],
  labels: Uint8Array.from({ length: count }, (_, i) => i % 2),
  classes: ["even", "odd"],
});

/** With parts that draw random numbers. */
export const config = {
  imageSize: 8,
  patchSize: 4,
  numChannels: 1,
  hiddenSize: 16,
  numHiddenLayers: 2,
  numAttentionHeads: 2,
  intermediateSize: 16,
  dropPathProb: 0.2,
  posEmbedShift: 0.1,
} as const;

/** A training with averaged weights and held-out images, kept where the options say. */
export function tinyRun(options: PretrainOptions, seed = 1): Run<Nepa> {
  return pretrain(new Nepa(config, { seed }), noise, {
    batchSize: 8,
    emaDecay: 0.9,
    validation: noise.subset(0.25),
    every: { collapse: 7 },
    ...options,
  });
}

/** A classifier's training, which ends with the weights that did best on held-out images, kept where the options say. */
export function tinyTuning(options: FinetuneOptions, seed = 1): Run<NepaClassifier> {
  const classifier = new NepaClassifier(config, { classes: noise.classes, seed });
  return finetune(classifier, noise, {
    batchSize: 8,
    learningRate: 0.03,
    emaDecay: 0.5,
    validation: noise.subset(0.25),
    overlap: "allow",
    every: { validation: 2 },
    ...options,
  });
}

/** A very small I-JEPA of 4 by 4 patches. */
export const tinyJepa = (seed = 1, more: IJepaOptions = {}): IJepa =>
  new IJepa({
    ...{
      imageSize: 8,
      patchSize: 2,
      numChannels: 1,
      hiddenSize: 16,
      numHiddenLayers: 2,
      numAttentionHeads: 2,
    },
    ...{ intermediateSize: 16, predictorHiddenSize: 8, predictorNumHiddenLayers: 1, minKeep: 0, ...more },
  }, { seed });

/** Its training, kept where the options say. */
export function tinyJepaRun(options: PretrainOptions<IJepa>, seed = 1): Run<IJepa> {
  return pretrain(tinyJepa(seed), noise, {
    batchSize: 8,
    validation: noise.subset(0.25),
    every: { collapse: 7 },
    ...options,
  });
}
