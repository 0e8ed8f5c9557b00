/** The log of a run on disk: `metrics.csv`, what the training computed, and `timings.csv`, how fast. @module */
import { isCount } from "../base/check.ts";
import { say } from "../display/jupyter.ts";
import { readIfThere, sync, writeWhole } from "../files/plain.ts";
import { naming } from "./run_folder.ts";
import { METER, type Step } from "./history.ts";

/** The columns that each file begins with, as paths into a {@linkcode Step}; the numbers of an objective's own come after. */
const FILES: Record<string, readonly string[]> = {
  "metrics.csv": [
    ...["step", "epoch", "loss", "lr", "gradNorm"],
    ...METER.map((name) => `metrics.${name}`),
    ...["validation.loss", "validation.accuracy", "probe", "best", "test.loss", "test.accuracy"],
  ],
  "timings.csv": ["step", "imagesPerSecond", "gflops"],
};

/** Columns in which there is no text. */
const NUMBERS = new Set(Object.values(FILES).flat());

type Fields = { [name: string]: Fields | number | boolean | string | undefined };

/** A path's names: two within these fields, one else; a metric's name may have dots. */
const namesOf = (path: string): string[] =>
  /^(?:metrics|validation|test)\./.test(path) ? path.split(/\.(.*)/s, 2) : [path];

/** Cells of a row; those in quotes may hold commas. */
function cells(line: string): string[] {
  const found = `,${line}`.matchAll(/,(?:"((?:[^"]|"")*)"|([^,]*))/g);
  return [...found].map(([, quoted, plain]) => quoted?.replaceAll('""', '"') ?? plain!);
}

/** A cell as it is written. */
const cell = (text: string): string => /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;

function row(step: Step, columns: readonly string[]): string {
  const own = (fields: unknown, name: string) =>
    Object.hasOwn(fields ?? {}, name) ? (fields as Fields)[name] : undefined;
  const text = (value: unknown) => typeof value === "object" ? "" : String(value ?? "");
  return columns.map((path) => cell(text(namesOf(path).reduce<unknown>(own, step)))).join() + "\n"; // numbers are printed so that they are read as they were
}

function parse(line: string, columns: readonly string[]): Fields & { step: number } | undefined {
  const texts = cells(line), fields: Fields = {};
  if (texts.length !== columns.length) return undefined;
  for (const [i, path] of columns.entries()) {
    const text = texts[i]!, names = namesOf(path), last = names.pop()!;
    if (text === "" || /^(metrics|validation|test)$/.test(path)) continue; // these are the fields' own places
    const isText = Number.isNaN(Number(text)) && text !== "NaN", isFlag = /^(true|false)$/.test(text);
    if (isText && !isFlag && NUMBERS.has(path)) return undefined;
    const place = names.reduce((at, name) => (at[name] ??= {}) as Fields, fields);
    place[last] = isFlag ? text === "true" : isText ? text : Number(text);
  }
  const { step, loss } = fields, whole = typeof loss === "number" || !columns.includes("loss");
  return isCount(step) && whole ? { ...fields, step } : undefined;
}

/** A file's columns, its sound rows as they stand there and as fields, and whether there is anything else in it. */
interface Read {
  columns: readonly string[];
  rows: { line: string; fields: Fields & { step: number } }[];
  damaged: boolean;
}

/** The longest text that is read: what a string can hold. */
const LIMIT = 2 ** 29 - 2 ** 16;

/** The columns of a file by its first line. One in which names are damaged is read by what belongs there. */
function columnsOf(header: string, own: readonly string[]): readonly string[] {
  const named = cells(header), missing = own.filter((name) => !named.includes(name));
  const others = own.filter((name, i) => named[i] !== name && !named[i]?.startsWith("metrics."));
  const damaged = missing.length > 0 && others.every((name) => missing.includes(name)) ||
    !named.includes("step");
  return damaged ? [...own, ...named.slice(own.length)] : named;
}

