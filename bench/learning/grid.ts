/** The grid between NEPA and I-JEPA: patterns by targets, each trained at equal compute, and how its features are read. @module */
import { type Collapse, type IJepaOptions, Nepa, pretrain, type PretrainOptions } from "nepa";
import { augmented, curveOf, ended, type Pretraining, type Task } from "./cells.ts";
import json from "./grid.json" with { type: "json" };
import { type Kind, makeKind } from "./grid_methods.ts";
import { type Features, readFeatures } from "./grid_read.ts";
import { type Budget, PRETRAINING, seedsOf, type Size } from "./plan.ts";
import type { Cell, Place } from "./run.ts";
import { CHOSEN, computeOf, type Jepa, makeJepa, secondsOf, STEPS } from "./search.ts";

/** What a cell of the grid came to. */
export interface Gridded extends Features {
  steps: number;
  seconds: number;
  /** Products of the training. */
  flops: number;
  lossFirst: number;
  lossLast: number;
  curve: { step: number[]; loss: number[] };
  /** Of the targets when the training ended. */
  targets: Omit<Collapse, "collapsed">;
}

/** The grid of one size. */
export interface GridSize {
  /** By title, an array's place the seed. */
  kinds: Record<string, Cell<Gridded>[]>;
  without: Record<string, Cell<Gridded>[]>;
  /** Random weights by pattern, an array's place the seed. */
  untrained: { causal: Cell<Features>[]; blocks: Cell<Features>[] };
}

/** Every cell of the grid. */
export type GridPlan = Record<Size, GridSize>;

/** The grid's cells by their titles in `grid.json`. */
const { kinds, without } = json as unknown as Record<"kinds" | "without", Readonly<Record<string, Kind>>>;
export { kinds as KINDS, without as WITHOUT };

/** I-JEPA's recipe for a size: the search's, with the patch embedding's first weights by the patch's number of pixels. */
function jepaOf(size: Size): Jepa {
  const { network, training, patches } = CHOSEN;
  if (size === "nano") return CHOSEN;
  const { momentum, predictorHiddenSize, predictorNumHiddenLayers } = network;
  const own = { momentum, predictorHiddenSize, predictorNumHiddenLayers };
  const given = Object.fromEntries(Object.entries(own).filter(([, value]) => value !== undefined));
  return { network: { preset: size, ...given } as IJepaOptions, training, patches: patches * 4 / 7 };
}

/** How a pattern is trained: as NEPA by its default recipe, or as I-JEPA by that which the search found. */
const trainingOf = ({ pattern }: Kind, jepa: Jepa): Pretraining["training"] =>
  pattern === "causal" ? PRETRAINING : jepa.training as Pretraining["training"];

/** What decides about a reading. */
const readingOf = ({ joined, tunings, split }: Budget) => ({
  joined,
  lambda: json.lambda,
  tuning: tunings[0],
  split,
});

/** A cell that trains one kind for the compute of so many updates of NEPA, and reads it. */
function kindCell(
  task: Task,
  kind: Kind,
  size: Size,
  [seed, steps]: readonly [number, number],
  budget: Budget,
): Cell<Gridded> {
  const jepa = jepaOf(size), training = trainingOf(kind, jepa), { batchSize = 64 } = training;
  const run = async (place: Place): Promise<Gridded> => {
    const made = makeKind(kind, { causal: { preset: size }, blocks: jepa }, seed),
      flops = made.flops(batchSize);
    const updates = Math.floor(computeOf(steps, size) / flops);
    const options = {
      ...{ ...augmented(training), steps: updates, seed, every: { collapse: updates }, ...made.switches },
      ...made.objective && { objective: made.objective },
      groups: (name: string) => made.unused(name) ? { frozen: true } : {},
      checkpoint: { folder: `${place.folder}/run`, resume: "auto", keep: 1, every: Math.ceil(updates / 20) },
    };
    const running = pretrain(made.model as Nepa, place.train, options as PretrainOptions);
    try {
      await ended(running);
      const { history } = running, { lossFirst, lossLast } = running.result();
      const { featureStd, effectiveRank, meanCosine } = history.at(-1)!.metrics!;
      const read = await readFeatures(made.encoder, place, budget, { seed, layerDecay: 0.75 });
      await Deno.remove(`${place.folder}/run`, { recursive: true });
      return {
        ...{
          steps: updates,
          seconds: secondsOf(history, batchSize),
          flops: updates * flops,
          lossFirst,
          lossLast,
        },
        ...{ curve: curveOf(history), targets: { featureStd, effectiveRank, meanCosine }, ...read },
      };
    } finally {
      made.dispose();
    }
  };
  const about = kind.pattern === "blocks"
    ? { jepa }
    : { momentum: kind.target === "average" && jepa.network.momentum };
  const options = { kind, size, seed, steps, training, ...readingOf(budget) };
  return { ...task, options: { ...options, ...about }, run };
}

/** A cell that reads a network with random weights; NEPA's without layer scale, which would leave it nearly the identity. */
function untrainedCell(
  task: Task,
  pattern: Kind["pattern"],
  size: Size,
  seed: number,
  budget: Budget,
): Cell<Features> {
  const { network, patches } = jepaOf(size), causal = { preset: size, layerscaleValue: null };
  const run = async (place: Place): Promise<Features> => {
    const model = pattern === "causal" ? new Nepa(causal, { seed }) : makeJepa({ network, patches }, seed);
    try {
      return await readFeatures(model.encoder, place, budget, { seed, layerDecay: 1 });
    } finally {
      model.dispose();
    }
  };
  const about = pattern === "causal" ? causal : { network, patches };
  return { ...task, options: { ...about, seed, ...readingOf(budget) }, run };
}

/** The grid of one size. */
function gridSize(size: Size, rank: number, budget: Budget): GridSize {
  const trial = budget.steps.mini < 1000, steps = trial ? budget.steps.nano : STEPS;
  const cost = json.cost[size], all = seedsOf(json.seeds[size]);
  const task = (title: string, seed: number, seconds: number, later = 0): Task => {
    return {
      name: `grid/${size}/${title.replaceAll(/[^\w.]+/g, "-")}/seed${seed}`,
      rank: rank + seed + later,
      seconds,
    };
  };
  const cells = (some: Readonly<Record<string, Kind>>, seeds: readonly number[], later: number) =>
    Object.fromEntries(
      Object.entries(some).map(([title, kind]) => {
        const own = (seed: number) => task(title, seed, cost.train + cost.read, later);
        return [title, seeds.map((seed) => kindCell(own(seed), kind, size, [seed, steps], budget))];
      }),
    );
  const fresh = (pattern: Kind["pattern"]) =>
    all.map((seed) =>
      untrainedCell(task(`untrained ${pattern}`, seed, cost.read), pattern, size, seed, budget)
    );
  return {
    kinds: cells(kinds, all, 0),
    without: cells(size === "nano" ? without : {}, [0], 3),
    untrained: { causal: fresh("causal"), blocks: fresh("blocks") },
  };
}

/** The grid's cells: nano with three seeds, then mini. */
export function makeGridPlan(budget: Budget): GridPlan {
  return { nano: gridSize("nano", 12, budget), mini: gridSize("mini", 16, budget) };
}
