import { assert } from "@std/assert";
import * as tf from "@tensorflow/tfjs";
import { fixtures, ways } from "../support/parity.ts";

for (const { name: way, open, missing } of ways) {
  const ignore = missing !== undefined;
  for (const [fixture, measure] of fixtures) {
    Deno.test(`${fixture} agrees with the official code on ${way}`, { ignore }, async () => {
      const compile = await open(), tensors = tf.memory().numTensors;
      const measures = await measure(compile);
      const worse = measures.filter(({ difference, tolerance }) => !(difference <= tolerance));
      assert(measures.length > 0 && worse.length === 0, JSON.stringify(worse, null, 1));
      assert(tf.memory().numTensors === tensors, `${tf.memory().numTensors - tensors} tensors left over`);
    });
  }
}
