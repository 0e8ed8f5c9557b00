/** The kinds of cells of the learning bench: a training, a probe, neighbours, a fine-tuning. @module */
import {
  compose,
  type Dataset,
  evaluate,
  finetune,
  type FinetuneOptions,
  horizontalFlip,
  type Layer,
  linearProbe,
  Nepa,
  NepaClassifier,
  nepaLoss,
  type NepaOptions,
  type Objective,
  pretrain,
  type PretrainOptions,
  type Probe,
  Random,
  randomResizedCrop,
  type Run,
  tf,
} from "nepa";
import { readPixels, readSets } from "../../lib/eval/features.ts";
import { judge } from "../../lib/eval/scores.ts";
import { vote } from "../../lib/eval/knn.ts";
import type { Cell, Place } from "./run.ts";

/** A cell without its place among others. */
export type Task = Pick<Cell, "name" | "rank" | "seconds">;

/** Options of a training as JSON: images are mirrored with the chance `flip`, if it is there, and cut. */
export type Plain<T> = Omit<T, "augment" | "checkpoint" | "signal" | "validation" | "test" | "prepare"> & {
  flip?: number;
  /** Least share of an image's area that is cut out. */
  crop?: number;
};

/** What a pretraining cell is told. */
export interface Pretraining {
  network: NepaOptions;
  /** Of the first weights, and of the training. */
  seed: number;
  training: Plain<Omit<PretrainOptions, "loss" | "objective">> & {
    /** Positions ahead that each output predicts, all of them alike; default: the next. */
    ahead?: readonly number[];
  };
}

/** What a pretraining came to. Its folder holds `model`, and `ema` if weights were averaged. */
export interface Pretrained {
  /** Of the first step. */
  lossFirst: number;
  /** Mean of the last 50 steps. */
  lossLast: number;
  /** Losses, means of equal parts of the training, by their last step. */
  curve: { step: number[]; loss: number[] };
  /** Of 512 training images' patch embeddings. */
  collapse: { step: number[]; featureStd: number[]; effectiveRank: number[] };
}

/** The options that a training takes. What a recipe sets stands beside its name, which is there for the results' keys. */
export const augmented = (
  { flip, crop, recipe: _, ...options }: { flip?: number; crop?: number; recipe?: string },
) => ({
  ...options,
  ...(flip !== undefined && { augment: horizontalFlip(flip) }),
  ...(crop !== undefined && {
    augment: compose(randomResizedCrop({ size: 28, scale: [crop, 1] }), horizontalFlip(flip ?? 0.5)),
  }),
});

/** Runs it to its end. */
export async function ended<M>(run: Run<M>): Promise<void> {
  await run.finish().catch((error) => {
    run.dispose();
    throw error;
  });
}

/** Means of at most `parts` equal parts. */
export function curveOf(
  history: readonly { step: number; loss: number }[],
  parts = 100,
): Pretrained["curve"] {
  const size = Math.ceil(history.length / parts), curve: Pretrained["curve"] = { step: [], loss: [] };
  for (let i = 0; i < history.length; i += size) {
    const part = history.slice(i, i + size);
    curve.step.push(part.at(-1)!.step);
    curve.loss.push(part.reduce((sum, { loss }) => sum + loss, 0) / part.length);
  }
  return curve;
}

/** The mean loss over several positions ahead, each as `nepaLoss` has it. */
function lossAhead(ahead: readonly number[], standardizeTargets: boolean): Objective {
  return {
    name: "ahead",
    config: { ahead, standardizeTargets },
    loss: ({ embeddings, predictions }) => {
      const [B, T, D] = embeddings.shape;
      const losses = ahead.map((n) =>
        nepaLoss({
          embeddings: tf.slice(embeddings, [0, n, 0], [B, T - n, D]),
          predictions: tf.slice(predictions, [0, 0, 0], [B, T - n, D]),
        }, { shift: false, standardizeTargets })
      );
      return tf.mean(tf.stack(losses));
    },
  };
}

/** What `pretrain` takes. */
function pretrainOptions(
  { ahead, standardizeTargets, ...training }: Pretraining["training"],
): PretrainOptions {
  return {
    ...augmented(training),
    ...(ahead
      ? { objective: lossAhead(ahead, standardizeTargets ?? false) }
      : standardizeTargets !== undefined && { standardizeTargets }),
  };
}

