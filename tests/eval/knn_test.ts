import { assert, assertEquals, assertRejects } from "@std/assert";
import { fashionMnist, knn, Nepa, Random, tf, useEngine } from "nepa";
import { vote } from "../../lib/eval/knn.ts";

await useEngine("tensorflow");
const { train, test } = await fashionMnist();
const model = new Nepa({ preset: "mini", numHiddenLayers: 1, layerscaleValue: null }, { seed: 1 });

/** The same vote, written out in float64. */
function voteSlowly(
  bank: number[][],
  labels: number[],
  query: number[],
  { k, temperature, centred, classes }: { k: number; temperature: number; centred: boolean; classes: number },
): number {
  const mean = query.map((_, j) => centred ? bank.reduce((s, x) => s + x[j]!, 0) / bank.length : 0);
  const unit = (x: number[]) => {
    const y = x.map((v, j) => v - mean[j]!), length = Math.hypot(...y);
    return y.map((v) => v / length);
  };
  const q = unit(query), votes = Array.from({ length: classes }, () => 0);
  const cosines = bank.map((x, i) => ({
    cosine: unit(x).reduce((s, v, j) => s + v * q[j]!, 0),
    label: labels[i]!,
  }));
  for (const { cosine, label } of cosines.sort((a, b) => b.cosine - a.cosine).slice(0, k)) {
    votes[label]! += Math.exp(cosine / temperature);
  }
  return votes.indexOf(Math.max(...votes));
}

for (const engine of ["tensorflow", "wasm", "cpu"] as const) {
  Deno.test(`the vote of the nearest on ${engine} is the one written out, centred or not`, async () => {
    await useEngine(engine);
    const random = new Random(3),
      vector = (shift: number) => Array.from({ length: 6 }, () => random.normal(shift));
    const bank = Array.from({ length: 90 }, (_, i) => vector(2 + i % 3)), labels = bank.map((_, i) => i % 3);
    const queries = Array.from({ length: 40 }, (_, i) => vector(2 + i % 3)), before = tf.memory().numTensors;
    for (const options of [{ k: 1, centred: false }, { k: 7, centred: false }, { k: 7, centred: true }]) {
      const all = { ...options, temperature: 0.07, classes: 3 };
      const given = [bank, queries].map((rows) => Float32Array.from(rows.flat())) as [
        Float32Array,
        Float32Array,
      ];
      const guesses = await vote(given[0], Int32Array.from(labels), given[1], queries.length, all);
      assertEquals([...guesses], queries.map((query) => voteSlowly(bank, labels, query, all)));
    }
    assertEquals(tf.memory().numTensors, before);
    await useEngine("tensorflow");
  });
}

Deno.test("the nearest count for more: a low temperature lets one outvote many", async () => {
  const bank = Float32Array.of(1, 0, 0.8, 0.6, 0.8, 0.6, 0.8, 0.6), labels = Int32Array.of(0, 1, 1, 1);
  const query = Float32Array.of(1, 0), options = { k: 4, centred: false, classes: 2 };
  assertEquals([...await vote(bank, labels, query, 1, { ...options, temperature: 0.07 })], [0]);
  assertEquals([...await vote(bank, labels, query, 1, { ...options, temperature: 10 })], [1]);
});

Deno.test("votes of many neighbours for many classes are counted in parts", async () => {
  const classes = 3000, n = 400, labels = Int32Array.from({ length: n }, (_, i) => i < 250 ? 2999 : i);
  const bank = Float32Array.from({ length: 2 * n }, (_, i) => i % 2 === 0 ? 1 : i / 1e6);
  const options = { k: n, temperature: 1, centred: false, classes };
  const guesses = await vote(bank, labels, bank.subarray(0, 40), 20, options); // 13 at a time
  assertEquals([...guesses], Array(20).fill(2999));
});

Deno.test("a temperature near 0 leaves the vote to the nearest, without overflow", async () => {
  const bank = Float32Array.of(1, 0, 0.8, 0.6), labels = Int32Array.of(1, 0), query = Float32Array.of(1, 0);
  const options = { k: 2, centred: false, classes: 2, temperature: 1e-4 };
  assertEquals([...await vote(bank, labels, query, 1, options)], [1]);
});

Deno.test("an image is its own nearest neighbour", async () => {
  const some = train.balanced(20), before = tf.memory().numTensors;
  assertEquals((await knn(model, some, some, { k: 1, overlap: "allow" })).accuracy, 1);
  assertEquals(tf.memory().numTensors, before);
});

Deno.test("knn reads classes from features far above chance, and says what it did", async () => {
  const found = await knn(model, train.balanced(50), test.balanced(20), {
    k: 5,
    layer: "embedding",
    pool: "all",
  });
  assert(found.accuracy > 0.5, `${found.accuracy}`);
  assertEquals([found.k, found.layer], [5, "embedding"]);
  const text = Deno.inspect(found);
  for (const words of [`${(100 * found.accuracy).toFixed(1)} %`, "embedding", "0.07"]) {
    assert(text.includes(words), text);
  }
  assertEquals(found.confusion.flat().reduce((a, b) => a + b), 200);
});

Deno.test("what knn cannot use is refused before anything is computed", async () => {
  const some = train.balanced(2), before = tf.memory().numTensors;
  for (const k of [0, 2.5, 21]) {
    await assertRejects(
      () => knn(model, some, test, { k }),
      RangeError,
      "k: expected an integer from 1 to 20",
    );
  }
  for (const temperature of [0, -1, NaN]) {
    await assertRejects(() => knn(model, some, test, { k: 3, temperature }), RangeError, "temperature");
  }
  await assertRejects(() => knn(model, some, test, { k: 3, layer: 2 }), RangeError, "layer");
  assertEquals(tf.memory().numTensors, before);
});
