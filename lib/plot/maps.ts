/** What a position looks at and what it expects, as numbers over the grid of patches. @module */
import * as tf from "@tensorflow/tfjs";
import { any, checkOptions, expect, flag, numberThat, oneOf } from "../base/check.ts";
import { notice } from "../display/jupyter.ts";
import { unit } from "../eval/collapse.ts";

/** Options of {@linkcode attentionMap}. */
export interface AttentionMapOptions {
  /** Blocks to average, from 1, as layers are counted elsewhere. Default: all. */
  blocks?: readonly number[];
  /** Use `blocks`. This counts from 0, negative ones from the last. */
  layers?: readonly number[];
  /** Heads become one by their mean or their largest value; a number, from 0: that head alone. Default "mean". */
  heads?: "mean" | "max" | number;
  /** Which image of the batch. Default 0. */
  image?: number;
  /** Tokens before the patches, as the encoder's `prefix`. Default 1. */
  prefix?: 0 | 1;
}

/**
 * How much one token reads from each patch. CLS is left out, so that the numbers sum to 1 or less.
 *
 * @param attentions Probabilities [B, A, T, T] of each block, from `forward` with `attentions: true`.
 * @param token The reading token: 0 is CLS, 1 the first patch.
 * @param options Which blocks, which image, and how to join heads.
 * @returns [T − 1], patch by patch in raster order; the caller disposes of it.
 * @throws {RangeError} If there is no such token, block or image.
 *
 * @example
 * ```ts
 * import { attentionMap, Nepa, tf, useEngine } from "nepa";
 * import { assertAlmostEquals } from "@std/assert";
 *
 * await useEngine("cpu");
 * const model = new Nepa({ preset: "mini", numHiddenLayers: 1 });
 * const map = tf.tidy(() => {
 *   const { attentions } = model.forward(tf.zeros([1, 28, 28, 1]), { attentions: true });
 *   return attentionMap(attentions!, 1); // the first patch sees CLS and itself, half and half
 * });
 * assertAlmostEquals(map.dataSync()[0]!, 0.5, 1e-5);
 * map.dispose();
 * model.dispose();
 * ```
 */
export function attentionMap(
  attentions: readonly tf.Tensor4D[],
  token: number,
  options: AttentionMapOptions = {},
): tf.Tensor1D {
  checkOptions("attentionMap", options, { blocks: any, layers: any, heads: any, image: any, prefix: any });
  const { layers, heads = "mean", image = 0, prefix = 1 } = options, L = attentions.length;
  if (layers) {
    notice("attentionMap: `layers` counts blocks from 0 and will go; write `blocks`, which counts from 1");
  }
  for (const layer of layers ?? []) expectWithin("layer", layer, -L, L);
  const counted = layers?.map((i) => i < 0 ? L + 1 + i : i + 1) ?? attentions.map((_, i) => i + 1);
  const { blocks = counted } = options;
  const [batch, A, tokens] = attentions[0]!.shape;
  expectWithin("token", token, 0, tokens);
  expectWithin("image", image, 0, batch);
  for (const block of blocks) expectWithin("blocks", block, 1, L + 1);
  if (typeof heads === "number") expectWithin("heads", heads, 0, A);
  else expect(["mean", "max"].includes(heads), "heads", '"mean", "max" or the number of one', heads);
  return tf.tidy(() => {
    const chosen = blocks.map((block) =>
      tf.slice(attentions[block - 1]!, [image, 0, token, prefix], [1, A, 1, tokens - prefix])
    );
    const mean = tf.mean(tf.stack(chosen), 0).reshape([A, tokens - prefix]); // [A, T − 1]
    if (typeof heads === "number") return tf.slice(mean, [heads, 0], [1, -1]).reshape([tokens - prefix]);
    return (heads === "max" ? tf.max(mean, 0) : tf.mean(mean, 0)) as tf.Tensor1D;
  });
}

/** Options of {@linkcode predictionMap}. */
export interface PredictionMapOptions {
  /** "cosine" gives cosines, "softmax" their softmax at temperature 1. Default "softmax". */
  scale?: "cosine" | "softmax";
  /** Keep the likeliest patches until they hold this share, 0 to 1; the others become 0. Default 1: all. */
  topP?: number;
  /** Make what is kept sum to 1. Default false. */
  renormalize?: boolean;
  /** Which image of the batch. Default 0. */
  image?: number;
}

