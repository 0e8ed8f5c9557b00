/** From 8-bit images to what a model takes: augmentation and normalisation. @module */
import type { Random } from "../base/random.ts";
import type { Image } from "./dataset.ts";
import { roundEven } from "../base/round.ts";
import type { Box } from "@nepa/engine";
import { any, checkOptions, expect, isCount, oneOf, shown } from "../base/check.ts";
import { bytesOf, imageOf, nameOf } from "./checks.ts";
import { nearest, type Resample, resized } from "./resample.ts";

/** Makes an image of an image; whatever is left to chance comes from `random`. */
export interface Transform {
  (image: Image, random: Random): Image;
  /** Where a part of the image is resized first: which, and what follows. A file need not be decoded beyond it. */
  readonly begins?: { part(image: Extent, random: Random): Part; rest: Transform };
  /** What a cut leaves of an image: right behind a resize nothing else is computed. */
  readonly keeps?: (image: Extent) => Box;
  /** What it is, with its options, if it is one of this package or a function of yours that was given a text. */
  readonly description?: string | undefined;
}

/**
 * What a transform is, as far as can be told: those of this package by their names and options, a function of your own by its
 * name and its source text. What that takes from outside, a strength say, cannot be seen: a text of your own says it.
 *
 * @returns A text, or undefined for a function without a name, or for one composed of such.
 *
 * @example
 * ```ts
 * import { compose, describeTransform, horizontalFlip, type Image, resize } from "nepa";
 * import { assertEquals } from "@std/assert";
 *
 * assertEquals(describeTransform(compose(resize(14), horizontalFlip())), 'compose(resize(14, "bilinear"), horizontalFlip(0.5))');
 * const darker = (by: number) =>
 *   Object.assign((image: Image) => ({ ...image, data: image.data.map((x) => x * by) }), { description: `darker(${by})` });
 * assertEquals(describeTransform(darker(0.5)), "darker(0.5)");
 * ```
 */
export function describeTransform(transform: Transform): string | undefined {
  const { description, name } = transform;
  if (Object.hasOwn(transform, "description")) return description;
  return name ? `${name}: ${transform}` : undefined;
}

/** A transform with its name and options. */
export function described(name: string, values: readonly unknown[], transform: Transform): Transform {
  const description = `${name}(${values.map((v) => JSON.stringify(v)).join(", ")})`, { begins } = transform;
  const checked: Transform = (image, random) => transform(imageOf(name, image), random);
  return Object.assign(checked, { description, ...begins && { begins } });
}

/** A part of an image, the size to which it is brought, and what is kept of that, if not all. */
export interface Part extends Box {
  to: Extent;
  resample: Resample;
  kept?: Box;
  /** Whether no smaller version of the image will do to begin with. */
  exact?: boolean;
}

/** Height and width in pixels. */
export type Extent = Pick<Image, "height" | "width">;

/** What may be said of a filter. */
export const RESAMPLE = oneOf("bilinear", "bicubic");

const same: Transform = (image) => image;

/** All of an image. */
export const wholeOf = ({ height, width }: Extent): Box => ({ top: 0, left: 0, height, width });

/** A transform that begins with a part of the image, resized, and its mask. */
export function beginning(part: (image: Extent, random: Random) => Part, rest: Transform = same): Transform {
  const composed = (image: Image, random: Random) => {
    const chosen = part(image, random), { to, resample, kept, ...box } = chosen, { mask } = image;
    const made = resized(imageOf("image", image), to, resample, box, kept);
    return rest(mask ? { ...made, mask: nearest(mask, image, chosen) } : made, random);
  };
  return Object.assign(composed, { begins: { part, rest } });
}

/** How images become floats: per channel, or one number for all. */
export interface Normalisation {
  /** Subtracted after x / 255. */
  imageMean: readonly number[];
  /** Divided by, after that. */
  imageStd: readonly number[];
  /** What 0 to 255 is multiplied by first. Default 1 / 255. */
  rescaleFactor?: number;
}

/**
 * 8-bit images as the floats that a model takes: (x / 255 - mean) / std, channel by channel. `forward` does so itself
 * where it is given int32.
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
  { imageMean, imageStd, rescaleFactor = 1 / 255 }: Normalisation,
): Float32Array {
  const channels = shape.at(-1) ?? 0, bytes = bytesOf("normalize: images [B,H,W,C]", images, shape);
  expect(shape.length === 4, "normalize", "images [B,H,W,C]", `[${shape}]`);
  const tables = Array.from({ length: channels }, (_, c) => {
    const [mean = NaN, std = NaN] = [imageMean, imageStd].map((each) => each[each.length === 1 ? 0 : c]);
    const expected = `a mean and a positive std for each of ${channels} channels`;
    expect(mean === mean && std > 0, "normalize", expected, `mean [${imageMean}], std [${imageStd}]`);
    const [from, by] = [Math.fround(mean), Math.fround(std)]; // float32 throughout, as the official code computes
    const value = (x: number) => Math.fround(Math.fround(x / (1 / rescaleFactor)) - from) / by;
    return Float32Array.from({ length: 256 }, (_, x) => value(x));
  });
  const { length } = bytes, out = new Float32Array(length);
  for (let c = 0; c < channels; c++) {
    const table = tables[c]!;
    for (let i = c; i < length; i += channels) out[i] = table[bytes[i]!]!;
  }
  return out;
}

/**
 * Mirrors an image left to right.
 *
 * @param probability Of doing so, 0 to 1. Default 0.5.
 * @throws {RangeError} If it is another number.
 *
 * @example
 * ```ts
 * import { horizontalFlip, Random } from "nepa";
 * import { assertEquals } from "@std/assert";
 *
 * const image = { data: new Uint8Array([1, 2, 3]), height: 1, width: 3, channels: 1 };
 * assertEquals([...horizontalFlip(1)(image, new Random(0)).data], [3, 2, 1]);
 * ```
 */
