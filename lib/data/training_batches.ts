/** The batches that a training takes, as tensors, for a step written by hand. @module */
import * as tf from "@tensorflow/tfjs";
import { any, callable, checkOptions, count, expect, expectNamed, index, orNull } from "../base/check.ts";
import type { Dataset } from "./dataset.ts";
import { Feeder, refuseTransform } from "./loader.ts";
import { checkedSize, horizontalFlip, sides, type Size, type Transform } from "./transforms.ts";

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

const TIMES = { batchSize: count, seed: index, views: count, from: index };
const RULES = { ...TIMES, augment: orNull(callable), size: any };

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
    const { epoch, indices } = feed;
    const views = feed.views.map((pixels) => tf.tensor4d(pixels, feed.shape, "int32"));
    const labels = tf.tensor1d(feed.labels, "int32"), [images] = views as [tf.Tensor4D];
    const [B, H, W] = feed.shape, masks = feed.masks && tf.tensor3d(feed.masks, [B, H, W], "int32");
    this.#given.push(...views, labels, ...masks ? [masks] : []);
    const batch = { images, labels, ...views.length > 1 && { views }, ...masks && { masks } };
    const hidden = { epoch: { value: epoch }, indices: { value: indices } };
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
  checkOptions("trainingBatches", options, RULES);
  const { batchSize = 64, seed = 0, augment = horizontalFlip(0.5), views = 1, from = 0 } = options;
  const { height, width } = sides(checkedSize("size", options.size ?? dataset)), size = { height, width };
  const fits = augment !== null || height === dataset.height && width === dataset.width;
  expect(fits, "size", "that of the images, since `augment` is null", `${height}x${width}`);
  const most = `at most the ${dataset.length} images of ${dataset.name}`;
  expect(batchSize <= dataset.length, "batchSize", most, batchSize);
  if (augment) refuseTransform(dataset, augment, size);
  return new TrainingBatches(new Feeder(dataset, { batchSize, seed, augment, size, views }), from);
}
