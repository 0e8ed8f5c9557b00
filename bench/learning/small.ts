/** The learning bench beyond the reference: `recipe: "standardized"`, and what each change to the default one brings. @module */
import {
  type Dataset,
  evaluate,
  finetune,
  type FinetuneOptions,
  fitHead,
  linearProbe,
  NepaClassifier,
  type NepaOptions,
  type Probe,
  type ProbeOptions,
} from "nepa";
import { readSets } from "../../lib/eval/features.ts";
import {
  augmented,
  ended,
  modelCell,
  NEAR,
  nearest,
  pixelRows,
  type Plain,
  pretrainCell,
  type Pretrained,
  type Pretraining,
  putAside,
  type Rows,
  setsOf,
  type Source,
  type Split,
  type Task,
} from "./cells.ts";
import { type Budget, type Plan, PRETRAINING, seedsOf } from "./plan.ts";
import type { Cell } from "./run.ts";
import json from "./small.json" with { type: "json" };

/** Penalties for all probes here: joined tokens are 2,176 numbers, which need larger ones than 128 do. */
const LAMBDAS = [1e-1, 1e-2, 1e-3, 1e-4];

/** How frozen features are read. */
export type Reading = Pick<ProbeOptions, "layer" | "pool">;

/** Of frozen features. */
export interface Frozen {
  probe: number;
  lambda: number;
  converged: boolean;
  knn: number;
  centred: number;
}

/** How a classifier is made and trained. */
export interface Tuning {
  /** Read all tokens after block 3, or the mean after the last. */
  joined: boolean;
  /** The head is fitted before. */
  fitted: boolean;
  training: Plain<FinetuneOptions>;
}

/** Of a fine-tuning: on the images put aside, on the test images, and before the first update. */
export interface Tuned {
  validation: number;
  accuracy: number;
  before: number;
}

/** A probe's result with the neighbours' votes on the same rows, as they are and centred. */
async function withNeighbours(
  { accuracy: probe, lambda, converged }: Pick<Probe, "accuracy" | "lambda" | "converged">,
  sets: ReturnType<typeof setsOf>,
  rows: Rows,
): Promise<Frozen> {
  const [knn, centred] = [await nearest(sets, rows), await nearest(sets, rows, true)];
  return { probe, lambda, converged, knn, centred };
}

/** A cell that reads frozen features: a linear probe, neighbours. */
function frozenCell(task: Task, source: Source, reading: Reading, split: Split): Cell<Frozen> {
  const options = { reading, split, lambdas: LAMBDAS, ...NEAR };
  return modelCell(task, source, options, async (model, place) => {
    const sets = setsOf(place, split), { fit, judged } = sets, { layer = "final" } = reading;
    const found = await linearProbe(model, fit, judged, { ...reading, lambdas: LAMBDAS });
    const [bank, asked] = await readSets(model, [fit, judged], [layer], reading);
    return await withNeighbours(found, sets, [bank!.get(layer)!, asked!.get(layer)!]);
  });
}

/** The same of raw pixels, for which a probe wants some network. */
function pixelsCell(task: Task, split: Split): Cell<Frozen> {
  const source: Source = { network: { preset: "mini", numHiddenLayers: 1 }, seed: 0 };
  const cell = modelCell(task, source, {}, async (model, place) => {
    const sets = setsOf(place, split), how = { lambdas: LAMBDAS, references: true };
    const { probes } = await linearProbe(model, sets.fit, sets.judged, how);
    return await withNeighbours(probes.get("raw pixels")!, sets, await pixelRows(sets));
  });
  return { ...cell, options: { pixels: true, split, lambdas: LAMBDAS, ...NEAR } };
}

