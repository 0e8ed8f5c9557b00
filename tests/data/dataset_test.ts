import { assert, assertEquals, assertNotEquals, assertRejects, assertThrows } from "@std/assert";
import { gzipSync } from "node:zlib";
import {
  arrayDataset,
  DataError,
  type DataErrorKind,
  fashionMnist,
  idxImages,
  type MemoryDataset,
  readIdx,
} from "nepa";

/** An IDX file of bytes. */
function idx(shape: number[], data: ArrayLike<number>): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(4 + 4 * shape.length + data.length), view = new DataView(bytes.buffer);
  bytes.set([0, 0, 8, shape.length]);
  shape.forEach((n, i) => view.setUint32(4 + 4 * i, n));
  bytes.set(data, 4 + 4 * shape.length);
  return bytes;
}

const ramp = (n: number) => Uint8Array.from({ length: n }, (_, i) => i % 251);

/** A folder with 6 training and 4 test images of 28 x 28, some files replaced or (null) left out. */
async function folder(replaced: Record<string, Uint8Array | null> = {}): Promise<string> {
  const path = await Deno.makeTempDir();
  const files: Record<string, Uint8Array | null> = {
    "train-images-idx3-ubyte.gz": gzipSync(idx([6, 28, 28], ramp(6 * 784))),
    "train-labels-idx1-ubyte.gz": gzipSync(idx([6], [0, 1, 2, 7, 8, 9])),
    "t10k-images-idx3-ubyte": idx([4, 28, 28], ramp(4 * 784)),
    "t10k-labels-idx1-ubyte": idx([4], [3, 3, 0, 1]),
    ...replaced,
  };
  for (const [name, bytes] of Object.entries(files)) {
    if (bytes) await Deno.writeFile(`${path}/${name}`, bytes);
  }
  return path;
}

async function assertDataError(path: string, kind: DataErrorKind, ...words: string[]): Promise<void> {
  try {
    const error = await assertRejects(() => fashionMnist({ path }), DataError);
    assertEquals(error.kind, kind);
    for (const word of [path, ...words]) {
      assert(error.message.includes(word), `"${word}" in "${error.message}"`);
    }
  } finally {
    await Deno.remove(path, { recursive: true });
  }
}

function numbered(n: number, classes = 3): MemoryDataset {
  return arrayDataset({
    name: "numbered",
    images: Uint8Array.from({ length: 2 * n }, (_, i) => i >> 1), // both pixels of image i are i
    shape: [n, 1, 2, 1],
    labels: Array.from({ length: n }, (_, i) => i % classes),
    classes: Array.from({ length: classes }, (_, i) => `class ${i}`),
  });
}

Deno.test("fashionMnist reads a folder of IDX files, gzipped or not", async () => {
  const path = await folder();
  const { train, test } = await fashionMnist({ path });
  assertEquals([train.length, test.length], [6, 4]);
  assertEquals([...train.labels], [0, 1, 2, 7, 8, 9]);
  assertEquals(train.get(1).image, ramp(2 * 784).slice(784));
  await Deno.remove(path, { recursive: true });
});

Deno.test("a missing, cut, damaged or wrong file is a named error that says what to do", async () => {
  const images = gzipSync(idx([6, 28, 28], ramp(6 * 784))), name = "train-images-idx3-ubyte.gz";
  await assertDataError(await folder({ [name]: null }), "missing", name, "github.com/zalandoresearch");
  await assertDataError(
    await folder({ [name]: images.subarray(0, images.length - 20) }),
    "gzip",
    name,
    "fetch it again",
  );
  const damaged = images.slice();
  damaged[images.length - 6]! ^= 0xff; // the checksum at gzip's end
  await assertDataError(await folder({ [name]: damaged }), "gzip", name);
  await assertDataError(await folder({ [name]: new Uint8Array() }), "magic", "got nothing");
  await assertDataError(
    await folder({ [name]: gzipSync(idx([6], [0, 1, 2, 3, 4, 5])) }),
    "magic",
    "00 00 08 03",
    "00 00 08 01",
  );
  await assertDataError(
    await folder({ [name]: gzipSync(new TextEncoder().encode("<html>")) }),
    "magic",
    "3c 68 74 6d",
  );
  await assertDataError(
    await folder({ [name]: gzipSync(idx([6, 28, 28], ramp(100))) }),
    "size",
    "4704",
    "100",
  );
  await assertDataError(
    await folder({ [name]: gzipSync(idx([6, 28, 28], ramp(5000))) }),
    "size",
    "4704",
    "more",
  );
  await assertDataError(
    await folder({ [name]: gzipSync(idx([6, 28, 28], []).subarray(0, 9)) }),
    "size",
    "16 bytes",
    "9",
  );
  for (const shape of [[2 ** 31, 2 ** 31, 28], [1000, 1000, 1000]]) { // nothing of that size is allocated
    await assertDataError(
      await folder({ [name]: idx(shape, []) }),
      "size",
      "header",
      `got a header that says [${shape}]`,
    );
    await assertDataError(await folder({ [name]: gzipSync(idx(shape, [])) }), "size", "header");
  }
});

