/** Tensors for the tests of compiled functions. @module */
import * as tf from "@tensorflow/tfjs";
import { Random } from "../../lib/base/random.ts";

/** Normal numbers, the same for a label. */
export function normal(shape: number[], label: string, std = 1): tf.Tensor {
  const random = new Random(7, label), size = shape.reduce((a, b) => a * b, 1);
  return tf.tensor(Float32Array.from({ length: size }, () => random.normal(0, std)), shape);
}

/** A variable of such numbers. */
export function variable(shape: number[], label: string, std = 0.2): tf.Variable {
  return tf.tidy(() => tf.variable(normal(shape, label, std)));
}

/** Of two tensors of one shape. */
export function largestDifference(a: tf.Tensor, b: tf.Tensor): number {
  return tf.tidy(() => tf.max(tf.abs(tf.sub(a, b))).dataSync()[0]!);
}
