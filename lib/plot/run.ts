/** The course of a training run, drawn while it runs and when it is over. @module */
import { expectNamed } from "../base/check.ts";
import { type Figure, ink, palette } from "../display/figure.ts";
import { inNotebook, jupyterDisplay, type LiveDisplay, liveDisplay } from "../display/jupyter.ts";
import { boardFigure, lightSvg, warningLines } from "../display/lines.ts";
import type { Line, LineBoard, LineChart } from "../display/lines.ts";
import { formatDuration } from "../display/progress.ts";
import { formatNumber } from "../display/table.ts";
import { LOSS_WINDOW, METER, Run, type Step } from "../training/run.ts";

const [blue, orange, green, crimson, violet, brown] = palette;

/** The mean of the last `LOSS_WINDOW` losses at each step, or of as many as there are. */
export function smooth(losses: readonly number[]): number[] {
  let sum = 0;
  return losses.map((loss, i) => {
    sum += loss - (i < LOSS_WINDOW ? 0 : losses[i - LOSS_WINDOW]!);
    return sum / Math.min(i + 1, LOSS_WINDOW);
  });
}

/** A line through the steps at which something was measured. */
export function sparse(
  history: readonly Step[],
  name: string,
  color: string,
  value: (s: Step) => number | undefined,
): Line {
  const points = history.filter((step) => value(step) !== undefined);
  return { name, color, x: points.map(({ step }) => step), y: points.map((step) => value(step)!) };
}

/** A metric of a step by its name, where the step has it; `times` a factor. */
export function metric(name: string, times = 1): (step: Step) => number | undefined {
  return ({ metrics }) => typeof metrics?.[name] === "number" ? times * metrics[name] : undefined;
}

/** A line through every step. */
function dense(history: readonly Step[], name: string, color: string, value: (s: Step) => number): Line {
  return { ...sparse(history, name, color, value), width: 1.5 };
}

function lossLines({ history, cosine }: Run<unknown>): Line[] {
  const means = smooth(history.map(({ loss }) => loss));
  const mean = ({ step }: Step) => means[step - history[0]!.step]!;
  const beat = (name: string, color: string, read: string) => ({
    ...sparse(history, name, color, metric(read, -1)), // a predictor's loss: minus its cosine
    dash: true,
  });
  return [
    { ...dense(history, "each step", "#8fb3d9", ({ loss }) => loss), width: 1 },
    { ...dense(history, `mean of ${LOSS_WINDOW}`, blue, mean), width: 2 },
    sparse(history, "held out", green, ({ validation }) => validation?.loss),
    ...(cosine
      ? [
        beat("previous patch", orange, "previousPatch"),
        beat("mean", brown, "meanDirection"),
        beat("mean by position", crimson, "meanDirectionPerPosition"),
      ]
      : []),
  ];
}

/** What is drawn beside the loss: charts, and the lines of each. */
const SIDES: readonly Side[] = [
  ["Spread", [0, 1], ["std", green, metric("featureStd")], ["mean cosine", crimson, metric("meanCosine")]],
  ["Effective rank of z", [1], ["effective rank", violet, metric("effectiveRank")]],
  ["Held-out accuracy", [0, 1], ["held-out accuracy", green, ({ validation }) => validation?.accuracy]],
  ["Accuracy of a linear probe", [0, 1], ["linear probe", violet, ({ probe }) => probe]],
  ["Learning rate", [0], ["learning rate", ink.soft, ({ lr }) => lr]],
  ["Gradient norm", [0], ["gradient norm", ink.soft, ({ gradNorm }) => gradNorm]],
];

/** A chart: its title, numbers that it must show, and lines by name and color. */
type Side = readonly [
  title: string,
  include: number[],
  ...[name: string, color: string, value: (step: Step) => number | undefined][],
];

/** The charts beside the loss, a method's own metrics after those that are known. */
export function sidesOf(histories: readonly (readonly Step[])[]): Side[] {
  const own = new Set(histories.flat().flatMap(({ metrics = {} }) => Object.keys(metrics)));
  const more = [...own].filter((name) => !METER.includes(name));
  return [...SIDES, ...more.map((n, i): Side => [n, [], [n, palette[i % palette.length]!, metric(n)]])];
}

/** The smaller charts on the right. */
function sideCharts(history: readonly Step[]): Pick<LineChart, "title" | "lines" | "include">[] {
  return sidesOf([history]).map(([title, include, ...lines]) => {
    const width = lines[0]![1] === ink.soft ? 1.5 : 2; // what is there at every step
    const drawn = lines.map(([name, color, value]) => ({ ...sparse(history, name, color, value), width }));
    return { title, lines: drawn, include };
  });
}

/** Leaves out lines and charts without points. */
const filled = <C extends { lines: readonly Line[] }>(chart: C): C => ({
  ...chart,
  lines: chart.lines.filter(({ x }) => x.length > 0),
});

/** The loss on the left, smaller charts on the right, of those that have lines. */
export function lossBoard(
  words: Pick<LineBoard, "title" | "subtitle" | "notice">,
  loss: readonly Line[],
  smaller: readonly Pick<LineChart, "title" | "lines" | "include" | "legend">[],
): LineBoard {
  const side = smaller.map(filled).filter(({ lines }) => lines.length > 0);
  const width = 820, lines = warningLines({ ...words, width }).length;
  const top = 104 + 15 * Math.max(0, lines - 1), gap = 38;
  const room = Math.max(366, 73 * side.length), share = room / side.length, bottom = top + room - gap;
  const main = { ...filled({ title: "Loss", lines: loss }), left: 54, top, right: 544, bottom };
  const smallerAt = side.map((chart, i) => {
    const from = top + i * share;
    return { ...chart, left: 610, top: from, right: 808, bottom: from + share - gap };
  });
  return { ...words, xTitle: "step", width, height: bottom + 48, charts: [main, ...smallerAt] };
}

