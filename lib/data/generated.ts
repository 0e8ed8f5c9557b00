/** Data sets that are a function from a number to an image. @module */
import { any, callable, checkOptions, count, expect, isCount } from "../base/check.ts";
import { numberThat, oneOf, text } from "../base/check.ts";
import type { Random } from "../base/random.ts";
import { maskIn, pixelsIn, refuseMissing } from "./checks.ts";
import type { Change, Image, SegmentationSet, SplittableDataset } from "./dataset.ts";
import { labelsOf } from "./dataset.ts";
import { hashOf } from "./kept.ts";
import { Fetched, type Made, type Whole } from "./rows.ts";

/** What {@linkcode generatedImages} needs. */
export interface GeneratedImagesOptions {
  /**
   * Image `i`, from 0: its pixels [height, width, channels], 0 to 255, or all of an `Image`; always the same for the same
   * `i`. It is called each time that the image is needed, once for each of its views, for one image after another, and what it
   * gives is copied.
   */
  get: (i: number) => Uint8Array | Image | Promise<Uint8Array | Image>;
  /** Number of images. */
  length: number;
  /** Size of the images. Default, as of the next two: as `get(0)` says, where that is an `Image` and no promise. */
  height?: number;
  width?: number;
  channels?: number;
  /**
   * [length] indices into `classes`, or a function that gives the one of image `i`; null or -1 for an image without a label.
   * Default: no image has one.
   */
  labels?: ArrayLike<number | null> | ((i: number) => number | null);
  classes?: readonly string[];
  /** True: each image is an `Image` with a `mask` of the `classes`, and has no label. */
  masks?: true;
  /** Default "generated images". */
  name?: string;
  /** A text that changes when the images do. Default: a resumed training compares 64 of the images. */
  fingerprint?: string;
}

type Generated = Whole & Pick<GeneratedImagesOptions, "get"> & { fingerprint: string | undefined };

class GeneratedDataset extends Fetched<Generated> implements SplittableDataset {
  protected override readonly beside = 1; // `get` may give the same array, filled anew

  protected override async pixels(i: number, random: Random, change?: Change): Promise<Made> {
    const { height, width, channels, classes } = this, row = this.rows[i]!, given = this.whole.get(row);
    const at = `${this.name}: get(${row})`;
    const made = given instanceof Promise ? await given : given; // no turn is waited for where there is nothing to wait for
    const image = isImage(made) ? made : { data: made, height, width, channels };
    const data = pixelsIn(at, image, [height, width, channels]).slice();
    const plain = this.masked ? { data, mask: maskIn(at, image, classes.length).slice() } : { data };
    return change ? this.changed(i, plain, change, random) : plain;
  }

  override contents(): string | undefined {
    return this.whole.fingerprint && hashOf(this.whole.fingerprint, this.rows);
  }
}

const isImage = (made: unknown): made is Image =>
  typeof made === "object" && made !== null && "height" in made;

/** The size that is given, or that of the first image. */
function sizeOf({ name, get, ...given }: GeneratedImagesOptions & { name: string }) {
  const known = Boolean(given.height && given.width && given.channels), first = known ? given : get(0);
  const help = "something else; give `height`, `width` and `channels`";
  expect(known || isImage(first), `${name}: get(0)`, "an image { data, height, width, channels }", help);
  const { height, width, channels } = { ...first as Image, ...given };
  return { height, width, channels };
}

const length = numberThat("an integer from 1 to 2^31 - 1", (x) => isCount(x) && x < 2 ** 31);
const SIZE = { height: count, width: count, channels: count };
const TEXTS = { name: text, fingerprint: text };
const RULES = { get: callable, length, ...SIZE, labels: any, classes: any, masks: oneOf(true), ...TEXTS };

/**
 * A data set that is a function from a number to an image: images that are drawn, computed, or read from somewhere, of any
 * number, since none is kept. A training that is resumed asks for the images that it would have asked for.
 *
 * @throws {TypeError | RangeError} If an option is missing or cannot be; later, when an image is asked for, if it is not
 *   8-bit values of the size that was promised.
 *
 * @example
 * ```ts
 * import { generatedImages, Random } from "nepa";
 * import { assertEquals } from "@std/assert";
 *
 * const noise = generatedImages({
 *   length: 1_000_000,
 *   height: 8,
 *   width: 8,
 *   channels: 1,
 *   get(i) {
 *     const random = new Random(0, "image", i);
 *     return Uint8Array.from({ length: 64 }, () => random.integer(256));
 *   },
 * });
 * assertEquals((await noise.subset([7, 3]).get(1)).image, (await noise.get(3)).image);
 * ```
 */
export function generatedImages(options: GeneratedImagesOptions & { masks: true }): SegmentationSet;
export function generatedImages(options: GeneratedImagesOptions): SplittableDataset;
export function generatedImages(options: GeneratedImagesOptions): SplittableDataset {
  checkOptions("generatedImages", options, RULES);
  const { name = "generated images", get, length, labels, classes = [], fingerprint } = options;
  const { masks: masked = false } = options;
  refuseMissing("generatedImages", options, ["get", "length"]);
  const named = classes.length > 0, ofPixels = "classes of pixels and no labels, with masks: true";
  expect(masked || !labels === !named, name, "labels and classes, or neither", labels ? "labels" : "classes");
  expect(!masked || named && !labels, name, ofPixels, labels ? "labels" : "no classes");
  const given = typeof labels === "function" ? Array.from({ length }, (_, i) => labels(i)) : labels;
  const none = new Int32Array(length).fill(masked ? -1 : 0);
  const all = given ? labelsOf({ name, length, labels: given, classes }) : none;
  const size = sizeOf({ ...options, name });
  const whole = { name, get, classes, labels: all, fingerprint, origin: get, ...size, masked };
  return new GeneratedDataset(whole);
}
