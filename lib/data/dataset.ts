/** Labelled images: what a data set is. @module */
import { expect } from "../base/check.ts";
import type { Random } from "../base/random.ts";
import type { Extent, Transform } from "./transforms.ts";

/** One image, 8 bits a channel. */
export interface Image {
  /** Rows from the top, pixels from the left, channels together: [height, width, channels]. */
  data: Uint8Array;
  height: number;
  width: number;
  channels: number;
}

/** One labelled image. */
export interface Example {
  /** [height, width, channels], 0 to 255; a copy. */
  image: Uint8Array;
  /** Index into the data set's `classes`. */
  label: number;
}

/** Several labelled images together. */
export interface Batch {
  /** [B, H, W, C], 0 to 255. */
  images: Uint8Array;
  /** B, H, W, C. */
  shape: [number, number, number, number];
  /** [B] indices into the data set's `classes`. */
  labels: Int32Array;
  /** [B] where in the data set each came from. */
  indices: Int32Array;
  /** B. */
  size: number;
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
  /** [length] the label of each image; zeros where there are no classes. */
  readonly labels: Int32Array;
  readonly height: number;
  readonly width: number;
  readonly channels: number;
  /** Changes when the images do: `fingerprintOf` takes it for those of data sets of your own. */
  readonly fingerprint?: string;
  /** Image `i`, from 0. Throws a `RangeError` outside. */
  get(i: number): Example | Promise<Example>;
  /**
   * A smaller data set over the same pixels.
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

/** A {@linkcode Dataset} whose images are there at once. */
export interface MemoryDataset extends Dataset {
  get(i: number): Example;
  subset(which: readonly number[] | Int32Array | number, seed?: number): MemoryDataset;
  balanced(perClass: number, seed?: number): MemoryDataset;
  batches(options: BatchOptions): Iterable<Batch>;
}

/** A data set's labels, before they are known to be such. */
type Labelled = Pick<Dataset, "name" | "length" | "classes"> & { labels: ArrayLike<number> };

/** Refuses a data set without images, or with a label that is none of its classes'. */
export function refuseMislabelled({ name, length, labels, classes }: Labelled): void {
  const count = classes.length, got = `${labels.length} labels`;
  expect(length >= 1, name, "at least one image", "none");
  expect(count >= 1, name, "labelled images", "images without classes");
  expect(labels.length === length, name, `a label for each of ${length} images`, got);
  let i = 0;
  while (i < length && Number.isInteger(labels[i]) && labels[i]! >= 0 && labels[i]! < count) i++;
  expect(i >= length, `${name}: image ${i}`, `a label from 0 to ${count - 1}`, labels[i]);
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
