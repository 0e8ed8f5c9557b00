/** From a data set to the arrays that a training step takes: order, augmentation, normalisation. @module */
import * as tf from "@tensorflow/tfjs";
import type { NepaConfig } from "./config.ts";
import type { Batch, Dataset } from "./data/dataset.ts";
import { type Normalisation, normalize, type Transform } from "./data/transforms.ts";
import { Random } from "./random.ts";

/** The data of one update. */
export interface Feed {
  /** [B, H, W, C]: 0 to 255, or normalised where the feed has a {@linkcode Finish}. */
  images: Uint8Array | Float32Array;
  shape: [number, number, number, number];
  /** [B] class numbers, or [B, K] shares of the classes. */
  labels: Int32Array | Float32Array;
  /** Passes over the data begun before this one. */
  epoch: number;
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
  normalisation: Normalisation;
  /** Height and width of the images that the model takes. */
  size: { height: number; width: number };
  finish: Finish | undefined;
}

/**
 * Changes each image of a batch.
 *
 * @param batch The images, and where in the data set each lies.
 * @param transform What is done to them.
 * @param size Height and width of all results.
 * @param random For image i of the batch.
 * @throws {RangeError} If a result has another size.
 */
export function transformed(
  { images, shape, indices }: Pick<Batch, "images" | "shape" | "indices">,
  transform: Transform,
  { height, width }: FeederOptions["size"],
  random: (i: number) => Random,
): { images: Uint8Array; shape: Feed["shape"] } {
  const [count, fromHeight, fromWidth, channels] = shape, from = fromHeight * fromWidth * channels;
  const to = height * width * channels, out = new Uint8Array(count * to);
  for (let i = 0; i < count; i++) {
    const data = images.subarray(i * from, (i + 1) * from);
    const made = transform({ data, height: fromHeight, width: fromWidth, channels }, random(i));
    const got = [made.height, made.width, made.channels], expected = [height, width, channels];
    if (got.join() !== expected.join()) {
      throw new RangeError(
        `augment: image ${indices[i]}: expected ${expected.join("x")} to come out, got ${got.join("x")}; ` +
          "end it with a resize",
      );
    }
    out.set(made.data, i * to);
  }
  return { images: out, shape: [count, height, width, channels] };
}

/** Refuses a transform that gives another size than the network's, by the first image. */
export function refuseTransform(dataset: Dataset, transform: Transform, size: FeederOptions["size"]): void {
  const { height, width, channels } = dataset, indices = Int32Array.of(0);
  const batch = {
    images: dataset.get(0).image,
    shape: [1, height, width, channels] as Feed["shape"],
    indices,
  };
  transformed(batch, transform, size, () => new Random(0));
}

/** Patches read at once: enough to keep the kernels busy, few enough for the caches. */
const TOKENS = 8192;

/** Gives the data of update k, for k in rising order; the same seed gives the same data. */
export class Feeder {
  /** Updates in one pass over the data; the images that do not fill a batch are left out of that pass. */
  readonly updatesPerEpoch: number;
  readonly #dataset: Dataset;
  readonly #options: FeederOptions;
  #epoch = -1;
  #next = 0;
  #batches: Iterator<Batch> | undefined;

  constructor(dataset: Dataset, options: FeederOptions) {
    this.#dataset = dataset;
    this.#options = options;
    this.updatesPerEpoch = Math.floor(dataset.length / options.batchSize);
  }

  /** The data of update `k`, from 0. */
  feed(k: number): Feed {
    const epoch = Math.floor(k / this.updatesPerEpoch), index = k % this.updatesPerEpoch;
    if (epoch !== this.#epoch || index < this.#next) this.#open(epoch);
    let batch: Batch | undefined;
    while (this.#next <= index) {
      const result = this.#batches!.next();
      if (result.done) {
        throw new RangeError(`${this.#dataset.name}: epoch ${epoch} ended before batch ${index}`);
      }
      batch = result.value;
      this.#next++;
    }
    return this.#make(batch!, k, epoch);
  }

  #open(epoch: number): void {
    const { batchSize: size, seed } = this.#options;
    this.#batches = this.#dataset.batches({ size, seed, epoch })[Symbol.iterator]();
    this.#epoch = epoch;
    this.#next = 0;
  }

  #make(batch: Batch, k: number, epoch: number): Feed {
    const { augment, normalisation, seed, size, finish } = this.#options;
    const { images: pixels, shape } = augment
      ? transformed(batch, augment, size, (i) => new Random(seed, "augment", k, i))
      : batch;
    if (!finish) return { images: pixels, shape, labels: batch.labels, epoch };
    const images = normalize(pixels, shape, normalisation);
    return { images, shape, labels: finish(images, shape, batch.labels, k), epoch };
  }
}

/**
 * All images of a data set in its order, as tensors of one shape, so that a compiled function is recorded once.
 *
 * @param dataset The images.
 * @param network What reads them: the fewer its tokens, the more images are in a batch.
 * @param prepare What is done to each image before that, and the size that comes out. Default: nothing.
 * @returns Batches with their images [n, H, W, C], 0 to 255, which are disposed of afterwards; in the last, those after
 * `batch.size` are black.
 */
export function* inOrder(
  dataset: Dataset,
  { config: { imageSize, patchSize } }: { config: NepaConfig },
  prepare?: { transform: Transform; size: FeederOptions["size"] } | undefined,
): Generator<{ images: tf.Tensor4D; batch: Batch }> {
  const size = Math.min(Math.max(1, Math.floor(TOKENS / (imageSize / patchSize) ** 2)), dataset.length);
  for (const batch of dataset.batches({ size, shuffle: false, dropLast: false })) {
    const made = prepare ? transformed(batch, prepare.transform, prepare.size, (i) => new Random(i)) : batch;
    const [, ...image] = made.shape, full: [number, number, number, number] = [size, ...image];
    const pixels = new Uint8Array(size * made.images.length / batch.size);
    pixels.set(made.images);
    const images = tf.tensor4d(pixels, full, "int32");
    try {
      yield { images, batch };
    } finally {
      images.dispose();
    }
  }
}
