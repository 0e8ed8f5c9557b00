/**
 * Reads files broken at random, of every kind that the library reads: each has to be refused by an error that names it, or
 * be whole. None may end the process, take more than 5 seconds of the processor, leave tensors, or have it hold 1 GB.
 *
 *     deno task bench fuzz [--count 100000] [--seed 0] [--kind safetensors,parquet] [--minutes N] [--only KIND:INDEX]
 *
 * Results are kept by parts in `out/fuzz`: the same command goes on where it was stopped. Every file is made anew from its
 * kind, its number and the seed: `--only parquet:17` reads that one.
 *
 * @module
 */
import { join } from "node:path";
import { PROJECT } from "../../notebooks/.tools/setup.ts";
import { count as countOf } from "../common.ts";
import { OptionError, readOptions } from "../options.ts";
import { lines } from "../process.ts";
import { attempts, KINDS } from "./kinds.ts";

/** Seconds of processor time that a file may take, MB that a process may hold, files that a process reads. */
const LIMIT = 5, MEMORY = 1000, PART = 500;

/** Seconds that a process has for its start. */
const START = 120;

/** What some files came to. */
interface Sums {
  passed: number;
  failed: string[];
  whole: number;
  slowest: number;
  peak: number;
}

type Told = { index: number; peak: number; whole?: boolean; wrong?: string; seconds: number };

/** Seconds of processor time that a process has taken. */
async function spentBy(pid: number): Promise<number> {
  const stat = await Deno.readTextFile(`/proc/${pid}/stat`).catch(() => "");
  const fields = stat.slice(stat.lastIndexOf(")")).split(" "); // from the third on
  return (Number(fields[12] ?? 0) + Number(fields[13] ?? 0)) / 100;
}

/** A line, undefined at the end; "late" after so many seconds of processor time, or twelve times as many of waiting. */
async function within(
  seconds: number,
  pid: number,
  next: Promise<IteratorResult<string, unknown>>,
): Promise<string | undefined | "late"> {
  const before = await spentBy(pid);
  for (let tries = 0; tries < 12; tries++) {
    let limit: ReturnType<typeof setTimeout>;
    const late = new Promise<"late">((resolve) => limit = setTimeout(() => resolve("late"), 1000 * seconds));
    const first = await Promise.race([next, late]).finally(() => clearTimeout(limit));
    if (first !== "late") return first.done ? undefined : first.value;
    if (await spentBy(pid) - before > seconds) break;
  }
  return "late";
}

/** Reads some files of a kind, in as many processes as die of it. */
async function part(kind: string, [from, to]: readonly [number, number], seed: number): Promise<Sums> {
  const sums: Sums = { passed: 0, failed: [], whole: 0, slowest: 0, peak: 0 };
  const fail = (index: number, why: string) => {
    sums.failed.push(`--only ${kind}:${index} --seed ${seed}: ${why}`);
    console.error(sums.failed.at(-1));
  };
  for (let next = from; next < to;) {
    const args = [
      "run",
      "-A",
      "--no-check",
      new URL("./child.ts", import.meta.url).href,
      kind,
      `${next}`,
      `${to}`,
      `${seed}`,
    ];
    const env = { NEPA_QUIET: "1", NEPA_PARSE_SECONDS: "3" };
    const child = new Deno.Command(Deno.execPath(), { args, env, stdout: "piped", stderr: "null" }).spawn();
    const said = lines(child.stdout), begin = next;
    while (next < to) {
      const line = await within(next === begin ? START : LIMIT, child.pid, said.next());
      if (line === undefined || line === "late") {
        if (line === "late") child.kill("SIGKILL");
        const { code, signal } = await child.status;
        const seconds = next === begin ? START : LIMIT;
        fail(
          next++,
          line === "late" ? `took more than ${seconds} s` : `the process ended, ${signal ?? `code ${code}`}`,
        );
        break;
      }
      const { wrong, whole, seconds, peak } = JSON.parse(line) as Told;
      if (wrong) fail(next, wrong);
      else if (peak > MEMORY && sums.peak <= MEMORY) fail(next, `the process held ${peak.toFixed(0)} MB`);
      else sums.passed++;
      if (whole) sums.whole++;
      sums.slowest = Math.max(sums.slowest, seconds);
      sums.peak = Math.max(sums.peak, peak);
      next++;
    }
    await child.status;
  }
  return sums;
}

/** `deno task bench fuzz`. */
export async function benchFuzz(args: readonly string[]): Promise<void> {
  const all = Object.keys(KINDS),
    defaults = { count: "100000", seed: "0", kind: all.join(), minutes: "", only: "" };
  const given = readOptions(args, defaults),
    count = countOf("count", given.count),
    seed = countOf("seed", given.seed, 0);
  const kinds = given.kind.split(","), until = given.minutes ? 60e3 * Number(given.minutes) : Infinity;
  const unknown = [...kinds, ...given.only ? [given.only.split(":")[0]!] : []].find((kind) =>
    !all.includes(kind)
  );
  if (unknown !== undefined) {
    throw new OptionError(`--kind: expected some of ${all.join(", ")}, got "${unknown}"`);
  }
  if (given.only) {
    const [kind = "", index] = given.only.split(":");
    return await attempts(kind, [Number(index), Number(index) + 1], seed, (_, told) => console.log(told));
  }
  const folder = join(PROJECT, "out", "fuzz"), started = performance.now(), total: Sums[] = [];
  await Deno.mkdir(folder, { recursive: true });
  for (const kind of kinds) {
    const own = Math.round(count * KINDS[kind]!.share / 100);
    for (let from = 0; from < own; from += PART) {
      const to = Math.min(own, from + PART), file = join(folder, `${kind}-${seed}-${from}-${to}.json`);
      const kept = await Deno.readTextFile(file).then((text) => JSON.parse(text) as Sums).catch(() =>
        undefined
      );
      if (!kept && performance.now() - started > until) continue;
      const sums = kept ?? await part(kind, [from, to], seed);
      if (!kept) await Deno.writeTextFile(file, JSON.stringify(sums));
      total.push(sums);
    }
    console.error(`${kind}: ${own} files`);
  }
  report(total);
}

function report(total: readonly Sums[]): void {
  const sum = (of: (one: Sums) => number) => total.reduce((all, one) => all + of(one), 0);
  const most = (of: (one: Sums) => number) => total.reduce((all, one) => Math.max(all, of(one)), 0);
  const failed = sum(({ failed }) => failed.length), peak = most(({ peak }) => peak).toFixed(0);
  for (const line of total.flatMap(({ failed }) => failed)) console.error(line.split("\n")[0]);
  console.log(
    `${sum(({ whole }) => whole)} of them whole; longest ${
      most(({ slowest }) => slowest).toFixed(2)
    } s, peak ${peak} MB`,
  );
  console.log(`${sum(({ passed }) => passed)} passed, ${failed} failed`);
  if (failed > 0) Deno.exit(1);
}
