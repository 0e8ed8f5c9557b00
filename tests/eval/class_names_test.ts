import { assert, assertAlmostEquals, assertEquals, assertRejects, assertThrows } from "@std/assert";
import {
  arrayDataset,
  attentiveProbe,
  barChart,
  DataError,
  type Dataset,
  evaluate,
  finetune,
  fitHead,
  idxImages,
  knn,
  linearProbe,
  lowShot,
  type MemoryDataset,
  Nepa,
  NepaClassifier,
  parquetImages,
  plotClassMap,
  pretrain,
  Random,
  tf,
  useEngine,
} from "nepa";
import { withFolder } from "../support/folder.ts";
import { parquetFile } from "../support/parquet.ts";
import { config as tiny } from "../support/tiny.ts";

await useEngine("wasm");

const config = { ...tiny, dropPathProb: 0, posEmbedShift: null };

const LETTERS = "abcdefgh";

/** Images with a bright column, one for each letter, in the same order whatever that of the names. */
function columns(classes: readonly string[], count = 12, seed = 0, names = classes): MemoryDataset {
  const drawn = classes.toSorted().flatMap((name) => Array<string>(count).fill(name)), { length } = drawn;
  const random = new Random(seed), bright = (i: number) => LETTERS.indexOf(drawn[i >> 6]!) === i % 8;
  return arrayDataset({
    name: `columns ${classes.join("")}`,
    images: Uint8Array.from({ length: length * 64 }, (_, i) => (bright(i) ? 200 : 20) + random.integer(8)),
    shape: [length, 8, 8, 1],
    labels: drawn.map((name) => classes.indexOf(name)),
    classes: names,
  });
}

const model = new Nepa(config, { seed: 1 }), layer = "embedding";
const row = (x: tf.Tensor4D) =>
  tf.cast(tf.slice(x, [0, 0], [-1, 1]).reshape([-1, 8]), "float32") as tf.Tensor2D;
const probes: Record<string, (train: Dataset, test: Dataset) => Promise<number>> = {
  linearProbe: async (train, test) =>
    (await linearProbe(model, train, test, { lambdas: [1e-4], layer })).accuracy,
  knn: async (train, test) => (await knn(model, train, test, { k: 3, layer })).accuracy,
  attentiveProbe: async (train, test) =>
    (await attentiveProbe(model, train, test, { epochs: 40, layer })).accuracy,
  "knn of a function": async (train, test) => (await knn(row, train, test, { k: 3 })).accuracy,
};

Deno.test("probes compare classes by their names, in whatever order and whichever of them are there", async () => {
  const before = tf.memory().numTensors, train = columns(["a", "b", "c", "d"]);
  for (const [name, probe] of Object.entries(probes)) {
    const same = await probe(train, columns(["a", "b", "c", "d"], 5, 1));
    assert(same > 0.9, `${name}: ${same}`);
    assertEquals(await probe(train, columns(["d", "b", "a", "c"], 5, 1)), same, name);
    const some = await probe(train, columns(["b", "c", "d"], 5, 1));
    assert(some > 0.9, `${name}: ${some}`);
  }
  const { classes, confusion, perClass, notes, table } = await knn(
    model,
    train,
    columns(["d", "c", "b"], 5, 1),
    { k: 3 },
  );
  assertEquals([classes, confusion[0], Object.keys(perClass)], [train.classes, [0, 0, 0, 0], [
    ...train.classes,
  ]]);
  assertEquals([perClass.a, perClass.b], [NaN, 1]);
  assertEquals(notes, ["columns dcb has no class a"]);
  assert(typeof table === "function");
  assertEquals(tf.memory().numTensors, before);
});

