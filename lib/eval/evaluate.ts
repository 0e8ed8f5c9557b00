/** How well a classifier does: on any images, and on held-out ones while it is trained. @module */
import * as tf from "@tensorflow/tfjs";
import { type Dataset, refuseMislabelled } from "../data/dataset.ts";
import type { Transform } from "../data/transforms.ts";
import type { Table } from "../display/table.ts";
import { type Compiled, currentEngine } from "../engine/mod.ts";
import { uncompiled } from "../engine/uncompiled.ts";
import { accuracyTable, formatInterval, judge, type Judged, Judgement } from "./scores.ts";
import { inOrder, refuseTransform } from "../data/loader.ts";
import type { NepaClassifier } from "../model/classifier.ts";
import type { Best } from "../training/checkpoints.ts";
import { copyOf } from "../model/network.ts";
import { refuseMisfit } from "../training/options.ts";
import type { Validation } from "../training/run.ts";
import type { Measured } from "../training/trainer.ts";

const sizeOf = ({ config: { imageSize } }: NepaClassifier) => ({ height: imageSize, width: imageSize });

/** Refuses images or labels that the classifier cannot take. */
export function refuseLabelled(
  dataset: Dataset,
  classifier: NepaClassifier,
  prepare: Transform | null,
): void {
  const { name, classes } = dataset, expected = classifier.classes.length;
  refuseMisfit(dataset, classifier.config, prepare === null);
  if (classes.length !== expected) {
    throw new RangeError(
      `${name}: expected ${expected} classes, as the classifier has, got ${classes.length}; ` +
        "NepaClassifier.from puts on a head with others",
    );
  }
  refuseMislabelled(dataset);
  if (prepare) refuseTransform(dataset, prepare, sizeOf(classifier));
}

/** What {@linkcode evaluate} found; shows itself as a table, in a notebook with the confusion matrix. */
export class EvaluationResult extends Judgement implements Required<Validation> {
  /** Mean cross-entropy in nats, without smoothing. */
  readonly loss: number;

  /** Made by {@linkcode evaluate}. */
  constructor(judged: Judged, loss: number) {
    super(judged);
    this.loss = loss;
  }

  /** The accuracy and the loss. */
  override table(): Table {
    const { accuracy, interval, loss } = this, images = this.confusion.flat().reduce((a, b) => a + b, 0);
    return accuracyTable("Classifier", [{ images, accuracy, "95 %": formatInterval(interval), loss }]);
  }
}

/**
 * How well a classifier does on labelled images.
 *
 * @param classifier Not changed.
 * @param dataset Images of the network's size, with the classifier's classes.
 * @param options `prepare` brings images of another size to the network's, such as `compose(resize(256, "bicubic"), centerCrop(224))`.
 * @returns Accuracy, by class too, the confusion matrix, the loss; shows itself as a table.
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
 * const { accuracy, interval } = await evaluate(classifier, test.subset(0.02));
 * assert(interval[0] <= accuracy && accuracy <= interval[1]);
 * classifier.dispose();
 * ```
 */
export async function evaluate(
  classifier: NepaClassifier,
  dataset: Dataset,
  options: { prepare?: Transform | null } = {},
): Promise<EvaluationResult> {
  const { prepare = null } = options;
  refuseLabelled(dataset, classifier, prepare);
  const evaluation = new Evaluation(classifier, prepare, true);
  try {
    return await evaluation.read(dataset);
  } finally {
    evaluation.dispose();
  }
}

/** A classifier's forward pass, kept for several readings. */
class Evaluation {
  readonly #classifier: NepaClassifier;
  readonly #prepare: Transform | null;
  readonly #pass: Compiled<[tf.Tensor4D], tf.Tensor>;

  constructor(classifier: NepaClassifier, prepare: Transform | null, compile: boolean) {
    this.#classifier = classifier;
    this.#prepare = prepare;
    const pass = (images: tf.Tensor4D) => tf.logSoftmax(classifier.forward(images).logits);
    this.#pass = compile ? currentEngine().compile(pass, { name: "evaluation" }) : uncompiled(pass);
  }

