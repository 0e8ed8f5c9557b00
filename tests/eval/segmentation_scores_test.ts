import { fileURLToPath } from "node:url";
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { arrayDataset, fashionScenes, generatedImages, Nepa, NepaSegmenter, Random, resize } from "nepa";
import { scoreMasks, segmentationFolder, segmentationScores, tf, useEngine } from "nepa";
import { config } from "../support/tiny.ts";

const root = fileURLToPath(new URL("../fixtures/segmentation", import.meta.url));
const classes = ["sky", "land", "sea"];

/** Of large images one row of so many is computed here. */
const EACH = 20;

/** Logits between the places of a map [h, w, K], as PyTorch's `interpolate(…, align_corners=False)`; the likeliest class of each. */
function likeliest(map: ArrayLike<number>, [h, w, K]: number[], H: number, W: number, each = 1): Uint8Array {
  const side = (i: number, from: number, to: number) => {
    const place = Math.max(0, (i + 0.5) * from / to - 0.5), low = Math.floor(place);
    return [low, Math.min(low + 1, from! - 1), place - low] as const;
  };
  const out = new Uint8Array(H * W);
  for (let y = 0; y < H; y += each) {
    const [top, bottom, down] = side(y, h!, H);
    for (let x = 0; x < W; x++) {
      const [left, right, across] = side(x, w!, W);
      let best = -Infinity;
      for (let k = 0; k < K!; k++) {
        const at = (r: number, c: number) => map[(r * w! + c) * K! + k]!;
        const upper = at(top, left) * (1 - across) + at(top, right) * across;
        const lower = at(bottom, left) * (1 - across) + at(bottom, right) * across;
        const value = upper * (1 - down) + lower * down;
        if (value > best) [best, out[y * W + x]] = [value, k];
      }
    }
  }
  return out;
}

const random = (shape: number[], label: string) =>
  tf.tensor4d(new Random(1, label).normal(shape).dataSync(), shape as never);

for (const engine of ["tensorflow", "wasm"] as const) {
  Deno.test(`${engine}: logits are resized to the label's own size before the likeliest is taken, also of many classes`, async () => {
    await useEngine(engine);
    const cases = [[37, 50, 5], ...engine === "tensorflow" ? [[500, 520, 150]] : []]; // the last in two parts
    for (const [height, width, K] of cases as [number, number, number][]) {
      const map = random([1, 6, 9, K], "map"),
        wanted = likeliest(map.dataSync(), [6, 9, K], height, width, EACH);
      const data = new Uint8Array(height * width).fill(255), size = { height, width, channels: 1 };
      for (let y = 0; y < height; y += EACH) data.fill(0, y * width, (y + 1) * width);
      const classes = Array.from({ length: K }, (_, k) => `${k}`), before = tf.memory().numTensors;
      const get = () => ({ data, mask: data, ...size });
      const set = generatedImages({ ...size, length: 1, masks: true, classes, get });
      const { confusion } = await segmentationScores(() => map.clone(), set), counts = new Array(K).fill(0);
      wanted.forEach((k, i) => data[i] === 0 && counts[k]++);
      const apart = confusion[0]!.reduce((sum, n, k) => sum + Math.abs(n - counts[k]), 0);
      assert(apart <= 4, `${apart} pixels`); // where two are alike but for rounding
      assertEquals(tf.memory().numTensors, before);
      map.dispose();
    }
  });
}

Deno.test("logits of windows are averaged where they overlap, at the size that images are brought to", async () => {
  await useEngine("tensorflow");
  const set = await segmentationFolder(root, { classes }),
    seen: number[][] = [],
    before = tf.memory().numTensors;
  // Its logits are brightness and the place within the window, so that each window says another thing of a pixel.
  const segment = (images: tf.Tensor4D) =>
    tf.tidy(() => {
      const [B, h, w] = images.shape, grey = tf.div(tf.mean(images, 3, true), 255);
      seen.push([B, h, w]);
      const across = tf.tile(tf.reshape(tf.linspace(0, 1, w), [1, 1, w, 1]), [B, h, 1, 1]);
      return tf.concat([grey, across, tf.fill([B, h, w, 1], 0.55)], 3) as tf.Tensor4D;
    });
  const found = await segmentationScores(segment, set, { size: 20, window: { size: 16, stride: 9 } });
  assertEquals(tf.memory().numTensors, before);
  assert(seen.every(([B, h, w]) => B === 1 && h === 16 && w === 16));
  const confusion = classes.map(() => classes.map(() => 0));
  for (let i = 0; i < set.length; i++) {
    const { mask, ...image } = await set.original(i);
    const { data, height, width } = resize(20)(image, new Random(0));
    const starts = (all: number) =>
      [0, 9, 18, 27, 36].filter((s) => s < all - 16 + 9).map((s) => Math.min(s, all - 16));
    const sums = new Float32Array(height * width * 3), times = new Float32Array(height * width);
    for (const top of starts(height)) {
      for (const left of starts(width)) {
        for (let y = top; y < top + 16; y++) {
          for (let x = left; x < left + 16; x++) {
            const at = y * width + x, grey = (data[3 * at]! + data[3 * at + 1]! + data[3 * at + 2]!) / 765;
            [grey, (x - left) / 15, 0.55].forEach((value, k) => sums[3 * at + k]! += value);
            times[at]!++;
          }
        }
      }
    }
    const means = sums.map((sum, j) => sum / times[Math.floor(j / 3)]!);
    const guess = likeliest(means, [height, width, 3], image.height, image.width);
    mask.forEach((k, j) => k < 255 && confusion[k]![guess[j]!]!++);
  }
  assertEquals(found.confusion, confusion);
});

