/** An image as a grid of patches: what the pictures of them share. @module */
import * as tf from "@tensorflow/tfjs";
import type { Image } from "../data/dataset.ts";
import { palette } from "../display/figure.ts";
import type { Mark } from "../display/pictures.ts";

/** Images of one size, 8 bits a channel, as the model takes them: [n, H, W, C]. The caller disposes of them. */
export function asInput({ data, height, width, channels }: Image): tf.Tensor4D {
  const images = data.length / (height * width * channels);
  return tf.tensor4d(data, [images, height, width, channels], "int32");
}

/** The outline of a patch, by its number in raster order. */
export function outline(index: number, columns: number, patch: number): Mark {
  const left = (index % columns) * patch, top = Math.floor(index / columns) * patch;
  return { left, top, width: patch, height: patch, color: palette[9] };
}

/** Copies the pixels of patch `index` of an image to patch `at` of another; both are [height, width, channels]. */
export function copyPatch(
  { to, at, from, index }: { to: Uint8Array; at: number; from: Uint8Array; index: number },
  { width, channels: C }: { width: number; channels: number },
  p: number,
): void {
  const across = width / p, corner = (i: number) => (Math.floor(i / across) * p * width + i % across * p) * C;
  for (let y = 0; y < p; y++) {
    const row = corner(index) + y * width * C;
    to.set(from.subarray(row, row + p * C), corner(at) + y * width * C);
  }
}
