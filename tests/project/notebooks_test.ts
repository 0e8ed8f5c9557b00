import { assert, assertEquals, assertMatch, assertRejects, assertThrows } from "@std/assert";
import { basename, join, relative } from "node:path";
import {
  cellsOf,
  notebookOf,
  parseScript,
  scripts,
  toNotebook,
  withOutputs,
} from "../../notebooks/.tools/build.ts";
import { executeNotebook, NotebookError } from "../../notebooks/.tools/execute.ts";
import { jupyterEnvironment, NOTEBOOKS, PROJECT } from "../../notebooks/.tools/setup.ts";

interface Output {
  output_type: string;
  name?: string;
  text?: string | string[];
  data?: Record<string, unknown>;
}

/** What the code cells of an executed notebook put out, cell by cell. */
function outputsOf(notebook: string): Output[][] {
  const { cells } = JSON.parse(notebook) as { cells: { cell_type: string; outputs?: Output[] }[] };
  return cells.filter((cell) => cell.cell_type === "code").map((cell) => cell.outputs ?? []);
}

/** What the cells printed. */
function printed(outputs: readonly Output[]): string {
  return outputs.filter((output) => output.name === "stdout").flatMap((output) => output.text ?? []).join("");
}

/** Runs cells of code in a notebook of their own. */
async function runCells(
  sources: readonly string[],
  environment: Record<string, string> = {},
  folder = NOTEBOOKS,
) {
  const cells = sources.map((source) => ({ kind: "code" as const, source }));
  return outputsOf(await executeNotebook(toNotebook(cells), folder, environment));
}

Deno.test("a script is cut into text and code, and a notebook gives the same cells back", () => {
  const script =
    "// deno-lint-ignore-file\n// %% [markdown]\n// # Title\n//\n// Words.\n\n// %%\nconst a = 1;\n" +
    "\n// a comment\na;\n";
  const cells = parseScript(script);
  assertEquals(cells, [
    { kind: "markdown", source: "# Title\n\nWords." },
    { kind: "code", source: "const a = 1;\n\n// a comment\na;" },
  ]);
  assertEquals(cellsOf(toNotebook(cells)), cells);
  assertThrows(() => parseScript("// %% [markdown]\nconst a = 1;"), SyntaxError, "const a = 1;");
});

Deno.test("changed text is taken over with the outputs kept, changed code is not", async () => {
  const code = (source: string) => ({ kind: "code" as const, source });
  const text = (source: string) => ({ kind: "markdown" as const, source });
  const executed = await executeNotebook(toNotebook([text("Old."), code("1 + 1"), code("2 + 3")]), NOTEBOOKS);
  const cells = [code("1 + 1"), text("New."), code("2 + 3"), text("More.")];
  const changed = withOutputs(cells, executed);
  assertEquals(cellsOf(changed), cells);
  assertEquals(outputsOf(changed), outputsOf(executed));
  assertThrows(() => withOutputs([code("1 + 1"), code("2 + 4")], executed), Error, "run without --text");
});

Deno.test("a cell finds the library, and what it throws fails the notebook", async () => {
  const [first, second] = await runCells([
    `import { Random } from "nepa";\nconsole.log(new Random(0).next() === new Random(0).next());`,
    `console.log(Deno.env.get("NEPA_BUDGET"));`,
  ], { NEPA_BUDGET: "test" });
  assertEquals([printed(first!), printed(second!)], ["true\n", "test\n"]);
  const error = await assertRejects(
    () => runCells([`throw new RangeError("expected 1, got 2")`]),
    NotebookError,
    "RangeError: expected 1, got 2",
  );
  assert((error as Error).message.includes(`throw new RangeError("expected 1, got 2")`), "the cell is named");
});

Deno.test("no output is lost, however late the kernel sends it", async () => {
  const numbers = Array.from({ length: 30 }, (_, i) => 1000 + i);
  const outputs = await runCells(numbers.map((i) => `console.log("printed ${i}");\n${i}`));
  numbers.forEach((i, cell) => {
    assertEquals(printed(outputs[cell]!), `printed ${i}\n`);
    const shown = outputs[cell]!.filter((output) => output.output_type === "execute_result");
    assert(JSON.stringify(shown).includes(String(i)), `cell ${cell} shows no value`);
  });
});

