/** What is done to an image and its mask together before segmentation is trained. @module */
import { any, checkOptions, numberThat, type Rule, share } from "../base/check.ts";
import type { Random } from "../base/random.ts";
import { roundEven } from "../base/round.ts";
import { IGNORED, type Image } from "./dataset.ts";
import { blended, PLAIN } from "./randaugment.ts";
import type { Resample } from "./resample.ts";
import { beginning, checkedSize, cropped, described, type Extent, RESAMPLE, sides } from "./transforms.ts";
import { type Size, target, type Transform, wholeOf, withMask } from "./transforms.ts";

type Range = readonly [least: number, most: number];

const range = (from: number, to: number): Rule => [
  `[least, most] from ${from} to ${to}`,
  (value) => {
    const [least, most, ...others] = [value].flat() as number[];
    return from <= least! && least! <= most! && most! <= to && others.length === 0;
  },
];
const byte = numberThat("a whole number from 0 to 255", (x) => Number.isInteger(x) && x >= 0 && x <= 255);

/** Options of {@linkcode randomScale}. */
export interface RandomScaleOptions {
  /** The shorter side at a scale of 1, in pixels. */
  size: number;
  /** Default [0.5, 2]. */
  scale?: Range;
  /** Default "bilinear". */
  resample?: Resample;
}

/**
 * Resizes by chance, aspect kept: the shorter side becomes `size` times a uniform number of `scale`, rounded. In front of
 * {@linkcode randomCrop}; of an encoded image no more is decoded than is needed.
 *
 * @throws {RangeError} If an option cannot be.
 *
 * @example
 * ```ts
 * import { Random, randomScale } from "nepa";
 * import { assertEquals } from "@std/assert";
 *
 * const image = { data: new Uint8Array(40 * 20), height: 40, width: 20, channels: 1 };
 * const { height, width } = randomScale({ size: 10, scale: [2, 2] })(image, new Random(0));
 * assertEquals([height, width], [40, 20]);
 * ```
 */
export function randomScale(options: RandomScaleOptions): Transform {
  checkOptions("randomScale", options, { size: any, scale: range(0.01, 100), resample: RESAMPLE });
  const { size, scale = [0.5, 2], resample = "bilinear" } = options;
  checkedSize("randomScale", size);
  const shorter = (random: Random) => Math.max(1, roundEven(size * random.uniform(...scale)));
  const part = (image: Extent, random: Random) => ({
    ...wholeOf(image),
    to: target(image, shorter(random)),
    resample,
  });
  return described("randomScale", [{ size, scale, resample }], beginning(part));
}

/** An image that is at least so large: what is missing to the right and below is `fill`, in the mask nothing. */
function padded(image: Image, size: Extent, fill: number): Image {
  const height = Math.max(size.height, image.height), width = Math.max(size.width, image.width);
  if (height === image.height && width === image.width) return image;
  const fills = [fill, IGNORED]; // the mask's comes second
  return withMask(image, ({ data, channels, ...from }) => {
    const out = new Uint8Array(height * width * channels).fill(fills.shift()!);
    for (let y = 0; y < from.height; y++) {
      const row = data.subarray(y * from.width * channels, (y + 1) * from.width * channels);
      out.set(row, y * width * channels);
    }
    return { data: out, height, width, channels };
  });
}

/**
 * Puts an image of fewer pixels in the upper left corner of one of `size`; others stay as they are.
 *
 * @param size What comes out at least.
 * @param fill What pixels are added, 0 to 255. Default 127, which is about 0 once normalised. In masks 255, none.
 * @throws {RangeError} If an option cannot be.
 *
 * @example
 * ```ts
 * import { pad, Random } from "nepa";
 * import { assertEquals } from "@std/assert";
 *
 * const image = { data: Uint8Array.of(1), mask: Uint8Array.of(0), height: 1, width: 1, channels: 1 };
 * const { data, mask } = pad({ height: 1, width: 2 }, 9)(image, new Random(0));
 * assertEquals([[...data], [...mask!]], [[1, 9], [0, 255]]);
 * ```
 */
export function pad(size: Size, fill = 127): Transform {
  checkOptions("pad", { fill }, { fill: byte });
  const out = sides(checkedSize("pad", size));
  return described("pad", [size, fill], (image) => padded(image, out, fill));
}

/** Options of {@linkcode randomCrop}. */
export interface RandomCropOptions {
  /** What comes out. */
  size: Size;
  /** The greatest share of the pixels with a class that may be of one. Default 0.75. */
  most?: number;
  /** What is added where an image is smaller, as by {@linkcode pad}. Default 127. */
  fill?: number;
}

/** Crops that are drawn until one has no class in excess. */
const TRIES = 10;

/** The share of a mask's most frequent class among the pixels that have one. */
function greatestShare(mask: Uint8Array): number {
  const counts = new Int32Array(256);
  for (const k of mask) counts[k]!++;
  const ofClasses = counts.subarray(0, IGNORED), all = mask.length - counts[IGNORED]!;
  return all === 0 ? 1 : Math.max(...ofClasses) / all;
}

