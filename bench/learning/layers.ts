/** What the learning bench reads of any encoder, layer by layer: a linear probe and the neighbours' votes. @module */
import { type Dataset, type Encoder, type Layer, linearProbe } from "nepa";
import { readSets } from "../../lib/eval/features.ts";
import { type ByLayer, nearest, pixelRows, type Rows, type setsOf } from "./cells.ts";

/** Images to fit to, and those to be judged by. */
export type Sets = ReturnType<typeof setsOf>;

/** Accuracies from 0 to 1 by layer; of raw pixels, "pixels". */
export interface Read {
  probe: ByLayer;
  /** Not centred. */
  knn: ByLayer;
}

/** Features of both sets, by layer. */
export type Features = ReadonlyMap<string, Rows>;

/** The mean of the patches after each block and after the last norm. */
export async function readMeans(encoder: Encoder, { fit, judged }: Sets): Promise<Features> {
  const layers = encoder.layers.filter((layer) => layer !== "embedding");
  const [bank, asked] = await readSets(encoder, [fit, judged], layers, { quiet: true });
  return new Map(layers.map((layer) => [String(layer), [bank!.get(layer)!, asked!.get(layer)!]]));
}

/** All tokens of one layer, joined. */
export async function readJoined(encoder: Encoder, { fit, judged }: Sets, layer: Layer): Promise<Features> {
  const [bank, asked] = await readSets(encoder, [fit, judged], [layer], { pool: "all", quiet: true });
  return new Map([[String(layer), [bank!.get(layer)!, asked!.get(layer)!]]]);
}

/** Raw pixels, normalised. */
export const readRaw = async (sets: Sets): Promise<Features> => new Map([["pixels", await pixelRows(sets)]]);

/** Accuracy of a linear probe. */
export async function probed(
  { fit, judged }: Sets,
  [bank, asked]: Rows,
  lambdas?: number[],
): Promise<number> {
  const of = (set: Dataset, features: Float32Array) => ({
    ...{ features, size: features.length / set.length, labels: set.labels, classes: fit.classes },
  });
  const sets = { train: of(fit, bank), test: of(judged, asked) };
  return (await linearProbe(sets, lambdas && { lambdas })).accuracy;
}

/** Probes and neighbours of features. */
export async function judgedBy(sets: Sets, features: Features): Promise<Read> {
  const read: Read = { probe: {}, knn: {} };
  for (const [layer, rows] of features) {
    read.probe[layer] = await probed(sets, rows);
    read.knn[layer] = await nearest(sets, rows);
  }
  return read;
}

/** The layer with the highest value. */
export const bestLayer = (by: ByLayer): string =>
  Object.entries(by).reduce((best, other) => other[1] > best[1] ? other : best)[0];
