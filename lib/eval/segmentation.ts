/** How well pixels are classified: mean intersection over union, summed over a data set. @module */
import * as tf from "@tensorflow/tfjs";
import { type Box, currentEngine, stoppable } from "@nepa/engine";
import { any, checkOptions, count, expect, index, orNull } from "../base/check.ts";
import { refuseMissing } from "../data/checks.ts";
import { IGNORED, type Image, type SegmentationSet } from "../data/dataset.ts";
import { EncodedDataset } from "../data/encoded.ts";
import { ahead } from "../data/rows.ts";
import { checkedSize, resize, sides, type Size } from "../data/transforms.ts";
import { Random } from "../base/random.ts";
import type { Figure } from "../display/figure.ts";
import { classColor, legendOf, overlaid } from "../display/masks.ts";
import { imageGrid, type Picture } from "../display/pictures.ts";
import { progress } from "../display/progress.ts";
import { formatPercent, Table } from "../display/table.ts";
import type { NepaSegmenter } from "../model/segmenter.ts";
import { confusionFigure, ordered, Showing } from "./scores.ts";

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

/** What is counted: pixels by their class (row) and the class predicted (column), in the order of the classes. */
type Confusion = readonly (readonly number[])[];

/** An image as it was judged. */
interface Shown extends Image {
  mask: Uint8Array;
  guess: Uint8Array;
}

const mean = (values: readonly number[]) => {
  const there = values.filter((value) => !Number.isNaN(value));
  return there.reduce((a, b) => a + b, 0) / there.length;
};

/** Scores of masks; shows itself as a table, in a notebook with pictures and the confusion matrix. */
export class SegmentationResult extends Showing {
  /** Names of the classes. */
  readonly classes: readonly string[];
  /** The mean of `iou` over the classes that have one, 0 to 1. */
  readonly meanIoU: number;
  /** The mean of `accuracy` over the classes that have one, 0 to 1. */
  readonly meanAccuracy: number;
  /** Share of all pixels that are classified right, 0 to 1. */
  readonly pixelAccuracy: number;
  /** By class: intersection over union of its pixels and those predicted, summed over all images; NaN where neither are. */
  readonly iou: Readonly<Record<string, number>>;
  /** By class: share of its pixels that are classified right; NaN where there are none. */
  readonly accuracy: Readonly<Record<string, number>>;
  /** Number of pixels by their class (row) and the class predicted (column), in the order of `classes`. */
  readonly confusion: Confusion;
  readonly #shown: readonly Shown[];

  /** Made by {@linkcode segmentationScores} and {@linkcode scoreMasks}. */
  constructor(classes: readonly string[], confusion: Confusion, shown: readonly Shown[] = []) {
    super();
    const sum = (values: readonly number[]) => values.reduce((a, b) => a + b, 0);
    const both = confusion.map((row, k) => row[k]!), labels = confusion.map(sum);
    const guesses = classes.map((_, k) => sum(confusion.map((row) => row[k]!)));
    const iou = both.map((n, k) => n / (labels[k]! + guesses[k]! - n)),
      accuracy = both.map((n, k) => n / labels[k]!);
    const named = (values: readonly number[]) => ordered(values.map((value, k) => [classes[k]!, value]));
    [this.classes, this.confusion, this.#shown] = [classes, confusion, shown];
    [this.meanIoU, this.meanAccuracy, this.pixelAccuracy] = [
      mean(iou),
      mean(accuracy),
      sum(both) / sum(labels),
    ];
    [this.iou, this.accuracy] = [named(iou), named(accuracy)];
  }

  /** The three means in words. */
  #summary(): string {
    const { meanIoU, meanAccuracy, pixelAccuracy } = this,
      [a, b, c] = [meanIoU, meanAccuracy, pixelAccuracy].map(formatPercent);
    return `mIoU ${a}, mean accuracy ${b}, pixel accuracy ${c}`;
  }

