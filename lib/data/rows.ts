/** Data sets by their rows: what subsets of the same images share, in memory or fetched as they are asked for. @module */
import { createHash } from "node:crypto";
import { consoleDisplay, jupyterDisplay, type MediaBundle } from "../display/jupyter.ts";
import { legendOf } from "../display/masks.ts";
import { imageGrid } from "../display/pictures.ts";
import { Random } from "../base/random.ts";
import { any, checkOptions, expect, flag, index, isCount, LONG, type Rule, visible } from "../base/check.ts";
import { ahead } from "./ahead.ts";
import { bytesOf, madeOf, refuseMissing } from "./checks.ts";
import type { Batch, BatchOptions, Change, Dataset, Example, Image, MemoryDataset } from "./dataset.ts";
import { labelsOf, type Parts, picturesOf, refuseMislabelled, type SplitOptions } from "./dataset.ts";

/** What {@linkcode arrayDataset} needs. */
export interface ArrayDatasetOptions {
  name: string;
  /** [N, H, W, C], 0 to 255. Kept, not copied. */
  images: Uint8Array | Uint8ClampedArray;
  /** N, H, W, C. */
  shape: readonly [number, number, number, number];
  /** [N] indices into `classes`; null or -1 for an image without a label. Default: no image has one. */
  labels?: ArrayLike<number | null>;
  classes?: readonly string[];
}

/**
 * A data set from arrays in memory.
 *
 * @throws {TypeError} If the images are not 8-bit values: those from 0 to 1 have to be multiplied by 255 and rounded.
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
  return inMemory(options);
}

const SHAPE: Rule = [
  "four whole numbers: images, height, width, channels",
  (value) => Array.isArray(value) && value.length === 4 && value.every(Number.isSafeInteger),
];

/** {@linkcode arrayDataset} of what others of the same `origin` have. Default: of what their memory has. */
export function inMemory(options: ArrayDatasetOptions, origin?: unknown): MemoryDataset {
  const needed = { name: any, images: any, shape: SHAPE }, named = { labels: any, classes: any };
  checkOptions("arrayDataset", options, { ...needed, ...named });
  const isLabelled = options.labels !== undefined || options.classes !== undefined;
  refuseMissing("arrayDataset", options, Object.keys({ ...needed, ...isLabelled && named }));
  const { name, shape, labels: given, classes = [] } = options, [length, height, width, channels] = shape;
  const images = bytesOf(name, options.images, shape);
  const labels = given ? labelsOf({ name, length, labels: given, classes }) : new Int32Array(length);
  const size = height * width * channels, memory = (row: number) => images.byteOffset + row * size;
  const known = origin === undefined ? { origin: images.buffer, place: memory } : { origin };
  return new ArrayDataset({ name, classes, height, width, channels, labels, images, ...known });
}

/** What all images of a set share, whatever subset is looked at. */
export interface Whole
  extends Pick<Dataset, "name" | "classes" | "masked" | "height" | "width" | "channels"> {
  /** [all images], -1 for none */
  labels: Int32Array;
  /** What images are of: those of the same with the same `place` are the same. Default: of nothing that others are of. */
  origin?: unknown;
  /** Where an image is in that. Default: its row. */
  place?(row: number): number | string;
}

const ORDER = { seed: index, epoch: index, shuffle: flag, dropLast: flag, from: index };
const BATCHES = { size: any, ...ORDER, change: any };

/** Orders rows so that any piece of them has each class's share, as near as can be; alike ones stay in their order. */
function spread(rows: Int32Array, labels: Int32Array): void {
  const place = new Float64Array(labels.length), total: number[] = [], seen: number[] = [];
  const count = (of: number[], label: number) => of[label] = (of[label] ?? 0) + 1;
  for (const row of rows) count(total, labels[row]!);
  for (const row of rows) place[row] = (count(seen, labels[row]!) - 0.5) / total[labels[row]!]!;
  rows.sort((a, b) => place[a]! - place[b]!);
}

