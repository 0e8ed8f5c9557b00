/** The learning bench beyond the reference: `recipe: "small"`, and what each change to the default one brings. @module */
import type { NepaOptions } from "nepa";
import { pretrainCell, type Pretrained, type Pretraining, type Source, type Task } from "./cells.ts";
import { type Budget, type Plan, PRETRAINING } from "./plan.ts";
import type { Cell } from "./run.ts";
import {
  type Frozen,
  frozenCell,
  pixelsCell,
  type Reading,
  type Tuned,
  tunedCell,
  type Tuning,
} from "./small_cells.ts";

/** Seconds on two quiet cores: of an update, of a probe and neighbours of long features and of short ones, of a fine-tuning. */
const COST = { step: 0.065, long: 200, short: 60, tuning: 40 };

/** The reading of the recipe, and a plain one. */
export const WHOLE = "block 3, all tokens";
export const MEAN_READ = "block 3, mean";

/** All tokens of a block, which the recipe reads. */
const joined = (layer: number) => ({ layer, pool: "all" }) as const;

/** One kind of pretraining. */
export interface Arm {
  /** By how it is read, an array's place the seed. */
  frozen: Record<string, Cell<Frozen>[]>;
  /** By how it is tuned. */
  tuned: Record<string, Cell<Tuned>[]>;
}

/** The cells of `recipe: "small"`. */
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

const SMALL: Tuning = { joined: true, fitted: true, training: { recipe: "small", learningRate: 1e-3 } };

const CROPS = { crop: 0.6, steps: 600 };

/** The recipe with crops. */
export const CROPPED = "crops of 60 to 100 %, 600 steps";

/** What notebooks and demo do with few labels. */
export const MEAN_TUNED = "mean of the tokens, head at zero, recipe default";

/** The recipe for few labels, and with something changed. */
export const TUNINGS: Readonly<Record<string, Tuning>> = {
  "recipe small": SMALL,
  "peak 5e-4": { ...SMALL, training: { recipe: "small", learningRate: 5e-4 } },
  "peak 2e-3": { ...SMALL, training: { recipe: "small", learningRate: 2e-3 } },
  [CROPPED]: { ...SMALL, training: { ...SMALL.training, ...CROPS } },
  "head at zero": { ...SMALL, fitted: false },
  [MEAN_TUNED]: { joined: false, fitted: false, training: {} },
};

const fresh = (layerscaleValue: number | null, tuning: Tuning): readonly [NepaOptions, Tuning] => [
  { layerscaleValue },
  { ...tuning, training: { layerDecay: 1, ...tuning.training } },
];
const MEAN: Tuning = { joined: false, fitted: false, training: {} };
const ZERO: Tuning = { ...SMALL, fitted: false, training: { recipe: "small", learningRate: 3e-3 } };

/** Trainings from scratch: the best on the images put aside counts. */
export const WAYS: Readonly<Record<string, readonly [NepaOptions, Tuning]>> = {
  "default, layer scale 1e-5": fresh(1e-5, MEAN),
  "default, layer scale 0.1": fresh(0.1, MEAN),
  "all tokens, head at zero, layer scale 0.1, peak 3e-3": fresh(0.1, ZERO),
  "all tokens, head at zero, layer scale null, peak 3e-3": fresh(null, ZERO),
  "all tokens, head fitted, layer scale null": fresh(null, SMALL),
  [`all tokens, head at zero, layer scale 0.1, peak 3e-3, ${CROPPED}`]: fresh(0.1, {
    ...ZERO,
    training: { ...ZERO.training, ...CROPS },
  }),
};

/** Updates of the trainings that only rank changes, for a network that costs as much as mini. */
const RANKING = 1800;

