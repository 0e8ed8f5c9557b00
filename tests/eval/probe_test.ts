import { assert, assertAlmostEquals, assertEquals, assertRejects } from "@std/assert";
import {
  arrayDataset,
  attentiveProbe,
  type Dataset,
  fashionMnist,
  knn,
  linearProbe,
  type MemoryDataset,
  Nepa,
  normalize,
  Random,
  readFeatures,
  tf,
  useEngine,
} from "nepa";
import { judge, wilson } from "../../lib/eval/scores.ts";
import { hasLost } from "../../lib/eval/probe.ts";
import { small } from "../support/small.ts";

await useEngine("tensorflow");
const { train, test } = await fashionMnist();
Deno.env.set("XDG_CACHE_HOME", await Deno.makeTempDir()); // where the raw pixels' results are kept
const few = train.balanced(30), fewTest = test.balanced(20);
const config = {
  ...small,
  qkNorm: true,
} as const;

const inOrder = (n: number) => Int32Array.from({ length: n }, (_, i) => i);

Deno.test("readFeatures reads every layer at one pass as Nepa.features does, the partial batch too", async () => {
  const model = new Nepa(config, { seed: 1 }), some = train.subset(inOrder(257));
  const [batch] = [...some.batches({ size: 257, shuffle: false })];
  const images = tf.tensor4d(normalize(batch!.images, batch!.shape, model.preprocessor), batch!.shape);
  for (const reading of [{}, { pool: "cls", causal: false }, { pool: "all" }, { pool: "last" }] as const) {
    const before = tf.memory().numTensors, layers = ["embedding", 1, 2, "final"] as const;
    const read = await readFeatures(model, some, layers, reading);
    assertEquals([...read.keys()], [...layers]);
    for (const layer of layers) {
      const expected = tf.tidy(() => model.features(images, { layer, ...reading }).dataSync());
      const got = read.get(layer)!;
      assertEquals(got.length, expected.length);
      const worst = got.reduce((most, x, i) => Math.max(most, Math.abs(x - expected[i]!)), 0);
      assert(worst < 2e-5, `${layer} ${JSON.stringify(reading)}: ${worst}`);
    }
    assertEquals(tf.memory().numTensors, before);
  }
  tf.dispose(images);
  model.dispose();
});

Deno.test("a linear probe reads the layer asked for, all layers and the references", async () => {
  const model = new Nepa(config, { seed: 1 }), before = tf.memory().numTensors;
  const result = await linearProbe(model, few, fewTest, {
    layer: 1,
    layers: true,
    references: true,
    seed: 2,
  });
  assertEquals(Object.keys(result.perLayer!).toSorted(), ["1", "2", "embedding", "final"]);
  assertEquals(result.accuracy, result.perLayer!["1"]);
  assertEquals([...result.probes.keys()], ["embedding", "1", "2", "final", "untrained", "raw pixels"]);
  for (const accuracy of [...Object.values(result.perLayer!), result.untrained!]) {
    assert(accuracy > 0.2 && accuracy < 0.9, `${accuracy}`); // chance is 0.1
  }
  assert(result.rawPixels! > 0.6, `${result.rawPixels}`);
  for (const [name, probe] of result.probes) {
    assert(probe.converged && probe.excess <= 1e-4 && probe.gradientNorm < 0.01, `${name}: ${probe.excess}`);
    const best = Math.max(...probe.selection.map(({ accuracy }) => accuracy));
    assertEquals(probe.selection.find(({ accuracy }) => accuracy === best)!.lambda, probe.lambda); // the largest of equals
  }
  assertEquals(tf.memory().numTensors, before);
  assertEquals(result.seed, 2);
  const text = Deno.inspect(result);
  for (
    const words of ["95 %", "block 1", "raw pixels", "untrained", `${(100 * result.accuracy).toFixed(1)} %`]
  ) {
    assert(text.includes(words), text);
  }
  const again = await linearProbe(model, few, fewTest, { layer: 1, seed: 2 });
  assertEquals([again.accuracy, again.lambda], [result.accuracy, result.lambda]);
  assertEquals([again.perLayer, again.untrained, again.rawPixels], [undefined, undefined, undefined]);
  model.dispose();
});

