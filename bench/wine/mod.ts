/**
 * Tries this checkout as on Windows, under Debian's Wine: sets that up in a folder of its own (5 GB), runs tests there, file by
 * file, and steps of mini, whose losses are compared with this machine's. Wine is not Windows: what passes here may fail there.
 *
 *     deno task bench wine [tests/engine tests/files/hub_test.ts …] [--steps 100] [--place FOLDER] [--json]
 *
 * Without paths: the engine, parity, tfjs-core's own specs, checkpoints, the hub, pictures. `tests` is every file.
 *
 * @module
 */
import { fileURLToPath } from "node:url";
import { join } from "node:path";
import { cacheRoot } from "../../lib/engine/install.ts";
import { type Counts, countTests, testFiles } from "../../tests/run.ts";
import { count, readOptions, show, showJson } from "../common.ts";
import { Wine } from "./setup.ts";

const PROJECT = fileURLToPath(new URL("../..", import.meta.url)), SPECS = "tests/conformance/run.ts";
const USUAL = [
  ...["tests/engine", SPECS, "tests/model/parity_test.ts", "tests/files", "tests/data"],
  ...["run_folder", "resume", "interrupt", "log"].map((name) => `tests/training/${name}_test.ts`),
];

/** A test file's counts and seconds, and what it said where something failed. */
type Row = { [K in keyof Counts]: number } & { file: string; seconds: number };

async function runFile(wine: Wine, file: string): Promise<Row> {
  const args = file === SPECS
    ? ["run", "-A", "--no-check", file, "--leave-out-known"]
    : ["test", "-A", "--no-check", file];
  const begun = performance.now(), log = join(wine.place, "logs", file.replaceAll("/", "-") + ".txt");
  const { success, text } = await wine.deno(args, log),
    seconds = Math.round((performance.now() - begun) / 1000);
  return { file, ...countTests(text, success), seconds };
}

interface Trained {
  engine: string;
  losses: number[];
  seconds: number;
}

/** The same steps here and there. */
async function train(wine: Wine, steps: number): Promise<Record<"here" | "there", Trained>> {
  const args = ["run", "-A", "--no-check", "bench/wine/train.ts", `${steps}`];
  const read = (text: string): Trained => JSON.parse(/^{"engine".*/m.exec(text)?.[0] ?? `"${text}"`);
  const here = await new Deno.Command(Deno.execPath(), { args, cwd: PROJECT }).output();
  const there = await wine.deno(args, join(wine.place, "logs", "train.txt"));
  return { here: read(new TextDecoder().decode(here.stdout)), there: read(there.text) };
}

/** `deno task bench wine`. */
export async function benchWine(args: readonly string[]): Promise<void> {
  const place = join(cacheRoot(Deno.env.toObject()) ?? "out", "wine");
  const { operands, json, ...given } = readOptions(args, { steps: "100", place, json: false }, "[TESTS …]");
  const steps = count("steps", given.steps), wine = new Wine(given.place);
  await Deno.mkdir(join(wine.place, "logs"), { recursive: true });
  await wine.prepare();
  const paths = operands.length > 0 ? operands : USUAL, rows: Row[] = [];
  for (const file of paths.flatMap((path) => path.endsWith(".ts") ? [path] : testFiles(path))) {
    const row = await runFile(wine, file);
    rows.push(row);
    console.error(
      `${file}: ${row.passed} passed, ${row.failed} failed, ${row.ignored} ignored, ${row.seconds} s`,
    );
  }
  const sum = (key: "passed" | "failed" | "ignored" | "seconds") =>
    rows.reduce((all, row) => all + row[key], 0);
  const total = {
    file: "all",
    passed: sum("passed"),
    failed: sum("failed"),
    ignored: sum("ignored"),
    seconds: sum("seconds"),
  };
  const { here, there } = await train(wine, steps);
  const apart = Math.max(
    ...here.losses.slice(0, 20).map((loss, i) => Math.abs(loss - there.losses[i]!)),
  );
  const times = {
    step: steps,
    "s, here": here.seconds,
    "s, Wine": there.seconds,
    "losses apart, 20 steps": apart,
  };
  if (json) showJson([...rows, total, times]);
  else {
    show([...rows, total], { title: `Tests under Wine; what they said is in ${wine.place}/logs` });
    show([times], { title: "Steps of mini" });
  }
  if (total.failed > 0) Deno.exit(1);
}
