/** Attentive probes: a frozen network's tokens, read by one learned query and one linear map. @module */
import * as tf from "@tensorflow/tfjs";
import type { Dataset } from "../data/dataset.ts";
import { PREPARE } from "../data/encoded.ts";
import { OVERLAP, type OverlapOption } from "../data/matching.ts";
import { progress } from "../display/progress.ts";
import type { Table } from "../display/table.ts";
import { currentEngine, inStreams, rowsOf, stoppable } from "@nepa/engine";
import { any, checkOptions, count, expect, expectNamed, flag } from "../base/check.ts";
import { index, notNegative, positive, type Rule } from "../base/check.ts";
import { lossAndGradients } from "../base/gradient.ts";
import { owned } from "../base/owned.ts";
import type { Encoder } from "../model/method.ts";
import { makeParameters } from "../model/network.ts";
import { AdamW } from "../optim/adamw.ts";
import { Random } from "../base/random.ts";
import { warmupCosine } from "../optim/schedule.ts";
import { type Layer, type Reading, readSets } from "./features.ts";
import { guessed, judge, type Judged, Judgement } from "./scores.ts";
import { type Features, Standardiser } from "./logistic.ts";
import { layerTitle } from "./probe.ts";
import { setsFor } from "./sources.ts";
import { crossEntropy, linear } from "../model/ops.ts";

/** Options of {@linkcode attentiveProbe}. */
export interface AttentiveOptions extends Pick<Reading, "causal" | "signal" | "prepare">, OverlapOption {
  /** As for `linearProbe`. Default "final". */
  layer?: Layer;
  /** Parts that the query is cut into, each with its own look at the tokens; divides D. Default: the network's, else D/32. */
  heads?: number;
  /** Passes over the training images. Default 10, or as many as make 1,000 updates. */
  epochs?: number;
  /** Images in an update, or all where there are fewer. Default 256. */
  batchSize?: number;
  /** Peak; it rises over a tenth of the updates and falls to 0 along a cosine. Default 1e-2. */
  learningRate?: number;
  /** Of AdamW, on matrices alone. Default 0.05. */
  weightDecay?: number;
  /** Of the first weights and the order of the images. Default 0. */
  seed?: number;
}

const RULES: Record<keyof AttentiveOptions, Rule> = {
  ...{ layer: any, signal: any, causal: flag, prepare: PREPARE },
  ...{ heads: count, epochs: count, batchSize: count },
  ...{ learningRate: positive, weightDecay: notNegative, seed: index, overlap: OVERLAP },
};

/** {@linkcode AttentiveOptions} completed, but for the layer. */
export type AttentiveSettings = Required<
  Omit<AttentiveOptions, "layer" | "causal" | "overlap" | "signal" | "prepare">
>;

/** What {@linkcode attentiveProbe} found; shows itself as a table, in a notebook with the confusion matrix. */
export class AttentiveResult extends Judgement {
  /** Which layer was read. */
  declare readonly layer: Layer;
  /** How it was trained. */
  declare readonly settings: Readonly<AttentiveSettings>;
  /** Mean training loss of each epoch, in nats: whether it still fell at the end. */
  declare readonly losses: readonly number[];

  /** Made by {@linkcode attentiveProbe}. */
  constructor(judged: Judged, layer: Layer, settings: AttentiveSettings, losses: readonly number[]) {
    super({ ...judged, ...{ layer, settings, losses } });
  }

  /** The accuracy and how it came about. */
  override table(): Table {
    const { layer, settings: { heads, epochs, seed }, losses } = this;
    const training = { heads, epochs, "training loss": losses.at(-1)!, seed };
    const features = layerTitle(layer);
    return this.row("Attentive probe, accuracy on the test images", { features }, training);
  }
}

/**
 * Logits [B, K] of tokens: each head's query weighs the tokens by softmax(query · key / √d), and the sums of values so
 * weighed are joined and read by a linear map.
 *
 * @param tokens [B·T, D], standardised.
 * @param parameters `query` [D], `key` and `value` [D, D], `classifier.weight` [D, K], `classifier.bias` [K].
 */
