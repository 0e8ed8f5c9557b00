import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import { type Figure, Nepa } from "nepa";
import { withFolder } from "../support/folder.ts";
import { constant, cosineLoss, everyWay, plainConfig, positions } from "../support/plain.ts";
import { setting, trainPlainly } from "../support/plain.ts";
import { noise } from "../support/tiny.ts";
import { compareSpread } from "./metric.ts";

/** By loops: the deviation of each dimension over all rows, their mean. */
function deviation(rows: number[][]): number {
  const deviations = rows[0]!.map((_, d) => {
    const mean = rows.reduce((sum, row) => sum + row[d]! / rows.length, 0);
    return Math.sqrt(rows.reduce((sum, row) => sum + (row[d]! - mean) ** 2 / rows.length, 0));
  });
  return deviations.reduce((sum, x) => sum + x / deviations.length, 0);
}

/** The heights of a line of a figure; in a comparison a line has its run's name, and stands in the chart of that title. */
const heights = (figure: Figure, name: string): number[][] =>
  figure.toJSON().data.filter((trace) => trace.name === name).map(({ y }) => Array.from(y as number[]));
const close = (a: readonly number[], b: readonly number[]) =>
  a.length === b.length && a.every((x, i) => Math.abs(x - b[i]!) < 1e-3 * (1 + Math.abs(b[i]!)));

everyWay("a number of one's own is in the log, the plot and the comparison", async ({ compile }) => {
  await withFolder(async (folder) => {
    const wanted: number[][] = [];
    for (const layerscaleValue of [1e-5, null]) {
      const mine = new Nepa({ ...plainConfig, layerscaleValue }, { seed: 0 }), seen: number[] = [];
      await trainPlainly({
        ...{ model: mine, parameters: mine.parameters },
        loss({ batch: { images }, draws }) {
          const { embeddings, predictions } = mine.forward(images, { draws });
          seen.push(deviation((predictions.arraySync() as number[][][]).flat()));
          return cosineLoss(positions(predictions, 0, 4), constant(positions(embeddings, 1, 5)));
        },
      });
      wanted.push(seen);
      mine.dispose();
    }
    const { figures, logged, comparison } = await compareSpread(plainConfig, noise, folder, {
      ...setting,
      compile,
    });
    logged.forEach((values, run) => {
      assertEquals(values.length, setting.steps);
      values.forEach((x, k) => assertAlmostEquals(x, wanted[run]![k]!, 1e-3));
      assertEquals(heights(figures[run]!, "std of ẑ").length, 1);
      assert(close(heights(figures[run]!, "std of ẑ")[0]!, wanted[run]!));
      const name = ["with layer scale", "without"][run]!;
      assert(heights(comparison, name).some((line) => close(line, wanted[run]!)), name);
    });
    assert(JSON.stringify(comparison.toJSON()).includes("std of ẑ"));
  });
});
