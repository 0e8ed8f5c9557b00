/** How images become the numbers that a network takes: the official `preprocessor_config.json` both ways. @module */
import { expect, type Rule } from "../base/check.ts";

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
 * @returns The preprocessing.
 * @throws {RangeError} If a value cannot be.
 */
export function fromOfficialPreprocessor(
  json: Record<string, unknown>,
  fallback: Preprocessor,
): Preprocessor {
  const pick = <T>(key: string, instead: T, [expected, holds]: Rule): T => {
    const value = json[key] ?? instead, name = `preprocessor_config.json: ${key}`;
    expect(value === instead || holds(value), name, expected, JSON.stringify(value));
    return value as T;
  };
  const { length } = fallback.imageMean, plain = json.do_normalize === false;
  const areNumbers = (v: unknown) => Array.isArray(v) && v.length === length && v.every(Number.isFinite);
  const numbers: Rule = [`${length} numbers`, areNumbers], number: Rule = ["a number", Number.isFinite];
  const size: Rule = ["a height and a width", (v) => sizeOf(v) !== undefined];
  return {
    imageMean: plain ? Array(length).fill(0) : pick("image_mean", fallback.imageMean, numbers),
    imageStd: plain ? Array(length).fill(1) : pick("image_std", fallback.imageStd, numbers),
    size: sizeOf(pick<unknown>("size", fallback.size, size))!,
    resample: pick("resample", fallback.resample, number),
    rescaleFactor: json.do_rescale === false ? 1 : pick("rescale_factor", fallback.rescaleFactor, number),
  };
}

/** A size is written as a number, as height and width, or by the shortest edge. */
function sizeOf(size: unknown): Preprocessor["size"] | undefined {
  const sides = typeof size === "object" ? size as Record<string, unknown> : { shortest_edge: size };
  const height = sides.height ?? sides.shortest_edge, width = sides.width ?? sides.shortest_edge;
  const whole = Number.isSafeInteger(height) && Number.isSafeInteger(width);
  return whole ? { height: height as number, width: width as number } : undefined;
}