export function horizontalFlip(probability = 0.5): Transform {
  expect(probability >= 0 && probability <= 1, "horizontalFlip", "a probability from 0 to 1", probability);
  const mirror = (image: Image) => withMask(image, mirrored);
  const flip: Transform = (image, random) => random.uniform() < probability ? mirror(image) : image;
  return described("horizontalFlip", [probability], flip);
}

/** The same done to an image's pixels and to its mask. */
export function withMask(image: Image, change: (image: Image) => Image): Image {
  const { mask, height, width } = image, made = change(image);
  return mask ? { ...made, mask: change({ data: mask, height, width, channels: 1 }).data } : made;
}

function mirrored({ data, height, width, channels }: Image): Image {
  const out = new Uint8Array(data.length), line = width * channels;
  for (let c = 0; c < channels; c++) {
    for (let start = c; start < data.length; start += line) {
      for (let to = start, from = start + line - channels; from >= start; from -= channels, to += channels) {
        out[to] = data[from]!;
      }
    }
  }
  return { data: out, height, width, channels };
}

/** A number for both sides, or each. */
export type Size = number | Extent;

/** Height and width. */
export const sides = (size: Size): Extent => typeof size === "number" ? { height: size, width: size } : size;

/** A size, if it is one in whole pixels. */
export function checkedSize(name: string, size: Size): Size {
  const { height, width } = sides(size);
  expect(isCount(height) && isCount(width), name, "sides in whole pixels, from 1", `${height}x${width}`);
  return size;
}

/**
 * Resizes as Pillow 13 does, bit for bit: antialiased when shrinking, one axis after the other, each pass rounded to
 * 8 bits.
 *
 * @param size The shorter side, aspect kept (the longer one is rounded down), or height and width.
 * @param resample Default "bilinear".
 * @throws {RangeError} If the size is not one in pixels.
 *
 * @example
 * ```ts
 * import { Random, resize } from "nepa";
 * import { assertEquals } from "@std/assert";
 *
 * const image = { data: new Uint8Array([0, 100, 200, 44]), height: 2, width: 2, channels: 1 };
 * assertEquals([...resize({ height: 1, width: 1 })(image, new Random(0)).data], [86]);
 * ```
 */
export function resize(size: Size, resample: Resample = "bilinear"): Transform {
  checkedSize("resize", size);
  checkOptions("resize", { resample }, { resample: RESAMPLE });
  const part = (image: Extent) => ({ ...wholeOf(image), to: target(image, size), resample });
  return described("resize", [size, resample], beginning(part));
}

/** What comes out where the shorter side is brought to a size, or both are to one each. */
export function target({ height, width }: Extent, size: Size): Extent {
  if (typeof size !== "number") return size;
  const long = Math.max(1, Math.floor(size * Math.max(height, width) / Math.min(height, width)));
  return width <= height ? { height: long, width: size } : { height: size, width: long };
}

/**
 * Cuts out the middle. An odd rest is split with halves rounded to even, as torchvision does.
 *
 * @throws {RangeError} If the size is not one in pixels, or an image is smaller.
 *
 * @example
 * ```ts
 * import { centerCrop, Random } from "nepa";
 * import { assertEquals } from "@std/assert";
 *
 * const image = { data: new Uint8Array([1, 2, 3]), height: 1, width: 3, channels: 1 };
 * assertEquals([...centerCrop(1)(image, new Random(0)).data], [2]);
 * ```
 */
export function centerCrop(size: Size): Transform {
  const { height, width } = sides(checkedSize("centerCrop", size));
  const keeps = (image: Extent) => {
    const fits = image.height >= height && image.width >= width, got = `${image.height}x${image.width}`;
    expect(fits, "centerCrop", `an image of at least ${height}x${width}`, `${got}; resize it first`);
    const [top, left] = [roundEven((image.height - height) / 2), roundEven((image.width - width) / 2)];
    return { top, left, height, width };
  };
  return Object.assign(described("centerCrop", [size], (image) => cropped(image, keeps(image))), { keeps });
}

