/** The options of a training, checked and filled in. @module */
import { currentEngine, type Precision, precisionRefusal } from "@nepa/engine";
import { checkOptions, expect, isCount, type Rule } from "../base/check.ts";
import * as is from "../base/check.ts";
import type { Dataset } from "../data/dataset.ts";
import type { Transform } from "../data/transforms.ts";
import { notice } from "../display/jupyter.ts";
import type { MethodRecipe } from "../model/method.ts";
import { type CheckpointOptions, checkpointOptions, type Keeping } from "./checkpoint_options.ts";

/** What a group of parameters has of its own. */
export interface Group {
  /** Factor of the learning rate, from 0. Default 1. */
  rate?: number;
  /** Whether weight decay takes part. Default: for parameters with two axes or more. */
  decay?: boolean;
  /** Leave these as they are. Default false. */
  frozen?: boolean;
}

/** Options that pretraining and fine-tuning share. */
export interface TrainOptions {
  /** Updates in all. Or give `epochs`. */
  steps?: number;
  /** Passes over the data; images that do not fill a batch are left out of a pass. */
  epochs?: number;
  /** Images in an update. */
  batchSize?: number;
  /** Peak of the learning rate; or the rate itself, as a function of the update, from 0, and of `steps`. Or give `baseLearningRate`. */
  learningRate?: number | ((update: number, steps: number) => number);
  /** Peak of the learning rate for 256 images; the peak is this · batchSize / 256. */
  baseLearningRate?: number;
  /** Decoupled weight decay, on matrices alone; or that, as a function of the update, from 0, and of `steps`. */
  weightDecay?: number | ((update: number, steps: number) => number);
  /** What parameters have of their own, by name: `(name) => name.endsWith("bias") ? { rate: 2 } : {}`. Default: nothing. */
  groups?: (name: string) => Group;
  /** AdamW's decay rates of the two moments, each from 0 to below 1. */
  betas?: readonly [number, number];
  /** Share of the updates in which the learning rate rises, 0 to 1. */
  warmupRatio?: number;
  /** Largest norm of all gradients together; null: no limit. */
  clipNorm?: number | null;
  /** Decay of a second model with averaged weights, `run.ema`, from 0 to below 1; null: none. */
  emaDecay?: number | null;
  /** Changes each image before it is used; its result has the network's size. null: nothing is changed. */
  augment?: Transform | null;
  /** Decides about the order of the images, their augmentation and all chance inside the network. Default 0. */
  seed?: number;
  /** Ends the run after the current update when it is aborted. */
  signal?: AbortSignal;
  /** Compile the step, where the engine can (default), or run it operation by operation. */
  compile?: boolean;
  /**
   * What the step's matrix products are computed in; weights, statistics and all else are float32. "bfloat16" needs a
   * compiled step, and gains nothing on a processor without instructions for it: `deno task bench step` compares. "force
   * bfloat16" is another name of it. Default "float32".
   */
  precision?: Precision | "force bfloat16";
  /** Parts that a batch is computed in, one after the other, where it does not fit into memory. Default 1. */
  accumulate?: number;
  /** Keep the run in a folder: checkpoints that it can go on from exactly, `run.json`, `metrics.csv`. Default: nothing is. */
  checkpoint?: CheckpointOptions;
}

/** What a recipe sets where the options leave it open: its base of the learning rate, if it has one, before its learning rate. */
export type Recipe =
  & Required<Omit<MethodRecipe, "method" | "baseLearningRate">>
  & Pick<MethodRecipe, "baseLearningRate">
  & Required<Pick<TrainOptions, "seed" | "compile">>;

/** {@linkcode TrainOptions} with nothing left open. */
export interface Plan
  extends Omit<Recipe, "learningRate" | "baseLearningRate" | "weightDecay" | "warmupRatio"> {
  signal: AbortSignal | undefined;
  groups: TrainOptions["groups"] | undefined;
  learningRate: number | ((update: number) => number);
  weightDecay: number | ((update: number) => number);
  warmupSteps: number;
  precision: Precision;
  accumulate: number;
  checkpoint: Keeping | undefined;
  /** Weight decay of update k, from 0. */
  weightDecayAt(k: number): number;
  /** What had to be said of them. */
  notices: readonly string[];
}

/** A number that meets a rule, or a function of the update. */
const timed = ([expected, holds]: Rule): Rule => [
  `${expected}, or a function of the update`,
  (value) => typeof value === "function" || holds(value),
];

/** What each option may be. */
const RULES: Record<keyof TrainOptions, Rule> = {
  steps: is.count,
  epochs: is.positive,
  batchSize: is.count,
  learningRate: timed(["a positive number", is.positive[1]]),
  baseLearningRate: is.positive,
  weightDecay: timed(is.notNegative),
  groups: is.callable,
  betas: is.betas,
  warmupRatio: is.share,
  clipNorm: is.orNull(is.positive),
  emaDecay: is.orNull(is.belowOne),
  augment: is.orNull(is.callable),
  seed: is.index,
  signal: is.any,
  compile: is.flag,
  precision: is.oneOf("float32", "bfloat16", "force bfloat16"),
  accumulate: is.count,
  checkpoint: is.any,
};

