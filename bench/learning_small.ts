/** The learning bench beyond the reference: `recipe: "small"`, and what each change to the default one brings. @module */
import {
  type Dataset,
  evaluate,
  finetune,
  type FinetuneOptions,
  fitHead,
  knn,
  linearProbe,
  NepaClassifier,
  type NepaOptions,
  type ProbeOptions,
  Random,
} from "nepa";
import { readPixels } from "../lib/eval/features.ts";
import { judge } from "../lib/eval/judged.ts";
import { vote } from "../lib/eval/knn.ts";
import {
  about,
  ended,
  pretrainCell,
  type Pretrained,
  type Source,
  type Task,
  withModel,
} from "./learning_cells.ts";
import type { Budget, Plan } from "./learning_plan.ts";
import type { Cell, Place } from "./learning_run.ts";

/** Penalties for all probes here: joined tokens are 2,176 numbers, which need larger ones than 128 do. */
const LAMBDAS = [1e-1, 1e-2, 1e-3, 1e-4];

/** How frozen features are read. */
type Reading = Pick<ProbeOptions, "layer" | "pool">;

/** All tokens of the third block. */
const JOINED = { layer: 3, pool: "all" } as const;

/** Of frozen features. */
export interface Frozen {
  probe: number;
  lambda: number;
  converged: boolean;
  knn: number;
  centred: number;
}

/** How a classifier is made and trained. */
interface Tuning {
  /** Read all tokens after block 3, or the mean after the last. */
  joined: boolean;
  /** The head is fitted before. */
  fitted: boolean;
  training: Omit<FinetuneOptions, "augment" | "checkpoint" | "signal" | "validation" | "test" | "prepare">;
}

/** Of a fine-tuning: on the images put aside, on the test images, and before the first update. */
export interface Tuned {
  validation: number;
  accuracy: number;
  before: number;
}

const NEAR = { k: 20, temperature: 0.07 };

function frozenCell(task: Task, source: Source, reading: Reading): Cell<Frozen> {
  const { options, needs } = about(source);
  const run = (place: Place) =>
    withModel(source, place, async (model) => {
      const { train, test } = place, how = { ...reading, lambdas: LAMBDAS };
      const { accuracy, lambda, converged } = await linearProbe(model, train, test, how);
      const plain = await knn(model, train, test, { ...reading, ...NEAR });
      const centred = await knn(model, train, test, { ...reading, ...NEAR, centred: true });
      return { probe: accuracy, lambda, converged, knn: plain.accuracy, centred: centred.accuracy };
    });
  return { ...task, options: { reading, lambdas: LAMBDAS, ...NEAR, ...options }, needs, run };
}

/** The same of raw pixels. */
function pixelsCell(task: Task): Cell<Frozen> {
  const source: Source = { network: { preset: "mini", numHiddenLayers: 1 }, seed: 0 };
  const run = (place: Place) =>
    withModel(source, place, async (model) => {
      const { train, test } = place;
      const { probes } = await linearProbe(model, train, test, { lambdas: LAMBDAS, references: true });
      const { accuracy: probe, lambda, converged } = probes.get("raw pixels")!;
      const [bank, asked] = await Promise.all(
        [train, test].map((set) => readPixels(set, model.preprocessor)),
      );
      const near = async (centred: boolean) => {
        const how = { ...NEAR, centred, classes: train.classes.length };
        return judge(await vote(bank!, train.labels, asked!, test.length, how), test).accuracy;
      };
      return { probe, lambda, converged, knn: await near(false), centred: await near(true) };
    });
  return { ...task, options: { pixels: true, lambdas: LAMBDAS, ...NEAR }, run };
}

function tunedCell(task: Task, source: Source, tuning: Tuning, { aside }: Budget, seed: number): Cell<Tuned> {
  const { options, needs } = about(source), { joined, fitted, training } = tuning;
  const run = (place: Place) =>
    withModel(source, place, async (model) => {
      const { train, test } = place, order = new Random(0, "put aside").permutation(train.length);
      const heldOut = train.subset(order.slice(0, aside)), rest = train.subset(order.slice(aside));
      const few = rest.balanced(Math.min(60, Math.floor(rest.length / 20)), seed);
      const reading = joined ? { pool: "all", causal: true, config: { numHiddenLayers: 3 } } as const : {};
      const classifier = NepaClassifier.from(model, { classes: train.classes, seed, ...reading });
      const read = async (set: Dataset) => (await evaluate(classifier, set)).accuracy;
      try {
        if (fitted) await fitHead(classifier, few);
        const before = await read(test);
        await ended(finetune(classifier, few, { ...training, seed }));
        return { before, validation: await read(heldOut), accuracy: await read(test) };
      } finally {
        classifier.dispose();
      }
    });
  return { ...task, options: { tuning, aside, seed, ...options }, needs, run };
}

/** Seconds on two quiet cores: of an update, of a probe and neighbours of long features and of short ones, of a fine-tuning. */
const COST = { step: 0.065, long: 300, short: 90, tuning: 40 };

