/** Of embeddings: have they collapsed, and how well are they predicted without a network? @module */
import * as tf from "@tensorflow/tfjs";
import { expect, expectKinds } from "../base/check.ts";
import { owned } from "../base/owned.ts";
import { cholesky, eigenvalues, solveLower } from "./linalg.ts";

/** How spread out embeddings are. */
export interface Collapse {
  /** Standard deviation of the embeddings at unit length, mean over dimensions, times √D: about 1 when spread, 0 when collapsed. */
  featureStd: number;
  /** exp of the entropy of the singular values over their sum, not centred: 1 to D. */
  effectiveRank: number;
  /** Mean cosine between two different embeddings, -1 to 1: 1 when collapsed. */
  meanCosine: number;
  /** Whether featureStd < 0.05 or effectiveRank < 1.5. */
  collapsed: boolean;
}

/**
 * Measures the collapse of embeddings: of NEPA's patch embeddings z (CLS left out) over some 500 images, all positions
 * together. Its loss cannot tell: -1 is perfect prediction and collapse alike. The pooled output is no measure either,
 * its mean cosine is 0.85 in a healthy network.
 *
 * Costs two products [D, n] x [n, D] on the engine and the eigenvalues of a [D, D] matrix in float64.
 *
 * @param embeddings [n, D], n >= 2; not disposed of.
 * @throws {RangeError} If the shape is another, or a value is not finite.
 *
 * @example
 * ```ts
 * import { collapse, useEngine } from "nepa";
 * import { assert } from "@std/assert";
 *
 * await useEngine("cpu");
 * assert((await collapse([[1, 2], [2, 4], [3, 6]])).collapsed);
 * assert(!(await collapse([[1, 0], [0, 1], [-1, 0], [0, -1]])).collapsed);
 * ```
 */
export async function collapse(embeddings: tf.Tensor | number[][]): Promise<Collapse> {
  const given = embeddings instanceof tf.Tensor, isEither = (x: unknown) => given || Array.isArray(x);
  expectKinds("collapse", { embeddings: [embeddings, ["a tensor or rows", isEither, ""]] });
  const shape = given ? embeddings.shape : [embeddings.length, embeddings[0]?.length ?? 0];
  const [n = 0, dimensions = 0] = shape;
  const fits = shape.length === 2 && n >= 2 && dimensions >= 1, help = "put images and positions on one axis";
  expect(fits, "collapse", "embeddings [n, D] with n >= 2", `[${shape}]; ${help}`);
  const z = given ? embeddings.clone() as tf.Tensor2D : tf.tensor2d(embeddings);
  using _own = owned(z);
  const { featureStd, meanCosine } = await directions(z), effectiveRank = rankOf(await singularValues(z));
  return { featureStd, effectiveRank, meanCosine, collapsed: featureStd < 0.05 || effectiveRank < 1.5 };
}

/** x / max(‖x‖, 1e-12) along the last axis, by a division: with the same digits as ever. */
export function unit<T extends tf.Tensor>(x: T): T {
  return tf.div(x, tf.maximum(tf.norm(x, 2, -1, true), 1e-12));
}

/** What the embeddings at unit length say. */
async function directions(z: tf.Tensor2D): Promise<Pick<Collapse, "featureStd" | "meanCosine">> {
  const [n, D] = z.shape;
  const figures = tf.tidy(() => {
    const u = unit(z), mean = tf.mean(u, 0), variance = tf.mean(tf.squaredDifference(u, mean), 0); // [D]
    const ones = tf.mean(tf.sum(tf.square(u), 1)); // 1 unless some are zero
    return tf.concat([tf.stack([tf.mul(tf.mean(tf.sqrt(variance)), Math.sqrt(D)), ones]), mean]);
  });
  const [featureStd = NaN, ones = NaN, ...mean] = await numbers(figures);
  const squared = mean.reduce((sum, x) => sum + x * x, 0);
  return { featureStd, meanCosine: (n * squared - ones) / (n - 1) };
}

