import { assert, assertEquals, assertNotEquals, assertRejects, assertThrows } from "@std/assert";
import {
  compose,
  fashionScenes,
  fingerprintOf,
  generatedImages,
  horizontalFlip,
  IGNORED,
  type Image,
  knn,
  Nepa,
  pretrain,
  Random,
  randomResizedCrop,
  trainingBatches,
  useEngine,
} from "nepa";
import { config } from "../support/tiny.ts";

await useEngine("cpu");
const small = { seed: 3, size: 24, train: 200, validation: 20, test: 20 };
const { train, validation, test } = await fashionScenes(small);

Deno.test("a scene is the same for the same seed, and another for another seed, part or number of items", async () => {
  const again = await fashionScenes(small), { image, mask } = await train.get(7);
  assertEquals(await again.train.get(7), { image, mask, label: -1 });
  assertEquals(await train.subset([5, 7]).get(1), { image, mask, label: -1 });
  assertEquals(await train.original(7), { data: image, mask, height: 24, width: 24, channels: 1 });
  const other = await Promise.all(
    [{ seed: 4 }, { items: 1 }].map((x) => fashionScenes({ ...small, ...x })),
  );
  const prints = [train, validation, test, ...other.map((set) => set.train)].map((set) => fingerprintOf(set));
  assertEquals(new Set(await Promise.all(prints)).size, 5);
  assertEquals(await fingerprintOf(again.train), await fingerprintOf(train));
  assertNotEquals((await other[0]!.train.get(7)).image, image);
  assertNotEquals((await test.get(7)).image, (await validation.get(7)).image);
});

Deno.test("masks have eleven classes; a single item is one class on background, and covers what it shows", async () => {
  const seen = new Set<number>(), { train: single } = await fashionScenes({ ...small, items: 1 });
  for await (const { masks } of train.batches({ size: 50 })) for (const k of masks) seen.add(k);
  assertEquals([...seen].sort((a, b) => a - b), Array.from({ length: 11 }, (_, k) => k));
  assertEquals(train.classes.length, 11);
  for (let i = 0; i < 10; i++) {
    const { mask, image } = await single.get(i), kinds = new Set(mask.filter((k) => k > 0));
    assert(kinds.size === 1);
    assert(image.every((x, at) => mask[at] === 0 || x >= 32));
  }
});

Deno.test("batches have masks that move with the images, and so have those of a training", async () => {
  const [batch] = await Array.fromAsync(train.batches({ size: 4, seed: 1 }));
  for (const [k, i] of batch!.indices.entries()) {
    assertEquals(batch!.masks.slice(k * 576, (k + 1) * 576), (await train.get(i)).mask);
  }
  // Each pixel of these images is its class, so that a mask that moves otherwise shows.
  const told = generatedImages({
    ...{ length: 20, height: 24, width: 24, channels: 1, masks: true, classes: test.classes },
    get: async (i) => {
      const { mask } = await test.get(i);
      return { data: mask, mask, height: 24, width: 24, channels: 1 };
    },
  });
  const batches = trainingBatches(told, { batchSize: 20, augment: horizontalFlip(0.5) });
  const { images, masks, labels } = await batches.next();
  assertEquals([masks!.shape, masks!.dtype], [[20, 24, 24], "int32"]);
  assertEquals(await images.data(), await masks!.data());
  assert((await labels.data()).every((label) => label === -1));
  batches.dispose();
  const crops = compose(
    randomResizedCrop({ size: 12, scale: [0.25, 0.25], ratio: [1, 1] }),
    horizontalFlip(),
  );
  const change = { transform: crops, size: { height: 12, width: 12 }, random: (i: number) => new Random(i) };
  for await (const cut of told.batches({ size: 20, change })) assertEquals(cut.images, cut.masks);
});

Deno.test("scenes are pretrained on without their masks; what wants a label for each image refuses them", async () => {
  const model = new Nepa({ ...config, numHiddenLayers: 1, imageSize: 24, numChannels: 1 }, { seed: 0 });
  const { steps } = await pretrain(model, train, { steps: 2, batchSize: 4, compile: false }).finish();
  assertEquals(steps, 2);
  await assertRejects(
    () => knn(model, train, test),
    RangeError,
    "expected images with a label each, got images with masks",
  );
  model.dispose();
});

Deno.test("what is no mask is refused with the image's number, and options with their names", async () => {
  const size = { height: 2, width: 2, channels: 1 }, data = new Uint8Array(4);
  const given = { ...size, length: 2, masks: true, classes: ["a", "b"] } as const;
  const refused = async (mask: unknown, expected: string) => {
    const set = generatedImages({ ...given, get: () => ({ data, mask: mask as Uint8Array, ...size }) });
    await assertRejects(() => set.get(1), RangeError, `generated images: get(1): expected ${expected}`);
  };
  await refused(undefined, "a mask of 2x2, a class for each pixel in a Uint8Array, got undefined");
  await refused(new Uint8Array(3), "a mask of 2x2, a class for each pixel in a Uint8Array, got 3 bytes");
  await refused(Uint8Array.of(0, 1, 2, IGNORED), "classes from 0 to 1 in the mask, or 255 for none, got 2");
  assertThrows(
    () => generatedImages({ ...given, labels: [0, 1], get: () => data }),
    RangeError,
    "got labels",
  );
  assertThrows(
    () => generatedImages({ ...given, classes: [], get: () => data }),
    RangeError,
    "got no classes",
  );
  for (const [option, value] of Object.entries({ size: 15, items: [3, 2], train: 0, seed: -1 })) {
    await assertRejects(() => fashionScenes({ [option]: value }), RangeError, `${option}: expected`);
  }
  await assertRejects(
    () => fashionScenes({ items: [] as never }),
    RangeError,
    "items: expected an integer from 1, or [least",
  );
  const forgets = Object.assign((image: Image) => ({ ...image, mask: undefined } as never), {
    description: "forgets",
  });
  assertThrows(
    () => trainingBatches(train, { augment: forgets }),
    RangeError,
    "augment: forgets: image 0: expected a mask",
  );
});
