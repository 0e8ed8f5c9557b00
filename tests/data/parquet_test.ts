import { fileURLToPath } from "node:url";
import { assert, assertEquals, assertNotEquals, assertRejects } from "@std/assert";
import {
  DataError,
  type Dataset,
  fingerprintOf,
  imageFolder,
  Nepa,
  parquetImages,
  type ParquetOptions,
  pretrain,
  unpackParquet,
  useEngine,
} from "nepa";
import { ParquetPages } from "../../lib/data/parquet_pages.ts";
import { aside } from "../../lib/data/parquet_reader.ts";
import { fixtures } from "../support/images.ts";
import { withFolder } from "../support/folder.ts";
import { type Cell, parquetColumns } from "../support/parquet.ts";

const packed = fileURLToPath(new URL("../fixtures/parquet/", import.meta.url));
const pictures = ["cat/exif6.jpg", "cat/rgb.jpg", "dog/alpha.png", "dog/lossy.webp"];
const cells: Cell[] = await Promise.all(pictures.map(async (path) => {
  return { bytes: await Deno.readFile(`${fixtures}folder/${path}`), path };
}));
const image = { _type: "Image" };

/** A Parquet file in a folder of its own. */
async function withParquet(bytes: Uint8Array, work: (path: string) => Promise<void>): Promise<void> {
  await withFolder(async (folder) => {
    await Deno.writeFile(`${folder}/x.parquet`, bytes);
    await work(`${folder}/x.parquet`);
  });
}

async function pixels(set: Dataset): Promise<Uint8Array[]> {
  return await Promise.all(Array.from({ length: set.length }, async (_, i) => (await set.get(i)).image));
}

async function refused(
  path: string,
  options: ParquetOptions,
  kind: string,
  ...words: string[]
): Promise<void> {
  const error = await assertRejects(() => parquetImages(path, options), DataError);
  assertEquals(error.kind, kind, error.message);
  for (const word of [path, ...words]) {
    assert(error.message.includes(word), `"${word}" in "${error.message}"`);
  }
}

Deno.test("images of pages packed in every way, with an index and without, are those of the files", async () => {
  const files = await pixels(await imageFolder(`${fixtures}folder`, { size: 24 }));
  for (const name of ["none", "snappy", "gzip", "brotli", "zstd", "lz4", "no_index"]) {
    const set = await parquetImages(`${packed}${name}.parquet`, { size: 24 });
    assertEquals([set.length, [...set.labels], set.classes], [4, [0, 0, 1, 1], ["cat", "dog"]], name);
    for (let again = 0; again < 2; again++) {
      for (const i of [3, 0, 2, 1]) assertEquals((await set.get(i)).image, files[i], `${name}, image ${i}`);
    }
  }
});

Deno.test("a page is read once; without an index a group of rows is read once", async () => {
  const { open } = Deno, { postMessage } = Worker.prototype, read: number[] = [];
  for (const [name, pages] of [["none", 4], ["no_index", 2]] as const) {
    const path = `${packed}${name}.parquet`, { columns: [image] } = await aside("open", [path]);
    const found = await ParquetPages.open([{ path, image: image! }]);
    assertEquals(found.slow, false);
    try {
      Deno.open = (async (...args: Parameters<typeof open>) => {
        read.push(1);
        return await open(...args);
      }) as typeof open;
      Worker.prototype.postMessage = function (this: Worker, ...args: Parameters<typeof postMessage>) {
        read.push(1);
        postMessage.apply(this, args);
      } as typeof postMessage;
      for (let i = 0; i < 12; i++) assertEquals(await found.bytesOf(i % 4), cells[i % 4]!.bytes!);
      assertEquals(read.splice(0).length, pages, name);
    } finally {
      Deno.open = open;
      Worker.prototype.postMessage = postMessage;
    }
  }
});

Deno.test("images without labels are pretrained on", async () => {
  await useEngine("cpu");
  await withParquet(parquetColumns({ image: cells }, [], { image }), async (path) => {
    const set = await parquetImages(path, { size: 16 });
    assertEquals([set.length, set.classes, [...set.labels]], [4, [], [0, 0, 0, 0]]);
    const shape = { imageSize: 16, patchSize: 8, numChannels: 3, hiddenSize: 16, numAttentionHeads: 2 };
    const model = new Nepa({ ...shape, numHiddenLayers: 1, intermediateSize: 16 }, { seed: 0 });
    const run = await pretrain(model, set, { steps: 2, batchSize: 2, compile: false }).finish();
    assertEquals(run.history.length, 2);
    model.dispose();
  });
});

