import { fileURLToPath } from "node:url";
import { assertEquals, assertNotEquals } from "@std/assert";
import {
  compose,
  horizontalFlip,
  imageFolder,
  Nepa,
  pretrain,
  randomResizedCrop,
  tf,
  trainingBatches,
  useEngine,
} from "nepa";
import { Feeder } from "../../lib/data/loader.ts";
import { config, noise } from "../support/tiny.ts";

await useEngine("cpu");

const augment = compose(randomResizedCrop({ size: 8, scale: [0.3, 1] }), horizontalFlip());

Deno.test("the k-th training batch has the images of pretrain's update k, wherever it begins", async () => {
  const before = tf.memory().numTensors, seen: number[][] = [], model = new Nepa(config, { seed: 0 });
  const { forward } = model;
  model.forward = ((images: tf.Tensor4D, options: never) => {
    if (images.shape[0] === 8) seen.push([...images.dataSync()]);
    return forward.call(model, images, options);
  }) as typeof forward;
  await pretrain(model, noise, { steps: 14, batchSize: 8, seed: 4, augment, compile: false }).finish();
  model.dispose();
  for (const from of [0, 5, 13]) {
    const batches = trainingBatches(noise, { batchSize: 8, seed: 4, augment, from });
    for (let k = from; k < 14; k++) {
      const { images, labels, indices, epoch } = await batches.next(), pixels = [...images.dataSync()];
      assertEquals(seen.some((other) => String(other) === String(pixels)), true, `update ${k}`);
      assertEquals([...labels.dataSync()], [...indices].map((i) => i % 2));
      assertEquals(epoch, k < 12 ? 0 : 1);
    }
    batches.dispose();
  }
  assertEquals(tf.memory().numTensors, before);
});

Deno.test("views are the same images, each augmented by its own chance; the first is that of one view", async () => {
  const before = tf.memory().numTensors,
    path = fileURLToPath(new URL("../fixtures/images/folder", import.meta.url));
  const crop = compose(randomResizedCrop({ size: 16, scale: [0.1, 0.4] }), horizontalFlip());
  const sets = [
    { dataset: noise, options: { batchSize: 8, augment } },
    { dataset: await imageFolder(path, { size: 40 }), options: { batchSize: 2, augment: crop, size: 16 } },
  ];
  for (const { dataset, options } of sets) {
    const one = trainingBatches(dataset, options), three = trainingBatches(dataset, { ...options, views: 3 });
    for (let k = 0; k < 13; k++) {
      const single = await one.next(), many = await three.next();
      const pixels = many.views!.map((view) => [...view.dataSync()]);
      assertEquals([single.views, many.views![0] === many.images], [undefined, true]);
      assertEquals([pixels[0], many.indices], [[...single.images.dataSync()], single.indices]);
      assertEquals(new Set(pixels.map(String)).size, 3);
    }
    for (const batches of [one, three]) batches.dispose();
  }
  const plain = trainingBatches(noise, { augment: null, views: 2 }), { views } = await plain.next();
  assertEquals([...views![0]!.dataSync()], [...views![1]!.dataSync()]);
  plain.dispose();
  assertEquals(tf.memory().numTensors, before);
});

Deno.test("a batch's tensors live until the next, and only they are enumerated", async () => {
  const batches = trainingBatches(noise, { batchSize: 8, views: 2 }), { numTensors } = tf.memory();
  const first = await batches.next();
  assertEquals([Object.keys(first), tf.memory().numTensors - numTensors], [["images", "labels", "views"], 3]);
  await batches.next();
  assertEquals([first.images.isDisposed, tf.memory().numTensors - numTensors], [true, 3]);
  batches.dispose();
  batches.dispose();
  assertEquals([tf.memory().numTensors, batches.updatesPerEpoch], [numTensors, 12]);
});

Deno.test("an update's data can be asked for again, and after a failure", async () => {
  let fails = true;
  const flaky = compose((image) => {
    if (fails && image.data.some((x) => x > 0)) throw new Error("the disk is away");
    return image;
  }, augment);
  const batches = trainingBatches(noise, { batchSize: 8, augment: flaky });
  const failed = await batches.next().catch((error) => (error as Error).message);
  fails = false;
  const whole = trainingBatches(noise, { batchSize: 8, augment });
  assertEquals(failed, "the disk is away");
  for (let k = 0; k < 3; k++) {
    assertEquals((await batches.next()).images.dataSync(), (await whole.next()).images.dataSync());
  }
  for (const given of [batches, whole]) given.dispose();
  const feeder = new Feeder(noise, { batchSize: 8, seed: 0, augment, size: noise });
  const [second, again, third] = [await feeder.feed(2), await feeder.feed(2), await feeder.feed(3)];
  assertEquals(second, again);
  assertNotEquals(second.images, third.images);
});
