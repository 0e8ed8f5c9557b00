/** From a data set to what a training step takes: order, augmentation, normalisation. @module */
import * as tf from "@tensorflow/tfjs";
import { any, callable, checkOptions, count, expect, expectNamed } from "../base/check.ts";
import { index, isCount, orNull } from "../base/check.ts";
import { checkedBatch, madeOf } from "./checks.ts";
import type { Batch, BatchOptions, Dataset } from "./dataset.ts";
import { Rows } from "./rows.ts";
import { checkedSize, horizontalFlip, type Normalisation, normalize, sides } from "./transforms.ts";
import type { Size, Transform } from "./transforms.ts";
import { Random } from "../base/random.ts";

/** The data of one update. */
export interface Feed {
  /** [B, H, W, C]: 0 to 255, or normalised where the feed has a {@linkcode Finish}. */
  images: Uint8Array | Float32Array;
  /** As many versions of the images as `views` says, each augmented by its own chance; the first is `images`. */
  views: (Uint8Array | Float32Array)[];
  shape: [number, number, number, number];
  /** [B] class numbers, or [B, K] shares of the classes. */
  labels: Int32Array | Float32Array;
  /** [B] where in the data set each came from, as far as that says. */
  indices: Int32Array;
  /** Passes over the data begun before this one. */
  epoch: number;
  /** [B, H, W] the class of each pixel of `images`, of a data set with masks. */
  masks?: Uint8Array;
}

/** Changes normalised images [B, H, W, C] in place and gives their labels: the same, or shares of the classes [B, K]. */
export type Finish = (
  images: Float32Array,
  shape: Feed["shape"],
  labels: Int32Array,
  update: number,
) => Feed["labels"];

/** What decides about the data of every update. */
export interface FeederOptions {
  batchSize: number;
  seed: number;
  augment: Transform | null;
  /** Needed where the feed has a `finish`. */
  normalisation?: Normalisation;
  /** Height and width of the images that the model takes. */
  size: { height: number; width: number };
  finish?: Finish | undefined;
  /** What the classes' numbers become. Default: they stay. */
  numbers?: Int32Array | undefined;
  /** Versions of each image. Default 1. */
  views?: number;
}

/** Refuses a transform that gives another size than the network's, by a black image. */
export function refuseTransform(dataset: Dataset, transform: Transform, size: FeederOptions["size"]): void {
  const { height, width, channels, masked } = dataset, data = new Uint8Array(height * width * channels);
  const mask = masked && { mask: new Uint8Array(height * width) };
  const image = { data, height, width, channels, ...mask };
  const made = transform(image, new Random(0));
  madeOf(image, made, [size.height, size.width, channels], 0, transform);
}

/** Patches read at once: enough to keep the kernels busy, few enough for the caches. */
const TOKENS = 8192;

/** A pass that has to give `total` images: batches of the size that is asked for, each image changed by its own chance. */
async function* checkedPass(dataset: Dataset, options: BatchOptions, total: number): AsyncGenerator<Batch> {
  const { size, change } = options, { height, width } = change?.size ?? dataset;
  let asked = 0, given = 0;
  const random = (position: number) => {
    asked++;
    return change!.random(position);
  };
  const batches = dataset.batches(change ? { ...options, change: { ...change, random } } : options);
  for await (const made of batches) {
    if (given === total) return yield made; // one too many: refused by who counts them
    const batch = checkedBatch(dataset, made, { size: Math.min(size, total - given), height, width });
    given += batch.size;
    const expected = "`change.transform` applied to each image, with `change.random(position)`";
    expect(!change || asked >= given, `${dataset.name}: batches`, expected, `it for ${asked} of ${given}`);
    yield batch;
  }
}

/** Gives the data of update k, for k in rising order; the same seed gives the same data. */
export class Feeder {
  /** Updates in one pass over the data; the images that do not fill a batch are left out of that pass. */
  readonly updatesPerEpoch: number;
  #epoch = -1;
  #next = 0;
  #passes: AsyncGenerator<Batch>[] = [];
  /** What the first batch has to be, where a pass begins inside, of a data set of somebody's own. */
  #expected: Batch | undefined;
  #last: Promise<unknown> = Promise.resolve();

  constructor(private readonly dataset: Dataset, private readonly options: FeederOptions) {
    const { views = 1, finish } = options;
    expect(isCount(views), "views", "an integer from 1", views);
    expect(!finish || views === 1, "views", "1 where erasing, mixup or cutmix follow", views);
    this.updatesPerEpoch = Math.floor(dataset.length / options.batchSize);
  }

  /** The data of update `k`, from 0; one after another in the order asked for. */
  feed(k: number): Promise<Feed> {
    const feed = this.#last.catch(() => {}).then(() => this.#feed(k));
    this.#last = feed;
    return feed;
  }

