/** The cells of the learning bench: the reference's protocol, with seeds. @module */
import type { NepaOptions } from "nepa";
import {
  type ByLayer,
  finetuneCell,
  type Finetuned,
  type Frozen,
  knnCell,
  pretrainCell,
  type Pretrained,
  probeCell,
  type Probed,
  type Source,
  type Split,
  type Task,
} from "./cells.ts";
import { measureCell, type Measured, type Method } from "./measure.ts";
import { OFFICIAL, type Official, officialCell } from "./peer.ts";
import json from "./plan.json" with { type: "json" };
import type { Cell } from "./run.ts";

/** How much is done. */
export interface Budget {
  /** Training and test images. */
  images: readonly [train: number, test: number];
  /** Updates of a pretraining. */
  steps: { mini: number; nano: number; ablation: number };
  /** Training images that the ablations' probes are fitted to, and judged by. */
  split: Exclude<Split, "all">;
  /** Training images put aside to choose among trainings from scratch. */
  aside: number;
  /** Numbers of labels with their updates. */
  tunings: readonly (readonly [labels: number, steps: number])[];
  /** Updates with all labels. */
  allLabels: number;
  /** Layers whose tokens are probed all joined, in the grid. */
  joined: readonly string[];
}

/** The whole, what the reference did; and a little of everything, to try it. */
export const WHOLE = json.whole as unknown as Budget, TRIAL = json.trial as unknown as Budget;

/** How every network here is pretrained, and every classifier trained; of training images a half is mirrored. */
export const PRETRAINING = json.pretraining as typeof json.pretraining & { betas: [number, number] };
export const FINETUNING = json.finetuning as typeof json.finetuning & { betas: [number, number] };

/** The two sizes. */
export type Size = "mini" | "nano";

/** Seconds on two quiet cores: of an update, of reading all images' features, of a linear probe, of k-NN. */
const COST = json.cost;

/** What the frozen features of one network are asked. */
export interface Frozens {
  probe: Cell<Probed>;
  knn: Cell<ByLayer>;
}

/** What is done with one network. */
export interface Evaluations extends Frozens {
  measure: Cell<Measured>;
}

/** One pretraining and what is done with it. */
export interface Trained extends Evaluations {
  pretrain: Cell<Pretrained>;
  /** By number of labels. */
  finetune: Map<number, Cell<Finetuned>>;
}

/** All of one size, an array's place the seed. */
export interface SizePlan {
  trained: Trained[];
  /** Seed 0 not trained, without layer scale. */
  untrained: Frozens;
  /** From scratch, by number of labels, one for each layer scale. */
  scratch: Map<number, Cell<Finetuned>[]>[];
  /** With all labels, seed 0. */
  all: { finetune: Cell<Finetuned>; scratch: Cell<Finetuned>[] } | undefined;
}

/** What the ablations leave out. */
const ABLATIONS: Readonly<Record<string, Method>> = json.ablations;

export const seedsOf = (count: number) => Array.from({ length: count }, (_, seed) => seed);

/** What is evaluated of a network, by its name. */
function evaluations(
  name: string,
  source: Source,
  size: Size,
  rank: number,
  frozen: Frozen,
  method: Method = {},
): Evaluations {
  const share = frozen.split === "all" ? 1 : (frozen.split.fit + frozen.split.judged) / 70_000;
  const { features } = COST[size], { references = false, ...read } = frozen;
  const task = (part: string, seconds: number): Task => ({ name: `${name}/${part}`, rank, seconds });
  const probes = (frozen.layers ? 6 : 1) + (references ? 6 : 0), near = { ...read, layers: size === "mini" };
  return {
    measure: measureCell(task("measure", features / 6), source, frozen.split, method),
    probe: probeCell(task("probe", share * (features + probes * COST.probe)), source, {
      ...read,
      references,
    }),
    knn: knnCell(task("knn", share * (features + (near.layers ? 5 : 1) * COST.knn)), source, near),
  };
}

function pretrained(
  [name, size, rank]: readonly [string, Size, number],
  seed: number,
  steps: number,
  method: Method = {},
  more: { emaDecay?: number; every?: { collapse: number } } = {},
): Cell<Pretrained> {
  const task = { name: `${name}/pretrain`, rank, seconds: steps * COST[size].step };
  return pretrainCell(task, {
    network: { preset: size },
    seed,
    training: { ...PRETRAINING, steps, ...method, ...more },
  });
}

function tuned(
  name: string,
  source: Source,
  [labels, steps]: readonly [number | "all", number],
  [size, rank, seed]: readonly [Size, number, number],
  { aside }: Budget,
): Cell<Finetuned> {
  const fresh = "network" in source, official = size === "nano" && !fresh;
  const training = { ...FINETUNING, steps, layerDecay: fresh ? 1 : 0.75, layerWarmup: official };
  const seconds = steps * COST[size].step + COST[size].features / 5;
  return finetuneCell({ name: `${name}-${labels}`, rank, seconds }, source, {
    labels,
    aside,
    seed,
    training,
  });
}

function scratch(
  size: Size,
  rank: number,
  seed: number,
  tuning: readonly [number | "all", number],
  budget: Budget,
) {
  return json.scratchScales.map((layerscaleValue) => {
    const network: NepaOptions = { preset: size, layerscaleValue },
      name = `${size}/seed${seed}/scratch-${layerscaleValue.toExponential()}`;
    return tuned(name, { network, seed }, tuning, [size, rank, seed], budget);
  });
}