Deno.test("labels are texts or numbers as well; a row may be without one", async () => {
  const texts = { name: "label", data: ["dog", "cat", null, "dog"], type: "STRING" as const };
  await withParquet(
    parquetColumns({ image: cells }, [texts], { image, label: { _type: "Value" } }),
    async (path) => {
      const set = await parquetImages(path);
      assertEquals([set.classes, [...set.labels]], [["cat", "dog"], [1, 0, -1, 1]]);
      assertEquals((await parquetImages(path, { label: null })).classes, []);
      await refused(
        path,
        { label: "kind" },
        "magic",
        "label: expected a column kind",
        "image: Image, label: Value",
      );
    },
  );
  const kinds = { name: "kind", data: [10n, 9n, -1n, 10n], type: "INT64" as const };
  await withParquet(parquetColumns({ image: cells }, [kinds]), async (path) => {
    const set = await parquetImages(path, { label: "kind" });
    assertEquals([set.classes, [...set.labels]], [["9", "10"], [1, 0, -1, 1]]);
    assertEquals((await parquetImages(path)).classes, []);
    await refused(
      path,
      { image: "kind" },
      "magic",
      "image: expected a column kind with such values",
      "kind: INT64",
    );
  });
  const sizes = { name: "label", data: [0.5, 1.5, 2.5, 3.5], type: "DOUBLE" as const };
  await withParquet(parquetColumns({ image: cells }, [sizes]), async (path) => {
    await refused(path, {}, "labels", "expected a text or a number for image 0, got 0.5");
  });
});

Deno.test("of several columns one is chosen, and which there are is said", async () => {
  const features = {
    image,
    mask: image,
    coarse: { _type: "ClassLabel", names: ["a"] },
    fine: { _type: "ClassLabel", names: ["b", "c"] },
  };
  const coarse = { name: "coarse", data: [0n, 0n, 0n, 0n], type: "INT64" as const };
  const fine = { name: "fine", data: [0n, 1n, 1n, 0n], type: "INT64" as const },
    turned = [...cells].reverse();
  await withParquet(
    parquetColumns({ image: cells, mask: turned }, [coarse, fine], features),
    async (path) => {
      await refused(
        path,
        { label: null },
        "magic",
        "image: expected one column",
        "image: Image, mask: Image",
        "{ image: ",
      );
      await refused(
        path,
        { image: "mask" },
        "magic",
        "label: expected one column",
        "coarse: ClassLabel, fine: ClassLabel",
      );
      const set = await parquetImages(path, { image: "mask", label: "fine", size: 8 });
      assertEquals([set.classes, [...set.labels]], [["b", "c"], [0, 1, 1, 0]]);
      const other = await pixels(await parquetImages(path, { image: "image", label: "coarse", size: 8 }));
      assertEquals(await pixels(set), other.reverse());
      const options = { label: null, size: 8 },
        sets = ["image", "mask"].map((image) => ({ image, ...options }));
      const prints = await Promise.all(
        sets.map(async (asked) => await fingerprintOf(await parquetImages(path, asked))),
      );
      assertNotEquals(prints[0], prints[1]);
    },
  );
  const texts = { name: "text", data: ["a", "b", "c", "d"], type: "STRING" as const };
  await withParquet(
    parquetColumns({}, [texts]),
    (path) => refused(path, {}, "magic", "image: expected one column", "text"),
  );
  const bytes = { name: "picture", data: cells.map((cell) => cell!.bytes!), type: "BYTE_ARRAY" as const };
  await withParquet(parquetColumns({}, [bytes, texts]), async (path) => {
    assertEquals(
      await pixels(await parquetImages(path, { size: 8 })),
      await pixels(await imageFolder(`${fixtures}folder`, { size: 8 })),
    );
  });
});