/**
 * Singular values of z [n, D], D of them. A float32 Gram matrix loses those below 3e-4 of the largest, so z is made
 * nearly orthonormal with a first one, G = L Lᵀ, and the Gram matrix of z L⁻ᵀ, close to the identity, is carried back.
 */
async function singularValues(z: tf.Tensor2D): Promise<Float64Array> {
  const d = z.shape[1], gram = Float64Array.from(await numbers(tf.matMul(z, z, true)));
  let trace = 0;
  for (let i = 0; i < d; i++) trace += gram[i * d + i]!;
  expect(Number.isFinite(trace), "collapse", "finite embeddings", "a NaN or an infinity");
  if (trace === 0) return new Float64Array(d); // all zero
  for (let i = 0; i < d; i++) gram[i * d + i]! += 1e-5 * trace;
  const l = cholesky(gram, d);
  const whitened = tf.tidy(() => {
    const inverse = tf.tensor2d(Float32Array.from(invertedTransposed(l, d)), [d, d]); // L⁻ᵀ
    const y = tf.matMul(z, inverse); // [n, D]
    return tf.matMul(y, y, true); // [D, D]
  });
  const back = sandwich(l, Float64Array.from(await numbers(whitened)), d);
  return eigenvalues(back, d).map((value) => Math.sqrt(Math.max(value, 0)));
}

/** L⁻ᵀ, for L lower triangular. */
function invertedTransposed(l: Float64Array, n: number): Float64Array {
  const inverse = new Float64Array(n * n);
  const columns = Array.from({ length: n }, (_, i) => inverse.subarray(i * n, (i + 1) * n)); // of L⁻¹
  columns.forEach((column, i) => column[i] = 1);
  solveLower(l, columns, n);
  return inverse;
}

/** L G Lᵀ, for L lower triangular. */
function sandwich(l: Float64Array, g: Float64Array, n: number): Float64Array {
  const lowerTimes = (m: Float64Array) => { // (L m)ᵀ
    const out = new Float64Array(n * n);
    for (let i = 0; i < n; i++) {
      for (let k = 0; k <= i; k++) {
        const factor = l[i * n + k]!;
        for (let j = 0; j < n; j++) out[j * n + i]! += factor * m[k * n + j]!;
      }
    }
    return out;
  };
  return lowerTimes(lowerTimes(g));
}

function rankOf(singular: Float64Array): number {
  const sum = singular.reduce((a, b) => a + b, 0);
  const entropy = singular.reduce((h, s) => s > 0 ? h - s / sum * Math.log(s / sum) : h, 0);
  return Math.exp(entropy);
}

async function numbers(tensor: tf.Tensor): Promise<Float32Array> {
  using _own = owned(tensor);
  return await tensor.data() as Float32Array;
}

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
  expectKinds("trivialPredictors", { z: [z, ["a tensor", (value) => value instanceof tf.Tensor, ""]] });
  const [, tokens = 0] = z.shape;
  const fits = z.rank === 3 && tokens >= prefix + 2;
  expect(fits, "trivialPredictors", "z [B, T, D] with CLS and at least two patches", `[${z.shape}]`);
  const cosines = tf.tidy(() => {
    const u = unit(tf.slice(z, [0, prefix, 0])); // [B, N, D]
    const before = tf.slice(u, [0, 0, 0], [-1, tokens - prefix - 1, -1]), after = tf.slice(u, [0, 1, 0]);
    const perPosition = tf.mean(u, 0); // [N, D]
    // The mean cosine of unit vectors with their own mean direction is the length of their mean.
    const lengths = [tf.norm(tf.mean(perPosition, 0)), tf.mean(tf.norm(perPosition, 2, 1))];
    return tf.stack([tf.mean(tf.sum(tf.mul(before, after), 2)), ...lengths]);
  });
  const [previousPatch = NaN, meanDirection = NaN, meanDirectionPerPosition = NaN] = await numbers(cosines);
  return { previousPatch, meanDirection, meanDirectionPerPosition };
}
