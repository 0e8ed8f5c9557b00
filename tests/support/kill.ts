/** Kills a training with kill -9 at random moments, and compares what becomes of it with one that was never stopped. @module */
import { fileURLToPath } from "node:url";
import { existsSync } from "node:fs";
import { Random } from "nepa";

const CHILD = fileURLToPath(new URL("survivor.ts", import.meta.url));

/** What {@linkcode killRuns} counts. */
export interface Kills {
  passed: number;
  failed: number;
  /** Kills that hit a checkpoint while it was being written or removed. */
  saving: number;
  /** Runs that came to their end. */
  runs: number;
}

interface Child {
  process: Deno.ChildProcess;
  /** Until the child says `line`, or ends: then false. */
  says(line: RegExp): Promise<boolean>;
}

/** Starts `survivor.ts`. */
export function survivor(...args: readonly string[]): Child {
  const command = ["run", "--no-check", "-A", CHILD, ...args];
  const options = { args: command, stdout: "piped", stderr: "null" } as const;
  const process = new Deno.Command(Deno.execPath(), options).spawn(), reader = process.stdout.getReader();
  let text = "";
  const says = async (line: RegExp) => {
    while (!line.test(text)) {
      const { done, value } = await reader.read();
      if (done) return false;
      text += new TextDecoder().decode(value);
    }
    return true;
  };
  return { process, says };
}

/** The names of a run's checkpoints, rising. */
export function checkpoints(folder: string): string[] {
  return [...Deno.readDirSync(folder)].map(({ name }) => name).filter((name) => /^step-\d+$/.test(name))
    .sort();
}

/** What differs between a run that was killed and one that was not, up to the newest checkpoint; undefined: nothing. */
function difference(folder: string, reference: string, whole: boolean): string | undefined {
  const read = (path: string) => Deno.readFileSync(path), newest = checkpoints(folder).at(-1);
  for (const file of newest ? ["model", "optimizer", "ema/model", "best/model", "ijepa"] : []) {
    const paths = [folder, reference].map((run) => `${run}/${newest}/${file}.safetensors`);
    const needed = file === "model" || file === "optimizer";
    if (!needed && !paths.some((path) => existsSync(path))) continue;
    const [a, b] = paths.map(read);
    if (!a!.every((byte, i) => byte === b![i]) || a!.length !== b!.length) return `${newest}/${file} differs`;
  }
  const [log, expected] = [folder, reference].map((run) => Deno.readTextFileSync(`${run}/metrics.csv`));
  const rows = log!.slice(0, log!.lastIndexOf("\n") + 1);
  return (whole ? log === expected : expected!.startsWith(rows)) ? undefined : "metrics.csv differs";
}

/** Kills a process; false: it had ended before. */
function killed(process: Deno.ChildProcess): boolean {
  try {
    process.kill("SIGKILL");
    return true;
  } catch (error) {
    if (error instanceof TypeError) return false;
    throw error;
  }
}

/**
 * Kills and goes on, run after run, until there were enough kills; the last run is brought to its end too.
 *
 * @param place An empty folder.
 * @param engine Of the children.
 * @param count Kills.
 * @param steps Updates of a run.
 * @param kind "pretrain", "ijepa", or "finetune", which ends with its best weights.
 */
export async function killRuns(
  place: string,
  engine: string,
  count: number,
  steps: number,
  seed = 0,
  kind = "pretrain",
): Promise<Kills> {
  const reference = `${place}/reference`, random = new Random(seed, "kills");
  const all = '{"keep":100000,"every":1}';
  const whole = survivor(reference, engine, String(steps), all, kind, "halting");
  if (!await whole.says(/^ended whole$/m)) throw new Error("the run that is never stopped did not end");
  await whole.process.status;
  const result: Kills = { passed: 0, failed: 0, saving: 0, runs: 0 };
  let kills = 0;
  while (kills < count) {
    const folder = `${place}/run-${result.runs++}`;
    let wrong: string | undefined, mine = 0, done = 0;
    for (let ended = false; !ended;) {
      const child = survivor(folder, engine, String(steps), "{}", kind);
      const stop = kills < count ? done + 1 + random.integer(12) : Infinity; // a run has about eight kills of fifty steps
      ended = !await child.says(new RegExp(stop <= steps ? `^step ${stop}$` : "^ended never$", "m"));
      if (!ended) {
        await new Promise((resolve) => setTimeout(resolve, random.uniform(0, 60))); // between steps, or while it saves
        if (killed(child.process)) {
          kills++;
          mine++;
        } else ended = true; // it was faster
      }
      const status = await child.process.status;
      if (ended && !status.success) wrong ??= `it ended with ${status.code}`;
      const left = [...Deno.readDirSync(folder)].some(({ name }) => /\.(part|old)$/.test(name));
      if (left) result.saving++;
      wrong ??= difference(folder, reference, ended);
      done = Number(checkpoints(folder).at(-1)?.slice(5) ?? 0);
    }
    if (wrong) console.error(`run ${result.runs} with ${mine} kills: ${wrong}`);
    result[wrong ? "failed" : "passed"] += mine;
    await Deno.remove(folder, { recursive: true });
  }
  return result;
}
