/** A head fitted to a frozen network: where a fine-tuning may start. @module */
import { currentEngine, stoppable } from "@nepa/engine";
import type { Dataset } from "../data/dataset.ts";
import { patchesOf, readOne } from "./features.ts";
import { fitted } from "./logistic.ts";
import { noteFitted, refuseFitted } from "./evaluate.ts";
import { any, checkOptions, numberThat } from "../base/check.ts";
import * as is from "../base/check.ts";
import type { NepaClassifier } from "../model/classifier.ts";
import * as tf from "@tensorflow/tfjs";

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
  is.expectKinds("fitHead", { classifier: [classifier, is.classifier], dataset: [dataset, is.images] });
  checkOptions("fitHead", options, { lambda: numberThat("a positive number", (x) => x > 0), signal: any });
  const { lambda = 0.1 } = options;
  const numbers = refuseFitted(dataset, classifier, null), classes = classifier.classes.length;
  const labels = dataset.labels.map((label) => numbers[label]!);
  const read = (images: tf.Tensor4D) => [classifier.forward(images).pooled];
  const pass = currentEngine().compile(read, { name: "head's features" });
  await stoppable("fitHead", options.signal, async (signal) => {
    const weights = classifier.parameters, patches = patchesOf(classifier.backbone);
    const reading = readOne(pass, dataset, patches, ["pooled"], { signal, weights });
    const data = (await reading.finally(() => pass.dispose())).get("pooled")!;
    const features = { data, size: data.length / dataset.length };
    const how = { classes, lambda, excess: 1e-4, maxIterations: 1000, signal };
    await fitted(features, labels, how, ({ point }, { standardiser }) => {
      const { weight, bias } = standardiser.undone(point),
        of = (name: string) => classifier.parameters.get(name)!;
      noteFitted(dataset, classifier);
      tf.tidy(() => {
        of("classifier.weight").assign(tf.transpose(tf.tensor2d(weight))); // [D, K]
        of("classifier.bias").assign(tf.tensor1d(bias));
      });
    });
  });
}