const upTo = (length: number) => Int32Array.from({ length }, (_, i) => i);

/** Some of the images of a whole, by their rows in it. */
export abstract class Rows<W extends Whole> {
  readonly name: string;
  readonly classes: readonly string[];
  readonly labels: Int32Array;
  readonly height: number;
  readonly width: number;
  readonly channels: number;
  readonly masked: boolean;
  protected readonly rows: Int32Array;

  constructor(protected readonly whole: W, rows?: Int32Array) {
    this.rows = rows ?? upTo(whole.labels.length);
    ({ name: this.name, classes: this.classes, height: this.height } = whole);
    ({ width: this.width, channels: this.channels, masked: this.masked = false } = whole);
    this.labels = this.rows.map((row) => whole.labels[row]!);
  }

  abstract get(i: number): Example | Promise<Example>;
  abstract batches(options: BatchOptions): Iterable<Batch> | AsyncIterable<Batch>;
  /** A hash of what the images are made of, for `fingerprintOf`; undefined where that cannot be told but by looking at some. */
  abstract contents(): string | undefined | Promise<string>;

  get length(): number {
    return this.rows.length;
  }

  protected checked(i: number): number {
    const holds = Number.isInteger(i) && i >= 0 && i < this.length;
    expect(holds, this.name, `an index from 0 to ${this.length - 1}`, i);
    return i;
  }

  toString(): string {
    const { name, length, height, width, channels, classes } = this;
    const count = (label: number) => this.labels.filter((l) => l === label).length;
    const some = classes.slice(0, 20),
      more = classes.length > 20 ? ", …" : "",
      names = some.join(", ") + more;
    const shown = some.map((kind, label) => `${kind} ${count(label)}`).join(", ");
    const first = `${name}: ${length} images ${height}×${width}×${channels}`;
    if (classes.length === 0) return visible(`${first}, without labels`);
    if (this.masked) return visible(`${first}, with masks of ${classes.length} classes\n(${names})`, LONG);
    const bare = count(-1), without = bare > 0 ? `, ${bare} without a label` : "";
    return visible(`${first}, ${classes.length} classes${without}\n(${shown}${more})`, LONG);
  }

  [consoleDisplay](): string {
    return this.toString();
  }

  /** Two images of each of the first ten classes that have any; of a set with masks the first twelve, and what their colours mean. */
  async [jupyterDisplay](): Promise<MediaBundle> {
    const { labels, masked, classes } = this;
    const last = (label: number) => label < 0 ? Infinity : label; // those without a label come last
    const kinds = [...new Set(labels)].sort((a, b) => last(a) - last(b)).slice(0, 10), shown = kinds.length;
    const firsts = kinds.map((label) => labels.indexOf(label));
    const seconds = kinds.map((label, k) => labels.indexOf(label, firsts[k]! + 1)).filter((i) => i >= 0);
    const chosen = masked ? upTo(Math.min(12, this.length)) : [...firsts, ...seconds];
    const pictures = await picturesOf(this, chosen), [, subtitle = ""] = /: (.*)/.exec(this.toString())!;
    const masks = masked ? await Promise.all(Array.from(chosen, async (i) => (await this.get(i)).mask!)) : [];
    const look = { size: masked ? 96 : 64, columns: masked ? 6 : shown, legend: legendOf(classes, masks) };
    const grid = imageGrid(pictures, { ...look, title: this.name, subtitle });
    return { ...await grid[jupyterDisplay](), "text/plain": this.toString() };
  }

  subset(which: readonly number[] | Int32Array | number, seed = 0): this {
    if (typeof which === "number") {
      const expected = "a fraction above 0 and up to 1, or a list of indices";
      expect(which > 0 && which <= 1, this.name, expected, which);
      const count = Math.max(1, Math.round(which * this.length));
      which = new Random(seed, "subset").permutation(this.length).slice(0, count).sort();
    }
    expect(which.length > 0, this.name, "at least one index", "an empty subset");
    const Same = this.constructor as new (whole: W, rows: Int32Array) => this;
    return new Same(this.whole, Int32Array.from(which, (i) => this.rows[this.checked(i)]!));
  }

