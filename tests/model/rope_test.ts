import { assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import * as tf from "@tensorflow/tfjs";
import { nepaConfig } from "../../lib/model/config.ts";
import { useEngine } from "../../lib/engine/mod.ts";
import { causalMask } from "../../lib/model/masks.ts";
import { Random } from "../../lib/base/random.ts";
import { patchCoordinates, ropeDraws, rotate, rotation } from "../../lib/model/rope.ts";

await useEngine("cpu");
const config = nepaConfig({ preset: "mini" });

Deno.test("patch centres run row by row, as (y, x)", () => {
  const expected = [-0.5, -2 / 3, -0.5, 0, -0.5, 2 / 3, 0.5, -2 / 3, 0.5, 0, 0.5, 2 / 3];
  patchCoordinates(2, 3).forEach((x, i) => assertAlmostEquals(x, expected[i]!, 1e-6));
});

Deno.test("CLS is left as it is and every rotation keeps lengths", () => {
  tf.tidy(() => {
    const by = rotation(config, 4, 4), x = tf.randomNormal([2, 4, 17, 32], 0, 1, "float32", 7) as tf.Tensor4D;
    const y = rotate(x, by), first = (t: tf.Tensor) => tf.slice(t, [0, 0, 0, 0], [-1, -1, 1, -1]).dataSync();
    assertEquals(first(y), first(x));
    const lengths = (t: tf.Tensor) => tf.norm(t, 2, -1).dataSync();
    const before = lengths(x);
    lengths(y).forEach((length, i) => assertAlmostEquals(length, before[i]!, 1e-5));
  });
});

Deno.test("the product of a rotated query and key depends only on how far apart their patches lie", () => {
  tf.tidy(() => {
    const by = rotation(config, 4, 4);
    const row = tf.randomNormal([1, 1, 1, 32], 0, 1, "float32", 3),
      all = tf.tile(row, [1, 1, 17, 1]) as tf.Tensor4D;
    const products = (tf.matMul(rotate(all, by), rotate(all, by), false, true) as tf.Tensor4D)
      .arraySync()[0]![0]!;
    const token = (y: number, x: number) => 1 + 4 * y + x;
    assertAlmostEquals(products[token(0, 0)]![token(1, 2)]!, products[token(2, 1)]![token(3, 3)]!, 1e-4);
  });
});

Deno.test("the gradient of a rotation is the one that the chain rule gives", () => {
  tf.tidy(() => {
    const by = rotation(config, 2, 2),
      seed = tf.randomNormal([1, 1, 5, 32], 0, 1, "float32", 5) as tf.Tensor4D;
    const x = tf.randomNormal([1, 1, 5, 32], 0, 1, "float32", 6) as tf.Tensor4D;
    const plain = (x: tf.Tensor4D) => {
      const [a, b] = tf.split(x, 2, -1);
      return tf.add(tf.mul(x, by.cos), tf.mul(tf.concat([tf.neg(b!), a!], -1), by.sin));
    };
    const gradient = (f: (x: tf.Tensor4D) => tf.Tensor) =>
      tf.grad((x) => tf.sum(tf.mul(f(x as tf.Tensor4D), seed)))(x);
    const expected = gradient(plain).dataSync();
    gradient((x) => rotate(x, by)).dataSync().forEach((g, i) => assertAlmostEquals(g, expected[i]!, 1e-5));
  });
});

Deno.test("draws of the coordinates stay in their ranges and are there only where they are asked for", () => {
  const limits = nepaConfig({ posEmbedShift: 0.25, posEmbedJitter: 1.5, posEmbedRescale: 2 });
  for (let i = 0; i < 50; i++) {
    tf.tidy(() => {
      const { ropeShift, ropeJitter, ropeRescale } = ropeDraws(limits, new Random(i));
      const within = (tensor: tf.Tensor, low: number, high: number) =>
        tensor.dataSync().every((value) => value >= low && value <= high);
      assertEquals([ropeShift!.shape, ropeJitter!.shape, ropeRescale!.shape], [[2], [2], [1]]);
      assertEquals(within(ropeShift!, -0.25, 0.25) && within(ropeJitter!, 1 / 1.5, 1.5), true);
      assertEquals(within(ropeRescale!, 0.5, 2), true);
    });
  }
  assertEquals(ropeDraws(nepaConfig({ posEmbedRescale: null }), new Random(0)), {});
});

Deno.test("the causal mask is 0 on and below the diagonal and minus infinity above", () => {
  const mask = causalMask(3);
  assertEquals(mask.arraySync(), [[0, -Infinity, -Infinity], [0, 0, -Infinity], [0, 0, 0]]);
  mask.dispose();
  assertThrows(() => causalMask(0), RangeError, "expected a number of tokens from 1 up, got 0");
});