Deno.test("a segmenter is scored compiled as it is op by op, in batches whose last is smaller", async () => {
  await useEngine("tensorflow");
  const { validation, test } = await fashionScenes({ size: 24, validation: 7, test: 3 });
  const model = new Nepa({ ...config, numHiddenLayers: 1, imageSize: 24, numChannels: 1 }, { seed: 0 });
  const segmenter = NepaSegmenter.from(model, { classes: validation.classes, head: "linear" });
  const before = tf.memory().numTensors,
    compiled = await segmentationScores(segmenter, validation, { batchSize: 4 });
  const plain = await segmentationScores((images) => segmenter.forward(images).logits, validation, {
    batchSize: 1,
  });
  assertEquals(compiled.confusion, plain.confusion);
  assertEquals(compiled.confusion.flat().reduce((a, b) => a + b, 0), 7 * 576);
  assertEquals(tf.memory().numTensors, before);
  const other = NepaSegmenter.from(model, { classes: ["a", "b"], head: "linear" });
  await assertRejects(
    () => segmentationScores(other, test),
    RangeError,
    "expected the segmenter's classes, a,b, got background",
  );
  other.dispose();
  segmenter.dispose();
  model.dispose();
});

Deno.test("scores show themselves as a table of classes, with pictures and what was taken for what", async () => {
  await useEngine("cpu");
  const set = await segmentationFolder(root, { classes });
  const sky = (images: tf.Tensor4D) =>
    tf.oneHot(tf.zeros(images.shape.slice(0, 3), "int32"), 3) as tf.Tensor4D;
  const result = await segmentationScores(sky, set, { pictures: 2 });
  assertEquals([result.iou.land, result.accuracy.sky, result.meanAccuracy], [0, 1, 1 / 3]);
  assertEquals(result.iou.sky, result.pixelAccuracy); // all is taken for sky
  const [head, columns, ...rows] = String(result.table()).split("\n");
  assert(/^mIoU 1\d\.\d %, mean accuracy 33\.3 %, pixel accuracy \d\d\.\d %$/.test(head!), head);
  assertEquals(columns!.split(/\s+/), ["class", "IoU", "accuracy", "pixels"]);
  assertEquals(rows.length, 3);
  const [pictures, confusion] = result.plots();
  const text = String(pictures);
  assert(text.includes("8 pictures") && text.includes("sky") && text.includes("sea"), text);
  assert((await pictures!.svg()).includes("mistakes: "));
  assert(String(confusion).includes("3 × 3"));
  const none = scoreMasks({ masks: [0, 0], predictions: [0, 1], classes: [...classes, "never"] });
  assertEquals([none.meanIoU, none.iou.never, none.plots().length], [0.25, NaN, 1]);
  assert(!String(none.table()).includes("NaN"));
});

Deno.test("what cannot be scored is refused before any work, and the work can be ended", async () => {
  await useEngine("cpu");
  const set = await segmentationFolder(root, { classes });
  const logits = (K: number) => (images: tf.Tensor4D) =>
    tf.zeros<tf.Rank.R4>([...images.shape.slice(0, 3), K] as never);
  const refused = async (options: object, message: string) =>
    await assertRejects(() => segmentationScores(logits(3), set, options), Error, message);
  await refused({ window: { size: 8 } }, "window: expected stride, got none");
  await refused({ window: { size: 8, stride: 4, step: 1 } }, "window: unknown option step");
  await refused({ batchSize: 0 }, "batchSize: expected an integer from 1");
  await refused({ pictuers: 1 }, "did you mean pictures");
  const before = tf.memory().numTensors;
  await assertRejects(
    () => segmentationScores(logits(4), set),
    RangeError,
    "logits: expected [1, h, w, 3], of 3 classes, got [1,24,32,4]",
  );
  await assertRejects(
    () => segmentationScores(logits(3), set, { signal: AbortSignal.abort(new Error("enough")) }),
    Error,
    "enough",
  );
  assertEquals(tf.memory().numTensors, before);
  const images = arrayDataset({ name: "plain", images: new Uint8Array(4), shape: [1, 2, 2, 1] });
  await assertRejects(
    () => segmentationScores(logits(3), images as never),
    TypeError,
    "set: expected images with masks, got a data set",
  );
  assertThrows(
    () => scoreMasks({ masks: [0], predictions: [0, 1], classes }),
    RangeError,
    "expected 1, as masks, got 2",
  );
  assertThrows(
    () => scoreMasks({ masks: [3], predictions: [0], classes }),
    RangeError,
    "classes from 0 to 2, or 255 for none, got 3",
  );
  assertThrows(
    () => scoreMasks({ masks: [0], predictions: [255], classes }),
    RangeError,
    "classes from 0 to 2, got 255",
  );
});
