/** How well pixels of a data set are classified, whole or by windows that slide over the images. @module */
import * as tf from "@tensorflow/tfjs";
import { type Box, currentEngine, stoppable } from "@nepa/engine";
import { any, checkOptions, count, expect, index, orNull } from "../base/check.ts";
import * as is from "../base/check.ts";
import { owned } from "../base/owned.ts";
import { refuseMissing } from "../data/checks.ts";
import type { Image, SegmentationSet } from "../data/dataset.ts";
import { EncodedDataset } from "../data/encoded.ts";
import { ahead } from "../data/ahead.ts";
import { checkedSize, resize, sides, type Size } from "../data/transforms.ts";
import { Random } from "../base/random.ts";
import { progress } from "../display/progress.ts";
import type { NepaSegmenter } from "../model/segmenter.ts";
import { Counts, type SegmentationResult, type Shown } from "./mask_scores.ts";

/** From images [B, H, W, C] int32, 0 to 255, to logits [B, h, w, classes], of any size: those are resized. */
export type Segment = (images: tf.Tensor4D) => tf.Tensor4D | Promise<tf.Tensor4D>;

/** Options of {@linkcode segmentationScores}. */
export interface SegmentationScoresOptions {
  /** The shorter side that images are brought to first, as `resize` does; null: none, their own size. Default null. */
  size?: number | null;
  /** Square windows that slide over an image, `size` pixels wide, `stride` apart; logits of where they overlap are averaged. */
  window?: { size: Size; stride: Size } | null;
  /** Images at once, where all have one size. Default 16. */
  batchSize?: number;
  /** Images that the result shows, from 0. Default 4. */
  pictures?: number;
  /** Ends the work, and so does the Stop button. */
  signal?: AbortSignal;
}

/** Where windows lie, row by row; the last of each is moved back inside (mmsegmentation's sliding inference). */
export function slidingWindows(image: { height: number; width: number }, size: Size, stride: Size): Box[] {
  const { height, width } = sides(size), step = sides(stride);
  const starts = (all: number, side: number, by: number) => {
    const length = Math.ceil(Math.max(all - side, 0) / by) + 1;
    return Array.from({ length }, (_, k) => Math.max(0, Math.min(k * by, all - side)));
  };
  const box = { height: Math.min(height, image.height), width: Math.min(width, image.width) };
  return starts(image.height, height, step.height).flatMap((top) =>
    starts(image.width, width, step.width).map((left) => ({ top, left, ...box }))
  );
}

const sized = (x: tf.Tensor4D, height: number, width: number) =>
  String(x.shape.slice(1, 3)) === String([height, width])
    ? x
    : tf.image.resizeBilinear(x, [height, width], false, true);

/** Logits that are resized at once have at most so many numbers. */
const MOST = 2 ** 25;

/** The likeliest classes [B, H, W] by logits [B, h, w, K], resized, some classes after others where there are many. */
function likeliest(logits: tf.Tensor4D, height: number, width: number): tf.Tensor {
  const [B, h, w, K] = logits.shape, some = Math.max(1, Math.min(K, Math.floor(MOST / (B * height * width))));
  let best: { value: tf.Tensor; place: tf.Tensor } | undefined;
  for (let from = 0; from < K; from += some) {
    const next = tf.tidy(() => {
      const part = tf.slice(logits, [0, 0, 0, from], [B, h, w, Math.min(some, K - from)]);
      const all = sized(part, height, width), value = tf.max(all, -1);
      const place = tf.add(tf.argMax(all, -1), tf.scalar(from, "int32"));
      if (!best) return { value, place };
      const isMore = tf.greater(value, best.value);
      return { value: tf.where(isMore, value, best.value), place: tf.where(isMore, place, best.place) };
    });
    tf.dispose(best);
    best = next;
  }
  best!.value.dispose();
  return best!.place;
}

/** Logits [B, H, W, K] of images [B, H, W, C]: the mean of those of windows. */
async function logitsOf(segment: Segment, images: tf.Tensor4D, K: number, boxes: readonly Box[]) {
  const [B, H, W, C] = images.shape;
  const zeros = (shape: number[]) => tf.tidy(() => tf.variable(tf.zeros(shape), false));
  const sum = zeros([B, H, W, K]), seen = zeros([1, H, W, 1]);
  using _sums = owned(sum, seen);
  for (const { top, left, height, width } of boxes) {
    const part = tf.slice(images, [0, top, left, 0], [B, height, width, C]);
    using _part = owned(part);
    const made = await segment(part), { shape } = made;
    using _made = owned(made);
    const fits = shape.length === 4 && shape[0] === B && shape[3] === K;
    expect(fits, "logits", `[${B}, h, w, ${K}], of ${K} classes`, `[${shape}]`);
    const edges: [number, number][] = [[0, 0], [top, H - top - height], [left, W - left - width], [0, 0]];
    tf.tidy(() => {
      sum.assign(tf.add(sum, tf.pad(sized(made, height, width), edges)));
      seen.assign(tf.add(seen, tf.pad(tf.ones<tf.Rank.R4>([1, height, width, 1]), edges)));
    });
  }
  return tf.div(sum, seen) as tf.Tensor4D;
}

