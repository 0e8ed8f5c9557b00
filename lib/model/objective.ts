/** The objective: each position's output is to point where the next position's embedding points. @module */
import * as tf from "@tensorflow/tfjs";
import { withGradient } from "../base/gradient.ts";

/** The value, cut off from the gradient. */
function stopped(x: tf.Tensor3D): tf.Tensor3D {
  return withGradient([x], () => ({ value: tf.clone(x) }), (dy) => tf.zerosLike(dy));
}

/** x / max(‖x‖, 1e-12) along the last axis; a zero vector has a finite gradient too. */
function unit(x: tf.Tensor3D): tf.Tensor3D {
  return withGradient<tf.Tensor3D>([x], () => {
    const norm = tf.sqrt(tf.sum(tf.square(x), -1, true)), scale = tf.reciprocal(tf.maximum(norm, 1e-12)); // [B, T, 1]
    const value: tf.Tensor3D = tf.mul(x, scale);
    return { value, saved: [value, scale] };
  }, (dy, [y, scale]) => tf.mul(tf.sub(dy, tf.mul(y!, tf.sum(tf.mul(dy, y!), -1, true))), scale!));
}

/** (x − mean) / (standard deviation + 1e-4) of each dimension, over all images and positions. */
export function standardized(x: tf.Tensor3D): tf.Tensor3D {
  const centred = tf.sub(x, tf.mean(x, [0, 1], true)); // means [1, 1, D]
  const deviation = tf.sqrt(tf.mean(tf.square(centred), [0, 1], true));
  return tf.div(centred, tf.add(deviation, 1e-4)) as tf.Tensor3D;
}

/** The switches of the objective; the third of the method, the causal mask, is `forward`'s. */
export interface NepaLossOptions {
  /** Compare with the next position's embedding (true) or with the same position's. Default true. */
  shift?: boolean;
  /** Let no gradient into the embeddings as targets (true), or let it. Default true. */
  stopGradient?: boolean;
  /**
   * Give every dimension of the targets mean 0 and standard deviation 1 over the batch, so that a cosine counts them alike
   * and their common direction not at all. Not in the paper; where a batch is computed in parts, over each part. Default false.
   */
  standardizeTargets?: boolean;
}

/**
 * The loss of next-embedding prediction: minus the mean cosine between predictions and the embeddings they predict
 * (arXiv 2512.16922, section 3; `prediction_loss` of the official code).
 *
 * With the shift the prediction at position t is compared with the embedding at t + 1, so that CLS is never a target
 * and the last prediction is unused. −1 is perfect prediction and also collapse: measure that apart.
 *
 * @param outputs `embeddings` [B, T, D] and `predictions`, of the same shape or without the last, as `Nepa.forward` gives them.
 * @param options `shift` and `stopGradient`, both true, and `standardizeTargets`, false.
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
  const { embeddings, predictions } = outputs;
  const { shift = true, stopGradient = true, standardizeTargets = false } = options;
  const [batch, tokens, size] = embeddings.shape;
  const given = predictions.shape[1] + (shift && predictions.shape[1] === tokens - 1 ? 1 : 0);
  if (embeddings.shape.join() !== [predictions.shape[0], given, predictions.shape[2]].join()) {
    throw new RangeError(
      `nepaLoss: expected predictions like the embeddings [${embeddings.shape}], got [${predictions.shape}]`,
    );
  }
  if (shift && tokens < 2) throw new RangeError("nepaLoss: expected 2 tokens or more to shift, got 1");
  return tf.tidy(() => {
    const targets = stopGradient ? stopped(embeddings) : embeddings;
    const count = shift ? tokens - 1 : tokens, compared: [number, number, number] = [batch, count, size];
    const predicted = shift ? tf.slice(predictions, [0, 0, 0], compared) : predictions;
    const next = shift ? tf.slice(targets, [0, 1, 0], compared) : targets;
    return cosineLoss(predicted, standardizeTargets ? standardized(next) : next);
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
