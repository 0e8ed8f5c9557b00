/** RandAugment (arXiv 1909.13719) as timm has it, with Pillow's arithmetic, bit for bit. @module */
import type { Random } from "../base/random.ts";
import type { Image } from "./dataset.ts";
import { roundEven } from "../base/round.ts";
import { any, checkOptions, expect, index, notNegative, numberThat, share } from "../base/check.ts";
import { described, type Transform } from "./transforms.ts";

/** Changes an image; `m` is the magnitude, 0 to 1, and `fill` what comes in from outside the image. */
type Operation = (image: Image, m: number, random: Random, fill: readonly number[]) => Image;

type Matrix = readonly [number, number, number, number, number, number];

/** Either way, with equal chance. */
const signed = (value: number, random: Random): number => random.uniform() > 0.5 ? -value : value;

const clip8 = (x: number): number => x <= 0 ? 0 : x >= 255 ? 255 : Math.trunc(x);

/** Each value replaced by what its channel's table says. */
function mapped({ data, ...size }: Image, table: (c: number) => (x: number) => number): Image {
  const out = new Uint8Array(data.length), { channels } = size;
  for (let c = 0; c < channels; c++) {
    const value = table(c), to = Uint8Array.from({ length: 256 }, (_, x) => clip8(value(x)));
    for (let i = c; i < data.length; i += channels) out[i] = to[data[i]!]!;
  }
  return { data: out, ...size };
}

function histogram({ data, channels }: Image, c: number): Int32Array {
  const counts = new Int32Array(256);
  for (let i = c; i < data.length; i += channels) counts[data[i]!]!++;
  return counts;
}

function stretched(image: Image): Image {
  return mapped(image, (c) => {
    const counts = histogram(image, c), low = counts.findIndex((n) => n > 0);
    const high = counts.findLastIndex((n) => n > 0), scale = 255 / (high - low);
    return high <= low ? (x) => x : (x) => x * scale + -low * scale;
  });
}

function equalized(image: Image): Image {
  return mapped(image, (c) => {
    const counts = histogram(image, c), last = counts.findLast((n) => n > 0)!;
    const step = Math.floor((image.height * image.width - last) / 255);
    if (step === 0) return (x) => x;
    let below = step >> 1;
    const table = counts.map((n) => Math.floor(((below += n) - n) / step));
    return (x) => table[x]!;
  });
}

/** Pillow's blend: from `image` (factor 1) towards `plain` (0), or beyond, in float32. */
export function blended(image: Image, plain: (i: number) => number, factor: number): Image {
  const alpha = Math.fround(factor);
  const { data } = image, out = new Uint8Array(data.length);
  for (let i = 0; i < data.length; i++) {
    const from = plain(i);
    out[i] = clip8(Math.fround(from + Math.fround(alpha * (data[i]! - from))));
  }
  return { ...image, data: out };
}

/** What Pillow blends an image with to change its saturation, contrast and brightness: its grey, their mean, black. */
export const PLAIN = {
  saturation(image: Image): (i: number) => number {
    const grey = luma(image);
    return (i) => grey[Math.floor(i / image.channels)]!;
  },
  contrast(image: Image): (i: number) => number {
    const grey = luma(image), mean = Math.trunc(grey.reduce((a, b) => a + b, 0) / grey.length + 0.5);
    return () => mean;
  },
  brightness: (_: Image) => (_: number) => 0,
};

/** Blends an image with a plain one: a factor of 1 changes nothing. */
const enhanced = (plain: (image: Image) => (i: number) => number): Operation => (image, m, random) =>
  blended(image, plain(image), Math.max(0.1, 1 + signed(m * 0.9, random)));

/** Luma (ITU-R 601-2) by Pillow's formula, a byte for each pixel. */
export function luma({ data, channels }: Pick<Image, "data" | "channels">): Uint8Array {
  if (channels !== 3) return data;
  const grey = new Uint8Array(data.length / 3);
  for (let i = 0, at = 0; i < grey.length; i++, at += 3) {
    grey[i] = (data[at]! * 19595 + data[at + 1]! * 38470 + data[at + 2]! * 7471 + 0x8000) >> 16;
  }
  return grey;
}

function smoothed({ data, height, width, channels }: Image): Uint8Array {
  const out = data.slice(), row = width * channels; // the edges stay
  for (let y = 1; y < height - 1; y++) {
    for (let i = y * row + channels; i < (y + 1) * row - channels; i++) {
      let sum = 4 * data[i]!;
      for (let at = i - row; at <= i + row; at += row) {
        sum += data[at - channels]! + data[at]! + data[at + channels]!;
      }
      out[i] = clip8(sum / 13 + 0.5);
    }
  }
  return out;
}

/** The cubic with a = −1 through four values, at `t` from the second to the third; in Pillow's order of operations. */
function cubic(p0: number, p1: number, p2: number, p3: number, t: number): number {
  return p1 + t * (-p0 + p2 + t * (2 * (p0 - p1) + p2 - p3 + t * (-p0 + p1 - p2 + p3)));
}

