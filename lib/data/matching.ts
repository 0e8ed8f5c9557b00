/** What two data sets have to do with one another: classes by their names, and the images that both have. @module */
import { expect, oneOf } from "../base/check.ts";
import type { Dataset } from "./dataset.ts";
import { Rows } from "./rows.ts";

/** Labels and the names of their classes. */
export type Labelled = Pick<Dataset, "name" | "length" | "labels" | "classes">;

type Named = Pick<Dataset, "name" | "classes">;

const counted = new WeakSet<readonly string[]>();

/** Names for classes that have none: "0", "1", … */
export function numbered(count: number): readonly string[] {
  const names = Array.from({ length: count }, (_, i) => `${i}`);
  counted.add(names);
  return names;
}

const nameless = (classes: readonly string[]) =>
  counted.has(classes) || classes.every((name, i) => name === `LABEL_${i}`);

/**
 * The numbers that a set's classes have among those that are known: by name, however its letters are encoded; by number where
 * either has no names of its own, such as `LABEL_0`, and there are as many. Undefined where a name is unknown.
 */
export function numbersIn(known: readonly string[], own: readonly string[]): Int32Array | undefined {
  const numbers = Int32Array.from(own, (_, i) => i);
  if (known.length === own.length && own.every((name, i) => name === known[i])) return numbers;
  const places = new Map(known.map((name, i) => [name.normalize(), i]));
  const found = numbers.map((i) => places.get(own[i]!.normalize()) ?? -1);
  if (places.size === known.length && !found.includes(-1)) return found;
  return known.length === own.length && (nameless(known) || nameless(own)) ? numbers : undefined;
}

const listed = (names: readonly string[], most = 20) =>
  names.slice(0, most).join(", ") + (names.length > most ? `, … (${names.length} in all)` : "");

/** {@linkcode numbersIn}; refuses a set with a class that is not known. */
export function classNumbers(known: Named, own: Named, help = ""): Int32Array {
  const numbers = numbersIn(known.classes, own.classes);
  if (numbers) return numbers;
  const names = new Set(known.classes.map((name) => name.normalize()));
  const lacking = own.classes.filter((name) => !names.has(name.normalize()));
  const expected = `those of ${known.name}, ${listed(known.classes)}`, got = listed(own.classes);
  const none = `${listed(lacking, 10)}: not among the ${known.classes.length} classes there`;
  const why = lacking.length > 0 ? none : "two of those names are alike";
  expect(false, `${own.name}: classes`, expected, `${got}; ${why}${help}`);
}

/** A set's labels as numbers of the known classes, and what has to be said about it. */
export interface Matched extends Labelled {
  /** Plain sentences. */
  readonly notes: readonly string[];
}

/** A set as it is judged by what knows other classes, or the same in another order. */
export function matched(known: Named, own: Labelled, help?: string): Matched {
  const numbers = classNumbers(known, own, help), there = new Set(numbers);
  const missing = known.classes.filter((_, i) => !there.has(i));
  const notes = missing.length > 0 ? [`${own.name} has no class ${listed(missing)}`] : [];
  const labels = own.labels.map((label) => numbers[label]!), { name, length } = own;
  return { name, length, labels, classes: known.classes, notes };
}

/** Which images of a data set are also among others: the same rows of one array, or the same files. */
export function isAmong(others: Dataset, own: Dataset): (i: number) => boolean {
  if (own === others) return () => true;
  return own instanceof Rows && others instanceof Rows ? own.rowsIn(others) : () => false;
}

/** How many those are. */
export function sharedRows(own: Dataset, others: Dataset): { count: number; first: number } {
  const isShared = isAmong(others, own);
  let count = 0, first = -1;
  for (let i = own.length - 1; i >= 0; i--) if (isShared(i)) [count, first] = [count + 1, i];
  return { count, first };
}

/** What the option `overlap` may be. */
export const OVERLAP = oneOf("refuse", "allow");

/** Whether a set may have images that were fitted to. */
export interface OverlapOption {
  /** What becomes of images that are fitted to and judged by: "refuse" (default), or "allow". */
  overlap?: "refuse" | "allow" | undefined;
}

/** Refuses a set to judge by that has images which are fitted to. */
export function refuseShared(fitted: Dataset, judged: Dataset, overlap: OverlapOption["overlap"]): void {
  if (overlap === "allow") return;
  const { count, first } = sharedRows(judged, fitted);
  const help = 'take disjoint parts, as split([0.8, 0.2]) gives them, or say overlap: "allow"';
  const got = `${count} of ${judged.length} that are, the first is image ${first}; ${help}`;
  expect(count === 0, judged.name, `images that are not fitted to, those of ${fitted.name}`, got);
}
