/** Each operation that the library calls, compiled: the same values and gradients as operation by operation. */
import { fileURLToPath } from "node:url";
import { assert, assertEquals } from "@std/assert";
import * as tf from "@tensorflow/tfjs";
import { useEngine } from "nepa";
import { Random } from "../../lib/base/random.ts";

const engine = await useEngine("tensorflow");

type Op = (...inputs: tf.Tensor[]) => tf.Tensor | tf.Tensor[];

interface Case {
  op: Op;
  inputs: () => tf.Tensor[];
}

function normal(...shape: number[]): tf.Tensor {
  const random = new Random(3, `ops ${shape}`), size = shape.reduce((a, b) => a * b, 1);
  return tf.tensor(Float32Array.from({ length: size }, () => random.normal(0, 1)), shape);
}

const positive = (...shape: number[]) => tf.tidy(() => tf.add(tf.abs(normal(...shape)), 0.5));
const integers = (...shape: number[]) => tf.tidy(() => tf.cast(tf.mul(normal(...shape), 4), "int32"));
const booleans = (...shape: number[]) => tf.tidy(() => tf.greater(normal(...shape), 0));
const one = (op: (x: tf.Tensor) => tf.Tensor | tf.Tensor[], input = () => normal(3, 4)): Case => ({
  op: op as Op,
  inputs: () => [input()],
});
const two = (op: (a: tf.Tensor, b: tf.Tensor) => tf.Tensor, b = () => positive(4)): Case => ({
  op: op as Op,
  inputs: () => [normal(3, 4), b()], // the second is broadcast
});
const squared = tf.customGrad((x, save) => {
  (save as tf.GradSaveFunc)([x as tf.Tensor]);
  const gradFunc = (dy: tf.Tensor, [x]: tf.Tensor[]) => tf.mul(dy, tf.mul(2, x!));
  return { value: tf.square(x as tf.Tensor), gradFunc: gradFunc as (dy: tf.Tensor) => tf.Tensor };
});

