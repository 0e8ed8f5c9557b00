/** The options of a training, checked and filled in. @module */
import type { Dataset } from "../data/dataset.ts";
import type { Transform } from "../data/transforms.ts";
import { type CheckpointOptions, type Keeping, keeping } from "./checkpoint_options.ts";
import { currentEngine, type Precision, precisionRefusal } from "@nepa/engine";
import { expect, isCount } from "../base/check.ts";

/** Options that pretraining and fine-tuning share. */
export interface TrainOptions {
  /** Updates in all. Or give `epochs`. */
  steps?: number;
  /** Passes over the data; images that do not fill a batch are left out of a pass. */
  epochs?: number;
  /** Images in an update. */
  batchSize?: number;
  /** Peak of the learning rate. Or give `baseLearningRate`. */
  learningRate?: number;
  /** Peak of the learning rate for 256 images; the peak is this · batchSize / 256. */
  baseLearningRate?: number;
  /** Decoupled weight decay, on matrices alone. */
  weightDecay?: number;
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
   * What the step's matrix products are computed in; weights, statistics and all else are float32. "bfloat16" is refused
   * where it gains nothing, as `engine.describe()` measures it, unless it is forced. Default "float32".
   */
  precision?: Precision | "force bfloat16";
  /** Parts that a batch is computed in, one after the other, where it does not fit into memory. Default 1. */
  accumulate?: number;
  /** Keep the run in a folder: checkpoints that it can go on from exactly, `run.json`, `metrics.csv`. Default: nothing is. */
  checkpoint?: CheckpointOptions;
}

type Derived = "epochs" | "baseLearningRate" | "warmupRatio" | "precision" | "signal" | "checkpoint";

/** {@linkcode TrainOptions} with nothing left open. */
export interface Plan extends Required<Omit<TrainOptions, Derived>> {
  warmupSteps: number;
  precision: Precision;
  signal: AbortSignal | undefined;
  checkpoint: Keeping | undefined;
}

/** What a recipe sets where the options leave it open. */
export type Recipe =
  & Required<
    Omit<
      TrainOptions,
      "epochs" | "learningRate" | "baseLearningRate" | "signal" | "precision" | "accumulate" | "checkpoint"
    >
  >
  & ({ learningRate: number } | { baseLearningRate: number });

/**
 * Fills in and checks.
 *
 * @throws {TypeError} If an option is unknown, or two that exclude each other are given.
 * @throws {RangeError} If a value cannot be, or the data cannot fill a batch.
 */
export function makePlan(
  options: TrainOptions,
  recipe: Recipe,
  dataset: Dataset,
  known: readonly string[],
): Plan {
  refuseUnknown(options, known);
  const { epochs, signal } = options;
  const given = Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
  const all: Recipe & TrainOptions = { ...recipe, ...given };
  const { batchSize, weightDecay, betas, warmupRatio, clipNorm, emaDecay, augment, seed, compile } = all;
  expect(isCount(batchSize), "batchSize", "an integer from 1", batchSize);
  if (batchSize > dataset.length) {
    const room = `${dataset.name} with ${dataset.length}`;
    throw new RangeError(`batchSize: ${batchSize} images do not fit into ${room}; make it smaller`);
  }
  if (epochs !== undefined) expect(epochs > 0, "epochs", "a positive number", epochs);
  const steps = epochs === undefined
    ? options.steps ?? recipe.steps
    : Math.round(epochs * Math.floor(dataset.length / batchSize));
  expect(isCount(steps), "steps", "an integer from 1", steps);
  expect(warmupRatio >= 0 && warmupRatio <= 1, "warmupRatio", "a number from 0 to 1", warmupRatio);
  expect(weightDecay >= 0, "weightDecay", "a number from 0", weightDecay);
  expect(betas.every((b) => b >= 0 && b < 1), "betas", "two numbers from 0 to below 1", betas);
  expect(clipNorm === null || clipNorm > 0, "clipNorm", "a positive number or null", clipNorm);
  const averages = emaDecay === null || emaDecay >= 0 && emaDecay < 1;
  expect(averages, "emaDecay", "a number from 0 to below 1, or null", emaDecay);
  expect(Number.isSafeInteger(seed) && seed >= 0, "seed", "an integer from 0", seed);
  const { accumulate = 1, precision = "float32", checkpoint } = options;
  const parts = isCount(accumulate) && batchSize % accumulate === 0;
  expect(parts, "accumulate", `a whole number that divides the batch size, ${batchSize},`, accumulate);
  return {
    steps,
    accumulate,
    precision: checkPrecision(precision, compile),
    batchSize,
    learningRate: peakOf(options, recipe, batchSize),
    weightDecay,
    betas,
    warmupSteps: Math.ceil(steps * warmupRatio),
    clipNorm,
    emaDecay,
    augment,
    seed,
    compile,
    signal,
    checkpoint: checkpoint &&
      keeping(checkpoint, (options as { validation?: unknown }).validation !== undefined),
  };
}

/** Peak of the learning rate: given, or by the batch, or the recipe's. */
function peakOf(options: TrainOptions, recipe: Recipe, batchSize: number): number {
  const base = options.baseLearningRate ??
    ("baseLearningRate" in recipe ? recipe.baseLearningRate : undefined);
  const plain = options.baseLearningRate === undefined && "learningRate" in recipe
    ? recipe.learningRate
    : undefined;
  const peak = options.learningRate ?? plain ?? base! * batchSize / 256;
  expect(peak > 0 && peak < Infinity, "learningRate", "a positive number", peak);
  return peak;
}

function checkPrecision(precision: NonNullable<TrainOptions["precision"]>, compile: boolean): Precision {
  const known = ["float32", "bfloat16", "force bfloat16"];
  expect(known.includes(precision), "precision", `one of ${known.join(", ")}`, precision);
  if (precision === "float32") return precision;
  const refusal = compile
    ? precisionRefusal(currentEngine())
    : "it needs a compiled step; leave out `compile: false`";
  if (refusal !== undefined && (precision === "bfloat16" || !compile || !currentEngine().compiles)) {
    throw new RangeError(`precision: bfloat16 is refused: ${refusal}`);
  }
  return "bfloat16";
}

const OPTIONS =
  ("steps epochs batchSize learningRate baseLearningRate weightDecay betas warmupRatio clipNorm " +
    "emaDecay augment seed signal compile precision accumulate checkpoint").split(" ");

function refuseUnknown(options: TrainOptions, known: readonly string[]): void {
  const names = [...OPTIONS, ...known];
  const unknown = Object.keys(options).find((name) => !names.includes(name));
  if (unknown !== undefined) throw new TypeError(`unknown option ${unknown}; there are: ${names.join(", ")}`);
  for (const [one, other] of [["steps", "epochs"], ["learningRate", "baseLearningRate"]] as const) {
    if (options[one] !== undefined && options[other] !== undefined) {
      throw new TypeError(`expected ${one} or ${other}, got both`);
    }
  }
}
