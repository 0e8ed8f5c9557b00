/** Scores of masks: mean intersection over union, summed over a data set. @module */
import { expect } from "../base/check.ts";
import { IGNORED, type Image } from "../data/dataset.ts";
import type { Figure } from "../display/figure.ts";
import { legendOf, overlaid } from "../display/masks.ts";
import { imageGrid, type Picture } from "../display/pictures.ts";
import { formatPercent, Table } from "../display/table.ts";
import { confusionFigure, ordered, Showing } from "./scores.ts";

/** What is counted: pixels by their class (row) and the class predicted (column), in the order of the classes. */
type Confusion = readonly (readonly number[])[];

/** An image as it was judged. */
export interface Shown extends Image {
  mask: Uint8Array;
  guess: Uint8Array;
}

const sum = (values: readonly number[]) => values.reduce((a, b) => a + b, 0);
const mean = (values: readonly number[]) => {
  const there = values.filter((value) => !Number.isNaN(value));
  return sum(there) / there.length;
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
    const both = confusion.map((row, k) => row[k]!), labels = confusion.map(sum);
    const either = both.map((n, k) => labels[k]! + sum(confusion.map((row) => row[k]!)) - n);
    const iou = both.map((n, k) => n / either[k]!), accuracy = both.map((n, k) => n / labels[k]!);
    const named = (values: readonly number[]) => ordered(values.map((value, k) => [classes[k]!, value]));
    [this.classes, this.confusion, this.#shown] = [classes, confusion, shown];
    [this.meanIoU, this.meanAccuracy] = [mean(iou), mean(accuracy)];
    [this.iou, this.accuracy, this.pixelAccuracy] = [named(iou), named(accuracy), sum(both) / sum(labels)];
  }

  /** The three means in words. */
  #summary(): string {
    const [a, b, c] = [this.meanIoU, this.meanAccuracy, this.pixelAccuracy].map(formatPercent);
    return `mIoU ${a}, mean accuracy ${b}, pixel accuracy ${c}`;
  }

  /** A row for each class; "pixels" is its share of them. */
  override table(): Table {
    const totals = this.confusion.map(sum), all = sum(totals), { iou, accuracy } = this;
    const cell = (value: number) => Number.isNaN(value) ? undefined : formatPercent(value);
    const rows = this.classes.map((name, k) => {
      const scores = { IoU: cell(iou[name]!), accuracy: cell(accuracy[name]!) };
      return { class: name, ...scores, pixels: cell(totals[k]! / all) };
    });
    return new Table(rows, { title: this.#summary() });
  }

  /** The confusion matrix. */
  confusionPlot(): Figure {
    return confusionFigure(this.classes, this.confusion, { subtitle: this.#summary(), counted: false });
  }

  /** Some images: each, its mask, the mask predicted, and where that is wrong. Undefined where no images were kept. */
  picturesPlot(): Figure | undefined {
    if (this.#shown.length === 0) return undefined;
    const rows = this.#shown.flatMap(({ mask, guess, ...image }): Picture[] => {
      const wrong = mask.map((k, i) => k === IGNORED || guess[i] === k ? IGNORED : WRONG);
      const count = (list: Uint8Array) => list.filter((k) => k !== IGNORED).length;
      const caption = `mistakes: ${formatPercent(count(wrong) / count(mask))}`;
      return [
        { ...image, caption: "image" },
        { ...overlaid(image, mask), caption: "truth" },
        { ...overlaid(image, guess), caption: "prediction" },
        { ...overlaid(image, wrong, 0.85), caption },
      ];
    });
    const legend = legendOf(this.classes, this.#shown.flatMap(({ mask, guess }) => [mask, guess]));
    const look = { columns: 4, size: 120, legend };
    return imageGrid(rows, { ...look, title: "What was seen", subtitle: this.#summary() });
  }

  override plots(): Figure[] {
    const pictures = this.picturesPlot();
    return [...pictures ? [pictures] : [], this.confusionPlot()];
  }
}

/** The class whose colour mistakes have: crimson. */
const WRONG = 3;

/** Counts pixels by class and prediction. */
export class Counts {
  readonly #counts: Float64Array;

  constructor(readonly classes: readonly string[]) {
    this.#counts = new Float64Array(classes.length ** 2);
  }

  /** Pixels counted. */
  get total(): number {
    return sum([...this.#counts]);
  }

  /** Takes pixels in: their classes, {@linkcode IGNORED} for none, and those predicted. */
  add(mask: ArrayLike<number>, guess: ArrayLike<number>): void {
    const K = this.classes.length;
    for (let i = 0; i < mask.length; i++) if (mask[i] !== IGNORED) this.#counts[mask[i]! * K + guess[i]!]!++;
  }

  /** The scores so far, with images to show. */
  result(shown?: readonly Shown[]): SegmentationResult {
    const K = this.classes.length, row = (k: number) => Array.from(this.#counts.subarray(k * K, (k + 1) * K));
    return new SegmentationResult(this.classes, this.classes.map((_, k) => row(k)), shown);
  }
}

/** Masks, and what was predicted. */
export interface Predicted {
  /** Of all images, one after another: classes, 255 for pixels that do not count. */
  masks: ArrayLike<number>;
  /** As many classes. */
  predictions: ArrayLike<number>;
  /** Names of the classes. */
  classes: readonly string[];
}

/**
 * Scores of masks predicted elsewhere, by PyTorch, say: see {@linkcode segmentationScores}.
 *
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
export function scoreMasks(given: Predicted): SegmentationResult {
  const { masks, predictions, classes } = given, { length } = masks, counts = new Counts(classes);
  expect(predictions.length === length, "scoreMasks: predictions", `${length}, as masks`, predictions.length);
  const expected = `classes from 0 to ${classes.length - 1}`;
  const isClass = (k: number | undefined) => Number.isInteger(k) && k! >= 0 && k! < classes.length;
  for (let i = 0; i < length; i++) {
    if (masks[i] === IGNORED) continue;
    expect(isClass(masks[i]), "scoreMasks: masks", `${expected}, or ${IGNORED} for none`, masks[i]);
    expect(isClass(predictions[i]), "scoreMasks: predictions", expected, predictions[i]);
  }
  counts.add(masks, predictions);
  return counts.result();
}
