/** Images as rows of embedded patches, and a table of where these lie. @module */
import * as tf from "@tensorflow/tfjs";
import { isRecording } from "@nepa/engine";
import { expect } from "../base/check.ts";
import * as is from "../base/check.ts";
import type { Preprocessor } from "../data/preprocessor.ts";
import { notice } from "../display/jupyter.ts";
import type { NepaConfig } from "./config.ts";
import { gather, linear } from "./ops.ts";
import type { Weights } from "./transformer.ts";

/** What a forward takes. */
export const IMAGES: is.Kind = [
  "a tensor [B, H, W, C]",
  (value) => Array.isArray(Object(value).shape),
  "tf.tensor4d(normalize(pixels, shape, model.preprocessor), shape) makes one of 8-bit images",
];

/** Patches down and across of images [B, H, W, C]. */
export function patchGrid(
  images: { readonly shape: readonly number[] },
  config: NepaConfig,
): [number, number] {
  is.expectKinds("forward", { images: [images, IMAGES] });
  const { shape } = images,
    { patchSize: p, numChannels } = config,
    [, height = 0, width = 0, channels] = shape;
  const fits = shape.length === 4 && channels === numChannels && height % p === 0 && width % p === 0;
  const expected = `[B, H, W, ${numChannels}] with H and W multiples of ${p}`;
  expect(fits && height * width > 0, "images", expected, `[${shape}]`);
  return [height / p, width / p];
}

/** Images made larger, below and on the right, by their mean, to whole patches. */
export function padded(
  images: tf.Tensor4D,
  [down, across]: [number, number],
  { imageMean, rescaleFactor }: Preprocessor,
) {
  if (down === 0 && across === 0) return images;
  const grown = (x: tf.Tensor4D) => tf.pad(x, [[0, 0], [0, down], [0, across], [0, 0]]);
  if (images.dtype !== "int32") return grown(images); // normalised: the mean is 0
  const mean = tf.tensor1d(imageMean.map((x) => Math.round(x / rescaleFactor)), "int32");
  return tf.add(grown(tf.sub(images, mean)), mean) as tf.Tensor4D;
}

/** So many times the largest value of a normalised image is no longer one. */
const STRANGE = 8;

/** Says so where floats cannot be images that were normalised. */
function noticeStrange(images: tf.Tensor, { rescaleFactor, imageMean, imageStd }: Preprocessor): void {
  const ends = imageMean.flatMap((mean, c) => [0, 255].map((x) => (x * rescaleFactor - mean) / imageStd[c]!));
  const [least, most] = [Math.min(...ends), Math.max(...ends)], far = STRANGE * Math.max(-least, most);
  const largest = tf.tidy(() => tf.max(tf.abs(images)).dataSync()[0]!);
  if (largest <= far) return;
  notice(
    `forward: floats are taken as normalised, which have values from ${least.toFixed(2)} to ${
      most.toFixed(2)
    }; these ` +
      `have some beyond ±${far.toFixed(0)}. Give 0 to 255 as int32, which forward normalises itself`,
  );
}

/** Images as floats; those of 8 bits in the official order: rescale, subtract the mean, divide. */
function normalised(images: tf.Tensor4D, preprocessor: Preprocessor): tf.Tensor4D {
  if (images.dtype !== "int32") {
    if (!isRecording() && tf.getBackend() !== "webgpu") noticeStrange(images, preprocessor);
    return images;
  }
  const { rescaleFactor, imageMean, imageStd } = preprocessor;
  const rescaled = tf.div(images.cast("float32"), 1 / rescaleFactor);
  return tf.div(tf.sub(rescaled, tf.tensor1d([...imageMean])), tf.tensor1d([...imageStd]));
}

/**
 * Images cut into patches, row by row, each mapped to a vector.
 *
 * @param images [B, H, W, C].
 * @param weights With "embeddings.patch_embeddings.projection".
 * @param network What the images are normalised by and cut into.
 * @param visible [B, K] int32: the numbers of the patches that are embedded. Default: all N.
 * @returns [B, N or K, D].
 */
export function embedPatches(
  images: tf.Tensor4D,
  weights: Weights,
  { config, preprocessor }: { config: NepaConfig; preprocessor: Preprocessor },
  visible?: tf.Tensor2D,
): tf.Tensor3D {
  const { patchSize: p, numChannels: C } = config, [rows, columns] = patchGrid(images, config);
  const batch = images.shape[0], projection = "embeddings.patch_embeddings.projection";
  const patches = normalised(images, preprocessor).reshape([batch * rows, p, columns, p * C])
    .transpose([0, 2, 1, 3]) // [B·rows, columns, p, p·C]
    .reshape([batch, rows * columns, p * p * C]);
  const seen = visible ? gather(patches, visible, 1, 1) : patches; // [B, K, p·p·C]
  const weight = weights(`${projection}.weight`) as tf.Tensor2D;
  return linear(seen.reshape([-1, p * p * C]) as tf.Tensor2D, weight, weights(`${projection}.bias`))
    .reshape([batch, seen.shape[1]!, -1]); // [B·K, D] to [B, K, D]
}

/**
 * Where patches lie, as sines and cosines, which are added to them: the column in the first half of the numbers, the row in
 * the second (the public code of I-JEPA).
 *
 * @param size D, a multiple of 4.
 * @param rows Patches down.
 * @param columns Patches across.
 * @returns N rows of D numbers, one after the other.
 */
export function positionTable(size: number, rows: number, columns: number): Float32Array {
  const quarter = size / 4;
  return Float32Array.from({ length: rows * columns * size }, (_, i) => {
    const patch = Math.floor(i / size), k = i % size, place = k % (size / 2);
    const at = k < size / 2 ? patch % columns : Math.floor(patch / columns);
    const angle = at / 10000 ** (place % quarter / quarter);
    return place < quarter ? Math.sin(angle) : Math.cos(angle);
  });
}
