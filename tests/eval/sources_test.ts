import { assert, assertAlmostEquals, assertEquals, assertRejects } from "@std/assert";
import {
  type Dataset,
  fashionMnist,
  type FeatureSets,
  knn,
  linearProbe,
  Nepa,
  Random,
  readFeatures,
} from "nepa";
import { tf, useEngine } from "nepa";
import { small } from "../support/small.ts";

const { train, test } = await fashionMnist(), few = train.balanced(20), judged = test.balanced(10);

/** Points around the three corners of a triangle, one class each. */
function triangle(count: number, seed: number): { features: number[][]; labels: number[] } {
  const random = new Random(seed), labels = Array.from({ length: count }, (_, i) => i % 3);
  const corner = (label: number) => [Math.cos(2 * Math.PI * label / 3), Math.sin(2 * Math.PI * label / 3), 0];
  return { labels, features: labels.map((label) => corner(label).map((x) => x + random.normal(0, 0.3))) };
}

/** The class of the nearest corner: what an optimal classifier says. */
const nearest = ([x, y]: number[]) =>
  [0, 1, 2].map((k) => x! * Math.cos(2 * Math.PI * k / 3) + y! * Math.sin(2 * Math.PI * k / 3))
    .reduce((best, dot, k, all) => dot > all[best]! ? k : best, 0);

for (const engine of ["tensorflow", "wasm"] as const) {
  Deno.test(`probes of numbers from elsewhere on ${engine} are those of the network they were read of`, async () => {
    await useEngine(engine);
    const model = new Nepa(small, { seed: 1 }), size = 32, before = tf.memory().numTensors;
    const [fitted, tested] = [await readFeatures(model, few, [1]), await readFeatures(model, judged, [1])];
    const numbers = { train: fitted.get(1)!, test: tested.get(1)! };
    const rows = (data: Float32Array) =>
      Array.from({ length: data.length / size }, (_, i) => [...data.subarray(i * size, (i + 1) * size)]);
    const tensors = {
      train: tf.tensor2d(numbers.train, [few.length, size]),
      test: tf.tensor2d(numbers.test, [judged.length, size]),
    };
    const { classes } = few,
      made: FeatureSets[] = [
        {
          train: { features: numbers.train, size, labels: few.labels, classes },
          test: { features: numbers.test, size, labels: judged.labels },
        },
        {
          train: { features: rows(numbers.train), labels: few.labels, classes },
          test: { features: rows(numbers.test), labels: judged.labels },
        },
        {
          train: { features: tensors.train, labels: few.labels, classes },
          test: { features: tensors.test, labels: judged.labels },
        },
      ];
    const probe = await linearProbe(model, few, judged, { layer: 1, seed: 3 });
    const neighbours = await knn(model, few, judged, { layer: 1, k: 5 });
    for (const sets of made) {
      const { confusion, perClass, excess, lambda, layer } = await linearProbe(sets, { seed: 3 });
      assertEquals({ confusion, perClass, excess, lambda }, {
        ...{ confusion: probe.confusion, perClass: probe.perClass },
        ...{ excess: probe.excess, lambda: probe.lambda },
      });
      assertEquals(layer, "given");
      assertEquals((await knn(sets, { k: 5 })).confusion, neighbours.confusion);
    }
    tf.dispose([tensors.train, tensors.test]);
    assertEquals(tf.memory().numTensors, before);
    model.dispose();
  });

  Deno.test(`probes of a function from images to features on ${engine} are those of the network it calls`, async () => {
    await useEngine(engine);
    const model = new Nepa(small, { seed: 1 }), before = tf.memory().numTensors, shapes: number[][] = [];
    const features = (images: tf.Tensor4D) => {
      shapes.push(images.shape);
      assertEquals(images.dtype, "int32");
      return model.features(images, { pool: "cls" });
    };
    const probe = await linearProbe(features, few, judged, { seed: 3 });
    const network = await linearProbe(model, few, judged, { pool: "cls", seed: 3 });
    assertAlmostEquals(probe.accuracy, network.accuracy, 0.011); // op by op: the last digits differ
    assertEquals(shapes[0], [few.length, 28, 28, 1]);
    const neighbours = await knn(features, few, judged, { k: 5 });
    assertAlmostEquals(
      neighbours.accuracy,
      (await knn(model, few, judged, { pool: "cls", k: 5 })).accuracy,
      0.011,
    );
    const brightness = (images: tf.Tensor4D) => tf.mean(images.cast("float32"), [1, 2]) as tf.Tensor2D;
    assert((await linearProbe(brightness, few, judged)).accuracy > 0.15);
    assertEquals(tf.memory().numTensors, before);
    model.dispose();
  });
}

Deno.test("a probe of points around a triangle's corners finds the corner of each", async () => {
  await useEngine("tensorflow");
  const fit = triangle(300, 1),
    tested = triangle(300, 2),
    sets = { train: { ...fit, classes: 3 }, test: tested };
  const best = tested.features.filter((point, i) => nearest(point) === tested.labels[i]).length / 300;
  const { accuracy, perClass } = await linearProbe(sets);
  assertEquals(Object.keys(perClass), ["0", "1", "2"]);
  assertAlmostEquals(accuracy, best, 0.02);
  assertAlmostEquals((await knn(sets, { k: 30 })).accuracy, best, 0.03);
  assert(Deno.inspect(await linearProbe(sets, { lambdas: [0.1] })).includes("given"));
  assertEquals((await linearProbe(sets, { lambdas: [0.1], seed: 7 })).lambda, 0.1);
  const one = {
    train: { features: [[0], [1]], labels: [0, 1], classes: ["low", "high"] },
    test: { features: [[0.9]], labels: [1] },
  };
  assertEquals((await knn(one, { k: 1 })).accuracy, 1); // no minimum of images but k
});

