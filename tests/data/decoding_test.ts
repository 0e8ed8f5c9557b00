import { assert, assertEquals, assertRejects } from "@std/assert";
import * as tf from "@tensorflow/tfjs";
import sharp from "sharp";
import { type Image, type Part, Random, randomResizedCrop, resize, type Transform, useEngine } from "nepa";
import { MOST_IN_FLIGHT, withRoom } from "../../lib/data/ahead.ts";
import { EncodedDataset } from "../../lib/data/encoded.ts";
import type { Binding } from "../../lib/engine/binding.ts";
import { fixtures, pictures, tensors } from "../support/images.ts";

/** A transform whose first act is to take a part, as it is. */
function cut(part: (image: { height: number; width: number }) => Omit<Part, "to" | "resample">): Transform {
  const whole = (image: Image) => image;
  const begins = {
    part: (image: { height: number; width: number }): Part => {
      const { height, width, ...place } = part(image);
      return { ...place, height, width, to: { height, width }, resample: "bilinear" };
    },
    rest: whole as Transform,
  };
  return Object.assign(whole, { begins });
}

/** The pixels of one file. */
async function read(
  file: string,
  size: { height: number; width: number },
  transform: Transform,
  options: { channels?: 1 | 3; orient?: boolean } = {},
): Promise<Uint8Array> {
  const set = await EncodedDataset.open({
    name: file,
    classes: ["one"],
    labels: Int32Array.of(0),
    fingerprint: "",
    contents: () => Promise.resolve(""),
    nameOf: () => file,
    bytesOf: () => Deno.readFile(file),
  }, { size: 8, ...options });
  const change = { transform, size, random: () => new Random(0) };
  const [batch] = await Array.fromAsync(set.batches({ size: 1, change }));
  return batch!.images;
}

const wholly = cut(({ height, width }) => ({ top: 0, left: 0, height, width }));

Deno.test("every kind of JPEG, PNG and WebP has Pillow's pixels: grey, palette, alpha, CMYK, 16 bits, turned", async () => {
  assertEquals(pictures.length, 26);
  for (const name of pictures) {
    for (const channels of [3, 1] as const) {
      const { shape: [height = 0, width = 0], data } = tensors.get(channels === 3 ? name : `${name}.grey`)!;
      const pixels = await read(`${fixtures}${name}`, { height, width }, wholly, { channels });
      assertEquals(pixels, data as Uint8Array, `${name}, ${channels} channels`);
    }
  }
});

Deno.test("orient: false leaves an image as it lies in the file", async () => {
  const lying = await read(`${fixtures}exif6.png`, { height: 30, width: 41 }, wholly, { orient: false });
  assertEquals(lying, tensors.get("rgb.png")!.data as Uint8Array);
});

Deno.test("a part of a file, decoded alone and resized, has the bytes of Pillow's resize with a box", async () => {
  for (const resample of ["bilinear", "bicubic"] as const) {
    const transform = cut(() => ({ top: 2, left: 3, height: 25, width: 30 }));
    const { part } = transform.begins!;
    const begins = {
      ...transform.begins!,
      part: (image: Image, random: Random) => ({
        ...part(image, random),
        to: { height: 16, width: 19 },
        resample,
      }),
    };
    const pixels = await read(
      `${fixtures}rgb.jpg`,
      { height: 16, width: 19 },
      Object.assign((image: Image) => image, { begins }) as Transform,
    );
    assertEquals(pixels, tensors.get(`resized.${resample}`)!.data as Uint8Array, resample);
  }
});

Deno.test("a transform sees the whole of a turned file, however it is decoded", async () => {
  const big = new Uint8Array(600 * 400 * 3).map((_, i) => (i / 3 % 600) / 3 + Math.floor(i / 1800) / 8);
  const raw = { raw: { width: 600, height: 400, channels: 3 as const } };
  for (const orientation of [1, 6, 8, 3]) {
    const file = await Deno.makeTempFile({ suffix: ".jpg" });
    await sharp(big, raw).withMetadata({ orientation }).jpeg({ quality: 95 }).toFile(file);
    const turned = orientation === 6 || orientation === 8, [height, width] = turned ? [600, 400] : [400, 600];
    const upright = await sharp(file).autoOrient().raw().toBuffer();
    const whole = { data: new Uint8Array(upright), height, width, channels: 3 };
    const crop = randomResizedCrop({ size: 40, scale: [0.5, 1] });
    const pixels = await read(file, { height: 40, width: 40 }, crop);
    const expected = crop(whole, new Random(0)).data;
    const differences = pixels.map((x, i) => Math.abs(x - expected[i]!)); // a JPEG is decoded at a fourth of its size
    assert(Math.max(...differences) <= 4, `${orientation}: ${Math.max(...differences)}`);
    await Deno.remove(file);
  }
});

