/** The objective: each position's output is to point where the next position's embedding points. @module */
import * as tf from "@tensorflow/tfjs";
import { withGradient } from "./gradient.ts";

/** The value, cut off from the gradient. */
function stopped(x: tf.Tensor3D): tf.Tensor3D {
  return withGradient([x], () => ({ value: tf.clone(x) }), (dy) => tf.zerosLike(dy));
}

/** x / max(‖x‖, 1e-12) along the last axis; a zero vector has a finite gradient too. */
function unit(x: tf.Tensor3D): tf.Tensor3D {
  return withGradient<tf.Tensor3D>([x], () => {
    const scale = tf.reciprocal(tf.maximum(tf.sqrt(tf.sum(tf.square(x), -1, true)), 1e-12)); // [B, T, 1]
    const value: tf.Tensor3D = tf.mul(x, scale);
    return { value, saved: [value, scale] };
  }, (dy, [y, scale]) => tf.mul(tf.sub(dy, tf.mul(y!, tf.sum(tf.mul(dy, y!), -1, true))), scale!));
}

/** The two switches of the objective; the third of the method, the causal mask, is `forward`'s. */
export interface NepaLossOptions {
  /** Compare with the next position's embedding (true) or with the same position's. Default true. */
  shift?: boolean;
  /** Let no gradient into the embeddings as targets (true), or let it. Default true. */
  stopGradient?: boolean;
}

/**
 * The loss of next-embedding prediction: minus the mean cosine between predictions and the embeddings they predict
 * (arXiv 2512.16922, section 3; `prediction_loss` of the official code).
 *
 * With the shift the prediction at position t is compared with the embedding at t + 1, so that CLS is never a target
 * and the last prediction is unused. −1 is perfect prediction and also collapse: measure that apart.
 *
 * @param outputs `embeddings` and `predictions`, both [B, T, D], as `Nepa.forward` gives them.
 * @param options `shift` and `stopGradient`, both true.
 * @returns A number from −1 to 1.
 * @throws {RangeError} If the shapes differ, or there is one token only and a shift.
 *
 * @example
 * ```ts
 * import { nepaLoss, tf, useEngine } from "nepa";
 * import { assertAlmostEquals } from "@std/assert";
 *
 * await useEngine("cpu");
 * const embeddings = tf.tensor3d([[[1, 0], [0, 2]]]), predictions = tf.tensor3d([[[0, 3], [1, 1]]]);
 * assertAlmostEquals(nepaLoss({ embeddings, predictions }).dataSync()[0]!, -1, 1e-6);
 * ```
 */
export function nepaLoss(
  outputs: { readonly embeddings: tf.Tensor3D; readonly predictions: tf.Tensor3D },
  options: NepaLossOptions = {},
): tf.Scalar {
  const { embeddings, predictions } = outputs, { shift = true, stopGradient = true } = options;
  const [batch, tokens, size] = embeddings.shape;
  if (embeddings.shape.join() !== predictions.shape.join()) {
    throw new RangeError(
      `nepaLoss: expected predictions like the embeddings [${embeddings.shape}], got [${predictions.shape}]`,
    );
  }
  if (shift && tokens < 2) throw new RangeError("nepaLoss: expected 2 tokens or more to shift, got 1");
  return tf.tidy(() => {
    const targets = stopGradient ? stopped(embeddings) : embeddings;
    if (!shift) return cosineLoss(predictions, targets);
    const compared: [number, number, number] = [batch, tokens - 1, size];
    return cosineLoss(tf.slice(predictions, [0, 0, 0], compared), tf.slice(targets, [0, 1, 0], compared));
  });
}

function cosineLoss(predictions: tf.Tensor3D, targets: tf.Tensor3D): tf.Scalar {
  const cosines = tf.sum(tf.mul(unit(predictions), unit(targets)), -1); // [B, T or T − 1]
  return tf.neg(tf.mean(cosines));
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