/**
 * Cuts out a part of a size at a random place. Where there is a mask and one class has too much of it, another place is drawn, up
 * to ten times, as mmsegmentation does; the last is taken whatever it has. Images that are smaller are padded.
 *
 * @throws {RangeError} If an option cannot be.
 *
 * @example
 * ```ts
 * import { compose, horizontalFlip, photometricDistortion, Random, randomCrop, randomScale } from "nepa";
 * import { assertEquals } from "@std/assert";
 *
 * const augment = compose(randomScale({ size: 64 }), randomCrop({ size: 64 }), horizontalFlip(), photometricDistortion());
 * const image = { data: new Uint8Array(80 * 100), mask: new Uint8Array(80 * 100), height: 80, width: 100, channels: 1 };
 * assertEquals(augment(image, new Random(0)).mask!.length, 64 * 64);
 * ```
 */
export function randomCrop(options: RandomCropOptions): Transform {
  checkOptions("randomCrop", options, { size: any, most: share, fill: byte });
  const { size, most = 0.75, fill = 127 } = options, out = sides(checkedSize("randomCrop", size));
  return described("randomCrop", [{ size, most, fill }], (image, random) => {
    const whole = padded(image, out, fill),
      place = (from: number, to: number) => random.integer(from - to + 1);
    for (let k = 1;; k++) {
      const top = place(whole.height, out.height), left = place(whole.width, out.width);
      const made = cropped(whole, { top, left, height: out.height, width: out.width });
      if (k === TRIES || !made.mask || greatestShare(made.mask) <= most) return made;
    }
  });
}

const { fround } = Math;

/** Turns the hue of an RGB image by a part of the circle, through Pillow's 8-bit HSV. */
function turned(image: Image, by: number): Image {
  const out = image.data.slice(), step = Math.trunc(by * 255);
  for (let i = 0; i < out.length; i += 3) {
    const r = out[i]!,
      g = out[i + 1]!,
      b = out[i + 2]!,
      v = Math.max(r, g, b),
      spread = v - Math.min(r, g, b);
    if (spread === 0) continue; // grey stays
    const rc = fround((v - r) / spread), gc = fround((v - g) / spread), bc = fround((v - b) / spread);
    const sector = fround(r === v ? bc - gc : g === v ? 2 + rc - bc : 4 + gc - rc);
    const hue = Math.trunc(fround((sector / 6 + 1) % 1) * 255), s = Math.trunc(fround(spread / v) * 255);
    const place = fround((hue + step & 255) * 6 / 255), k = Math.floor(place), f = fround(place - k);
    const part = fround(s / 255), p = Math.floor(v * (1 - part) + 0.5);
    const mixed = Math.floor(v * (1 - part * (k % 2 === 0 ? 1 - f : f)) + 0.5);
    out[i] = k % 6 === 0 || k === 5 ? v : k === 1 || k === 4 ? mixed : p;
    out[i + 1] = k === 1 || k === 2 ? v : k % 6 === 0 || k === 3 ? mixed : p;
    out[i + 2] = k === 3 || k === 4 ? v : k === 2 || k === 5 ? mixed : p;
  }
  return { ...image, data: out };
}

/** Options of {@linkcode photometricDistortion}: from the least to the most. */
export interface PhotometricDistortionOptions {
  /** Default [0.875, 1.125]; 1 changes nothing, as of the next two. */
  brightness?: Range;
  /** Default [0.5, 1.5]. */
  contrast?: Range;
  /** Default [0.5, 1.5]. */
  saturation?: Range;
  /** Parts of the colour circle, within [-0.5, 0.5]. Default [-0.05, 0.05]. */
  hue?: Range;
  /** Chance of each of the four. Default 0.5. */
  probability?: number;
}

/**
 * Changes brightness, contrast, saturation and hue, each by chance; contrast second or last. The image alone: a mask stays. Torchvision's
 * `RandomPhotometricDistort` for Pillow's images, bit for bit, without its exchange of channels. Grey images have no
 * saturation and no hue.
 *
 * @throws {RangeError} If an option cannot be.
 *
 * @example
 * ```ts
 * import { photometricDistortion, Random } from "nepa";
 * import { assertEquals } from "@std/assert";
 *
 * const image = { data: new Uint8Array(12).fill(100), height: 2, width: 2, channels: 3 };
 * const brighter = photometricDistortion({ brightness: [1.1, 1.1], contrast: [1, 1], probability: 1 });
 * assertEquals(brighter(image, new Random(0)).data[0], 110);
 * ```
 */
export function photometricDistortion(options: PhotometricDistortionOptions = {}): Transform {
  const factor = range(0, 100), factors = { brightness: factor, contrast: factor, saturation: factor };
  checkOptions("photometricDistortion", options, { ...factors, hue: range(-0.5, 0.5), probability: share });
  const { brightness = [0.875, 1.125], contrast = [0.5, 1.5], saturation = [0.5, 1.5] } = options;
  const { hue = [-0.05, 0.05], probability = 0.5 } = options;
  const all = [{ brightness, contrast, saturation, hue, probability }];
  return described("photometricDistortion", all, (image, random) => {
    const drawn = (of: Range) => [random.uniform() < probability, random.uniform(...of)] as const;
    const [b, c, s, h] = [drawn(brightness), drawn(contrast), drawn(saturation), drawn(hue)];
    const early = random.uniform() < 0.5,
      done = (made: Image, kind: keyof typeof PLAIN, by: readonly [boolean, number]) =>
        by[0] ? blended(made, PLAIN[kind](made), by[1]) : made;
    let made = done(image, "brightness", b);
    if (early) made = done(made, "contrast", c);
    if (image.channels === 3) {
      made = done(made, "saturation", s);
      if (h[0]) made = turned(made, h[1]);
    }
    return early ? made : done(made, "contrast", c);
  });
}
