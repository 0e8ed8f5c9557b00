/** What pretraining buys: accuracy against the number of labels, pretrained and from scratch. @module */
import type { Dataset } from "../data/dataset.ts";
import { spread } from "../display/charts.ts";
import { Figure, palette, type Trace } from "../display/figure.ts";
import { formatNumber, formatPercent, Table } from "../display/table.ts";
import { evaluate } from "../eval/evaluate.ts";
import { any, callable, checkOptions, expect, isCount, type Rule } from "../base/check.ts";
import * as is from "../base/check.ts";
import type { FinetuneOptions } from "./classification.ts";
import { finetune } from "./finetune.ts";
import { type Backbone, NepaClassifier } from "../model/classifier.ts";
import { IJepaEncoder } from "../model/ijepa_encoder.ts";
import { Nepa } from "../model/nepa.ts";
import type { Run } from "./run.ts";
import { stoppable } from "@nepa/engine";
import { Random } from "../base/random.ts";
import { Showing } from "../eval/scores.ts";
import { linearProbe, type ProbeOptions } from "../eval/probe.ts";
import { setsFor } from "../eval/sources.ts";
import { OVERLAP, type OverlapOption } from "../data/matching.ts";

/** What is compared. */
export type Arm = "fine-tuned" | "linear probe" | "from scratch";

/** Options of {@linkcode lowShot}. */
export interface LowShotOptions extends OverlapOption {
  /** How many labels, as many of each class; Infinity: all. Default [60, 600, 6000, Infinity]. */
  labels?: readonly number[];
  /** Each number of labels once for every seed: of the images drawn, the order, new weights. Default [0]. */
  seeds?: readonly number[];
  /** Training images put aside to choose among `scratch`. Default 2,000, at most a fifth of all. */
  heldOut?: number;
  /** Updates of fine-tuning and of training from scratch. Default: 300, doubled for each tenfold above 600 labels. */
  steps?: (labels: number) => number;
  /** Layer and pooling of the linear probe. */
  probe?: Pick<ProbeOptions, "layer" | "pool" | "causal">;
  /** How both are trained; `layerDecay` is for the pretrained network alone. */
  finetune?: Omit<FinetuneOptions, "steps" | "epochs" | "seed" | "validation" | "every">;
  /**
   * Ways to train the network from nothing; the one that does best on the images put aside counts, for each number of
   * labels. Default: warm-ups of 20 %, 5 % and none.
   */
  scratch?: readonly NonNullable<LowShotOptions["finetune"]>[];
  /** Ends the work, which throws the signal's reason then; so does the Stop button. */
  signal?: AbortSignal;
}

/** One training. */
export interface LowShotRun {
  labels: number;
  seed: number;
  arm: Arm;
  /** On the test images, 0 to 1. */
  accuracy: number;
  /** For "from scratch": the way that did best, and its accuracy on the images put aside. */
  chosen?: { way: NonNullable<LowShotOptions["finetune"]>; accuracy: number };
}

const list: Rule = ["a list", Array.isArray];
const RULES: Record<keyof LowShotOptions, Rule> = {
  ...{ labels: list, seeds: list, heldOut: any, steps: callable, probe: any, finetune: any, scratch: list },
  ...{ overlap: OVERLAP, signal: any },
};

const ARMS: readonly Arm[] = ["fine-tuned", "linear probe", "from scratch"];

/** What {@linkcode lowShot} found; shows itself as a table, in a notebook with its plot. */
export class LowShotResult extends Showing {
  /** Made by {@linkcode lowShot}, of every training in order. */
  constructor(readonly runs: readonly LowShotRun[], readonly notes: readonly string[] = []) {
    super();
  }

