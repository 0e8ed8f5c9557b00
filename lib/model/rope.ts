/**
 * Rotary position embedding on two axes: pairs of a query's (and a key's) numbers are rotated by angles that grow with
 * the patch's row and column, so that their product depends on how far two patches lie apart.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";
import type { NepaConfig } from "./config.ts";
import { withGradient } from "../base/gradient.ts";
import type { Random } from "../base/random.ts";

/** What a rotation multiplies by. */
export interface Rotation {
  /** Cosines of the angles, [T, d], or [B, 1, T, d] where each image has its own. */
  readonly cos: tf.Tensor;
  /** Sines of the angles, of the same shape. */
  readonly sin: tf.Tensor;
  /** Whether nothing is learned through the angles, so that {@linkcode rotate} needs no gradient for them. */
  readonly fixed?: boolean;
}

/**
 * Patch centres.
 *
 * @param rows Patches down.
 * @param columns Patches across.
 * @returns [rows · columns, 2], (y, x) in [−1, 1], row by row.
 */
export function patchCoordinates(rows: number, columns: number): Float32Array {
  const centres = new Float32Array(rows * columns * 2);
  for (let n = 0; n < rows * columns; n++) {
    centres[2 * n] = 2 * (Math.floor(n / columns) + 0.5) / rows - 1;
    centres[2 * n + 1] = 2 * (n % columns + 0.5) / columns - 1;
  }
  return centres;
}

/**
 * Frequencies of an axis, times 2π.
 *
 * @param headSize d, a multiple of 4.
 * @param theta The base.
 * @returns d / 4 numbers: 2π / theta^(4k / d).
 */
export function ropeFrequencies(headSize: number, theta: number): number[] {
  return Array.from({ length: headSize / 4 }, (_, k) => 2 * Math.PI / theta ** (4 * k / headSize));
}

/** The random numbers of one training forward's coordinates; each present where the configuration asks for it. */
export type RopeDraws = { [name in "ropeShift" | "ropeJitter" | "ropeRescale"]?: tf.Tensor };

/**
 * Draws the augmentation of the coordinates.
 *
 * @param config The network: `posEmbedShift`, `posEmbedJitter`, `posEmbedRescale`.
 * @param random Where the numbers come from.
 * @returns `ropeShift` [2] (added), `ropeJitter` [2] and `ropeRescale` [1] (factors); the caller disposes of them.
 */
export function ropeDraws(config: NepaConfig, random: Random): RopeDraws {
  const { posEmbedShift: shift, posEmbedJitter: jitter, posEmbedRescale: rescale } = config;
  const factor = (limit: number) => Math.exp(random.uniform(-Math.log(limit), Math.log(limit)));
  return {
    ...(shift !== null && { ropeShift: tf.tensor1d([0, 1].map(() => random.uniform(-shift, shift))) }),
    ...(jitter !== null && { ropeJitter: tf.tensor1d([0, 1].map(() => factor(jitter))) }),
    ...(rescale !== null && { ropeRescale: tf.tensor1d([factor(rescale)]) }),
  };
}

/**
 * Moves and stretches coordinates: shift, then jitter, then rescale, so that the shift is stretched too.
 *
 * @param coordinates [N, 2].
 * @param draws From {@linkcode ropeDraws}.
 * @returns [N, 2].
 */
export function augmentCoordinates(coordinates: tf.Tensor2D, draws: RopeDraws): tf.Tensor2D {
  const { ropeShift = 0, ropeJitter = 1, ropeRescale = 1 } = draws;
  return tf.mul(tf.mul(tf.add(coordinates, ropeShift), ropeJitter), ropeRescale);
}

/**
 * Cosines and sines for a grid of patches behind a CLS token, which stays as it is (cosine 1, sine 0).
 *
 * @param config The network.
 * @param rows Patches down.
 * @param columns Patches across.
 * @param draws A training forward's augmentation; left out, the tables are computed in JavaScript, in float64.
 * @returns [T, d] each: an angle is 2π · coordinate / theta^(4k / d), the d / 4 of y, the d / 4 of x, both again.
 *
 * @example
 * ```ts
 * import { nepaConfig, rotation, tf, useEngine } from "nepa";
 * import { assertEquals } from "@std/assert";
 *
 * await useEngine("cpu");
 * const { cos, sin } = rotation(nepaConfig({ preset: "mini" }), 4, 4);
 * assertEquals([cos.shape, sin.shape], [[17, 32], [17, 32]]);
 * tf.dispose([cos, sin]);
 * ```
 */
export function rotation(
  config: NepaConfig,
  rows: number,
  columns: number,
  draws?: RopeDraws,
): Rotation & { readonly cos: tf.Tensor2D; readonly sin: tf.Tensor2D } {
  const headSize = config.hiddenSize / config.numAttentionHeads, patches = rows * columns;
  const frequencies = ropeFrequencies(headSize, config.ropeTheta), centres = patchCoordinates(rows, columns);
  if (draws?.ropeShift || draws?.ropeJitter || draws?.ropeRescale) {
    const coordinates = augmentCoordinates(tf.tensor2d(centres, [patches, 2]), draws);
    const angles = coordinates.reshape([patches, 2, 1]).mul(tf.tensor1d(frequencies)) // [N, 2, d/4]
      .reshape([patches, headSize / 2]); // [N, d/2]
    const all = tf.pad(tf.concat([angles, angles], 1), [[1, 0], [0, 0]]) as tf.Tensor2D; // CLS: angle 0; [T, d]
    return { cos: tf.cos(all), sin: tf.sin(all) };
  }
  const cos = new Float32Array((patches + 1) * headSize).fill(1, 0, headSize);
  const sin = new Float32Array((patches + 1) * headSize);
  for (let i = headSize; i < cos.length; i++) {
    const n = Math.floor(i / headSize) - 1, pair = i % (headSize / 2);
    const axis = Math.floor(pair / frequencies.length);
    const angle = centres[2 * n + axis]! * frequencies[pair % frequencies.length]!;
    cos[i] = Math.cos(angle);
    sin[i] = Math.sin(angle);
  }
  const shape: [number, number] = [patches + 1, headSize];
  return { cos: tf.tensor2d(cos, shape), sin: tf.tensor2d(sin, shape), fixed: true };
}

/** (a, b) of the two halves of the last axis becomes (−b, a): a quarter turn. */
function quarterTurn(x: tf.Tensor): tf.Tensor {
  const [a, b] = tf.split(x, 2, -1);
  return tf.concat([tf.neg(b!), a!], -1);
}

/**
 * Rotates the pairs (x[k], x[k + d/2]) of the last axis.
 *
 * @param x [..., T, d].
 * @param by Cosines and sines, the same in both halves of a row.
 * @returns Like `x`: (a·cos − b·sin, b·cos + a·sin) for a pair (a, b). Its gradient is the rotation back,
 * and one for the angles where they are not `fixed`.
 */
export function rotate(x: tf.Tensor4D, by: Rotation): tf.Tensor4D {
  const turned = () => tf.add(tf.mul(x, by.cos), tf.mul(quarterTurn(x), by.sin)) as tf.Tensor4D;
  if (!by.fixed) return turned(); // the angles have gradients too
  return withGradient<tf.Tensor4D>(
    [x],
    () => ({ value: turned(), saved: [by.cos, by.sin] }),
    (dy, [cos, sin]) => tf.sub(tf.mul(dy, cos!), tf.mul(quarterTurn(dy), sin!)),
  );
}
