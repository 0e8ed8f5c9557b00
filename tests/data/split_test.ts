import { assert, assertEquals, assertNotEquals, assertRejects, assertThrows } from "@std/assert";
import {
  arrayDataset,
  attentiveProbe,
  type Dataset,
  evaluate,
  fashionMnist,
  finetune,
  fitHead,
  generatedImages,
  imageFolder,
  knn,
  linearProbe,
  lowShot,
  Nepa,
  NepaClassifier,
  parquetImages,
  pretrain,
  Random,
  type SplittableDataset,
  tf,
  useEngine,
} from "nepa";
import { encodePng } from "../../lib/display/png.ts";
import { withFolder } from "../support/folder.ts";
import { parquetFile } from "../support/parquet.ts";
import { config, noise } from "../support/tiny.ts";

await useEngine("wasm");

const CLASSES = ["a", "b", "c"];
/** Image `i` is all i; of every six, three are of class a, two of b, one of c. */
const labels = Array.from({ length: 60 }, (_, i) => [0, 0, 0, 1, 1, 2][i % 6]!);
const numbered = arrayDataset({
  name: "numbered",
  images: Uint8Array.from({ length: 60 * 64 }, (_, i) => i >> 6),
  shape: [60, 8, 8, 1],
  labels,
  classes: CLASSES,
});

const values = async (set: Dataset) =>
  await Promise.all(Array.from({ length: set.length }, async (_, i) => (await set.get(i)).image[0]!));

/** The same images in a folder, in Parquet files, computed and in memory. */
async function everyKind(folder: string): Promise<Record<string, SplittableDataset>> {
  for (const [i, label] of labels.entries()) {
    const data = numbered.get(i).image, file = `${folder}/images/${CLASSES[label]}/${i}.png`;
    await Deno.mkdir(`${folder}/images/${CLASSES[label]}`, { recursive: true });
    await Deno.writeFile(file, encodePng({ data, height: 8, width: 8, channels: 1 }));
  }
  await Deno.writeFile(`${folder}/x.parquet`, parquetFile(numbered));
  const get = (i: number) => numbered.get(i).image, size = { height: 8, width: 8, channels: 1 };
  return {
    array: numbered,
    folder: await imageFolder(`${folder}/images`, { channels: 1 }),
    parquet: await parquetImages(`${folder}/x.parquet`, { channels: 1 }),
    generated: generatedImages({ ...size, get, length: 60, labels, classes: CLASSES }),
  };
}

Deno.test("parts of a split have no image in common, each its share, in the data set's order, by their seed", async () => {
  await withFolder(async (folder) => {
    for (const [kind, set] of Object.entries(await everyKind(folder))) {
      const [train, test] = set.split([0.8, 0.2], { seed: 1 }),
        all = [...await values(train), ...await values(test)];
      assertEquals([train.length, test.length, new Set(all).size], [48, 12, 60], kind);
      const order = await values(set);
      assertEquals(await values(train), order.filter((value) => all.indexOf(value) < 48));
      assertEquals(await values(set.split([0.8, 0.2], { seed: 1 })[1]), await values(test));
      assertNotEquals(await values(set.split([0.8, 0.2], { seed: 2 })[1]), await values(test));
      assertEquals(set.split([0.5, 0.25]).map(({ length }) => length), [30, 15]);
      assertEquals(set.split([1]).map(({ length }) => length), [60]);
      const [some] = test.split([0.5, 0.5]);
      assert((await values(some)).every((value) => all.indexOf(value) >= 48));
    }
  });
  for (const n of [7, 10, 31]) {
    const parts = numbered.subset(Array.from({ length: n }, (_, i) => i)).split([0.1 + 0.2, 0.7]);
    assertEquals(parts[0].length + parts[1].length, n);
  }
});

Deno.test("a stratified split gives each part each class's share, as near as can be", () => {
  const counts = (set: Dataset) => CLASSES.map((_, label) => set.labels.filter((l) => l === label).length);
  const [train, test] = numbered.split([0.8, 0.2], { stratified: true, seed: 3 });
  assertEquals([counts(train), counts(test)], [[24, 16, 8], [6, 4, 2]]);
  for (let seed = 0; seed < 20; seed++) {
    const random = new Random(seed), size = 20 + random.integer(40);
    const some = numbered.subset(random.permutation(60).slice(0, size));
    const shares = seed % 2 ? [0.7, 0.3] : [0.4], all = counts(some);
    const parts = some.split(shares, { stratified: true, seed });
    parts.forEach((part, k) => {
      assert(Math.abs(part.length - shares[k]! * size) <= 1);
      counts(part).forEach((count, label) => assert(Math.abs(count - shares[k]! * all[label]!) <= 1));
    });
  }
});