Deno.test("a notebook in a folder of one's own uses the library by one line of deno.json", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const imports = { nepa: relative(folder, join(PROJECT, "mod.ts")) };
    await Deno.writeTextFile(join(folder, "deno.json"), JSON.stringify({ imports }));
    const cell = `import { fashionMnist } from "nepa";\nconsole.log((await fashionMnist()).test.length);`;
    const [outputs] = await runCells([cell], {}, folder);
    assertEquals(printed(outputs!), "10000\n");
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("the Stop button ends a training after its step, and a probe; later cells run, and the training goes on", async () => {
  const [, stopped, after, probed, drawn] = await runCells([
    `import { fashionMnist, linearProbe, Nepa, plotRun, pretrain, useEngine } from "nepa";
await useEngine();
const { train, test } = await fashionMnist();
const run = pretrain(new Nepa({ preset: "mini" }), train, { steps: 100_000, batchSize: 8 });`,
    `let sent = false; // what Stop does: a front end sends the kernel this signal
for await (const { step } of run) if (step >= 3 && !sent) sent = (Deno.kill(Deno.pid, "SIGINT"), true);
const done = run.history.length;
console.log(run.reason, done >= 3 && done < 100_000, run.history.at(-1)!.metrics!.collapsed);`,
    `for await (const _ of run) break;
console.log(run.history.length - done);`,
    `setTimeout(() => Deno.kill(Deno.pid, "SIGINT"), 500);
const error = await linearProbe(run.model, train, test).catch((error) => error);
console.log(String(error));`,
    `setTimeout(() => Deno.kill(Deno.pid, "SIGINT"), 1000);
const figure = String(await plotRun(run));
console.log(/· interrupted$/m.test(figure), run.result().stopped, run.history.at(-1)!.metrics!.collapsed);`,
  ]);
  assertEquals(printed(stopped!), "interrupted true false\n");
  assertEquals(
    printed(probed!).split("\n").at(-2),
    "RunInterrupted: linearProbe: interrupted",
  );
  assertEquals(printed(drawn!).split("\n").at(-2), "true true false");
  assertEquals(printed(after!), "1\n");
});

Deno.test("the Stop button saves a training that has a folder, and another kernel goes on with it", async () => {
  const folder = await Deno.makeTempDir();
  const begin = `import { fashionMnist, Nepa, pretrain, useEngine } from "nepa";
await useEngine();
const { train } = await fashionMnist(), checkpoint = { folder: ${JSON.stringify(folder)}, every: 50_000 };`;
  const run = (options: string) =>
    `const run = pretrain(new Nepa({ preset: "mini" }), train, { steps: 100_000, batchSize: 8, checkpoint: ${options} });`;
  try {
    const [, stopped] = await runCells([
      `${begin}\n${run("checkpoint")}`,
      `for await (const { step } of run) if (step === 3) Deno.kill(Deno.pid, "SIGINT");
console.log(run.reason, run.history.length);`,
    ]);
    const [, reason, steps] = /^(\w+) (\d+)\n$/m.exec(printed(stopped!)) ?? [];
    assertEquals(reason, "interrupted");
    const [after] = await runCells([
      `${begin}\n${run('{ ...checkpoint, resume: "auto" }')}
for await (const { step } of run) {
  console.log("goes on with step", step);
  break;
}`,
    ]);
    assertMatch(printed(after!), new RegExp(`goes on with step ${Number(steps) + 1}\n`));
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("running a notebook writes nothing into the user's home", async () => {
  const home = await Deno.makeTempDir();
  const info = await new Deno.Command(Deno.execPath(), { args: ["info", "--json"] }).output();
  const { denoDir } = JSON.parse(new TextDecoder().decode(info.stdout)) as { denoDir: string };
  try {
    await runCells(["1 + 1"], { HOME: home, DENO_DIR: denoDir });
    assertEquals([...Deno.readDirSync(home)].map((entry) => entry.name), []);
  } finally {
    await Deno.remove(home, { recursive: true });
  }
});

Deno.test("two processes that prepare Jupyter at once agree", async () => {
  const [one, two] = await Promise.all([jupyterEnvironment("execute"), jupyterEnvironment("execute")]);
  assertEquals(one, two);
  const spec = JSON.parse(await Deno.readTextFile(`${one.variables.JUPYTER_PATH}/kernels/deno/kernel.json`));
  assertEquals(spec.argv[0], Deno.execPath());
});

/** Little to do, and code that is compiled in less time, though it runs longer. */
const QUICK = { NEPA_BUDGET: "test", XLA_FLAGS: "--xla_backend_optimization_level=0" };

for (const script of scripts()) {
  const path = notebookOf(script), name = basename(path);

  Deno.test(`${name} is what its script says, with the outputs of a whole run`, async () => {
    const cells = parseScript(await Deno.readTextFile(script));
    const committed = await Deno.readTextFile(path);
    assertEquals(cellsOf(committed), cells, `run: deno task notebooks ${name.slice(0, 2)}`);
    assert(committed.length <= 3e6, `${name}: expected at most 3 MB, got ${committed.length} bytes`);
    const outputs = outputsOf(committed).flat();
    assert(outputs.some(({ data }) => data !== undefined && "image/png" in data), "it shows no picture");
    assert(!committed.includes(PROJECT), "it holds a path of the machine that ran it");
    for (const text of [`"output_type": "error"`, `"name": "stderr"`]) {
      assert(!committed.includes(text), text);
    }
    const text = cells.filter(({ kind }) => kind === "markdown").map(({ source }) => source).join("\n\n");
    assertEquals(text.match(/[^\n:]\n *1\.( .*)?$/gm), null, "a line of text that would become a list");
    const last = cells.at(-1)!.source, closing = cells.filter((cell) => cell.source.startsWith("## "));
    assert(last.includes("## Exercises") && closing.some((cell) => cell.source.includes("## Summary")));
  });

  Deno.test(`${name} runs in Jupyter at the tests' budget`, async () => {
    const notebook = toNotebook(parseScript(await Deno.readTextFile(script)));
    const outputs = outputsOf(await executeNotebook(notebook, NOTEBOOKS, QUICK));
    const said = outputs.flat().filter((output) => output.name === "stderr").flatMap(({ text }) =>
      text ?? []
    );
    assertEquals(said, []);
    assert(
      outputs.flat().some(({ data }) => data !== undefined && "image/png" in data),
      "it shows no picture",
    );
  });
}
