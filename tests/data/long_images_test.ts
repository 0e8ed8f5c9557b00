import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import sharp from "sharp";
import { centerCrop, compose, DataError, type Image, imageFolder, Random, resize } from "nepa";
import { withFolder } from "../support/folder.ts";

const still = new Random(0);

function noise(height: number, width: number, channels: number): Image {
  const random = new Random(height, width), data = new Uint8Array(height * width * channels);
  return { data: data.map(() => random.integer(256)), height, width, channels };
}

Deno.test("a resize with a cut behind it has the bytes of the two apart", () => {
  const shapes = [[5, 60, 3], [60, 5, 1], [97, 31, 3], [31, 97, 3], [400, 50, 1], [7, 7, 3], [
    3,
    200,
    1,
  ]] as const;
  for (const [height, width, channels] of shapes) {
    const image = noise(height, width, channels);
    for (const resample of ["bilinear", "bicubic"] as const) {
      for (const side of [4, 13, 40]) {
        const steps = [resize(side, resample), centerCrop({ height: side, width: side - 1 })];
        const apart = steps.reduce((made, step) => step(made, still), image);
        assertEquals(compose(...steps)(image, still), apart, `${height}x${width} ${resample} ${side}`);
      }
    }
  }
});

Deno.test("images of 20,000 and of 200,000 pixels by one are cut without resizing them whole", async () => {
  await withFolder(async (folder) => {
    for (const [width, height] of [[20_000, 1], [1, 20_000], [200_000, 1], [1, 200_000]] as const) {
      const raw = { width, height, channels: 3 } as const, data = noise(height, width, 3).data;
      await sharp(data, { raw }).png().toFile(`${folder}/${width}x${height}.png`);
    }
    const before = Deno.memoryUsage().rss;
    const set = await imageFolder(folder, { size: 224, broken: "skip" });
    assertEquals([set.length, set.skipped], [4, []]);
    for (let i = 0; i < 4; i++) assertEquals((await set.get(i)).image.length, 224 * 224 * 3);
    const grown = Deno.memoryUsage().rss - before;
    assert(grown < 3e8, `${grown} bytes`); // 2.7 GB, were one resized whole
    const change = { transform: resize(224), size: { height: 224, width: 224 }, random: () => still };
    const [batch] = [set.batches({ size: 4, shuffle: false, change })];
    const error = await assertRejects(() => Array.fromAsync(batch), DataError);
    assertEquals(error.kind, "size");
    const expected =
      `${folder}/1x20000.png: expected at most 178956970 pixels, got 224 x 4480000: once it is resized`;
    assert(error.message.includes(expected), error.message);
  });
  assertThrows(() => resize(1000)(noise(1, 200_000, 3), still), RangeError, "at most 2147483648 bytes");
});
