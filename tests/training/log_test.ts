import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { compareRuns, nepaLoss, type Objective, readLog, type Step, tf, useEngine } from "nepa";
import { withFolder } from "../support/folder.ts";
import { nepaAnd, refusal, tried } from "../support/objectives.ts";

await useEngine("wasm");

const NAMES = [
  'a, b ("c")',
  "std.of.h",
  "spread ∆ü✓",
  "1e3",
  "true",
  " space ",
  "loss2",
  "step",
  "__proto__",
];

/** NEPA's loss with a metric for each of these names. */
const told = (...names: string[]): Objective =>
  nepaAnd({
    loss: ({ outputs }) => {
      const loss = nepaLoss(outputs), metrics = names.map((name, i) => [name, tf.scalar(i + 0.1)]);
      return { ...Object.fromEntries(metrics), loss };
    },
  });

/** Trains up to a step, going on where the folder's last training stopped. */
async function train(
  folder: string,
  until: number,
  objective: Objective = nepaAnd({}),
): Promise<readonly Step[]> {
  const checkpoint = { folder, resume: "auto", every: 100 } as const;
  const run = tried(objective, { steps: 6, checkpoint, every: { collapse: 2 } });
  for await (const { step } of run) if (step === until) break;
  run.dispose();
  run.model.dispose();
  return run.history;
}

const lines = async (file: string) => (await Deno.readTextFile(file)).trimEnd().split(/\r?\n/);

/** Changes the lines of a file. */
async function edit(
  file: string,
  change: (line: string, i: number) => string,
  end = "\n",
): Promise<string[]> {
  const changed = (await lines(file)).map(change);
  await Deno.writeTextFile(file, changed.join(end) + end);
  return changed;
}

const losses = (steps: readonly Step[]) => steps.map(({ step, loss }) => [step, loss]);

/** What is printed on standard error by `work`. */
async function said(work: () => Promise<unknown>): Promise<string> {
  const before = console.error, printed: string[] = [];
  console.error = (line: string) => printed.push(line);
  try {
    await work();
  } finally {
    console.error = before;
  }
  return printed.join("\n");
}

Deno.test("a metric of any name goes through the log and a resumed run", async () => {
  await withFolder(async (folder) => {
    await train(folder, 3, told(...NAMES));
    const history = await train(folder, 6, told(...NAMES));
    for (const steps of [history, await readLog(folder)]) {
      assertEquals(steps.map(({ step }) => step), [1, 2, 3, 4, 5, 6]);
      for (const { metrics } of steps) {
        NAMES.forEach((name, i) => assertEquals(metrics![name], Math.fround(i + 0.1), name));
      }
      assertEquals(steps.map(({ metrics }) => metrics!.featureStd !== undefined), [
        true,
        true,
        false,
        true,
        false,
        true,
      ]);
    }
    assertEquals((await lines(`${folder}/metrics.csv`)).length, 7);
  });
});

Deno.test("a metric whose name has two lines is refused", async () => {
  for (const name of ["two\nlines", "two\rlines"]) {
    const message = await refusal(told(name));
    assertStringIncludes(message, `loss: expected a name of one line, got ${JSON.stringify(name)}`);
  }
});

