import { assert, assertEquals, assertNotEquals, assertRejects, assertThrows } from "@std/assert";
import { Buffer } from "node:buffer";
import {
  fingerprintOf,
  generatedImages,
  type GeneratedImagesOptions,
  type Image,
  linearProbe,
  Nepa,
  pretrain,
  Random,
  tf,
  trainingBatches,
  useEngine,
} from "nepa";
import { config } from "../support/tiny.ts";

await useEngine("cpu");

function drawn(i: number): Uint8Array {
  const random = new Random(5, "image", i);
  return Uint8Array.from({ length: 64 }, () => random.integer(256));
}
const size = { height: 8, width: 8, channels: 1 };

Deno.test("a generated set of 10 million images holds none of them, and gives each as it is asked for", async () => {
  const before = Deno.memoryUsage().rss, asked: number[] = [];
  const set = generatedImages({
    ...size,
    length: 1e7, // as pixels 640 MB
    get: (i) => {
      asked.push(i);
      return drawn(i);
    },
  });
  assertEquals((await set.get(9_999_999)).image, drawn(9_999_999));
  const some = set.subset([3, 5_000_000]);
  assertEquals([(await some.get(1)).image, some.length], [drawn(5_000_000), 2]);
  const [batch] = await Array.fromAsync(some.batches({ size: 2, shuffle: false }));
  assertEquals([...batch!.images], [...drawn(3), ...drawn(5_000_000)]);
  assertEquals(asked, [9_999_999, 5_000_000, 3, 5_000_000]);
  assertEquals(String(set), "generated images: 10000000 images 8×8×1, without labels");
  assert(Deno.memoryUsage().rss - before < 4e8);
  assert(
    "text/plain" in
      await (some as unknown as Record<symbol, () => Promise<object>>)[Symbol.for("Jupyter.display")]!(),
  );
});

Deno.test("promises, whole images and one array filled anew are taken; labels are given or computed", async () => {
  const shared = new Uint8Array(64);
  const ways: GeneratedImagesOptions["get"][] = [
    drawn,
    (i) => Promise.resolve(drawn(i)),
    (i) => ({ ...size, data: drawn(i) }),
    (i) => {
      shared.set(drawn(i));
      return Buffer.from(shared.buffer);
    },
    (i) => {
      shared.set(drawn(i));
      return Promise.resolve({
        ...size,
        data: new Uint8ClampedArray(shared.buffer) as unknown as Uint8Array,
      });
    },
  ];
  const options = { ...size, length: 12, classes: ["even", "odd"], labels: (i: number) => i % 2 };
  for (const get of ways) {
    const set = generatedImages({ ...options, get });
    for (const { images, indices, labels } of await Array.fromAsync(set.batches({ size: 5, seed: 3 }))) {
      indices.forEach((i, k) => {
        assertEquals([images.slice(64 * k, 64 * k + 64), labels[k]], [drawn(i), i % 2]);
      });
    }
    assertEquals([...set.balanced(2).labels].sort(), [0, 0, 1, 1]);
  }
  const seen = generatedImages({ length: 3, get: (i): Image => ({ ...size, data: drawn(i) }) });
  assertEquals([seen.height, seen.width, seen.channels], [8, 8, 1]);
});

