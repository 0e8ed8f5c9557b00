/** The course of a training run, drawn while it runs and when it is over. @module */
import { type Figure, ink, palette } from "../display/figure.ts";
import { inNotebook, jupyterDisplay, type LiveDisplay, liveDisplay } from "../display/jupyter.ts";
import { boardFigure, lightSvg, type Line, type LineBoard, type LineChart } from "../display/lines.ts";
import { formatDuration } from "../display/progress.ts";
import { formatNumber } from "../display/table.ts";
import { LOSS_WINDOW, type Metrics, Run, type Step } from "../run.ts";

const [blue, orange, green, crimson, violet, brown] = palette;

/** The mean of the last `LOSS_WINDOW` losses at each step, or of as many as there are. */
function smooth(losses: readonly number[]): number[] {
  let sum = 0;
  return losses.map((loss, i) => {
    sum += loss - (i < LOSS_WINDOW ? 0 : losses[i - LOSS_WINDOW]!);
    return sum / Math.min(i + 1, LOSS_WINDOW);
  });
}

/** A line through the steps at which something was measured. */
function metricLine(
  history: readonly Step[],
  name: string,
  color: string,
  value: (m: Metrics) => number | undefined,
): Line {
  const points = history.flatMap(({ step, metrics }) => {
    const y = metrics && value(metrics);
    return y === undefined ? [] : [[step, y] as const];
  });
  return { name, color, x: points.map(([x]) => x), y: points.map(([, y]) => y) };
}

function lossLines(history: readonly Step[]): Line[] {
  const x = history.map(({ step }) => step), losses = history.map(({ loss }) => loss);
  const beat = (name: string, color: string, value: (m: Metrics) => number) => ({
    ...metricLine(history, name, color, (m) => -value(m)), // a predictor's loss is minus its mean cosine
    dash: true,
  });
  return [
    { name: "each step", x, y: losses, color: "#8fb3d9", width: 1 },
    { name: `mean of ${LOSS_WINDOW}`, x, y: smooth(losses), color: blue },
    metricLine(history, "validation", green, (m) => m.validationLoss),
    beat("previous patch", orange, (m) => m.previousPatch),
    beat("mean", brown, (m) => m.meanDirection),
    beat("mean by position", crimson, (m) => m.meanDirectionPerPosition),
  ];
}

/** The smaller charts on the right. */
function sideCharts(history: readonly Step[]): Omit<LineChart, "left" | "top" | "right" | "bottom">[] {
  const x = history.map(({ step }) => step);
  const spread = [
    metricLine(history, "std", green, (m) => m.featureStd),
    metricLine(history, "mean cosine", crimson, (m) => m.meanCosine),
  ];
  return [
    { title: "Spread of z", lines: spread, include: [0, 1] },
    {
      title: "Effective rank of z",
      lines: [metricLine(history, "effective rank", violet, (m) => m.effectiveRank)],
      include: [1],
    },
    {
      title: "Learning rate",
      lines: [{ name: "learning rate", x, y: history.map(({ lr }) => lr), color: ink.soft }],
      include: [0],
    },
    {
      title: "Gradient norm",
      lines: [{
        name: "gradient norm",
        x,
        y: history.map(({ gradNorm }) => gradNorm),
        color: ink.soft,
        width: 1,
      }],
      include: [0],
    },
  ];
}

/** Leaves out lines and charts without points. */
const filled = <C extends { lines: readonly Line[] }>(chart: C): C => ({
  ...chart,
  lines: chart.lines.filter(({ x }) => x.length > 0),
});

/** The charts of a run. @param words What stands below the title. */
function runBoard({ history, notices }: Run<unknown>, words: string): LineBoard {
  const width = 900, height = 500, top = 104, bottom = 452, gap = 38;
  const side = sideCharts(history).map(filled).filter(({ lines }) => lines.length > 0);
  const share = (bottom - top + gap) / side.length;
  return {
    title: "Training",
    subtitle: words,
    notice: notices.at(-1),
    xTitle: "step",
    width,
    height,
    charts: [
      { ...filled({ title: "Loss", lines: lossLines(history) }), left: 58, top, right: 596, bottom },
      ...side.map((chart, i) => ({
        ...chart,
        left: 668,
        top: top + i * share,
        right: 884,
        bottom: top + (i + 1) * share - gap,
      })),
    ],
  };
}

/** How the run stands, in one line. */
function headline(run: Run<unknown>, seconds?: number): string {
  const { steps, lossFirst, lossLast } = run.result(), last = run.history.at(-1);
  const count = (n: number) => n.toLocaleString("en-US"),
    loss = (n: number) => n.toFixed(4).replace("-", "−");
  const words = [
    steps === run.steps ? `${count(steps)} steps` : `${count(steps)} of ${count(run.steps)} steps`,
  ];
  if (steps < run.steps && run.reason !== undefined) words.push(run.reason);
  if (steps > 0) words.push(`loss ${loss(lossFirst)} → ${loss(lossLast)}`);
  if (last) {
    words.push(
      `${formatNumber(Math.round(last.imagesPerSecond))} images/s`,
      `${formatNumber(Number(last.gflops.toPrecision(3)))} GFLOP/s`,
    );
  }
  if (seconds !== undefined) words.push(formatDuration(seconds));
  return words.join(" · ");
}

/**
 * The course of a run so far: the loss beside what the trivial predictors reach (lines to beat), the spread and the rank
 * of the patch embeddings z, the learning rate, the gradient norm. Only what the run has measured is drawn.
 */
export function runFigure(run: Run<unknown>): Figure {
  return boardFigure(runBoard(run, headline(run)));
}

Run.show = (run) => runFigure(run)[jupyterDisplay]();

/** Drives a run, drawing it about three times a second. */
async function drawWhileRunning(run: Run<unknown>, live: LiveDisplay): Promise<void> {
  let drawn = -Infinity, first: { step: number; time: number } | undefined;
  for await (const { step } of run) {
    const now = performance.now();
    first ??= { step, time: now }; // the first step may have been compiled, so the clock starts after it
    if (now - drawn < 300) continue;
    drawn = now;
    const left = step > first.step
      ? (now - first.time) / (step - first.step) * (run.steps - step) / 1000
      : undefined;
    const words = headline(run) + (left === undefined ? "" : ` · ${formatDuration(left)} left`);
    const svg = lightSvg({ ...runBoard(run, words), done: step / run.steps });
    live.draw({ "text/html": `<div>${svg}</div>`, "text/plain": words });
  }
}

/**
 * Drives a run to its end, or to where it is stopped: drawn live in a notebook, with a progress bar in a terminal,
 * silently elsewhere.
 *
 * @returns The figure of the run, see {@linkcode runFigure}. In a notebook it stands below the cell already; it moves
 * down where it is the cell's value too.
 * @throws {NonFiniteError} And whatever else ends the run; it is drawn before.
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
  if (!inNotebook()) {
    await run.finish();
    return runFigure(run);
  }
  const live = liveDisplay(), started = performance.now();
  let figure: Figure | undefined;
  try {
    await drawWhileRunning(run, live);
  } finally {
    figure = boardFigure(runBoard(run, headline(run, (performance.now() - started) / 1000)));
    await live.finish(await figure[jupyterDisplay]());
  }
  return movingDown(figure, live);
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