Deno.test("a probe chooses among the penalties given, for pixels as for features", async () => {
  const model = new Nepa(config, { seed: 1 }), options = { pool: "all", lambdas: [0.5, 0.05] } as const;
  const { probes } = await linearProbe(model, few, fewTest, { ...options, references: true });
  for (const { selection, lambda } of probes.values()) {
    assertEquals(selection.map(({ lambda }) => lambda), options.lambdas.slice(0, selection.length));
    assert(options.lambdas.some((known) => known === lambda));
  }
  const one = await linearProbe(model, few, fewTest, { lambdas: [0.05] });
  assertEquals([one.lambda, one.selection, one.converged], [0.05, [], true]);
  const two = await linearProbe(model, few, fewTest, { lambdas: [0.05, 0.049999] });
  assert(Math.abs(one.accuracy - two.accuracy) < 0.02, `${one.accuracy} and ${two.accuracy}`);
  model.dispose();
});

Deno.test("a smaller penalty ends the search only where it loses more than chance explains", () => {
  // Features of a network trained without the shift: 1e-3 to 1e-7 gave 36.75, 36.15, 38.65, 48.75, 60.4 %.
  assertEquals(hasLost(0.3615, 0.3675, 2000), false);
  assertEquals([hasLost(0.836, 0.85, 5000), hasLost(0.835, 0.85, 5000)], [false, true]); // √(2·0.85·0.15/5000) = 0.0071
  assertEquals(hasLost(0.9, 0.85, 5000), false);
});

Deno.test("the untrained reference is the same network with fresh weights and no layer scale", async () => {
  const model = new Nepa({ ...config, layerscaleValue: null }, { seed: 5 });
  const { accuracy, untrained } = await linearProbe(model, few, fewTest, { references: true, seed: 5 });
  assertEquals(accuracy, untrained);
  model.dispose();
});

Deno.test("a probe tells labels that can be read from labels drawn at random", async () => {
  const random = new Random(0), n = 400, pixels = new Uint8Array(n * 784);
  const shade = inOrder(n).map(() => random.integer(2)), noise = inOrder(n).map(() => random.integer(2));
  for (let i = 0; i < pixels.length; i++) pixels[i] = random.integer(128) + 100 * shade[Math.floor(i / 784)]!;
  const set = (labels: Int32Array) =>
    arrayDataset({
      name: "shades",
      images: pixels,
      shape: [n, 28, 28, 1],
      labels,
      classes: ["dark", "light"],
    });
  const model = new Nepa(config, { seed: 1 }), first = inOrder(300), last = inOrder(100).map((i) => 300 + i);
  const probe = (data: Dataset) => linearProbe(model, data.subset(first), data.subset(last));
  assertEquals((await probe(set(shade))).accuracy, 1);
  const chance = (await probe(set(noise))).accuracy;
  assert(chance > 0.3 && chance < 0.7, `${chance}`);
  model.dispose();
});

Deno.test("what a probe cannot use is refused before anything is computed", async () => {
  const model = new Nepa(config, { seed: 1 }), before = tf.memory().numTensors;
  const blank = (side: number, channels: number, classes = 10) =>
    arrayDataset({
      name: "blank",
      images: new Uint8Array(20 * side * side * channels),
      shape: [20, side, side, channels],
      labels: inOrder(20).map((i) => i % classes),
      classes: Array.from({ length: classes }, (_, i) => `${i}`),
    });
  await assertRejects(() => linearProbe(model, blank(28, 3), fewTest), RangeError, "1 channels");
  await assertRejects(() => linearProbe(model, few, blank(14, 1)), RangeError, "28x28");
  await assertRejects(() => linearProbe(model, few, blank(28, 1, 4)), RangeError, "10 classes");
  const changed = (labels: Int32Array, length: number): Dataset =>
    Object.create(fewTest, { labels: { value: labels }, length: { value: length } });
  const odd = changed(fewTest.labels.with(7, 10), 200), none = changed(fewTest.labels, 0);
  for (const read of [linearProbe, knn, attentiveProbe]) {
    await assertRejects(
      () => read(model, few, odd),
      RangeError,
      "image 7: expected a label from 0 to 9, got 10",
    );
  }
  await assertRejects(() => linearProbe(model, few, none), RangeError, "at least one image, got none");
  await assertRejects(
    () => linearProbe(model, few.subset([1, 2, 3]), fewTest),
    RangeError,
    "at least 10 images",
  );
  await assertRejects(
    () => linearProbe(model, few, fewTest, { layer: 3 }),
    RangeError,
    "embedding, 1, 2, final, got 3",
  );
  for (const lambdas of [[], [1e-3, 1e-2], [1e-2, 0]]) {
    await assertRejects(
      () => linearProbe(model, few, fewTest, { lambdas }),
      RangeError,
      "lambdas: expected positive",
    );
  }
  const pool = "max" as "mean"; // as a caller without types could write
  await assertRejects(
    () => linearProbe(model, few, fewTest, { pool }),
    RangeError,
    "mean, cls, last, all, got max",
  );
  assertEquals(tf.memory().numTensors, before);
  model.dispose();
});

