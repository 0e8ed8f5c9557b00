/** Labelled images: what a data set is. @module */
import { expect, shown } from "../base/check.ts";
import type { Random } from "../base/random.ts";
import { overlaid } from "../display/masks.ts";
import type { Picture } from "../display/pictures.ts";
import type { Extent, Transform } from "./transforms.ts";

/** One image, 8 bits a channel. */
export interface Image {
  /** Rows from the top, pixels from the left, channels together: [height, width, channels]. */
  data: Uint8Array;
  height: number;
  width: number;
  channels: number;
  /** [height, width] the class of each pixel, {@linkcode IGNORED} for none, of an image with a mask. */
  mask?: Uint8Array;
}

/** What a mask has where no class is meant: such pixels count neither in a loss nor in a score. */
export const IGNORED = 255;

/** One labelled image. */
export interface Example {
  /** [height, width, channels], 0 to 255; a copy. */
  image: Uint8Array;
  /** Index into the data set's `classes`; -1 for an image without a label. */
  label: number;
  /** [height, width] as in {@linkcode Image}, of a data set with masks; a copy. */
  mask?: Uint8Array;
}

/** Several labelled images together. */
export interface Batch {
  /** [B, H, W, C], 0 to 255. */
  images: Uint8Array;
  /** B, H, W, C. */
  shape: [number, number, number, number];
  /** [B] indices into the data set's `classes`; -1 for an image without a label. */
  labels: Int32Array;
  /** [B] where in the data set each came from. */
  indices: Int32Array;
  /** B. */
  size: number;
  /** [B, H, W] the class of each pixel, {@linkcode IGNORED} for none, of a data set with masks. */
  masks?: Uint8Array;
}

/** Options of {@linkcode Dataset.batches}. */
export interface BatchOptions {
  /** Images in a batch, from 1. */
  size: number;
  /** The order of the images depends on this and `epoch` alone. Default 0. */
  seed?: number;
  /** Which pass over the data, from 0: another epoch, another order. Default 0. */
  epoch?: number;
  /** Default true. False: the data set's own order. */
  shuffle?: boolean;
  /** Leave out the last batch where it would be smaller than the others. Default true. */
  dropLast?: boolean;
  /** The batch to begin with, from 0. Default 0. */
  from?: number;
  /** What is done to each image. Default: nothing. */
  change?: Change;
}

/** What is done to the images of a pass. */
export interface Change {
  transform: Transform;
  /** What comes out. */
  size: Extent;
  /** Chance for the image at a position of the pass, from 0. */
  random(position: number): Random;
}

/** A finite, indexable set of labelled images of one size. Those in memory are a {@linkcode MemoryDataset}. */
export interface Dataset {
  readonly name: string;
  /** Number of images. */
  readonly length: number;
  /** Names of the classes; a label is an index into it. None: the images have no labels. */
  readonly classes: readonly string[];
  /** [length] the label of each image, -1 for none; zeros where there are no classes. */
  readonly labels: Int32Array;
  readonly height: number;
  readonly width: number;
  readonly channels: number;
  /** Whether images have masks: `classes` are those of pixels then, and no image has a label. Default false. */
  readonly masked?: boolean;
  /** Changes when the images do: `fingerprintOf` takes it for those of data sets of your own. */
  readonly fingerprint?: string;
  /** Image `i`, from 0. Throws a `RangeError` outside. */
  get(i: number): Example | Promise<Example>;
  /**
   * A smaller data set over the same pixels. A fraction is the head of one permutation, so that `subset(0.2)` lies within
   * `subset(0.8)`: for parts to train and to test by, take {@linkcode SplittableDataset.split}.
   *
   * @param which Indices in the order wanted, or the fraction (0 < fraction <= 1) to draw at random.
   * @param seed Of the draw. Default 0.
   */
  subset(which: readonly number[] | Int32Array | number, seed?: number): Dataset;
  /** `perClass` images of each class drawn at random, in the data set's order: for experiments with few labels. */
  balanced(perClass: number, seed?: number): Dataset;
  /** One pass over the images; `for await` takes either. */
  batches(options: BatchOptions): Iterable<Batch> | AsyncIterable<Batch>;
}

/** Options of {@linkcode SplittableDataset.split}. */
export interface SplitOptions {
  /** Of the draw. Default 0. */
  seed?: number;
  /** Whether each part has each class's share of the images. Default false. */
  stratified?: boolean;
}