/** A cell that trains a classifier with 600 labels. */
function tunedCell(task: Task, source: Source, tuning: Tuning, aside: number, seed: number): Cell<Tuned> {
  const { joined, fitted, training } = tuning;
  return modelCell(task, source, { tuning, aside, seed }, async (model, { train, test }) => {
    const { heldOut, rest } = putAside(train, aside);
    const few = rest.balanced(Math.min(60, Math.floor(rest.length / 20)), seed);
    const reading = joined ? { pool: "all", causal: true, config: { numHiddenLayers: 3 } } as const : {};
    const classifier = NepaClassifier.from(model, { classes: train.classes, seed, ...reading });
    const read = async (set: Dataset) => (await evaluate(classifier, set)).accuracy;
    try {
      if (fitted) await fitHead(classifier, few);
      const before = await read(test);
      await ended(finetune(classifier, few, { ...augmented(training), seed }));
      return { before, validation: await read(heldOut), accuracy: await read(test) };
    } finally {
      classifier.dispose();
    }
  });
}

/** One kind of pretraining. */
export interface Arm {
  /** By how it is read, an array's place the seed. */
  frozen: Record<string, Cell<Frozen>[]>;
  /** By how it is tuned. */
  tuned: Record<string, Cell<Tuned>[]>;
}

/** The cells of `recipe: "standardized"`. */
export interface SmallPlan {
  pixels: Cell<Frozen>;
  /** Random weights, layer scale null. */
  untrained: Cell<Frozen>;
  /** The whole recipe, an array's place the seed. */
  pretrain: Cell<Pretrained>[];
  small: Arm;
  /** The same with a peak of 6e-3, every part with all seeds. */
  higher: Arm;
  /** The default recipe's network. */
  plain: Arm;
  /** By the way, an array's place the seed. */
  scratch: Record<string, Cell<Tuned>[]>;
  /** Short trainings judged by training images, by what is changed; raw pixels there. */
  tried: Record<string, Cell<Frozen>>;
  triedPixels: Cell<Frozen>;
}

/** A training from scratch: the best on the images put aside counts. */
interface Way {
  network: NepaOptions;
  tuning: Tuning;
}

/** A short training that only ranks a change; as many updates as cost as much as 1,800 of mini. */
interface Trial {
  reading: Reading;
  network: NepaOptions;
  training: Pretraining["training"];
  steps: number;
}

/** How the arms are read and tuned, the trainings from scratch, and the changes at equal time, all by their titles. */
const { readings, tunings, scratch, tried } = json as unknown as {
  readings: Readonly<Record<string, Reading>>;
  tunings: Readonly<Record<string, Tuning>>;
  scratch: Readonly<Record<string, Way>>;
  tried: Readonly<Record<string, Trial>>;
};
export { scratch as WAYS, tunings as TUNINGS };

/** Titles in `small.json`, parts of the cells' names: how the recipe reads and a plainer way; the recipe with crops; what notebooks and demo do. */
export const WHOLE = "block 3, all tokens",
  MEAN_READ = "block 3, mean",
  CROPPED = "crops of 60 to 100 %, 600 steps",
  MEAN_TUNED = "mean of the tokens, head at zero, recipe default";

/** Seconds on two quiet cores: of an update, of a probe and neighbours of long features and of short ones, of a fine-tuning. */
const COST = json.cost;

const named = (title: string) => title.replaceAll(/[ ,]+/g, "-");
const mapped = <T, R>(
  record: Readonly<Record<string, T>>,
  of: (value: T, title: string) => R,
): Record<string, R> =>
  Object.fromEntries(Object.entries(record).map(([title, value]) => [title, of(value, title)]));

const only = <T>(record: Readonly<Record<string, T>>, ...titles: string[]): Record<string, T> =>
  Object.fromEntries(titles.map((title) => [title, record[title]!]));