/** By name; what follows a comma tells cases of one operation apart. */
const cases: Record<string, Case> = {
  abs: one(tf.abs),
  add: two(tf.add),
  "add, int32": { op: tf.add as Op, inputs: () => [integers(3, 4), integers(4)] },
  addN: { op: (...all) => tf.addN(all), inputs: () => [normal(2, 3), positive(2, 3), normal(2, 3)] },
  "addN, of ten": {
    op: (x) => tf.addN(Array.from({ length: 10 }, (_, i) => tf.mul(x!, i))),
    inputs: () => [normal(5)],
  },
  all: one((x) => tf.all(x, 1), () => booleans(3, 4)),
  any: one((x) => tf.any(x, 1), () => booleans(3, 4)),
  argMax: one((x) => tf.argMax(x, -1)),
  cast: one((x) => [tf.cast(x, "int32"), tf.cast(x, "bool"), tf.cast(tf.cast(x, "int32"), "float32")]),
  "cast, of booleans": one((x) => [tf.cast(x, "float32"), tf.cast(x, "int32")], () => booleans(3, 4)),
  ceil: one(tf.ceil),
  clipByValue: one((x) => tf.clipByValue(x, -0.5, 0.75)),
  clone: one((x) => tf.clone(x)),
  concat: { op: (...all) => tf.concat(all, 1), inputs: () => [normal(2, 3), normal(2, 1), positive(2, 3)] },
  conv2d: one(
    (x) => tf.conv2d(x as tf.Tensor4D, tf.ones([3, 3, 2, 3]), 1, "same"),
    () => normal(2, 4, 5, 2),
  ),
  cos: one(tf.cos),
  customGrad: one((x) => squared(x)),
  div: two(tf.div),
  erf: one(tf.erf),
  eye: one((x) => tf.matMul(x, tf.eye(4))),
  exp: one(tf.exp),
  expandDims: one((x) => tf.expandDims(x, 1)),
  gather: one((x) => tf.gather(x, tf.tensor1d([2, 0, 2], "int32"), 1)),
  "gather, each row its own": one((x) =>
    tf.gather(x, tf.tensor2d([[2, 0], [1, 1], [3, 0]], [3, 2], "int32"), 1, 1)
  ),
  fill: one((x) => tf.mul(x, tf.fill([3, 4], 2))),
  floor: one(tf.floor),
  equal: two(tf.equal, () => integers(4)),
  greater: two(tf.greater),
  isFinite: one((x) => tf.isFinite(tf.div(x, tf.relu(x)))),
  isNaN: one((x) => tf.isNaN(tf.sqrt(x))),
  less: two(tf.less),
  log: one(tf.log, () => positive(3, 4)),
  logSoftmax: one((x) => tf.logSoftmax(x)),
  matMul: { op: (a, b) => tf.matMul(a!, b!), inputs: () => [normal(3, 4), normal(4, 2)] },
  "matMul, batched": { op: (a, b) => tf.matMul(a!, b!), inputs: () => [normal(2, 3, 4), normal(2, 4, 2)] },
  "matMul, one for all": {
    op: (a, b) => tf.matMul(a!, b!),
    inputs: () => [normal(2, 3, 4), normal(1, 4, 2)],
  },
  "matMul, transposed": {
    op: (a, b) => [tf.matMul(a!, a!, false, true), tf.matMul(b!, b!, true, false)],
    inputs: () => [normal(2, 3, 4), normal(3, 5)],
  },
  max: one((x) => tf.max(x, -1, true)),
  maxPool: one((x) => tf.maxPool(x as tf.Tensor4D, 2, 2, "valid"), () => normal(2, 4, 5, 2)),
  notEqual: two(tf.notEqual, () => integers(4)),
  range: one((x) => tf.mul(x, tf.range(0, 4))),
  maximum: two(tf.maximum, () => positive(3, 4)),
  mean: one((x) => [tf.mean(x, [0, 1]), tf.mean(x, -1, true)]),
  min: one((x) => tf.min(x, 0)),
  minimum: two(tf.minimum, () => positive(3, 4)),
  mul: two(tf.mul),
  "mul, int32": { op: tf.mul as Op, inputs: () => [integers(3, 4), integers(4)] },
  neg: one(tf.neg),
  norm: one((x) => [tf.norm(x), tf.norm(x, "euclidean", -1, true)]),
  oneHot: one((x) => tf.oneHot(tf.abs(x), 5), () => integers(6)),
  ones: one((x) => tf.add(x, tf.ones([3, 4]))),
  pad: one((x) => tf.pad(x, [[1, 0], [0, 2]])),
  pow: two(tf.pow, () => tf.tensor1d([2, 3, 1, 2])),
  reciprocal: one(tf.reciprocal),
  relu: one(tf.relu),
  reshape: one((x) => tf.reshape(x, [2, 6])),
  reverse: one((x) => tf.reverse(x, -1)),
  round: one(tf.round),
  rsqrt: one(tf.rsqrt, () => positive(3, 4)),
  scalar: one((x) => tf.mul(x, tf.scalar(3))),
  selu: one(tf.selu),
  sigmoid: one(tf.sigmoid),
  sign: one(tf.sign),
  sin: one(tf.sin),
  slice: one((x) => [tf.slice(x, [1, 0], [2, 3]), tf.slice(x, 2)]),
  softmax: one((x) => tf.softmax(x)),
  split: one((x) => tf.split(x, [1, 3], 1)),
  sqrt: one(tf.sqrt, () => positive(3, 4)),
  square: one(tf.square),
  squaredDifference: two(tf.squaredDifference, () => positive(3, 4)),
  squeeze: one((x) => tf.squeeze(x, [0, 2]), () => normal(1, 3, 1, 4)),
  stack: { op: (...all) => tf.stack(all, 1), inputs: () => [normal(2, 3), positive(2, 3)] },
  sub: two(tf.sub),
  sum: one((x) => [tf.sum(x, 0), tf.sum(x, [0, 1])]),
  "sum, of booleans": one((x) => tf.sum(x, 1), () => booleans(3, 4)),
  tanh: one(tf.tanh),
  tensor: one((x) => tf.add(x, tf.tensor([1, 2, 3, 4]))),
  tensor1d: one((x) => tf.mul(x, tf.tensor1d([1, 2, 3, 4], "int32"))),
  tensor2d: one((x) => tf.matMul(x, tf.tensor2d([[1], [2], [3], [4]]))),
  tensor3d: one((x) => tf.mul(x, tf.tensor3d([1, 2], [2, 1, 1]))),
  tensor4d: one((x) => tf.mul(x, tf.tensor4d([1, 2], [2, 1, 1, 1]))),
  tile: one((x) => tf.tile(x, [2, 1])),
  topk: one((x) => {
    const { values, indices } = tf.topk(x, 2);
    return [values, indices];
  }),
  transpose: one((x) => tf.transpose(x, [0, 2, 3, 1]), () => normal(2, 3, 4, 5)),
  "transpose, of five axes": one((x) => tf.transpose(x, [3, 0, 1, 4, 2]), () => normal(2, 3, 2, 4, 2)),
  unstack: one((x) => tf.unstack(x, 1)),
  where: {
    op: (c, a, b) => tf.where(c!, a!, b!),
    inputs: () => [booleans(3, 4), normal(3, 4), positive(3, 4)],
  },
  zeros: one((x) => tf.add(x, tf.zeros([4]))),
  zerosLike: one((x) => tf.maximum(x, tf.zerosLike(x))),
};

