import { fileURLToPath } from "node:url";
import { assert, assertEquals, assertRejects } from "@std/assert";
import { toNotebook } from "../../notebooks/.tools/build.ts";
import { executeNotebook } from "../../notebooks/.tools/execute.ts";
import { NOTEBOOKS } from "../../notebooks/.tools/setup.ts";
import { jupyterDisplay } from "../../lib/display/jupyter.ts";
import { plotRuns } from "../../lib/plot/compare.ts";
import { plotRun, runFigure } from "../../lib/plot/run.ts";
import type { Step } from "../../lib/training/history.ts";
import { NonFiniteError, Run, type Training } from "../../lib/training/run.ts";
import { LineFit } from "../support/line_fit.ts";

Deno.test("a run's figure has a line for everything that was measured, and says how it stands", async () => {
  const run = new Run({}, new LineFit({ steps: 60, every: 20 }));
  for await (const { step } of run) if (step === 40) break;
  const figure = runFigure(run), { data, layout } = figure.toJSON();
  const names = data.map((trace) => trace.name);
  assertEquals(names, [
    ...["each step", "mean of 50", "previous patch", "mean", "mean by position"],
    ...["std", "mean cosine", "effective rank", "learning rate", "gradient norm"],
  ]);
  const y = (name: string) => data.find((trace) => trace.name === name)!.y as number[];
  const losses = run.history.map(({ loss }) => Number(loss.toPrecision(6)));
  assertEquals(y("each step"), losses);
  const mean = run.history.reduce((sum, { loss }) => sum + loss, 0) / 40;
  assertEquals(y("mean of 50").at(-1), Number(mean.toPrecision(6)));
  assertEquals(y("previous patch"), [0.25, 0.25]); // minus the mean cosine that it reaches
  assert(/40 of 60 steps · loss .* · break$/m.test(figure.toString()), figure.toString());
  await run.finish();
  assert(!runFigure(run).toString().includes("break"));
  assertEquals([layout.width, layout.height], [820, 480]);
});

Deno.test("the last losses alone make the mean of 50", async () => {
  const run = new Run({}, new LineFit({ steps: 120 }));
  await run.finish();
  const { data } = runFigure(run).toJSON(), means = data[1]!.y as number[];
  const last = run.history.slice(70).reduce((sum, { loss }) => sum + loss, 0) / 50;
  assertEquals(means.at(-1), Number(last.toPrecision(6)));
});

Deno.test("a run that has not begun has a figure too", async () => {
  const figure = runFigure(new Run({}, new LineFit({ steps: 5 })));
  assert(figure.toString().includes("0 of 5 steps"));
  assert((await figure.png()).length > 1000);
});

Deno.test("plotRun drives a run to its end, and lets its errors through", async () => {
  const run = new Run({}, new LineFit({ steps: 30 })), figure = await plotRun(run);
  assertEquals(run.history.length, 30);
  assertEquals(figure.toJSON(), runFigure(run).toJSON());
  class Failing extends LineFit {
    override async update(step: number): Promise<Step> {
      if (step === 10) throw new NonFiniteError("step 11: the loss is NaN");
      return await super.update(step);
    }
  }
  const broken = new Run({}, new Failing({ steps: 30 }) as Training);
  const error = await plotRun(broken).then(() => undefined, (e: unknown) => e);
  assert(error instanceof NonFiniteError);
  assertEquals(broken.history.length, 10);
  assert("image/png" in await broken[jupyterDisplay](), "it shows itself as far as it came");
});

Deno.test("several runs go on side by side, a step of each in turn, over each other in one figure", async () => {
  const order: string[] = [];
  class Noted extends LineFit {
    constructor(readonly name: string, steps: number, readonly broken = Infinity) {
      super({ steps, every: 2 });
    }
    override async update(step: number): Promise<Step> {
      if (step === this.broken) throw new NonFiniteError(`step ${step + 1}: the loss is NaN`);
      order.push(`${this.name}${step + 1}`);
      return await super.update(step);
    }
  }
  const one = new Run({}, new Noted("a", 2)), two = new Run({}, new Noted("b", 4));
  const { data } = (await plotRuns({ one, two })).toJSON();
  assertEquals(order, ["a1", "b1", "a2", "b2", "b3", "b4"]);
  const lines = data.filter(({ name }) => name === "two").map(({ y }) => y as number[]);
  const mean = two.history.reduce((sum, { loss }) => sum + loss, 0) / 4;
  assertEquals([lines[0]!.length, lines[0]!.at(-1)], [4, Number(mean.toPrecision(6))]);
  assertEquals(lines[1], [0.8, 0.8]); // the spread, as often as it was measured
  assertEquals(lines[2], [9, 9]); // the rank
  two.notices.push("step 4: collapsed.");
  assert(JSON.stringify(await plotRuns({ one, two })).includes("two: step 4: collapsed."));

  const whole = new Run({}, new Noted("c", 9)), broken = new Run({}, new Noted("d", 9, 3));
  await assertRejects(() => plotRuns({ whole, broken }), NonFiniteError, "step 4");
  assertEquals([whole.history.length, broken.history.length, whole.reason], [4, 3, "break"]);
  assertEquals((await whole.finish()).steps, 9);
  await assertRejects(() => plotRuns({}), RangeError, "one or more, got none");
});

interface Output {
  output_type: string;
  text?: string[];
  data?: Record<string, string | string[] | object>;
}

