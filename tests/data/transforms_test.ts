import { assert, assertAlmostEquals, assertEquals, assertNotEquals, assertThrows } from "@std/assert";
import {
  centerCrop,
  compose,
  horizontalFlip,
  type Image,
  Nepa,
  normalize,
  Random,
  randomResizedCrop,
  type Resample,
  resize,
  tf,
  useEngine,
} from "nepa";
import { readSafetensors } from "../../lib/files/safetensors.ts";

const fixtures = new URL("../fixtures/preprocess/", import.meta.url);
const bytes = (name: string) => Deno.readFileSync(new URL(name, fixtures));
const json = (name: string) => JSON.parse(Deno.readTextFileSync(new URL(name, fixtures)));
const sources: Record<string, Image> = {
  rgb: { data: bytes("image.rgb"), height: 53, width: 37, channels: 3 },
  grey: { data: bytes("image.grey"), height: 53, width: 37, channels: 1 },
};
const random = new Random(0);
const halves = { imageMean: [0.5, 0.5, 0.5], imageStd: [0.5, 0.5, 0.5] };

function stripes(height: number, width: number): Image { // the pixel at (y, x) is 16 y + x
  return {
    data: Uint8Array.from({ length: height * width }, (_, i) => 16 * Math.floor(i / width) + i % width),
    height,
    width,
    channels: 1,
  };
}

Deno.test("resize, centre crop and normalisation are the official preprocessing, exactly", () => {
  const { tensors } = readSafetensors(bytes("expect.safetensors"));
  const cases = {
    eval_down: [resize(32, "bicubic"), centerCrop(28)],
    eval_up: [resize(64, "bicubic"), centerCrop(56)],
    eval_crop_pct: [resize({ height: 29, width: 29 }, "bicubic"), centerCrop(28)],
    processor: [resize({ height: 28, width: 28 })],
  };
  for (const [name, steps] of Object.entries(cases)) {
    const read = (kind: string) => tensors.get(`${name}.${kind}`)!;
    const resized = steps[0]!(sources.rgb!, random), cropped = compose(...steps)(sources.rgb!, random);
    assertEquals([resized.height, resized.width, 3], read("resized_uint8").shape, name);
    assertEquals(resized.data, read("resized_uint8").data, name);
    assertEquals(cropped.data, read("cropped_uint8").data, name);
    const floats = normalize(cropped.data, [1, cropped.height, cropped.width, 3], halves),
      plane = floats.length / 3;
    const expected = read("pixel_values").data; // [C, H, W]
    floats.forEach((x, i) => assertEquals(x, expected[(i % 3) * plane + Math.floor(i / 3)]));
  }
});

Deno.test("a network that is given 8 bits normalises them as the official preprocessing, compiled too", async () => {
  const { tensors } = readSafetensors(bytes("expect.safetensors"));
  const pixels = tensors.get("processor.cropped_uint8")!, official = tensors.get("processor.pixel_values")!;
  for (const name of ["wasm", "tensorflow"] as const) {
    const engine = await useEngine(name);
    const shape = { imageSize: 28, patchSize: 2, numChannels: 3, hiddenSize: 12, intermediateSize: 12 };
    const model = new Nepa({ ...shape, numHiddenLayers: 1, numAttentionHeads: 1 });
    tf.tidy(() => {
      const weight = model.parameters.get("vit_nepa.embeddings.patch_embeddings.projection.weight")!;
      weight.assign(tf.eye(12)); // an embedded patch is the patch
    });
    const read = (images: tf.Tensor4D) =>
      tf.slice(model.forward(images).embeddings, [0, 1, 0])
        .reshape([14, 14, 2, 2, 3]) // [1, rows · columns, p · p · C] apart
        .transpose([4, 0, 2, 1, 3]) // [C, rows, p, columns, p]
        .reshape([-1]);
    const images = tf.tensor4d(pixels.data as Uint8Array, [1, 28, 28, 3], "int32");
    const compiled = engine.compile(read),
      plain = tf.tidy(() => read(images)),
      joined = await compiled(images);
    assertEquals([...await plain.data()], [...official.data]);
    // XLA multiplies by 1 / 255.
    (await joined.data()).forEach((x, i) => assertAlmostEquals(x, Number(official.data[i]), 1.2e-7));
    tf.dispose([images, plain, joined]);
    compiled.dispose();
    model.dispose();
  }
});

Deno.test("resize gives Pillow's bytes, enlarging, shrinking and both, for one and three channels", async () => {
  const { cases } = json("pillow.json");
  assertEquals(cases.length, 24);
  for (const { image, resample, height, width, sha256 } of cases) {
    const { data } = resize({ height, width }, resample as Resample)(sources[image]!, random);
    const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", data as Uint8Array<ArrayBuffer>))
      .toHex();
    assertEquals(digest, sha256, `${image} ${resample} ${height}x${width}`);
  }
});

Deno.test("resize to one number keeps the aspect, with the longer side rounded down", () => {
  const sides = ({ height, width }: Image) => [height, width];
  assertEquals(sides(resize(32)(sources.rgb!, random)), [45, 32]);
  assertEquals(sides(resize(10)(stripes(7, 16), random)), [10, 22]);
  assertEquals(resize(7)(stripes(7, 16), random).data, stripes(7, 16).data);
});

