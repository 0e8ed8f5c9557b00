/** Scores: accuracy and confusion of predictions, and how every evaluation shows them. @module */
import type * as tf from "@tensorflow/tfjs";
import type { Matched } from "../data/matching.ts";
import { categoryText, Figure } from "../display/figure.ts";
import { consoleDisplay, inNotebook, jupyterDisplay } from "../display/jupyter.ts";
import { type MediaBundle, showDisplay } from "../display/jupyter.ts";
import { type Cell, formatPercent, Table } from "../display/table.ts";

/** The metrics of predictions. */
export interface Judged {
  /** Share of the images classified right, 0 to 1. */
  readonly accuracy: number;
  /** Wilson's 95 % interval of the accuracy: what the choice of test images leaves open; other seeds may move it more. */
  readonly interval: readonly [low: number, high: number];
  /** Names of the classes, of what was trained and in its order. */
  readonly classes: readonly string[];
  /** Accuracy on each class's images, by its name, in the order of `classes`; NaN where there are none. */
  readonly perClass: Readonly<Record<string, number>>;
  /** Number of images by their class (row) and the class predicted (column), in the order of `classes`. */
  readonly confusion: readonly (readonly number[])[];
  /** What else has to be known: classes that the images judged do not have. */
  readonly notes: readonly string[];
}

/** Numbers by name in the order of the entries, also where names look like numbers. */
export function ordered(
  entries: readonly (readonly [name: string, value: number])[],
): Record<string, number> {
  const record = Object.fromEntries(entries), names = [...new Set(entries.map(([name]) => name))];
  const text = () => `{ ${names.map((name) => `${JSON.stringify(name)}: ${record[name]}`).join(", ")} }`;
  Object.defineProperty(record, consoleDisplay, { value: text, configurable: true });
  return new Proxy(record, { ownKeys: () => names });
}

/** Wilson's 95 % interval of a share (Journal of the American Statistical Association 22, 1927). */
export function wilson(right: number, count: number): [low: number, high: number] {
  const z = 1.959964, share = right / count, shrink = 1 + z * z / count;
  const middle = (share + z * z / (2 * count)) / shrink;
  const half = z / shrink * Math.sqrt(share * (1 - share) / count + z * z / (4 * count * count));
  return [Math.max(0, middle - half), Math.min(1, middle + half)];
}

/** Two standard errors of the difference of two accuracies on so many images: what chance alone may make of it. */
export function chance(one: number, other: number, images: number): number {
  return 2 * Math.sqrt((one * (1 - one) + other * (1 - other)) / images);
}

/** The metrics of predictions [N], class numbers, for N labelled images. */
export function judge(
  predictions: ArrayLike<number>,
  { labels, classes, notes = [] }: Pick<Matched, "labels" | "classes"> & Partial<Matched>,
): Judged {
  const confusion = classes.map(() => classes.map(() => 0));
  labels.forEach((label, i) => confusion[label]![predictions[i]!]!++);
  const hits = confusion.map((row, label) => row[label]!), right = hits.reduce((a, b) => a + b, 0);
  const share = (label: number) => hits[label]! / confusion[label]!.reduce((a, b) => a + b, 0);
  return {
    accuracy: right / labels.length,
    interval: wilson(right, labels.length),
    classes,
    perClass: ordered(classes.map((name, label) => [name, share(label)])),
    confusion,
    notes,
  };
}

/**
 * The classes of rows 0 to `count` − 1, `block` of them at a time.
 *
 * @param guess Gives the classes [n] of n rows, by their numbers; the tensor is disposed of here.
 */
export async function guessed(
  count: number,
  block: number,
  guess: (rows: Int32Array) => Promise<tf.Tensor>,
  signal?: AbortSignal,
): Promise<Int32Array> {
  const guesses = Int32Array.from({ length: count }, (_, i) => i), all = guesses.slice();
  for (let from = 0; from < count; from += block) {
    signal?.throwIfAborted();
    const best = await guess(all.subarray(from, from + block));
    guesses.set(await best.data(), from);
    best.dispose();
  }
  return guesses;
}