Deno.test("a row that a data set has several times is in one part alone", async () => {
  const [train, test] = numbered.subset([...Array(40).keys()].map((i) => i >> 1)).split([0.5, 0.5]);
  assertEquals([train.length, test.length], [20, 20]);
  const there = new Set(await values(train));
  assert((await values(test)).every((value) => !there.has(value)));
});

Deno.test("shares that cannot be are refused, and what a stratified split cannot place", () => {
  const bad: unknown[] = [[], [0.8, 0.3], [1.2], [0.5, 0], [0.5, -0.1], [NaN], [80, 20], 0.8, undefined, [
    "0.5",
  ]];
  for (const shares of bad) {
    assertThrows(
      () => numbered.split(shares as number[]),
      RangeError,
      "split: expected shares above 0, together at most 1",
    );
  }
  assertThrows(
    () => numbered.subset([0, 1]).split([0.9, 0.1]),
    RangeError,
    "images for part 1 of split([0.9,0.1]), got 2 in all",
  );
  assertThrows(
    () => numbered.split([0.5, 0.5], { stratify: true } as object),
    TypeError,
    "did you mean stratified?",
  );
  assertThrows(
    () => numbered.split([0.5, 0.5], { seed: -1 }),
    RangeError,
    "seed: expected an integer from 0",
  );
  const bare = generatedImages({
    length: 20,
    height: 8,
    width: 8,
    channels: 1,
    get: () => new Uint8Array(64),
  });
  assertThrows(() => bare.split([0.5, 0.5], { stratified: true }), RangeError, "labelled images");
  assertEquals(bare.split([0.5, 0.5]).map(({ length }) => length), [10, 10]);
});

const model = new Nepa(config, { seed: 1 });
const judges: Record<
  string,
  (train: Dataset, test: Dataset, more?: { overlap?: "allow" }) => Promise<unknown>
> = {
  linearProbe: (train, test, more) => linearProbe(model, train, test, { lambdas: [0.1], ...more }),
  attentiveProbe: (train, test, more) =>
    attentiveProbe(model, train, test, { epochs: 1, batchSize: 8, ...more }),
  knn: (train, test, more) => knn(model, train, test, { k: 3, ...more }),
  "knn of a function": (train, test, more) =>
    knn((x) => tf.cast(x, "float32").reshape([-1, 64]) as tf.Tensor2D, train, test, { k: 3, ...more }),
  lowShot: (train, test, more) =>
    lowShot(model, train, test, {
      ...{
        labels: [Infinity],
        steps: () => 1,
        scratch: [{}],
        finetune: { compile: false, ...more },
        ...more,
      },
    }),
};

Deno.test("images that are fitted to are refused among those that judge, unless they are allowed", async () => {
  const before = tf.memory().numTensors, [train, test] = noise.split([0.5, 0.5]), mixed = noise.subset(0.3);
  const words =
    /^noise: expected images that are not fitted to, those of noise, got \d+ of 29 that are, .*split.*overlap: "allow"$/;
  for (const [name, judge] of Object.entries(judges)) {
    const error = await assertRejects(() => judge(train, mixed), RangeError, "", name);
    assert(words.test(error.message), `${name}: ${error.message}`);
    await assertRejects(() => judge(train, train), RangeError, "got 48 of 48 that are, the first is image 0");
    await judge(train, mixed, { overlap: "allow" });
    await judge(train, test);
    await assertRejects(
      () => judge(train, test, { overlap: "maybe" } as object),
      RangeError,
      'one of "refuse", "allow"',
    );
  }
  const classifier = new NepaClassifier(config, { classes: noise.classes, seed: 1 });
  const tune = (options: object) =>
    finetune(classifier, train, { batchSize: 8, steps: 1, compile: false, ...options });
  for (const held of [{ validation: mixed }, { test: mixed }]) {
    assertThrows(() => tune(held), RangeError, "of 29 that are");
    await tune({ ...held, overlap: "allow" }).finish();
  }
  await tune({ validation: test, test: test.subset(0.5) }).finish(); // neither is fitted to
  classifier.dispose();
  assertEquals(tf.memory().numTensors, before);
});