Deno.test("a row without an image is an error with its file, or left out", async () => {
  const [a, b, c] = cells,
    rows: Cell[] = [a!, null, { bytes: null, path: "elsewhere.png" }, b!, {
      bytes: new Uint8Array(9),
      path: null,
    }, c!];
  const label = { name: "label", data: [0n, 1n, 0n, 1n, 0n, 1n], type: "INT64" as const };
  const features = { image, label: { _type: "ClassLabel", names: ["x", "y"] } };
  await withParquet(parquetColumns({ image: rows }, [label], features), async (path) => {
    const set = await parquetImages(path, { size: 8 });
    for (const row of [1, 2]) {
      const error = await assertRejects(async () => await set.get(row), DataError);
      assertEquals(error.file, `${path}, image ${row}`);
      assert(error.message.includes("expected its encoded bytes, got none"), error.message);
    }
    const whole = await parquetImages(path, { size: 8, broken: "skip" });
    assertEquals([whole.length, [...whole.labels]], [3, [0, 1, 1]]);
    assertEquals(whole.skipped.map(({ file }) => file), [1, 2, 4].map((row) => `${path}, image ${row}`));
    assert(String(whole).includes("left out: 2 × expected its encoded bytes"), String(whole));
    assertEquals(await pixels(whole), [
      (await set.get(0)).image,
      (await set.get(3)).image,
      (await set.get(5)).image,
    ]);
  });
});

Deno.test("a file that is cut off or broken inside is refused by its name", async () => {
  await withFolder(async (folder) => {
    for (const name of ["zstd", "none"]) {
      const path = `${folder}/${name}.parquet`, bytes = await Deno.readFile(`${packed}${name}.parquet`);
      await Deno.writeFile(path, bytes.map((x, i) => i > 4 && i < 600 ? x ^ 0x55 : x));
      const set = await parquetImages(path, { size: 8 });
      assert((await assertRejects(async () => await set.get(0), DataError)).message.startsWith(path));
      await Deno.writeFile(path, bytes.subarray(0, 700));
      await refused(path, {}, "magic");
    }
  });
});

Deno.test("rows that cannot be there, and notes of another form, are refused by the file's name", async () => {
  const label = { name: "label", data: [0, 1, 0, 1], type: "INT32" as const };
  const names = { image, label: { _type: "ClassLabel", names: ["a", 1] as unknown } };
  await withParquet(parquetColumns({ image: cells }, [label], names), async (path) => {
    await refused(path, {}, "labels", "texts as names of the classes");
  });
  await withParquet(parquetColumns({ image: cells }, [label], { image }), async (path) => {
    const bytes = await Deno.readFile(path), text = new TextDecoder("latin1").decode(bytes);
    await Deno.writeFile(path, bytes.with(text.indexOf('{"info"'), 0x28));
    await refused(path, {}, "magic", "notes of the columns");
  });
  const rows = Array<Cell>(3000).fill(null);
  await withParquet(parquetColumns({ image: rows }, [], { image }), async (path) => {
    await refused(path, {}, "magic", "it says that it has 3000 rows");
  });
});

Deno.test("a file that keeps its reader too long is refused by its name, and the next one is read", async () => {
  const count = 200_000,
    label = { name: "label", data: Array(count).keys().toArray(), type: "INT32" as const };
  await withParquet(
    parquetColumns({ image: Array<Cell>(count).fill(null) }, [label], { image }),
    async (path) => {
      Deno.env.set("NEPA_PARSE_SECONDS", "1e-9");
      try {
        await refused(path, {}, "magic", "more than 1e-9 seconds");
      } finally {
        Deno.env.delete("NEPA_PARSE_SECONDS");
      }
    },
  );
  assertEquals((await parquetImages(`${packed}none.parquet`, { size: 8 })).length, 4);
});

Deno.test("packed files without an index say what to do, and are unpacked to a folder, wholly or not at all", async () => {
  const label = { name: "label", data: ["b", "a", "a", null], type: "STRING" as const };
  await withParquet(parquetColumns({ image: cells }, [label]), async (path) => {
    const folder = `${path}-files`;
    const error = await assertRejects(() => unpackParquet(path, folder), DataError);
    assert(error.message.includes("image 3: expected a label"), error.message);
    assertEquals([...Deno.readDirSync(path.slice(0, -10))].length, 1);
    await assertRejects(() => unpackParquet(path, path), RangeError, "one that is not there yet");
    await unpackParquet(path, folder, { label: null });
    const flat = await imageFolder(folder, { size: 8 }), set = await parquetImages(path, { size: 8 });
    assertEquals([await pixels(flat), flat.classes.length], [await pixels(set), 1]);
  });
});