  async #feed(k: number): Promise<Feed> {
    const epoch = Math.floor(k / this.updatesPerEpoch), index = k % this.updatesPerEpoch;
    if (epoch !== this.#epoch || index !== this.#next) await this.#open(epoch, index);
    this.#next++;
    const batches = await Promise.all(this.#passes.map((pass) => this.#batchOf(pass)));
    const [first, ...others] = batches as [Batch, ...Batch[]], at = `${this.dataset.name}: batches`;
    const agree = others.every(({ indices }) => String(indices) === String(first.indices));
    expect(agree, at, "one order for each seed and epoch", "another in the second view");
    const before = this.#expected?.images, same = !before || first.images.every((x, i) => x === before[i]);
    expect(same, at, `batch ${index} first with from: ${index}`, "another");
    this.#expected = undefined;
    return this.#make(batches, k, epoch);
  }

  /** The next batch of a view. */
  async #batchOf(pass: AsyncGenerator<Batch>): Promise<Batch> {
    const { done, value } = await pass.next(), { name } = this.dataset, last = this.updatesPerEpoch;
    const expected = `${last} batches of ${this.options.batchSize} in a pass`;
    expect(!done, name, expected, `${this.#next - 1}: epoch ${this.#epoch} ended`);
    if (this.#next === last) expect((await pass.next()).done === true, name, expected, "more");
    return value;
  }

  async #open(epoch: number, from: number): Promise<void> {
    await Promise.all(this.#passes.map((pass) => pass.return(undefined)));
    [this.#epoch, this.#next] = [epoch, from];
    if (from > 0 && !(this.dataset instanceof Rows)) {
      const pass = this.#pass(from - 1, 0);
      await pass.next();
      this.#expected = (await pass.next()).value;
      await pass.return(undefined);
    }
    this.#passes = Array.from({ length: this.options.views ?? 1 }, (_, view) => this.#pass(from, view));
  }

  #pass(from: number, view: number): AsyncGenerator<Batch> {
    const { batchSize: size, seed, augment: transform, size: extent } = this.options;
    const epoch = this.#epoch, updates = this.updatesPerEpoch, label = view > 0 ? [view] : [];
    const random = (i: number) =>
      new Random(seed, "augment", epoch * updates + Math.floor(i / size), i % size, ...label);
    const change = transform && { change: { transform, size: extent, random } };
    return checkedPass(this.dataset, { size, seed, epoch, from, ...change }, (updates - from) * size);
  }

  #make(batches: Batch[], k: number, epoch: number): Feed {
    const { normalisation, finish, numbers } = this.options;
    const [{ images, shape, labels: own, indices, masks }] = batches as [Batch];
    const labels = numbers ? own.map((label) => numbers[label]!) : own;
    const common = { shape, indices, epoch, ...masks && { masks } };
    const views = batches.map(({ images }) => images);
    if (!finish) return { ...common, images, views, labels };
    const floats = normalize(images, shape, normalisation!);
    return { ...common, images: floats, views: [floats], labels: finish(floats, shape, labels, k) };
  }
}

/**
 * All images of a data set in its order, as tensors of one shape, so that a compiled function is recorded once.
 *
 * @param dataset The images.
 * @param patches Of an image: the fewer, the more images are in a batch.
 * @param prepare What is done to each image before that, and the size that comes out. Default: nothing.
 * @returns Batches with their images [n, H, W, C], 0 to 255, which are disposed of afterwards; in the last, those after
 * `batch.size` are black.
 */
export async function* inOrder(
  dataset: Dataset,
  patches: number,
  prepare?: { transform: Transform; size: FeederOptions["size"] } | undefined,
): AsyncGenerator<{ images: tf.Tensor4D; batch: Batch }> {
  const size = Math.min(Math.max(1, Math.floor(TOKENS / patches)), dataset.length);
  const change = prepare && { change: { ...prepare, random: (i: number) => new Random(i) } };
  const options = { size, shuffle: false, dropLast: false, ...change };
  let at = 0;
  for await (const batch of checkedPass(dataset, options, dataset.length)) {
    const { indices = [] } = batch, misplaced = indices.findIndex((i, k) => i !== at + k);
    const wanted = `image ${at + misplaced} without \`shuffle\``;
    expect(misplaced < 0, `${dataset.name}: batches`, wanted, indices[misplaced]);
    at += batch.size;
    const [, ...image] = batch.shape, full: [number, number, number, number] = [size, ...image];
    const pixels = new Uint8Array(size * batch.images.length / batch.size);
    pixels.set(batch.images);
    const images = tf.tensor4d(pixels, full, "int32");
    try {
      yield { images, batch };
    } finally {
      images.dispose();
    }
  }
  expect(at === dataset.length, `${dataset.name}: batches`, `${dataset.length} images in a pass`, at);
}

