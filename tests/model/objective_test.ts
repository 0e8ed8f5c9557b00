import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import * as tf from "@tensorflow/tfjs";
import { useEngine } from "../../lib/engine/mod.ts";
import { lossAndGradients } from "../../lib/base/gradient.ts";
import { nepaLoss } from "../../lib/model/nepa.ts";
import { crossEntropy } from "../../lib/model/ops.ts";

await useEngine("cpu");

const tokens = (seed: number) => tf.randomNormal([2, 4, 3], 0, 1, "float32", seed) as tf.Tensor3D;
const value = (scalar: tf.Tensor) => scalar.dataSync()[0]!;

Deno.test("the loss is minus the mean cosine with the next position, or with the same one", () => {
  tf.tidy(() => {
    const embeddings = tokens(1), predictions = tokens(2);
    const [z, h] = [embeddings.arraySync(), predictions.arraySync()];
    const cosine = (a: number[], b: number[]) =>
      a.reduce((sum, x, i) => sum + x * b[i]!, 0) / (Math.hypot(...a) * Math.hypot(...b));
    const expected = (shift: number) => {
      const all = [0, 1].flatMap((b) =>
        h[b]!.slice(0, 4 - shift).map((row, t) => cosine(row, z[b]![t + shift]!))
      );
      return -all.reduce((sum, c) => sum + c, 0) / all.length;
    };
    assertAlmostEquals(value(nepaLoss({ embeddings, predictions })), expected(1), 1e-6);
    assertAlmostEquals(value(nepaLoss({ embeddings, predictions }, { shift: false })), expected(0), 1e-6);
  });
});

Deno.test("no gradient reaches the targets, unless it is let through", () => {
  const z = tf.variable(tokens(1)), h = tf.variable(tokens(2));
  const parameters = new Map([["z", z], ["h", h]]);
  const gradient = (stopGradient: boolean) =>
    lossAndGradients(
      () =>
        nepaLoss({ embeddings: z as tf.Tensor as tf.Tensor3D, predictions: h as tf.Tensor as tf.Tensor3D }, {
          stopGradient,
        }),
      parameters,
    ).gradients;
  tf.tidy(() => {
    assert(gradient(true).z!.dataSync().every((g) => g === 0));
    assert(gradient(true).h!.dataSync().some((g) => g !== 0));
    const through = gradient(false).z!;
    assert(through.dataSync().some((g) => g !== 0));
    assert(through.slice([0, 0], [-1, 1]).dataSync().every((g) => g === 0), "CLS is never a target");
  });
  tf.dispose([z, h]);
});

Deno.test("standardised targets have mean 0 and deviation 1 in each dimension over images and positions", () => {
  tf.tidy(() => {
    const embeddings = tf.add(tf.mul(tokens(1), [1, 5, 0]), [3, -1, 7]) as tf.Tensor3D,
      predictions = tokens(2);
    const [z, h] = [embeddings.arraySync(), predictions.arraySync()],
      next = z.flatMap((image) => image.slice(1));
    const statistics = [0, 1, 2].map((d) => {
      const mean = next.reduce((sum, x) => sum + x[d]!, 0) / next.length;
      return { mean, std: Math.sqrt(next.reduce((sum, x) => sum + (x[d]! - mean) ** 2, 0) / next.length) };
    });
    const targets = next.map((x) => x.map((v, d) => (v - statistics[d]!.mean) / (statistics[d]!.std + 1e-4)));
    const cosines = h.flatMap((image) => image.slice(0, 3)).map((x, i) =>
      x.reduce((sum, v, d) => sum + v * targets[i]![d]!, 0) / (Math.hypot(...x) * Math.hypot(...targets[i]!))
    );
    const expected = -cosines.reduce((sum, c) => sum + c, 0) / cosines.length;
    assertAlmostEquals(
      value(nepaLoss({ embeddings, predictions }, { standardizeTargets: true })),
      expected,
      1e-5,
    );
  });
});

Deno.test("standardised targets: the gradients are those of finite differences, none into the targets unless let through", () => {
  tf.tidy(() => {
    const z = tokens(1), h = tokens(2), step = 1e-2;
    for (const stopGradient of [true, false]) {
      const loss = (embeddings: tf.Tensor, predictions: tf.Tensor) =>
        nepaLoss({ embeddings: embeddings as tf.Tensor3D, predictions: predictions as tf.Tensor3D }, {
          stopGradient,
          standardizeTargets: true,
        });
      const [dz, dh] = tf.grads(loss)([z, h]).map((g) => g.dataSync());
      for (let i = 0; i < z.size; i++) {
        const nudge = tf.oneHot(tf.scalar(i, "int32"), z.size, step, 0).reshape(z.shape);
        const slope = (dz: tf.Tensor, dh: tf.Tensor) =>
          (value(loss(tf.add(z, dz), tf.add(h, dh))) - value(loss(tf.sub(z, dz), tf.sub(h, dh)))) /
          (2 * step);
        const none = tf.zerosLike(nudge);
        assertAlmostEquals(dh![i]!, slope(none, nudge), 2e-4);
        assertAlmostEquals(dz![i]!, stopGradient ? 0 : slope(nudge, none), 2e-4);
      }
    }
  });
});

Deno.test("a token of zeros gives finite numbers", () => {
  tf.tidy(() => {
    const embeddings = tf.zeros([1, 3, 4]) as tf.Tensor3D;
    const gradient = tf.grad((h) =>
      nepaLoss({ embeddings, predictions: h as tf.Tensor3D }, { stopGradient: false })
    );
    assertEquals(value(nepaLoss({ embeddings, predictions: embeddings })) + 0, 0);
    assert(gradient(tf.zeros([1, 3, 4])).dataSync().every(Number.isFinite));
  });
});

Deno.test("shapes that do not fit are refused", () => {
  tf.tidy(() => {
    const one = tf.zeros([1, 1, 4]) as tf.Tensor3D, two = tf.zeros([1, 2, 4]) as tf.Tensor3D;
    for (const [embeddings, predictions, shift] of [[one, two, true], [two, one, false]] as const) {
      assertThrows(
        () => nepaLoss({ embeddings, predictions }, { shift }),
        RangeError,
        `expected predictions like the embeddings [${embeddings.shape}], got [${predictions.shape}]`,
      );
    }
    nepaLoss({ embeddings: two, predictions: one }); // the last prediction has nothing to be compared with
    assertThrows(() => nepaLoss({ embeddings: one, predictions: one }), RangeError, "2 tokens or more");
  });
});

Deno.test("cross-entropy takes class numbers or shares, and smooths towards all classes alike", () => {
  tf.tidy(() => {
    const logits = tf.tensor2d([[2, 0, -1], [0, 1, 0]]), labels = tf.tensor1d([0, 2], "int32");
    const log = (row: number[], k: number) =>
      row[k]! - Math.log(row.reduce((sum, x) => sum + Math.exp(x), 0));
    const hard = -(log([2, 0, -1], 0) + log([0, 1, 0], 2)) / 2;
    const even = -[0, 1, 2].reduce((sum, k) => sum + log([2, 0, -1], k) + log([0, 1, 0], k), 0) / 6;
    assertAlmostEquals(value(crossEntropy(logits, labels)), hard, 1e-6);
    assertAlmostEquals(value(crossEntropy(logits, tf.tensor2d([[1, 0, 0], [0, 0, 1]]))), hard, 1e-6);
    assertAlmostEquals(value(crossEntropy(logits, labels, 0.1)), 0.9 * hard + 0.1 * even, 1e-6);
  });
});