/** Runs cells in a real kernel; what each put out. */
async function runCells(sources: readonly string[]): Promise<Output[][]> {
  const prelude = `import { plotRuns } from "../lib/plot/compare.ts";
import { plotRun } from "../lib/plot/run.ts";
import { Run } from "../lib/training/run.ts";
import { progress } from "../lib/display/progress.ts";
import { LowShotResult } from "../lib/training/low_shot.ts";
import { LineFit } from "../tests/support/line_fit.ts";
const sent: string[] = [], texts: string[] = [], broadcast = Deno.jupyter.broadcast; // listens in
Deno.jupyter.broadcast = (type, content) => {
  const { data } = content as { data: Record<string, string> };
  sent.push([type, ...Object.keys(data)].join(" "));
  texts.push(String(data["text/plain"]).split(String.fromCharCode(10))[0]!);
  return broadcast(type, content);
};`;
  const cells = [prelude, ...sources].map((source) => ({ kind: "code" as const, source }));
  const notebook = JSON.parse(await executeNotebook(toNotebook(cells), NOTEBOOKS));
  return notebook.cells.slice(1).map((cell: { outputs: Output[] }) => cell.outputs);
}

const FIGURE = ["application/vnd.plotly.v1+json", "image/png", "text/plain"];
const formats = (outputs: Output[]) => outputs.map(({ data = {} }) => Object.keys(data).sort());

Deno.test("in a notebook a run moves as light frames and ends as one figure", async () => {
  const [drawn, told, asValue, broken, bar, result, several, shared, first, again, gone] = await runCells([
    `const run = new Run({}, new LineFit({ steps: 40, every: 10, delay: 25 })); const figure = await plotRun(run);`,
    `console.log(sent.join("\\n"));`,
    `await plotRun(new Run({}, new LineFit({ steps: 10 })))`,
    `const stopped = new Run({}, new LineFit({ steps: 40, delay: 5 }));
for await (const { step } of stopped) if (step === 20) break;
stopped`,
    `const bar = progress({ title: "counting", total: 3 });
for (let i = 1; i <= 3; i++) bar.update(i);
await bar.end("done");`,
    `new LowShotResult([
  { arm: "fine-tuned", labels: 60, seed: 0, accuracy: 0.6 },
  { arm: "linear probe", labels: 60, seed: 0, accuracy: 0.5 },
  { arm: "from scratch", labels: 60, seed: 0, accuracy: 0.4 },
])`,
    `const before = sent.length, pair = [1, 2].map(() => new Run({}, new LineFit({ steps: 40, every: 10, delay: 12 })));
await plotRuns({ one: pair[0]!, two: pair[1]! })`,
    `console.log(sent.slice(before, -1).join("\\n"));`,
    `console.log(texts[0], texts[before]);`,
    `await plotRun(run)`,
    `const counting = progress({ title: "counting", total: 3, text: "" });
counting.update(2);
await counting.end();`,
  ]);
  assertEquals(formats(drawn!), [FIGURE]);
  const frames = told!.flatMap(({ text = [] }) => text).join("").trim().split("\n");
  assertEquals(frames[0], "display_data text/html text/plain");
  assertEquals(frames.at(-1), `update_display_data ${FIGURE.join(" ")}`);
  const moving = frames.slice(1, -1);
  assert(
    moving.length >= 2 && moving.every((frame) => frame === "update_display_data text/html text/plain"),
    frames.join(),
  );
  assertEquals(asValue!.map(({ output_type }) => output_type), ["display_data", "execute_result"]);
  assertEquals(formats(asValue!), [["text/plain"], FIGURE], "the figure stands once");
  assertEquals(formats(broken!), [FIGURE]);
  assert(String(broken![0]!.data!["text/plain"]).includes("20 of 40 steps"));
  assertEquals(formats(bar!), [["text/html", "text/plain"]]);
  assert(String(bar![0]!.data!["text/plain"]).includes("3/3"));
  assertEquals(result!.map(({ output_type }) => output_type), ["display_data", "execute_result"]);
  assertEquals(
    formats(result!),
    [FIGURE, ["text/html", "text/plain"]],
    "an evaluation: its plot, then its table",
  );
  assertEquals(formats(several!), [["text/plain"], FIGURE]);
  const light = shared!.flatMap(({ text = [] }) => text).join("").split("\n")
    .filter((frame) => frame.endsWith("text/html text/plain"));
  assert(light.length >= 2, light.join());
  assertEquals(first![0]!.text!.join(""), "0 of 40 steps · compiling 0 of 40 steps · compiling\n");
  assert(
    !/compiling|0:00/.test(String(again!.at(-1)!.data!["text/plain"])),
    "the figure of a run that is over",
  );
  assertEquals(gone!.map(({ data }) => data), [{ "text/plain": [] }], "a bar without a last word goes");
});

Deno.test("without a terminal and a notebook plotRun is silent", async () => {
  const url = (path: string) => new URL(path, import.meta.url).href;
  const code = `import { plotRun } from "${url("../../lib/plot/run.ts")}";
import { Run } from "${url("../../lib/training/run.ts")}";
import { LineFit } from "${url("../support/line_fit.ts")}";
await plotRun(new Run({}, new LineFit({ steps: 20 })));`;
  const file = await Deno.makeTempFile({ suffix: ".ts", dir: fileURLToPath(new URL("..", import.meta.url)) });
  try {
    await Deno.writeTextFile(file, code);
    const command = new Deno.Command(Deno.execPath(), { args: ["run", "--allow-all", file], stdin: "null" });
    const { success, stdout, stderr } = await command.output();
    assertEquals([success, stdout.length, new TextDecoder().decode(stderr)], [true, 0, ""]);
  } finally {
    await Deno.remove(file);
  }
});