/** Options of {@linkcode trainingBatches}. */
export interface TrainingBatchesOptions {
  /** Images in a batch. Default 64. */
  batchSize?: number;
  /** Order and augmentation depend on it. Default 0. */
  seed?: number;
  /** What is done to each image, or null for nothing. Default `horizontalFlip(0.5)`. */
  augment?: Transform | null;
  /** Size of the images that come out. Default: the data set's. */
  size?: Size;
  /** Versions of each image, each augmented by its own chance. Default 1. */
  views?: number;
  /** The update to begin with, from 0. Default 0. */
  from?: number;
}

/** The data of one update. `epoch` and `indices` are not enumerated, so that a compiled step may take the whole as an argument. */
export interface TrainingBatch {
  /** [B, H, W, C] int32, 0 to 255. */
  images: tf.Tensor4D;
  /** With `views: n`: n versions of the images, the first of which is `images`. */
  views?: tf.Tensor4D[];
  /** [B] int32, indices into the classes, -1 for an image without a label; zeros where there are no classes. */
  labels: tf.Tensor1D;
  /** [B, H, W] int32, the class of each pixel of `images`, 255 for none, of a data set with masks. */
  masks?: tf.Tensor3D;
  /** Passes over the data begun before this one. */
  readonly epoch: number;
  /** [B] where in the data set each image came from. */
  readonly indices: Int32Array;
}

/** Batch after batch, without end; the tensors are its own. */
export class TrainingBatches {
  /** Updates in one pass over the data. */
  readonly updatesPerEpoch: number;
  readonly #feeder: Feeder;
  #next: number;
  #given: tf.Tensor[] = [];

  /** See {@linkcode trainingBatches}. */
  constructor(feeder: Feeder, from: number) {
    this.#feeder = feeder;
    this.#next = from;
    this.updatesPerEpoch = feeder.updatesPerEpoch;
  }

  /** The data of the next update. Those of the one before are disposed of. */
  async next(): Promise<TrainingBatch> {
    this.dispose();
    const k = this.#next++;
    const feed = await this.#feeder.feed(k).catch((error) => {
      this.#next = k;
      throw error;
    });
    const views = feed.views.map((pixels) => tf.tensor4d(pixels, feed.shape, "int32"));
    const labels = tf.tensor1d(feed.labels, "int32"), [images] = views as [tf.Tensor4D];
    const [B, H, W] = feed.shape, masks = feed.masks && tf.tensor3d(feed.masks, [B, H, W], "int32");
    this.#given.push(...views, labels, ...masks ? [masks] : []);
    const batch = { images, labels, ...views.length > 1 && { views }, ...masks && { masks } };
    const hidden = { epoch: { value: feed.epoch }, indices: { value: feed.indices } };
    return Object.defineProperties(batch, hidden) as TrainingBatch;
  }

  /** Disposes of the tensors given last. */
  dispose(): void {
    tf.dispose(this.#given.splice(0));
  }
}

/**
 * The batches of a training: the k-th `next()` has the images of update k of `pretrain` with the same data set, seed, batch
 * size and `augment`, to the bit. Its tensors live until the next `next()`, or `dispose()`.
 *
 * @throws {TypeError | RangeError} If an option is unknown or cannot be; later, if the data set does not give what it promised.
 *
 * @example
 * ```ts
 * import { fashionMnist, trainingBatches } from "nepa";
 * import { assertEquals } from "@std/assert";
 *
 * const { test } = await fashionMnist();
 * const batches = trainingBatches(test, { batchSize: 32, seed: 1, views: 2 });
 * const { images, views, labels } = await batches.next();
 * assertEquals([images.shape, views!.length, labels.shape], [[32, 28, 28, 1], 2, [32]]);
 * batches.dispose();
 * ```
 */
export function trainingBatches(dataset: Dataset, options: TrainingBatchesOptions = {}): TrainingBatches {
  expectNamed("trainingBatches", { dataset });
  const numbers = { batchSize: count, seed: index, views: count, from: index };
  checkOptions("trainingBatches", options, { ...numbers, augment: orNull(callable), size: any });
  const { batchSize = 64, seed = 0, augment = horizontalFlip(0.5), views = 1, from = 0 } = options;
  const { height, width } = sides(checkedSize("size", options.size ?? dataset)), size = { height, width };
  const fits = augment !== null || height === dataset.height && width === dataset.width;
  expect(fits, "size", "that of the images, since `augment` is null", `${height}x${width}`);
  const most = `at most the ${dataset.length} images of ${dataset.name}`;
  expect(batchSize <= dataset.length, "batchSize", most, batchSize);
  if (augment) refuseTransform(dataset, augment, size);
  return new TrainingBatches(new Feeder(dataset, { batchSize, seed, augment, size, views }), from);
}