/** A {@linkcode Dataset} of the library's, which can be cut into parts. */
export interface SplittableDataset extends Dataset {
  subset(which: readonly number[] | Int32Array | number, seed?: number): this;
  balanced(perClass: number, seed?: number): this;
  /**
   * Parts drawn at random of which no two have an image in common, each in the data set's order.
   *
   * @param shares Of each part: above 0, together at most 1.
   * @returns As many data sets over the same pixels.
   * @throws {RangeError} If the shares cannot be, a part would have no image, or, stratified, an image has no label.
   *
   * @example
   * ```ts
   * import { fashionMnist } from "nepa";
   * import { assertEquals } from "@std/assert";
   *
   * const [fitted, judged] = (await fashionMnist()).test.split([0.8, 0.2], { seed: 1, stratified: true });
   * assertEquals([fitted.length, judged.length], [8000, 2000]);
   * ```
   */
  split<const S extends readonly number[]>(shares: S, options?: SplitOptions): Parts<S, this>;
}

/** As many data sets as there are shares. */
export type Parts<S extends readonly number[], D> = { -readonly [K in keyof S]: D };

/** A {@linkcode Dataset} whose images are there at once. */
export interface MemoryDataset extends SplittableDataset {
  get(i: number): Example;
  batches(options: BatchOptions): Iterable<Batch>;
}

/** A data set's labels, before they are known to be such. */
type Given = Pick<Dataset, "name" | "length" | "classes" | "masked"> & { labels: ArrayLike<number | null> };

/** Refuses a data set without images, or with a label that is none of its classes'; -1 and null, none, where each needs one. */
function checkLabels({ name, length, labels, classes, masked }: Given, each: boolean): void {
  expect(!masked, name, "images with a label each", "images with masks");
  const count = classes.length, got = `${labels.length} labels`;
  expect(length >= 1, name, "at least one image", "none");
  expect(count >= 1, name, "labelled images", "images without classes");
  expect(labels.length === length, name, `a label for each of ${length} images`, got);
  const none = (label: number | null | undefined) => label === null || label === -1;
  const fits = (label: number | null | undefined) =>
    none(label) ? !each : Number.isInteger(label) && label! >= 0 && label! < count;
  let i = 0;
  while (i < length && fits(labels[i])) i++;
  if (i >= length) return;
  const help = none(labels[i])
    ? ", which is none; leave such images out by `subset`, of `labels` above -1"
    : "";
  expect(false, `${name}: image ${i}`, `a label from 0 to ${count - 1}`, `${shown(labels[i])}${help}`);
}

/** Images whose pixels have classes; each of its images, examples and batches has its mask. */
export interface SegmentationSet extends SplittableDataset {
  readonly masked: true;
  get(i: number): Promise<Required<Example>>;
  /** Image `i` and its mask at their own size, which is not the same for all, turned upright; for scores. */
  original(i: number): Promise<Required<Image>>;
  batches(options: BatchOptions): AsyncIterable<Required<Batch>>;
}

/** Refuses a data set without images, or with one that has no label or none of its classes'. */
export function refuseMislabelled(given: Given): void {
  checkLabels(given, true);
}

/** The same of a set that is fitted to, with one class alone too. */
export function refuseUnfit(given: Given): void {
  checkLabels(given, true);
  const { name, classes } = given;
  expect(classes.length > 1, name, "two classes or more, a folder for each", `one, ${classes[0]}`);
}

/** Labels as they are given, null or -1 for none; refuses those that are none of the classes'. */
export function labelsOf(given: Given): Int32Array {
  checkLabels(given, false);
  return Int32Array.from(given.labels, (label) => label ?? -1);
}

/** Images of a set as pictures, their classes below them, or their masks over them. */
export function picturesOf(set: Dataset, indices: Iterable<number>): Promise<Picture[]> {
  const { height, width, channels, classes } = set, none = classes.length > 0 ? "no label" : "";
  return Promise.all(Array.from(indices, async (i) => {
    const { image: data, label, mask } = await set.get(i), picture = { data, height, width, channels };
    return mask ? overlaid(picture, mask) : { ...picture, caption: classes[label] ?? none };
  }));
}

/** Refuses images that the network cannot take; their size counts where nothing resizes them. */
export function refuseMisfit(
  { name, height, width, channels }: Dataset,
  { imageSize: size, numChannels }: { imageSize: number; numChannels: number },
  sized: boolean,
): void {
  const fits = !sized || height === size && width === size, got = `${height}x${width}`;
  expect(channels === numChannels, name, `images with ${numChannels} channels, as the network has`, channels);
  expect(fits, name, `images of ${size}x${size}, as the network's`, `${got}; resize them in \`augment\``);
}
