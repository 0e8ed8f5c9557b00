/** Classifiers: how well one does on images, and a head fitted to a frozen network. @module */
import * as tf from "@tensorflow/tfjs";
import { any, callable, checkOptions, expect, expectNamed, numberThat, orNull } from "../base/check.ts";
import { owned } from "../base/owned.ts";
import { type Dataset, refuseMisfit, refuseMislabelled, refuseUnfit } from "../data/dataset.ts";
import { classNumbers, type Matched, matched, sharedRows } from "../data/matching.ts";
import { imageSizeOf } from "../data/preprocessor.ts";
import type { Transform } from "../data/transforms.ts";
import { progress } from "../display/progress.ts";
import type { Table } from "../display/table.ts";
import { type Compiled, currentEngine, stoppable } from "@nepa/engine";
import { judge, type Judged, Judgement } from "./scores.ts";
import { patchesOf, readOne } from "./features.ts";
import { refuseTransform } from "../data/loader.ts";
import type { NepaClassifier } from "../model/classifier.ts";
import { LogisticRegression } from "./logistic.ts";

const OTHERS = "; NepaClassifier.from puts on a head with others";

const known = ({ classes }: NepaClassifier) => ({ name: "the classifier", classes });

/** Refuses images or labels that the classifier cannot take. Gives the labels by the names of the classifier's classes. */
export function refuseLabelled(
  dataset: Dataset,
  classifier: NepaClassifier,
  prepare: Transform | null,
): Matched {
  refuseMisfit(dataset, classifier.config, prepare === null);
  refuseMislabelled(dataset);
  const labels = matched(known(classifier), dataset, OTHERS);
  if (prepare) refuseTransform(dataset, prepare, imageSizeOf(classifier));
  return labels;
}

/** The same where the classifier is fitted to them: they have all of its classes. Gives those by the set's numbers. */
export function refuseFitted(
  dataset: Dataset,
  classifier: NepaClassifier,
  prepare: Transform | null,
): Int32Array {
  const { name, classes } = dataset, expected = classifier.classes.length;
  const fits = classes.length === expected, got = `${classes.length}${OTHERS}`;
  expect(fits, name, `${expected} classes, as the classifier has`, got);
  refuseLabelled(dataset, classifier, prepare);
  refuseUnfit(dataset);
  return classNumbers(known(classifier), dataset);
}

const fitted = new WeakMap<NepaClassifier, Set<Dataset>>();

/** Takes note of what classifiers are fitted to. */
export function noteFitted(dataset: Dataset, ...classifiers: readonly (NepaClassifier | undefined)[]): void {
  for (const one of classifiers) if (one) fitted.set(one, (fitted.get(one) ?? new Set()).add(dataset));
}

/** What has to be said of images that the classifier was fitted to. */
function fittedNotes(classifier: NepaClassifier, dataset: Dataset): string[] {
  return [...fitted.get(classifier) ?? []].flatMap((set) => {
    const { count } = sharedRows(dataset, set), which = `${count} of the ${dataset.length} images`;
    const note = `${which} were trained on, with ${set.name}: no measure of what others would get`;
    return count > 0 ? [note] : [];
  });
}

/** What {@linkcode evaluate} found; shows itself as a table, in a notebook with the confusion matrix. */
export class EvaluationResult extends Judgement implements Validation {
  /** Mean cross-entropy in nats, without smoothing. */
  readonly loss: number;

  /** Made by {@linkcode evaluate}. */
  constructor(judged: Judged, loss: number) {
    super(judged);
    this.loss = loss;
  }

  /** The accuracy and the loss. */
  override table(): Table {
    const images = this.confusion.flat().reduce((a, b) => a + b, 0);
    return this.row("Classifier", { images }, { loss: this.loss });
  }
}

/**
 * How well a classifier does on labelled images. Images that it was trained on in this process are taken, too, and `notes`
 * says how many.
 *
 * @param classifier Not changed.
 * @param dataset Images of the network's size, with the classifier's classes or some of them: by their names, or by number
 * where either has none, such as `LABEL_0`.
 * @param options `prepare` brings images of another size to the network's, such as `compose(resize(256, "bicubic"), centerCrop(224))`;
 * `signal` ends the work, and so does the Stop button.
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
  options: { prepare?: Transform | null; signal?: AbortSignal } = {},
): Promise<EvaluationResult> {
  expectNamed("evaluate", { classifier, dataset });
  checkOptions("evaluate", options, { prepare: orNull(callable), signal: any });
  const { prepare = null } = options;
  refuseLabelled(dataset, classifier, prepare);
  const evaluation = new Evaluation(classifier, prepare, true);
  using _own = owned(evaluation);
  const shown = { title: "evaluation", total: dataset.length, unit: "images", text: "compiling" };
  await using bar = progress(shown);
  const tell = (done: number) => bar.update(done, "");
  const read = (signal: AbortSignal) => evaluation.read(dataset, { signal, tell });
  return await stoppable("evaluate", options.signal, read);
}

/** Metrics of held-out images. */
export interface Validation {
  loss: number;
  /** Share of the images classified as labelled, where classes are trained. */
  accuracy?: number;
  /** Mean over the classes of intersection over union, where pixels have classes; `accuracy` is then of pixels. */
  meanIoU?: number;
}