Deno.test("what get gives is checked at every read, and options before any", async () => {
  const bad: [unknown, string][] = [
    [
      new Float32Array(64),
      "noise: get(2): expected 8-bit values in a Uint8Array, got a Float32Array; multiply by 255",
    ],
    [new Uint8Array(63), "noise: get(2): expected 64 bytes for [8,8,1], got 63"],
    [{ ...size, width: 9, data: new Uint8Array(72) }, "noise: get(2): expected 8x8x1, got 8x9x1"],
    [undefined, "got undefined"],
    [Array(64).fill(0), "got [0,0,0,"],
  ];
  for (const [image, message] of bad) {
    for (
      const get of [
        (i: number) => i === 2 ? image : drawn(i),
        (i: number) => Promise.resolve(i === 2 ? image : drawn(i)),
      ]
    ) {
      const set = generatedImages({
        ...size,
        name: "noise",
        length: 4,
        get: get as GeneratedImagesOptions["get"],
      });
      await assertRejects(async () => await set.get(2), Error, message);
      await assertRejects(() => Array.fromAsync(set.batches({ size: 4 })), Error, message);
    }
  }
  const good = { ...size, length: 4, get: drawn };
  const refused: [object, string][] = [
    [{ ...good, lenght: 4 }, "generatedImages: unknown option lenght; did you mean length?"],
    [{ ...size, get: drawn }, "length"],
    [{ ...size, length: 4 }, "get"],
    [{ ...good, length: 2.5 }, "length: expected an integer from 1"],
    [{ length: 4, get: drawn }, "give `height`, `width` and `channels`"],
    [{ ...good, labels: [0, 0, 0, 0] }, "labels and classes, or neither, got labels"],
    [{ ...good, classes: ["a"] }, "labels and classes, or neither, got classes"],
    [{ ...good, classes: ["a"], labels: [0, 0, 0] }, "a label for each of 4 images, got 3 labels"],
    [{ ...good, classes: ["a"], labels: (i: number) => i }, "image 1: expected a label from 0 to 0, got 1"],
  ];
  for (const [options, message] of refused) {
    assertThrows(() => generatedImages(options as GeneratedImagesOptions), Error, message);
  }
  const model = new Nepa(config, { seed: 0 }), set = generatedImages(good);
  await assertRejects(
    () => linearProbe(model, set, set),
    RangeError,
    "expected labelled images, got images without classes",
  );
  model.dispose();
});

Deno.test("pretraining on generated images without labels goes on bit for bit after a stop", async () => {
  const folder = await Deno.makeTempDir();
  const run = async (stop: number, checkpoint?: { folder: string; resume: "auto" }) => {
    const model = new Nepa(config, { seed: 0 }), get = (i: number) => Promise.resolve(drawn(i));
    const set = generatedImages({ ...size, length: 50, get });
    const training = pretrain(model, set, {
      steps: 9,
      batchSize: 8,
      every: { collapse: 100 },
      compile: false,
      ...checkpoint && { checkpoint },
    });
    for await (const { step } of training) if (step === stop) break;
    const weights = [...model.parameters.values()].map((v) => [...v.dataSync()]);
    model.dispose();
    return weights;
  };
  const expected = await run(9);
  await run(4, { folder, resume: "auto" });
  assertEquals(await run(9, { folder, resume: "auto" }), expected);
  await Deno.remove(folder, { recursive: true });
});

Deno.test("a generated set's fingerprint is the one given, or of 64 of its images, and depends on the rows", async () => {
  const set = (options: Partial<GeneratedImagesOptions> = {}) =>
    generatedImages({ ...size, length: 1000, get: drawn, ...options });
  const of = async (options?: Partial<GeneratedImagesOptions>) => await fingerprintOf(set(options));
  const same = await of();
  assertEquals(await of({ name: "another" }), same);
  for (
    const changed of [
      { get: (i: number) => drawn(i + 1) },
      { length: 999 },
      { fingerprint: "v1" },
      { classes: ["a"], labels: () => 0 },
    ]
  ) assertNotEquals(await of(changed), same);
  let asked = 0;
  const counted = (i: number) => {
    asked++;
    return drawn(i);
  };
  await of({ get: counted });
  assertEquals(asked, 64);
  assertEquals(await of({ fingerprint: "v1", get: counted }), await of({ fingerprint: "v1" }));
  assertEquals(asked, 64);
  assertNotEquals(await of({ fingerprint: "v1" }), await of({ fingerprint: "v2" }));
  for (const fingerprint of [undefined, "v1"]) {
    const all = set({ ...fingerprint && { fingerprint } });
    assertNotEquals(await fingerprintOf(all.subset([1, 2])), await fingerprintOf(all.subset([2, 1])));
  }
});

Deno.test("training batches of a generated set are those of the same images in memory", async () => {
  const before = tf.memory().numTensors;
  const set = generatedImages({ ...size, length: 20, get: drawn }),
    batches = trainingBatches(set, { batchSize: 4 });
  for (let k = 0; k < 12; k++) {
    const { images, indices, epoch } = await batches.next();
    assertEquals([images.shape, epoch], [[4, 8, 8, 1], Math.floor(k / 5)]);
    const pixels = await images.data();
    indices.forEach((i, at) => {
      const plain = drawn(i), given = Uint8Array.from(pixels.slice(64 * at, 64 * at + 64));
      const mirrored = plain.map((_, p) => plain[8 * (p >> 3) + 7 - p % 8]!);
      assert(String(given) === String(plain) || String(given) === String(mirrored));
    });
  }
  batches.dispose();
  assertEquals(tf.memory().numTensors, before);
});
