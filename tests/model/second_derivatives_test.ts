import { assert, assertEquals } from "@std/assert";
import * as tf from "@tensorflow/tfjs";
import { type EngineName, useEngine } from "../../lib/engine/mod.ts";
import { stopGradient, withGradient } from "../../lib/base/gradient.ts";
import { nepaConfig } from "../../lib/model/config.ts";
import { causalMask } from "../../lib/model/masks.ts";
import { nepaLoss } from "../../lib/model/nepa.ts";
import { activations, layerNorm, linear, unit } from "../../lib/model/ops.ts";
import { rotate } from "../../lib/model/rope.ts";
import { attention } from "../../lib/model/transformer.ts";
import { normal } from "../support/tensors.ts";

type F = (x: tf.Tensor) => tf.Tensor;

/** A number whose second derivatives are not zero where the function's are. */
const total = (y: tf.Tensor): tf.Scalar => {
  const weights = tf.cos(tf.range(0, y.size)).reshape(y.shape);
  return tf.sum(tf.add(tf.mul(y, weights), tf.mul(0.5, tf.square(y))));
};

const config = nepaConfig({
  imageSize: 8,
  patchSize: 4,
  numChannels: 1,
  hiddenSize: 8,
  numAttentionHeads: 1,
});

/** Angles of a rotation, the same in both halves of a row. */
const angles = (): { cos: tf.Tensor; sin: tf.Tensor; fixed: boolean } => {
  const both = tf.tile(normal([3, 4], "angles"), [1, 2]);
  return { cos: tf.cos(both), sin: tf.sin(both), fixed: true };
};
const weights: Record<string, tf.Tensor> = {};

function attend(x: tf.Tensor): tf.Tensor {
  const of = (name: string) =>
    name.endsWith("norm.weight") || name.endsWith("norm.bias")
      ? undefined
      : weights[name] ??= tf.keep(normal(name.endsWith("bias") ? [8] : [8, 8], name, 0.5));
  const context = { config, batch: 2, tokens: 3, rotation: angles(), mask: causalMask(3) };
  return attention(x as tf.Tensor2D, of as never, context as never).output;
}

const FUNCTIONS: Record<string, [shape: number[], f: F]> = {
  "linear, by x": [
    [3, 4],
    (x) => linear(x as tf.Tensor2D, normal([4, 2], "w") as tf.Tensor2D, normal([2], "b")),
  ],
  "linear, by the weight": [[4, 2], (w) => linear(normal([3, 4], "x") as tf.Tensor2D, w as tf.Tensor2D)],
  "linear, by both": [[3, 3], (x) => linear(x as tf.Tensor2D, x as tf.Tensor2D)],
  "layerNorm": [[3, 5], (x) => layerNorm(x, 1e-3, normal([5], "scale"), normal([5], "shift"))],
  ...Object.fromEntries(
    ["gelu", "gelu_new", "silu", "selu"].map((name) =>
      [name, [[3, 4], (x: tf.Tensor) => activations[name as "gelu"](x)]] as [string, [number[], F]]
    ),
  ),
  "unit": [[3, 4], (x) => unit(x)],
  "nepaLoss, by the predictions": [
    [2, 3, 4],
    (x) => nepaLoss({ embeddings: normal([2, 3, 4], "z") as tf.Tensor3D, predictions: x as tf.Tensor3D }),
  ],
  "nepaLoss, by both": [
    [2, 3, 4],
    (x) =>
      nepaLoss({ embeddings: x as tf.Tensor3D, predictions: tf.square(x) as tf.Tensor3D }, {
        stopGradient: false,
      }),
  ],
  "nepaLoss, standardised": [
    [2, 3, 4],
    (x) =>
      nepaLoss({ embeddings: x as tf.Tensor3D, predictions: tf.square(x) as tf.Tensor3D }, {
        stopGradient: false,
        standardizeTargets: true,
      }),
  ],
  "rotate, by x": [[2, 1, 3, 8], (x) => rotate(x as tf.Tensor4D, angles())],
  "rotate, by the angles": [
    [3, 8],
    (a) => rotate(normal([2, 1, 3, 8], "x") as tf.Tensor4D, { cos: tf.cos(a), sin: tf.sin(a) }),
  ],
  "attention": [[6, 8], attend],
  ...Object.fromEntries(
    (["tanh", "sigmoid", "exp", "softmax", "logSoftmax", "sqrt", "rsqrt", "erf"] as const).map((name) =>
      [`tf.${name}`, [[3, 4], (x: tf.Tensor) => tf[name](tf.add(tf.square(x), 0.5))]] as [
        string,
        [number[], F],
      ]
    ),
  ),
  "a gradient of one's own": [
    [4],
    (x) =>
      withGradient(
        [x],
        () => ({ value: tf.pow(x, 3), saved: [x] }),
        (dy, [x]) => tf.mul(dy, tf.mul(3, tf.square(x!))),
      ),
  ],
};

