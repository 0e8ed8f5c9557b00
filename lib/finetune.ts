/** Fine-tuning: the whole network learns to classify. The step is in `step.ts`. @module */
import * as tf from "@tensorflow/tfjs";
import type { Dataset } from "./data/dataset.ts";
import { horizontalFlip } from "./data/transforms.ts";
import { type Compiled, currentEngine } from "./engine/mod.ts";
import { uncompiled } from "./engine/uncompiled.ts";
import { inOrder } from "./feed.ts";
import type { NepaClassifier } from "./heads.ts";
import { FolderKeeper } from "./keeper.ts";
import { crossEntropy } from "./objective.ts";
import { makePlan, type Recipe, refuseMisfit, type TrainOptions } from "./plan.ts";
import { Run, type Validation } from "./run.ts";
import { layerDecay, warmupCosine } from "./schedule.ts";
import { Trainer } from "./trainer.ts";

/** Options of {@linkcode finetune}. */
export interface FinetuneOptions extends TrainOptions {
  /** Factor of the learning rate from each block to the one below it, above 0 to 1. Default 0.75; 1: all learn alike. */
  layerDecay?: number;
  /** Share of each label that goes to all classes alike, 0 to below 1. Default 0.1. */
  labelSmoothing?: number;
  /** Labelled images held out from training, of the network's size. */
  validation?: Dataset;
  /** How many updates lie between two readings of the validation images; they are read at the end too. Default: at the end. */
  every?: { validation?: number };
}

const RECIPE: Recipe = {
  steps: 300,
  batchSize: 64,
  learningRate: 3e-3,
  weightDecay: 0.05,
  betas: [0.9, 0.999],
  warmupRatio: 0.2,
  clipNorm: 1,
  emaDecay: null,
  augment: horizontalFlip(0.5),
  seed: 0,
  compile: true,
};

/** How many images {@linkcode evaluate} takes at once. */
const EVALUATED = 250;

/**
 * Trains a classifier, backbone and head. Nothing is computed before the run is iterated; see {@linkcode Run}.
 *
 * Without options: 300 updates of 64 images with AdamW (0.9, 0.999), weight decay 0.05, gradients clipped at norm 1, label
 * smoothing 0.1, images mirrored half of the time; the learning rate rises to 3e-3 over a fifth of the updates, falls to 0
 * along a cosine, and is multiplied by 0.75 from each block to the one below it.
 *
 * @param classifier Its weights change in place: `NepaClassifier.from(model, …)`, or a new one to learn from scratch.
 * @param dataset Labelled images, with the classifier's classes.
 * @param options What differs.
 * @returns A run; `run.ema` is a second classifier, the caller's to dispose of, if `emaDecay` is set.
 * @throws {RangeError | TypeError} If an option cannot be, or the images or the classes do not fit the classifier.
 *
 * @example
 * ```ts
 * import { fashionMnist, finetune, Nepa, NepaClassifier, useEngine } from "nepa";
 * import { assertEquals } from "@std/assert";
 *
 * await useEngine();
 * const { train } = await fashionMnist();
 * const model = new Nepa({ preset: "mini" }, { seed: 0 });
 * const classifier = NepaClassifier.from(model, { classes: train.classes });
 * const result = await finetune(classifier, train.balanced(10), { steps: 3, batchSize: 16 }).finish();
 * assertEquals(result.steps, 3);
 * classifier.dispose();
 * model.dispose();
 * ```
 */
