/** The log of a run on disk: `metrics.csv`, what the training computed, and `timings.csv`, how fast. @module */
import { sync } from "./run_folder.ts";
import type { Step } from "./run.ts";

/** The columns of each file, as paths into a {@linkcode Step}. */
const FILES: Record<string, readonly string[]> = {
  "metrics.csv": [
    ...["step", "epoch", "loss", "lr", "gradNorm"],
    ...["featureStd", "effectiveRank", "meanCosine", "collapsed"].map((name) => `metrics.${name}`),
    ...["previousPatch", "meanDirection", "meanDirectionPerPosition"].map((name) => `metrics.${name}`),
    ...["validation.loss", "validation.accuracy", "probe", "best", "test.loss", "test.accuracy"],
  ],
  "timings.csv": ["step", "imagesPerSecond", "gflops"],
};

type Fields = { [name: string]: Fields | number | boolean | undefined };

function row(step: Step, columns: readonly string[]): string {
  const value = (path: string) =>
    path.split(".").reduce<Fields | unknown>((fields, name) => (fields as Fields | undefined)?.[name], step);
  return columns.map((path) => value(path) ?? "").join() + "\n"; // numbers are printed so that they are read as they were
}

function parse(line: string, columns: readonly string[]): Fields | undefined {
  const texts = line.split(","), fields: Fields = {};
  if (texts.length !== columns.length) return undefined;
  for (const [i, path] of columns.entries()) {
    if (texts[i] === "") continue;
    const names = path.split("."), last = names.pop()!;
    const place = names.reduce((at, name) => (at[name] ??= {}) as Fields, fields);
    place[last] = /^(true|false)$/.test(texts[i]!) ? texts[i] === "true" : Number(texts[i]);
  }
  return fields;
}

/** The rows of a file up to the first that is not whole; none where there is no file. */
async function readRows(folder: string, name: string): Promise<Fields[]> {
  let text = "";
  try {
    text = await Deno.readTextFile(`${folder}/${name}`);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  const rows: Fields[] = [];
  for (const line of text.split("\n").slice(1, -1)) { // after the last line end there is nothing, or half a row
    const fields = parse(line, FILES[name]!), before = rows.at(-1)?.step as number | undefined;
    if (!fields || before !== undefined && fields.step !== before + 1) break;
    rows.push(fields);
  }
  return rows;
}

/**
 * The steps that a run's folder tells of.
 *
 * @param folder Of the run: `checkpoint.folder`.
 * @returns In order; the speeds are NaN where they are not known. Nothing where there is no log.
 *
 * @example
 * ```ts
 * import { readLog } from "nepa";
 * import { assertEquals } from "@std/assert";
 *
 * const steps = await readLog("runs/none");
 * assertEquals(steps.map(({ step, loss }) => [step, loss]), []);
 * ```
 */
export async function readLog(folder: string): Promise<Step[]> {
  const timings = new Map((await readRows(folder, "timings.csv")).map((fields) => [fields.step, fields]));
  return (await readRows(folder, "metrics.csv")).map((fields) =>
    ({ imagesPerSecond: NaN, gflops: NaN, ...timings.get(fields.step), ...fields }) as unknown as Step
  );
}

/** Writes the steps of a run, each as it comes. */
export class Log {
  readonly #folder: string;
  #broken = false;

  constructor(folder: string) {
    this.#folder = folder;
  }

  /** Replaces the files by these steps. */
  async rewrite(history: readonly Step[]): Promise<void> {
    for (const [name, columns] of Object.entries(FILES)) {
      const path = `${this.#folder}/${name}`;
      const text = columns.join() + "\n" + history.map((step) => row(step, columns)).join("");
      await Deno.writeTextFile(`${path}.part`, text);
      await sync(`${path}.part`);
      await Deno.rename(`${path}.part`, path);
    }
    this.#broken = false;
  }

  /** Adds a step, so that it survives the process. Where that fails, {@linkcode Log.mend} makes up for it. */
  async append(step: Step): Promise<void> {
    if (this.#broken) return;
    try {
      for (const [name, columns] of Object.entries(FILES)) {
        const options = { append: true, create: false };
        await Deno.writeTextFile(`${this.#folder}/${name}`, row(step, columns), options);
      }
    } catch {
      this.#broken = true;
    }
  }

  /** Writes all steps again if some could not be added. */
  async mend(history: readonly Step[]): Promise<void> {
    if (this.#broken) await this.rewrite(history);
  }

  /** Asks the disk to hold the steps so far. */
  async sync(): Promise<void> {
    for (const name of Object.keys(FILES)) await sync(`${this.#folder}/${name}`);
  }
}
