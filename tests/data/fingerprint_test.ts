import { assert, assertEquals, assertNotEquals } from "@std/assert";
import {
  arrayDataset,
  type Dataset,
  fashionMnist,
  fingerprintOf,
  imageFolder,
  parquetImages,
  Random,
} from "nepa";
import { fixtures } from "../support/images.ts";
import { noise } from "../support/tiny.ts";

const random = new Random(0);
const parts = {
  name: "one",
  images: Uint8Array.from({ length: 4 * 12 }, () => random.integer(256)),
  shape: [4, 2, 2, 3] as const,
  labels: [0, 1, 1, 0],
  classes: ["a", "b"],
};

Deno.test("the fingerprint of images in memory is of their pixels, order, size, labels and classes", async () => {
  const same = await fingerprintOf(arrayDataset(parts)), seen = new Set([same]);
  assertEquals(
    await fingerprintOf(arrayDataset({ ...parts, name: "two", images: parts.images.slice() })),
    same,
  );
  assertEquals(await fingerprintOf(arrayDataset(parts).subset([0, 1, 2, 3])), same);
  const changes = [
    { images: parts.images.map((x, i) => i === 47 ? x ^ 1 : x) },
    { labels: [0, 1, 1, 1] },
    { classes: ["a", "c"] },
    { shape: [4, 1, 4, 3] as const },
    { shape: [4, 4, 3, 1] as const },
  ];
  for (const change of changes) seen.add(await fingerprintOf(arrayDataset({ ...parts, ...change })));
  for (const rows of [[0], [0, 1], [1, 0], [1, 2, 3]]) {
    seen.add(await fingerprintOf(arrayDataset(parts).subset(rows)));
  }
  assertEquals(seen.size, 1 + changes.length + 4);
  const { train } = await fashionMnist(), started = performance.now();
  await fingerprintOf(train);
  assert(performance.now() - started < 3000); // 0.1 s where nothing else runs
});

Deno.test("the fingerprint of a folder is of the contents of its files, also of one that was changed in place", async () => {
  const [path, cache] = [await Deno.makeTempDir(), await Deno.makeTempDir()],
    before = Deno.env.get("XDG_CACHE_HOME");
  Deno.env.set("XDG_CACHE_HOME", cache);
  try {
    await Deno.mkdir(`${path}/a`);
    const files = ["a/1.png", "a/2.png"].map((name) => `${path}/${name}`), long = new Date(2020, 1, 1);
    const bytes = [await Deno.readFile(`${fixtures}rgb.png`), await Deno.readFile(`${fixtures}grey.png`)];
    const write = async (second: Uint8Array, time: Date) => {
      await Deno.writeFile(files[0]!, bytes[0]!);
      await Deno.writeFile(files[1]!, second);
      for (const file of files) await Deno.utime(file, time, time);
    };
    const of = async (size = 8) => await fingerprintOf(await imageFolder(path, { size }));
    const kept = () => [...Deno.readDirSync(`${cache}/nepa/results`)].length;
    await write(bytes[1]!, long);
    const set = await imageFolder(path, { size: 8 }), same = await fingerprintOf(set);
    assertEquals([await of(), kept()], [same, 1]);
    await write(bytes[1]!, new Date(2021, 1, 1)); // another time, the same contents
    assertEquals([await of(), kept()], [same, 2]);
    await Deno.writeFile(files[1]!, bytes[1]!.map((x, i) => i === 60 ? x ^ 1 : x)); // as many bytes, just now
    const changed = await of();
    assertNotEquals(changed, same);
    assertEquals([await fingerprintOf(set), kept()], [changed, 2]); // what was changed just now is not remembered
    await write(bytes[1]!, long);
    assertEquals([await of(), kept()], [same, 2]);
    assertNotEquals(await of(9), same);
    assertNotEquals(await fingerprintOf(set.subset([0])), await fingerprintOf(set.subset([1])));
    await Deno.rename(path, `${path}-moved`);
    assertEquals(await fingerprintOf(await imageFolder(`${path}-moved`, { size: 8 })), same);
    await Deno.rename(`${path}-moved`, path);
  } finally {
    if (before === undefined) Deno.env.delete("XDG_CACHE_HOME");
    else Deno.env.set("XDG_CACHE_HOME", before);
    for (const folder of [path, cache]) await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("the fingerprint of Parquet files is of their contents", async () => {
  const path = `${await Deno.makeTempDir()}/other.parquet`;
  await Deno.copyFile(`${fixtures}hub.parquet`, path);
  const of = async (file: string) => await fingerprintOf(await parquetImages(file, { size: 8 }));
  const same = await of(`${fixtures}hub.parquet`);
  assertEquals(await of(path), same);
  const bytes = await Deno.readFile(path);
  bytes[200]! ^= 1;
  await Deno.writeFile(path, bytes);
  assertNotEquals(await of(path), same);
  await Deno.remove(path.replace(/\/[^/]*$/, ""), { recursive: true });
});

Deno.test("a data set of one's own is known by its fingerprint, else by 64 of its images, or by all", async () => {
  let asked = 0;
  const own = (options: Partial<Dataset> = {}, last = 0): Dataset => ({
    ...noise,
    length: noise.length,
    get(i) {
      asked++;
      return { label: i % 2, image: noise.get(i).image.map((x) => i === 95 ? x ^ last : x) };
    },
    subset: () => noise,
    balanced: () => noise,
    batches: (options) => noise.batches(options),
    ...options,
  });
  const same = await fingerprintOf(own());
  assertEquals([await fingerprintOf(own()), asked], [same, 128]);
  assertNotEquals(await fingerprintOf(own({ labels: noise.labels.map((l) => 1 - l) })), same);
  assertNotEquals(await fingerprintOf(own(), Infinity), await fingerprintOf(own({}, 1), Infinity));
  assertEquals(asked, 3 * 64 + 2 * 96);
  assertNotEquals(
    await fingerprintOf(own({ fingerprint: "a" })),
    await fingerprintOf(own({ fingerprint: "b" })),
  );
  assertEquals(asked, 3 * 64 + 2 * 96);
});