Deno.test("a class that training has not is refused with both lists, before anything is read", async () => {
  const train = columns(["a", "b", "c"]), test = columns(["b", "c", "d"]), before = tf.memory().numTensors;
  const message =
    "columns bcd: classes: expected those of columns abc, a, b, c, got b, c, d; d: not among the 3 classes";
  const judges = { ...probes, lowShot: (a: Dataset, b: Dataset) => lowShot(model, a, b, { labels: [12] }) };
  for (const judge of Object.values(judges)) {
    await assertRejects(() => judge(train, test), RangeError, message);
  }
  const options = { every: { probe: 2 }, steps: 2, batchSize: 4, validation: columns(["b", "c", "d"], 12) };
  assertThrows(() => pretrain(model, train, options), RangeError, message);
  const classifier = new NepaClassifier(config, { classes: ["a", "b", "c"] });
  await assertRejects(
    () => evaluate(classifier, test),
    RangeError,
    "those of the classifier, a, b, c, got b, c, d; d: not among the 3 classes there; NepaClassifier.from",
  );
  for (const held of [{ validation: test }, { test }]) {
    assertThrows(
      () => finetune(classifier, train, { batchSize: 8, ...held }),
      RangeError,
      "d: not among the 3 classes",
    );
  }
  for (
    const fit of [
      () => finetune(classifier, columns(["a", "b", "d"]), { batchSize: 8 }),
      () => fitHead(classifier, columns(["a", "b", "d"])),
    ]
  ) {
    await assertRejects(async () => await fit(), RangeError, "d: not among the 3 classes");
  }
  for (const ask of [() => evaluate(model as never, test), () => fitHead(model as never, test)]) {
    await assertRejects(ask, TypeError, "expected a NepaClassifier, got a network; NepaClassifier.from");
  }
  const many = Array.from({ length: 30 }, (_, i) => `kind ${i}`);
  const large = arrayDataset({
    name: "large",
    images: new Uint8Array(1920),
    shape: [30, 8, 8, 1],
    labels: many.map((_, i) => i),
    classes: many,
  });
  const error = await assertRejects(
    () => knn(model, train, large),
    RangeError,
    "… (30 in all); kind 0, kind 1",
  );
  assert(error.message.length < 500, error.message);
  classifier.dispose();
  assertEquals(tf.memory().numTensors, before);
});

Deno.test("names that only count, as LABEL_0 does, and classes without names are matched by number", async () => {
  const train = columns(["a", "b", "c"]),
    labels = ["LABEL_0", "LABEL_1", "LABEL_2"],
    before = tf.memory().numTensors;
  const unnamed = columns(["a", "b", "c"], 5, 1, labels);
  assert(await probes.knn!(train, unnamed) > 0.9);
  const right = await Promise.all([3, ["a", "b", "c"]].map(async (classes) => {
    const classifier = new NepaClassifier(config, { classes, seed: 1 });
    await fitHead(classifier, train);
    const { confusion } = await evaluate(classifier, columns(["a", "b", "c"], 5, 1));
    if (classes === 3) {
      const two = columns(["a", "b"], 5, 1), message = "not among the 3 classes";
      await assertRejects(() => evaluate(classifier, two), RangeError, message);
    }
    classifier.dispose();
    return confusion;
  }));
  assertEquals(right[0], right[1]);
  const features = [...Array(12).keys()].map((i) => [i % 3, 1]), numbers = features.map(([x]) => x!);
  const sets = (classes?: readonly string[]) => ({
    train: { features, labels: numbers, classes: ["a", "b", "c"] },
    test: {
      features,
      labels: numbers.map((n) => classes ? classes.indexOf("abc"[n]!) : n),
      ...classes && { classes },
    },
  });
  for (const classes of [undefined, ["a", "b", "c"], ["c", "a", "b"]]) {
    assertEquals((await linearProbe(sets(classes), { lambdas: [1e-3] })).accuracy, 1);
  }
  assertEquals(tf.memory().numTensors, before);
});

