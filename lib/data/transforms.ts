/** From 8-bit images to what a model takes: augmentation and normalisation. @module */
import type { Random } from "../random.ts";
import type { Image } from "./dataset.ts";

/** Makes an image of an image; whatever is left to chance comes from `random`. */
export type Transform = (image: Image, random: Random) => Image;

/** How images become floats: per channel, or one number for all. */
export interface Normalisation {
  /** Subtracted after x / 255. */
  imageMean: readonly number[];
  /** Divided by, after that. */
  imageStd: readonly number[];
}

/**
 * 8-bit images as the floats that a model takes: (x / 255 - mean) / std, channel by channel.
 *
 * @param images [B, H, W, C] values 0 to 255.
 * @param shape B, H, W, C.
 * @param normalisation One mean and one std for each channel, or one of each for all.
 * @returns [B, H, W, C].
 * @throws {RangeError} If the sizes do not fit one another or a std is not positive.
 *
 * @example
 * ```ts
 * import { normalize } from "nepa";
 * import { assertEquals } from "@std/assert";
 *
 * const floats = normalize(new Uint8Array([0, 255]), [1, 1, 2, 1], { imageMean: [0.5], imageStd: [0.5] });
 * assertEquals([...floats], [-1, 1]);
 * ```
 */
export function normalize(
  images: Uint8Array,
  shape: readonly number[],
  { imageMean, imageStd }: Normalisation,
): Float32Array {
  const channels = shape.at(-1) ?? 0, size = shape.reduce((a, b) => a * b, 1);
  if (shape.length !== 4 || images.length !== size) {
    throw new RangeError(
      `normalize: expected images [B,H,W,C] with as many bytes, got [${shape}], ${images.length} bytes`,
    );
  }
  const tables = Array.from({ length: channels }, (_, c) => {
    const mean = imageMean.length === 1 ? imageMean[0] : imageMean[c];
    const std = imageStd.length === 1 ? imageStd[0] : imageStd[c];
    if (mean === undefined || std === undefined || !(std > 0)) {
      throw new RangeError(
        `normalize: expected a mean and a positive std for each of ${channels} channels, got mean [${imageMean}], std [${imageStd}]`,
      );
    }
    return Float32Array.from({ length: 256 }, (_, x) => (Math.fround(x / 255) - mean) / std);
  });
  const out = new Float32Array(size);
  for (let c = 0; c < channels; c++) {
    const table = tables[c]!;
    for (let i = c; i < size; i += channels) out[i] = table[images[i]!]!;
  }
  return out;
}

/**
 * Mirrors an image left to right.
 *
 * @param probability Of doing so, 0 to 1. Default 0.5.
 */
export function horizontalFlip(probability = 0.5): Transform {
  if (!(probability >= 0 && probability <= 1)) {
    throw new RangeError(`horizontalFlip: expected a probability from 0 to 1, got ${probability}`);
  }
  return (image, random) => random.uniform() < probability ? mirrored(image) : image;
}

function mirrored({ data, height, width, channels }: Image): Image {
  const out = new Uint8Array(data.length);
  for (let y = 0, i = 0; y < height; y++) {
    for (let x = width - 1; x >= 0; x--) {
      for (let c = 0, from = (y * width + x) * channels; c < channels; c++) out[i++] = data[from + c]!;
    }
  }
  return { data: out, height, width, channels };
}