/** Makes cells, as the budget says. */
function makers(budget: Budget, seeds: number) {
  const trial = budget.steps.mini < 1000, rankOf = (seed: number) => seed ? 5 : 4;
  const task = (name: string, rank: number, seconds: number): Task => ({
    name: `small/${name}`,
    rank,
    seconds,
  });
  const tuned = (name: string, source: Source, { training, ...tuning }: Tuning, seed: number) => {
    const settings = { ...tuning, training: { ...training, ...trial && { steps: 4 } } };
    const own = task(`${name}/seed${seed}`, rankOf(seed), COST.tuning);
    return tunedCell(own, source, settings, budget.aside, seed);
  };
  const frozen = (name: string, source: Source, reading: Reading, seed = 0) => {
    const seconds = reading.pool === "all" ? COST.long : COST.short;
    return frozenCell(task(`${name}/seed${seed}`, rankOf(seed), seconds), source, reading, "all");
  };
  const pretrained = (
    name: string,
    [steps, seed, rank]: readonly [number, number, number],
    network: NepaOptions,
    more: object,
  ) =>
    pretrainCell(task(name, rank, steps * COST.step), {
      network: { preset: "mini", ...network },
      seed,
      training: { recipe: "small", standardizeTargets: true, ...PRETRAINING, steps, ...more }, // the older name of "standardized", and what it sets, are part of the key
    });
  const arm = (
    name: string,
    sources: readonly Cell<Pretrained>[],
    readings: Readonly<Record<string, Reading>>,
    tunings: Readonly<Record<string, Tuning>>,
  ): Arm => {
    const every = [WHOLE, MEAN_READ, "recipe small", CROPPED, MEAN_TUNED];
    const some = (title: string) => sources.slice(0, every.includes(title) ? seeds : 1);
    const place = (title: string) => `${name}/${named(title)}`;
    return {
      frozen: mapped(
        readings,
        (reading, title) =>
          some(title).map((trained, seed) => frozen(place(title), { trained }, reading, seed)),
      ),
      tuned: mapped(
        tunings,
        (tuning, title) => some(title).map((trained, seed) => tuned(place(title), { trained }, tuning, seed)),
      ),
    };
  };
  return { task, tuned, frozen, pretrained, arm, trial, rankOf };
}

/** The cells for so many seeds; the default recipe's network is the plan's. */
export function makeSmallPlan({ mini }: Plan, budget: Budget, seeds: number): SmallPlan {
  const { task, tuned, frozen, pretrained, arm, trial, rankOf } = makers(budget, seeds);
  const all = seedsOf(seeds), steps = trial ? budget.steps.mini : 4800;
  const pretrain = all.map((seed) => pretrained(`seed${seed}/pretrain`, [steps, seed, rankOf(seed)], {}, {}));
  const higher = all.map((seed) =>
    pretrained(`peak-6e-3/seed${seed}/pretrain`, [steps, seed, 5], {}, { learningRate: 6e-3 })
  );
  const plain = mini.trained.map(({ pretrain }) => pretrain),
    fresh = { preset: "mini", layerscaleValue: null } as const;
  return {
    pixels: pixelsCell(task("pixels", 4, COST.short), "all"),
    untrained: frozen("untrained", { network: fresh, seed: 0 }, readings[WHOLE]!),
    pretrain,
    small: arm("small", pretrain, readings, tunings),
    higher: arm("peak-6e-3", higher, only(readings, WHOLE), only(tunings, "recipe small", CROPPED)),
    plain: arm("plain", plain, readings, tunings),
    scratch: mapped(
      scratch,
      ({ network, tuning }, title) =>
        all.map((seed) =>
          tuned(`scratch/${named(title)}`, { network: { preset: "mini", ...network }, seed }, tuning, seed)
        ),
    ),
    tried: mapped(tried, ({ reading, network, training, steps }, title) => {
      const count = trial ? 4 : steps, name = `tried/${named(title)}`;
      const trained = pretrained(`${name}/pretrain`, [count, 0, 8], network, training);
      return frozenCell(task(`${name}/frozen`, 8, COST.short), { trained }, reading, budget.split);
    }),
    triedPixels: pixelsCell(task("tried/pixels", 8, COST.short / 4), budget.split),
  };
}