Deno.test("the same images are known again where they are opened twice, and others of the same names are not", async () => {
  await withFolder(async (folder) => {
    const once = await everyKind(folder), again = await everyKind(folder);
    for (const kind of ["array", "folder", "parquet"]) {
      const [train] = once[kind]!.split([0.5, 0.5]), [, rest] = again[kind]!.split([0.5, 0.5]);
      await assertRejects(
        () => judges.knn!(train, again[kind]!.subset(1)),
        RangeError,
        "got 30 of 60 that are",
      );
      await judges.knn!(train, rest);
    }
    const [first] = once.generated!.split([0.5, 0.5]);
    await judges.knn!(first, again.generated!); // another function, which may draw others
    const part = await imageFolder(`${folder}/images/a`, { channels: 1 }); // one class of the folder, with its files
    const all = await imageFolder(`${folder}/images`, { channels: 1 });
    await assertRejects(
      () => judges.knn!(all, part),
      RangeError,
      "a: expected images that are not fitted to, those of images, got 30 of 30",
    );
    const twice = [`${folder}/x.parquet`, `${folder}/x.parquet`];
    await Deno.copyFile(twice[0]!, `${folder}/y.parquet`);
    const both = await parquetImages([`${folder}/y.parquet`, twice[0]!], { channels: 1 });
    await assertRejects(
      () => judges.knn!(once.parquet!, both),
      RangeError,
      "got 60 of 120 that are, the first is image 60",
    );
    await judges.knn!(once.parquet!, await parquetImages(`${folder}/y.parquet`, { channels: 1 }));
  });
  const same = (images = new Uint8Array(12 * 64)) =>
    arrayDataset({
      name: "zeros",
      images,
      shape: [12, 8, 8, 1],
      labels: Array(12).fill(0),
      classes: ["a", "b"],
    });
  await judges.knn!(same(), same());
  const pixels = new Uint8Array(24 * 64),
    [first, last, late] = [0, 12, 6].map((at) => same(pixels.subarray(at * 64, (at + 12) * 64)));
  await judges.knn!(first!, last!);
  await assertRejects(
    () => judges.knn!(first!, late!),
    RangeError,
    "got 6 of 12 that are, the first is image 0",
  );
  const { test } = await fashionMnist(), { test: other } = await fashionMnist();
  const bright = (x: tf.Tensor4D) =>
    tf.cast(tf.slice(x, [0, 10], [-1, 1]).reshape([-1, 28]), "float32") as tf.Tensor2D;
  await assertRejects(
    () => knn(bright, test.subset([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]), other.subset([10, 11])),
    RangeError,
    "got 1 of 2",
  );
});

Deno.test("evaluating on images that were trained on works and says so", async () => {
  const before = tf.memory().numTensors, [train, test] = noise.split([0.75, 0.25], { seed: 2 });
  const classifier = new NepaClassifier(config, { classes: noise.classes, seed: 1 });
  const settings = { batchSize: 8, steps: 2, compile: false, emaDecay: 0.5 };
  assertEquals((await evaluate(classifier, train)).notes, []);
  const run = finetune(classifier, train, settings);
  assertEquals((await evaluate(classifier, train)).notes, []); // nothing is trained yet
  await run.finish();
  for (const one of [classifier, run.ema!]) {
    const result = await evaluate(one, noise);
    assertEquals(result.notes, [
      "72 of the 96 images were trained on, with noise: no measure of what others would get",
    ]);
    assert(result.table().toString().endsWith(result.notes[0]!));
    assertEquals((await evaluate(one, test)).notes, []);
  }
  await fitHead(classifier, test);
  assertEquals((await evaluate(classifier, test.subset([0, 1]))).notes.length, 1);
  run.ema!.dispose();
  classifier.dispose();
  assertEquals(tf.memory().numTensors, before);
});

Deno.test("a training that is read whole from its folder is known to have been fitted to its images", async () => {
  await withFolder(async (folder) => {
    for (const resume of [false, true]) {
      const classifier = new NepaClassifier(config, { classes: noise.classes, seed: 1 });
      const settings = {
        batchSize: 8,
        steps: 1,
        compile: false,
        checkpoint: { folder: `${folder}/run`, resume },
      };
      await finetune(classifier, noise, settings).finish();
      assertEquals((await evaluate(classifier, noise)).notes.length, 1, `resume: ${resume}`);
      classifier.dispose();
    }
  });
});

Deno.test("a probe beside a pretraining is fitted to training images that do not judge it", async () => {
  const own = new Nepa(config, { seed: 1 }),
    options = { steps: 1, batchSize: 8, every: { probe: 1 }, compile: false };
  const half = noise.split([0.5, 0.5])[0], labels = noise.labels.map((_, i) => i % 2);
  const asked: number[][] = [], get = (i: number) => (asked.push([i]), noise.get(i).image);
  const set = generatedImages({
    length: 96,
    height: 8,
    width: 8,
    channels: 1,
    get,
    labels,
    classes: ["even", "odd"],
  });
  assertThrows(
    () => pretrain(own, set, { ...options, validation: set }),
    RangeError,
    "20 images or more of generated images that validation has not, got 0",
  );
  assert((await pretrain(own, noise, { ...options, validation: half }).finish()).history[0]!.probe! >= 0);
  own.dispose();
});
