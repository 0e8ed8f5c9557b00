/** Features: a frozen network's tokens of every image of a data set, as rows. @module */
import * as tf from "@tensorflow/tfjs";
import { type Dataset, refuseMisfit } from "../data/dataset.ts";
import { PREPARE, type Prepare, prepared } from "../data/encoded.ts";
import { type Normalisation, normalize } from "../data/transforms.ts";
import { progress } from "../display/progress.ts";
import { currentEngine, stoppable } from "@nepa/engine";
import { any, checkOptions, expect, expectKinds, expectNamed, flag } from "../base/check.ts";
import { refuseNonFinite } from "../base/finite.ts";
import { owned } from "../base/owned.ts";
import { inOrder } from "../data/loader.ts";
import { type FeatureOptions, poolTokens } from "../model/encoder.ts";
import type { Encoder, Layer } from "../model/method.ts";
import { shapeOf } from "../data/preprocessor.ts";

export type { Layer } from "../model/method.ts";

/** How features are read: as for `Nepa.features`. */
export interface Reading extends Pick<FeatureOptions, "pool" | "causal"> {
  /** Ends the work, which throws the signal's reason then; so does the Stop button. */
  signal?: AbortSignal | undefined;
  /**
   * How encoded images (`imageFolder`, `parquetImages`) come to the network's size: "crop", as the set was opened, where the
   * middle is cut out; or "official", as the model's image processor does, which resizes the whole to `preprocessor.size` by
   * its filter, whatever the sides are. Images of other sets have to have that size. Default "crop".
   */
  prepare?: Prepare;
}

/**
 * The features of all images, in their order, several layers at one pass.
 *
 * @param model Not changed.
 * @param dataset Images of the network's size, or encoded ones to be `prepare`d.
 * @param layers Which.
 * @param reading How tokens become one row, whether attention is causal, how images come to the network's size.
 * @returns For each layer [N, D], or [N, T·D] if all tokens are joined.
 * @throws {RangeError} If the images do not fit the network, or there is no such layer or pooling; {@linkcode NonFiniteError}, where
 * a feature is not finite, with the first weight that is not, or with the layer and the image.
 *
 * @example
 * ```ts
 * import { fashionMnist, Nepa, readFeatures, useEngine } from "nepa";
 * import { assertEquals } from "@std/assert";
 *
 * await useEngine("cpu");
 * const { test } = await fashionMnist(), model = new Nepa({ preset: "mini", numHiddenLayers: 1 });
 * const features = await readFeatures(model, test.subset([0, 1, 2]), ["embedding", 1, "final"]);
 * assertEquals(features.get("final")!.length, 3 * 128);
 * model.dispose();
 * ```
 */
export async function readFeatures(
  model: Encoder,
  dataset: Dataset,
  layers: readonly Layer[],
  reading: Reading = {},
): Promise<Map<Layer, Float32Array>> {
  expectNamed("readFeatures", { model, dataset });
  expectKinds("readFeatures", { layers: [layers, ["a list of layers", Array.isArray, 'such as ["final"]']] });
  checkOptions("readFeatures", reading, { pool: any, causal: flag, signal: any, prepare: PREPARE });
  const set = prepared(dataset, model.preprocessor, reading.prepare);
  const read = (signal: AbortSignal) => readSets(model, [set], layers, { ...reading, signal });
  return (await stoppable("readFeatures", reading.signal, read))[0]!;
}