/** A cell that pretrains; it goes on from its last checkpoint. */
export function pretrainCell(task: Task, options: Pretraining): Cell<Pretrained> {
  const { network, seed, training } = options;
  const run = async ({ folder, train }: Place): Promise<Pretrained> => {
    const model = new Nepa(network, { seed });
    const running = pretrain(model, train, {
      ...pretrainOptions(training),
      seed,
      checkpoint: {
        folder: `${folder}/run`,
        resume: "auto",
        keep: 1,
        every: Math.ceil((training.steps ?? 10) / 10),
      },
    });
    try {
      await ended(running);
      await model.save(`${folder}/model`);
      await running.ema?.save(`${folder}/ema`);
    } finally {
      running.ema?.dispose();
      model.dispose();
    }
    await Deno.remove(`${folder}/run`, { recursive: true });
    const { history } = running,
      read = history.flatMap(({ step, metrics }) => metrics ? [{ step, ...metrics }] : []);
    return {
      lossFirst: history[0]!.loss,
      lossLast: running.result().lossLast,
      curve: curveOf(history),
      collapse: {
        step: read.map(({ step }) => step),
        featureStd: read.map(({ featureStd }) => featureStd),
        effectiveRank: read.map(({ effectiveRank }) => effectiveRank),
      },
    };
  };
  return { ...task, options, run };
}

/** Where an evaluation has its network from: a pretraining, its averaged weights, or random weights. */
export type Source = { trained: Cell<Pretrained>; averaged?: boolean } | {
  network: NepaOptions;
  seed: number;
};

/** The images of an evaluation. Counts: of the training images, some to fit to and others to be judged by. */
export type Split = "all" | { fit: number; judged: number };

/** A cell that does something with its source's network, with options of its own. */
export function modelCell<T>(
  task: Task,
  source: Source,
  options: object,
  work: (model: Nepa, place: Place) => Promise<T>,
): Cell<T> {
  const trained = "trained" in source ? source : undefined;
  const run = async (place: Place) => {
    const model = "trained" in source
      ? await Nepa.load(`${place.folderOf(source.trained)}/${source.averaged ? "ema" : "model"}`)
      : new Nepa(source.network, { seed: source.seed });
    try {
      return await work(model, place);
    } finally {
      model.dispose();
    }
  };
  const about = trained ? { averaged: trained.averaged ?? false } : source;
  return { ...task, options: { ...options, ...about }, needs: trained ? [trained.trained] : [], run };
}

/** Images to fit to, and those to be judged by. */
export function setsOf({ train, test }: Place, split: Split): { fit: Dataset; judged: Dataset } {
  if (split === "all") return { fit: train, judged: test };
  const order = new Random(0, "learning").permutation(train.length), { fit, judged } = split;
  return { fit: train.subset(order.slice(0, fit)), judged: train.subset(order.slice(fit, fit + judged)) };
}

/** Training images put aside for choosing, the same for every cell, and the others. */
export function putAside(train: Dataset, aside: number): { heldOut: Dataset; rest: Dataset } {
  const order = new Random(0, "put aside").permutation(train.length);
  return { heldOut: train.subset(order.slice(0, aside)), rest: train.subset(order.slice(aside)) };
}

/** Accuracies from 0 to 1 by layer: "embedding", "1" to "4", "final". */
export type ByLayer = Record<string, number>;

/** What linear probes found: also "raw pixels" and "untrained", where references were asked for. */
export interface Probed {
  accuracy: ByLayer;
  /** λ of each, and whether its fit converged. */
  fits: Record<string, Pick<Probe, "lambda" | "converged" | "excess" | "iterations">>;
}

/** What is read of a frozen network. */
export interface Frozen {
  split: Split;
  /** Every layer, or only the last norm's outputs. */
  layers?: boolean;
  causal?: boolean;
  /** For probes: raw pixels, and the network untrained without layer scale. */
  references?: boolean;
}

