/** The cells of the learning bench that `recipe: "small"` needs. @module */
import {
  type Dataset,
  evaluate,
  finetune,
  type FinetuneOptions,
  fitHead,
  linearProbe,
  NepaClassifier,
  type Probe,
  type ProbeOptions,
} from "nepa";
import { readSets } from "../../lib/eval/features.ts";
import {
  about,
  augmented,
  ended,
  NEAR,
  nearest,
  pixelRows,
  type Plain,
  putAside,
  type Rows,
  setsOf,
  type Source,
  type Split,
  type Task,
  withModel,
} from "./cells.ts";
import type { Cell, Place } from "./run.ts";

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
export function frozenCell(task: Task, source: Source, reading: Reading, split: Split): Cell<Frozen> {
  const { options, needs } = about(source);
  const run = (place: Place) =>
    withModel(source, place, async (model) => {
      const sets = setsOf(place, split), { fit, judged } = sets, { layer = "final" } = reading;
      const found = await linearProbe(model, fit, judged, { ...reading, lambdas: LAMBDAS });
      const [bank, asked] = await readSets(model, [fit, judged], [layer], reading);
      return await withNeighbours(found, sets, [bank!.get(layer)!, asked!.get(layer)!]);
    });
  return { ...task, options: { reading, split, lambdas: LAMBDAS, ...NEAR, ...options }, needs, run };
}

/** The same of raw pixels. */
export function pixelsCell(task: Task, split: Split): Cell<Frozen> {
  const source: Source = { network: { preset: "mini", numHiddenLayers: 1 }, seed: 0 };
  const run = (place: Place) =>
    withModel(source, place, async (model) => {
      const sets = setsOf(place, split), how = { lambdas: LAMBDAS, references: true };
      const { probes } = await linearProbe(model, sets.fit, sets.judged, how);
      return await withNeighbours(probes.get("raw pixels")!, sets, await pixelRows(sets));
    });
  return { ...task, options: { pixels: true, split, lambdas: LAMBDAS, ...NEAR }, run };
}

/** A cell that trains a classifier with 600 labels. */
export function tunedCell(
  task: Task,
  source: Source,
  tuning: Tuning,
  aside: number,
  seed: number,
): Cell<Tuned> {
  const { options, needs } = about(source), { joined, fitted, training } = tuning;
  const run = (place: Place) =>
    withModel(source, place, async (model) => {
      const { train, test } = place, { heldOut, rest } = putAside(train, aside);
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
  return { ...task, options: { tuning, aside, seed, ...options }, needs, run };
}
