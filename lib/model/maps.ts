/**
 * Operations on maps [B, H, W, C], made of products, so that their gradients are right and fast on every engine: convolutions,
 * resizing, pooling, batch norm.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";
import { bilinear, currentEngine } from "@nepa/engine";
import { expect } from "../base/check.ts";
import { stopGradient, withGradient } from "../base/gradient.ts";

/** PyTorch's defaults. */
const EPS = 1e-5, MOMENTUM = 0.1;

/** Every place alone, as rows: [B, H, W, C] to [B·H·W, C]. */
const rowsOf = (x: tf.Tensor4D): tf.Tensor2D => x.reshape([-1, x.shape[3]]) as tf.Tensor2D;

/**
 * A convolution with a filter [1, 1, C, C'] or [3, 3, C, C'], beyond whose edges lie zeros.
 *
 * @param x [B, H, W, C].
 * @param filter Its weights.
 * @returns [B, H, W, C'].
 */
export function convolve(x: tf.Tensor4D, filter: tf.Tensor4D): tf.Tensor4D {
  const [batch, height, width, C] = x.shape, [side, , , outputs] = filter.shape;
  const shape: [number, number, number, number] = [batch, height, width, outputs];
  if (side > 1 && currentEngine().name === "tensorflow") {
    return tf.conv2d(x, filter, 1, "same");
  }
  const edge = (side - 1) / 2, padded = tf.pad(x, [[0, 0], [edge, edge], [edge, edge], [0, 0]]);
  const taps = Array.from({ length: side * side }, (_, tap) => {
    const from = [0, Math.floor(tap / side), tap % side, 0];
    return rowsOf(tf.slice(padded, from, x.shape)); // [B·H·W, C]
  });
  const weights = filter.reshape([side * side * C, outputs]) as tf.Tensor2D; // [taps·C, C']
  return tf.matMul(tf.concat(taps, 1) as tf.Tensor2D, weights).reshape(shape);
}

/**
 * A transposed convolution that makes four places of each (PyTorch's `ConvTranspose2d(C, C', 2, 2)`).
 *
 * @param x [B, H, W, C].
 * @param filter [C, 2, 2, C'].
 * @param bias [C'].
 * @returns [B, 2·H, 2·W, C'].
 */
export function unfold(x: tf.Tensor4D, filter: tf.Tensor4D, bias: tf.Tensor): tf.Tensor4D {
  const [batch, height, width, C] = x.shape, outputs = filter.shape[3];
  const product = tf.matMul(rowsOf(x), filter.reshape([C, 4 * outputs]) as tf.Tensor2D); // [B·H·W, 4·C']
  const pairs = product.reshape([batch * height, width, 2, 2 * outputs]); // the row within a pair before the column
  const placed = tf.transpose(pairs, [0, 2, 1, 3]); // [B·H, 2, W, 2·C']
  return tf.add(placed.reshape([batch, 2 * height, 2 * width, outputs]), bias);
}

/** What each place of a side is made of: [to, from]. */
export type Side = tf.Tensor2D;

/** Bilinear resizing of a side, pixels' centres at halves (PyTorch's `align_corners=False`). */
export function resized(from: number, to: number): Side {
  return bilinear({ alignCorners: false, halfPixelCenters: true }, from, to);
}

/** Means of a side's windows, which overlap where their number does not divide it (PyTorch's `AdaptiveAvgPool2d`). */
export function pooled(from: number, to: number): Side {
  const weights = new Float32Array(to * from);
  for (let i = 0; i < to; i++) {
    const first = Math.floor(i * from / to), end = Math.ceil((i + 1) * from / to);
    weights.fill(1 / (end - first), i * from + first, i * from + end);
  }
  return tf.tensor2d(weights, [to, from]);
}

/**
 * Makes each side of a map anew: two small products.
 *
 * @param x [B, H, W, C].
 * @param down [H', H].
 * @param across [W', W].
 * @returns [B, H', W', C].
 */
export function resample(x: tf.Tensor4D, down: Side, across: Side): tf.Tensor4D {
  const [batch, height, width, C] = x.shape, [toHeight] = down.shape, [toWidth] = across.shape;
  const lines = x.reshape([batch * height, width, C]) as tf.Tensor3D;
  const wide = tf.matMul(tf.expandDims(across), lines).reshape([batch, height, toWidth * C]); // [B·H, W', C] to [B, H, W'·C]
  return tf.matMul(tf.expandDims(down), wide).reshape([batch, toHeight, toWidth, C]); // [B, H', W'·C]
}

/** The larger of each two by two places; a last odd one is left out (PyTorch's `MaxPool2d(2, 2)`). */
export function halved(x: tf.Tensor4D): tf.Tensor4D {
  return tf.maxPool(x, 2, 2, "valid");
}

/** The mean and the variance of each channel: the batch's own, or what has run along. */
export type Statistics = { mean: tf.Tensor; variance: tf.Tensor };

/**
 * Batch norm without its factors: mean 0 and variance 1 of each channel over all images and places.
 *
 * @param x [B, H, W, C].
 * @param running What to norm by instead.
 * @returns The normed map, and the batch's statistics, no gradient through them.
 * @throws {RangeError} If a channel has a single value to take statistics of.
 */
export function batchNorm(
  x: tf.Tensor4D,
  running?: Statistics,
): { normed: tf.Tensor4D; statistics: Statistics | undefined } {
  if (running) {
    const scale = tf.rsqrt(tf.add(running.variance, EPS));
    return { normed: tf.mul(tf.sub(x, running.mean), scale), statistics: undefined };
  }
  const rows = rowsOf(x), [count, channels] = rows.shape;
  expect(count > 1, "batch norm", "two values or more of a channel; take more images at a time", count);
  const mean = tf.mean(rows, 0, true), variance = tf.mean(tf.square(tf.sub(rows, mean)), 0, true); // [1, C]
  const normed = withGradient<tf.Tensor2D>([rows], () => {
    const scale = tf.rsqrt(tf.add(variance, EPS)), value: tf.Tensor2D = tf.mul(tf.sub(rows, mean), scale);
    return { value, saved: [value, scale] };
  }, (dy, [y, scale]) => {
    const along = tf.mul(y!, tf.mean(tf.mul(dy, y!), 0, true));
    return tf.mul(tf.sub(tf.sub(dy, tf.mean(dy, 0, true)), along), scale!);
  });
  const of = (x: tf.Tensor) => stopGradient(x.reshape([channels])); // [1, C] to [C]
  const unbiased = tf.mul(variance, count / (count - 1));
  return { normed: normed.reshape(x.shape), statistics: { mean: of(mean), variance: of(unbiased) } };
}

/** What has run along, moved towards a batch's statistics. */
export function moved(running: tf.Tensor, batch: tf.Tensor): tf.Tensor {
  return tf.add(tf.mul(running, 1 - MOMENTUM), tf.mul(batch, MOMENTUM));
}