/** Reads a file up to its last line end; with `last`, what comes after it too, if that is a row. */
async function read(folder: string, name: string, last: boolean = false): Promise<Read> {
  const text = new TextDecoder().decode(await readIfThere(`${folder}/${name}`, LIMIT));
  const [header = "", ...lines] = text.replaceAll("\r\n", "\n").split("\n"), half = lines.pop();
  const columns = columnsOf(header, FILES[name]!), rows: Read["rows"] = [];
  let damaged = header !== "" && columns.join() !== cells(header).join();
  if (last && half && parse(half, columns)) lines.push(half);
  for (const line of lines) {
    const fields = parse(line, columns), at = (i: number) => Number(rows.at(i)?.fields.step ?? 0);
    const late = fields && fields.step < at(-1) && fields.step > at(-2); // the row before it says too large a step
    if (late) rows.pop();
    const sound = fields && fields.step > at(-1);
    if (sound) rows.push({ line, fields });
    if (late || !sound && line !== "") damaged = true;
  }
  return { columns, rows, damaged };
}

/**
 * The steps that a run's folder tells of.
 *
 * @param folder Of the run: `checkpoint.folder`.
 * @returns In order; the speeds are NaN where they are not known. Nothing where there is no log. Columns that are not of this
 * library are there by their names.
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
  const timings = new Map(
    (await read(folder, "timings.csv")).rows.map(({ fields }) => [fields.step, fields]),
  );
  return (await read(folder, "metrics.csv")).rows.map(({ fields }) =>
    ({ imagesPerSecond: NaN, gflops: NaN, ...timings.get(fields.step), ...fields }) as unknown as Step
  );
}

/** Writes the steps of a run, each as it comes. */
export class Log {
  readonly #folder: string;
  readonly #columns = new Map<string, readonly string[]>();
  /** The last step that is in the files. */
  #written = 0;
  #broken = false;

  constructor(folder: string) {
    this.#folder = folder;
  }

  /**
   * Goes on after a step: rows up to there stay as they are, those after it go. A file with rows that cannot be read is kept
   * beside it, as `….old`.
   *
   * @param step Updates done.
   * @returns The steps that the log tells of.
   */
  async goOn(step: number): Promise<Step[]> {
    this.#written = step;
    return await naming(this.#folder, async () => {
      for (const name of Object.keys(FILES)) await this.#rewrite(name);
      this.#broken = false;
      return await readLog(this.#folder);
    });
  }

  /** Writes a file anew: its sound rows, and columns for all that it is to hold. */
  async #rewrite(name: string, metrics: readonly string[] = []): Promise<void> {
    const path = `${this.#folder}/${name}`, { columns, rows, damaged } = await read(this.#folder, name, true);
    if (damaged) {
      await writeWhole([`${path}.old`, await Deno.readFile(path)]);
      say(
        `${path}: there are rows that cannot be read; the others stay, and all of it is kept in ${name}.old`,
      );
    }
    const more = [...FILES[name]!, ...metrics].filter((column) => !columns.includes(column));
    const kept = rows.filter(({ fields }) => fields.step <= this.#written)
      .map(({ line }) => line + ",".repeat(more.length));
    const all = [...columns, ...more];
    await writeWhole([path, [all.map(cell).join(), ...kept].join("\n") + "\n"]);
    this.#columns.set(name, all);
  }

  /** Looks at the files again, which somebody may have changed since. */
  async look(): Promise<undefined> {
    if (!this.#broken) await this.goOn(this.#written);
  }

  /** Adds a step, so that it survives the process. Where that fails, {@linkcode Log.mend} makes up for it. */
  async append(step: Step): Promise<void> {
    if (this.#broken) return;
    try {
      await this.#add(step);
    } catch {
      this.#broken = true;
    }
  }

  async #add(step: Step): Promise<void> {
    const own = Object.keys(step.metrics ?? {}).map((name) => `metrics.${name}`);
    const there = this.#columns.get("metrics.csv")!;
    if (!own.every((name) => there.includes(name))) await this.#rewrite("metrics.csv", own);
    for (const [name, columns] of this.#columns) {
      await Deno.writeTextFile(`${this.#folder}/${name}`, row(step, columns), {
        append: true,
        create: false,
      });
    }
    this.#written = step.step;
  }

  /** Adds the steps that could not be added when they came. */
  async mend(history: readonly Step[]): Promise<void> {
    if (!this.#broken) return;
    await this.goOn(this.#written);
    const missing = history.filter(({ step }) => step > this.#written);
    await naming(this.#folder, async () => {
      for (const step of missing) await this.#add(step);
    });
  }

  /** Asks the disk to hold the steps so far. */
  async sync(): Promise<void> {
    for (const name of Object.keys(FILES)) await sync(`${this.#folder}/${name}`);
  }
}