function sizePlan(size: Size, first: number, seeds: number, budget: Budget): SizePlan {
  const { tunings } = budget, every = size === "mini";
  const trained = seedsOf(seeds).map((seed): Trained => {
    const name = `${size}/seed${seed}`, ema = size === "nano" && seed === 0 ? { emaDecay: 0.99 } : {};
    const pretrain = pretrained([name, size, first], seed, budget.steps[size], {}, ema),
      source = { trained: pretrain };
    const found = evaluations(name, source, size, first, { split: "all", layers: true });
    const finetune = tunings.map((tuning, i) => {
      const rank = every && i === 0 ? first : first + 3;
      return [tuning[0], tuned(`${name}/finetune`, source, tuning, [size, rank, seed], budget)] as const;
    });
    return { pretrain, ...found, finetune: new Map(finetune) };
  });
  const network = { preset: size, layerscaleValue: null }, name = `${size}/untrained-null`;
  const { probe, knn } = evaluations(name, { network, seed: 0 }, size, first + 2, {
    split: "all",
    layers: every,
  });
  return {
    trained,
    untrained: { probe, knn },
    scratch: seedsOf(seeds).map((seed) =>
      new Map(tunings.map((tuning) => [tuning[0], scratch(size, first + 3, seed, tuning, budget)]))
    ),
    all: every
      ? {
        finetune: tuned(
          `${size}/seed0/finetune`,
          { trained: trained[0]!.pretrain },
          ["all", budget.allLabels],
          [size, 9, 0],
          budget,
        ),
        scratch: scratch(size, 9, 0, ["all", budget.allLabels], budget),
      }
      : undefined,
  };
}

/** Every cell, where its figure belongs. */
export interface Plan {
  mini: SizePlan;
  /** What the official code trains, with the seeds after the reference's. */
  official: {
    mini: (Evaluations & { pretrain: Cell<Pretrained> })[];
    /** The probe and the neighbours read without the causal mask. */
    nano: (Evaluations & { pretrain: Cell<Pretrained> })[];
  };
  nano: SizePlan;
  /** Nano with its first weights, an array's place the seed; the first probe tells of raw pixels too. */
  fresh: Evaluations[];
  /** Nano's averaged weights, seed 0. */
  averaged: Evaluations;
  /** Nano read without the causal mask, an array's place the seed. */
  bidirectional: Frozens[];
  pixels: Cell<ByLayer>;
  /** By name, an array's place the seed. */
  ablations: Record<string, (Evaluations & { pretrain: Cell<Pretrained> })[]>;
}

/** The official code's further seeds: the reference has those below. */
const FURTHER = { mini: [2, 3], nano: [3, 4] } as const;

function officialCells(size: Size, budget: Budget, peer: Official | undefined): Plan["official"][Size] {
  return FURTHER[size].map((seed) => {
    const name = `${OFFICIAL}${size}/seed${seed}`, steps = budget.steps[size], every = size === "mini";
    const task = { name: `${name}/pretrain`, rank: 7, seconds: steps * COST[size].step };
    const training = { ...PRETRAINING, steps };
    const pretrain = officialCell(task, { network: { preset: size }, seed, training }, peer);
    const source = { trained: pretrain }, split = "all";
    const { measure } = evaluations(name, source, size, 7, { split });
    const read = every ? { layers: true } : { causal: false };
    const { probe, knn } = evaluations(every ? name : `${name}/bidirectional`, source, size, 7, {
      split,
      ...read,
    });
    return { pretrain, measure, probe, knn };
  });
}

/** The cells for so many seeds. */
export function makePlan(budget: Budget, seeds: number, peer?: Official): Plan {
  const mini = sizePlan("mini", 0, seeds, budget), nano = sizePlan("nano", 1, seeds, budget);
  const read = (name: string, trained: Trained, frozen: Omit<Frozen, "split">, averaged = false) =>
    evaluations(`nano/${name}`, { trained: trained.pretrain, averaged }, "nano", 5, {
      split: "all",
      ...frozen,
    });
  const ablations = Object.entries(ABLATIONS).map(([title, method]) => {
    const cells = seedsOf(seeds).map((seed) => {
      const name = `ablation/${title.replaceAll(" ", "-")}/seed${seed}`, rank = seed === 0 ? 2 : 6;
      const pretrain = pretrained([name, "nano", rank], seed, budget.steps.ablation, method, {
        every: { collapse: 50 },
      });
      const { causal = true } = method, frozen = { split: budget.split, layers: true, causal };
      return { pretrain, ...evaluations(name, { trained: pretrain }, "nano", rank, frozen, method) };
    });
    return [title, cells] as const;
  });
  return {
    mini,
    official: {
      mini: officialCells("mini", budget, peer),
      nano: officialCells("nano", budget, peer),
    },
    nano,
    fresh: seedsOf(seeds).map((seed) =>
      evaluations(`nano/seed${seed}/untrained`, { network: { preset: "nano" }, seed }, "nano", 3, {
        split: "all",
        references: seed === 0,
      })
    ),
    averaged: read("seed0/averaged", nano.trained[0]!, {}, true),
    bidirectional: nano.trained.map((trained, seed) => {
      const { probe, knn } = read(`seed${seed}/bidirectional`, trained, {
        causal: false,
        layers: seed === 0,
      });
      return { probe, knn };
    }),
    pixels: knnCell({ name: "pixels/knn", rank: 2, seconds: 60 }, undefined, { split: "all" }),
    ablations: Object.fromEntries(ablations),
  };
}

/** All cells in a plan. */
export function cellsOf(plan: object): Cell[] {
  const values = plan instanceof Map ? [...plan.values()] : Object.values(plan);
  return values.flatMap((value) =>
    value === undefined
      ? []
      : typeof (value as Cell).run === "function"
      ? [value as Cell]
      : cellsOf(value as object)
  );
}
