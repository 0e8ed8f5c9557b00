/**
 * Operations that networks and losses are made of; the frequent ones bring hand-written gradients, which run fewer operations
 * than the chain rule.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";
import { expect } from "../base/check.ts";
import { withGradient } from "../base/gradient.ts";
import type { Activation } from "./config.ts";

/**
 * x · weight + bias.
 *
 * @param x [n, in].
 * @param weight [in, out].
 * @param bias [out], or none.
 * @returns [n, out].
 *
 * @example
 * ```ts
 * import { linear, tf, useEngine } from "nepa";
 * import { assertEquals } from "@std/assert";
 *
 * await useEngine("cpu");
 * const [x, weight, bias] = [tf.tensor2d([[1, 2]]), tf.tensor2d([[3], [4]]), tf.tensor1d([5])];
 * const y = linear(x, weight, bias);
 * assertEquals(y.dataSync()[0], 1 * 3 + 2 * 4 + 5);
 * tf.dispose([x, weight, bias, y]);
 * ```
 */
export function linear(x: tf.Tensor2D, weight: tf.Tensor2D, bias?: tf.Tensor): tf.Tensor2D {
  const product = withGradient<tf.Tensor2D>(
    [x, weight],
    () => ({ value: tf.matMul(x, weight), saved: [x, weight] }),
    (dy, [x, weight]) => [
      tf.matMul(dy, weight!, false, true), // [n, in]
      tf.matMul(x!, dy, true, false), // [in, out]
    ],
  );
  return bias ? tf.add(product, bias) : product;
}

/**
 * Mean 0 and variance 1 along the last axis, then a factor and a summand where given.
 *
 * @param x [..., n].
 * @param eps Added to the variance.
 * @param weight [n], or none.
 * @param bias [n], or none.
 * @returns Like `x`.
 *
 * @example
 * ```ts
 * import { layerNorm, tf, useEngine } from "nepa";
 * import { assertEquals } from "@std/assert";
 *
 * await useEngine("cpu");
 * const y = tf.tidy(() => layerNorm(tf.tensor2d([[1, 3]]), 1e-12));
 * assertEquals([...y.dataSync()].map(Math.round), [-1, 1]);
 * y.dispose();
 * ```
 */
export function layerNorm<T extends tf.Tensor>(x: T, eps: number, weight?: tf.Tensor, bias?: tf.Tensor): T {
  const normed = withGradient<tf.Tensor>([x], () => {
    const centred = tf.sub(x, tf.mean(x, -1, true));
    const scale = tf.rsqrt(tf.add(tf.mean(tf.square(centred), -1, true), eps)); // [..., 1]
    const value = tf.mul(centred, scale);
    return { value, saved: [value, scale] };
  }, (dy, [y, scale]) => {
    const along = tf.mul(y!, tf.mean(tf.mul(dy, y!), -1, true));
    return tf.mul(tf.sub(tf.sub(dy, tf.mean(dy, -1, true)), along), scale!);
  });
  const scaled = weight ? tf.mul(normed, weight) : normed;
  return (bias ? tf.add(scaled, bias) : scaled) as T;
}

/** x · Φ(x), Φ the normal distribution function by the error function. */
function gelu(x: tf.Tensor): tf.Tensor {
  const phi = (x: tf.Tensor) => tf.mul(tf.add(tf.erf(tf.mul(x, Math.SQRT1_2)), 1), 0.5);
  return withGradient([x], () => ({ value: tf.mul(x, phi(x)), saved: [x] }), (dy, [x]) => {
    const density = tf.mul(tf.exp(tf.mul(tf.square(x!), -0.5)), 1 / Math.sqrt(2 * Math.PI));
    return tf.mul(dy, tf.add(phi(x!), tf.mul(x!, density)));
  });
}

/** x · Φ(x) by the hyperbolic tangent. */
function geluNew(x: tf.Tensor): tf.Tensor {
  const inner = tf.mul(tf.add(x, tf.mul(tf.pow(x, 3), 0.044715)), Math.sqrt(2 / Math.PI));
  return tf.mul(tf.mul(x, 0.5), tf.add(tf.tanh(inner), 1));
}

