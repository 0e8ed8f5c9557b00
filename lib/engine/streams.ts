/** Parts of a batch that a compiled function computes side by side. @module */
import * as tf from "@tensorflow/tfjs";
import { currentEngine } from "./choose.ts";

/**
 * Applies a function to parts of a batch and joins what it gives: so many parts as the engine computes side by side, one
 * outside of its compiled functions, and where the batch cannot be cut into equal ones.
 *
 * @param batch How many rows there are.
 * @param part Computes `count` rows from `from` on; every tensor that it gives has them along its first axis.
 */
export function inStreams<T extends object>(batch: number, part: (from: number, count: number) => T): T {
  const streams = currentEngine().streams?.() ?? 1, count = batch / streams;
  if (streams === 1 || !Number.isInteger(count)) return part(0, batch);
  return joined(Array.from({ length: streams }, (_, i) => part(i * count, count)));
}

/** `count` rows from `from` on; the tensor itself if those are all. */
export function rowsOf<T extends tf.Tensor>(x: T, from: number, count: number): T {
  return count === x.shape[0] ? x : tf.slice(x, from, count);
}

function joined<T extends object>(parts: readonly T[]): T {
  const [first] = parts;
  if (first instanceof tf.Tensor) return tf.concat(parts as unknown as tf.Tensor[], 0) as unknown as T;
  const names = Object.keys(first!) as (keyof T)[];
  const made = names.map((name) => [name, joined(parts.map((one) => one[name] as object))] as const);
  return (Array.isArray(first) ? made.map(([, one]) => one) : Object.fromEntries(made)) as T;
}
