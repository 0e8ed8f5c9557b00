/** The figures of the learning bench's page. @module */
import { Figure, formatNumber, type Trace } from "nepa";
import type { LayoutAxis } from "plotly-types";
import { palette } from "../../lib/display/figure.ts";
import { boardFigure, type Line } from "../../lib/display/lines.ts";
import type { ByLayer, Finetuned, Pretrained, Probed } from "./cells.ts";
import { bestOf, type Book, found, meanOf, stdOf } from "./page.ts";
import type { Plan, Size, SizePlan } from "./plan.ts";
import { MINI, NANO, PIXELS, type Reference } from "./reference.ts";
import type { Cell } from "./run.ts";

/** What the official code reaches with one size, by layer and by number of labels. */
interface Reached {
  trained: { lossLast: Reference };
  probe: Readonly<Record<string, Reference>>;
  finetune: Readonly<Record<number, Reference>>;
  scratch: Readonly<Record<number, Reference>>;
}

const SIZES: readonly (readonly [size: Size, reached: Reached, color: string])[] = [
  ["nano", NANO, palette[0]],
  ["mini", MINI, palette[1]],
];

/** A dashed line across, with its name in the legend. */
function across(name: string, y: number, color: string): Trace {
  return {
    type: "scatter",
    mode: "lines",
    name,
    xaxis: "x2",
    x: [0, 1],
    y: [y, y],
    line: { color, dash: "dot", width: 1.5 },
  };
}

const HIDDEN_AXIS: Partial<LayoutAxis> = { overlaying: "x", range: [0, 1], visible: false };

/** Losses of every pretraining, with where the official code's end. */
export function lossFigure(book: Book, plan: Plan): Figure {
  const traces = SIZES.flatMap(([size, reference, color]) => {
    const curves = plan[size].trained.flatMap(({ pretrain }) => book(pretrain) ?? []);
    return [
      ...curves.map(({ curve }, i): Trace => ({
        type: "scatter",
        mode: "lines",
        name: `${size}, a line for each seed`,
        legendgroup: size,
        showlegend: i === 0,
        x: curve.step,
        y: curve.loss,
        line: { color, width: 1.5 },
      })),
      across(`${size}, official: last 50 steps`, reference.trained.lossLast.mean, color),
    ];
  });
  return new Figure(traces, {
    title: {
      text: "Loss",
      subtitle: { text: "negative cosine of prediction and next patch; means of a hundredth of the steps" },
    },
    xaxis: { type: "log", title: { text: "step" } },
    xaxis2: HIDDEN_AXIS,
    yaxis: { title: { text: "training loss" } },
  });
}

/** A line over categories, with the standard deviation over seeds where there are several. */
function line(
  name: string,
  points: readonly { x: string | number; values: readonly number[] }[],
  color: string,
  dash: boolean,
): Trace {
  const there = points.filter(({ values }) => values.length > 0);
  return {
    type: "scatter",
    mode: "lines+markers",
    name,
    x: there.map(({ x }) => x) as string[],
    y: there.map(({ values }) => meanOf(values)),
    error_y: { type: "data", visible: true, array: there.map(({ values }) => stdOf(values)), color },
    line: { color, dash: dash ? "dash" : "solid" },
    marker: { symbol: dash ? "circle-open" : "circle", size: 7 },
  };
}

const official = (reference: Reference | undefined) => reference ? [reference.mean] : [];

/** Linear probes of the blocks and the last norm, ours and the official code's. */
export function probeFigure(book: Book, plan: Plan): Figure {
  const layers = ["1", "2", "3", "4", "final"],
    title = (layer: string) => layer === "final" ? layer : `block ${layer}`;
  const traces = SIZES.flatMap(([size, reference, color]) => {
    const cells: Cell<Probed>[] = plan[size].trained.map(({ probe }) => probe);
    const own = layers.map((layer) => ({
      x: title(layer),
      values: found(book, cells, ({ accuracy }) => 100 * accuracy[layer]!),
    }));
    const theirs = layers.map((layer) => ({ x: title(layer), values: official(reference.probe[layer]) }));
    return [line(size, own, color, false), line(`${size}, official`, theirs, color, true)];
  });
  const pixels = found(book, [plan.fresh[0]!.probe], ({ accuracy }) => 100 * accuracy["raw pixels"]!)[0] ??
    PIXELS.probe.mean;
  return new Figure([...traces, across("raw pixels", pixels, palette[7])], {
    title: {
      text: "Linear probe by the layer that is read",
      subtitle: { text: "bars: standard deviation over the seeds" },
    },
    xaxis: { type: "category" },
    xaxis2: HIDDEN_AXIS,
    yaxis: { title: { text: "accuracy on the test images, %" } },
  });
}