/** An interval of shares as percent: "82.1 – 83.6 %". */
export function formatInterval([low, high]: readonly [number, number]): string {
  return `${(100 * low).toFixed(1)} – ${formatPercent(high)}`;
}

/** Rows with an accuracy each. */
export function accuracyTable(
  title: string,
  rows: readonly Readonly<Record<string, Cell>>[],
  notes: readonly string[],
): Table {
  return new Table(rows, { title, note: notes.join("; "), format: { accuracy: formatPercent } });
}

/** A result that shows itself: as a table; in a notebook its plots stand above that. */
export abstract class Showing {
  /** The numbers. */
  abstract table(): Table;
  /** What a notebook shows besides. */
  abstract plots(): Figure[];

  /** The table as text. */
  [consoleDisplay](): string {
    return this.table().toString();
  }

  /** Puts the plots below the running cell; the cell's own value is the table. */
  async [jupyterDisplay](): Promise<MediaBundle> {
    const plots = inNotebook() ? this.plots() : [];
    for (const plot of plots) await showDisplay(await plot[jupyterDisplay]());
    return this.table()[jupyterDisplay]();
  }
}

/** A confusion matrix: each class's images or pixels by the class predicted, the colour their share. */
export function confusionFigure(
  names: readonly string[],
  confusion: readonly (readonly number[])[],
  { subtitle, counted }: { subtitle: string; counted: boolean },
): Figure {
  const gap = names.length <= 20 ? 1 : 0, total = (row: readonly number[]) => row.reduce((a, b) => a + b, 0);
  const titles = confusion.map((row, label) =>
    names[label]! + (total(row) > 0 ? ` ${formatPercent(row[label]! / total(row))}` : "")
  );
  const side = Math.max(300, Math.min(700, 42 * names.length));
  const counts = confusion.map((row) => row.map((n) => n ? String(n) : "")) as never;
  const axis = { type: "category", showgrid: false, ticks: "" } as const;
  return new Figure([{
    type: "heatmap",
    name: "images",
    x: names.map(categoryText),
    y: titles.map(categoryText),
    z: confusion.map((row) => row.map((count) => 100 * count / (total(row) || 1))),
    zmin: 0,
    zmax: 100,
    ...(counted && { text: counts, texttemplate: "%{text}" }),
    colorbar: { title: { text: "% of the class" } },
    xgap: gap,
    ygap: gap,
    hovertemplate: "%{y} taken for %{x}: %{z:.1f} %<extra></extra>",
  }], {
    width: side + 260,
    height: side + 170,
    title: { text: "What was taken for what", subtitle: { text: subtitle } },
    xaxis: { ...axis, title: { text: "guessed" }, tickangle: -45 },
    yaxis: { ...axis, title: { text: "class, share guessed right" }, autorange: "reversed" },
  });
}

/** The metrics that a {@linkcode Judgement} has. */
export interface Judgement extends Judged {}

/** A result with the metrics of predictions on test images. */
export abstract class Judgement extends Showing {
  /** Takes over the metrics, and what else is there. Default of `classes`: the names in `perClass`. */
  constructor(judged: Omit<Judged, "classes" | "notes"> & Partial<Judged>) {
    super();
    Object.assign(this, { classes: Object.keys(judged.perClass), notes: [] }, judged);
  }

  /** One row: the accuracy and its interval, between what else is to be said. */
  protected row(title: string, before: Record<string, Cell>, after: Record<string, Cell> = {}): Table {
    const { accuracy, interval } = this;
    const row = { ...before, accuracy, "95 %": formatInterval(interval), ...after };
    return accuracyTable(title, [row], this.notes);
  }

  /** The confusion matrix: each class's images by the class predicted, the colour their share, the number how many. */
  confusionPlot(): Figure {
    const subtitle = `accuracy ${formatPercent(this.accuracy)}, 95 %: ${formatInterval(this.interval)}`;
    return confusionFigure(this.classes, this.confusion, { subtitle, counted: this.classes.length <= 20 });
  }

  override plots(): Figure[] {
    return [this.confusionPlot()];
  }
}
