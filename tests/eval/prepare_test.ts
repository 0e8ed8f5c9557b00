import { assert, assertEquals, assertRejects } from "@std/assert";
import sharp from "sharp";
import {
  arrayDataset,
  attentiveProbe,
  type Encoder,
  imageFolder,
  knn,
  linearProbe,
  parquetImages,
  type Preprocessor,
  Random,
  readFeatures,
  resize,
  tf,
  useEngine,
} from "nepa";
import { readSafetensors } from "../../lib/files/safetensors.ts";
import { withFolder } from "../support/folder.ts";
import { parquetColumns } from "../support/parquet.ts";

await useEngine("cpu");

const fixtures = new URL("../fixtures/preprocess/", import.meta.url);

/** Its tokens are the pixels, row by row, 0 to 1. */
class Pixels implements Encoder {
  readonly preprocessor: Preprocessor;
  readonly layers = ["final"] as const;
  readonly prefix = 0;
  readonly parameters: Map<string, tf.Variable> = new Map();

  constructor(readonly side: number, resample = 2) {
    const thirds = [0.5, 0.5, 0.5], size = { height: side, width: side };
    this.preprocessor = { imageMean: thirds, imageStd: thirds, size, resample, rescaleFactor: 1 / 255 };
  }
  depthOf(): number {
    return 0;
  }
  grid(): [number, number] {
    return [this.side, 1];
  }
  tokens(images: tf.Tensor4D): tf.Tensor3D[] {
    const [B, H, W, C] = images.shape;
    return [tf.tidy(() => tf.div(images.cast("float32"), 255).reshape([B, H, W * C]) as tf.Tensor3D)]; // [B, H, W·C]
  }
  untrained(): Pixels {
    return this;
  }
}

const bytes = async (
  set: Parameters<typeof readFeatures>[1],
  model: Pixels,
  prepare?: "crop" | "official",
) => {
  const features = (await readFeatures(model, set, ["final"], { pool: "all", ...prepare && { prepare } }))
    .get("final")!;
  return Uint8Array.from(features, (x) => Math.round(255 * x));
};

Deno.test("official: a picture that is not square has the image processor's pixels; by default its middle", async () => {
  const { tensors } = readSafetensors(await Deno.readFile(new URL("expect.safetensors", fixtures)));
  const data = await Deno.readFile(new URL("image.rgb", fixtures)),
    raw = { width: 37, height: 53, channels: 3 } as const;
  const png = await sharp(data, { raw }).png().toBuffer();
  await withFolder(async (folder) => {
    await Deno.writeFile(`${folder}/1.png`, png);
    await Deno.writeFile(`${folder}/x.parquet`, parquetColumns({ image: [{ bytes: png, path: null }] }));
    const files = await imageFolder(folder, { size: 28 }), model = new Pixels(28);
    const hub = await parquetImages(`${folder}/x.parquet`, { size: 99 });
    const expected = tensors.get("processor.cropped_uint8")!.data as Uint8Array;
    for (const set of [files, hub]) assertEquals(await bytes(set, model, "official"), expected);
    const cut = (await files.get(0)).image;
    assertEquals([await bytes(files, model), await bytes(files, model, "crop")], [cut, cut]);
    const cubic = resize({ height: 28, width: 28 }, "bicubic")({ data, ...raw }, new Random(0));
    assertEquals(await bytes(files, new Pixels(28, 3), "official"), cubic.data);
    await assertRejects(
      () => readFeatures(new Pixels(28, 1), files, ["final"], { prepare: "official" }),
      RangeError,
      "preprocessor: resample: expected 2, bilinear, or 3, bicubic, got 1",
    );
  });
});

Deno.test("official: a large JPEG is decoded whole before it is resized", async () => {
  await withFolder(async (folder) => {
    const random = new Random(0), raw = { width: 640, height: 320, channels: 3 } as const;
    const noise = Uint8Array.from({ length: 640 * 320 * 3 }, (_, i) => (i >> 8) + random.integer(64));
    const jpeg = await sharp(noise, { raw }).jpeg().toBuffer(),
      data = new Uint8Array(await sharp(jpeg).raw().toBuffer());
    await Deno.writeFile(`${folder}/1.jpg`, jpeg);
    const expected = resize({ height: 24, width: 24 })({ data, ...raw }, new Random(0)).data;
    assertEquals(await bytes(await imageFolder(folder, { size: 24 }), new Pixels(24), "official"), expected);
  });
});

Deno.test("official: probes and k-NN see what lies beyond the middle; other sets have to have the size", async () => {
  await withFolder(async (folder) => {
    const model = new Pixels(8), random = new Random(0);
    for (const part of ["train", "test"]) {
      for (let i = 0; i < 24; i++) {
        const light = i % 2 ? 200 : 20, name = `${folder}/${part}/${"ab"[i % 2]}`; // at the sides, which a cut loses
        const data = Uint8Array.from({ length: 8 * 32 * 3 }, (_, k) => {
          const x = Math.floor(k / 3) % 32;
          return (x < 10 || x >= 22 ? light : 100) + random.integer(20);
        });
        await Deno.mkdir(name, { recursive: true });
        await sharp(data, { raw: { width: 32, height: 8, channels: 3 } }).png().toFile(`${name}/${i}.png`);
      }
    }
    const train = await imageFolder(`${folder}/train`, { size: 8 }),
      test = await imageFolder(`${folder}/test`, { size: 8 });
    const before = tf.memory().numTensors, official = { prepare: "official" } as const;
    assertEquals((await knn(model, train, test, { k: 3, centred: true, ...official })).accuracy, 1);
    assert((await knn(model, train, test, { k: 3, centred: true })).accuracy < 0.9);
    const probe = await linearProbe(model, train, test, { ...official, references: true, lambdas: [1e-3] });
    assertEquals([probe.accuracy, probe.rawPixels], [1, 1]);
    const settings = { epochs: 1, heads: 1, batchSize: 24, learningRate: 1e-2 };
    assert((await attentiveProbe(model, train, test, { ...settings, ...official })).accuracy >= 0);
    assertEquals(tf.memory().numTensors, before);
    const array = (side: number) =>
      arrayDataset({
        name: "mine",
        images: new Uint8Array(20 * side * 8 * 3),
        shape: [20, side, 8, 3],
        labels: Array(20).fill(0).map((_, i) => i % 2),
        classes: ["a", "b"],
      });
    assertEquals((await readFeatures(model, array(8), ["final"], official)).get("final")!.length, 20 * 24);
    for (
      const work of [
        () => knn(model, array(9), array(9), official),
        () => readFeatures(model, array(9), ["final"], official),
      ]
    ) {
      await assertRejects(
        work,
        RangeError,
        "mine: expected images of 8x8, or encoded ones such as imageFolder's",
      );
    }
    const wrong = { prepare: "square" as "crop" };
    await assertRejects(
      () => knn(model, train, test, wrong),
      RangeError,
      'prepare: expected one of "crop", "official"',
    );
  });
});
