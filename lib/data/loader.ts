/** From a data set to the arrays that a training step takes: order, augmentation, normalisation. @module */
import * as tf from "@tensorflow/tfjs";
import { type Batch, type Dataset, pixelsOf } from "./dataset.ts";
import { type Normalisation, normalize, type Transform } from "./transforms.ts";
import { Random } from "../base/random.ts";

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

/** Refuses a transform that gives another size than the network's, by a black image. */
export function refuseTransform(dataset: Dataset, transform: Transform, size: FeederOptions["size"]): void {
  const { height, width, channels } = dataset, data = new Uint8Array(height * width * channels);
  pixelsOf(transform({ data, height, width, channels }, new Random(0)), size, channels, 0);
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
  #batches: Iterator<Batch> | AsyncIterator<Batch> | undefined;
  #last: Promise<unknown> = Promise.resolve();

  constructor(dataset: Dataset, options: FeederOptions) {
    this.#dataset = dataset;
    this.#options = options;
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
    const result = await this.#batches!.next();
    if (result.done) {
      throw new RangeError(`${this.#dataset.name}: epoch ${epoch} ended before batch ${index}`);
    }
    this.#next++;
    return this.#make(result.value, k, epoch);
  }

  async #open(epoch: number, from: number): Promise<void> {
    const { batchSize: size, seed, augment: transform, size: extent } = this.#options;
    const first = epoch * this.updatesPerEpoch;
    const random = (i: number) => new Random(seed, "augment", first + Math.floor(i / size), i % size);
    await this.#batches?.return?.();
    const batches = this.#dataset.batches({
      size,
      seed,
      epoch,
      from,
      ...transform && { change: { transform, size: extent, random } },
    });
    this.#batches = Symbol.asyncIterator in batches
      ? batches[Symbol.asyncIterator]()
      : batches[Symbol.iterator]();
    this.#epoch = epoch;
    this.#next = from;
  }

  #make({ images: pixels, shape, labels }: Batch, k: number, epoch: number): Feed {
    const { normalisation, finish } = this.#options;
    if (!finish) return { images: pixels, shape, labels, epoch };
    const images = normalize(pixels, shape, normalisation);
    return { images, shape, labels: finish(images, shape, labels, k), epoch };
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
export async function* inOrder(
  dataset: Dataset,
  { config: { imageSize, patchSize } }: { config: { imageSize: number; patchSize: number } },
  prepare?: { transform: Transform; size: FeederOptions["size"] } | undefined,
): AsyncGenerator<{ images: tf.Tensor4D; batch: Batch }> {
  const size = Math.min(Math.max(1, Math.floor(TOKENS / (imageSize / patchSize) ** 2)), dataset.length);
  const change = prepare && { ...prepare, random: (i: number) => new Random(i) };
  const options = { size, shuffle: false, dropLast: false, ...change && { change } };
  for await (const batch of dataset.batches(options)) {
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
}