const silu = (x: tf.Tensor): tf.Tensor => tf.mul(x, tf.sigmoid(x));

export const activations: Record<Activation, (x: tf.Tensor) => tf.Tensor> = {
  gelu,
  gelu_new: geluNew,
  silu,
  swish: silu,
  relu: (x) => tf.relu(x),
  selu: (x) => tf.selu(x),
};

/**
 * Vectors of length 1 along the last axis: x / max(‖x‖, 1e-12). A zero vector has a finite gradient too.
 *
 * @param x [..., D].
 * @returns [..., D].
 *
 * @example
 * ```ts
 * import { tf, unit, useEngine } from "nepa";
 * import { assertAlmostEquals } from "@std/assert";
 *
 * await useEngine("cpu");
 * const x = unit(tf.tensor1d([3, 4]));
 * assertAlmostEquals(x.dataSync()[1]!, 0.8, 1e-6);
 * x.dispose();
 * ```
 */
export function unit<T extends tf.Tensor>(x: T): T {
  return withGradient<T>([x], () => {
    const norm = tf.sqrt(tf.sum(tf.square(x), -1, true)), scale = tf.reciprocal(tf.maximum(norm, 1e-12)); // [..., 1]
    const value: T = tf.mul(x, scale);
    return { value, saved: [value, scale] };
  }, (dy, [y, scale]) => tf.mul(tf.sub(dy, tf.mul(y!, tf.sum(tf.mul(dy, y!), -1, true))), scale!));
}

/** (x − mean) / (standard deviation + 1e-4) of each dimension, over all images and positions. */
export function standardized(x: tf.Tensor3D): tf.Tensor3D {
  const centred = tf.sub(x, tf.mean(x, [0, 1], true)); // means [1, 1, D]
  const deviation = tf.sqrt(tf.mean(tf.square(centred), [0, 1], true));
  return tf.div(centred, tf.add(deviation, 1e-4)) as tf.Tensor3D;
}

/**
 * How far two tensors lie apart, number by number: half the square up to 1, then the distance less a half (PyTorch's
 * `smooth_l1_loss`, not yet its mean).
 *
 * @param a Of any shape.
 * @param b Of the same.
 * @returns Like `a`.
 *
 * @example
 * ```ts
 * import { smoothL1, tf, useEngine } from "nepa";
 * import { assertEquals } from "@std/assert";
 *
 * await useEngine("cpu");
 * const apart = smoothL1(tf.tensor1d([1, 3]), tf.tensor1d([0, 0]));
 * assertEquals([...apart.dataSync()], [0.5, 2.5]);
 * apart.dispose();
 * ```
 */
export function smoothL1<T extends tf.Tensor>(a: T, b: T): T {
  return withGradient<T>([a, b], () => {
    const apart = tf.sub(a, b), near = tf.clipByValue(apart, -1, 1);
    const value: T = tf.mul(near, tf.sub(apart, tf.mul(near, 0.5)));
    return { value, saved: [near] };
  }, (dy, [near]) => [tf.mul(dy, near!), tf.neg(tf.mul(dy, near!))]);
}

/**
 * Picks entries of an axis by indices that may be arguments of a compiled function, with a gradient, on every engine.
 *
 * @param x What is picked from.
 * @param indices int32, each from 0 to below the axis' length; they are not checked. With `batchDims` their first axes are
 * those of `x`, and each image picks its own entries.
 * @param axis Which axis is picked from. Default: `batchDims`.
 * @param batchDims How many first axes `x` and `indices` share. Default 0.
 * @returns `x` with the axis replaced by the axes of `indices` after the shared ones.
 * @throws {RangeError} If the shared axes differ, or `axis` is one of them.
 *
 * @example
 * ```ts
 * import { gather, tf, useEngine } from "nepa";
 * import { assertEquals } from "@std/assert";
 *
 * await useEngine("cpu");
 * const rows = gather(tf.tensor3d([[[1], [2]], [[3], [4]]]), tf.tensor2d([[1], [0]], [2, 1], "int32"), 1, 1);
 * assertEquals(rows.arraySync(), [[[2]], [[3]]]);
 * rows.dispose();
 * ```
 */
