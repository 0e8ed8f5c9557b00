/** The learning bench's page: sections of figures beside the reference's, as Markdown. @module */
import { join } from "node:path";
import type { Figure } from "nepa";
import { type Reference, withSeeds } from "./reference.ts";
import { type Cell, type Kept, type Store, writeWhole } from "./run.ts";

/** A cell's result, where it was run. */
export type Book = <T>(cell: Cell<T> | undefined) => T | undefined;

/** A figure over its seeds, and the reference's. */
export interface Row {
  what: string;
  /** One number a seed, in the unit that is shown; those that there are. */
  found: readonly number[];
  reference?: Reference | undefined;
  /** The official code's with further seeds, which it was trained with for this page. */
  further?: readonly number[];
  /** Digits behind the point. Default 2. */
  digits?: number;
  /** What is better, more or less; "neither" for what only describes. Default "more". */
  better?: "more" | "less" | "neither";
}

/** A part of a section. */
export type Part =
  /** Markdown. */
  | string
  /** A table of them. */
  | readonly Row[]
  /** `results-NAME.svg`, beside the page. */
  | { name: string; alt: string; figure: Figure };

/** A chapter of the page, with the cells that it tells of. */
export interface Section {
  title: string;
  cells: readonly Cell[];
  /** What there is to say from the results that exist. */
  write(book: Book): readonly Part[];
}

/** Of those cells that were run. */
export function found<T>(
  book: Book,
  cells: readonly Cell<T>[],
  pick: (result: T) => number | undefined,
): number[] {
  return cells.flatMap((cell) => {
    const result = book(cell), value = result === undefined ? undefined : pick(result);
    return value === undefined ? [] : [value];
  });
}

/** What cells came to, beside the reference's; `further` are the official code's with further seeds. */
export function rowOf<T>(
  book: Book,
  what: string,
  cells: readonly Cell<T>[],
  pick: (result: T) => number | undefined,
  { further = [], ...row }: Omit<Row, "what" | "found" | "further"> & { further?: readonly Cell<T>[] },
): Row {
  return { what, found: found(book, cells, pick), further: found(book, further, pick), ...row };
}

/** The result that did best on the images put aside, where all were run. */
export function bestOf<T extends { validation: number }>(
  book: Book,
  cells: readonly (Cell<T> | undefined)[],
): T | undefined {
  const results = cells.flatMap((cell) => book(cell) ?? []);
  if (results.length < cells.length) return undefined;
  return results.reduce((best, other) => other.validation > best.validation ? other : best);
}

export function meanOf(values: readonly number[]): number {
  return values.reduce((a, b) => a + b, 0) / values.length;
}

/** Sample standard deviation; 0 of one number. */
export function stdOf(values: readonly number[]): number {
  const mean = meanOf(values), squares = values.reduce((sum, value) => sum + (value - mean) ** 2, 0);
  return values.length > 1 ? Math.sqrt(squares / (values.length - 1)) : 0;
}

/** The reference's figure with the further seeds. */
const theirsOf = ({ reference, further = [] }: Row) => reference && withSeeds(reference, further);

const digitsOf = ({ digits = 2 }: Row) => digits;

function format(value: number, digits: number): string {
  const size = Math.abs(value), small = value !== 0 && size < 0.5 * 10 ** -digits;
  const tiny = size < 1e-3 ? value.toExponential(1) : value.toPrecision(1);
  return (small ? tiny : value.toFixed(digits)).replaceAll("-", "−");
}

/** "82.58 ± 0.24 (3)"; the number of seeds in brackets. */
function withSpread(mean: number, std: number | undefined, seeds: number, digits: number): string {
  const spread = seeds > 1 && std !== undefined ? ` ± ${format(std, digits)}` : "";
  return `${format(mean, digits)}${spread} (${seeds})`;
}

/** Twice the standard error of the difference of two means, with one standard deviation of a seed for both, pooled. */
export function noiseOf(one: { std: number; seeds: number }, other: { std: number; seeds: number }): number {
  const [n, m] = [one.seeds, other.seeds], squares = (n - 1) * one.std ** 2 + (m - 1) * other.std ** 2;
  return 2 * Math.sqrt(squares / (n + m - 2)) * Math.sqrt(1 / n + 1 / m);
}

/** How a figure compares with the reference's, within noise and what the reference's rounding leaves open. */
export function verdict(row: Row): string {
  const { found, better = "more" } = row, reference = theirsOf(row);
  if (!reference || found.length === 0) return "";
  const n = found.length, m = reference.seeds, free = n + m - 2;
  if (free < 1) return "one seed each";
  const own = { std: stdOf(found), seeds: n };
  const noise = noiseOf(own, { std: reference.std ?? 0, seeds: m }) + 0.5 * 10 ** -digitsOf(row);
  const difference = meanOf(found) - reference.mean;
  if (Math.abs(difference) <= noise) return "within noise";
  if (better === "neither") return difference > 0 ? "higher" : "lower";
  return (difference > 0) === (better === "more") ? "better" : "worse";
}

/** Student's t distribution: how often two means of the same lie more than two standard errors apart, by degrees of freedom. */
export function outsideByChance(free: number): number {
  const angle = Math.atan(2 / Math.sqrt(free)), cosine = Math.cos(angle), odd = free % 2 === 1;
  let term = odd ? cosine : 1, sum = free === 1 ? 0 : term;
  for (let i = odd ? 3 : 2; i < free; i += 2) sum += term *= (i - 1) / i * cosine ** 2;
  const within = odd ? (angle + Math.sin(angle) * sum) * 2 / Math.PI : Math.sin(angle) * sum;
  return 1 - within;
}

