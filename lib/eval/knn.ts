/** k nearest neighbours: how near images of one class lie in a frozen network's features. @module */
import * as tf from "@tensorflow/tfjs";
import type { Dataset } from "../data/dataset.ts";
import { PREPARE } from "../data/encoded.ts";
import { progress } from "../display/progress.ts";
import type { Table } from "../display/table.ts";
import { currentEngine, inStreams, rowsOf, stoppable } from "@nepa/engine";
import { any, expect, flag, isCount, positive, type Rule } from "../base/check.ts";
import { owned } from "../base/owned.ts";
import type { Layer, Reading } from "./features.ts";
import { guessed, judge, type Judged, Judgement } from "./scores.ts";
import { layerTitle } from "./probe.ts";
import { OVERLAP, type OverlapOption } from "../data/matching.ts";
import { asked, type Read, type Source } from "./sources.ts";
import { unit } from "./collapse.ts";

/** Options of {@linkcode knn}. */
export interface KnnOptions extends Reading, OverlapOption {
  /** Neighbours that vote, at least 1. Default 20. */
  k?: number;
  /** A neighbour's vote is exp(cosine / temperature). Default 0.07. */
  temperature?: number;
  /** Subtract the training images' mean before cosines are taken. Default false. */
  centred?: boolean;
  /** As for `linearProbe`. Default "final". */
  layer?: Layer;
}

/** What {@linkcode knn} found; shows itself as a table, in a notebook with the confusion matrix. */
export class KnnResult extends Judgement {
  /** Neighbours that voted. */
  declare readonly k: number;
  /** Of their votes. */
  declare readonly temperature: number;
  /** Whether the training images' mean was subtracted. */
  declare readonly centred: boolean;
  /** Which layer was read. */
  declare readonly layer: Read;

  /** Made by {@linkcode knn}. */
  constructor(judged: Judged, options: Pick<KnnResult, "k" | "temperature" | "centred" | "layer">) {
    super({ ...judged, ...options });
  }

  /** The accuracy and the options. */
  override table(): Table {
    const { k, temperature, centred, layer } = this;
    const row = { k, temperature, centred, features: layerTitle(layer) };
    return this.row("Nearest neighbours, accuracy on the test images", row);
  }
}

const RULES: Record<keyof KnnOptions, Rule> = {
  ...{ k: any, temperature: positive, centred: flag },
  ...{ layer: any, pool: any, causal: flag, prepare: PREPARE, overlap: OVERLAP, signal: any },
};

/** Test images compared at once, at most, and votes for classes in one tensor. */
const BLOCK = 500, VOTES = 2 ** 24;

/**
 * Classifies each test image by its k nearest training images, by the cosine of their features.
 *
 * @param model A network, a function from images to features, or features of your own, as for {@linkcode linearProbe}.
 * @param train The images that vote, all of them.
 * @param test The images to be scored by, none of which vote; classes are matched as by `linearProbe`.
 * @param options k, temperature, layer, pooling.
 * @returns The accuracy, and what was taken for what.
 * @throws {TypeError} If there is no such option.
 * @throws {RangeError} If an option cannot be, the images do not fit the network, or a number is not finite.
 *
 * @example
 * ```ts
 * import { fashionMnist, knn, Nepa, useEngine } from "nepa";
 * import { assert } from "@std/assert";
 *
 * await useEngine();
 * const { train, test } = await fashionMnist();
 * const model = new Nepa({ preset: "mini" }, { seed: 0 });
 * const { accuracy } = await knn(model, train.subset(0.01), test.subset(0.02), { k: 5 });
 * assert(accuracy > 0.2);
 * model.dispose();
 * ```
 */
export async function knn(
  model: Source,
  train?: Dataset | KnnOptions,
  test?: Dataset,
  options?: KnnOptions,
): Promise<KnnResult> {
  const given = [model, train, test, options] as const;
  const { sets, options: chosen, network, read } = await asked<KnnOptions>("knn", RULES, given);
  const { k = 20, temperature = 0.07, centred = false } = chosen, [voting, judged] = sets, n = voting.length;
  const layer: Read = network ? chosen.layer ?? "final" : "given", classes = voting.classes.length;
  expect(isCount(k) && k <= n, "k", `an integer from 1 to ${n}, the training images`, k);
  const guesses = await stoppable("knn", chosen.signal, async (signal) => {
    const [bank, queries] = (await read([layer], signal)).map((found) => found.get(layer)!);
    const how = { k, temperature, centred, classes, signal };
    return await vote(bank!, voting.labels, queries!, judged.length, how);
  });
  return new KnnResult(judge(guesses, judged), { k, temperature, centred, layer });
}

/**
 * The class with the most votes for each query.
 *
 * @param bank [N, D].
 * @param labels [N].
 * @param queries [M, D].
 */
export async function vote(
  bank: Float32Array,
  labels: Int32Array,
  queries: Float32Array,
  count: number,
  options: { k: number; temperature: number; centred: boolean; classes: number; signal?: AbortSignal },
): Promise<Int32Array> {
  const { k, temperature, centred, classes } = options, n = labels.length, d = bank.length / n;
  const mean = tf.tidy(() => centred ? tf.mean(tf.tensor2d(bank, [n, d]), 0) : tf.zeros([d]));
  const direction = (x: tf.Tensor2D) => unit(tf.sub<tf.Tensor2D>(x, mean));
  const keys = tf.tidy(() => direction(tf.tensor2d(bank, [n, d])).transpose()) as tf.Tensor2D; // [D, N]
  const classOf = tf.tensor1d(labels, "int32"), most = Math.max(1, Math.floor(VOTES / (k * classes)));
  const voted = currentEngine().compile(
    (x: tf.Tensor2D, keys: tf.Tensor2D) =>
      inStreams(x.shape[0], (from, count) => {
        const { values, indices } = tf.topk(tf.matMul(direction(rowsOf(x, from, count)), keys), k); // [count, k]
        const votes = tf.exp(tf.div(tf.sub(values, tf.slice(values, 0, [-1, 1])), temperature)); // the nearest counts 1
        const said = tf.oneHot(tf.gather(classOf, indices) as tf.Tensor1D, classes); // [count, k, K]
        return tf.argMax(tf.sum(tf.mul(tf.expandDims(votes, 2), said), 1), 1);
      }),
    { name: "nearest neighbours", xla: false },
  );
  await using bar = progress({ title: "k-NN", total: count, unit: "images" });
  using _own = owned(mean, keys, classOf, voted);
  return await guessed(count, Math.min(BLOCK, most), async (rows) => {
    const [from = 0] = rows, to = from + rows.length;
    const block = tf.tensor2d(queries.subarray(from * d, to * d), [rows.length, d]);
    const best = await voted(block, keys);
    block.dispose();
    bar.update(to);
    return best;
  }, options.signal);
}
