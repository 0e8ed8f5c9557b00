import { fileURLToPath } from "node:url";
import { assert, assertEquals, assertThrows } from "@std/assert";
import { escapeHtml, inNotebook, jupyterDisplay } from "../../lib/display/jupyter.ts";
import { formatDuration, progress, progressLine } from "../../lib/display/progress.ts";
import { formatNumber, formatPercent, Table } from "../../lib/display/table.ts";
import { needs } from "../support/needs.ts";

Deno.test("a table lines its columns up, numbers to the right, and leaves gaps where a row lacks a column", () => {
  const table = new Table([{ features: "NEPA", accuracy: 0.8364, layer: 3 }, {
    features: "pixels",
    accuracy: 0.84,
  }], {
    title: "Probe",
    note: "10,000 images",
    format: { accuracy: formatPercent },
  });
  assertEquals(
    table.toString(),
    "Probe\nfeatures  accuracy  layer\nNEPA        83.6 %      3\npixels      84.0 %\n10,000 images",
  );
  assertEquals(Deno.inspect(table), table.toString());
});

Deno.test("a table's HTML escapes what stands in it", () => {
  const { "text/html": html } = new Table([{ "<b>": '<script>alert("&")</script>' }])[jupyterDisplay]();
  assert(!/<b>|<script>/.test(html as string));
  assert((html as string).includes(escapeHtml("<script>")));
});

Deno.test("numbers are written short", () => {
  assertEquals(
    [0.123456, -0.92117, 1234567, 12345.678, 3e-5, 2.5e9 + 0.5, NaN, 0].map(formatNumber),
    ["0.1235", "-0.9212", "1,234,567", "12346", "3.00e-5", "2.50e+9", "NaN", "0"],
  );
  assertEquals([7, 723, 3723, 3599.6].map(formatDuration), ["0:07", "12:03", "1:02:03", "1:00:00"]);
});

Deno.test("a bar fills as work is done and never grows wider than it may", () => {
  const state = {
    title: "training",
    total: 40,
    unit: "steps",
    done: 10,
    text: "loss -0.8",
    seconds: 5,
    left: 15,
  };
  assertEquals(
    progressLine(state, 80),
    "training  ━━━━━━━╸······················  10/40 steps  0:15 left  loss -0.8",
  );
  assertEquals(
    progressLine({ ...state, done: 40, left: undefined }, 44),
    "training  40/40 steps  in 0:05  loss -0.8",
  );
  for (let width = 10; width < 120; width++) {
    assert(progressLine(state, width).length <= width, `width ${width}`);
  }
});

Deno.test("progress refuses a total that is no number", () => {
  assertThrows(() => progress({ title: "x", total: NaN }), RangeError, "got NaN");
});

/** Runs a program that counts to three with a bar; in a pseudo-terminal, if wanted. */
const CONFIG = fileURLToPath(new URL("../../deno.json", import.meta.url));

async function count(terminal: boolean): Promise<string> {
  const code = `import { progress } from "${new URL("../../lib/display/progress.ts", import.meta.url)}";
    const bar = progress({ title: "count", total: 3 });
    for (let i = 1; i <= 3; i++) { bar.update(i); await new Promise((r) => setTimeout(r, 110)); }
    await bar.end("done");`;
  const file = await Deno.makeTempFile({ suffix: ".ts" });
  try {
    await Deno.writeTextFile(file, code);
    const deno = [Deno.execPath(), "run", "-A", "--config", CONFIG, file];
    const [command, ...args] = terminal ? ["script", "-qec", deno.join(" "), "/dev/null"] : deno;
    const env = { NEPA_QUIET: "" }, piped = { stdin: "null", stdout: "piped", stderr: "piped" } as const;
    const out = await new Deno.Command(command!, { args, env, ...piped }).output();
    assert(out.success, new TextDecoder().decode(out.stdout));
    return new TextDecoder().decode(out.stdout) + new TextDecoder().decode(out.stderr);
  } finally {
    await Deno.remove(file);
  }
}

Deno.test("without a terminal and a notebook, progress is silent", async () => {
  assert(!inNotebook());
  assertEquals(await count(false), "");
});

/** What is said on standard error while the clock runs 40 times as fast. */
async function lines(env: Record<string, string>): Promise<string[]> {
  const url = new URL("../../lib/display/progress.ts", import.meta.url);
  const code = `const now = performance.now.bind(performance);
    performance.now = () => 40 * now();
    const { progress } = await import("${url}");
    const bar = progress({ title: "long work", total: 4, unit: "parts", text: "compiling" });
    await new Promise((resolve) => setTimeout(resolve, 600)); // 24 seconds
    for (let i = 0; i < 20; i++) {
      bar.update(2, "half");
      await new Promise((resolve) => setTimeout(resolve, 40)); // 32 seconds together
    }
    await bar.end("done");
    bar.update(3);`;
  const { stderr } = await new Deno.Command(Deno.execPath(), { args: ["eval", code], env }).output();
  return new TextDecoder().decode(stderr).trim().split("\n");
}

Deno.test("without a terminal and a notebook, a line is said after 10 seconds and every 30, unless NEPA_QUIET=1", async () => {
  const [first, second, ...others] = await lines({ NEPA_QUIET: "" });
  assertEquals([first, others], ["long work  0/4 parts  compiling", []]);
  assert(/^long work {2}2\/4 parts {2}in 0:\d\d {2}half$/.test(second!), second);
  assertEquals(await lines({ NEPA_QUIET: "1" }), [""]);
});

Deno.test({
  name: "in a terminal, progress redraws one line and ends it",
  ...needs("script"),
  async fn() {
    const shown = await count(true);
    const frames = shown.split("\r").map((s) => s.replace("\x1b[K", "")).filter((s) => s.startsWith("count"));
    assertEquals(frames.length, 4);
    assert(frames[0]!.includes("1/3"));
    assert(/3\/3 {2}in 0:0\d {2}done$/.test(frames[3]!), frames[3]);
    assert(shown.trimEnd().length < shown.length, "the line is ended");
  },
});