export function attend(
  tokens: tf.Tensor2D,
  parameters: ReadonlyMap<string, tf.Tensor>,
  batch: number,
  heads: number,
): tf.Tensor2D {
  const [rows, D] = tokens.shape, T = rows / batch, d = D / heads;
  const of = (name: string) => parameters.get(name) as tf.Tensor2D;
  return inStreams(batch, (from, count) => {
    const some = rowsOf(tokens, from * T, count * T);
    const split = (name: string) =>
      linear(some, of(name)).reshape([count, T, heads, d]).transpose([0, 2, 1, 3]); // [B, T, A, d] to [B, A, T, d]
    const scores = tf.sum(tf.mul(split("key"), of("query").reshape([1, heads, 1, d])), -1); // [B, A, T]
    const shares = tf.expandDims(tf.softmax(tf.mul(scores, d ** -0.5)), -1); // [B, A, T, 1]
    const read = tf.sum(tf.mul(split("value"), shares), 2).reshape([count, D]) as tf.Tensor2D; // [B, A, d] to [B, D]
    return linear(read, of("classifier.weight"), of("classifier.bias"));
  });
}

/** A head to be trained. */
export class AttentiveHead {
  readonly #parameters: Map<string, tf.Variable>;
  readonly #standardiser: Standardiser;

