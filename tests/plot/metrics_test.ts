import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import {
  compareRuns,
  type Figure,
  Nepa,
  nepaLoss,
  plotRun,
  plotRuns,
  pretrain,
  type PretrainOptions,
} from "nepa";
import { readLog, Run, runFigure, type Step, tf, useEngine } from "nepa";
import { config, noise } from "../support/tiny.ts";
import { LineFit } from "../support/line_fit.ts";

const NAMES = ["std of ẑ", 'a, "b" <c>'];

/** Tells two numbers beside the loss, at every step. */
const telling = (options: PretrainOptions = {}) =>
  pretrain(new Nepa(config, { seed: 1 }), noise, {
    ...{ steps: 8, batchSize: 8, every: { collapse: 4 } },
    objective: {
      name: "telling",
      loss: ({ embeddings, predictions }) => ({
        loss: nepaLoss({ embeddings, predictions }),
        [NAMES[0]!]: tf.moments(predictions).variance.sqrt() as tf.Scalar,
        [NAMES[1]!]: tf.mean(tf.square(embeddings)) as tf.Scalar,
      }),
    },
    ...options,
  });

const lines = (figure: Figure, name: string) => figure.toJSON().data.filter((trace) => trace.name === name);
const round = (values: number[]) => values.map((x) => Number(x.toPrecision(6)));

for (const engine of ["tensorflow", "wasm"] as const) {
  Deno.test(`numbers that a loss tells are charts of the run, by name, on ${engine}`, async () => {
    await useEngine(engine);
    const run = telling(),
      figure = await plotRun(run),
      told = run.history.map(({ metrics }) => metrics![NAMES[0]!]);
    assert(told.every((x) => typeof x === "number" && x > 0), told.join());
    const [line, ...others] = lines(figure, NAMES[0]!);
    assertEquals([line!.y, others], [round(told as number[]), []]);
    assertEquals(lines(figure, 'a, "b" &#60;c&#62;')[0]!.x, [1, 2, 3, 4, 5, 6, 7, 8]);
    assertEquals(lines(figure, "std")[0]!.x, [1, 4, 8]); // the meter's, as often as it reads
    assertEquals(lines(figure, "previous patch")[0]!.x, [1, 4, 8]);
    assertEquals(lines(figure, "collapsed"), []);
    assert(
      figure.toString().includes(`${NAMES[0]}: `) && figure.toString().includes(`${NAMES[1]}: `),
      figure.toString(),
    );
  });

  Deno.test(`runs are compared by the numbers that their losses tell, from their folders too, on ${engine}`, async () => {
    await useEngine(engine);
    const root = await Deno.makeTempDir(), folder = (name: string) => `${root}/${name}`;
    const made = {
      one: telling({ checkpoint: { folder: folder("one") } }),
      two: telling({ learningRate: 1e-2, checkpoint: { folder: folder("two") } }),
    };
    const live = await plotRuns(made), kept = await compareRuns([folder("one"), folder("two")]);
    for (const figure of [live, kept]) {
      for (const [name, { history }] of Object.entries(made)) {
        const told = round(history.map(({ metrics }) => metrics![NAMES[1]!] as number));
        assertEquals(lines(figure, name).filter(({ y }) => String(y) === String(told)).length, 1, name);
      }
      assert(figure.toString().includes(`${NAMES[0]}, one: `), figure.toString());
      assert(figure.toString().includes(`Learning rate, two: `), figure.toString());
      assert((await figure.svg()).includes("std of ẑ"));
    }
    const read = await readLog(folder("two"));
    read.forEach(({ metrics }, i) =>
      assertAlmostEquals(
        metrics![NAMES[0]!] as number,
        made.two.history[i]!.metrics![NAMES[0]!] as number,
        1e-6,
      )
    );
    await Deno.remove(root, { recursive: true });
  });
}

Deno.test("a run with many numbers of its own has a chart for each, in a higher figure, and one not measured is left out", async () => {
  class Telling extends LineFit {
    override async update(step: number): Promise<Step> {
      const { metrics: _, ...rest } = await super.update(step);
      const told = Object.fromEntries(Array.from({ length: 10 }, (_, i) => [`number ${i}`, i * step]));
      return { ...rest, metrics: { ...told, ...(step === 3 && { rare: 1 }), text: "none" } as never };
    }
  }
  const run = new Run({}, new Telling({ steps: 5 }));
  await run.finish();
  const figure = runFigure(run), { data, layout } = figure.toJSON();
  assertEquals(data.slice(2).map(({ name }) => name), [
    ...["learning rate", "gradient norm"],
    ...Array.from({ length: 10 }, (_, i) => `number ${i}`),
    "rare",
  ]);
  assertEquals(data.at(-1)!.x, [4]);
  assert(layout.height > 1000, `${layout.height}`);
  const domains = Object.entries(layout).filter(([key]) => /^yaxis\d+$/.test(key)).map(([, axis]) =>
    (axis as { domain: [number, number] }).domain
  );
  assertEquals(domains.length, 13);
  domains.forEach(([low, high]) => assert((high - low) * layout.height > 30));
  const other = new Run({}, new LineFit({ steps: 5, every: 2 }));
  const { data: both } = (await plotRuns({ one: run, other })).toJSON();
  assertEquals(both.filter(({ name }) => name === "other").length, 5); // loss, spread, rank, rate, norm
  assertEquals(both.filter(({ name }) => name === "one").length, 3 + 11);
});
