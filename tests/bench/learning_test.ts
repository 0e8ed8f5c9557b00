import { assert, assertAlmostEquals, assertEquals, assertRejects } from "@std/assert";
import { join } from "node:path";
import { fashionMnist, Nepa, nepaLoss, normalize, tf, useEngine } from "nepa";
import { finetuneCell, knnCell, pretrainCell, probeCell } from "../../bench/learning/cells.ts";
import { measureCell } from "../../bench/learning/measure.ts";
import { type Row, verdict, writePage } from "../../bench/learning/page.ts";
import { cellsOf, makePlan, TRIAL, WHOLE } from "../../bench/learning/plan.ts";
import { withSeeds } from "../../bench/learning/reference.ts";
import { type Cell, runCells, Store } from "../../bench/learning/run.ts";
import { sectionsOf } from "../../bench/learning/sections.ts";
import { PROJECT } from "../../notebooks/.tools/setup.ts";
import { withFolder } from "../support/folder.ts";
import { small } from "../support/small.ts";

await useEngine("cpu");
const sets = await fashionMnist();

/** Cells that write down when they run: one has weights, one reads them. */
function linked(ran: string[], steps = 1): { weights: Cell<number>; reader: Cell<string> } {
  const weights: Cell<number> = {
    name: "a/weights",
    options: { steps },
    rank: 1,
    seconds: 1,
    run: async ({ folder }) => {
      ran.push("weights");
      await Deno.writeTextFile(join(folder, "model"), `made in ${steps}`);
      return steps;
    },
  };
  const reader: Cell<string> = {
    name: "a/reader",
    options: {},
    needs: [weights],
    rank: 0,
    seconds: 1,
    run: ({ folderOf }) => {
      ran.push("reader");
      return Deno.readTextFile(join(folderOf(weights), "model"));
    },
  };
  return { weights, reader };
}

Deno.test("cells run after what they need, and no more once they have a result", async () => {
  await withFolder(async (folder) => {
    const ran: string[] = [], { weights, reader } = linked(ran), store = new Store(folder);
    for (let i = 0; i < 2; i++) await runCells([reader, weights, reader], store, sets);
    assertEquals(ran, ["weights", "reader"]);
    assertEquals((await store.read(reader))!.result, "made in 1");
    assertEquals([...Deno.readDirSync(join(folder, "a"))].filter(({ isDirectory }) => isDirectory).length, 1);
  });
});

Deno.test("a cell runs again when its options change, or those of a cell that it needs, and leaves no old weights", async () => {
  await withFolder(async (folder) => {
    const ran: string[] = [], store = new Store(folder), before = linked(ran, 1), after = linked(ran, 2);
    await runCells(cellsOf(before), store, sets);
    assertEquals(await store.read(after.reader), undefined);
    await runCells(cellsOf(after), store, sets, { only: "reader" });
    assertEquals(ran, ["weights", "reader", "weights", "reader"]);
    assertEquals((await store.read(after.reader))!.result, "made in 2");
    const folders = [...Deno.readDirSync(join(folder, "a"))].filter(({ isDirectory }) => isDirectory);
    assertEquals(folders.map(({ name }) => join("a", name)), [
      store.folder(after.weights).slice(folder.length + 1),
    ]);
  });
});

Deno.test("what was run elsewhere is not run again, but for weights that are needed here", async () => {
  await withFolder(async (folder) => {
    const ran: string[] = [], { weights, reader } = linked(ran), there = new Store(join(folder, "there"));
    await runCells([reader], there, sets);
    await writePage(folder, [{ title: "one", cells: [weights, reader], write: () => [] }], [], there);
    const second: Cell<string> = { ...reader, name: "a/second", options: { second: true } };
    const here = await Store.open(join(folder, "here"), join(folder, "results.jsonl"));
    assertEquals((await here.read(reader))!.result, "made in 1");
    await runCells([reader], here, sets);
    assertEquals(ran, ["weights", "reader"]);
    await writePage(folder, [{ title: "one", cells: [reader], write: () => [] }], [], there);
    await runCells([reader], await Store.open(join(folder, "other"), join(folder, "results.jsonl")), sets);
    assertEquals(ran, ["weights", "reader"], "weights that only a known result needed");
    await runCells([reader, second], here, sets);
    assertEquals(ran, ["weights", "reader", "weights", "reader"]); // the second time for `second`
    assertEquals((await here.read(second))!.result, "made in 1");
    const changed = linked(ran, 2);
    assertEquals(await here.read(changed.reader), undefined);
  });
});