  /** A row for each class; "pixels" is its share of them. */
  override table(): Table {
    const totals = this.confusion.map((row) => row.reduce((a, b) => a + b, 0)),
      all = totals.reduce((a, b) => a + b, 0);
    const shares = { IoU: formatPercent, accuracy: formatPercent, pixels: formatPercent };
    const cell = (value: number) => Number.isNaN(value) ? undefined : value;
    const rows = this.classes.map((name, k) => {
      return {
        class: name,
        IoU: cell(this.iou[name]!),
        accuracy: cell(this.accuracy[name]!),
        pixels: totals[k]! / all,
      };
    });
    return new Table(rows, { title: this.#summary(), format: shares });
  }

  /** The confusion matrix. */
  confusionPlot(): Figure {
    return confusionFigure(this.classes, this.confusion, { subtitle: this.#summary(), counted: false });
  }

  /** Some images: each, its mask, the mask predicted, and where that is wrong. Undefined where no images were kept. */
  picturesPlot(): Figure | undefined {
    if (this.#shown.length === 0) return undefined;
    const rows = this.#shown.flatMap((image): Picture[] => {
      const { mask, guess } = image,
        wrong = mask.map((k, i) => k === IGNORED || guess[i] === k ? IGNORED : WRONG);
      const rate = wrong.filter((k) => k === WRONG).length / mask.filter((k) => k !== IGNORED).length;
      const mistakes = { ...overlaid(image, wrong, 0.85), caption: `mistakes: ${formatPercent(rate)}` };
      const truth = { ...overlaid(image, mask), caption: "truth" },
        predicted = { ...overlaid(image, guess), caption: "prediction" };
      return [
        {
          data: image.data,
          height: image.height,
          width: image.width,
          channels: image.channels,
          caption: "image",
        },
        truth,
        predicted,
        mistakes,
      ];
    });
    const legend = legendOf(this.classes, this.#shown.flatMap(({ mask, guess }) => [mask, guess]));
    return imageGrid(rows, {
      columns: 4,
      size: 120,
      title: "What was seen",
      subtitle: this.#summary(),
      legend,
    });
  }

  override plots(): Figure[] {
    const pictures = this.picturesPlot();
    return [...pictures ? [pictures] : [], this.confusionPlot()];
  }
}

/** The class whose colour mistakes have: crimson. */
const WRONG = 3;

/** Counts pixels by class and prediction. */
class Counts {
  readonly #counts: Float64Array;

  constructor(readonly classes: readonly string[]) {
    this.#counts = new Float64Array(classes.length ** 2);
  }

  add(mask: ArrayLike<number>, guess: ArrayLike<number>): void {
    const K = this.classes.length;
    for (let i = 0; i < mask.length; i++) if (mask[i] !== IGNORED) this.#counts[mask[i]! * K + guess[i]!]!++;
  }

  result(shown: readonly Shown[]): SegmentationResult {
    const K = this.classes.length, row = (k: number) => Array.from(this.#counts.subarray(k * K, (k + 1) * K));
    return new SegmentationResult(this.classes, this.classes.map((_, k) => row(k)), shown);
  }
}

/**
 * Scores of masks predicted elsewhere, by PyTorch, say: see {@linkcode segmentationScores}.
 *
 * @param masks Of all images, one after another: classes, 255 for pixels that do not count.
 * @param predictions As many classes.
 * @param classes Their names.
 * @throws {RangeError} If there are not as many, or one is no class.
 *
 * @example
 * ```ts
 * import { scoreMasks } from "nepa";
 * import { assertEquals } from "@std/assert";
 *
 * const { meanIoU, iou } = scoreMasks({ masks: [0, 0, 1, 255], predictions: [0, 1, 1, 0], classes: ["a", "b"] });
 * assertEquals([meanIoU, iou], [0.5, { a: 0.5, b: 0.5 }]);
 * ```
 */
export function scoreMasks(
  { masks, predictions, classes }: {
    masks: ArrayLike<number>;
    predictions: ArrayLike<number>;
    classes: readonly string[];
  },
): SegmentationResult {
  const { length } = masks, K = classes.length;
  expect(predictions.length === length, "scoreMasks: predictions", `${length}, as masks`, predictions.length);
  const isClass = (k: number | undefined) => Number.isInteger(k) && k! >= 0 && k! < K;
  for (let i = 0; i < length; i++) {
    const counts = masks[i] !== IGNORED, expected = `classes from 0 to ${K - 1}`;
    expect(
      !counts || isClass(masks[i]),
      "scoreMasks: masks",
      `${expected}, or ${IGNORED} for none`,
      masks[i],
    );
    expect(!counts || isClass(predictions[i]), "scoreMasks: predictions", expected, predictions[i]);
  }
  const counts = new Counts(classes);
  counts.add(masks, predictions);
  return counts.result([]);
}

/** Where windows lie, row by row; the last of each is moved back inside (mmsegmentation's sliding inference). */
export function slidingWindows(image: { height: number; width: number }, size: Size, stride: Size): Box[] {
  const { height, width } = sides(size), step = sides(stride);
  const starts = (all: number, side: number, by: number) =>
    Array.from(
      { length: Math.ceil(Math.max(all - side, 0) / by) + 1 },
      (_, k) => Math.max(0, Math.min(k * by, all - side)),
    );
  const box = { height: Math.min(height, image.height), width: Math.min(width, image.width) };
  return starts(image.height, height, step.height).flatMap((top) =>
    starts(image.width, width, step.width).map((left) => ({ top, left, ...box }))
  );
}

const sized = (x: tf.Tensor4D, height: number, width: number) =>
  x.shape[1] === height && x.shape[2] === width
    ? x
    : tf.image.resizeBilinear(x, [height, width], false, true);

/** Logits that are resized at once have at most so many numbers. */
const MOST = 2 ** 25;

/** The likeliest classes [B, H, W] by logits [B, h, w, K], resized, some classes after others where there are many. */
function likeliest(logits: tf.Tensor4D, height: number, width: number): tf.Tensor3D {
  const [B, h, w, K] = logits.shape, some = Math.max(1, Math.min(K, Math.floor(MOST / (B * height * width))));
  let best: [value: tf.Tensor3D, index: tf.Tensor3D] | undefined;
  for (let from = 0; from < K; from += some) {
    const next = tf.tidy((): [tf.Tensor3D, tf.Tensor3D] => {
      const part = tf.slice(logits, [0, 0, 0, from], [B, h, w, Math.min(some, K - from)]);
      const all = sized(part, height, width), value = tf.max(all, -1) as tf.Tensor3D;
      const place = tf.add(tf.argMax(all, -1), tf.scalar(from, "int32")) as tf.Tensor3D;
      if (!best) return [value, place];
      const isMore = tf.greater(value, best[0]);
      return [
        tf.where(isMore, value, best[0]) as tf.Tensor3D,
        tf.where(isMore, place, best[1]) as tf.Tensor3D,
      ];
    });
    tf.dispose(best);
    best = next;
  }
  best![0].dispose();
  return best![1];
}

/** Disposes of the tensors that it holds when it goes out of scope. */
class Held<T extends string> {
  readonly tensors: Partial<Record<T, tf.Tensor4D>> = {};

  /** Puts tensors in the place of others, which are disposed of. */
  put(tensors: Partial<Record<T, tf.Tensor4D>>): void {
    const before = { ...this.tensors };
    Object.assign(this.tensors, tensors);
    for (const name of Object.keys(tensors) as T[]) before[name]?.dispose();
  }

  [Symbol.dispose](): void {
    tf.dispose(this.tensors as tf.NamedTensorMap);
  }
}

/** Logits [B, H, W, K] of images [B, H, W, C]: of them whole, or the mean of those of windows. */
async function logitsOf(
  segment: Segment,
  images: tf.Tensor4D,
  K: number,
  boxes: readonly Box[],
): Promise<tf.Tensor4D> {
  const [B, H, W, C] = images.shape;
  using held = new Held<"part" | "made" | "sum" | "seen">();
  for (const { top, left, height, width } of boxes) {
    held.put({ part: tf.slice(images, [0, top, left, 0], [B, height, width, C]) });
    held.put({ made: await segment(held.tensors.part!) });
    const { made, sum, seen } = held.tensors, { shape } = made!;
    const fits = shape.length === 4 && shape[0] === B && shape[3] === K;
    expect(fits, "logits", `[${B}, h, w, ${K}], of ${K} classes`, `[${shape}]`);
    const edges: [number, number][] = [[0, 0], [top, H - top - height], [left, W - left - width], [0, 0]];
    held.put(tf.tidy(() => {
      const more = tf.pad(sized(made!, height, width), edges);
      const times = tf.pad(tf.ones<tf.Rank.R4>([1, height, width, 1]), edges);
      return { sum: sum ? tf.add(sum, more) : more, seen: seen ? tf.add(seen, times) : times };
    }));
  }
  return tf.div(held.tensors.sum!, held.tensors.seen!);
}

/** The originals of a set, several where they have one size, and each as the network gets it. */
async function* groups(set: SegmentationSet, most: number, size: number | null) {
  const prepare = size === null ? (image: Image) => image : resize(size);
  let group: (Required<Image> & { given: Image })[] = [];
  for await (const image of ahead(set.length, (i) => set.original(i))) {
    const [first] = group;
    const fits = !first || image.height === first.height && image.width === first.width;
    if (group.length === most || !fits) yield group;
    if (group.length === most || !fits) group = [];
    const { mask: _, ...alone } = image;
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
    const [{ given, height: H, width: W }] = group as [typeof group[number]],
      { height, width, channels } = given;
    const pixels = new Uint8Array(most * given.data.length); // all have one shape: the last are black
    group.forEach(({ given: { data } }, i) => pixels.set(data, i * data.length));
    const whole = [{ top: 0, left: 0, height, width }];
    const boxes = window ? slidingWindows(given, window.size, window.stride) : whole;
    using held = new Held<"images" | "logits">();
    held.put({ images: tf.tensor4d(pixels, [most, height, width, channels], "int32") });
    held.put({ logits: await logitsOf(segment, held.tensors.images!, K, boxes) });
    const classes = likeliest(held.tensors.logits!, H, W), guesses = Uint8Array.from(await classes.data());
    classes.dispose();
    for (const [i, { given: _, ...image }] of group.entries()) {
      const guess = guesses.subarray(i * H * W, (i + 1) * H * W);
      counts.add(image.mask, guess);
      if (pictures > 0 && done % each === 0) shown.push({ ...image, guess: guess.slice() });
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
  checkOptions("segmentationScores", options, SIZED);
  const { window } = options;
  expect(set?.masked === true, "segmentationScores: set", "images with masks", set?.name);
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