/** A Markdown table. */
export function table(header: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) => `| ${cells.join(" | ")} |`;
  return [line(header), line(header.map((_, i) => i ? "---:" : "---")), ...rows.map(line)].join("\n");
}

function comparison(rows: readonly Row[]): string {
  return table(
    ["", "this library", "official code", "difference", "compared"],
    rows.map((row) => {
      const { what, found } = row, reference = theirsOf(row), digits = digitsOf(row);
      const own = found.length > 0
        ? withSpread(meanOf(found), stdOf(found), found.length, digits)
        : "not run";
      const theirs = reference ? withSpread(reference.mean, reference.std, reference.seeds, digits) : "";
      const difference = reference && found.length > 0 ? meanOf(found) - reference.mean : undefined;
      const signed = difference === undefined
        ? ""
        : `${difference > 0 ? "+" : ""}${format(difference, digits)}`;
      return [what, own, theirs, signed, verdict(row)];
    }),
  );
}

/** How many figures compare how, and which are not as good. */
function summary(rows: readonly (Row & { section: string })[]): string {
  const judged = rows.map((row) => ({ ...row, says: verdict(row) })).filter(({ says }) => says !== "");
  const count = (...words: string[]) => judged.filter(({ says }) => words.includes(says)).length;
  const worse = judged.filter(({ says }) => says === "worse").map(({ section, what }) =>
    `${section}: ${what}`
  );
  const chance = judged.reduce((sum, row) => {
    const free = row.found.length + theirsOf(row)!.seeds - 2;
    return free < 1 ? sum : sum + outsideByChance(free);
  }, 0);
  const list = worse.length > 0 ? ` Worse: ${worse.join("; ")}.` : "";
  return `Of ${judged.length} figures that the official code has too, ${
    count("within noise")
  } are within noise, ` +
    `${count("better")} better, ${count("worse")} worse; ${
      count("higher", "lower")
    } that only describe lie outside the noise, ` +
    `and of ${count("one seed each")} there is one seed each. With so few seeds about ${
      chance.toFixed(0)
    } would lie outside if both were the same.${list}`;
}

const distinct = (values: readonly string[]) => [...new Set(values)].join("; ");

function head(
  kept: readonly Kept[],
  cells: number,
  rows: readonly (Row & { section: string })[],
  note: string | undefined,
): string {
  const last = kept.map(({ finished }) => finished.slice(0, 10)).sort().at(-1) ?? "never";
  const versions = kept.map(({ versions }) =>
    Object.entries(versions).map(([name, v]) => `${name} ${v}`).join(", ")
  );
  return [
    "# What is learned from Fashion-MNIST",
    ...note ? [`**${note}**`] : [],
    "What this library reaches beside what the official PyTorch code reaches with the same recipe and at equal steps. " +
    "Everything here is written by `deno task bench learning`, from `results.jsonl` beside it; nothing is filled in by hand.",
    [
      `- Run: ${kept.length} of ${cells} trainings and evaluations, the last on ${last}`,
      `- Engine: ${distinct(kept.map(({ engine }) => engine))}; ${distinct(versions)}`,
      `- Machine: ${distinct(kept.map(({ machine }) => machine))}`,
      "- Official code: commit 15ea494, torch 2.13.0, transformers 4.56.2, float32, 2 cores",
    ].join("\n"),
    "Figures are means ± the sample standard deviation, the number of seeds in brackets. Noise is twice the standard error of the " +
    "difference of the two means, from the standard deviation pooled over the seeds of both, and what the rounding of the official " +
    "figure leaves open. Outside of it a figure is better or worse, or higher or lower where neither is better. Accuracies in %, on " +
    "the 10,000 test images unless said otherwise. Seeds decide about the first weights, the order of the images, and which " +
    "images are labelled; those here are not the official code's.",
    summary(rows),
  ].join("\n\n");
}

/**
 * Writes `results.md` and its figures, and `results.jsonl`: the results themselves.
 *
 * @param folder Made if it is not there.
 * @param sections In the page's order.
 * @param wanted The cells that the page counts, besides those that were run.
 * @param store Where the results are.
 * @param note Something to be warned of.
 */
export async function writePage(
  folder: string,
  sections: readonly Section[],
  wanted: readonly Cell[],
  store: Store,
  note?: string,
): Promise<void> {
  const cells = new Map(sections.flatMap(({ cells }) => cells.map((cell) => [cell.name, cell])));
  const kept = new Map<string, Kept>();
  for (const cell of cells.values()) {
    const result = await store.read(cell);
    if (result) kept.set(cell.name, result);
  }
  const book: Book = <T>(cell: Cell<T> | undefined) => cell && kept.get(cell.name)?.result as T | undefined;
  const texts: string[] = [], rows: (Row & { section: string })[] = [];
  await Deno.mkdir(folder, { recursive: true });
  for (const { title, write } of sections) {
    texts.push(`## ${title}`);
    for (const part of write(book)) {
      if (typeof part === "string") texts.push(part);
      else if ("figure" in part) {
        if (part.figure.toJSON().data.every(({ y }) => (y as unknown[]).length === 0)) continue; // nothing was run
        await part.figure.save(join(folder, `results-${part.name}.svg`));
        texts.push(`![${part.alt}](results-${part.name}.svg)`);
      } else {
        texts.push(comparison(part));
        rows.push(...part.map((row) => ({ ...row, section: title })));
      }
    }
  }
  const results = [...kept.values()], counted = new Set([...kept.keys(), ...wanted.map(({ name }) => name)]);
  await writeWhole(join(folder, "results.jsonl"), results.map((one) => JSON.stringify(one) + "\n").join(""));
  await writeWhole(
    join(folder, "results.md"),
    [head(results, counted.size, rows, note), ...texts].join("\n\n") + "\n",
  );
}