/** One kind of pretraining, an array's place the seed. */
export interface Arm {
  pretrain: Cell<Pretrained>[];
  /** By how it is read. */
  frozen: Record<string, Cell<Frozen>[]>;
  /** By how it is tuned. */
  tuned: Record<string, Cell<Tuned>[]>;
}

/** The cells of `recipe: "small"`. */
export interface SmallPlan {
  pixels: Cell<Frozen>;
  /** Random weights, layer scale null. */
  untrained: Cell<Frozen>;
  /** The whole recipe; the same with the targets as they are. */
  small: Arm;
  plain: Arm;
  /** By the way, an array's place the seed. */
  scratch: Record<string, Cell<Tuned>[]>;
}

const SMALL: Tuning = { joined: true, fitted: true, training: { recipe: "small" } };

/** The recipe for few labels, and with one thing changed. */
export const TUNINGS: Readonly<Record<string, Tuning>> = {
  "recipe small": SMALL,
  "head at zero": { ...SMALL, fitted: false },
  "mean of the tokens, head at zero, recipe default": { joined: false, fitted: false, training: {} },
};

/** Trainings from scratch: the best on the images put aside counts. */
export const WAYS: Readonly<Record<string, readonly [NepaOptions, Tuning]>> = {
  "small, head at zero": [{ layerscaleValue: 0.1 }, {
    ...SMALL,
    fitted: false,
    training: { recipe: "small", layerDecay: 1 },
  }],
  "small, head at zero, 3e-3": [{ layerscaleValue: 0.1 }, {
    ...SMALL,
    fitted: false,
    training: { recipe: "small", layerDecay: 1, learningRate: 3e-3 },
  }],
  "small, head fitted, layer scale null": [{ layerscaleValue: null }, {
    ...SMALL,
    training: { recipe: "small", layerDecay: 1 },
  }],
  "default, layer scale 1e-5": [{ layerscaleValue: 1e-5 }, {
    ...SMALL,
    joined: false,
    fitted: false,
    training: { layerDecay: 1 },
  }],
  "default, layer scale 0.1": [{ layerscaleValue: 0.1 }, {
    ...SMALL,
    joined: false,
    fitted: false,
    training: { layerDecay: 1 },
  }],
};

/** The cells for so many seeds; the default recipe's networks are those of the plan. */
export function makeSmallPlan({ mini }: Plan, budget: Budget, seeds: number): SmallPlan {
  const all = Array.from({ length: seeds }, (_, seed) => seed), trial = budget.steps.mini < 1000;
  const short = trial ? { steps: 4 } : {}, rank = 4, later = 5;
  const tuned = (name: string, source: Source, tuning: Tuning, seed: number) => {
    const training = { ...tuning.training, ...short }, seconds = COST.tuning;
    return tunedCell(
      { name: `small/${name}/seed${seed}`, rank: seed ? later : rank, seconds },
      source,
      { ...tuning, training },
      budget,
      seed,
    );
  };
  const named = (name: string) => name.replaceAll(/[ ,]+/g, "-");
  const arm = (name: string, pretrain: Cell<Pretrained>[], readings: Record<string, Reading>): Arm => ({
    pretrain,
    frozen: Object.fromEntries(
      Object.entries(readings).map(([title, reading]) => [
        title,
        pretrain.map((trained, seed) => {
          const seconds = reading.pool === "all" ? COST.long : COST.short, order = seed ? later : rank;
          return frozenCell({ name: `small/${name}/seed${seed}/${named(title)}`, rank: order, seconds }, {
            trained,
          }, reading);
        }),
      ]),
    ),
    tuned: Object.fromEntries(
      Object.entries(TUNINGS).map(([title, tuning]) => [
        title,
        pretrain.map((trained, seed) => tuned(`${name}/${named(title)}`, { trained }, tuning, seed)),
      ]),
    ),
  });
  const task = (name: string, seconds: number): Task => ({ name: `small/${name}`, rank, seconds });
  const steps = trial ? budget.steps.mini : 4800, mean = { layer: 3, pool: "mean" } as const;
  const pretrain = all.map((seed) =>
    pretrainCell({ ...task(`seed${seed}/pretrain`, steps * COST.step), rank: seed ? later : rank }, {
      network: { preset: "mini" },
      seed,
      training: { recipe: "small", steps },
    })
  );
  return {
    pixels: pixelsCell(task("pixels", COST.short)),
    untrained: frozenCell(task("untrained", COST.long), {
      network: { preset: "mini", layerscaleValue: null },
      seed: 0,
    }, JOINED),
    small: arm("small", pretrain, {
      "block 3, all tokens": JOINED,
      "block 3, mean": mean,
      "final, all tokens": { layer: "final", pool: "all" },
    }),
    plain: arm("plain", mini.trained.map(({ pretrain }) => pretrain), {
      "block 3, all tokens": JOINED,
      "block 3, mean": mean,
    }),
    scratch: Object.fromEntries(
      Object.entries(WAYS).map(([title, [network, tuning]]) => [
        title,
        all.map((seed) =>
          tuned(`scratch/${named(title)}`, { network: { preset: "mini", ...network }, seed }, tuning, seed)
        ),
      ]),
    ),
  };
}