Deno.test("guesses are judged by accuracy, by class and by what was taken for what", () => {
  const set = arrayDataset({
    name: "five",
    images: new Uint8Array(5),
    shape: [5, 1, 1, 1],
    labels: [0, 0, 0, 1, 1],
    classes: ["a", "b", "c"],
  });
  const { accuracy, perClass, confusion } = judge([0, 0, 1, 1, 2], set);
  assertEquals(accuracy, 3 / 5);
  assertEquals(perClass, { a: 2 / 3, b: 1 / 2, c: NaN });
  assertEquals(confusion, [[2, 1, 0], [0, 1, 1], [0, 0, 0]]);
});

Deno.test("the interval of an accuracy is Wilson's", () => { // values: scipy 1.17.1, binomtest(…).proportion_ci(method="wilson")
  for (
    const [right, count, low, high] of [
      [0, 10, 0, 0.27753280],
      [8, 10, 0.49016247, 0.94331785],
      [8258, 10000, 0.81824149, 0.83310830],
      [10, 10, 0.72246720, 1],
    ] as const
  ) {
    const found = wilson(right, count);
    assertAlmostEquals(found[0], low, 1e-6);
    assertAlmostEquals(found[1], high, 1e-6);
  }
});

Deno.test("the raw pixels' result is kept, and made anew when a label changes", async () => {
  const small = (set: MemoryDataset, labels = set.labels) =>
    arrayDataset({ // every other pixel down and across
      name: "small",
      images: Uint8Array.from([...inOrder(set.length)].flatMap((i) =>
        [...set.get(i).image].filter((_, at) => at % 2 === 0 && Math.floor(at / 28) % 2 === 0)
      )),
      shape: [set.length, 14, 14, 1],
      labels,
      classes: set.classes,
    });
  const given = train.balanced(5), judgedBy = small(test.balanced(10));
  const model = new Nepa({ ...config, imageSize: 14 }, { seed: 1 });
  const folder = `${Deno.env.get("XDG_CACHE_HOME")}/nepa/results`;
  const read = async (set: Dataset) =>
    (await linearProbe(model, set, judgedBy, { layer: "embedding", references: true, seed: 9 })).rawPixels!;
  const files = async () => (await Array.fromAsync(Deno.readDir(folder))).map(({ name }) => name).toSorted();
  await Deno.mkdir(folder, { recursive: true });
  const before = await files(), first = await read(small(given));
  const added = (await files()).filter((name) => !before.includes(name));
  assertEquals(added.length, 1);
  const path = `${folder}/${added[0]}`, entry = JSON.parse(await Deno.readTextFile(path));
  assertEquals(judge(entry.guesses, judgedBy).accuracy, first);
  assert(first > 0.4, `${first}`);
  await Deno.writeTextFile(path, JSON.stringify({ ...entry, guesses: entry.guesses.map(() => 3) }));
  assertEquals(await read(small(given)), 0.1); // as the file says now
  await read(small(given, given.labels.with(0, (given.labels[0]! + 1) % 10)));
  assertEquals((await files()).length, before.length + 2);
  model.dispose();
});

Deno.test("a probe shows its layers, its references and its confusion matrix as figures", async () => {
  const model = new Nepa(config, { seed: 1 });
  const result = await linearProbe(model, few, fewTest, { layers: true, references: true, seed: 2 });
  const [bars, confusion] = result.plots().map((plot) => plot.toJSON());
  assertEquals(bars!.data[0]!.x, ["embedding", "block 1", "block 2", "final"]);
  const z = confusion!.data[0]!.z as number[][];
  z.forEach((row) => assertAlmostEquals(row.reduce((a, b) => a + b), 100, 1e-3));
  assertAlmostEquals(z.reduce((sum, row, i) => sum + row[i]!, 0) / 1000, result.accuracy, 1e-6); // balanced classes
  const svg = await result.confusionPlot().svg();
  for (const text of ["Ankle boot", "guessed", String(result.confusion[9]![9])]) {
    assert(svg.includes(text), text);
  }
  model.dispose();
});
