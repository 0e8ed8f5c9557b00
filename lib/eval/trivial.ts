/** Predictions of the next embedding that need no network: what training has to beat. @module */
import * as tf from "@tensorflow/tfjs";
import { expect } from "../base/check.ts";
import * as is from "../base/check.ts";
import { unit } from "./collapse.ts";

/** Mean cosine between the patch embeddings and three trivial predictions, each -1 to 1. NEPA's own is minus its loss. */
export interface Trivial {
  /** The patch before, in raster order. Over patches 2 to N: the first has none before it. */
  previousPatch: number;
  /** The mean direction of all patch embeddings, at all N positions. */
  meanDirection: number;
  /** The mean direction of the patch embeddings at the same position, at all N positions. */
  meanDirectionPerPosition: number;
}

/**
 * Measures the trivial predictions on embeddings z. The mean directions are those of the embeddings given, at unit length.
 *
 * @param z [B, T, D] as `forward` gives it, CLS first, which is never predicted and left out here. Not disposed of.
 * @param prefix Tokens before the patches: 1 with CLS (default), 0 without.
 * @throws {RangeError} If the shape is another, or there are fewer than two patches.
 *
 * @example
 * ```ts
 * import { tf, trivialPredictors, useEngine } from "nepa";
 * import { assertAlmostEquals } from "@std/assert";
 *
 * await useEngine("cpu");
 * const z = tf.tensor3d([[[9, 9], [1, 0], [0, 1], [0, 2]]]); // CLS, then three patches
 * const { previousPatch } = await trivialPredictors(z);
 * assertAlmostEquals(previousPatch, 0.5, 1e-6); // cosines 0 and 1
 * z.dispose();
 * ```
 */
export async function trivialPredictors(z: tf.Tensor, prefix: 0 | 1 = 1): Promise<Trivial> {
  is.expectKinds("trivialPredictors", { z: [z, ["a tensor", (value) => value instanceof tf.Tensor, ""]] });
  const [, tokens = 0] = z.shape;
  const fits = z.rank === 3 && tokens >= prefix + 2;
  expect(fits, "trivialPredictors", "z [B, T, D] with CLS and at least two patches", `[${z.shape}]`);
  const figures = tf.tidy(() => {
    const u = unit(tf.slice(z, [0, prefix, 0])); // [B, N, D]
    const before = tf.slice(u, [0, 0, 0], [-1, tokens - prefix - 1, -1]), after = tf.slice(u, [0, 1, 0]);
    const perPosition = tf.mean(u, 0); // [N, D]
    // The mean cosine of unit vectors with their own mean direction is the length of their mean.
    const lengths = [tf.norm(tf.mean(perPosition, 0)), tf.mean(tf.norm(perPosition, 2, 1))];
    return tf.stack([tf.mean(tf.sum(tf.mul(before, after), 2)), ...lengths]);
  });
  const [previousPatch = NaN, meanDirection = NaN, meanDirectionPerPosition = NaN] = await figures.data();
  figures.dispose();
  return { previousPatch, meanDirection, meanDirectionPerPosition };
}