  balanced(perClass: number, seed = 0): this {
    expect(isCount(perClass), this.name, "a whole number of images per class, from 1", perClass);
    refuseMislabelled(this);
    const taken = this.classes.map((): number[] => []);
    for (const i of new Random(seed, "balanced").permutation(this.length)) {
      const ofClass = taken[this.labels[i]!]!;
      if (ofClass.length < perClass) ofClass.push(i);
    }
    const short = taken.findIndex((indices) => indices.length < perClass);
    const got = `class "${this.classes[short]}" has ${taken[short]?.length}; ask for fewer`;
    expect(short < 0, this.name, `${perClass} images of each class`, got);
    return this.subset(taken.flat().sort((a, b) => a - b));
  }

  split<const S extends readonly number[]>(shares: S, options: SplitOptions = {}): Parts<S, this> {
    checkOptions("split", options, { seed: index, stratified: flag });
    const { seed = 0, stratified = false } = options, { rows, whole } = this;
    const numbers = Array.isArray(shares) && shares.every((share) => Number.isFinite(share) && share > 0);
    const sum = numbers ? shares.reduce((a, b) => a + b, 0) : NaN, fits = sum > 0 && sum < 1 + 1e-9;
    expect(fits, "split", "shares above 0, together at most 1, such as [0.8, 0.2]", `[${shares}]`);
    if (stratified) refuseMislabelled(this);
    const part = new Int32Array(whole.labels.length).fill(-1); // of each row, so that one taken twice is in one part
    const own = rows.filter((row) => part[row] === -1 && (part[row] = shares.length));
    const order = new Random(seed, "split").permutation(own.length).map((i) => own[i]!);
    if (stratified) spread(order, whole.labels);
    let end = 0, share = 0;
    for (const [k, more] of shares.entries()) {
      const from = end;
      end = Math.round((share += more) * order.length);
      expect(end > from, this.name, `images for part ${k} of split([${shares}])`, `${order.length} in all`);
      for (const row of order.subarray(from, end)) part[row] = k;
    }
    const all = upTo(this.length);
    return shares.map((_, k) => this.subset(all.filter((i) => part[rows[i]!] === k))) as Parts<S, this>;
  }

  /** Whether image `i` is also among others', as far as can be told. */
  rowsIn(others: Rows<Whole>): (i: number) => boolean {
    const { whole, rows } = this, { origin } = others.whole;
    if (whole !== others.whole && (origin === undefined || origin !== whole.origin)) return () => false;
    const key = ({ whole }: Rows<Whole>, row: number) => whole.place?.(row) ?? row;
    const both: [Rows<Whole>, Rows<Whole>] = this.length < others.length ? [this, others] : [others, this];
    const [small, large] = both, shared = new Set<unknown>();
    const few = new Set(Array.from(small.rows, (row) => key(small, row)));
    for (const row of large.rows) if (few.has(key(large, row))) shared.add(key(large, row));
    return (i) => shared.has(key(this, rows[i]!));
  }

  /** The indices of a pass, batch after batch, in order. */
  protected order(options: BatchOptions): Int32Array {
    checkOptions("batches", options, BATCHES);
    const { size, seed = 0, epoch = 0, shuffle = true, dropLast = true, from = 0 } = options;
    expect(isCount(size), "batch size", "a whole number from 1", size);
    const help = "make it smaller, or keep the partial batch with dropLast: false";
    const most = `at most the ${this.length} images of ${this.name}`;
    expect(!dropLast || size <= this.length, "batch size", most, `${size}; ${help}`);
    const order = shuffle ? new Random(seed, "epoch", epoch).permutation(this.length) : upTo(this.length);
    const end = dropLast ? this.length - this.length % size : this.length;
    return order.subarray(Math.min(from * size, end), end);
  }