  async read(dataset: Dataset): Promise<EvaluationResult> {
    const classes = dataset.classes.length, transform = this.#prepare, guesses: number[] = [];
    const prepare = transform ? { transform, size: sizeOf(this.#classifier) } : undefined;
    let loss = 0;
    for await (const { images, batch } of inOrder(dataset, this.#classifier, prepare)) {
      const output = await this.#pass(images), logs = await output.data();
      output.dispose();
      batch.labels.forEach((label, i) => {
        const row = logs.subarray(i * classes, (i + 1) * classes);
        guesses.push(row.indexOf(Math.max(...row)));
        loss -= row[label]!;
      });
    }
    return new EvaluationResult(judge(guesses, dataset), loss / dataset.length);
  }

  dispose(): void {
    this.#pass.dispose();
  }
}

/** Gives a network another's weights. */
function assign(network: NepaClassifier, other: NepaClassifier): void {
  tf.tidy(() => other.parameters.forEach((x, name) => network.parameters.get(name)!.assign(copyOf(x))));
}

/** What a {@linkcode Referee} reads, and when. */
export interface RefereeOptions {
  validation?: Dataset | undefined;
  test?: Dataset | undefined;
  /** Updates between two readings of the validation images. */
  interval: number;
  /** Updates in all. */
  steps: number;
  prepare: Transform | null;
  compile: boolean;
}

/** Reads validation images now and then, has the best weights win in the end, and reads the test images then, once. */
export class Referee {
  readonly #classifier: NepaClassifier;
  readonly #options: RefereeOptions;
  readonly #evaluation: Evaluation;
  #best: Best & { network: NepaClassifier } | undefined;

  constructor(classifier: NepaClassifier, options: RefereeOptions) {
    this.#classifier = classifier;
    this.#options = options;
    this.#evaluation = new Evaluation(classifier, options.prepare, options.compile);
  }

  /** To be called after each update, with how many are done. */
  async measure(step: number): Promise<Measured> {
    const { validation, test, interval, steps } = this.#options,
      ends = step === steps,
      measured: Measured = {};
    if (validation && (ends || step % interval === 0)) {
      const reading = await this.#read(validation);
      measured.validation = reading;
      this.#consider(step, reading);
    }
    if (ends && this.#best) {
      measured.best = this.#best.step;
      if (this.#best.step !== step) assign(this.#classifier, this.#best.network);
      this.recall(undefined); // the classifier is the best from here on
    }
    if (ends && test) measured.test = await this.#read(test);
    return measured;
  }

  async #read(dataset: Dataset): Promise<Required<Validation>> {
    const { accuracy, loss } = await this.#evaluation.read(dataset);
    return { accuracy, loss };
  }

  /** Of two that are equally accurate the one with the smaller loss is the better. */
  #consider(step: number, reading: Required<Validation>): void {
    const before = this.#best?.reading;
    if (before && reading.accuracy < before.accuracy) return;
    if (before && reading.accuracy === before.accuracy && !(reading.loss < before.loss)) return;
    const network = this.recall({ step, reading })!;
    if (step !== this.#options.steps) assign(network, this.#classifier);
  }

  /** The best so far. */
  get best(): Best & { network: NepaClassifier } | undefined {
    return this.#best;
  }

  /**
   * Takes note of what did best in a run that goes on.
   *
   * @returns What is to be filled with its weights.
   */
  recall(found: Best | undefined): NepaClassifier | undefined {
    const network = this.#best?.network;
    if (!found) network?.dispose();
    this.#best = found && { ...found, network: network ?? this.#classifier.clone() };
    return this.#best?.network;
  }

  dispose(): void {
    this.#evaluation.dispose();
    this.recall(undefined);
  }
}