/** Operations, or cases, that tfjs has no gradient of. */
const WITHOUT_GRADIENT = new Set([
  "all",
  "any",
  "argMax",
  "cast",
  "equal",
  "greater",
  "notEqual",
  "isFinite",
  "isNaN",
  "less",
  "matMul, one for all",
  "oneHot",
  "topk",
]);

/** What it gives and, weighted and added up, its gradient by each float32 input. */
function passes(
  name: string,
  { op }: Case,
): (...inputs: tf.Tensor[]) => { values: tf.Tensor[]; gradients: tf.Tensor[] } {
  return (...inputs) => {
    const values = [op(...inputs)].flat(), floats = inputs.filter(({ dtype }) => dtype === "float32");
    if ([name, name.split(",")[0]!].some((n) => WITHOUT_GRADIENT.has(n)) || floats.length === 0) {
      return { values, gradients: [] };
    }
    const loss = (...given: tf.Tensor[]) => {
      const rest = [...given], all = inputs.map((input) => input.dtype === "float32" ? rest.shift()! : input);
      const sums = [op(...all)].flat().map((value) => {
        const weights = Array.from({ length: value.size }, (_, i) => Math.cos(i));
        return tf.sum(tf.mul(tf.cast(value, "float32"), tf.tensor(weights, value.shape)));
      });
      return tf.addN(sums) as tf.Scalar;
    };
    return { values, gradients: tf.grads(loss)(floats) };
  };
}

for (const [name, example] of Object.entries(cases)) {
  Deno.test(`${name} gives the same compiled, by XLA and as a graph, as op by op`, async () => {
    const tensors = tf.memory().numTensors, inputs = example.inputs(), run = passes(name, example);
    const expected = tf.tidy(() => run(...inputs));
    for (const xla of [true, false]) {
      const compiled = engine.compile(run, { xla, name }), got = await compiled(...inputs);
      for (const part of ["values", "gradients"] as const) {
        assertEquals(got[part].length, expected[part].length);
        for (const [i, tensor] of got[part].entries()) {
          const { dtype, shape } = expected[part][i]!, numbers = await expected[part][i]!.data();
          assertEquals([tensor.dtype, tensor.shape], [dtype, shape]);
          (await tensor.data()).forEach((value, j) => {
            const close = Math.abs(value - numbers[j]!) <= 2e-6 * Math.max(1, Math.abs(numbers[j]!));
            assert(
              close || Object.is(value, numbers[j]),
              `${part} ${i}, xla ${xla}: ${value}, not ${numbers[j]}`,
            );
          });
        }
      }
      tf.dispose(got);
      compiled.dispose();
    }
    tf.dispose([inputs, expected.values, expected.gradients]);
    assertEquals(tf.memory().numTensors, tensors);
  });
}

Deno.test("every operation that the library calls is among them", () => {
  const called = new Set<string>(),
    sources = (folder: string): string[] =>
      [...Deno.readDirSync(folder)].flatMap(({ name, isDirectory }) =>
        isDirectory ? sources(`${folder}/${name}`) : [`${folder}/${name}`]
      );
  for (const path of sources(fileURLToPath(new URL("../../lib", import.meta.url)))) {
    if (path.endsWith("/engine/gradients.ts")) continue; // gradients_test.ts has those
    const code = Deno.readTextFileSync(path).replace(/\/\*[^]*?\*\/|\/\/.*$/gm, "");
    for (const [, name] of code.matchAll(/\btf\.(\w+)[(<]/g)) called.add(name!);
    // A method of the same name, of a tensor or of an array.
    for (const [, name] of code.matchAll(/\.(\w+)\(/g)) {
      if (Object.hasOwn(tf, name!) && name! in tf.Tensor.prototype && !(name! in Object.prototype)) {
        called.add(name!);
      }
    }
  }
  const others =
    "DataStorage backend data dispose engine env findBackend getBackend getKernel getKernelsForBackend grads keep memory " +
    "registerBackend registerKernel setBackend tidy unregisterKernel valueAndGrads variable variableGrads";
  const missing = [...called].filter((name) => !(name in cases) && !others.split(" ").includes(name));
  assertEquals(missing, []);
});