Deno.test("a cell that fails keeps the others running, but those that need it, and is told of", async () => {
  await withFolder(async (folder) => {
    const ran: string[] = [], store = new Store(folder), { weights, reader } = linked(ran);
    const other: Cell<number> = {
      name: "b",
      options: {},
      rank: 2,
      seconds: 1,
      run: () => Promise.resolve(5),
    };
    const broken = { ...weights, run: () => Promise.reject(new RangeError("no such thing")) };
    await assertRejects(
      () => runCells([{ ...reader, needs: [broken] }, other], store, sets),
      Error,
      "failed: a/weights, a/reader",
    );
    assertEquals([ran, (await store.read(other))!.result], [[], 5]);
  });
});

Deno.test("no cell begins after the minutes given", async () => {
  await withFolder(async (folder) => {
    const ran: string[] = [];
    await runCells(cellsOf(linked(ran)), new Store(folder), sets, { minutes: 0 });
    assertEquals(ran, []);
  });
});

Deno.test("a figure is compared by twice the standard error of the difference", () => {
  // Both with standard deviation 1 and 3 seeds: noise is 2·√(2/3) = 1.633, and 0.005 for the reference's rounding.
  const row = (mean: number, more: Partial<Row> = {}): Row => ({
    what: "",
    found: [mean - 1, mean, mean + 1],
    reference: { mean: 80, std: 1, seeds: 3 },
    ...more,
  });
  assertEquals([81.6, 81.7, 78.3].map((mean) => verdict(row(mean))), ["within noise", "better", "worse"]);
  assertEquals(verdict(row(78.3, { better: "less" })), "better");
  assertEquals(verdict(row(78.3, { better: "neither" })), "lower");
  // One seed of the reference: 2·√(1 + 1/3) = 2.309.
  const single = { reference: { mean: 80, seeds: 1 } };
  assertEquals([82.3, 82.4].map((mean) => verdict(row(mean, single))), ["within noise", "better"]);
  assertEquals(verdict({ what: "", found: [90], ...single }), "one seed each");
  assertEquals(verdict(row(80, { found: [] })), "");
  // Further seeds count as the reference's: 80 ± 1 of 3 with 82 and 84 is 81.2 ± √3.7 of 5.
  const { mean, std, seeds } = withSeeds({ mean: 80, std: 1, seeds: 3 }, [82, 84]);
  assertAlmostEquals(mean, 81.2, 1e-12);
  assertAlmostEquals(std!, Math.sqrt(3.7), 1e-12);
  assertEquals(seeds, 5);
  assertEquals(verdict(row(83, { further: [82, 84] })), "within noise");
});

Deno.test("every cell is told of by a section, and the plan has the reference's protocol", () => {
  const plan = makePlan(WHOLE, 3), cells = cellsOf(plan), sections = sectionsOf(plan, WHOLE);
  assertEquals(new Set(cells.map(({ name }) => name)).size, cells.length);
  const told = new Set(sections.flatMap(({ cells }) => cells));
  assertEquals(cells.filter((cell) => !told.has(cell)).map(({ name }) => name), []);
  const { options } = plan.mini.trained[1]!.pretrain;
  assertEquals(options, {
    network: { preset: "mini" },
    seed: 1,
    training: {
      batchSize: 64,
      learningRate: 3e-3,
      weightDecay: 0.05,
      betas: [0.9, 0.95],
      warmupRatio: 0.1,
      clipNorm: 1,
      flip: 0.5,
      steps: 5000,
    },
  });
});

Deno.test("each kind of cell trains or evaluates, by its options, and leaves no tensors", async () => {
  await withFolder(async (folder) => {
    const store = new Store(folder),
      network = { ...small, numHiddenLayers: 1 },
      task = { rank: 0, seconds: 1 };
    const few = { train: sets.train.subset(0.003), test: sets.test.subset(0.003) },
      split = { fit: 60, judged: 30 };
    const plain = { batchSize: 8, compile: false, flip: 0.5 }, every = { collapse: 3 };
    const training = { ...plain, steps: 3, emaDecay: 0.5, every };
    const pretrain = pretrainCell({ name: "pretrain", ...task }, { network, seed: 1, training });
    const trained = { trained: pretrain }, fresh = { network, seed: 1 };
    const tuning = { labels: 20, aside: 50, seed: 1, training: { ...plain, steps: 2 } };
    const cells = {
      pretrain,
      measure: measureCell({ name: "measure", ...task }, trained, split, { causal: false, shift: false }),
      fresh: measureCell({ name: "fresh", ...task }, fresh, "all"),
      probe: probeCell({ name: "probe", ...task }, { ...trained, averaged: true }, {
        split,
        layers: true,
        causal: false,
      }),
      knn: knnCell({ name: "knn", ...task }, trained, { split, layers: true }),
      pixels: knnCell({ name: "pixels", ...task }, undefined, { split }),
      tuned: finetuneCell({ name: "tuned", ...task }, trained, tuning),
      scratch: finetuneCell({ name: "scratch", ...task }, fresh, { ...tuning, labels: "all" }),
    };
    const before = tf.memory().numTensors;
    await runCells(Object.values(cells), store, few);
    assertEquals(tf.memory().numTensors, before);
    const result = async <T>(cell: Cell<T>) => (await store.read(cell))!.result;
    const { curve, collapse } = await result(pretrain), { z, h, layerScale } = await result(cells.measure);
    assertEquals([curve.step, collapse.step], [[1, 2, 3], [1, 3]]);
    assert(z.effectiveRank > 1 && h.effectiveRank > 1 && layerScale.length === 1);
    const model = new Nepa(network, { seed: 1 }), { loss, layerScale: first } = await result(cells.fresh);
    const expected = tf.tidy(() => {
      const { images, shape } = [...few.test.batches({ size: 30, shuffle: false })][0]!;
      return nepaLoss(model.forward(tf.tensor4d(normalize(images, shape, model.preprocessor), shape)))
        .dataSync()[0]!;
    });
    assertAlmostEquals(loss, expected, 1e-5);
    assertAlmostEquals(first[0]!, 1e-5, 1e-9);
    model.dispose();
    assertEquals(Object.keys((await result(cells.probe)).accuracy), ["1", "embedding", "final"]);
    assertEquals(Object.keys(await result(cells.knn)), ["1", "final"]);
    assert((await result(cells.pixels))["pixels"]! > 0.3);
    assertEquals([(await result(cells.tuned)).labels, (await result(cells.scratch)).labels], [20, 130]);
  });
});