  /** What a change makes of image `i`, which it may write into. */
  protected changed(i: number, given: Made, { transform, size }: Change, random: Random): Made {
    const { height, width, channels } = this, made = transform({ ...given, height, width, channels }, random);
    return madeOf(given, made, [size.height, size.width, channels], i, transform);
  }

  /** Images of one size as a batch. */
  protected batch(made: readonly Made[], indices: Int32Array, change: Change | undefined): Batch {
    const { channels, labels, masked } = this, { height, width } = change?.size ?? this;
    const size = indices.length, area = height * width, images = new Uint8Array(size * area * channels);
    made.forEach(({ data }, k) => images.set(data, k * area * channels));
    const masks = new Uint8Array(masked ? size * area : 0);
    if (masked) made.forEach(({ mask }, k) => masks.set(mask!, k * area));
    return {
      ...masked && { masks },
      images,
      shape: [size, height, width, channels], // B, H, W, C
      labels: indices.map((i) => labels[i]!),
      indices: indices.slice(),
      size,
    };
  }
}

/** The pixels of an image, and its mask where it has one. */
export type Made = Pick<Image, "data" | "mask">;

class ArrayDataset extends Rows<Whole & { images: Uint8Array }> implements MemoryDataset {
  #pixels(i: number): Uint8Array {
    const size = this.height * this.width * this.channels, row = this.rows[i]!;
    return this.whole.images.subarray(row * size, (row + 1) * size);
  }

  override get(i: number): Example {
    return { image: this.#pixels(this.checked(i)).slice(), label: this.labels[i]! };
  }

  override contents(): string {
    const hash = createHash("sha256");
    for (let i = 0; i < this.length; i++) hash.update(this.#pixels(i));
    return hash.digest("hex");
  }

  batches(options: BatchOptions): Iterable<Batch> {
    return this.#passes(this.order(options), options);
  }

  *#passes(order: Int32Array, { size: B, from = 0, change }: BatchOptions): Generator<Batch> {
    for (let at = 0; at < order.length; at += B) {
      const indices = order.subarray(at, at + B), first = from * B + at;
      const pixels = Array.from(indices, (i, j) => {
        const data = this.#pixels(i);
        return change ? this.changed(i, { data: data.slice() }, change, change.random(first + j)) : { data };
      });
      yield this.batch(pixels, indices, change);
    }
  }
}

/** Some of the images of a whole that is not in memory. */
export abstract class Fetched<W extends Whole> extends Rows<W> {
  /** Images that are made beside one another. Default: as suits the processors. */
  protected readonly beside: number | undefined;

  /** What `get` gives, without a label, or what a change makes of image `i`. */
  protected abstract pixels(i: number, random: Random, change?: Change): Promise<Made>;

  override async get(i: number): Promise<Example> {
    const { data, ...mask } = await this.pixels(this.checked(i), new Random(0));
    return { image: data, label: this.labels[i]!, ...mask };
  }

  /** Image `i` at its own size. */
  async original(i: number): Promise<Image> {
    const { height, width, channels } = this;
    return { ...await this.pixels(this.checked(i), new Random(0)), height, width, channels };
  }

  batches(options: BatchOptions): AsyncIterable<Batch> {
    return this.#passes(this.order(options), options);
  }

  async *#passes(order: Int32Array, { size, from = 0, change }: BatchOptions): AsyncGenerator<Batch> {
    const still = new Random(0), random = (p: number) => change?.random(from * size + p) ?? still;
    const make = (p: number) => this.pixels(order[p]!, random(p), change);
    const images = ahead(order.length, make, this.beside);
    try {
      for (let at = 0; at < order.length; at += size) {
        const indices = order.subarray(at, at + size), pixels: Made[] = [];
        while (pixels.length < indices.length) pixels.push((await images.next()).value!);
        yield this.batch(pixels, indices, change);
      }
    } finally {
      await images.return(undefined);
    }
  }
}