/** Pairs of options of which one is given. */
const EITHER = [["steps", "epochs"], ["learningRate", "baseLearningRate"]] as const;

/**
 * Fills in and checks.
 *
 * @param where The function whose options they are.
 * @param more What that function's other options may be.
 * @throws {TypeError} If an option is unknown, or two that exclude each other are given.
 * @throws {RangeError} If a value cannot be, or the data cannot fill a batch.
 */
export function makePlan(
  where: string,
  options: TrainOptions,
  recipe: Recipe,
  dataset: Dataset,
  more: Readonly<Record<string, Rule>>,
): Plan {
  checkOptions(where, options, { ...RULES, ...more });
  for (const [one, other] of EITHER) {
    if (options[one] !== undefined && options[other] !== undefined) {
      throw new TypeError(`expected ${one} or ${other}, got both`);
    }
  }
  const given = Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
  const all: Recipe & Omit<TrainOptions, keyof Recipe> = { ...recipe, ...given };
  const { batchSize, betas, warmupRatio, clipNorm, emaDecay, augment, seed, compile } = all;
  const { epochs, accumulate = 1, precision = "float32", checkpoint, signal, groups } = all;
  if (batchSize > dataset.length) {
    const room = `${dataset.name} with ${dataset.length}`;
    throw new RangeError(`batchSize: ${batchSize} images do not fit into ${room}; make it smaller`);
  }
  const steps = epochs === undefined
    ? all.steps
    : Math.round(epochs * Math.floor(dataset.length / batchSize));
  expect(isCount(steps), "steps", "an integer from 1", steps);
  const parts = batchSize % accumulate === 0;
  expect(parts, "accumulate", `a whole number that divides the batch size, ${batchSize},`, accumulate);
  const stepped = (x: Recipe["learningRate"]) => typeof x === "function" ? (k: number) => x(k, steps) : x;
  const base = options.baseLearningRate ?? recipe.baseLearningRate, weightDecay = stepped(all.weightDecay);
  const peak = base === undefined ? recipe.learningRate : base * batchSize / 256;
  const notices = averageNotices(emaDecay, steps);
  notices.forEach(notice);
  return {
    ...{ steps, accumulate, batchSize, weightDecay, betas, clipNorm, emaDecay, augment, seed, compile },
    ...{ signal, groups, notices },
    precision: checkPrecision(precision, compile),
    learningRate: stepped(options.learningRate ?? peak),
    weightDecayAt: typeof weightDecay === "function" ? weightDecay : () => weightDecay,
    warmupSteps: Math.ceil(steps * warmupRatio),
    checkpoint: checkpoint && checkpointOptions(checkpoint, "validation" in given),
  };
}

/** What to say where averaged weights still hold much of those at the start when a training ends. */
function averageNotices(decay: number | null, steps: number): string[] {
  const left = decay === null ? 0 : decay ** steps;
  if (left <= 0.1) return [];
  const better = Number((1 - Number((1 - 0.01 ** (1 / steps)).toPrecision(1))).toPrecision(12));
  const share = `${Math.round(100 * left)} % of the averaged weights are still those at the start`;
  const why = `since ${decay}^${steps} is ${left.toPrecision(2)}`;
  return [`emaDecay: ${share} after ${steps} updates, ${why}; write emaDecay: ${better}, or null for none`];
}

const GROUP_RULES: Record<keyof Group, Rule> = { rate: is.notNegative, decay: is.flag, frozen: is.flag };

/** What `groups` makes of parameters: a factor of the rate for each of the optimizer's groups; which decay, which are frozen. */
export function groupsOf(
  groups: Plan["groups"],
  parameters: ReadonlyMap<string, { rank: number }>,
): {
  factors: number[];
  group(name: string): number;
  decay(name: string): boolean;
  frozen(name: string): boolean;
} {
  const found = new Map([...parameters].map(([name, { rank }]) => {
    const given = groups?.(name) ?? {};
    checkOptions(`groups(${JSON.stringify(name)})`, given, GROUP_RULES);
    return [name, { rate: 1, decay: rank > 1, frozen: false, ...given }];
  }));
  const factors = [...new Set([...found.values()].map(({ rate }) => rate))];
  return {
    factors,
    group: (name) => factors.indexOf(found.get(name)!.rate),
    decay: (name) => found.get(name)!.decay,
    frozen: (name) => found.get(name)!.frozen,
  };
}

function checkPrecision(precision: NonNullable<TrainOptions["precision"]>, compile: boolean): Precision {
  if (precision === "float32") return precision;
  const refusal = compile
    ? precisionRefusal(currentEngine())
    : "it needs a compiled step; leave out `compile: false`";
  if (refusal !== undefined) throw new RangeError(`precision: bfloat16 is refused: ${refusal}`);
  return "bfloat16";
}
