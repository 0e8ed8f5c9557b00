/**
 * `deno task bench learning`: what this library learns on Fashion-MNIST beside what the official code reaches, with seeds;
 * writes `docs/results.md` and its figures.
 *
 *     deno task bench learning [--method search|grid] [--only TEXT] [--seeds 3] [--minutes 115] [--json] [--out out/learning] [--docs docs]
 *       [--peer torch --official CHECKOUT [--python PYTHON]]
 *
 * Two hours on two cores: after `--minutes` no cell, a training or an evaluation, is begun, and the same command does the
 * rest. Each is kept in the output folder: a bench that was stopped or killed goes on where it was. So it does on another
 * machine, from `results.jsonl` in the docs folder; there a training is run again if its weights are needed. `--only mini/seed0`
 * runs the cells with that in their names, and what they need; `--minutes 0` only writes the page anew; `NEPA_BUDGET=test`
 * in the environment does a little of everything. With `--peer torch` the official code trains mini and nano too, with seeds of
 * which the reference tells nothing.
 *
 * `--method search` runs I-JEPA with the settings of `search.json`, judged by training images held out; `--method grid` runs
 * NEPA, I-JEPA, and what lies between them, at equal compute. Both take hours, and go on where they were in the same way.
 *
 * @module
 */
import { join } from "node:path";
import { fashionMnist, RunInterrupted, useEngine } from "nepa";
import { PROJECT } from "../../notebooks/.tools/setup.ts";
import { count, readOptions } from "../common.ts";
import { OptionError } from "../options.ts";
import { makeGridPlan } from "./grid.ts";
import { gridSection } from "./grid_section.ts";
import { writePage } from "./page.ts";
import { makePlan, TRIAL, WHOLE } from "./plan.ts";
import { OFFICIAL } from "./peer.ts";
import { runCells, Store } from "./run.ts";
import { makeSearchPlan } from "./search.ts";
import { searchSection } from "./search_section.ts";
import { sectionsOf } from "./sections.ts";
import { makeSmallPlan } from "./small.ts";
import { smallSection } from "./small_section.ts";

const TRIAL_NOTE = "A trial with NEPA_BUDGET=test: the numbers mean nothing.";

/** The seed in a cell's name; 0 of a cell without. */
const seedOf = (name: string) => Number(/seed(\d+)/.exec(name)?.[1] ?? 0);

/** `deno task bench learning`. */
export async function benchLearning(args: readonly string[]): Promise<void> {
  const given = readOptions(args, {
    method: "",
    only: "",
    seeds: "3",
    minutes: "115",
    json: false,
    out: join(PROJECT, "out", "learning"),
    docs: join(PROJECT, "docs"),
    peer: "",
    official: "",
    python: "",
  });
  const peer = given.peer === "" ? undefined : given;
  if (peer && (peer.peer !== "torch" || !peer.official)) {
    throw new OptionError("--peer: expected torch, and --official with a checkout of SihanXU/nepa");
  }
  if (!["", "search", "grid"].includes(given.method)) {
    throw new OptionError(`--method: expected search or grid, got "${given.method}"`);
  }
  const seeds = count("seeds", given.seeds);
  const minutes = count("minutes", given.minutes, 0);
  const trial = Deno.env.get("NEPA_BUDGET") === "test", budget = trial ? TRIAL : WHOLE;
  await useEngine();
  const { train, test } = await fashionMnist();
  const store = await Store.open(given.out, join(given.docs, "results.jsonl"));
  const [fitted, judged] = budget.images;
  const first = (set: typeof train, n: number) => n < set.length ? set.subset(n / set.length) : set;
  const shown = Math.max(seeds, ...[...store.others.keys()].map((name) => seedOf(name) + 1));
  const plan = makePlan(budget, shown, peer);
  const small = smallSection(makeSmallPlan(plan, budget, shown), budget);
  const grid = makeGridPlan(budget);
  const methods = {
    "": [...sectionsOf(plan, budget), small],
    search: [searchSection(makeSearchPlan(budget), budget)],
    grid: (["nano", "mini"] as const).map((size, i) =>
      gridSection(`${9 + i}. NEPA, I-JEPA and what lies between: ${size}`, size, grid, plan, budget)
    ),
  };
  const sections = Object.values(methods).flat();
  const cells = methods[given.method as keyof typeof methods].flatMap(({ cells }) => cells);
  const wanted = cells.filter(({ name }) =>
    name.startsWith(OFFICIAL) ? peer !== undefined : seedOf(name) < seeds
  );
  const sets = { train: first(train, fitted), test: first(test, judged) };
  try {
    await runCells(wanted, store, sets, { only: given.only, minutes, json: given.json });
  } catch (error) {
    if (!(error instanceof RunInterrupted)) throw error;
    console.error(`${error.message}; the same command goes on`);
    Deno.exitCode = 130;
  } finally {
    await writePage(given.docs, sections, wanted, store, trial ? TRIAL_NOTE : undefined);
  }
}
