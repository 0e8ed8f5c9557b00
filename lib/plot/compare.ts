/** Several runs over each other, from their folders. @module */
import { basename } from "node:path";
import { type Figure, palette } from "../display/figure.ts";
import { boardFigure, type Line } from "../display/lines.ts";
import { readLog } from "../log.ts";
import { LOSS_WINDOW, type Step } from "../run.ts";
import { lossBoard, smooth } from "./run.ts";

/** What is drawn beside the loss, where any of the runs has measured it. */
const SIDES: [string, (step: Step) => number | undefined][] = [
  ["Held-out loss", ({ validation }) => validation?.loss],
  ["Held-out accuracy", ({ validation }) => validation?.accuracy],
  ["Spread", ({ metrics }) => metrics?.featureStd],
  ["Learning rate", ({ lr }) => lr],
  ["Gradient norm", ({ gradNorm }) => gradNorm],
];

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
  if (folders.length === 0) throw new RangeError("folders: expected one or more, got none");
  const runs = await Promise.all(folders.map(async (folder, i) => {
    const history = await readLog(folder), color = palette[i % palette.length]!;
    if (history.length === 0) throw new RangeError(`${folder}: expected a metrics.csv with steps, got none`);
    return { name: basename(folder), history, color, dash: i >= palette.length };
  }));
  const through = (value: (step: Step) => number | undefined): Line[] =>
    runs.flatMap(({ history, ...style }) => {
      const points = history.filter((step) => value(step) !== undefined);
      return points.length === 0
        ? []
        : [{ ...style, x: points.map(({ step }) => step), y: points.map((step) => value(step)!) }];
    });
  const means = new Map(
    runs.flatMap(({ history }) => {
      const smoothed = smooth(history.map(({ loss }) => loss));
      return history.map((step, i) => [step, smoothed[i]!] as const);
    }),
  );
  const head = { title: "Runs", subtitle: `mean of ${LOSS_WINDOW} losses` };
  const sides = SIDES.map(([title, value]) => ({ title, lines: through(value), legend: false }));
  return boardFigure(lossBoard(head, through((step) => means.get(step)), sides));
}