Deno.test("columns of one's own stay in the log, wherever they are and whatever they hold, and runs are compared", async () => {
  await withFolder(async (place) => {
    const whole = losses(await train(`${place}/whole`, 6)), text = (i: number) => `"a, ""b"" ${i}"`;
    const columns: [name: string, change: (line: string, i: number) => string, end?: string][] = [
      ["before", (line, i) => `${i === 0 ? "note" : text(i)},${line}`],
      ["between", (line, i) => line.replace(",", `,${i === 0 ? '"lr, mine"' : i / 8},`)],
      ["after", (line, i) => `${line},${i === 0 ? "loss.smooth" : 2 * i}`],
      ["windows", (line, i) => `${line},${i === 0 ? "metrics" : text(i)}`, "\r\n"],
      ["excel", (line, i) => `${i === 0 ? "\uFEFFnote" : ""},${line}`, "\r\n"],
      ["twice", (line, i) => `${line},${i === 0 ? "note,constructor" : "x,"}`],
    ];
    for (const [name, change, end] of columns) {
      const folder = `${place}/${name}`;
      await train(folder, 3);
      const changed = await edit(`${folder}/metrics.csv`, change, end);
      await edit(`${folder}/timings.csv`, change, end);
      const words = await said(async () => assertEquals(losses(await train(folder, 6)), whole, name));
      assert(!words.includes("cannot be read"), words);
      for (const file of ["metrics.csv", "timings.csv"]) {
        assertEquals((await lines(`${folder}/${file}`)).length, 7);
      }
      const now = await lines(`${folder}/metrics.csv`);
      assertEquals(now.slice(0, 4), changed.map((line) => line.replace("\uFEFF", "")), name);
      assert(now.slice(4).every((line) => !/function|object/.test(line)), now.join("\n"));
      assertEquals(losses(await readLog(folder)), whole);
    }
    const [{ note }] = await readLog(`${place}/before`) as unknown as [{ note: string }];
    assertEquals(note, 'a, "b" 1');
    const { data } = (await compareRuns(columns.map(([name]) => `${place}/${name}`))).toJSON();
    assertEquals(new Set(data.map(({ name }) => name)), new Set(columns.map(([name]) => name)));
  });
});

Deno.test("a column that is added while a run is paused stays, and rows go on behind it", async () => {
  await withFolder(async (folder) => {
    const run = tried(nepaAnd({}), { steps: 4, checkpoint: { folder } });
    for await (const { step } of run) if (step === 2) break;
    await edit(`${folder}/metrics.csv`, (line, i) => `${i === 0 ? "note" : `n${i}`},${line}`);
    await run.finish();
    assertEquals((await lines(`${folder}/metrics.csv`)).map((line) => line.split(",")[0]), [
      "note",
      "n1",
      "n2",
      "",
      "",
    ]);
    assertEquals((await readLog(folder)).length, 4);
    run.model.dispose();
  });
});

Deno.test("lines that are damaged are kept beside the log, the others stay; a gap, a lost line end and a short log do no harm", async () => {
  await withFolder(async (place) => {
    const whole = losses(await train(`${place}/whole`, 6)),
      row = (...gone: number[]) => whole.filter(([step]) => !gone.includes(step!));
    const damages: [name: string, damage: (text: string) => string, left: typeof whole, old: boolean][] = [
      ["a line", (text) => text.replace("\n2,", "\nx2;"), row(2), true],
      ["an open quote", (text) => text.replace("\n2,", '\n2,"'), row(2), true],
      ["a row too short", (text) => text.replace(/\n2,.*/, "\n2,0"), row(2), true],
      ["a gap", (text) => text.replace(/\n2,.*/, ""), row(2), false],
      ["a short log", (text) => text.replace(/\n2,[^]*/, "\n"), row(2, 3), false],
      ["no line end", (text) => text.trimEnd(), whole, false],
      ["an empty line", (text) => text.replace("\n2,", "\n\n2,"), whole, false],
      ["nothing", () => "", row(1, 2, 3), false],
    ];
    for (const [name, damage, left, old] of damages) {
      const folder = `${place}/${name}`;
      await train(folder, 3);
      for (const file of ["metrics.csv", "timings.csv"]) {
        const path = `${folder}/${file}`, text = damage(await Deno.readTextFile(path));
        await Deno.writeTextFile(path, text);
      }
      const before = await Deno.readTextFile(`${folder}/metrics.csv`);
      const words = await said(async () => assertEquals(losses(await train(folder, 6)), left, name));
      assertEquals(words.includes("rows that cannot be read"), old, `${name}: ${words}`);
      assertEquals(losses(await readLog(folder)), left, name);
      const kept = await Deno.readTextFile(`${folder}/metrics.csv.old`).catch(() => undefined);
      assertEquals(kept, old ? before : undefined, name);
    }
  });
});
