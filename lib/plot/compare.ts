/** Several runs over each other: from their folders, or while they go on side by side. @module */
import { basename } from "node:path";
import { entriesOf, type Named } from "../display/charts.ts";
import { type Figure, palette } from "../display/figure.ts";
import { inNotebook, say } from "../display/jupyter.ts";
import { boardFigure, type LineBoard } from "../display/lines.ts";
import { progress } from "../display/progress.ts";
import { formatNumber } from "../display/table.ts";
import { RunInterrupted } from "@nepa/engine";
import { expect, expectKinds, optional, run as isRun } from "../base/check.ts";
import { readLog } from "../training/log.ts";
import { LOSS_WINDOW, type Step } from "../training/history.ts";
import type { Run } from "../training/run.ts";
import { drawWhile, lineOf, lossBoard, sidesOf, smooth } from "./run.ts";

/** What is drawn of a run. */
type Compared = Pick<Run<unknown>, "history"> & { name: string; notices?: readonly string[] };

/** Runs over each other, a color for each. */
function comparison(runs: readonly Compared[], words: string): LineBoard {
  const through = (value: (step: Step) => number | undefined) =>
    runs.map(({ name, history }, i) =>
      lineOf(history, name, palette[i % palette.length]!, value, { dash: i >= palette.length })
    );
  const means = new Map(runs.flatMap(({ history }) => [...smooth(history)]));
  const held = ({ validation }: Step) => validation?.loss, legend = false;
  const others = sidesOf(runs.map(({ history }) => history)).map(([title, , line]) => {
    return { title, lines: through(line![2]), legend };
  });
  const notice = runs.flatMap(({ name, notices = [] }) => notices.map((said) => `${name}: ${said}`)).at(-1);
  const head = { title: "Runs", subtitle: words, notice };
  const charts = [{ title: "Held-out loss", lines: through(held), legend }, ...others];
  return lossBoard(head, through((step) => means.get(step)), charts);
}

/**
 * Draws runs over each other: the loss, as the mean of up to 50 steps, and what else they measured. A run may be going on.
 *
 * @param folders Those given as `checkpoint.folder`; the last parts of their names stand in the figure.
 * @returns The figure, a color for each run.
 * @throws {RangeError} If there is no folder, or one has no steps in its log.
 *
 * @example
 * ```ts
 * import { compareRuns, fashionMnist, Nepa, pretrain, useEngine } from "nepa";
 *
 * await useEngine("wasm");
 * const { train } = await fashionMnist(), runs = await Deno.makeTempDir();
 * for (const learningRate of [1e-3, 1e-2]) {
 *   const model = new Nepa({ preset: "mini" }, { seed: 0 }), checkpoint = { folder: `${runs}/${learningRate}` };
 *   await pretrain(model, train, { steps: 3, batchSize: 8, learningRate, checkpoint }).finish();
 *   model.dispose();
 * }
 * console.log(await compareRuns([`${runs}/0.001`, `${runs}/0.01`]));
 * await Deno.remove(runs, { recursive: true });
 * ```
 */
export async function compareRuns(folders: readonly string[]): Promise<Figure> {
  const list = ["a list", Array.isArray, 'such as ["runs/a", "runs/b"]'] as const;
  expectKinds("compareRuns", { folders: [folders, list] });
  expect(folders.length > 0, "folders", "one or more", "none");
  const runs = await Promise.all(folders.map(async (folder) => {
    const history = await readLog(folder);
    expect(history.length > 0, folder, "a metrics.csv with steps", "none");
    return { name: basename(folder), folder, history };
  }));
  const same = runs.some(({ name }, i) => runs.some((other, j) => i !== j && other.name === name));
  if (same) { for (const run of runs) run.name = run.folder; }
  return boardFigure(comparison(runs, `mean of ${LOSS_WINDOW} losses`));
}

/** Steps of all runs, one of each in turn. */
async function* inTurn(runs: readonly Run<unknown>[]): AsyncGenerator<void, void, void> {
  let going = runs.map((run) => run[Symbol.asyncIterator]());
  const all = going;
  try {
    while (going.length > 0) {
      const left: typeof going = [];
      for (const steps of going) if (!(await steps.next()).done) left.push(steps);
      going = left;
      yield;
    }
  } finally {
    const ends = await Promise.allSettled(all.map((steps) => steps.return())) as PromiseRejectedResult[];
    for (const { reason } of ends) {
      if (reason && !(reason instanceof RunInterrupted)) say(String(reason)); // what ended them is thrown already
    }
  }
}

/**
 * Drives several runs side by side, a step of each in turn, and draws them over each other as {@linkcode compareRuns} does:
 * live in a notebook, elsewhere with a progress bar. Ctrl-C and the notebook's Stop button end all of them after the current step.
 *
 * @param runs By the names that stand in the figure; of a Map, in its order.
 * @returns The figure; see `plotRun` for where it stands.
 * @throws {RangeError} If there is none.
 * @throws {RunInterrupted} After Ctrl-C in a script.
 * @throws {NonFiniteError} And whatever else ends a run; in a notebook all are drawn before.
 *
 * @example
 * ```ts
 * import { fashionMnist, Nepa, plotRuns, pretrain, useEngine } from "nepa";
 *
 * await useEngine("wasm");
 * const { train } = await fashionMnist(), options = { steps: 2, batchSize: 8 };
 * const run = (shift: boolean) => pretrain(new Nepa({ preset: "mini" }), train, { ...options, shift });
 * console.log(await plotRuns({ "with the shift": run(true), without: run(false) }));
 * ```
 */
export async function plotRuns(runs: Named<Run<unknown>>): Promise<Figure> {
  expectKinds("plotRuns", { runs: [runs, ["runs by name", optional[1], ""]] });
  const entries = entriesOf(runs), all = entries.map(([, run]) => run);
  expectKinds("plotRuns", Object.fromEntries(entries.map(([name, run]) => [name, [run, isRun]])));
  const named = entries.map(([name, { history, notices }]) => ({ name, history, notices }));
  expect(all.length > 0, "runs", "one or more", "none");
  const total = Math.max(...all.map((run) => run.steps));
  const done = () => Math.max(...named.map(({ history }) => history.at(-1)?.step ?? 0));
  const figure = () => boardFigure(comparison(named, `mean of ${LOSS_WINDOW} losses`));
  if (!inNotebook()) {
    await using bar = progress({ title: "training", total, unit: "steps", text: "compiling" });
    for await (const _ of inTurn(all)) bar.update(done());
    return figure();
  }
  const board = (...more: readonly string[]) =>
    comparison(named, [`${formatNumber(done())} of ${formatNumber(total)} steps`, ...more].join(" · "));
  return await drawWhile(inTurn(all), { total, done, board, figure });
}