  /** Mean and sample standard deviation over the seeds, by number of labels. */
  #points(arm: Arm): { labels: number; mean: number; std: number }[] {
    return [...new Set(this.runs.map(({ labels }) => labels))].map((labels) => {
      const found = this.runs.filter((run) => run.arm === arm && run.labels === labels);
      const { mean, std } = spread(found.map(({ accuracy }) => accuracy));
      return { labels, mean, std: std || 0 };
    });
  }

  /** A row for each number of labels: the mean over the seeds, with their standard deviation. */
  override table(): Table {
    const seeds = new Set(this.runs.map(({ seed }) => seed)).size;
    const columns = ARMS.map((arm) => [arm, this.#points(arm)] as const);
    const text = (mean: number, std: number) =>
      seeds > 1 ? `${(100 * mean).toFixed(1)} ± ${formatPercent(std)}` : formatPercent(mean);
    const rows = columns[0]![1].map(({ labels }, i) => ({
      labels,
      ...Object.fromEntries(columns.map(([arm, points]) => [arm, text(points[i]!.mean, points[i]!.std)])),
      "pretraining buys": `${(100 * (columns[0]![1][i]!.mean - columns[2]![1][i]!.mean)).toFixed(1)} points`,
    }));
    return new Table(rows, {
      title: "Accuracy on the test images",
      note: [`seeds: ${seeds}`, ...this.notes].join("; "),
    });
  }

  /** Accuracy against the number of labels, a line for each way. */
  plot(): Figure {
    const several = new Set(this.runs.map(({ seed }) => seed)).size > 1;
    const traces = ARMS.map((arm, i): Trace => {
      const points = this.#points(arm), color = palette[i]!;
      return {
        type: "scatter",
        mode: "lines+markers",
        name: arm,
        x: points.map(({ labels }) => labels),
        y: points.map(({ mean }) => 100 * mean),
        error_y: { type: "data", visible: several, array: points.map(({ std }) => 100 * std), color },
        line: { color, dash: arm === "from scratch" ? "dash" : "solid" },
      };
    });
    const at = this.#points("fine-tuned").map(({ labels }) => labels);
    return new Figure(traces, {
      title: {
        text: "What pretraining buys",
        subtitle: { text: several ? "bars: standard deviation over the seeds" : "one seed" },
      },
      xaxis: { type: "log", title: { text: "labels" }, tickvals: at, ticktext: at.map(formatNumber) },
      yaxis: { title: { text: "accuracy on the test images, %" } },
    });
  }

  override plots(): Figure[] {
    return [this.plot()];
  }
}

/** The training images, less those put aside. */
function putAside(train: Dataset, count: number): { rest: Dataset; aside: Dataset } {
  const order = new Random(0, "put aside").permutation(train.length);
  const sorted = (part: Int32Array) => train.subset(part.sort());
  return { aside: sorted(order.slice(0, count)), rest: sorted(order.slice(count)) };
}

function draw(rest: Dataset, labels: number, seed: number): Dataset {
  return labels === Infinity ? rest : rest.balanced(labels / rest.classes.length, seed);
}

/**
 * Compares, for several numbers of labels: the pretrained network fine-tuned; a linear probe of its frozen features; and
 * the same network from scratch, with as many updates and the best of several warm-ups. That is chosen on training images
 * put aside; the test images are read once by each.
 *
 * @param model The pretrained network; not changed.
 * @param train Where labels are drawn from, and the images put aside.
 * @param test The images to be judged by, none of them in `train`; its classes are matched by name, as by `linearProbe`.
 * @param options Which numbers, how to train.
 * @returns Every accuracy; shows itself as a table, and as a plot.
 * @throws {RangeError} If a number of labels is no multiple of the classes' or more than there are.
 *
 * @example
 * ```ts
 * import { fashionMnist, lowShot, Nepa, useEngine } from "nepa";
 * import { assertEquals } from "@std/assert";
 *
 * await useEngine();
 * const { train, test } = await fashionMnist();
 * const model = new Nepa({ preset: "mini", numHiddenLayers: 1 }, { seed: 0 }); // load or train one
 * const few = { labels: [20], heldOut: 20, steps: () => 2, scratch: [{ warmupRatio: 0.2 }], finetune: { compile: false } };
 * const { runs } = await lowShot(model, train.subset(0.01), test.subset(0.01), few);
 * assertEquals(runs.map(({ arm }) => arm), ["fine-tuned", "linear probe", "from scratch"]);
 * model.dispose();
 * ```
 */
export async function lowShot(
  given: Backbone | { readonly encoder: Backbone },
  train: Dataset,
  test: Dataset,
  options: LowShotOptions = {},
): Promise<LowShotResult> {
  const model: Backbone = Object(given).encoder ?? given;
  is.expectKinds("lowShot", {
    ...{ model: [model, is.network], train: [train, is.images], test: [test, is.images] },
  });
  checkOptions("lowShot", options, RULES);
  const classes = train.classes.length;
  const { labels = [60, 600, 6000, Infinity], seeds = [0] } = options;
  const { sets: [, { notes }] } = setsFor(model, train, test, options);
  const heldOut = options.heldOut ?? Math.min(2000, Math.floor(train.length / 5));
  const most = train.length - 1;
  expect(isCount(heldOut) && heldOut <= most, "heldOut", `an integer from 1 to ${most}`, heldOut);
  for (const count of labels) {
    const holds = count === Infinity || Number.isInteger(count / classes) && count >= 10;
    expect(holds, "labels", `multiples of ${classes} from 10, or Infinity`, count);
  }
  expect(options.scratch?.length !== 0, "scratch", "at least one way", "none");
  const { rest, aside } = putAside(train, heldOut);
  const drawn = labels.flatMap((count) => seeds.map((seed) => ({ set: draw(rest, count, seed), seed })));
  return await stoppable("lowShot", options.signal ?? options.finetune?.signal, async (signal) => {
    const runs: LowShotRun[] = [];
    for (const { set, seed } of drawn) {
      const settings = settingsFor(set, seed, options, signal);
      runs.push(...await compared(model, { set, aside, test }, settings, options));
    }
    return new LowShotResult(runs, notes);
  });
}

type Settings = FinetuneOptions & { seed: number; signal: AbortSignal };

function settingsFor(set: Dataset, seed: number, options: LowShotOptions, signal: AbortSignal): Settings {
  const { steps = (n) => Math.round(300 * 2 ** Math.max(0, Math.log10(n / 600))) } = options;
  return { batchSize: Math.min(64, set.length), ...options.finetune, steps: steps(set.length), seed, signal };
}

/** Each arm, for some labels. */
async function compared(
  model: Backbone,
  { set, aside, test }: Record<"set" | "aside" | "test", Dataset>,
  settings: Settings,
  { probe, scratch, overlap }: LowShotOptions,
): Promise<LowShotRun[]> {
  const { seed, signal } = settings, point = { labels: set.length, seed };
  const of = (classifier: NepaClassifier) =>
    evaluate(classifier, test, { signal }).finally(() => classifier.dispose());
  const tuned = await of(await trained(model, set, settings));
  const probed = await linearProbe(model, set, test, { ...probe, seed, overlap, signal });
  const { classifier, chosen } = await bestFromScratch(model, set, aside, settings, scratch);
  return [
    { ...point, arm: "fine-tuned", accuracy: tuned.accuracy },
    { ...point, arm: "linear probe", accuracy: probed.accuracy },
    { ...point, arm: "from scratch", accuracy: (await of(classifier)).accuracy, chosen },
  ];
}

/** A classifier that begins with the model's weights, trained; the averaged weights where there are such. */
async function trained(model: Backbone, set: Dataset, settings: Settings): Promise<NepaClassifier> {
  const classifier = NepaClassifier.from(model, { classes: set.classes, seed: settings.seed });
  let run: Run<NepaClassifier> | undefined, kept: NepaClassifier | undefined;
  try {
    run = finetune(classifier, set, settings);
    await run.finish();
    settings.signal.throwIfAborted();
    return kept = run.ema ?? classifier;
  } finally {
    for (const one of [classifier, run?.ema]) if (one !== kept) one?.dispose();
    if (!kept) run?.dispose();
  }
}

/** The same network with fresh weights, trained in each way; the one that does best on the images put aside. */
async function bestFromScratch(
  model: Backbone,
  set: Dataset,
  aside: Dataset,
  settings: Settings,
  ways: LowShotOptions["scratch"] = [{ warmupRatio: 0.2 }, { warmupRatio: 0.05 }, { warmupRatio: 0 }],
): Promise<{ classifier: NepaClassifier; chosen: NonNullable<LowShotRun["chosen"]> }> {
  const Class = model instanceof IJepaEncoder ? IJepaEncoder : Nepa, { config, preprocessor } = model;
  const fresh = new Class(config, { seed: settings.seed, preprocessor });
  let best: Awaited<ReturnType<typeof bestFromScratch>> | undefined, whole = false;
  const all: NepaClassifier[] = [];
  try {
    for (const way of ways) {
      const classifier = await trained(fresh, set, { ...settings, layerDecay: 1, ...way });
      all.push(classifier);
      const { accuracy } = await evaluate(classifier, aside, { signal: settings.signal });
      if (!best || accuracy > best.chosen.accuracy) best = { classifier, chosen: { way, accuracy } };
    }
    whole = true;
    return best!;
  } finally {
    for (const one of [fresh, ...all]) if (!whole || one !== best!.classifier) one.dispose();
  }
}
