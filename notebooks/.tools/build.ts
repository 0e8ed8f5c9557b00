/**
 * Notebooks are written as scripts, `notebooks/src/*.ts`, and built from them: a diff shows text, and the compiler
 * checks the cells. A line `// %%` begins a code cell, `// %% [markdown]` a text cell, whose lines are comments.
 *
 * `deno task notebooks` builds and runs them all and keeps their outputs; with names, only these
 * (`deno task notebooks 01`). Where only text has changed, `--text` takes it over without running anything.
 * `NEPA_BUDGET=test` in the environment makes it quick, for trying.
 *
 * @module
 */
import { basename, join } from "node:path";
import { OptionError, readOptions, runTask } from "../../bench/options.ts";
import { executeNotebook } from "./execute.ts";
import { NOTEBOOKS, PROJECT } from "./setup.ts";

/** One cell of a notebook: its kind, its text. */
export interface Cell {
  kind: "markdown" | "code";
  source: string;
}

/** Paths of the scripts, sorted. */
export function scripts(): string[] {
  const folder = join(NOTEBOOKS, "src");
  return [...Deno.readDirSync(folder)].map((entry) => entry.name).filter((name) => name.endsWith(".ts"))
    .sort().map((name) => join(folder, name));
}

/** Where a script's notebook lies. */
export function notebookOf(script: string): string {
  return join(NOTEBOOKS, basename(script).replace(/\.ts$/, ".ipynb"));
}

/**
 * Cuts a script into cells. What stands before the first mark is the script's own (lint directives, say).
 *
 * @throws {SyntaxError} For a line of a text cell that is no comment.
 */
export function parseScript(script: string): Cell[] {
  const [, ...parts] = script.split(/^\/\/ %%/m);
  return parts.map((part) => {
    const [mark, ...lines] = part.split("\n");
    if (mark!.trim() !== "[markdown]") return { kind: "code", source: lines.join("\n").trim() };
    const text = lines.join("\n").trim().split("\n").map((line) => {
      if (!line.startsWith("//")) throw new SyntaxError(`expected a comment in a text cell, got: ${line}`);
      return line.replace(/^\/\/ ?/, "");
    });
    return { kind: "markdown", source: text.join("\n") };
  });
}

/** A notebook of these cells, without outputs, as the text of its file. */
export function toNotebook(cells: readonly Cell[]): string {
  const notebook = {
    cells: cells.map(({ kind, source }, i) => ({
      cell_type: kind,
      ...(kind === "code" ? { execution_count: null, outputs: [] } : {}),
      id: `cell-${i + 1}`,
      metadata: {},
      source: source.split(/(?<=\n)/),
    })),
    metadata: {
      kernelspec: { display_name: "Deno", language: "typescript", name: "deno" },
      language_info: { name: "typescript", file_extension: ".ts" },
    },
    nbformat: 4,
    nbformat_minor: 5,
  };
  return JSON.stringify(notebook, null, 1) + "\n";
}

/** The cells of a notebook's file. */
export function cellsOf(notebook: string): Cell[] {
  const { cells } = JSON.parse(notebook) as NotebookFile;
  return cells.map(({ cell_type, source }) => ({ kind: cell_type, source: [source].flat().join("") }));
}

interface NotebookFile {
  cells: { cell_type: Cell["kind"]; source: string | string[] }[];
}

/**
 * A script's cells with the outputs of its executed notebook.
 *
 * @param notebook The text of the executed notebook's file.
 * @throws {Error} If the code of the two differs: then it has to run.
 */
export function withOutputs(cells: readonly Cell[], notebook: string): string {
  const code = (all: readonly Cell[]) =>
    all.filter(({ kind }) => kind === "code").map(({ source }) => source);
  if (code(cells).join("\n%%\n") !== code(cellsOf(notebook)).join("\n%%\n")) {
    throw new Error("code has changed, so its outputs have too: run without --text");
  }
  const executed = JSON.parse(notebook) as NotebookFile,
    fresh = JSON.parse(toNotebook(cells)) as NotebookFile;
  const ran = executed.cells.filter((cell) => cell.cell_type === "code");
  const kept = fresh.cells.map((cell) =>
    cell.cell_type === "code" ? { ...ran.shift()!, source: cell.source } : cell
  );
  const named = kept.map((cell, i) => ({ ...cell, id: `cell-${i + 1}` }));
  return JSON.stringify({ ...executed, cells: named }, null, 1) + "\n";
}

/** The same text without this machine's paths. */
function anonymous(text: string): string {
  const home = Deno.env.get("HOME"), inside = text.replaceAll(PROJECT, "");
  return home ? inside.replaceAll(`${home}/`, "~/") : inside;
}

async function build(): Promise<void> {
  const { text, operands: wanted } = readOptions(Deno.args, { text: false }, "[NAME …]");
  const chosen = scripts().filter((path) =>
    wanted.length === 0 || wanted.some((name) => basename(path).startsWith(name))
  );
  if (chosen.length === 0) {
    throw new OptionError(`no script in notebooks/src begins with ${wanted.join(" or ")}`);
  }
  for (const script of chosen) {
    const path = notebookOf(script), cells = parseScript(await Deno.readTextFile(script));
    if (text) {
      await Deno.writeTextFile(path, withOutputs(cells, await Deno.readTextFile(path)));
      continue;
    }
    const started = performance.now();
    console.error(`running ${path}`);
    const executed = anonymous(await executeNotebook(toNotebook(cells), NOTEBOOKS));
    await Deno.writeTextFile(path, executed);
    const seconds = ((performance.now() - started) / 1000).toFixed(0);
    console.error(`done in ${seconds} s, ${(executed.length / 1e6).toFixed(2)} MB`);
  }
}

if (import.meta.main) await runTask(import.meta.url, build);
