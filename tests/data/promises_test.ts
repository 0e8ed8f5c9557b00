import { fileURLToPath } from "node:url";
import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import {
  arrayDataset,
  type Batch,
  type BatchOptions,
  compose,
  type Dataset,
  describeTransform,
  evaluate,
  horizontalFlip,
  type Image,
  imageFolder,
  Nepa,
  NepaClassifier,
  parquetImages,
  pretrain,
  randAugment,
  Random,
  randomResizedCrop,
  resize,
  tf,
  trainingBatches,
  type TrainingBatchesOptions,
  type Transform,
  useEngine,
} from "nepa";
import { config, noise } from "../support/tiny.ts";

await useEngine("cpu");

/** `noise` as a data set of one's own, whose batches are made by `change`. */
function own(
  change: (batch: Batch, options: BatchOptions) => unknown,
  asks = (options: BatchOptions) => options,
): Dataset {
  return {
    ...noise,
    length: noise.length,
    get: (i) => noise.get(i),
    subset: () => own(change, asks),
    balanced: () => own(change, asks),
    *batches(options) {
      for (const batch of noise.batches(asks(options))) yield change(batch, options) as Batch;
    },
  };
}

async function taken(dataset: Dataset, options: TrainingBatchesOptions = {}, count = 1): Promise<number[]> {
  const batches = trainingBatches(dataset, { batchSize: 8, ...options }), all: number[] = [];
  try {
    for (let k = 0; k < count; k++) all.push(...(await batches.next()).images.dataSync());
    return all;
  } finally {
    batches.dispose();
  }
}

Deno.test("arrays that hold no 8-bit values are refused, floats with how to make them 8-bit", () => {
  const good = { name: "mine", shape: [1, 2, 2, 1] as const, labels: [0], classes: ["a"] };
  for (
    const images of [
      new Float32Array(4),
      new Float64Array(4),
      [0, 0.5, 1, 1],
      new Int16Array(4),
      "text",
      null,
    ]
  ) {
    const given = { ...good, images: images as unknown as Uint8Array };
    assertThrows(() => arrayDataset(given), TypeError, "mine: expected 8-bit values in a Uint8Array, got ");
    assertThrows(() => arrayDataset(given), TypeError, "multiply by 255 and round");
  }
  for (const shape of [[2, 2, 1], [1, 2, 2, 1, 1], [1, 2, 2, 1.5], "1,2,2,1", null]) {
    const given = { ...good, images: new Uint8Array(4), shape: shape as unknown as [1, 2, 2, 1] };
    assertThrows(() => arrayDataset(given), RangeError, "shape: expected four whole numbers: images, height");
  }
  const clamped = arrayDataset({ ...good, images: Uint8ClampedArray.of(0, 1, 254, 300) });
  assertEquals(clamped.get(0).image, Uint8Array.of(0, 1, 254, 255));
});

Deno.test("what comes out of a transform is checked, with its name and the image", async () => {
  const image = noise.get(0).image;
  const cases: [(image: Image) => unknown, string][] = [
    [(i) => ({ ...i, data: Float32Array.from(i.data, (x) => x / 255) }), "Float32Array; multiply by 255"],
    [(i) => ({ ...i, data: i.data.subarray(1) }), "expected 64 bytes for [8,8,1], got 63"],
    [
      (i) => ({ ...i, height: 7, data: i.data.subarray(8) }),
      "expected 8x8x1 to come out, got 7x8x1; end it with a resize",
    ],
    [(i) => Promise.resolve(i), "expected an image { data, height, width, channels }, got a promise"],
    [(i) => i.data, "expected an image"],
    [() => undefined, "got undefined"],
  ];
  for (const [wrong, message] of cases) {
    // The black image by which a transform is tried first gets through.
    const faulty = (given: Image) => given.data.every((x) => x === 0) ? given : wrong(given);
    const augment = faulty as Transform;
    await assertRejects(() => taken(noise, { augment }), Error, message);
    const error = await assertRejects(
      () => taken(noise, { augment }),
      Error,
      "augment: faulty: image ",
    ) as Error;
    assertEquals(/image \d+: expected/.test(error.message), true, error.message);
    const two = compose(augment, resize(8));
    await assertRejects(() => taken(noise, { augment: two }), Error, "faulty: ");
    assertThrows(() => trainingBatches(noise, { augment: wrong as Transform }), Error, message);
  }
  assertEquals(noise.get(0).image, image);
});