/** The originals of a set, several where they have one size, and each as the network gets it. */
async function* groups(set: SegmentationSet, most: number, size: number | null) {
  const prepare = size === null ? (image: Image) => image : resize(size);
  let group: (Required<Image> & { given: Image })[] = [];
  for await (const image of ahead(set.length, (i) => set.original(i))) {
    const { mask: _, ...alone } = image, [first = image] = group;
    if (group.length === most || image.height !== first.height || image.width !== first.width) {
      yield group;
      group = [];
    }
    group.push({ ...image, given: prepare(alone, new Random(0)) });
  }
  yield group;
}

/** The scores of a function on a set; `tell` hears how many images are done. */
export async function scoresOf(
  segment: Segment,
  set: SegmentationSet,
  options: SegmentationScoresOptions,
  tell: (done: number) => void = () => {},
): Promise<SegmentationResult> {
  const { size = null, window = null, batchSize = 16, pictures = 4, signal } = options;
  const most = set instanceof EncodedDataset ? 1 : Math.min(batchSize, set.length), K = set.classes.length;
  const counts = new Counts(set.classes), shown: Shown[] = [], each = Math.ceil(set.length / pictures);
  let done = 0;
  for await (const group of groups(set, most, size)) {
    signal?.throwIfAborted();
    const { given, height: H, width: W } = group[0]!, { height, width, channels } = given;
    const pixels = new Uint8Array(most * given.data.length); // all have one shape: the last are black
    group.forEach(({ given: { data } }, i) => pixels.set(data, i * data.length));
    const whole = { size: { height, width }, stride: 1 }, { size: side, stride } = window ?? whole;
    const images = tf.tensor4d(pixels, [most, height, width, channels], "int32");
    using _images = owned(images);
    const logits = await logitsOf(segment, images, K, slidingWindows(given, side, stride));
    using _logits = owned(logits);
    const classes = likeliest(logits, H, W), guesses = await classes.data();
    classes.dispose();
    for (const [i, { given: _, ...image }] of group.entries()) {
      const guess = Uint8Array.from(guesses.subarray(i * H * W, (i + 1) * H * W));
      counts.add(image.mask, guess);
      if (pictures > 0 && done % each === 0) shown.push({ ...image, guess });
      tell(++done);
    }
  }
  return counts.result(shown);
}

const SIZED = { size: orNull(count), window: any, batchSize: count, pictures: index, signal: any };

/**
 * How well pixels are classified, as mmsegmentation counts: at each label's own size; intersections and unions are summed over all
 * images, and then divided; pixels that are ignored count on neither side, and classes that are in no label and no prediction are left out of the
 * means. torchmetrics' `MeanIoU` gives another number: it averages over the classes of each image first, so that a small object
 * counts as much as a large one.
 *
 * @param segmenter A `NepaSegmenter`, or a function from images to logits; the logits are disposed of.
 * @param set Images with masks.
 * @param options ADE20K is judged by `{ size: 512, window: { size: 512, stride: 256 } }`.
 * @throws {TypeError | RangeError} If an option cannot be, the classes are not the segmenter's, or logits are of other classes.
 *
 * @example
 * ```ts
 * import { fashionScenes, segmentationScores, tf, useEngine } from "nepa";
 * import { assert } from "@std/assert";
 *
 * await useEngine();
 * const { validation } = await fashionScenes({ validation: 8 });
 * const background = (images: tf.Tensor4D) => tf.oneHot(tf.zeros(images.shape.slice(0, 3), "int32"), 11) as tf.Tensor4D;
 * const { meanIoU, pixelAccuracy } = await segmentationScores(background, validation);
 * assert(meanIoU < 0.2 && pixelAccuracy > 0.3); // nothing but background is much of most scenes
 * ```
 */
export async function segmentationScores(
  segmenter: NepaSegmenter | Segment,
  set: SegmentationSet,
  options: SegmentationScoresOptions = {},
): Promise<SegmentationResult> {
  is.expectKinds("segmentationScores", { segmenter: [segmenter, is.segmenter], set: [set, is.masked] });
  checkOptions("segmentationScores", options, SIZED);
  const { window } = options;
  if (window) {
    checkOptions("segmentationScores: window", window, { size: any, stride: any });
    refuseMissing("segmentationScores: window", window, ["size", "stride"]);
    for (const name of ["size", "stride"] as const) checkedSize(`window.${name}`, window[name]);
  }
  const pass = typeof segmenter === "function" ? undefined : passOf(segmenter, set, options);
  try {
    await using bar = progress({ title: "scores", total: set.length, unit: "images", text: "compiling" });
    const read = (signal: AbortSignal) =>
      scoresOf(pass ?? segmenter as Segment, set, { ...options, signal }, (done) => bar.update(done, ""));
    return await stoppable("segmentationScores", options.signal, read);
  } finally {
    pass?.dispose();
  }
}

/** A segmenter's forward pass, compiled where all images, or windows, have one size. */
function passOf(segmenter: NepaSegmenter, set: SegmentationSet, { window }: SegmentationScoresOptions) {
  const same = String(segmenter.classes) === String(set.classes);
  expect(same, set.name, `the segmenter's classes, ${segmenter.classes}`, set.classes);
  const compile = Boolean(window) || !(set instanceof EncodedDataset);
  return currentEngine().compile((images: tf.Tensor4D) => segmenter.forward(images).logits, {
    name: "scores",
    compile,
  });
}