/** The charts of a run. @param words What stands below the title. */
function runBoard(run: Run<unknown>, words: string): LineBoard {
  const head = { title: "Training", subtitle: words, notice: run.notices.at(-1) };
  return lossBoard(head, lossLines(run), sideCharts(run.history));
}

/** How the run stands, in one line. */
function headline(run: Run<unknown>, ...more: readonly string[]): string {
  const { steps, lossFirst, lossLast } = run.result(), recent = run.history.slice(-LOSS_WINDOW);
  const loss = (n: number) => n.toFixed(4).replace("-", "−");
  const mean = (value: (s: Step) => number) =>
    recent.reduce((sum, step) => sum + value(step), 0) / recent.length;
  const done = formatNumber(steps),
    words = [steps === run.steps ? `${done} steps` : `${done} of ${formatNumber(run.steps)} steps`];
  if (steps > 0) {
    words.push(steps === 1 ? `loss ${loss(lossLast)}` : `loss ${loss(lossFirst)} → ${loss(lossLast)}`);
    words.push(`${formatNumber(Math.round(mean((step) => step.imagesPerSecond)))} images/s`);
    words.push(`${mean((step) => step.gflops).toPrecision(3)} GFLOP/s`);
  }
  return [...words, ...more].join(" · ");
}

/**
 * The course of a run so far: the loss beside what the trivial predictors reach (lines to beat), the spread and the rank
 * of the patch embeddings z, the learning rate, the gradient norm, and a chart for each number that the loss tells besides. Only
 * what the run has measured is drawn.
 */
export function runFigure(run: Run<unknown>): Figure {
  expectNamed("runFigure", { run });
  const { reason = run.history.length === 0 ? "not begun" : "", seconds } = run;
  const words = [seconds < 0.5 ? "" : formatDuration(seconds), reason].filter((word) => word);
  return boardFigure(runBoard(run, headline(run, ...words)));
}

Run.show = (run) => runFigure(run)[jupyterDisplay]();

/** Goes through `steps` with a frame at once and about three times a second; draws the figure of what is there in the end. */
export async function drawWhile(
  steps: AsyncIterable<unknown>,
  frame: () => { words: string; board: LineBoard },
  figure: () => Figure,
): Promise<Figure> {
  const live = liveDisplay();
  let drawn = -Infinity, last: Figure | undefined;
  const draw = () => {
    const now = performance.now();
    if (now - drawn < 300) return;
    drawn = now;
    const { words, board } = frame();
    live.draw({ "text/html": `<div>${lightSvg(board)}</div>`, "text/plain": words });
  };
  try {
    draw();
    for await (const _ of steps) draw();
  } finally {
    last = figure();
    await live.finish(await last[jupyterDisplay]());
  }
  return movingDown(last, live);
}

/** The time left by the pace so far, in words; the clock starts after the first step, which may have been compiled. */
export function timeLeft(steps: number): (done: number) => string[] {
  let first: { done: number; time: number } | undefined;
  return (done) => {
    const now = performance.now();
    first ??= { done, time: now };
    if (done <= first.done) return [];
    return [`${formatDuration((now - first.time) / (done - first.done) * (steps - done) / 1000)} left`];
  };
}

/**
 * Drives a run to its end, or to where it is stopped: drawn live in a notebook, elsewhere as `Run.finish` does.
 *
 * @returns The figure of the run, see {@linkcode runFigure}. In a notebook it stands below the cell already; it moves
 * down where it is the cell's value too.
 * @throws {RunInterrupted} After Ctrl-C in a script.
 * @throws {NonFiniteError} And whatever else ends the run; in a notebook it is drawn before.
 *
 * @example
 * ```ts
 * import { fashionMnist, Nepa, plotRun, pretrain, useEngine } from "nepa";
 *
 * await useEngine();
 * const { train } = await fashionMnist();
 * const model = new Nepa({ preset: "mini" }, { seed: 0 });
 * console.log(await plotRun(pretrain(model, train, { steps: 4, batchSize: 8, seed: 0 })));
 * ```
 */
export async function plotRun(run: Run<unknown>): Promise<Figure> {
  expectNamed("plotRun", { run });
  if (!inNotebook()) {
    await run.finish();
    return runFigure(run);
  }
  const left = timeLeft(run.steps), before = run.history.length;
  return await drawWhile(run, () => {
    const done = run.history.at(-1)?.step ?? 0;
    const begins = done < run.steps && run.history.length === before;
    const words = headline(run, ...(begins ? ["compiling"] : left(done)));
    return { words, board: { ...runBoard(run, words), done: done / run.steps } };
  }, () => runFigure(run));
}

/** The same figure, which leaves the place where it stands if it is shown at once again: as its cell's value. */
function movingDown(figure: Figure, live: LiveDisplay): Figure {
  const show = figure[jupyterDisplay].bind(figure), stood = performance.now();
  figure[jupyterDisplay] = async () => {
    figure[jupyterDisplay] = show;
    if (performance.now() - stood < 1000) await live.finish({ "text/plain": "" });
    return await show();
  };
  return figure;
}
