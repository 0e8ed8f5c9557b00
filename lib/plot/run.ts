/** The course of a training run, drawn while it runs and when it is over. @module */
import { expectNamed } from "../base/check.ts";
import { type Figure, ink, palette } from "../display/figure.ts";
import { inNotebook, jupyterDisplay, liveDisplay } from "../display/jupyter.ts";
import { boardFigure, lightSvg, warningLines } from "../display/lines.ts";
import type { Edges, Line, LineBoard, LineChart } from "../display/lines.ts";
import { formatDuration, pace } from "../display/progress.ts";
import { formatNumber } from "../display/table.ts";
import { LOSS_WINDOW, METER, type Step } from "../training/history.ts";
import { Run } from "../training/run.ts";

const [blue, orange, green, crimson, violet, brown] = palette;

/** The mean of the last `LOSS_WINDOW` losses at each step, or of as many as there are. */
export function smooth(history: readonly Step[]): Map<Step, number> {
  let sum = 0;
  return new Map(history.map((step, i) => {
    sum += step.loss - (history[i - LOSS_WINDOW]?.loss ?? 0);
    return [step, sum / Math.min(i + 1, LOSS_WINDOW)];
  }));
}

type Value = (step: Step) => number | undefined;

/** A line through the steps at which something was measured. */
export function lineOf(
  history: readonly Step[],
  name: string,
  color: string,
  value: Value,
  style: Pick<Line, "width" | "dash"> = {},
): Line {
  const points = history.filter((step) => value(step) !== undefined);
  return { name, color, ...style, x: points.map(({ step }) => step), y: points.map((step) => value(step)!) };
}

/** A metric of a step by its name, where the step has it; `times` a factor. */
export function metric(name: string, times = 1): Value {
  return ({ metrics }) => typeof metrics?.[name] === "number" ? times * metrics[name] : undefined;
}

function lossLines({ history, cosine }: Run<unknown>): Line[] {
  const means = smooth(history);
  const beat = (name: string, color: string, read: string) =>
    lineOf(history, name, color, metric(read, -1), { dash: true }); // a predictor's loss: minus its cosine
  return [
    lineOf(history, "each step", "#8fb3d9", ({ loss }) => loss, { width: 1 }),
    lineOf(history, `mean of ${LOSS_WINDOW}`, blue, (step) => means.get(step)),
    lineOf(history, "held out", green, ({ validation }) => validation?.loss),
    ...cosine
      ? [
        beat("previous patch", orange, "previousPatch"),
        beat("mean", brown, "meanDirection"),
        beat("mean by position", crimson, "meanDirectionPerPosition"),
      ]
      : [],
  ];
}

/** A chart beside the loss: its title, numbers that it must show, and lines by name and color. */
type Side = readonly [title: string, include: number[], ...[name: string, color: string, value: Value][]];

const SIDES: readonly Side[] = [
  ["Spread", [0, 1], ["std", green, metric("featureStd")], ["mean cosine", crimson, metric("meanCosine")]],
  ["Effective rank of z", [1], ["effective rank", violet, metric("effectiveRank")]],
  ["Held-out accuracy", [0, 1], ["held-out accuracy", green, ({ validation }) => validation?.accuracy]],
  ["Accuracy of a linear probe", [0, 1], ["linear probe", violet, ({ probe }) => probe]],
  ["Learning rate", [0], ["learning rate", ink.soft, ({ lr }) => lr]],
  ["Gradient norm", [0], ["gradient norm", ink.soft, ({ gradNorm }) => gradNorm]],
];

/** The charts beside the loss, a method's own metrics after those that are known. */
export function sidesOf(histories: readonly (readonly Step[])[]): Side[] {
  const own = new Set(histories.flat().flatMap(({ metrics = {} }) => Object.keys(metrics)));
  const more = [...own].filter((name) => !METER.includes(name));
  return [...SIDES, ...more.map((n, i): Side => [n, [], [n, palette[i % palette.length]!, metric(n)]])];
}