/** A classifier's forward pass, kept for several readings. */
export class Evaluation {
  readonly #pass: Compiled<[tf.Tensor4D], tf.Tensor2D[]>;

  constructor(readonly classifier: NepaClassifier, readonly prepare: Transform | null, compile: boolean) {
    const pass = (images: tf.Tensor4D) => [tf.logSoftmax(classifier.forward(images).logits)];
    this.#pass = currentEngine().compile(pass, { name: "evaluation", compile });
  }

  async read(
    dataset: Dataset,
    how: { signal?: AbortSignal; tell?: (done: number) => void } = {},
  ): Promise<EvaluationResult> {
    const { classifier, prepare: transform } = this;
    const { labels, classes, notes } = matched(known(classifier), dataset), K = classes.length;
    const prepare = transform ? { transform, size: imageSizeOf(classifier) } : undefined;
    const patches = patchesOf(classifier.backbone), weights = classifier.parameters;
    const found = await readOne(this.#pass, dataset, patches, ["logs"], { ...how, prepare, weights });
    let loss = 0;
    const guesses = Array.from(labels, (label, i) => {
      const row = found.get("logs")!.subarray(i * K, (i + 1) * K); // log probabilities
      loss -= row[label]!;
      return row.indexOf(Math.max(...row));
    });
    const all = [...notes, ...fittedNotes(classifier, dataset)];
    return new EvaluationResult(judge(guesses, { labels, classes, notes: all }), loss / dataset.length);
  }

  dispose(): void {
    this.#pass.dispose();
  }
}

/**
 * Fits a classifier's linear map alone, to its optimum: multinomial logistic regression as in `linearProbe`. Fine-tuning
 * from there bends what the network has learned less than from a head at zero (arXiv 2202.10054).
 *
 * @param classifier Its `classifier.weight` and `classifier.bias` change in place, nothing else.
 * @param dataset Labelled images of the network's size, a few thousand at most.
 * @param options `lambda`, the weight of the penalty λ/2·|W|² on standardised features. Default 0.1, for few labels and long
 * features. `signal` ends the work, and so does the Stop button; the head is as before then.
 * @throws {RangeError} If the images or the classes do not fit the classifier, or λ is not positive.
 *
 * @example
 * ```ts
 * import { evaluate, fashionMnist, fitHead, Nepa, NepaClassifier, useEngine } from "nepa";
 * import { assert } from "@std/assert";
 *
 * await useEngine();
 * const { train } = await fashionMnist(), few = train.balanced(5);
 * const model = new Nepa({ preset: "mini", layerscaleValue: null }, { seed: 0 });
 * const classifier = NepaClassifier.from(model, { classes: train.classes, pool: "all" });
 * await fitHead(classifier, few);
 * assert((await evaluate(classifier, few)).accuracy > 0.9);
 * classifier.dispose();
 * model.dispose();
 * ```
 */
export async function fitHead(
  classifier: NepaClassifier,
  dataset: Dataset,
  options: { lambda?: number; signal?: AbortSignal } = {},
): Promise<void> {
  expectNamed("fitHead", { classifier, dataset });
  checkOptions("fitHead", options, { lambda: numberThat("a positive number", (x) => x > 0), signal: any });
  const { lambda = 0.1 } = options;
  const numbers = refuseFitted(dataset, classifier, null), classes = classifier.classes.length;
  const labels = dataset.labels.map((label) => numbers[label]!);
  const read = (images: tf.Tensor4D) => [classifier.forward(images).pooled];
  const pass = currentEngine().compile(read, { name: "head's features" });
  using _own = owned(pass);
  await stoppable("fitHead", options.signal, async (signal) => {
    const weights = classifier.parameters, patches = patchesOf(classifier.backbone);
    const data = (await readOne(pass, dataset, patches, ["pooled"], { signal, weights })).get("pooled")!;
    const features = { data, size: data.length / dataset.length };
    const regression = new LogisticRegression(features, labels, { classes, signal });
    using _own = owned(regression);
    const { point } = await regression.fit({ lambda, excess: 1e-4, maxIterations: 1000 });
    const { weight, bias } = regression.standardiser.undone(point);
    noteFitted(dataset, classifier);
    tf.tidy(() => {
      weights.get("classifier.weight")!.assign(tf.transpose(tf.tensor2d(weight))); // [D, K]
      weights.get("classifier.bias")!.assign(tf.tensor1d(bias));
    });
  });
}