Deno.test("images and labels that do not belong together are named errors", async () => {
  const name = "train-labels-idx1-ubyte.gz";
  await assertDataError(
    await folder({ [name]: gzipSync(idx([5], [0, 1, 2, 3, 4])) }),
    "count",
    "6 images",
    "got 5",
  );
  await assertDataError(
    await folder({ [name]: gzipSync(idx([6], [0, 1, 2, 3, 10, 4])) }),
    "labels",
    "10 for image 4",
  );
});

Deno.test("any pair of IDX files is a data set: by the names of its files, with its classes or their numbers", async () => {
  const path = await folder(),
    [images, labels] = ["images-idx3", "labels-idx1"].map((part) => `${path}/train-${part}-ubyte`);
  const plain = await idxImages({ images: images!, labels: `${labels}.gz` });
  assertEquals([plain.name, plain.length, plain.classes.length], ["train-images-idx3-ubyte.gz", 6, 10]);
  assertEquals([plain.get(1).image, plain.classes[9]], [ramp(2 * 784).slice(784), "9"]);
  const classes = Array.from({ length: 27 }, (_, i) => i === 0 ? "none" : String.fromCharCode(96 + i));
  const letters = await idxImages({ images: images!, labels: labels!, classes, name: "letters" });
  assertEquals([letters.name, letters.classes[letters.get(5).label]], ["letters", "i"]);
  await Deno.remove(path, { recursive: true });
  const error = await assertRejects(() => idxImages({ images: images!, labels: labels! }), DataError);
  assertEquals([error.kind, error.file], ["missing", images]);
  await assertRejects(() => idxImages({ image: "x" } as never), TypeError, "did you mean images?");
});

Deno.test("IDX arrays keep shape and order", async () => {
  const { data, shape } = await readIdx("x", idx([2, 3, 4], ramp(24)), 3);
  assertEquals([shape, data], [[2, 3, 4], ramp(24)]);
});

Deno.test("get gives a copy and refuses what is not there", () => {
  const data = numbered(5);
  data.get(3).image.fill(99);
  assertEquals([...data.get(3).image], [3, 3]);
  for (const i of [-1, 5, 0.5, NaN]) {
    assertThrows(() => data.get(i), RangeError, "expected an index from 0 to 4");
  }
});

Deno.test("a subset by indices keeps their order, a fraction is drawn by its seed", () => {
  const data = numbered(100);
  const some = data.subset([7, 3, 3]);
  assertEquals([some.length, [...some.labels], [...some.get(0).image]], [3, [1, 0, 0], [7, 7]]);
  assertEquals(some.subset([2]).get(0).image[0], 3);
  const pixels = (set: MemoryDataset) => Array.from({ length: set.length }, (_, i) => set.get(i).image[0]);
  assertEquals(pixels(data.subset(0.2, 1)), pixels(data.subset(0.2, 1)));
  assertNotEquals(pixels(data.subset(0.2, 1)), pixels(data.subset(0.2, 2)));
  assertEquals(new Set(pixels(data.subset(0.2))).size, 20);
  assertEquals(data.subset(1).length, 100);
  assertThrows(() => data.subset([]), RangeError, "empty subset");
  assertThrows(() => data.subset([1, 100]), RangeError, "got 100");
  for (const fraction of [0, 1.5, NaN]) assertThrows(() => data.subset(fraction), RangeError, "fraction");
});