Deno.test("IDX files without names match by number, Parquet files of one set by name; one class is not fitted to", async () => {
  await withFolder(async (folder) => {
    const set = columns(["a", "b", "c"], 5, 1),
      train = columns(["a", "b", "c"]),
      idx = (...head: number[]) => [0, 0, 8, ...head];
    const images = Uint8Array.from([
      ...idx(3, 0, 0, 0, 15, 0, 0, 0, 8, 0, 0, 0, 8),
      ...[...set.labels.keys()].flatMap((i) => [...set.get(i).image]),
    ]);
    await Deno.writeFile(`${folder}/images`, images);
    await Deno.writeFile(`${folder}/labels`, Uint8Array.from([...idx(1, 0, 0, 0, 15), ...set.labels]));
    assert(
      await probes.knn!(train, await idxImages({ images: `${folder}/images`, labels: `${folder}/labels` })) >
        0.9,
    );
    const orders = [["a", "b", "c"], ["c", "a"]].map((classes) => columns(classes));
    await Promise.all(orders.map((part, i) => Deno.writeFile(`${folder}/${i}`, parquetFile(part))));
    const { labels } = await parquetImages([`${folder}/0`, `${folder}/1`], { channels: 1 });
    assertEquals([...labels], [0, 1, 2, 0, 2].flatMap((label) => Array(12).fill(label)));
    await assertRejects(
      () => parquetImages([`${folder}/1`, `${folder}/0`]),
      DataError,
      "expected classes among c, a",
    );
  });
  const flat = columns(["a"]), classifier = new NepaClassifier(config, { classes: ["a"] });
  const asks = [
    ...Object.values(probes).map((probe) => () => probe(flat, flat)),
    () => fitHead(classifier, flat),
  ];
  for (const ask of asks) {
    await assertRejects(
      ask,
      RangeError,
      "columns a: expected two classes or more, a folder for each, got one, a",
    );
  }
  classifier.dispose();
});

Deno.test("names are the same however their letters are encoded; two alike are refused where they would be looked up", async () => {
  const of = ["a", "b", "c"], train = columns(of, 12, 0, ["é", "b", "c"]);
  assert(await probes.knn!(train, columns(of, 5, 1, ["e\u0301", "b", "c"])) > 0.9);
  const alike = columns(of, 12, 0, ["b", "b", "c"]), other = columns(of, 5, 1, ["b", "c", "b"]);
  await assertRejects(() => probes.knn!(alike, other), RangeError, "two of those names are alike");
});

Deno.test("a classifier learns and is judged by the names of its classes, whatever their order in a data set", async () => {
  const before = tf.memory().numTensors;
  const outcome = async (classes: string[], held: string[]) => {
    const classifier = new NepaClassifier(config, { classes: ["c", "b", "a"], seed: 2 });
    const settings = { steps: 12, batchSize: 8, seed: 3, augment: null, learningRate: 0.01, mixup: 0.2 };
    const validation = columns(held, 5, 1),
      run = finetune(classifier, columns(classes), { ...settings, validation });
    const { history } = await run.finish();
    const { loss, confusion, classes: named } = await evaluate(classifier, validation);
    await fitHead(classifier, columns(classes));
    const fitted = await evaluate(classifier, validation);
    assertEquals([fitted.accuracy, named], [1, ["c", "b", "a"]]);
    classifier.dispose();
    return { history: history.map(({ loss, validation }) => [loss, validation]), loss, confusion };
  };
  const usual = await outcome(["c", "b", "a"], ["c", "b", "a"]);
  assertEquals(await outcome(["a", "b", "c"], ["b", "a", "c"]), usual);
  assertEquals(tf.memory().numTensors, before);
});

Deno.test("low-shot figures and the probe beside a pretraining are the same for classes in another order", async () => {
  const train = columns(["a", "b", "c", "d"], 30), before = tf.memory().numTensors;
  const few = {
    labels: [12],
    heldOut: 20,
    steps: () => 4,
    scratch: [{ warmupRatio: 0.2 }],
    finetune: { compile: false },
  };
  const shots = async (test: Dataset) =>
    (await lowShot(model, train, test, few)).runs.map(({ accuracy }) => accuracy);
  const beside = async (validation: Dataset) => {
    const own = new Nepa(config, { seed: 1 });
    const run = pretrain(own, train, {
      steps: 2,
      batchSize: 8,
      every: { probe: 2 },
      validation,
      compile: false,
    });
    const { history } = await run.finish();
    own.dispose();
    return history.at(-1)!.probe!;
  };
  const same = columns(["a", "b", "c", "d"], 8, 1), other = columns(["d", "a", "c", "b"], 8, 1);
  assertEquals(await shots(other), await shots(same));
  const probe = await beside(same);
  assert(probe > 0.9, `${probe}`);
  assertEquals(await beside(other), probe);
  const { notes, table } = await lowShot(model, train, columns(["b", "c"], 8, 1), few);
  assertEquals([notes, typeof table], [["columns bc has no class a, d"], "function"]);
  assertEquals(tf.memory().numTensors, before);
});