/**
 * What a token expects next: how like its prediction each patch's embedding is.
 *
 * @param outputs `embeddings` and `predictions` [B, T, D] from `forward`.
 * @param token The predicting token: 0 is CLS, which expects the first patch.
 * @param options The scale, which image, and what to keep.
 * @returns [T − 1], patch by patch in raster order; the caller disposes of it.
 * @throws {RangeError} If there is no such token or image, or `topP` is not above 0 and up to 1.
 *
 * @example
 * ```ts
 * import { predictionMap, tf, useEngine } from "nepa";
 * import { assertEquals } from "@std/assert";
 *
 * await useEngine("cpu");
 * const embeddings = tf.tensor3d([[[9, 9], [1, 0], [0, 1]]]), predictions = tf.tensor3d([[[0, 5], [1, 1], [1, 1]]]);
 * const map = predictionMap({ embeddings, predictions }, 0, { scale: "cosine" }); // CLS expects the second patch
 * assertEquals([...map.dataSync()], [0, 1]);
 * tf.dispose([embeddings, predictions, map]);
 * ```
 */
export function predictionMap(
  outputs: { readonly embeddings: tf.Tensor3D; readonly predictions: tf.Tensor3D },
  token: number,
  options: PredictionMapOptions = {},
): tf.Tensor1D {
  checkOptions("predictionMap", options, {
    ...{ scale: oneOf("cosine", "softmax"), renormalize: flag, image: any },
    topP: numberThat("a number above 0, up to 1", (x) => x > 0 && x <= 1),
  });
  const { scale = "softmax", topP = 1, renormalize = false, image = 0 } = options;
  const { embeddings, predictions } = outputs, [batch, tokens, size] = embeddings.shape;
  expectWithin("token", token, 0, tokens);
  expectWithin("image", image, 0, batch);
  return tf.tidy(() => {
    const patches = unit(
      tf.slice(embeddings, [image, 1, 0], [1, tokens - 1, size]).reshape([tokens - 1, size]),
    );
    const predicted = unit(tf.slice(predictions, [image, token, 0], [1, 1, size]).reshape([1, size]));
    const cosines = tf.sum(tf.mul(patches, predicted), 1) as tf.Tensor1D; // [T − 1]
    if (scale === "cosine") return cosines;
    const shares = tf.softmax(cosines), kept = topP < 1 ? keepLikeliest(shares, topP) : shares;
    return renormalize ? tf.div(kept, tf.maximum(tf.sum(kept), 1e-12)) as tf.Tensor1D : kept;
  });
}

/** Zeros all but the largest, as many as it takes to hold `topP` together. */
function keepLikeliest(shares: tf.Tensor1D, topP: number): tf.Tensor1D {
  const row = tf.expandDims(shares, 0), column = tf.expandDims(shares, 1);
  const before = tf.sum(tf.mul(tf.greater(row, column).cast("float32"), row), 1); // of those larger, for each
  return tf.mul(shares, tf.less(before, topP).cast("float32"));
}

/**
 * Stretches a map for display, as the official figures do: cells that are not 0 are spread from the smallest of them
 * to 1, then raised to a power; cells that are 0 stay 0.
 *
 * @param values A map's numbers.
 * @param gamma The power: 0.25 for attention, 10 for predictions.
 * @returns As many numbers from 0 to 1.
 *
 * @example
 * ```ts
 * import { displayContrast } from "nepa";
 * import { assertEquals } from "@std/assert";
 *
 * assertEquals([...displayContrast([0, 0.25, 1], 2)], [0, 0.0625, 1]);
 * ```
 */
export function displayContrast(values: ArrayLike<number>, gamma: number): Float32Array {
  const shown = Array.from(values).filter((value) => Math.abs(value) > 1e-12);
  const low = Math.min(...shown), range = Math.max(...shown) - low;
  return Float32Array.from(values, (value) => {
    if (!(Math.abs(value) > 1e-12)) return 0;
    return (range > 0 ? low + (1 - low) * (value - low) / range : 1) ** gamma;
  });
}

function expectWithin(name: string, value: number, low: number, high: number): void {
  const within = Number.isInteger(value) && value >= low && value < high;
  expect(within, name, `an integer from ${low} to ${high - 1}`, value);
}
