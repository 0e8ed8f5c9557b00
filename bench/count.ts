/**
 * `deno task count`: lines of code, without comments and blanks, by folder of `lib`, beside the budgets; with `--step` the
 * files and lines that one training step takes.
 *
 *     deno task count [--files] [--step [tests/prototypes/step.ts]]
 *
 * One step takes the files that a program with a step loads, one from the other, but the engine and the data sets. Files
 * that only pass names on, such as `mod.ts`, are followed by the names that are imported; types count nothing.
 *
 * @module
 */
import { dirname, join, relative, resolve } from "node:path";
import { type Cell, Table } from "nepa";
import { PROJECT } from "../notebooks/.tools/setup.ts";
import { readOptions, runTask } from "./options.ts";
import { codeLines, declaredIn, type Import, importsOf, isBarrel, jsonc } from "./source.ts";

/** Lines that each part may have. */
const BUDGETS = { "lib without the engine": 8300, engine: 2900, "model, optim and training/step.ts": 2000 };
const STEP_BUDGET = { files: 10, lines: 900 };
const STEP = "tests/prototypes/step.ts";

/** A file, by its path from the project's folder, and its lines of code; of a step's files, the first that loads it. */
export interface Counted {
  path: string;
  lines: number;
  by?: string;
}

/** Every TypeScript file below a folder. */
function filesBelow(folder: string): string[] {
  return [...Deno.readDirSync(folder)].flatMap(({ name, isDirectory }) => {
    const path = join(folder, name);
    return isDirectory ? filesBelow(path) : name.endsWith(".ts") ? [path] : [];
  }).sort();
}

/** The files of `lib`. */
export function countLib(project: string): Counted[] {
  return filesBelow(join(project, "lib")).map((path) => ({
    path: relative(project, path),
    lines: codeLines(Deno.readTextFileSync(path)),
  }));
}

const sum = (files: readonly Counted[]) => files.reduce((total, { lines }) => total + lines, 0);

/** Where an import leads: a path, or undefined for a package. */
function resolver(project: string): (from: string, specifier: string) => string | undefined {
  const { imports = {} } = jsonc<{ imports?: Record<string, string> }>(
    Deno.readTextFileSync(join(project, "deno.json")),
  );
  return (from, specifier) => {
    if (specifier.startsWith(".")) return resolve(dirname(from), specifier);
    const path = imports[specifier];
    return path?.startsWith(".") ? resolve(project, path) : undefined;
  };
}

/**
 * The files that a program loads, but those in `lib/engine` and `lib/data`.
 *
 * @param start The program.
 * @param project The folder with `deno.json` and `lib`.
 */
export function closureOf(start: string, project: string): Counted[] {
  const found = new Map<string, Counted>(), to = resolver(project);
  const read = (path: string) => Deno.readTextFileSync(path);
  /** The file in which a value is made, through files that pass it on. */
  const originOf = (path: string, name: string): string | undefined => {
    const text = read(path);
    const passed = importsOf(text).values().map(({ specifier, exports }) => {
      const other = exports && to(path, specifier);
      if (!other) return undefined;
      if (exports === "*") return originOf(other, name);
      const there = Object.hasOwn(exports, name) ? exports[name]! : undefined;
      return there === "*" ? other : there && originOf(other, there);
    }).find((origin) => origin !== undefined);
    if (isBarrel(text)) return passed;
    return passed !== undefined || declaredIn(text).has(name) ? path : undefined;
  };
  const take = (path: string, names: Import["names"], by: string): void => {
    if (names.length === 0 || /^lib\/(engine|data)\//.test(relative(project, path)) || found.has(path)) {
      return;
    }
    const text = read(path), barrel = isBarrel(text);
    if (barrel && names !== "*") {
      const origins = names.map((name) => originOf(path, name));
      return origins.forEach((origin) => origin && take(origin, "*", by));
    }
    const loader = barrel ? by : relative(project, path);
    if (!barrel) found.set(path, { path: loader, lines: codeLines(text), by });
    for (const { specifier, names, loaded } of importsOf(text)) {
      const other = loaded ? to(path, specifier) : undefined;
      if (other) take(other, names, loader);
    }
  };
  take(resolve(start), "*", "");
  return [...found.values()];
}

/** Lines and files of each folder of `lib`. */
function byFolder(files: readonly Counted[]): { folder: string; files: number; lines: number }[] {
  const groups = Object.groupBy(files, ({ path }) => path.split("/").length > 2 ? dirname(path) : "lib");
  return Object.entries(groups).map(([folder, files = []]) => ({
    folder,
    files: files.length,
    lines: sum(files),
  }));
}

/** What has a budget. */
function parts(files: readonly Counted[]): { part: string; lines: number; budget: number }[] {
  const of = (pattern: RegExp) => sum(files.filter(({ path }) => pattern.test(path)));
  const lines = [
    of(/^lib\/(?!engine\/)/),
    of(/^lib\/engine\//),
    of(/^lib\/(model\/|optim\/|training\/step\.ts$)/),
  ];
  return Object.entries(BUDGETS).map(([part, budget], i) => ({ part, lines: lines[i]!, budget }));
}

/** `deno task count`. */
export function count(args: readonly string[]): void {
  const given = readOptions(args, { step: false, files: false }, "[FILE]");
  const lib = countLib(PROJECT),
    print = (rows: readonly Record<string, Cell>[], title: string) =>
      console.log(`${new Table(rows, { title })}\n`);
  const rows = (files: readonly Counted[]) =>
    files.toSorted((a, b) => b.lines - a.lines).map(({ lines, path, by }) => ({
      lines,
      file: path,
      ...by !== undefined && { "loaded by": by },
    }));
  if (given.step) {
    const files = closureOf(join(PROJECT, given.operands[0] ?? STEP), PROJECT), { length } = files;
    print(rows(files), "What one step takes");
    console.log(
      `${length} files (goal: ≤ ${STEP_BUDGET.files}), ${sum(files)} lines (goal: ≤ ${STEP_BUDGET.lines})`,
    );
    return;
  }
  if (given.files) print(rows(lib), "Lines of code by file");
  print(byFolder(lib), "Lines of code by folder");
  print(parts(lib), "Budgets");
}

if (import.meta.main) await runTask(import.meta.url, () => count(Deno.args));
