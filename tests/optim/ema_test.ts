import { assertEquals, assertThrows } from "@std/assert";
import * as tf from "@tensorflow/tfjs";
import { Ema } from "../../lib/optim/ema.ts";
import { useEngine } from "../../lib/engine/mod.ts";

await useEngine("cpu");

Deno.test("the first update copies the weights to the bit, the next ones move towards them", () => {
  const weight = tf.variable(tf.tensor1d([0.1, 1e-20, -3])),
    average = tf.variable(tf.tensor1d([7, 7, 7]), false);
  const ema = new Ema(new Map([["w", weight]]), new Map([["w", average]]));
  const tensors = tf.memory().numTensors;
  tf.tidy(() => ema.update(tf.scalar(Ema.decayAt(0, 0.5))));
  assertEquals(average.dataSync(), weight.dataSync());
  tf.tidy(() => {
    weight.assign(tf.tensor1d([0.3, 0, 1]));
    ema.update(tf.scalar(Ema.decayAt(1, 0.5)));
  });
  assertEquals([...average.dataSync()].map((x) => Math.fround(x)), [0.2, 5e-21, -1].map(Math.fround));
  assertEquals(tf.memory().numTensors, tensors);
  tf.dispose([weight, average]);
});

Deno.test("averages of other names or shapes are refused", () => {
  const weights = new Map([["w", tf.variable(tf.zeros([2]))]]), other = tf.variable(tf.zeros([3]));
  assertThrows(
    () => new Ema(weights, new Map()),
    RangeError,
    "w: expected an average of shape [2], got none",
  );
  assertThrows(
    () => new Ema(weights, new Map([["w", other]])),
    RangeError,
    "expected an average of shape [2], got 3",
  );
  tf.dispose([...weights.values(), other]);
});