/** Test accuracies by number of labels, in percent. */
export function tunedPoints(
  book: Book,
  plan: SizePlan,
): { labels: number; finetune: number[]; scratch: number[] }[] {
  const percent = (result: Finetuned | undefined) => result ? [100 * result.accuracy] : [];
  const some = [...plan.trained[0]!.finetune.keys()].map((labels) => ({
    labels,
    finetune: plan.trained.flatMap(({ finetune }) => percent(book(finetune.get(labels)))),
    scratch: plan.scratch.flatMap((cells) => percent(bestOf(book, cells.get(labels)!))),
  }));
  const all = plan.all, labels = all && book(all.finetune)?.labels;
  if (!all || !labels) return some;
  return [...some, {
    labels,
    finetune: percent(book(all.finetune)),
    scratch: percent(bestOf(book, all.scratch)),
  }];
}

/** What pretraining buys, by number of labels. */
export function labelsFigure(book: Book, plan: Plan): Figure {
  const ticks = new Set<number>();
  const traces = SIZES.flatMap(([size, reference, color]) => {
    const points = tunedPoints(book, plan[size]);
    points.forEach(({ labels }) => ticks.add(labels));
    const { finetune, scratch } = reference;
    const crosses = points.flatMap(({ labels }) =>
      finetune[labels] ? [{ labels, y: finetune[labels].mean }] : []
    );
    const open = points.flatMap(({ labels }) => scratch[labels] ? [{ labels, y: scratch[labels].mean }] : []);
    const marks = (name: string, at: typeof crosses, symbol: string): Trace => ({
      type: "scatter",
      mode: "markers",
      name,
      x: at.map(({ labels }) => labels),
      y: at.map(({ y }) => y),
      marker: { color, symbol, size: 10 },
    });
    return [
      line(
        `${size}, pretrained`,
        points.map(({ labels, finetune }) => ({ x: labels, values: finetune })),
        color,
        false,
      ),
      line(
        `${size}, from scratch`,
        points.map(({ labels, scratch }) => ({ x: labels, values: scratch })),
        color,
        true,
      ),
      marks(`${size}, official, pretrained`, crosses, "x"),
      marks(`${size}, official, from scratch`, open, "x-open"),
    ];
  });
  const at = [...ticks].sort((a, b) => a - b);
  return new Figure(traces, {
    title: { text: "What pretraining buys", subtitle: { text: "bars: standard deviation over the seeds" } },
    xaxis: {
      type: "log",
      title: { text: "labels" },
      tickvals: at,
      ticktext: at.map(formatNumber),
    },
    yaxis: { title: { text: "accuracy on the test images, %" } },
  });
}

/** Loss and collapse meter of the ablations, seed 0. */
export function ablationFigure(book: Book, plan: Plan): Figure {
  const runs = Object.entries(plan.ablations).flatMap(([name, [first]], i) => {
    const result: Pretrained | undefined = book(first?.pretrain);
    return result ? [{ name, result, color: palette[i]! }] : [];
  });
  const lines = (of: (result: Pretrained) => { x: number[]; y: number[] }): Line[] =>
    runs.map(({ name, result, color }) => ({ name, color, ...of(result) }));
  const charts = [
    { title: "loss", lines: lines(({ curve }) => ({ x: curve.step, y: curve.loss })), legend: true },
    {
      title: "feature std of the patch embeddings",
      lines: lines(({ collapse: { step: x, featureStd: y } }) => ({ x, y })),
      include: [0],
      legend: false,
    },
    {
      title: "effective rank of the patch embeddings",
      lines: lines(({ collapse: { step: x, effectiveRank: y } }) => ({ x, y })),
      include: [1],
      legend: false,
    },
  ];
  return boardFigure({
    title: "Ablations",
    subtitle: "the loss cannot tell learning from collapse; spread and rank can",
    xTitle: "step",
    width: 820,
    height: 640,
    charts: charts.map((chart, i) => ({
      ...chart,
      left: 64,
      right: 800,
      top: 92 + 175 * i,
      bottom: 222 + 175 * i,
    })),
  });
}

/** The best of the blocks, in percent; of the test images, as in the reference. */
export function bestBlock(accuracy: ByLayer): number {
  return 100 *
    Math.max(...Object.entries(accuracy).filter(([name]) => /^\d+$/.test(name)).map(([, value]) => value));
}
