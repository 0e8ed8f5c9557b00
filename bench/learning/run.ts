/**
 * Runs a long bench as a list of cells, a training or an evaluation each. A cell's result is a file, by everything that
 * decides about it: a bench that was killed goes on where it was, and a changed recipe is run again.
 *
 * @module
 */
import { createHash } from "node:crypto";
import { cpus } from "node:os";
import { dirname, join } from "node:path";
import { currentEngine, type Dataset, RunInterrupted, tf } from "nepa";
import { formatDuration } from "../../lib/display/progress.ts";
import { VERSION } from "../../lib/base/version.ts";
import { showJson } from "../common.ts";

/** One training or one evaluation. `T` is its result, as JSON keeps it. */
export interface Cell<T = unknown> {
  /** Its file below the output folder, without ".json": "mini/seed0/probe". No other cell's. */
  readonly name: string;
  /** All that decides about the result, besides the cells that it needs; JSON. */
  readonly options: object;
  /** Cells that are run before it: those whose weights it reads. */
  readonly needs?: readonly Cell[];
  /** Cells of a lower rank are run first. */
  readonly rank: number;
  /** How long it takes on two quiet cores, for the time left. */
  readonly seconds: number;
  /** Does it. */
  run(place: Place): Promise<T>;
}

/** Where a cell is run. */
export interface Place {
  /** A folder of the cell's own, which is there: for weights, and checkpoints to go on from. */
  readonly folder: string;
  /** That of a cell which it needs. */
  folderOf(cell: Cell): string;
  readonly train: Dataset;
  readonly test: Dataset;
}

/** What a cell's file holds. */
export interface Kept<T = unknown> {
  cell: string;
  key: string;
  options: object;
  /** Of the last process that worked on it. */
  seconds: number;
  finished: string;
  engine: string;
  versions: Record<string, string>;
  machine: string;
  result: T;
}

/** What is there; undefined where nothing is. */
async function orNothing<T>(reading: Promise<T>): Promise<T | undefined> {
  try {
    return await reading;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}

/** Writes a file, or leaves the one before as it was. */
export async function writeWhole(file: string, text: string): Promise<void> {
  await Deno.writeTextFile(`${file}.part`, text);
  await Deno.rename(`${file}.part`, file);
}

/** The results in a folder, and those of other machines. */
export class Store {
  /**
   * @param root Made when something is written.
   * @param others What cells came to elsewhere, by name: they are not run again, unless another needs their weights.
   */
  constructor(readonly root: string, readonly others: ReadonlyMap<string, Kept> = new Map()) {}

  /** A store that knows the results in a file with one on each line, if it is there. */
  static async open(root: string, file: string): Promise<Store> {
    const text = await orNothing(Deno.readTextFile(file)) ?? "";
    const kept = text.split("\n").filter((line) => line !== "").map((line) => JSON.parse(line) as Kept);
    return new Store(root, new Map(kept.map((one) => [one.cell, one])));
  }

  /** A name for all that decides about a cell's result. */
  key(cell: Cell): string {
    const about = JSON.stringify([cell.options, (cell.needs ?? []).map((needed) => this.key(needed))]);
    return createHash("sha256").update(about).digest("hex").slice(0, 12);
  }

  /** A cell's own folder, another for each key. */
  folder(cell: Cell): string {
    return join(this.root, `${cell.name}-${this.key(cell)}`);
  }

  /** What is kept for a cell as it is now; undefined: nothing. */
  async read<T>(cell: Cell<T>): Promise<Kept<T> | undefined> {
    const elsewhere = this.others.get(cell.name) as Kept<T> | undefined;
    return await this.readOwn(cell) ?? (elsewhere?.key === this.key(cell) ? elsewhere : undefined);
  }

  /** The same of what was run here, so that its weights are here too. */
  async readOwn<T>(cell: Cell<T>): Promise<Kept<T> | undefined> {
    const text = await orNothing(Deno.readTextFile(join(this.root, `${cell.name}.json`)));
    const kept = text === undefined ? undefined : JSON.parse(text) as Kept<T>;
    return kept?.key === this.key(cell) ? kept : undefined;
  }

  /** Runs a cell and keeps what comes out; its folder goes where nothing was put into it. */
  async fill<T>(cell: Cell<T>, sets: Pick<Place, "train" | "test">): Promise<Kept<T>> {
    const folder = this.folder(cell), started = performance.now(), engine = currentEngine();
    await Deno.mkdir(folder, { recursive: true });
    await this.#removeOthers(cell);
    const result = await cell.run({ ...sets, folder, folderOf: (needed) => this.folder(needed) });
    await Deno.remove(folder).catch(() => {}); // not empty: it stays
    const kept: Kept<T> = {
      cell: cell.name,
      key: this.key(cell),
      options: cell.options,
      seconds: (performance.now() - started) / 1000,
      finished: new Date().toISOString(),
      engine: String(engine),
      versions: {
        nepa: VERSION,
        deno: Deno.version.deno,
        tfjs: tf.version_core,
        [engine.name]: engine.version,
      },
      machine: `${cpus().length} × ${cpus()[0]?.model ?? "processor"}`,
      result,
    };
    await writeWhole(join(this.root, `${cell.name}.json`), JSON.stringify(kept, null, 1) + "\n");
    return kept;
  }

  /** Removes what the cell left behind when its options were others. */
  async #removeOthers(cell: Cell): Promise<void> {
    const own = this.folder(cell), place = dirname(own), stem = `${cell.name.split("/").at(-1)}-`;
    for await (const { name } of Deno.readDir(place)) {
      const path = join(place, name),
        other = name.startsWith(stem) && /^[0-9a-f]{12}$/.test(name.slice(stem.length));
      if (other && path !== own) await Deno.remove(path, { recursive: true });
    }
  }
}