/** Pillow's affine transform with its bicubic filter: pixel (x, y) comes from (ax + by + c, dx + ey + f). */
function affine(image: Image, [a, b, c, d, e, f]: Matrix, fill: readonly number[]): Image {
  const { data, height, width, channels } = image, out = new Uint8Array(data.length);
  const inside = (at: number, size: number) => at < 0 ? 0 : at < size ? at : size - 1;
  for (let i = 0, to = 0; i < height * width; i++) {
    const px = i % width + 0.5, py = Math.floor(i / width) + 0.5;
    const x = a * px + b * py + c, y = d * px + e * py + f;
    const outside = x < 0 || x >= width || y < 0 || y >= height;
    const left = Math.floor(x - 0.5), top = Math.floor(y - 0.5), tx = x - 0.5 - left, ty = y - 0.5 - top;
    const column = (k: number) => inside(left + k, width) * channels;
    const [c0, c1, c2, c3] = [column(-1), column(0), column(1), column(2)];
    for (let channel = 0; channel < channels; channel++) {
      const row = (k: number) => {
        const at = inside(top + k, height) * width * channels + channel;
        return cubic(data[at + c0]!, data[at + c1]!, data[at + c2]!, data[at + c3]!, tx);
      };
      out[to++] = outside ? fill[channel] ?? fill[0]! : clip8(cubic(row(-1), row(0), row(1), row(2), ty));
    }
  }
  return { data: out, height, width, channels };
}

function rotated(image: Image, degrees: number, fill: readonly number[]): Image {
  const { width, height } = image, round = (x: number) => Math.round(x * 1e15) / 1e15;
  const angle = -((degrees + 360) % 360) * (Math.PI / 180), [cx, cy] = [width / 2, height / 2];
  const [cos, sin] = [round(Math.cos(angle)), round(Math.sin(angle))];
  const c = cos * -cx + sin * -cy + cx, f = -sin * -cx + cos * -cy + cy;
  return degrees === 0 ? image : affine(image, [cos, sin, c, -sin, cos, f], fill);
}

/** timm's set whose strength rises with the magnitude ("inc1"), in its order. */
const OPERATIONS: readonly Operation[] = [
  stretched,
  equalized,
  (image) => mapped(image, () => (x) => 255 - x),
  (image, m, random, fill) => rotated(image, signed(m * 30, random), fill),
  (image, m) => mapped(image, () => (x) => x & -(1 << (4 + Math.trunc(m * 4)))), // keeps 4 bits to none
  (image, m) => mapped(image, () => (x) => x < 256 - Math.trunc(m * 256) ? x : 255 - x),
  (image, m) => mapped(image, () => (x) => x < 128 ? x + Math.trunc(m * 110) : x),
  enhanced(PLAIN.saturation),
  enhanced(PLAIN.contrast),
  enhanced(PLAIN.brightness),
  enhanced((image) => {
    const smooth = smoothed(image);
    return (i) => smooth[i]!;
  }),
  (image, m, random, fill) => affine(image, [1, signed(m * 0.3, random), 0, 0, 1, 0], fill),
  (image, m, random, fill) => affine(image, [1, 0, 0, signed(m * 0.3, random), 1, 0], fill),
  (image, m, random, fill) => affine(image, [1, 0, signed(m * 0.45, random) * image.width, 0, 1, 0], fill),
  (image, m, random, fill) => affine(image, [1, 0, 0, 0, 1, signed(m * 0.45, random) * image.height], fill),
];

/** Options of {@linkcode randAugment}. */
export interface RandAugmentOptions {
  /** Strength, 0 to 10. Default 9. */
  magnitude?: number;
  /** Standard deviation of the strength, anew for each change. Default 0.5. */
  deviation?: number;
  /** Changes that are drawn for an image. Default 2. */
  count?: number;
  /** Chance that one that was drawn is made. Default 0.5. */
  probability?: number;
  /** Mean of the images, per channel or for all, 0 to 1: the colour that comes in from outside. Default 0.5. */
  mean?: readonly number[];
}

const magnitude = numberThat("a number from 0 to 10", (x) => x >= 0 && x <= 10);
const RULES = { magnitude, deviation: notNegative, count: index, probability: share, mean: any };

/**
 * Changes colours and geometry at random: of fifteen changes two are drawn, and each is made with a chance of one half
 * (timm's `rand-m9-mstd0.5-inc1`, bicubic).
 *
 * @param options What differs.
 * @returns A transform for grey and RGB images, which keeps their size.
 * @throws {RangeError} If an option cannot be.
 *
 * @example
 * ```ts
 * import { randAugment, Random } from "nepa";
 * import { assertEquals } from "@std/assert";
 *
 * const image = { data: new Uint8Array(28 * 28), height: 28, width: 28, channels: 1 };
 * const changed = randAugment()(image, new Random(0));
 * assertEquals([changed.height, changed.width], [28, 28]);
 * ```
 */
export function randAugment(options: RandAugmentOptions = {}): Transform {
  const { magnitude = 9, deviation = 0.5, count = 2, probability = 0.5, mean = [0.5] } = options;
  checkOptions("randAugment", options, RULES);
  const fill = mean.map((x) => Math.min(255, roundEven(255 * x)));
  return described("randAugment", [{ magnitude, deviation, count, probability, mean }], (image, random) => {
    expect(!image.mask, "randAugment", "images without masks, which it would not turn with them", "one with");
    const drawn = Array.from({ length: count }, () => OPERATIONS[random.integer(OPERATIONS.length)]!);
    return drawn.reduce((made, operation) => {
      if (random.uniform() > probability) return made;
      const strength = Math.min(10, Math.max(0, random.normal(magnitude, deviation)));
      return operation(made, strength / 10, random, fill);
    }, image);
  });
}
