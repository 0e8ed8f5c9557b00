/** Labelled images: what a data set is, and the one kept in memory. @module */
import { consoleDisplay, jupyterDisplay, type MediaBundle } from "../display/jupyter.ts";
import { imageGrid, type Picture } from "../display/pictures.ts";
import { Random } from "../random.ts";
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
  /** Names of the classes; a label is an index into it. */
  readonly classes: readonly string[];
  /** [length] the label of each image. */
  readonly labels: Int32Array;
  readonly height: number;
  readonly width: number;
  readonly channels: number;
  /** Changes when the images do, for sets that lie in files. */
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

/** What {@linkcode arrayDataset} needs. */
export interface ArrayDatasetOptions {
  name: string;
  /** [N, H, W, C], 0 to 255. Kept, not copied. */
  images: Uint8Array;
  /** N, H, W, C. */
  shape: readonly [number, number, number, number];
  /** [N] indices into `classes`. */
  labels: ArrayLike<number>;
  classes: readonly string[];
}

/**
 * A data set from arrays in memory.
 *
 * @throws {RangeError} If a length does not fit the shape, there are no images, or a label is outside the classes.
 *
 * @example
 * ```ts
 * import { arrayDataset } from "nepa";
 * import { assertEquals } from "@std/assert";
 *
 * const data = arrayDataset({
 *   name: "two greys",
 *   images: new Uint8Array([0, 0, 0, 0, 255, 255, 255, 255]),
 *   shape: [2, 2, 2, 1],
 *   labels: [0, 1],
 *   classes: ["black", "white"],
 * });
 * assertEquals(data.get(1).label, 1);
 * ```
 */
export function arrayDataset(options: ArrayDatasetOptions): MemoryDataset {
  const { images, shape, classes } = options, [n, h, w, c] = shape;
  const labels = Int32Array.from(options.labels);
  if (n < 1) throw new RangeError(`${options.name}: expected at least one image, got none`);
  if (images.length !== n * h * w * c) {
    throw new RangeError(
      `${options.name}: expected ${n * h * w * c} bytes for images [${shape}], got ${images.length}`,
    );
  }
  if (labels.length !== n) {
    throw new RangeError(
      `${options.name}: expected a label for each of ${n} images, got ${labels.length} labels`,
    );
  }
  const wrong = labels.findIndex((label, i) =>
    label !== options.labels[i] || label < 0 || label >= classes.length
  );
  if (wrong >= 0) {
    throw new RangeError(
      `${options.name}: image ${wrong} has label ${options.labels[wrong]}, expected an integer from 0 to ` +
        `${classes.length - 1} (${classes.length} classes)`,
    );
  }
  const [height, width, channels] = [h, w, c], { name } = options;
  const rows = Int32Array.from({ length: n }, (_, i) => i);
  return new ArrayDataset({ name, classes, height, width, channels, labels, images }, rows);
}

/** What all images of a set share, whatever subset is looked at. */
export interface Whole extends Pick<Dataset, "name" | "classes" | "height" | "width" | "channels"> {
  /** [all images] */
  labels: Int32Array;
}

/** Some of the images of a whole, by their rows in it. */
export abstract class Rows<W extends Whole> {
  readonly name: string;
  readonly classes: readonly string[];
  readonly labels: Int32Array;
  readonly height: number;
  readonly width: number;
  readonly channels: number;
  protected readonly whole: W;
  protected readonly rows: Int32Array;

  constructor(whole: W, rows: Int32Array) {
    this.whole = whole;
    this.rows = rows;
    ({ name: this.name, classes: this.classes, height: this.height } = whole);
    ({ width: this.width, channels: this.channels } = whole);
    this.labels = rows.map((row) => whole.labels[row]!);
  }

  /** Other rows of the same. */
  protected abstract of(rows: Int32Array): this;
  abstract get(i: number): Example | Promise<Example>;

  get length(): number {
    return this.rows.length;
  }

  protected checked(i: number): number {
    if (!Number.isInteger(i) || i < 0 || i >= this.length) {
      throw new RangeError(`${this.name}: expected an index from 0 to ${this.length - 1}, got ${i}`);
    }
    return i;
  }

  toString(): string {
    const { name, length, height, width, channels, classes } = this;
    const count = (label: number) => this.labels.reduce((n, l) => n + Number(l === label), 0);
    const shown = classes.slice(0, 20).map((kind, label) => `${kind} ${count(label)}`).join(", ");
    return `${name}: ${length} images ${height}×${width}×${channels}, ${classes.length} classes\n` +
      `(${shown}${classes.length > 20 ? ", …" : ""})`;
  }

  [consoleDisplay](): string {
    return this.toString();
  }

  /** Two images of each of the first ten classes. */
  async [jupyterDisplay](): Promise<MediaBundle> {
    const { height, width, channels } = this, shown = Math.min(10, this.classes.length);
    const found = Array.from({ length: shown }, (): number[] => []);
    this.labels.forEach((label, i) => label < shown && found[label]!.length < 2 && found[label]!.push(i));
    const chosen = [0, 1].flatMap((nth) => found.map((indices) => indices[nth])).filter((i) =>
      i !== undefined
    );
    const pictures = await Promise.all(chosen.map(async (i): Promise<Picture> => {
      const { image, label } = await this.get(i);
      return { data: image, height, width, channels, caption: this.classes[label]! };
    }));
    const grid = imageGrid(pictures, { columns: shown, size: 64, title: this.name });
    return { ...await grid[jupyterDisplay](), "text/plain": this.toString() };
  }