/** Changes to the recipe, at equal time: what is read, the network, the training. */
const TRIED: Readonly<Record<string, [Reading, NepaOptions, Pretraining["training"], number]>> = {
  "recipe small": [joined(3), {}, {}, RANKING],
  "targets as they are": [joined(3), {}, { standardizeTargets: false }, RANKING],
  "layer scale 0.1": [joined(3), { layerscaleValue: 0.1 }, {}, RANKING],
  "peak 6e-3": [joined(3), {}, { learningRate: 6e-3 }, RANKING],
  "peak 1.2e-2": [joined(3), {}, { learningRate: 1.2e-2 }, RANKING],
  "peak 6e-3, layer scale 0.1": [joined(3), { layerscaleValue: 0.1 }, { learningRate: 6e-3 }, RANKING],
  "peak 6e-3, crops of 60 to 100 %": [joined(3), {}, { learningRate: 6e-3, crop: 0.6 }, RANKING],
  "peak 6e-3, one and two positions ahead": [joined(3), {}, { learningRate: 6e-3, ahead: [1, 2] }, RANKING],
  "peak 6e-3, the next and the patch below": [joined(3), {}, { learningRate: 6e-3, ahead: [1, 4] }, RANKING],
  "peak 6e-3, batches of 32": [joined(3), {}, { learningRate: 6e-3, batchSize: 32 }, RANKING * 1.67],
  "192 numbers a token, 3 blocks": [
    joined(2),
    {
      hiddenSize: 192,
      numHiddenLayers: 3,
      numAttentionHeads: 4,
      intermediateSize: 768,
    },
    {},
    RANKING * 0.6,
  ],
  "6 blocks": [joined(4), { numHiddenLayers: 6 }, {}, RANKING * 0.67],
};

const named = (title: string) => title.replaceAll(/[ ,]+/g, "-");
const mapped = <T, R>(
  record: Readonly<Record<string, T>>,
  of: (value: T, title: string) => R,
): Record<string, R> =>
  Object.fromEntries(Object.entries(record).map(([title, value]) => [title, of(value, title)]));

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
      training: { recipe: "small", standardizeTargets: true, ...PRETRAINING, steps, ...more }, // spelt out: what it sets is part of the key
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

/** How the arms are read. */
const READINGS: Readonly<Record<string, Reading>> = {
  [WHOLE]: joined(3),
  [MEAN_READ]: { layer: 3, pool: "mean" },
  "last norm, all tokens": { layer: "final", pool: "all" },
};

/** The cells for so many seeds; the default recipe's network is the plan's. */
export function makeSmallPlan({ mini }: Plan, budget: Budget, seeds: number): SmallPlan {
  const { task, tuned, frozen, pretrained, arm, trial, rankOf } = makers(budget, seeds);
  const all = Array.from({ length: seeds }, (_, seed) => seed), steps = trial ? budget.steps.mini : 4800;
  const pretrain = all.map((seed) => pretrained(`seed${seed}/pretrain`, [steps, seed, rankOf(seed)], {}, {}));
  const higher = all.map((seed) =>
    pretrained(`peak-6e-3/seed${seed}/pretrain`, [steps, seed, 5], {}, { learningRate: 6e-3 })
  );
  const plain = mini.trained.map(({ pretrain }) => pretrain),
    fresh = { preset: "mini", layerscaleValue: null } as const;
  return {
    pixels: pixelsCell(task("pixels", 4, COST.short), "all"),
    untrained: frozen("untrained", { network: fresh, seed: 0 }, joined(3)),
    pretrain,
    small: arm("small", pretrain, READINGS, TUNINGS),
    higher: arm("peak-6e-3", higher, { [WHOLE]: joined(3) }, {
      "recipe small": SMALL,
      [CROPPED]: TUNINGS[CROPPED]!,
    }),
    plain: arm("plain", plain, READINGS, TUNINGS),
    scratch: mapped(
      WAYS,
      ([network, tuning], title) =>
        all.map((seed) =>
          tuned(`scratch/${named(title)}`, { network: { preset: "mini", ...network }, seed }, tuning, seed)
        ),
    ),
    tried: mapped(TRIED, ([reading, network, training, updates], title) => {
      const count = trial ? 4 : Math.round(updates), name = `tried/${named(title)}`;
      const trained = pretrained(`${name}/pretrain`, [count, 0, 8], network, training);
      return frozenCell(task(`${name}/frozen`, 8, COST.short), { trained }, reading, budget.split);
    }),
    triedPixels: pixelsCell(task("tried/pixels", 8, COST.short / 4), budget.split),
  };
}