/** {@linkcode readFeatures} of several data sets, compiled once. */
export async function readSets(
  model: Encoder,
  sets: readonly Dataset[],
  layers: readonly Layer[],
  { pool = "mean", causal = model.causal, quiet = false, signal }: Reading & { quiet?: boolean },
): Promise<Map<Layer, Float32Array>[]> {
  for (const set of sets) refuseMisfit(set, shapeOf(model), true);
  checkReading(model, layers, pool);
  const total = sets.reduce((sum, { length }) => sum + length, 0), found: Map<Layer, Float32Array>[] = [];
  const pooled = (images: tf.Tensor4D) =>
    model.tokens(images, layers, { causal }).map((x) => poolTokens(x, pool, model.prefix));
  const pass = currentEngine().compile(pooled, { name: "features" });
  await using bar = quiet
    ? undefined
    : progress({ title: "features", total, unit: "images", text: "compiling" });
  const weights = model.parameters;
  using _own = owned(pass);
  let before = 0;
  for (const set of sets) {
    const tell = (done: number) => bar?.update(before + done, "");
    found.push(await readOne(pass, set, patchesOf(model), layers, { tell, signal, weights }));
    before += set.length;
  }
  return found;
}

function checkReading(model: Encoder, layers: readonly Layer[], pool: string): void {
  const known = model.layers, pools = ["mean", "cls", "last", "all"];
  for (const layer of layers) expect(known.includes(layer), "layer", `one of ${known.join(", ")}`, layer);
  expect(pools.includes(pool), "pool", `one of ${pools.join(", ")}`, pool);
  expect(pool !== "cls" || model.prefix === 1, "pool", "another than cls, of a network without CLS", pool);
}

/** Patches of an image of the network's size. */
export function patchesOf(model: Encoder): number {
  const { imageSize, numChannels } = shapeOf(model);
  const [rows, columns] = model.grid({ shape: [1, imageSize, imageSize, numChannels] });
  return rows * columns;
}

/** What is told how many images are read, what is done to each before, what ends the reading, and the weights to look at. */
interface ReadingOne {
  tell?: (done: number) => void;
  prepare?: Parameters<typeof inOrder>[2];
  signal?: AbortSignal | undefined;
  weights?: ReadonlyMap<string, tf.Variable>;
}

/** What `pass` makes of all images, prepared, in their order: as many tensors as `layers`. */
export async function readOne<L>(
  pass: (images: tf.Tensor4D) => Promise<tf.Tensor2D[]>,
  dataset: Dataset,
  patches: number,
  layers: readonly L[],
  { tell, prepare, signal, weights }: ReadingOne = {},
): Promise<Map<L, Float32Array>> {
  const found = new Map<L, Float32Array>();
  let done = 0;
  const take = async (outputs: tf.Tensor2D[], size: number) => {
    try {
      for (const [i, layer] of layers.entries()) {
        const width = outputs[i]!.shape[1], rows = (await outputs[i]!.data()).subarray(0, size * width);
        const place = (k: number) => `${dataset.name}: image ${done + Math.floor(k / width)}, layer ${layer}`;
        if (weights) await refuseNonFinite(rows, weights, place);
        if (!found.has(layer)) found.set(layer, new Float32Array(dataset.length * width));
        found.get(layer)!.set(rows, done * width);
      }
    } finally {
      tf.dispose(outputs);
    }
    done += size;
    tell?.(done);
  };
  let before: Promise<void> = Promise.resolve();
  try {
    for await (const { images, batch } of inOrder(dataset, patches, prepare)) {
      signal?.throwIfAborted();
      const outputs = pass(images); // computes while the next batch is made
      await before.catch(async (error) => {
        tf.dispose(await outputs.catch(() => []));
        throw error;
      });
      before = outputs.then((outputs) => take(outputs, batch.size));
    }
  } finally {
    await before;
  }
  return found;
}

/** The pixels of all images as features, normalised as for the network: [N, H·W·C]. */
export async function readPixels(
  dataset: Dataset,
  normalisation: Normalisation,
  signal?: AbortSignal,
): Promise<Float32Array> {
  const pixels = new Float32Array(dataset.length * dataset.height * dataset.width * dataset.channels);
  let done = 0;
  for await (const { images, shape } of dataset.batches({ size: 1000, shuffle: false, dropLast: false })) {
    signal?.throwIfAborted();
    pixels.set(normalize(images, shape, normalisation), done);
    done += images.length;
  }
  return pixels;
}