  subset(which: readonly number[] | Int32Array | number, seed = 0): this {
    if (typeof which === "number") {
      if (!(which > 0 && which <= 1)) {
        throw new RangeError(
          `${this.name}: expected a fraction above 0 and up to 1, or a list of indices, got ${which}`,
        );
      }
      const count = Math.max(1, Math.round(which * this.length));
      which = new Random(seed, "subset").permutation(this.length).slice(0, count).sort();
    }
    if (which.length === 0) {
      throw new RangeError(`${this.name}: expected at least one index, got an empty subset`);
    }
    return this.of(Int32Array.from(which, (i) => this.rows[this.checked(i)]!));
  }

  balanced(perClass: number, seed = 0): this {
    if (!Number.isInteger(perClass) || perClass < 1) {
      throw new RangeError(
        `${this.name}: expected a whole number of images per class, from 1, got ${perClass}`,
      );
    }
    const taken = this.classes.map((): number[] => []);
    for (const i of new Random(seed, "balanced").permutation(this.length)) {
      const ofClass = taken[this.labels[i]!]!;
      if (ofClass.length < perClass) ofClass.push(i);
    }
    const short = taken.findIndex((indices) => indices.length < perClass);
    if (short >= 0) {
      throw new RangeError(
        `${this.name}: expected ${perClass} images of each class, class "${this.classes[short]}" has ` +
          `${taken[short]!.length}; ask for fewer`,
      );
    }
    return this.subset(taken.flat().sort((a, b) => a - b));
  }

  /** The indices of each batch of a pass, in order. */
  protected order(options: BatchOptions): Int32Array[] {
    const { size, seed = 0, epoch = 0, shuffle = true, dropLast = true, from = 0 } = options;
    if (!Number.isInteger(size) || size < 1) {
      throw new RangeError(`batch size: expected a whole number from 1, got ${size}`);
    }
    if (dropLast && size > this.length) {
      throw new RangeError(
        `batch size: expected at most the ${this.length} images of ${this.name}, got ${size}; ` +
          `make it smaller, or keep the partial batch with dropLast: false`,
      );
    }
    const order = shuffle
      ? new Random(seed, "epoch", epoch).permutation(this.length)
      : Int32Array.from({ length: this.length }, (_, i) => i);
    const count = dropLast ? Math.floor(this.length / size) : Math.ceil(this.length / size);
    const batch = (k: number) => order.subarray((from + k) * size, (from + k + 1) * size);
    return Array.from({ length: Math.max(0, count - from) }, (_, k) => batch(k));
  }

  /** Images of one size as a batch. */
  protected batch(pixels: readonly Uint8Array[], indices: Int32Array, change: Change | undefined): Batch {
    const { channels, labels } = this, { height, width } = change?.size ?? this;
    const size = indices.length, bytes = height * width * channels, images = new Uint8Array(size * bytes);
    pixels.forEach((image, k) => images.set(image, k * bytes));
    return {
      images,
      shape: [size, height, width, channels], // B, H, W, C
      labels: indices.map((i) => labels[i]!),
      indices: indices.slice(),
      size,
    };
  }
}

/** Refuses a data set without images, or with a label that is none of its classes'. */
export function refuseMislabelled({ name, length, labels, classes }: Dataset): void {
  if (!(length >= 1)) throw new RangeError(`${name}: expected at least one image, got none`);
  const count = classes.length,
    wrong = labels.findIndex((label) => !(Number.isInteger(label) && label >= 0 && label < count));
  if (wrong >= 0) {
    throw new RangeError(
      `${name}: image ${wrong}: expected a label from 0 to ${count - 1}, got ${labels[wrong]}`,
    );
  }
}

/** The pixels of an image that came out of a transform. Throws a `RangeError` if their size is not the one expected. */
export function pixelsOf(
  made: Image,
  { height, width }: Extent,
  channels: number,
  index: number,
): Uint8Array {
  const got = [made.height, made.width, made.channels], expected = [height, width, channels];
  if (got.join() === expected.join()) return made.data;
  throw new RangeError(
    `augment: image ${index}: expected ${expected.join("x")} to come out, got ${got.join("x")}; ` +
      "end it with a resize",
  );
}

class ArrayDataset extends Rows<Whole & { images: Uint8Array }> implements MemoryDataset {
  protected override of(rows: Int32Array): this {
    return new ArrayDataset(this.whole, rows) as this;
  }

  #pixels(i: number): Uint8Array {
    const size = this.height * this.width * this.channels, row = this.rows[i]!;
    return this.whole.images.subarray(row * size, (row + 1) * size);
  }

  override get(i: number): Example {
    return { image: this.#pixels(this.checked(i)).slice(), label: this.labels[i]! };
  }

  batches(options: BatchOptions): Iterable<Batch> {
    return this.#passes(this.order(options), options);
  }

  *#passes(order: readonly Int32Array[], { size: B, from = 0, change }: BatchOptions): Generator<Batch> {
    const { height, width, channels } = this;
    for (const [k, indices] of order.entries()) {
      const pixels = Array.from(indices, (i, j) => {
        const data = this.#pixels(i);
        if (!change) return data;
        const made = change.transform(
          { data, height, width, channels },
          change.random((from + k) * B + j),
        );
        return pixelsOf(made, change.size, channels, i);
      });
      yield this.batch(pixels, indices, change);
    }
  }
}