export function gather(x: tf.Tensor, indices: tf.Tensor, axis?: number, batchDims: number = 0): tf.Tensor {
  const along = axis ?? batchDims, shared = x.shape.slice(0, batchDims);
  expect(indices.dtype === "int32", "gather", "int32 indices", indices.dtype);
  expect(along >= batchDims && along < x.rank, "gather: axis", `from ${batchDims} to below ${x.rank}`, along);
  const alike = indices.shape.slice(0, batchDims).join() === shared.join();
  expect(alike, "gather", `indices [${shared}, …], as x [${x.shape}] begins`, `[${indices.shape}]`);
  return tf.gather(x, indices, along, batchDims);
}

/**
 * Cross-entropy of classification, mean over the batch.
 *
 * @param logits [B, K].
 * @param targets Class numbers [B] (int32), or shares of the classes [B, K], each row of which sums to 1.
 * @param smoothing Share of the target that goes to all classes alike, 0 to 1. Default 0.
 * @returns A number from 0 up, in nats.
 *
 * @example
 * ```ts
 * import { crossEntropy, tf, useEngine } from "nepa";
 * import { assertAlmostEquals } from "@std/assert";
 *
 * await useEngine("cpu");
 * const loss = crossEntropy(tf.tensor2d([[0, 0], [0, 0]]), tf.tensor1d([0, 1], "int32"));
 * assertAlmostEquals(loss.dataSync()[0]!, Math.log(2), 1e-6);
 * ```
 */
export function crossEntropy(
  logits: tf.Tensor2D,
  targets: tf.Tensor1D | tf.Tensor2D,
  smoothing: number = 0,
): tf.Scalar {
  const classes = logits.shape[1];
  return tf.tidy(() => {
    const shares = targets.rank === 1
      ? tf.oneHot(tf.cast(targets, "int32"), classes).cast("float32")
      : targets as tf.Tensor2D;
    const smoothed = smoothing > 0 ? tf.add(tf.mul(shares, 1 - smoothing), smoothing / classes) : shares;
    return tf.neg(tf.mean(tf.sum(tf.mul(smoothed, tf.logSoftmax(logits)), 1)));
  });
}

/**
 * Cross-entropy of pixels, mean over those of the batch that are not ignored.
 *
 * @param logits [B, H, W, K].
 * @param masks [B, H, W] int32: class numbers.
 * @param ignore What is no class.
 * @returns A number from 0 up, in nats; 0 where all are ignored.
 */
export function pixelCrossEntropy(logits: tf.Tensor4D, masks: tf.Tensor3D, ignore: number): tf.Scalar {
  const K = logits.shape[3], rows = logits.reshape([-1, K]), labels = masks.reshape([-1, 1]); // [B·H·W, K], [B·H·W, 1]
  const counts = (labels: tf.Tensor) => tf.notEqual(labels, ignore).cast("float32");
  const hits = (labels: tf.Tensor) =>
    tf.mul(tf.equal(labels, tf.range(0, K, 1, "int32")).cast("float32"), counts(labels)); // [B·H·W, K]
  const weight = (labels: tf.Tensor) => tf.div(1, tf.maximum(tf.sum(counts(labels)), 1));
  return withGradient<tf.Scalar>([rows], () => {
    const logs = tf.logSoftmax(rows as tf.Tensor2D);
    const value: tf.Scalar = tf.neg(tf.mul(tf.sum(tf.mul(logs, hits(labels))), weight(labels)));
    return { value, saved: [logs, labels] };
  }, (dy, [logs, labels]) => {
    const change = tf.sub(tf.mul(tf.exp(logs!), counts(labels!)), hits(labels!));
    return tf.mul(change, tf.mul(dy, weight(labels!)));
  });
}
