import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import { Random, tf, useEngine } from "nepa";
import { LogisticRegression } from "../../lib/eval/logistic.ts";

await useEngine("tensorflow");

interface Reference {
  features: number[][];
  labels: number[];
  fits: { lambda: number; weights: number[][]; objective: number; predictions: number[] }[];
}
const reference: Reference = JSON.parse(
  await Deno.readTextFile(new URL("../fixtures/logistic/expect.json", import.meta.url)),
);
const size = reference.features[0]!.length, count = reference.features.length;
const features = { data: Float32Array.from(reference.features.flat()), size };
const inOrder = (n: number) => Int32Array.from({ length: n }, (_, i) => i);

/** Mean cross-entropy + λ/2·|W|² in float64, of weights [K, D + 1] in standardised features. */
function objective(point: Float64Array, lambda: number): number {
  const rows = reference.features, mean = rows[0]!.map((_, j) => rows.reduce((s, r) => s + r[j]!, 0) / count);
  const std = mean.map((m, j) => Math.sqrt(rows.reduce((s, r) => s + (r[j]! - m) ** 2, 0) / count));
  let sum = 0;
  rows.forEach((row, i) => {
    const x = row.map((v, j) => (v - mean[j]!) / std[j]!);
    const logits = [0, 1, 2].map((k) =>
      x.reduce((s, v, j) => s + v * point[k * (size + 1) + j]!, point[k * (size + 1) + size]!)
    );
    const top = Math.max(...logits), log = top + Math.log(logits.reduce((s, l) => s + Math.exp(l - top), 0));
    sum += (log - logits[reference.labels[i]!]!) / count;
  });
  return sum + lambda / 2 * point.reduce((s, w, i) => i % (size + 1) === size ? s : s + w * w, 0);
}

for (const engine of ["tensorflow", "wasm", "cpu"] as const) {
  Deno.test(`logistic regression on ${engine} is scikit-learn's, no farther above its optimum than it says`, async () => {
    await useEngine(engine);
    const before = tf.memory().numTensors;
    const options = { classes: 3, order: inOrder(count), heldOut: 0 };
    const regression = new LogisticRegression(features, Int32Array.from(reference.labels), options);
    for (const { lambda, weights, objective: optimum, predictions } of reference.fits) {
      const fit = await regression.fit({ lambda, selecting: false, excess: 1e-5, maxIterations: 300 });
      assert(fit.excess <= 1e-5, `excess ${fit.excess} after ${fit.iterations}`);
      const above = objective(fit.point, lambda) - optimum;
      assert(
        above >= -1e-7 && above <= fit.excess + 1e-7,
        `${above} above the optimum, at most ${fit.excess} said`,
      );
      const guesses = await regression.predict(features, fit);
      const other = guesses.filter((guess, i) => guess !== predictions[i]).length;
      assert(other <= 1, `${other} of ${count} predictions differ at λ ${lambda}`);
      const tolerance = 2 * Math.sqrt(2 * fit.excess / lambda) + 1e-3; // λ/2·|W − W*|² is at most the excess
      weights.forEach((row, k) =>
        row.forEach((w, j) => assertAlmostEquals(fit.point[k * (size + 1) + j]!, w, tolerance))
      );
    }
    regression.dispose();
    assertEquals(tf.memory().numTensors, before);
    await useEngine("tensorflow");
  });
}

Deno.test("a fit from a neighbouring λ ends where one from zero does, in fewer steps", async () => {
  const options = { classes: 3, order: inOrder(count), heldOut: 0 };
  const regression = new LogisticRegression(features, Int32Array.from(reference.labels), options);
  const settings = { selecting: false, excess: 1e-6, maxIterations: 300 };
  const from = await regression.fit({ ...settings, lambda: 1e-3 });
  const warm = await regression.fit({ ...settings, lambda: 1e-4, from });
  const cold = await regression.fit({ ...settings, lambda: 1e-4 });
  assert(warm.iterations < cold.iterations, `${warm.iterations} and ${cold.iterations}`);
  assertAlmostEquals(objective(warm.point, 1e-4), objective(cold.point, 1e-4), 2e-6);
  regression.dispose();
});

Deno.test("held-out images have no say while λ is chosen", async () => {
  const order = new Random(1).permutation(count),
    labels = Int32Array.from(reference.labels),
    other = labels.slice();
  for (const i of order.subarray(count - 100)) other[i] = (other[i]! + 1) % 3;
  const fits: { point: number[]; whole: number[]; accuracy: number }[] = [];
  for (const given of [labels, other]) {
    const regression = new LogisticRegression(features, given, { classes: 3, order, heldOut: 100 });
    const fit = await regression.fit({ lambda: 1e-3, selecting: true, excess: 1e-5, maxIterations: 300 });
    const whole = await regression.fit({ lambda: 1e-3, selecting: false, excess: 1e-5, maxIterations: 300 });
    fits.push({
      point: [...fit.point],
      whole: [...whole.point],
      accuracy: await regression.heldOutAccuracy(fit),
    });
    regression.dispose();
  }
  assertEquals(fits[0]!.point, fits[1]!.point);
  assert(fits[0]!.accuracy > 0.6 && fits[1]!.accuracy < 0.4, `${fits[0]!.accuracy}, ${fits[1]!.accuracy}`);
  assert(fits[0]!.whole.some((w, i) => Math.abs(w - fits[1]!.whole[i]!) > 0.1), "all images count at last");
});

Deno.test("a fit with more features than images, many of them alike, ends at its optimum", async () => {
  const n = 60, random = new Random(9), labels = Int32Array.from(inOrder(n), () => random.integer(3));
  const data = Float32Array.from({ length: n * 200 }, () => Math.max(0, random.normal(-1)) ** 4);
  const regression = new LogisticRegression({ data, size: 200 }, labels, {
    classes: 3,
    order: inOrder(n),
    heldOut: 0,
  });
  const fit = await regression.fit({ lambda: 1e-7, selecting: false, excess: 1e-4, maxIterations: 1000 });
  assert(fit.excess <= 1e-4, `${fit.excess}`);
  regression.dispose();
});

Deno.test("scale and offset of the features make no difference, and constant ones do no harm", async () => {
  const moved = new Float32Array(count * (size + 1)).fill(7);
  for (let i = 0; i < count; i++) {
    for (let j = 0; j < size; j++) moved[i * (size + 1) + j] = 1e-3 * features.data[i * size + j]! + 0.25 * j;
  }
  const shares: number[] = [];
  for (const given of [features, { data: moved, size: size + 1 }]) {
    const options = { classes: 3, order: inOrder(count), heldOut: 0 };
    const regression = new LogisticRegression(given, Int32Array.from(reference.labels), options);
    const fit = await regression.fit({ lambda: 1e-4, selecting: false, excess: 1e-6, maxIterations: 300 });
    assert(fit.excess <= 1e-6 && fit.point.every(Number.isFinite));
    const guesses = await regression.predict(given, fit);
    shares.push(guesses.filter((guess, i) => guess === reference.labels[i]).length / count);
    regression.dispose();
  }
  assertAlmostEquals(shares[0]!, shares[1]!, 0.006);
});
