/** What the model imagines: each patch it expects, painted by the nearest patch of a data set. @module */
import * as tf from "@tensorflow/tfjs";
import type { Batch, Dataset } from "../data/dataset.ts";
import type { Figure } from "../display/figure.ts";
import { imageGrid, type Picture } from "../display/pictures.ts";
import { formatNumber } from "../display/table.ts";
import { type Compiled, currentEngine, inStreams, rowsOf } from "@nepa/engine";
import { readFeatures } from "../eval/features.ts";
import { checkOptions, expectNamed, numberThat, positive } from "../base/check.ts";
import { owned } from "../base/owned.ts";
import { unit } from "../eval/collapse.ts";
import type { Nepa } from "../model/nepa.ts";
import { asInput, copyPatch } from "./grid.ts";

/** Options of {@linkcode plotImagination}. */
export interface ImaginationOptions {
  /** Real patches that stand before the model goes on alone, from 0. Default: half of all. */
  given?: number;
  /** Height of each picture in pixels. Default 90. */
  size?: number;
}

/** The direction of every patch's embedding, [bank·N, D]. */
async function patchDirections(model: Nepa, bank: Dataset): Promise<tf.Tensor2D> {
  const known = (await readFeatures(model, bank, ["embedding"], { pool: "all" })).get("embedding")!;
  const { hiddenSize: D } = model.config;
  return tf.tidy(() => {
    const tokens = tf.tensor3d(known, [bank.length, known.length / bank.length / D, D]); // CLS first
    return unit(tf.slice(tokens, [0, 1, 0]).reshape([-1, D]) as tf.Tensor2D); // [bank·N, D]
  });
}

/** For each image and position the number of the patch nearest to what is expected there, [images · N]. */
function nearest(model: Nepa): Compiled<[tf.Tensor4D, tf.Tensor2D], tf.Tensor1D> {
  const find = (images: tf.Tensor4D, keys: tf.Tensor2D) => {
    const { predictions } = model.forward(images, { causal: true, last: false }); // [images, N, D]
    const rows = predictions.reshape([-1, keys.shape[1]]) as tf.Tensor2D; // [images·N, D]
    const nearest = (rows: tf.Tensor2D) => tf.argMax(tf.matMul(rows, keys, false, true), 1) as tf.Tensor1D;
    return inStreams(rows.shape[0], (from, count) => nearest(rowsOf(rows, from, count)));
  };
  // XLA takes longer to compile than all these passes take.
  return currentEngine().compile(find, { name: "imagination", xla: false });
}

/**
 * Paints what is expected after real patches, and what the model makes of the first `given` alone: each as many pixels as the
 * real images have.
 */
async function imagine(
  model: Nepa,
  real: Batch,
  bank: Dataset,
  given: number,
): Promise<[guided: Uint8Array, alone: Uint8Array]> {
  const [, height, width, channels] = real.shape, size = { height, width, channels };
  const p = model.config.patchSize, N = height * width / p ** 2, bytes = height * width * channels;
  const guided = new Uint8Array(real.images.length), alone = real.images.slice();
  const keys = await patchDirections(model, bank), find = nearest(model);
  using _own = owned(keys, find);
  /** Puts what is expected of images into others, from a position to another. */
  const paint = async (data: Uint8Array, onto: Uint8Array, from: number, to: number) => {
    const x = asInput({ data, ...size }), found = await find(x, keys);
    for (const [i, patch] of (await found.data()).entries()) {
      const image = Math.floor(i / N), at = i % N;
      if (at < from || at >= to) continue;
      const pixels = onto.subarray(image * bytes, (image + 1) * bytes),
        source = await bank.get(Math.floor(patch / N));
      copyPatch({ to: pixels, at, from: source.image, index: patch % N }, size, p);
    }
    tf.dispose([x, found]);
  };
  await paint(real.images, guided, 0, N);
  for (let at = given; at < N; at++) await paint(alone, alone, at, at + 1);
  return [guided, alone];
}

/**
 * Images above what the model imagines. In the second row each patch is the one that it expects after the real patches
 * before; in the third it goes on alone after the first few, reading what it painted itself. What it expects is an
 * embedding; the patch of `bank` whose embedding is nearest, by cosine, is painted.
 *
 * @param images A handful, of the network's size.
 * @param bank Where patches are taken from, up to a few thousand images; not those shown, or they will be found.
 * @throws {RangeError} If the images do not fit the network, or `given` cannot be.
 *
 * @example
 * ```ts
 * import { fashionMnist, Nepa, plotImagination, useEngine } from "nepa";
 *
 * await useEngine();
 * const { train, test } = await fashionMnist();
 * const model = new Nepa({ preset: "mini" }, { seed: 0 }); // load or train one, or it imagines nothing sensible
 * console.log(await plotImagination(model, test.subset([0, 1]), train.balanced(10)));
 * model.dispose();
 * ```
 */
export async function plotImagination(
  model: Nepa,
  images: Dataset,
  bank: Dataset,
  options: ImaginationOptions = {},
): Promise<Figure> {
  expectNamed("plotImagination", { model, images, bank });
  const { imageSize, patchSize } = model.config, N = (imageSize / patchSize) ** 2;
  const few = numberThat(`an integer from 0 to ${N}`, (x) => Number.isInteger(x) && x >= 0 && x <= N);
  checkOptions("plotImagination", options, { given: few, size: positive });
  const { given = Math.ceil(N / 2) } = options;
  let real: Batch | undefined;
  for await (real of images.batches({ size: images.length, shuffle: false, dropLast: false }));
  const [guided, alone] = await imagine(model, real!, bank, given);
  const { height, width, channels } = images, bytes = height * width * channels;
  const row = (pixels: Uint8Array, caption: string) =>
    Array.from({ length: images.length }, (_, i): Picture => {
      return { data: pixels.subarray(i * bytes, (i + 1) * bytes), height, width, channels, caption };
    });
  const rows = [row(real!.images, "real"), row(guided, "expected next"), row(alone, `alone after ${given}`)];
  const patches = `${formatNumber(bank.length * N)} patches of ${bank.name}`;
  return imageGrid(rows.flat(), {
    title: "What the model imagines",
    subtitle: `each patch the nearest to what it expects, of ${patches}`,
    columns: images.length,
    size: options.size ?? 90,
  });
}