/** Largest difference between two gradients, beside the largest entry. */
const apart = (a: tf.Tensor, b: tf.Tensor): number =>
  tf.div(tf.max(tf.abs(tf.sub(a, b))), tf.add(1e-3, tf.max(tf.abs(b)))).dataSync()[0]!;

/** By central differences: the slope of `f` along each axis. */
function slopes(f: (x: tf.Tensor) => tf.Tensor, x: tf.Tensor, step: number): tf.Tensor {
  const along = Array.from({ length: x.size }, (_, i) => {
    const nudge = tf.tensor(Float32Array.from({ length: x.size }, (_, j) => j === i ? step : 0), x.shape);
    return tf.div(tf.sub(f(tf.add(x, nudge)), f(tf.sub(x, nudge))), 2 * step);
  });
  return tf.stack(along).reshape(x.shape);
}

for (const engine of ["cpu", "wasm", "tensorflow"] as EngineName[]) {
  Deno.test(`first and second derivatives are those by differences, the rotation's by its angles too, on ${engine}`, async () => {
    const { compile } = await useEngine(engine), before = tf.memory().numTensors;
    for (const [name, [shape, f]] of Object.entries(FUNCTIONS)) {
      tf.tidy(() => {
        const x = normal(shape, `at ${name}`), direction = normal(shape, "direction");
        const first = tf.grad((x) => total(f(x))),
          slope = (x: tf.Tensor) => tf.sum(tf.mul(first(x), direction));
        const one = apart(first(x), slopes((x) => total(f(x)), x, 1e-2));
        const two = apart(tf.grad(slope)(x), slopes(slope, x, 1e-2));
        assert(one < 3e-3, `${name}: first derivatives differ by ${one}`);
        assert(two < 3e-3, `${name}: second derivatives differ by ${two}`);
      });
    }
    for (const name of engine === "tensorflow" ? ["attention", "gelu_new", "nepaLoss, by both"] : []) {
      const [shape, f] = FUNCTIONS[name]!;
      const x = normal(shape, `at ${name}`),
        penalty = tf.grad((x) => tf.sum(tf.square(tf.grad((x) => total(f(x)))(x))));
      const plain = tf.tidy(() => penalty(x)),
        compiled = compile((x: tf.Tensor) => penalty(x)),
        same = await compiled(x);
      const difference = tf.tidy(() => apart(same, plain));
      assert(difference < 1e-4, `${name}: compiled, the second derivatives differ by ${difference}`);
      tf.dispose([x, plain, same]);
      compiled.dispose();
    }
    tf.dispose(Object.values(weights));
    for (const name of Object.keys(weights)) delete weights[name];
    assertEquals(tf.memory().numTensors, before);
  });

  Deno.test(`nothing comes through stopGradient, in second derivatives too, on ${engine}`, async () => {
    await useEngine(engine);
    tf.tidy(() => {
      const x = tf.tensor1d([1, 2, 3]),
        f: F = (x) => tf.sum(tf.mul(stopGradient(tf.square(x)), tf.pow(x, 3)));
      const [first, second] = [tf.grad(f)(x), tf.grad((x) => tf.sum(tf.grad(f)(x)))(x)];
      assertEquals([...first.dataSync()].map(Math.round), [3, 48, 243]); // x² · 3x²
      assertEquals([...second.dataSync()].map(Math.round), [6, 48, 162]); // x² · 6x
    });
  });
}