Deno.test("an objective that reads labels gets held-out ones by the names of training's classes", async () => {
  const seen: number[][] = [], before = tf.memory().numTensors;
  const objective = {
    name: "labels",
    loss: (
      { labels, embeddings, training }: { labels: tf.Tensor1D; embeddings: tf.Tensor3D; training: boolean },
    ) => {
      if (!training) seen.push([...labels.dataSync()]);
      return tf.mean(tf.square(embeddings)) as tf.Scalar;
    },
  };
  const train = columns(["a", "b", "c"]), own = new Nepa(config, { seed: 1 });
  const run = (validation: Dataset, set: Dataset = train) =>
    pretrain(own, set, { objective, steps: 1, batchSize: 36, validation, compile: false });
  for (const classes of [["a", "b", "c"], ["c", "a", "b"]]) await run(columns(classes)).finish();
  const [usual, other] = [seen.slice(0, seen.length / 2), seen.slice(seen.length / 2)];
  assert(usual.flat().length >= 36);
  assertEquals(other, usual);
  const refused = async (message: string, ...sets: [Dataset, Dataset?]) => {
    const made = run(...sets);
    await assertRejects(() => made.finish(), RangeError, message);
    made.dispose();
  };
  await refused("d: not among the 3 classes", columns(["b", "c", "d"]));
  const one = arrayDataset({
    name: "one",
    images: new Uint8Array(36 * 64),
    shape: [36, 8, 8, 1],
    labels: Array(36).fill(0).with(7, -1),
    classes: ["a"],
  });
  await refused("one: image 7: expected a label from 0 to 0, got -1", one, one);
  own.dispose();
  assertEquals(tf.memory().numTensors, before);
});

const NAMES = [
  ...Array.from({ length: 12 }, (_, i) => `${i + 1}`).sort(),
  "__proto__",
  "constructor",
  "2.0",
  "-1",
];

Deno.test("results and figures keep classes in their order, also where names look like numbers", async () => {
  const count = NAMES.length,
    set = (seed: number) => {
      const random = new Random(seed);
      return arrayDataset({
        name: "numbers",
        images: Uint8Array.from(
          { length: 3 * count * 64 },
          (_, i) => 15 * ((i >> 6) % count) + random.integer(3),
        ),
        shape: [3 * count, 8, 8, 1],
        labels: Array.from({ length: 3 * count }, (_, i) => i % count),
        classes: NAMES,
      });
    };
  const result = await linearProbe(model, set(1), set(2), { layers: true, lambdas: [1e-5] });
  assertEquals([result.classes, Object.keys(result.perClass)], [NAMES, NAMES]);
  assertEquals(Object.keys(result.perLayer!), ["embedding", "1", "2", "final"]);
  assertEquals(Deno.inspect(result.perLayer).match(/"\w+":/g), ['"embedding":', '"1":', '"2":', '"final":']);
  assertEquals(JSON.stringify(result.perLayer).match(/"\w+":/g), [
    '"embedding":',
    '"1":',
    '"2":',
    '"final":',
  ]);
  result.confusion.forEach((row, label) => {
    assertAlmostEquals(result.perClass[NAMES[label]!]!, row[label]! / 3);
  });
  const plain = (text: unknown) => String(text).replace("\u200b", "").replace(/ [\d.]+ %$/, "");
  const { data: [heat] } = result.confusionPlot().toJSON();
  assertEquals([heat!.x, heat!.y].map((axis) => (axis as string[]).map(plain)), [NAMES, NAMES]);
  const ticks = (svg: string, axis: string) =>
    [...svg.matchAll(new RegExp(`<g class="${axis}tick"[^]*?>([^<]*)</text>`, "g"))].map(([, text]) =>
      plain(text)
    );
  const svg = await result.confusionPlot().svg();
  assertEquals(ticks(svg, "x").toSorted(), NAMES.toSorted());
  const bars = await barChart({ accuracy: result.perClass }).svg();
  assertEquals(ticks(bars, "x"), NAMES);
  const mapped = barChart(
    new Map([["10", new Map([["9", 0.1], ["8", 0.2]])], ["2", new Map([["9", 0.3], ["8", 0.4]])]]),
  );
  assertEquals(mapped.toJSON().data.map(({ name, x }) => [name, x]), [["10", ["9", "8"]], ["2", ["9", "8"]]]);
  const map = await plotClassMap(model, set(1));
  assertEquals(map.toJSON().data.map(({ name }) => name), NAMES);
});
