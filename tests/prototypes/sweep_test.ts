import { assertAlmostEquals, assertEquals, assertNotEquals } from "@std/assert";
import { withFolder } from "../support/folder.ts";
import { everyWay, plainConfig, ways } from "../support/plain.ts";
import { noise } from "../support/tiny.ts";
import { sweep } from "./sweep.ts";

/** The losses of a log, by its header, read as any program would. */
function lossesOf(file: string): number[] {
  const [header, ...lines] = Deno.readTextFileSync(file).trim().split("\n").map((line) => line.split(","));
  return lines.map((cells) => Number(cells[header!.indexOf("loss")]));
}

everyWay("a sweep's means and deviations are those of its logs", async ({ compile }) => {
  await withFolder(async (folder) => {
    const options = { steps: 3, batchSize: 8, compile, rates: [1e-3, 1e-2, 1e-1] };
    const table = await sweep(plainConfig, noise, folder, options);
    const folders = [...Deno.readDirSync(folder)].map(({ name }) => name).sort();
    assertEquals(folders.length, 6);
    const all = new Map<number, number[]>();
    for (const name of folders) {
      const [, rate, seed] = /^rate (\S+) seed (\d)$/.exec(name)!,
        losses = lossesOf(`${folder}/${name}/metrics.csv`);
      assertEquals(losses.length, 3);
      const mean = losses.reduce((sum, x) => sum + x, 0) / 3;
      all.set(Number(rate), [...all.get(Number(rate)) ?? [], mean]);
      const { options } = JSON.parse(Deno.readTextFileSync(`${folder}/${name}/run.json`));
      assertEquals([options.seed, options.learningRate], [Number(seed), Number(rate)]);
    }
    assertEquals(table.rows.map(({ rate }) => rate), [...all.keys()].sort((a, b) => a - b));
    for (const { rate, mean, deviation, runs } of table.rows as unknown as Record<string, number>[]) {
      const [a, b] = all.get(rate!) as [number, number];
      assertAlmostEquals(mean!, (a + b) / 2, 1e-12);
      assertAlmostEquals(deviation!, Math.abs(a - b) / Math.SQRT2, 1e-12); // of two numbers
      assertNotEquals(deviation, 0);
      assertEquals(runs, 2);
    }
    const logs = folders.map((name) => Deno.readTextFileSync(`${folder}/${name}/metrics.csv`));
    assertEquals((await sweep(plainConfig, noise, folder, options)).rows, table.rows); // nothing is trained again
    assertEquals(folders.map((name) => Deno.readTextFileSync(`${folder}/${name}/metrics.csv`)), logs);
    assertEquals(new Set(logs).size, 6);
  });
}, ways.slice(1));
