/** Short trainings that tests compare with one another. @module */
import { fashionMnist, type MemoryDataset, Nepa, pretrain, type PretrainOptions, type RunResult } from "nepa";
import { small } from "./small.ts";

const { train } = await fashionMnist();

/** 1,200 images. */
export const few: MemoryDataset = train.subset(0.02, 0);

/** Small, with everything on that draws random numbers. */
export const config = {
  ...small,
  qkNorm: true,
  dropPathProb: 0.2,
  posEmbedShift: 0.1,
  posEmbedJitter: 1.2,
} as const;

/** A few updates. */
export const short: PretrainOptions = { steps: 6, batchSize: 8, seed: 3, every: { collapse: 1000 } };

/** Trains a fresh network; gives its result, weights and averaged weights. */
export async function trained(
  options: PretrainOptions,
): Promise<{ result: RunResult; weights: Float32Array[]; ema: Float32Array[] }> {
  const model = new Nepa(config, { seed: 1 }), run = pretrain(model, few, options);
  const result = await run.finish();
  const read = (m: Nepa | undefined) =>
    [...m?.parameters.values() ?? []].map((v) => v.dataSync().slice() as Float32Array);
  const weights = read(model), ema = read(run.ema);
  model.dispose();
  run.ema?.dispose();
  return { result, weights, ema };
}

/** The greatest difference between two sets of weights. */
export function worst(a: Float32Array[], b: Float32Array[]): number {
  return Math.max(
    ...a.map((x, i) => x.reduce((most, value, j) => Math.max(most, Math.abs(value - b[i]![j]!)), 0)),
  );
}