type Range = readonly [least: number, greatest: number];

/** Options of {@linkcode randomResizedCrop}. */
export interface RandomResizedCropOptions {
  /** What comes out. */
  size: Size;
  /** Least and greatest part of the image's area that is cut out. Default [0.08, 1]. */
  scale?: Range;
  /** Least and greatest width / height of the cut. Default [3/4, 4/3]. */
  ratio?: Range;
  /** Default "bilinear". */
  resample?: Resample;
}

/**
 * Cuts out a random part and resizes it (torchvision's rules: area uniform, aspect log-uniform, ten tries, then the
 * greatest middle part with an allowed aspect).
 *
 * @throws {RangeError} If an option cannot be.
 *
 * @example
 * ```ts
 * import { Random, randomResizedCrop } from "nepa";
 * import { assertEquals } from "@std/assert";
 *
 * const image = { data: new Uint8Array(28 * 28), height: 28, width: 28, channels: 1 };
 * const crop = randomResizedCrop({ size: 14, scale: [0.3, 1] })(image, new Random(0));
 * assertEquals([crop.height, crop.width], [14, 14]);
 * ```
 */
export function randomResizedCrop(options: RandomResizedCropOptions): Transform {
  checkOptions("randomResizedCrop", options, { size: any, scale: any, ratio: any, resample: RESAMPLE });
  const { size, scale = [0.08, 1], ratio = [3 / 4, 4 / 3], resample = "bilinear" } = options;
  const out = sides(checkedSize("randomResizedCrop", size));
  const holds = scale[0] > 0 && scale[0] <= scale[1] && scale[1] <= 1 && ratio[0] > 0 && ratio[0] <= ratio[1];
  const expected = "0 < scale <= 1 and 0 < ratio, each [least, greatest]";
  expect(holds, "randomResizedCrop", expected, `[${scale}], [${ratio}]`);
  const draw = (image: Extent, random: Random) => drawBox(image, scale, ratio, random);
  const part = (image: Extent, random: Random) => ({ ...draw(image, random), to: out, resample });
  return described("randomResizedCrop", [{ size, scale, ratio, resample }], beginning(part));
}

function drawBox(image: Extent, scale: Range, [low, high]: Range, random: Random): Box {
  for (let attempt = 0; attempt < 10; attempt++) {
    const area = image.height * image.width * random.uniform(scale[0], scale[1]);
    const aspect = Math.exp(random.uniform(Math.log(low), Math.log(high)));
    const width = roundEven(Math.sqrt(area * aspect)), height = roundEven(Math.sqrt(area / aspect));
    if (width < 1 || height < 1 || width > image.width || height > image.height) continue;
    const top = random.integer(image.height - height + 1), left = random.integer(image.width - width + 1);
    return { top, left, height, width };
  }
  const aspect = image.width / image.height;
  const height = aspect < low ? roundEven(image.width / low) : image.height;
  const width = aspect > high ? roundEven(image.height * high) : image.width;
  return { top: (image.height - height) >> 1, left: (image.width - width) >> 1, height, width };
}

/** A part of an image, and of its mask. */
export function cropped(image: Image, { top, left, height, width }: Box): Image {
  return withMask(image, ({ data, width: from, channels }) => {
    const out = new Uint8Array(height * width * channels), row = width * channels;
    for (let y = 0; y < height; y++) {
      const start = ((top + y) * from + left) * channels;
      out.set(data.subarray(start, start + row), y * row);
    }
    return { data: out, height, width, channels };
  });
}

/**
 * One transform after another; all draw from one stream.
 *
 * @example
 * ```ts
 * import { centerCrop, compose, horizontalFlip, Random, resize } from "nepa";
 * import { assertEquals } from "@std/assert";
 *
 * const prepare = compose(resize(32, "bicubic"), centerCrop(28), horizontalFlip());
 * const image = { data: new Uint8Array(40 * 50 * 3), height: 40, width: 50, channels: 3 };
 * assertEquals(prepare(image, new Random(0)).width, 28);
 * ```
 */
export function compose(...transforms: readonly Transform[]): Transform {
  const wrong = transforms.findIndex((f) => typeof f !== "function");
  if (wrong >= 0) {
    throw new TypeError(`compose: expected functions, got ${shown(transforms[wrong])} in place ${wrong}`);
  }
  const [{ begins } = same, ...others] = transforms, parts = transforms.map(describeTransform);
  const cut = begins?.rest === same ? others[0]?.keeps : undefined; // what a cut leaves out is not computed
  const composed: Transform = begins
    ? beginning(
      (image, random) => {
        const part = begins.part(image, random);
        return cut ? { ...part, kept: cut(part.to) } : part;
      },
      cut ? compose(...others.slice(1)) : compose(begins.rest, ...others),
    )
    : (image, random) => transforms.reduce((made, f) => imageOf(nameOf(f), f(made, random)), image);
  const description = parts.includes(undefined) ? undefined : `compose(${parts.join(", ")})`;
  return Object.assign(composed, { description });
}