/** What of the cells is run, and how that is told. */
export interface RunCellsOptions {
  /** Cells with this in their names, and those that they need. Default: all. */
  only?: string;
  /** Minutes after which no further cell is begun. */
  minutes?: number;
  /** Print each cell's file as a line. Default false. */
  json?: boolean;
}

/** The cells and all that they need, once each, in the order in which they are run. */
function inOrder(cells: readonly Cell[]): Cell[] {
  const order = new Map<string, Cell>();
  const add = (cell: Cell) => {
    cell.needs?.forEach(add);
    const known = order.get(cell.name);
    if (known && known !== cell) throw new Error(`${cell.name}: expected one cell of this name, got two`);
    order.set(cell.name, cell);
  };
  cells.toSorted((a, b) => a.rank - b.rank).forEach(add);
  return [...order.values()];
}

/** Those that have to be run, for their results or for the weights that others need, and the other ones' results. */
async function sorted(
  chosen: readonly Cell[],
  store: Store,
): Promise<{ missing: Cell[]; there: Kept[] }> {
  const asked = new Set(chosen.map(({ name }) => name)), needed = new Set<Cell>();
  const missing: Cell[] = [], there: Kept[] = [];
  for (const cell of inOrder(chosen).toReversed()) { // what a cell needs is before it
    if (!needed.has(cell) && !asked.has(cell.name)) continue;
    const kept = needed.has(cell) ? await store.readOwn(cell) : await store.read(cell);
    if (kept) {
      there.unshift(kept);
      continue;
    }
    missing.unshift(cell);
    cell.needs?.forEach((one) => needed.add(one));
  }
  return { missing, there };
}

/**
 * Runs the cells that have no result yet. One that fails is told of at the end; those that need it are left out.
 *
 * @param cells In any order; the same cell may be there several times.
 * @param store Where results are kept.
 * @param sets The images.
 * @param options Which, and for how long.
 * @throws {Error} At the end, if a cell failed.
 */
export async function runCells(
  cells: readonly Cell[],
  store: Store,
  sets: Pick<Place, "train" | "test">,
  { only = "", minutes = Infinity, json = false }: RunCellsOptions = {},
): Promise<void> {
  const failed = new Map<Cell, unknown>(), started = performance.now();
  const { missing, there } = await sorted(cells.filter(({ name }) => name.includes(only)), store);
  if (json) showJson(there);
  const spent = () => (performance.now() - started) / 1000;
  const expected = (some: readonly Cell[]) => some.reduce((sum, { seconds }) => sum + seconds, 0);
  for (const [i, cell] of missing.entries()) {
    if (spent() >= 60 * minutes) {
      console.error(`the time is over, ${missing.length - i} cells are left; the same command goes on`);
      break;
    }
    if (cell.needs?.some((needed) => failed.has(needed))) {
      failed.set(cell, new Error("what it needs failed"));
      continue;
    }
    const pace = i > 0 ? spent() / expected(missing.slice(0, i)) : 1;
    const left = formatDuration(pace * expected(missing.slice(i)));
    console.error(
      `${new Date().toISOString().slice(11, 19)} [${i + 1}/${missing.length}] ${cell.name}, ${left} left`,
    );
    try {
      const kept = await store.fill(cell, sets);
      console.error(`  in ${formatDuration(kept.seconds)}`);
      if (json) showJson([kept]);
    } catch (error) {
      if (error instanceof RunInterrupted) throw error;
      console.error(error);
      failed.set(cell, error);
    }
  }
  if (failed.size > 0) {
    throw new Error(
      `expected all cells to be run, but these failed: ${
        [...failed.keys()].map(({ name }) => name).join(", ")
      }`,
    );
  }
}
