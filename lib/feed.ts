/** From a data set to the arrays that a training step takes: order, augmentation, normalisation. @module */
import * as tf from "@tensorflow/tfjs";
import type { NepaConfig } from "./config.ts";
import type { Batch, Dataset } from "./data/dataset.ts";
import { type Normalisation, normalize, type Transform } from "./data/transforms.ts";
import { Random } from "./random.ts";

/** The data of one update. */
export interface Feed {
  /** [B, H, W, C], normalised. */
  images: Float32Array;
  shape: [number, number, number, number];
  /** [B] */
  labels: Int32Array;
  /** Passes over the data begun before this one. */
  epoch: number;
}

/** What decides about the data of every update. */
export interface FeederOptions {
  batchSize: number;
  seed: number;
  augment: Transform | null;
  normalisation: Normalisation;
  /** Height and width of the images that the model takes. */
  size: { height: number; width: number };
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
    const { augment, normalisation, seed, size: { height, width } } = this.#options;
    const [count, fromHeight, fromWidth, channels] = batch.shape, from = fromHeight * fromWidth * channels;
    const shape: Feed["shape"] = augment ? [count, height, width, channels] : batch.shape;
    let pixels = batch.images;
    if (augment) {
      const to = height * width * channels;
      pixels = new Uint8Array(count * to);
      for (let i = 0; i < count; i++) {
        const image = {
          data: batch.images.subarray(i * from, (i + 1) * from),
          height: fromHeight,
          width: fromWidth,
          channels,
        };
        const made = augment(image, new Random(seed, "augment", k, i));
        if (made.data.length !== to) {
          throw new RangeError(
            `augment: expected images of ${height}x${width}, got ${made.height}x${made.width}; end it with a resize`,
          );
        }
        pixels.set(made.data, i * to);
      }
    }
    return { images: normalize(pixels, shape, normalisation), shape, labels: batch.labels, epoch };
  }
}

/**
 * All images of a data set in its order, as tensors of one shape, so that a compiled function is recorded once.
 *
 * @param dataset The images.
 * @param network What reads them: the fewer its tokens, the more images are in a batch.
 * @returns Batches with their images [n, H, W, C], which are disposed of afterwards; in the last, those after
 * `batch.size` are black.
 */
export function* inOrder(
  dataset: Dataset,
  { config: { imageSize, patchSize }, preprocessor: normalisation }: {
    config: NepaConfig;
    preprocessor: Normalisation;
  },
): Generator<{ images: tf.Tensor4D; batch: Batch }> {
  const size = Math.min(Math.max(1, Math.floor(TOKENS / (imageSize / patchSize) ** 2)), dataset.length);
  for (const batch of dataset.batches({ size, shuffle: false, dropLast: false })) {
    const [, ...image] = batch.shape, full: [number, number, number, number] = [size, ...image];
    const pixels = new Uint8Array(size * batch.images.length / batch.size);
    pixels.set(batch.images);
    const images = tf.tensor4d(normalize(pixels, full, normalisation), full);
    try {
      yield { images, batch };
    } finally {
      images.dispose();
    }
  }
}