Deno.test("centerCrop takes the middle, halves to even, and refuses what is too small", () => {
  assertEquals([...centerCrop(2)(stripes(5, 7), random).data], [34, 35, 50, 51]); // 1.5 to 2, 2.5 to 2
  assertEquals([...centerCrop({ height: 1, width: 3 })(stripes(3, 3), random).data], [16, 17, 18]);
  assertThrows(
    () => centerCrop(4)(stripes(3, 5), random),
    RangeError,
    "expected an image of at least 4x4, got 3x5",
  );
});

Deno.test("horizontalFlip mirrors as often as asked", () => {
  const image = stripes(2, 3);
  assertEquals([...horizontalFlip(1)(image, random).data], [2, 1, 0, 18, 17, 16]);
  assertEquals(horizontalFlip(0)(image, random).data, image.data);
  const rgb = { data: Uint8Array.of(1, 2, 3, 4, 5, 6), height: 1, width: 2, channels: 3 };
  assertEquals([...horizontalFlip(1)(rgb, random).data], [4, 5, 6, 1, 2, 3]);
  let flipped = 0;
  for (let i = 0; i < 2000; i++) {
    flipped += Number(horizontalFlip(0.3)(image, new Random(5, i)).data[0] === 2);
  }
  assertAlmostEquals(flipped / 2000, 0.3, 0.05);
});

Deno.test("randomResizedCrop repeats by its seed and cuts parts of the allowed size", () => {
  const crop = randomResizedCrop({ size: 12 });
  const draw = (seed: number) => crop(sources.rgb!, new Random(seed));
  assertEquals(draw(1), draw(1));
  assertNotEquals(draw(1).data, draw(2).data);
  assertEquals([draw(3).height, draw(3).width, draw(3).data.length], [12, 12, 432]);
  const whole = randomResizedCrop({
    size: { height: 53, width: 37 },
    scale: [1, 1],
    ratio: [37 / 53, 37 / 53],
  });
  assertEquals(whole(sources.rgb!, random).data, sources.rgb!.data);
});

Deno.test("the cuts of randomResizedCrop have a uniform area and stay inside", () => {
  // Columns count from 0 and rows are constant: the extremes of the cut tell where it lies.
  const size = 200, data = Uint8Array.from({ length: size * size }, (_, i) => i % size);
  const image = { data, height: size, width: size, channels: 1 };
  const cut = randomResizedCrop({ size: { height: 1, width: size }, scale: [0.25, 0.25], ratio: [1, 1] });
  let leftmost = size, rightmost = 0;
  for (let seed = 0; seed < 300; seed++) {
    const line = cut(image, new Random(seed)).data;
    leftmost = Math.min(leftmost, line[0]!);
    rightmost = Math.max(rightmost, line.at(-1)!);
    assertAlmostEquals(line.at(-1)! - line[0]!, 99, 1); // a quarter of the area: half the width
  }
  assert(leftmost <= 1 && rightmost >= size - 2, `${leftmost} ${rightmost}`);
});

Deno.test("an image too long for the allowed aspects is cut in its middle", () => {
  const image = { data: Uint8Array.from({ length: 100 }, (_, i) => i), height: 1, width: 100, channels: 1 };
  const cut = randomResizedCrop({ size: { height: 1, width: 4 }, scale: [1, 1], ratio: [3, 4] });
  assertEquals([...cut(image, random).data], [48, 49, 50, 51]);
});

Deno.test("compose hands one image and one stream of draws on", () => {
  const twice = compose(horizontalFlip(1), horizontalFlip(1), resize({ height: 4, width: 6 }));
  assertEquals(twice(stripes(2, 3), random), resize({ height: 4, width: 6 })(stripes(2, 3), random));
});

Deno.test("normalize takes a mean and a std for each channel and refuses what does not fit", () => {
  const options = { imageMean: [0, 0.5], imageStd: [1, 0.25] };
  assertEquals([...normalize(Uint8Array.of(255, 255, 0, 0), [1, 1, 2, 2], options)], [1, 2, 0, -2]);
  assertEquals([
    ...normalize(Uint8Array.of(255, 0, 255), [1, 1, 1, 3], { imageMean: [0.5], imageStd: [0.5] }),
  ], [1, -1, 1]);
  assertThrows(() => normalize(new Uint8Array(3), [1, 1, 1, 3], options), RangeError, "each of 3 channels");
  assertThrows(() => normalize(new Uint8Array(3), [1, 1, 2, 2], options), RangeError, "[B,H,W,C]");
  assertThrows(
    () => normalize(new Uint8Array(1), [1, 1, 1, 1], { imageMean: [0], imageStd: [0] }),
    RangeError,
    "positive std",
  );
});

Deno.test("transforms refuse options that cannot be", () => {
  assertThrows(() => resize(0), RangeError, "whole pixels");
  assertThrows(() => resize({ height: 2.5, width: 2 }), RangeError, "got 2.5x2");
  assertThrows(() => centerCrop(-1), RangeError, "centerCrop");
  assertThrows(() => horizontalFlip(1.5), RangeError, "from 0 to 1");
  assertThrows(() => randomResizedCrop({ size: 8, scale: [0.5, 0.2] }), RangeError, "least, greatest");
  assertThrows(() => randomResizedCrop({ size: 8, ratio: [0, 1] }), RangeError, "ratio");
});