/** A cell that fits linear probes. */
export function probeCell(task: Task, source: Source, frozen: Frozen): Cell<Probed> {
  const { split, ...reading } = frozen;
  return modelCell(task, source, { probe: frozen }, async (model, place) => {
    const { fit, judged } = setsOf(place, split);
    const { probes } = await linearProbe(model, fit, judged, reading);
    const each = <R>(of: (probe: Probe) => R): Record<string, R> =>
      Object.fromEntries([...probes].map(([name, probe]) => [name, of(probe)]));
    return {
      accuracy: each(({ accuracy }) => accuracy),
      fits: each(({ lambda, converged, excess, iterations }) => ({ lambda, converged, excess, iterations })),
    };
  });
}

/** How neighbours vote. */
export const NEAR = { k: 20, temperature: 0.07 };

/** Rows to fit to and rows to be judged, as they are read: of features or of pixels. */
export type Rows = readonly [bank: Float32Array, asked: Float32Array];

/** Accuracy of the nearest neighbours' vote. */
export async function nearest(
  { fit, judged }: ReturnType<typeof setsOf>,
  [bank, asked]: Rows,
  centred = false,
): Promise<number> {
  const how = { ...NEAR, centred, classes: fit.classes.length };
  return judge(await vote(bank, fit.labels, asked, judged.length, how), judged).accuracy;
}

/** The pixels of both, as every network here takes them. */
export async function pixelRows({ fit, judged }: ReturnType<typeof setsOf>): Promise<Rows> {
  const normalisation = { imageMean: [0.5], imageStd: [0.5] };
  return [await readPixels(fit, normalisation), await readPixels(judged, normalisation)];
}

/** A cell that lets the nearest neighbours vote, in each layer or the last; without a source, in the pixels. */
export function knnCell(task: Task, source: Source | undefined, frozen: Frozen): Cell<ByLayer> {
  const { split, layers = false, causal = true } = frozen;
  const options = { knn: { ...frozen, ...NEAR, centred: false } };
  if (!source) {
    const run = async (place: Place) => {
      const sets = setsOf(place, split);
      return { pixels: await nearest(sets, await pixelRows(sets)) };
    };
    return { ...task, options: { ...options, pixels: true }, run };
  }
  return modelCell(task, source, options, async (model, place) => {
    const sets = setsOf(place, split), found: ByLayer = {};
    const blocks = Array.from({ length: layers ? model.config.numHiddenLayers : 0 }, (_, i) => i + 1);
    const wanted: Layer[] = [...blocks, "final"];
    const [bank, asked] = await readSets(model, [sets.fit, sets.judged], wanted, { causal });
    for (const layer of wanted) {
      found[layer] = await nearest(sets, [bank!.get(layer)!, asked!.get(layer)!]);
      bank!.delete(layer);
    }
    return found;
  });
}

/** What a fine-tuning cell is told. */
export interface Finetuning {
  /** Labels, as many of each class; "all": every image that is not put aside. */
  labels: number | "all";
  /** Training images put aside, the same for every cell. */
  aside: number;
  /** Of the images drawn, their order, and the head. */
  seed: number;
  training: Plain<FinetuneOptions>;
}

/** What a fine-tuning came to. */
export interface Finetuned {
  /** Labels that there were. */
  labels: number;
  /** On the images put aside. */
  validation: number;
  /** On the test images, and by class. */
  accuracy: number;
  perClass: Readonly<Record<string, number>>;
}

/** A cell that fine-tunes, or trains from scratch where the source has random weights. */
export function finetuneCell(task: Task, source: Source, tuning: Finetuning): Cell<Finetuned> {
  const { labels, aside, seed, training } = tuning;
  return modelCell(task, source, { finetune: tuning }, async (model, { train, test }) => {
    const { heldOut, rest } = putAside(train, aside);
    const labelled = labels === "all" ? rest : rest.balanced(labels / train.classes.length, seed);
    const classifier = NepaClassifier.from(model, { classes: train.classes, seed });
    try {
      await ended(finetune(classifier, labelled, { ...augmented(training), seed }));
      const validation = (await evaluate(classifier, heldOut)).accuracy;
      const { accuracy, perClass } = await evaluate(classifier, test);
      return { labels: labelled.length, validation, accuracy, perClass };
    } finally {
      classifier.dispose();
    }
  });
}