  /** @param features Every token of every image, [N·T, D]. @param tokens T. */
  constructor(
    features: Features,
    readonly tokens: number,
    classes: number,
    readonly settings: AttentiveSettings,
  ) {
    const { size: D } = features, shapes = new Map([["query", [D]], ["key", [D, D]], ["value", [D, D]]]);
    shapes.set("classifier.weight", [D, classes]).set("classifier.bias", [classes]);
    this.#parameters = makeParameters(shapes, (name, shape) => {
      const random = new Random(settings.seed, "attentive probe", name);
      return name.startsWith("classifier") ? tf.zeros(shape) : random.normal(shape, 0, D ** -0.5);
    });
    this.#standardiser = new Standardiser(features);
  }

  /** Tokens of some images, [B·T, D]. */
  #batch(features: Features, images: Int32Array): tf.Tensor2D {
    const T = this.tokens, rows = new Int32Array(images.length * T);
    return this.#standardiser.tensor(features, rows.map((_, i) => images[Math.floor(i / T)]! * T + i % T));
  }

  /** Trains it. @returns The mean loss of each epoch. */
  async fit(features: Features, labels: Int32Array, signal?: AbortSignal): Promise<number[]> {
    const { epochs, batchSize, learningRate, weightDecay, heads, seed } = this.settings;
    const size = Math.min(batchSize, labels.length), updates = Math.floor(labels.length / size);
    const steps = epochs * updates, parameters = this.#parameters, losses: number[] = [];
    const rate = warmupCosine({ peak: learningRate, steps, warmupSteps: Math.ceil(steps / 10) });
    const optimizer = new AdamW(parameters, { betas: [0.9, 0.999], weightDecay });
    const step = currentEngine().compile((tokens: tf.Tensor2D, labels: tf.Tensor1D, rates: tf.Tensor1D) => {
      const loss = () => crossEntropy(attend(tokens, parameters, size, heads), labels);
      const { loss: value, gradients } = lossAndGradients(loss, parameters);
      optimizer.update(gradients, rates);
      return value;
    }, { name: "attentive probe" });
    await using bar = progress({ title: "attentive probe", total: steps, unit: "steps", text: "compiling" });
    using _own = owned(step, optimizer);
    for (let epoch = 0; epoch < epochs; epoch++) {
      const order = new Random(seed, "attentive probe", epoch).permutation(labels.length);
      let sum = 0;
      for (let k = 0; k < updates; k++) {
        signal?.throwIfAborted();
        const images = order.subarray(k * size, (k + 1) * size), done = epoch * updates + k;
        const tokens = this.#batch(features, images), rates = optimizer.rates(done, [rate(done)]);
        const said = tf.tensor1d(images.map((image) => labels[image]!), "int32");
        const loss = await step(tokens, said, rates);
        sum += (await loss.data())[0]!;
        tf.dispose([tokens, said, rates, loss]);
        bar.update(done + 1, `loss ${(sum / (k + 1)).toFixed(4)}`);
      }
      losses.push(sum / updates);
    }
    return losses;
  }

  /** The most likely class of each image. */
  async predict(features: Features, signal?: AbortSignal): Promise<Int32Array> {
    const { tokens: T, settings: { batchSize, heads } } = this;
    const best = (x: tf.Tensor2D) => tf.argMax(attend(x, this.#parameters, x.shape[0] / T, heads), 1);
    const pass = currentEngine().compile(best, { name: "attentive probe's guesses" });
    using _own = owned(pass);
    return await guessed(features.data.length / features.size / T, batchSize, async (images) => {
      const tokens = this.#batch(features, images);
      return await pass(tokens).finally(() => tokens.dispose());
    }, signal);
  }

  dispose(): void {
    tf.dispose([...this.#parameters.values()]);
  }
}

/**
 * Trains one query that attends to a frozen network's tokens, and a linear map that reads what it gathers (attentive
 * probing, arXiv 2401.08541, section 3.3): fairer than a mean to networks whose tokens hold different things.
 *
 * Tokens, CLS among them, are read once and standardised by the training images; AdamW (0.9, 0.999), cross-entropy.
 * They are held in memory: 4·N·T·D bytes, 520 MB for 60,000 images and `mini`.
 *
 * @param model Not changed.
 * @param train Images with labels to train on.
 * @param test Images with labels to be scored by, none of which are trained on; looked at once. Classes are matched as by
 * `linearProbe`.
 * @param options Which layer, and how to train.
 * @returns Accuracies from 0 to 1; shows itself as a table.
 * @throws {TypeError} If there is no such option.
 * @throws {RangeError} If an option cannot be, or the images do not fit the network.
 *
 * @example
 * ```ts
 * import { attentiveProbe, fashionMnist, Nepa, useEngine } from "nepa";
 * import { assert } from "@std/assert";
 *
 * await useEngine();
 * const { train, test } = await fashionMnist();
 * const model = new Nepa({ preset: "mini" }, { seed: 0 });
 * const settings = { epochs: 20, batchSize: 64, learningRate: 3e-3 };
 * const { accuracy } = await attentiveProbe(model, train.subset(0.01), test.subset(0.02), settings);
 * assert(accuracy > 0.2);
 * model.dispose();
 * ```
 */
export async function attentiveProbe(
  model: Encoder,
  train: Dataset,
  test: Dataset,
  options: AttentiveOptions = {},
): Promise<AttentiveResult> {
  expectNamed("attentiveProbe", { model, train, test });
  checkOptions("attentiveProbe", options, RULES);
  const { layer = "final", causal = model.causal, overlap: _o, signal: own, prepare: _p, ...given } = options;
  const updates = Math.max(1, Math.floor(train.length / (options.batchSize ?? 256)));
  const epochs = Math.max(10, Math.ceil(1000 / updates));
  const { images, sets: [, judged] } = setsFor(model, train, test, options);
  const { size: { height, width }, imageMean } = model.preprocessor;
  const black = () => tf.zeros<tf.Rank.R4>([1, height, width, imageMean.length], "int32");
  const [, tokens, D] = tf.tidy(() => model.tokens(black(), [layer], { causal })[0]!.shape);
  const training = { epochs, batchSize: 256, learningRate: 1e-2, weightDecay: 0.05, seed: 0 };
  const settings: AttentiveSettings = { heads: model.heads ?? headsOf(D), ...training, ...given };
  expect(D % settings.heads === 0, "heads", `a divisor of ${D}`, settings.heads);
  return await stoppable("attentiveProbe", own, async (signal) => {
    const [fitted, tested] = await readSets(model, images, [layer], { pool: "all", causal, signal });
    const features = { data: fitted!.get(layer)!, size: D };
    const head = new AttentiveHead(features, tokens, train.classes.length, settings);
    using _own = owned(head);
    const losses = await head.fit(features, train.labels, signal);
    const guesses = await head.predict({ data: tested!.get(layer)!, size: D }, signal);
    return new AttentiveResult(judge(guesses, judged), layer, settings, losses);
  });
}

/** As many heads as divide D and have 32 numbers or more, at least one. */
function headsOf(D: number): number {
  let heads = Math.max(1, Math.floor(D / 32));
  while (D % heads !== 0) heads--;
  return heads;
}