Deno.test("a transform that writes into the image it is given leaves the data set as it was", async () => {
  const before = Array.from({ length: noise.length }, (_, i) => noise.get(i).image);
  const black: Transform = (image) => {
    image.data.fill(0);
    return image;
  };
  assertEquals(new Set(await taken(noise, { augment: black })), new Set([0]));
  const path = fileURLToPath(new URL("../fixtures/images/folder", import.meta.url));
  const files = await imageFolder(path, { size: 30 }), first = (await files.get(0)).image;
  await taken(files, { augment: compose(resize(30), black), batchSize: 4 }).catch(() => {});
  assertEquals((await files.get(0)).image, first);
  assertEquals(Array.from({ length: noise.length }, (_, i) => noise.get(i).image), before);
});

Deno.test("a data set of one's own has to give the batches that it promises", async () => {
  const cases: [Dataset, string][] = [
    [
      own((b) => ({ ...b, images: Float32Array.from(b.images) })),
      "noise: batches: expected 8-bit values in a Uint8Array, got a Float32Array; multiply by 255",
    ],
    [own((b) => ({ ...b, images: b.images.subarray(1) })), "expected 512 bytes for [8,8,8,1], got 511"],
    [own((b) => ({ ...b, shape: [8, 8, 8, 3] })), "expected images [8,8,8,1], got [8,8,8,3]"],
    [own((b) => b, (o) => ({ ...o, size: 4 })), "expected images [8,8,8,1], got [4,8,8,1]"],
    [own((b) => ({ ...b, labels: [...b.labels] })), "labels in an Int32Array of 8"],
    [own((b) => ({ ...b, labels: b.labels.subarray(1) })), "labels in an Int32Array of 8"],
    [own((b) => ({ ...b, labels: b.labels.map((l) => 1 - l) })), "the label of image"],
    [own((b) => ({ ...b, labels: b.labels.map(() => 2), indices: undefined })), "labels from 0 to 1, got 2"],
    [own((b) => ({ ...b, indices: b.indices.map((i) => i + 96) })), "indices from 0 to 95"],
    [own((b) => b, ({ change: _, ...rest }) => rest), "`change.transform` applied to each image"],
    [own(() => undefined), "expected images [8,8,8,1], got undefined"],
  ];
  for (const [dataset, message] of cases) await assertRejects(() => taken(dataset), Error, message);
  assertEquals(await taken(own((b) => b), { views: 2 }, 30), await taken(noise, {}, 30));
  assertEquals(
    await taken(own((b) => ({ ...b, indices: undefined })), { from: 5 }),
    await taken(noise, { from: 5 }),
  );
  await assertRejects(
    () => pretrain(new Nepa(config), cases[0]![0], { steps: 1, batchSize: 8, compile: false }).finish(),
    TypeError,
    "multiply by 255",
  );
});

Deno.test("a pass that ends early or late, or does not begin where it is told to, is refused", async () => {
  const heedless = own((b) => b, ({ from: _, ...rest }) => rest);
  const early = own((b) => b, (o) => ({ ...o, from: (o.from ?? 0) + 1 }));
  const late: Dataset = {
    ...early,
    *batches(options) {
      yield* noise.batches(options);
      yield* noise.batches({ ...options, from: 11 });
    },
  };
  assertEquals((await taken(heedless, {}, 12)).length, 12 * 512);
  await assertRejects(
    () => taken(heedless, { from: 3 }),
    RangeError,
    "expected batch 3 first with from: 3, got another",
  );
  await assertRejects(
    () => taken(early, {}, 12),
    RangeError,
    "expected 12 batches of 8 in a pass, got 11: epoch 0 ended",
  );
  await assertRejects(() => taken(late, {}, 12), RangeError, "expected 12 batches of 8 in a pass, got more");
});