Deno.test("a balanced subset has as many images of each class", () => {
  const data = numbered(90), few = data.balanced(4, 3);
  assertEquals(data.classes.map((_, c) => few.labels.filter((l) => l === c).length), [4, 4, 4]);
  assertEquals([...few.labels], [...data.balanced(4, 3).labels]);
  for (let i = 0; i < few.length; i++) assertEquals(few.get(i).image[0]! % 3, few.get(i).label);
  assertThrows(() => data.balanced(31), RangeError, `class "class 0" has 30`);
  assertThrows(() => data.balanced(0), RangeError, "from 1");
});

Deno.test("batches shuffle by seed and epoch, and drop the partial batch only if asked", () => {
  const data = numbered(100);
  const order = (options: { seed?: number; epoch?: number }) =>
    [...data.batches({ size: 32, ...options })].flatMap(({ indices }) => [...indices]);
  assertEquals(order({ seed: 1 }), order({ seed: 1, epoch: 0 }));
  assertNotEquals(order({ seed: 1 }), order({ seed: 2 }));
  assertNotEquals(order({ seed: 1 }), order({ seed: 1, epoch: 1 }));
  assertEquals([order({}).length, new Set(order({})).size], [96, 96]);
  const all = [...data.batches({ size: 32, shuffle: false, dropLast: false })];
  assertEquals(all.map(({ size }) => size), [32, 32, 32, 4]);
  assertEquals(all.flatMap(({ indices }) => [...indices]), Array.from({ length: 100 }, (_, i) => i));
});

Deno.test("a batch holds the pixels and labels of its indices, in a subset too", () => {
  const data = numbered(60).subset([50, 40, 30, 20, 10]);
  for (const batch of data.batches({ size: 2, dropLast: false })) {
    assertEquals(batch.shape, [batch.size, 1, 2, 1]);
    batch.indices.forEach((i, k) => {
      assertEquals([batch.images[2 * k], batch.labels[k]], [50 - 10 * i, (50 - 10 * i) % 3]);
    });
  }
});

Deno.test("batch sizes that cannot be are refused at once", () => {
  for (const size of [0, 2.5, -1]) {
    assertThrows(() => numbered(10).batches({ size }), RangeError, "whole number from 1");
  }
  assertThrows(() => numbered(10).batches({ size: 11 }), RangeError, "at most the 10 images");
  assertEquals([...numbered(10).batches({ size: 11, dropLast: false })].length, 1);
});

Deno.test("arrays that do not fit one another are refused", () => {
  const good = {
    name: "mine",
    images: new Uint8Array(8),
    shape: [2, 2, 2, 1] as const,
    labels: [0, 1],
    classes: ["a", "b"],
  };
  assertEquals(arrayDataset(good).length, 2);
  assertThrows(() => arrayDataset({ ...good, images: new Uint8Array(9) }), RangeError, "expected 8 bytes");
  assertThrows(() => arrayDataset({ ...good, labels: [0] }), RangeError, "got 1 labels");
  assertThrows(
    () => arrayDataset({ ...good, labels: [0, 2] }),
    RangeError,
    "image 1: expected a label from 0 to 1, got 2",
  );
  assertThrows(
    () => arrayDataset({ ...good, labels: [0.5, 1] }),
    RangeError,
    "image 0: expected a label from 0 to 1, got 0.5",
  );
  assertThrows(
    () => arrayDataset({ ...good, images: new Uint8Array(), shape: [0, 2, 2, 1], labels: [] }),
    RangeError,
    "at least one image",
  );
});

Deno.test("a data set tells what it is, and shows two pictures of each class in a notebook", async () => {
  const data = numbered(9);
  assertEquals(Deno.inspect(data), "numbered: 9 images 1×2×1, 3 classes\n(class 0 3, class 1 3, class 2 3)");
  const shown = await (data as unknown as Record<symbol, () => Promise<Record<string, unknown>>>)[
    Symbol.for("Jupyter.display")
  ]!();
  assertEquals(shown["text/plain"], String(data));
  const { layout } = shown["application/vnd.plotly.v1+json"] as {
    layout: { images: unknown[]; annotations: { text: string }[] };
  };
  assertEquals(layout.images.length, 6);
  assertEquals(layout.annotations.map(({ text }) => text), [
    "class 0",
    "class 1",
    "class 2",
    "class 0",
    "class 1",
    "class 2",
  ]);
});
