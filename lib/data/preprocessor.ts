/** How images become the numbers that a network takes: the official `preprocessor_config.json` both ways. @module */
import { expect, isCount, numberThat, oneOf, type Rule, shown } from "../base/check.ts";

/** What is done to an image before the network. Heights and widths in pixels, images as 0 to 255. */
export interface Preprocessor {
  /** Subtracted, per channel, from values that `rescaleFactor` has brought to 0..1. */
  readonly imageMean: readonly number[];
  /** Divided by, per channel. */
  readonly imageStd: readonly number[];
  /** What images are resized to. */
  readonly size: { readonly height: number; readonly width: number };
  /** Filter of the resize, by Pillow's number: 2 bilinear, 3 bicubic. */
  readonly resample: number;
  /** What 0 to 255 is multiplied by first. */
  readonly rescaleFactor: number;
}

/**
 * The preprocessing of a model that has no file of its own: mean and standard deviation 0.5, so that values lie in
 * [−1, 1].
 *
 * @param imageSize Height and width in pixels.
 * @param channels Channels of an image.
 * @returns The preprocessing.
 */
export function defaultPreprocessor(imageSize: number, channels: number): Preprocessor {
  return {
    imageMean: Array(channels).fill(0.5),
    imageStd: Array(channels).fill(0.5),
    size: { height: imageSize, width: imageSize },
    resample: 2,
    rescaleFactor: 1 / 255,
  };
}

/** What reads images: its preprocessing, and its configuration where that says their size. */
interface Reader {
  readonly preprocessor: Preprocessor;
  readonly config?: { readonly imageSize?: number };
}

/** Height and width of the images that a network takes: those configured, else those of its preprocessing. */
export function imageSizeOf({ preprocessor, config }: Reader): { height: number; width: number } {
  const { height, width } = preprocessor.size, side = config?.imageSize;
  return side === undefined ? { height, width } : { height: side, width: side };
}

/** The images that a network takes: their side and their channels. */
export function shapeOf(reader: Reader): { imageSize: number; numChannels: number } {
  return { imageSize: imageSizeOf(reader).height, numChannels: reader.preprocessor.imageMean.length };
}

/**
 * The preprocessing as the official file has it.
 *
 * @param preprocessor The preprocessing.
 * @returns An object to write as JSON.
 */
export function toOfficialPreprocessor(preprocessor: Preprocessor): Record<string, unknown> {
  return {
    do_convert_rgb: null,
    do_normalize: true,
    do_rescale: true,
    do_resize: true,
    image_mean: preprocessor.imageMean,
    image_processor_type: "ViTImageProcessor",
    image_std: preprocessor.imageStd,
    resample: preprocessor.resample,
    rescale_factor: preprocessor.rescaleFactor,
    size: preprocessor.size,
  };
}

/**
 * The preprocessing in an official file; absent keys get the default's value.
 *
 * @param json The parsed file.
 * @param fallback What absent keys mean.
 * @param file What to call it in errors.
 * @returns The preprocessing.
 * @throws {RangeError} If a value cannot be.
 */
export function fromOfficialPreprocessor(
  json: Record<string, unknown>,
  fallback: Preprocessor,
  file: string = "preprocessor_config.json",
): Preprocessor {
  const pick = <T>(key: string, instead: T, [expected, holds]: Rule): T => {
    const value = json[key] ?? instead, name = `${file}: ${key}`;
    expect(value === instead || holds(value), name, expected, shown(value));
    return value as T;
  };
  const { length } = fallback.imageMean, plain = json.do_normalize === false;
  const numbers = (from: number, to: number): Rule => [
    `${length} numbers from ${from} to ${to}`,
    (value) =>
      Array.isArray(value) && value.length === length &&
      value.every(numberThat("", (x) => x >= from && x <= to)[1]),
  ];
  const size: Rule = [`a height and a width from 1 to ${LONGEST_SIDE}`, (v) => sizeOf(v) !== undefined];
  const factor = numberThat("a number from 1e-9 to 1e9", (x) => x >= 1e-9 && x <= 1e9);
  return {
    imageMean: plain ? Array(length).fill(0) : pick("image_mean", fallback.imageMean, numbers(-1e6, 1e6)),
    imageStd: plain ? Array(length).fill(1) : pick("image_std", fallback.imageStd, numbers(1e-6, 1e6)),
    size: sizeOf(pick<unknown>("size", fallback.size, size))!,
    resample: pick("resample", fallback.resample, oneOf(0, 1, 2, 3, 4, 5)),
    rescaleFactor: json.do_rescale === false ? 1 : pick("rescale_factor", fallback.rescaleFactor, factor),
  };
}

/** The longest side, in pixels, that images are resized to. */
const LONGEST_SIDE = 65_536;

/** A size is written as a number, as height and width, or by the shortest edge. */
function sizeOf(size: unknown): Preprocessor["size"] | undefined {
  const sides = typeof size === "object" ? size as Record<string, unknown> : { shortest_edge: size };
  const height = sides.height ?? sides.shortest_edge, width = sides.width ?? sides.shortest_edge;
  const whole = [height, width].every((side) => isCount(side) && side <= LONGEST_SIDE);
  return whole ? { height: height as number, width: width as number } : undefined;
}
