/**
 * Runs every test: the unit tests, the examples of the public documentation, the notebooks and tfjs-core's own specs on
 * the tensorflow engine. The last line it prints is the count, alone. Options and paths go to `deno test`; with paths or
 * `--filter` the specs are not run.
 *
 * @module
 */
import { join } from "node:path";
import { stripVTControlCharacters } from "node:util";
import { readOptions, runTask, toArguments } from "../bench/options.ts";
import { jupyterEnvironment, PROJECT } from "../notebooks/.tools/setup.ts";

/** What of `deno test`'s options is passed on. */
const OPTIONS = {
  filter: "",
  reporter: "",
  shuffle: "",
  "fail-fast": false,
  "no-check": false,
  "trace-leaks": false,
};

/** How many tests passed and failed; steps are parts of their test and not counted. */
export interface Counts {
  passed: number;
  failed: number;
  ignored: number;
}

/**
 * The counts from what `deno test` or the specs printed, by the closing line. Without one it broke off: that is a
 * failure.
 *
 * @param output Everything it printed.
 * @param success Whether it ended with status 0.
 */
export function countTests(output: string, success: boolean): Counts {
  const closing =
    /^(?:(?:ok|FAILED) \| )?(\d+) passed(?: \([^)]*\))?(?: \||,) (\d+) failed(?: \([^)]*\))?(?: \| (\d+) ignored)?/gm;
  const last = [...stripVTControlCharacters(output).matchAll(closing)].at(-1);
  const [passed, failed, ignored] = [1, 2, 3].map((i) => Number(last?.[i] ?? 0)) as [number, number, number];
  return { passed, failed: success ? failed : Math.max(1, failed), ignored };
}

async function checkTypes(): Promise<boolean> {
  const check = new Deno.Command(Deno.execPath(), { args: ["check", "--quiet", "tests"], cwd: PROJECT });
  return (await check.spawn().status).success;
}

/** Runs deno and counts; what it prints comes at once if it runs `alone`, else in one piece at its end. */
async function count(args: readonly string[], alone: boolean): Promise<Counts> {
  const child = new Deno.Command(Deno.execPath(), {
    args: [...args],
    cwd: PROJECT,
    env: { NO_COLOR: "1", NEPA_QUIET: "1" },
    stdout: "piped",
    stderr: alone ? "inherit" : "piped",
  }).spawn();
  let output = "", shown = "";
  const read = async (stream: ReadableStream<Uint8Array>, counted: boolean) => {
    for await (const text of stream.pipeThrough(new TextDecoderStream())) {
      if (counted) output += text;
      if (alone) await write(text);
      else shown += text;
    }
  };
  await Promise.all([read(child.stdout, true), ...alone ? [] : [read(child.stderr, false)]]);
  const { success } = await child.status;
  await write(shown);
  return countTests(output, success);
}

let written = Promise.resolve();

/** Prints one text after the other, whole. */
function write(text: string): Promise<void> {
  return written = written.then(() =>
    new Blob([text]).stream().pipeTo(Deno.stdout.writable, { preventClose: true })
  );
}

/** The test files below a folder of the project, in order. */
export function testFiles(folder: string): string[] {
  const entries = [...Deno.readDirSync(join(PROJECT, folder))].sort((a, b) => a.name < b.name ? -1 : 1);
  return entries.flatMap(({ name, isDirectory }) => {
    if (isDirectory) return name === "fixtures" ? [] : testFiles(`${folder}/${name}`);
    return name.endsWith("_test.ts") ? [`${folder}/${name}`] : [];
  });
}

/** Begun first: it runs beside all others. */
const LONGEST = "tests/project/notebooks_test.ts";

/**
 * What to run for these arguments: given paths only, or all there is. Each file has a process of its own: one that
 * breaks off takes no other with it.
 */
function runs(args: readonly string[]): string[][] {
  const { operands: paths, ...given } = readOptions(args, OPTIONS, "[PATH …]");
  const test = ["test", "--allow-all", ...toArguments(given)];
  if (paths.length > 0) return [[...test, ...paths]];
  const first = (path: string) => path === LONGEST ? 0 : 1;
  const files = testFiles("tests").sort((a, b) => first(a) - first(b));
  const units = files.map((path) => [...test, "--no-check", path]); // their types are checked together
  const specs = ["run", "--allow-all", "--no-check", "tests/conformance/run.ts", "--leave-out-known"];
  return [...units, [...test, "--doc", "mod.ts", "lib/"], ...given.filter ? [] : [specs]];
}

async function main(): Promise<void> {
  const all = runs(Deno.args);
  await jupyterEnvironment("lab");
  const total: Counts = { passed: 0, failed: 0, ignored: 0 }, failures: string[] = [];
  if (all.length > 1 && !await checkTypes()) {
    failures.push("the types of the tests do not fit");
    total.failed = 1;
  }
  const left = all.values();
  const worker = async () => {
    for (const args of left) {
      const counts = await count(args, all.length === 1);
      for (const key of ["passed", "failed", "ignored"] as const) total[key] += counts[key];
      if (counts.failed > 0) failures.push(`deno ${args.join(" ")}: ${counts.failed} failed`);
    }
  };
  await Promise.all(Array.from({ length: Math.min(4, navigator.hardwareConcurrency) }, worker));
  if (total.passed + total.failed === 0) {
    failures.push("no test ran");
    total.failed = 1;
  }
  for (const failure of failures) console.error(failure);
  const { passed, failed, ignored } = total;
  if (ignored > 0) console.log(`${ignored} skipped, which need what is not here: the files above say what`);
  console.log(`${passed} passed, ${failed} failed`);
  Deno.exit(failed > 0 ? 1 : 0);
}

if (import.meta.main) await runTask(import.meta.url, main);