export function finetune(
  classifier: NepaClassifier,
  dataset: Dataset,
  options: FinetuneOptions = {},
): Run<NepaClassifier> {
  const { layerDecay: decay = 0.75, labelSmoothing = 0.1, validation, every = {} } = options;
  const plan = makePlan(options, RECIPE, dataset, ["layerDecay", "labelSmoothing", "validation", "every"]);
  if (!(decay > 0 && decay <= 1)) {
    throw new RangeError(`layerDecay: expected a number above 0, at most 1, got ${decay}`);
  }
  if (!(labelSmoothing >= 0 && labelSmoothing < 1)) {
    throw new RangeError(`labelSmoothing: expected a number from 0 to below 1, got ${labelSmoothing}`);
  }
  refuseMisfit(dataset, classifier.config, options.augment === undefined || plan.augment === null);
  for (const set of [dataset, ...validation ? [validation] : []]) refuseClasses(set, classifier);
  const interval = every.validation ?? plan.steps;
  const rate = warmupCosine({ peak: plan.learningRate, steps: plan.steps, warmupSteps: plan.warmupSteps });
  const layers = classifier.config.numHiddenLayers;
  const factors = [
    ...new Set([...classifier.parameters.keys()].map((name) => layerDecay(name, layers, decay))),
  ];
  const evaluation = validation && new Evaluation(classifier, plan.compile);
  const ema = plan.emaDecay === null ? undefined : classifier.clone();
  const trainer = new Trainer(classifier, dataset, plan, {
    loss: (images, labels, draws) =>
      crossEntropy(classifier.forward(images, { training: draws }).logits, labels, labelSmoothing),
    rates: (k) => factors.map((factor) => factor * rate(k)),
    optimizer: { group: (name) => factors.indexOf(layerDecay(name, layers, decay)) },
    measure: async (step) =>
      evaluation && (step % interval === 0 || step === plan.steps)
        ? { validation: await evaluation.read(validation) }
        : {},
    dispose: () => evaluation?.dispose(),
  }, ema);
  const keeper = plan.checkpoint && new FolderKeeper(plan.checkpoint, {
    kind: "finetune",
    model: classifier,
    ema,
    trainer,
    plan,
    options: { layerDecay: decay, labelSmoothing, every: { validation: interval } },
    data: dataset,
  });
  return new Run(classifier, trainer, { ema, signal: plan.signal, keeper });
}

function refuseClasses(dataset: Dataset, classifier: NepaClassifier): void {
  if (dataset.classes.length !== classifier.classes.length) {
    throw new RangeError(
      `${dataset.name}: expected ${classifier.classes.length} classes, as the classifier has, got ` +
        `${dataset.classes.length}`,
    );
  }
}

/**
 * How well a classifier does on labelled images.
 *
 * @param classifier Not changed.
 * @param dataset Images of the network's size, with the classifier's classes.
 * @returns `accuracy`, the share classified as labelled, and `loss`, the mean cross-entropy in nats, without smoothing.
 * @throws {RangeError} If the images or the classes do not fit the classifier.
 *
 * @example
 * ```ts
 * import { evaluate, fashionMnist, NepaClassifier, useEngine } from "nepa";
 * import { assert } from "@std/assert";
 *
 * await useEngine();
 * const { test } = await fashionMnist();
 * const classifier = new NepaClassifier({ preset: "mini" }, { classes: test.classes, seed: 0 });
 * const { accuracy } = await evaluate(classifier, test.subset(0.02));
 * assert(accuracy >= 0 && accuracy <= 1);
 * classifier.dispose();
 * ```
 */
export async function evaluate(classifier: NepaClassifier, dataset: Dataset): Promise<Required<Validation>> {
  refuseMisfit(dataset, classifier.config, true);
  refuseClasses(dataset, classifier);
  const evaluation = new Evaluation(classifier, true);
  try {
    return await evaluation.read(dataset);
  } finally {
    evaluation.dispose();
  }
}

/** A classifier's forward pass, kept for several readings. */
class Evaluation {
  readonly #classifier: NepaClassifier;
  readonly #pass: Compiled<[tf.Tensor4D], tf.Tensor>;

  constructor(classifier: NepaClassifier, compile: boolean) {
    this.#classifier = classifier;
    const pass = (images: tf.Tensor4D) => tf.logSoftmax(classifier.forward(images).logits);
    this.#pass = compile ? currentEngine().compile(pass, { name: "evaluation" }) : uncompiled(pass);
  }

  async read(dataset: Dataset): Promise<Required<Validation>> {
    const classes = dataset.classes.length;
    let right = 0, loss = 0;
    for (const { images, batch } of inOrder(dataset, this.#classifier.preprocessor, EVALUATED)) {
      const output = await this.#pass(images), logs = await output.data();
      output.dispose();
      batch.labels.forEach((label, i) => {
        const row = logs.subarray(i * classes, (i + 1) * classes);
        if (row.indexOf(Math.max(...row)) === label) right++;
        loss -= row[label]!;
      });
    }
    return { accuracy: right / dataset.length, loss: loss / dataset.length };
  }

  dispose(): void {
    this.#pass.dispose();
  }
}