/** The bench in a process of its own, at the tests' budget. */
function bench(folder: string, ...more: string[]): Deno.ChildProcess {
  const where = ["--seeds", "1", "--out", join(folder, "out"), "--docs", join(folder, "docs")];
  return new Deno.Command(Deno.execPath(), {
    args: ["run", "--no-check", "--allow-all", "bench/mod.ts", "learning", ...where, ...more],
    cwd: PROJECT,
    env: { NEPA_BUDGET: "test", NO_COLOR: "1" },
    stdout: "piped",
    stderr: "piped",
  }).spawn();
}

/** Until the training of mini has made some steps, or the process ended; where the training is kept. */
async function underWay(folder: string, { status }: Deno.ChildProcess): Promise<string> {
  let ended = false;
  status.then(() => ended = true);
  const plan = makePlan(TRIAL, 1),
    run = join(new Store(join(folder, "out")).folder(plan.mini.trained[0]!.pretrain), "run");
  while (!ended) {
    const log = await Deno.readTextFile(join(run, "metrics.csv")).catch(() => "");
    if (log.split("\n").length > 20) return run;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error("the bench ended before it was under way");
}

Deno.test("a bench that was killed goes on from its checkpoint, and writes figures that were measured beside the reference's", async () => {
  await withFolder(async (folder) => {
    const killed = bench(folder, "--only", "mini/seed0/measure"), run = await underWay(folder, killed);
    killed.kill("SIGKILL");
    await killed.output();
    const { code, stdout, stderr } = await bench(folder, "--only", "mini/seed0/measure", "--json").output();
    const [said, told] = [stderr, stdout].map((bytes) => new TextDecoder().decode(bytes));
    assertEquals(code, 0, said);
    assert(/going on after step [1-9]/.test(said!), said);
    const lines = told!.trim().split("\n").map((line) => JSON.parse(line));
    assertEquals(lines.map(({ cell }) => cell), ["mini/seed0/pretrain", "mini/seed0/measure"]);
    const [{ result: trained }, { result: measured }] = lines;
    assert(trained.lossLast < trained.lossFirst && trained.lossLast > -1);
    assertEquals(trained.collapse.step, [1, 60]); // the first reading was made before the kill
    assertAlmostEquals(measured.loss, trained.curve.loss.at(-1), 0.1);
    await assertRejects(() => Deno.stat(run), Deno.errors.NotFound);
    const page = await Deno.readTextFile(join(folder, "docs", "results.md"));
    const loss = measured.loss.toFixed(4).replace("-", "−");
    const [, rest] = page.split("## 6. mini");
    assert(
      rest!.includes(`| held-out loss, 10,000 test images | ${loss} (1) | −0.9181 ± 0.0003 (2) |`),
      page,
    );
    assert(/^- Run: 2 of \d+ trainings/m.test(page) && page.includes("A trial"), page);
    assert(page.includes("| probe, best block | not run | 84.3 ± 0.1 (2) |"), page);
    const pictures = [...page.matchAll(/\]\((results-\w+\.svg)\)/g)].map(([, name]) => name!);
    assertEquals(pictures, ["results-loss.svg", "results-probe.svg"]);
    for (const name of pictures) assert((await Deno.stat(join(folder, "docs", name))).size > 1000, name);
  });
});
