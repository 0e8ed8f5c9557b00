/** Which token may see which. @module */
import * as tf from "@tensorflow/tfjs";
import { expect, isCount } from "../base/check.ts";

/**
 * The causal mask: token i sees tokens 0 to i.
 *
 * @param tokens T, the number of tokens, at least 1.
 * @returns [T, T], 0 on and below the diagonal, −Infinity above, to be added to the attention scores.
 * @throws {RangeError} If `tokens` is not an integer from 1 up.
 *
 * @example
 * ```ts
 * import { causalMask, useEngine } from "nepa";
 * import { assertEquals } from "@std/assert";
 *
 * await useEngine("cpu");
 * const mask = causalMask(2);
 * assertEquals(mask.arraySync(), [[0, -Infinity], [0, 0]]);
 * mask.dispose();
 * ```
 */
export function causalMask(tokens: number): tf.Tensor2D {
  expect(isCount(tokens), "causalMask", "a number of tokens from 1 up", tokens);
  const values = new Float32Array(tokens * tokens);
  for (let i = 0; i < tokens; i++) values.fill(-Infinity, i * tokens + i + 1, (i + 1) * tokens);
  return tf.tensor2d(values, [tokens, tokens]);
}