Deno.test("images that are read in order have to come in order, all of them", async () => {
  const classifier = new NepaClassifier(config, { classes: noise.classes }), before = tf.memory().numTensors;
  const cases: [Dataset, string][] = [
    [own((b) => b, (o) => ({ ...o, shuffle: true })), "without `shuffle`"],
    [own((b) => b, (o) => ({ ...o, from: 1 })), "expected 96 images in a pass, got 0"],
  ];
  for (const [dataset, message] of cases) {
    await assertRejects(() => evaluate(classifier, dataset), RangeError, message);
  }
  assertEquals(tf.memory().numTensors, before);
  classifier.dispose();
});

Deno.test("options that nobody knows and images that are none are refused, with the name that was meant", async () => {
  const floats = { data: new Float32Array(64) as unknown as Uint8Array, height: 8, width: 8, channels: 1 };
  for (
    const transform of [
      horizontalFlip(),
      resize(4),
      randomResizedCrop({ size: 4 }),
      randAugment(),
      compose(resize(4)),
    ]
  ) {
    assertThrows(() => transform(floats, new Random(0)), TypeError, "multiply by 255 and round");
  }
  const any = (options: object) => options as never;
  const sync: [() => unknown, string][] = [
    [
      () => noise.batches(any({ size: 4, suffle: true })),
      "batches: unknown option suffle; did you mean shuffle?",
    ],
    [() => noise.batches({ size: 4, from: -1 }), "from: expected an integer from 0"],
    [() => arrayDataset(any({ name: "mine" })), "arrayDataset: expected images, got none"],
    [() => compose(resize(8), undefined as never), "compose: expected functions, got undefined in place 1"],
    [() => arrayDataset(any({ nam: "" })), "arrayDataset: unknown option nam; did you mean name?"],
    [() => randomResizedCrop(any({ size: 8, scales: [0.1, 1] })), "did you mean scale?"],
    [() => randomResizedCrop({ size: 8, resample: "nearest" as "bicubic" }), "resample: expected one of"],
    [() => resize(8, "nearest" as "bicubic"), "resample: expected one of"],
    [() => randAugment(any({ magnitud: 3 })), "did you mean magnitude?"],
    [() => trainingBatches(noise, any({ augmnt: null })), "did you mean augment?"],
    [() => trainingBatches(noise, { size: 4, augment: null }), "size: expected that of the images"],
    [() => trainingBatches(noise, { size: 4 }), "expected 4x4x1 to come out, got 8x8x1"],
    [() => trainingBatches(noise, { batchSize: 97 }), "at most the 96 images of noise"],
  ];
  for (const [call, message] of sync) assertThrows(call, Error, message);
  await assertRejects(() => imageFolder(".", any({ sized: 8 })), TypeError, "did you mean size?");
  await assertRejects(() => parquetImages("x", any({ chanels: 1 })), TypeError, "did you mean channels?");
});

Deno.test("a transform says what it is and with which options; what cannot be told is undefined", () => {
  function darker(image: Image): Image {
    return { ...image, data: image.data.map((x) => x >> 1) };
  }
  const strength = (by: number): Transform => (image) => ({ ...image, data: image.data.map((x) => x * by) });
  const random = randAugment({ magnitude: 5 });
  assertEquals(describeTransform(horizontalFlip()), describeTransform(horizontalFlip(0.5)));
  assertEquals(
    describeTransform(resize({ height: 8, width: 9 })),
    'resize({"height":8,"width":9}, "bilinear")',
  );
  assertEquals(
    describeTransform(random),
    'randAugment({"magnitude":5,"deviation":0.5,"count":2,"probability":0.5,"mean":[0.5]})',
  );
  assertEquals(describeTransform(darker)?.startsWith("darker: function darker(image)"), true);
  assertEquals(describeTransform(strength(0.5)), undefined);
  assertEquals(describeTransform(compose(resize(8), strength(0.5))), undefined);
  const named = Object.assign(strength(0.5), { description: "strength(0.5)" });
  const crop = randomResizedCrop({ size: 8 });
  assertEquals(
    describeTransform(compose(crop, named)),
    'compose(randomResizedCrop({"size":8,"scale":[0.08,1],"ratio":[0.75,1.3333333333333333],"resample":"bilinear"}), strength(0.5))',
  );
  assertEquals(crop({ data: new Uint8Array(64), height: 8, width: 8, channels: 1 }, new Random(0)).height, 8);
});
