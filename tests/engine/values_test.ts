import { assertEquals } from "@std/assert";
import * as tf from "@tensorflow/tfjs";
import { type EngineName, useEngine } from "../../lib/engine/mod.ts";
import { type Operation, operations, spaced } from "../support/operations.ts";
import { unexpected } from "../support/refused.ts";

/** An operation's result, or why there is none. */
function resultOf({ of, shape }: Operation, values: tf.TypedArray, dtype: tf.NumericDataType) {
  try {
    return tf.tidy(() => {
      const y = of(tf.tensor(values, shape, dtype));
      return { shape: y.shape, dtype: y.dtype, values: y.dataSync() };
    });
  } catch (error) {
    return (error as Error).message;
  }
}

type Result = ReturnType<typeof resultOf>;

/** Of floats; of integers too where numbers are only moved. */
function results(): Map<string, Result> {
  return new Map(
    operations().flatMap((operation): [string, Result][] => {
      const values = spaced(operation), integers = Int32Array.from(values, (_, i) => (i * 7) % 11 - 5);
      const floats: [string, Result] = [operation.name, resultOf(operation, values, "float32")];
      if (!operation.moves) return [floats];
      return [floats, [`${operation.name}, of integers`, resultOf(operation, integers, "int32")]];
    }),
  );
}

/** What is wrong with a result; what plain JavaScript lacks is not compared. */
function fault(expected: Result, got: Result | undefined): string | undefined {
  if (typeof expected === "string" || typeof got === "string" || !got) {
    return typeof got === "string" && typeof expected !== "string" ? got : undefined;
  }
  if (`${got.shape}` !== `${expected.shape}` || got.dtype !== expected.dtype) {
    return `expected ${expected.dtype} [${expected.shape}], got ${got.dtype} [${got.shape}]`;
  }
  const differences = Array.from(expected.values, (value, i) => Math.abs(value - got.values[i]!));
  const worst = differences.findIndex((difference, i) =>
    !(difference <= 1e-4 * Math.max(1, Math.abs(expected.values[i]!)))
  );
  return worst < 0 ? undefined : `expected ${expected.values[worst]}, got ${got.values[worst]}`;
}

const row = (x: tf.Tensor) => tf.reshape(x, [1, 1, 3, 1]) as tf.Tensor4D;

/** Of three numbers, one of which is not a number: [2, NaN, 0.5]. */
const OF_NAN: Readonly<Record<string, (x: tf.Tensor) => tf.Tensor>> = {
  minimum: (x) => tf.minimum(x, 1),
  "minimum, second": (x) => tf.minimum(tf.scalar(1), x),
  maximum: (x) => tf.maximum(x, 1),
  "maximum, second": (x) => tf.maximum(tf.scalar(1), x),
  clipByValue: (x) => tf.clipByValue(x, 0, 1),
  relu: (x) => tf.relu(x),
  relu6: (x) => tf.relu6(x),
  leakyRelu: (x) => tf.leakyRelu(x),
  elu: (x) => tf.elu(x),
  prelu: (x) => tf.prelu(x, tf.scalar(0.1)),
  sign: (x) => tf.sign(x),
  max: (x) => tf.max(x),
  min: (x) => tf.min(x),
  mean: (x) => tf.mean(x),
  softmax: (x) => tf.softmax(x),
  logSumExp: (x) => tf.logSumExp(x),
  cumsum: (x) => tf.cumsum(x),
  norm: (x) => tf.norm(x),
  avgPool: (x) => tf.avgPool(row(x), [1, 3], 1, "valid"),
  maxPool: (x) => tf.maxPool(row(x), [1, 3], 1, "valid"),
  topk: (x) => tf.topk(x, 1).values,
  resizeBilinear: (x) => tf.image.resizeBilinear(row(x), [1, 5]),
  "fused.matMul": (x) =>
    tf.fused.matMul({ a: tf.reshape(x, [3, 1]), b: tf.ones([1, 1]), activation: "relu" }),
  "fused.conv2d": (x) => {
    const image = row(x), filter = tf.ones([1, 1, 1, 1]) as tf.Tensor4D;
    return tf.fused.conv2d({ x: image, filter, strides: 1, pad: "valid", activation: "relu" });
  },
};

function faultOfNaN(f: (x: tf.Tensor) => tf.Tensor): string | undefined {
  const values = tf.tidy(() => f(tf.tensor1d([2, NaN, 0.5])).dataSync());
  return values.some(Number.isNaN) ? undefined : `gives ${values.map((x) => Number(x.toFixed(3)))}`;
}

await useEngine("cpu");
const expected = results();

for (const name of ["tensorflow", "wasm"] as EngineName[]) {
  Deno.test(`every operation's value on ${name} is plain JavaScript's, or refused as the list says`, async () => {
    await useEngine(name);
    const got = results();
    const faults = [...expected].map(([name, value]) => [name, fault(value, got.get(name))] as const);
    assertEquals(unexpected("values", name, faults), []);
  });
}

for (const name of ["tensorflow", "wasm", "cpu"] as EngineName[]) {
  Deno.test(`no operation on ${name} hides a NaN but those of the list`, async () => {
    await useEngine(name);
    const faults = Object.entries(OF_NAN).map(([name, f]) => [name, faultOfNaN(f)] as const);
    assertEquals(unexpected("nan", name, faults), []);
  });
}