Deno.test("features that cannot be are refused, naming the set and the row", async () => {
  await useEngine("tensorflow");
  const fit = triangle(30, 1), good = { train: { ...fit, classes: 3 }, test: triangle(12, 2) };
  const before = tf.memory().numTensors, { features, labels } = good.train;
  const flat = Float32Array.from(features.flat());
  const cases: [change: object, message: string][] = [
    [{ features: features.with(7, [0, NaN, 1]) }, "train: row 7: expected finite numbers, got NaN"],
    [{ features: features.with(4, [0, Infinity, 1]) }, "train: row 4: expected finite numbers, got Infinity"],
    [{ features: flat.with(3 * 11 + 1, NaN), size: 3 }, "train: row 11: expected finite numbers, got NaN"],
    [{ features: features.with(2, [0, 1]) }, "train: row 2: expected 3 numbers, as row 0, got 2"],
    [{ features: features.slice(1) }, "train: expected a label for each of 29 images, got 30 labels"],
    [{ labels: labels.with(5, 3) }, "train: image 5: expected a label from 0 to 2, got 3"],
    [{ labels: labels.with(5, 0.5) }, "train: image 5: expected a label from 0 to 2, got 0.5"],
    [{ features: flat }, "train: size: expected numbers in a row, a divisor of 90, got undefined"],
    [{ features: flat, size: 4 }, "a divisor of 90, got 4"],
    [{ features: flat, size: 2.5 }, "size: expected an integer from 1, got 2.5"],
    [{ features: [] }, "train: features: expected rows of numbers, got none"],
    [{ features: "none" }, "train: features: expected a Float32Array, rows or a tensor"],
    [{ features: features.map(([x]) => [x!]) }, "test: expected rows of 1 numbers, as train, got 3"],
    [{ classes: undefined }, "train: expected labelled images"],
    [{ feature: [] }, "train: unknown option feature; did you mean features?"],
  ];
  for (const [change, message] of cases) {
    const sets = { ...good, train: { ...good.train, ...change } } as FeatureSets;
    for (const probe of [linearProbe, knn]) await assertRejects(() => probe(sets), Error, message);
  }
  const cube = tf.zeros([30, 1, 3]) as unknown as tf.Tensor2D;
  const rank3 = { ...good, train: { ...good.train, features: cube } };
  await assertRejects(() => linearProbe(rank3), RangeError, "a tensor [N, D], got [30,1,3]");
  cube.dispose();
  const renamed = { ...good, test: { ...good.test, classes: ["a", "b", "c"] } };
  await assertRejects(
    () => knn(renamed),
    RangeError,
    "test: classes: expected those of train, 0, 1, 2, got a, b, c",
  );
  const few = {
    train: { features: features.slice(0, 9), labels: labels.slice(0, 9), classes: 3 },
    test: good.test,
  };
  await assertRejects(() => linearProbe(few), RangeError, "train: expected at least 10 rows, got 9");
  await assertRejects(() => knn(few, { k: 10 }), RangeError, "k: expected an integer from 1 to 9");
  assertEquals(tf.memory().numTensors, before);
});

Deno.test("a probe refuses options that are not its own, and what it cannot read", async () => {
  await useEngine("tensorflow");
  const model = new Nepa(small, { seed: 1 }),
    good = { train: { ...triangle(30, 1), classes: 3 }, test: triangle(12, 2) };
  const before = tf.memory().numTensors,
    mean = (images: tf.Tensor4D) => tf.mean(images, [1, 2]) as tf.Tensor2D;
  const as = (value: unknown) => value as never;
  const cases: [ask: () => Promise<unknown>, message: string][] = [
    [
      () => linearProbe(model, few, judged, as({ layr: 1 })),
      "linearProbe: unknown option layr; did you mean layer?",
    ],
    [() => knn(model, few, judged, as({ K: 1 })), "knn: unknown option K; did you mean k?"],
    [
      () => linearProbe(good, as({ layer: 1 })),
      "linearProbe of features: unknown option layer; there are: lambdas, seed",
    ],
    [
      () => knn(mean, few, judged, { layer: 1 }),
      "knn of a function: unknown option layer; there are: k, temperature, centred",
    ],
    [
      () => linearProbe(as({ trian: 1 })),
      "linearProbe: model: expected a network, a function from images to features",
    ],
    [() => linearProbe(as(undefined)), "linearProbe: model: expected a network"],
    [
      () => linearProbe(model),
      "linearProbe: train: expected a data set, got undefined",
    ],
    [() => linearProbe(as({ train: few, test: judged })), "train: unknown option"],
    [
      () => linearProbe((x) => as(tf.mean(x)), few, judged),
      "features of Fashion-MNIST train: expected a tensor [200, D], got []",
    ],
    [() => linearProbe(() => as(3), few, judged), "expected a tensor [200, D], got 3"],
    [() => linearProbe((x) => tf.div(mean(x), 0), few, judged), "row 0: expected finite numbers, got"],
    [
      () =>
        knn(mean, few, Object.create(judged, { labels: { value: judged.labels.with(7, 10) } }) as Dataset),
      "image 7",
    ],
  ];
  for (const [ask, message] of cases) await assertRejects(ask, Error, message);
  assertEquals(tf.memory().numTensors, before);
  model.dispose();
});