/** The loss on the left, smaller charts on the right; without lines that have no points, and charts that have no lines. */
export function lossBoard(
  words: Pick<LineBoard, "title" | "subtitle" | "notice">,
  loss: readonly Line[],
  smaller: readonly Omit<LineChart, keyof Edges>[],
): LineBoard {
  const drawn = (lines: readonly Line[]) => lines.filter(({ x }) => x.length > 0);
  const filled = smaller.map((chart) => ({ ...chart, lines: drawn(chart.lines) }));
  const side = filled.filter(({ lines }) => lines.length > 0);
  const width = 820, lines = warningLines({ ...words, width }).length;
  const top = 104 + 15 * Math.max(0, lines - 1), gap = 38;
  const room = Math.max(366, 73 * side.length), share = room / side.length, bottom = top + room - gap;
  const main = { title: "Loss", lines: drawn(loss), left: 54, top, right: 544, bottom };
  const smallerAt = side.map((chart, i) => {
    const from = top + i * share;
    return { ...chart, left: 610, top: from, right: 808, bottom: from + share - gap };
  });
  return { ...words, xTitle: "step", width, height: bottom + 48, charts: [main, ...smallerAt] };
}

/** The charts of a run; below the title stands how it does, and `more`. */
function runBoard(run: Run<unknown>, ...more: readonly string[]): LineBoard {
  const head = { title: "Training", subtitle: headline(run, ...more), notice: run.notices.at(-1) };
  const sides = sidesOf([run.history]).map(([title, include, ...lines]) => {
    const style = { width: lines[0]![1] === ink.soft ? 1.5 : 2 }; // thin what is there at every step
    return { title, include, lines: lines.map((line) => lineOf(run.history, ...line, style)) };
  });
  return lossBoard(head, lossLines(run), sides);
}

/** How the run stands, in one line. */
function headline(run: Run<unknown>, ...more: readonly string[]): string {
  const { steps, lossFirst, lossLast } = run.result(), recent = run.history.slice(-LOSS_WINDOW);
  const loss = (n: number) => n.toFixed(4).replace("-", "−");
  const mean = (value: (s: Step) => number) =>
    recent.reduce((sum, step) => sum + value(step), 0) / recent.length;
  const of = steps === run.steps ? "" : ` of ${formatNumber(run.steps)}`;
  const words = [`${formatNumber(steps)}${of} steps`];
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
  return boardFigure(runBoard(run, ...words));
}

Run.show = (run) => runFigure(run)[jupyterDisplay]();

/** What is drawn while steps are made, and after. */
interface Drawing {
  total: number;
  done(): number;
  /** A frame; below the title stands what is given, too. */
  board(...more: readonly string[]): LineBoard;
  figure(): Figure;
}

/** Goes through `steps` with a frame at once and about three times a second; draws the figure of what is there in the end. */
export async function drawWhile(
  steps: AsyncIterable<unknown>,
  { total, done, board, figure }: Drawing,
): Promise<Figure> {
  const show = liveDisplay(), timeLeft = pace(total), before = done();
  let drawn = -Infinity, last: Figure | undefined;
  const draw = () => {
    const begins = done() === before && before < total, left = begins ? undefined : timeLeft(done());
    const now = performance.now();
    if (now - drawn < 300) return;
    drawn = now;
    const more = left === undefined ? [] : [`${formatDuration(left)} left`];
    const frame = board(...begins ? ["compiling"] : more);
    const svg = lightSvg({ ...frame, done: done() / total });
    show({ "text/html": `<div>${svg}</div>`, "text/plain": frame.subtitle });
  };
  try {
    draw();
    for await (const _ of steps) draw();
  } finally {
    last = figure();
    await show(await last[jupyterDisplay]());
  }
  return movingDown(last, show);
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
  return await drawWhile(run, {
    total: run.steps,
    done: () => run.history.at(-1)?.step ?? 0,
    board: (...more) => runBoard(run, ...more),
    figure: () => runFigure(run),
  });
}

/** The same figure, which leaves the place where it stands if it is shown at once again: as its cell's value. */
function movingDown(figure: Figure, place: ReturnType<typeof liveDisplay>): Figure {
  const show = figure[jupyterDisplay].bind(figure), stood = performance.now();
  figure[jupyterDisplay] = async () => {
    figure[jupyterDisplay] = show;
    if (performance.now() - stood < 1000) await place({ "text/plain": "" });
    return await show();
  };
  return figure;
}