Deno.test("an image decoded at a fraction of its size differs little from a whole one made smaller", async () => {
  const random = new Random(0), still = new Random(0), file = await Deno.makeTempFile({ suffix: ".jpg" });
  const noise = Uint8Array.from({ length: 40 * 60 * 3 }, () => random.integer(256));
  const { data } = resize({ height: 1000, width: 1500 }, "bicubic")(
    { data: noise, height: 40, width: 60, channels: 3 },
    still,
  );
  await sharp(data, { raw: { width: 1500, height: 1000, channels: 3 } }).jpeg({ quality: 95 }).toFile(file);
  const decoded = new Uint8Array(await sharp(file).raw().toBuffer());
  const crop = randomResizedCrop({ size: 64, scale: [0.6, 1] });
  const [got, expected] = [
    await read(file, { height: 64, width: 64 }, crop),
    crop({ data: decoded, height: 1000, width: 1500, channels: 3 }, new Random(0)).data,
  ];
  const squares = got.reduce((sum, x, i) => sum + (x - expected[i]!) ** 2, 0) / got.length;
  assert(Math.sqrt(squares) < 1, `root mean square ${Math.sqrt(squares)} of 255`);
  await Deno.remove(file);
});

Deno.test("the engine decodes parts of large JPEGs to the bytes of the slower way", async () => {
  const file = await Deno.makeTempFile({ suffix: ".jpg" }), still = new Random(0), random = new Random(1);
  const [height, width, size] = [400, 480, 150];
  const noise = Uint8Array.from({ length: 50 * 60 * 3 }, () => random.integer(256));
  const { data } = resize({ height, width }, "bicubic")(
    { data: noise, height: 50, width: 60, channels: 3 },
    still,
  );
  const pixels = sharp(data, { raw: { width, height, channels: 3 } });
  const kinds = {
    "4:2:0": pixels.clone().jpeg({ chromaSubsampling: "4:2:0" }),
    "4:4:4": pixels.clone().jpeg({ chromaSubsampling: "4:4:4" }),
    progressive: pixels.clone().jpeg({ progressive: true }),
    grey: pixels.clone().greyscale().jpeg(),
  };
  // What the decoder makes are no tensors of tfjs, but the engine's own.
  const handles = () => (tf.backend() as unknown as { binding: Binding }).binding.getNumOfTensors();
  const integer = (from: number, below: number) => from + random.integer(below - from);
  const engine = await useEngine("tensorflow"), decode = engine.decodeJpeg!;
  for (const [kind, encoder] of Object.entries(kinds)) {
    await encoder.toFile(file);
    const places = Array.from({ length: 30 }, (_, i) => {
      const place = { top: integer(0, 100), left: integer(0, 100) };
      const [tall, wide] = [integer(150, 401 - place.top), integer(150, 481 - place.left)];
      const part = {
        ...place,
        height: i % 4 ? tall : height - place.top,
        width: i % 3 ? wide : width - place.left,
      };
      return { ...part, to: { height: size, width: size }, resample: "bilinear" } as Part;
    });
    const parts: Uint8Array[][] = [];
    for (const name of ["tensorflow", "wasm"] as const) {
      await useEngine(name);
      parts.push(
        await Promise.all(places.map((part) => {
          const begins = { part: () => part, rest: (image: Image) => image };
          return read(
            file,
            { height: size, width: size },
            Object.assign((image: Image) => image, { begins }),
          );
        })),
      );
    }
    parts[0]!.forEach((got, i) => assertEquals(got, parts[1]![i], `${kind}, ${JSON.stringify(places[i])}`));

    await useEngine("tensorflow");
    const before = handles(), bytes = await Deno.readFile(file);
    const whole = { top: 0, left: 0, height, width };
    const decoded = await sharp(bytes).toColourspace("srgb").raw().toBuffer();
    assertEquals(await decode(bytes, whole, (pixels) => pixels.slice()), new Uint8Array(decoded));
    await assertRejects(() => decode(bytes, { ...whole, left: 1 }, String), Error, "crop window");
    await assertRejects(
      () => decode(bytes.subarray(0, bytes.length / 2), whole, String),
      Error,
      "decoding a JPEG",
    );
    assertEquals(handles(), before);
  }
  await Deno.remove(file);
});

Deno.test("as many pixels are decoded beside one another as there is room for; more at once wait, and failures leave no room taken", async () => {
  let now = 0, most = 0, large = 0;
  const work = (pixels: number) =>
    withRoom(pixels, async () => {
      most = Math.max(most, now += pixels);
      await new Promise((resolve) => setTimeout(resolve, 1));
      if (pixels > MOST_IN_FLIGHT) large = Math.max(large, now);
      now -= pixels;
      if (pixels === 1) throw new Error("broken");
    });
  const part = MOST_IN_FLIGHT / 4, many = Array.from({ length: 32 }, () => part);
  const done = await Promise.allSettled([...many, 1, 3 * MOST_IN_FLIGHT, ...many, 1, part].map(work));
  assertEquals(done.filter(({ status }) => status === "rejected").length, 2);
  assertEquals([most, large], [3 * MOST_IN_FLIGHT, 3 * MOST_IN_FLIGHT]); // alone
  await withRoom(MOST_IN_FLIGHT, () => Promise.resolve());
});
