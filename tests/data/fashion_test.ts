import { assert, assertEquals, assertRejects } from "@std/assert";
import { type DataError, fashionMnist, type MemoryDataset, tf } from "nepa";
import { HubServer } from "../support/hub_server.ts";
import { parquetFile } from "../support/parquet.ts";

Deno.test("Fashion-MNIST has its images, labels and classes", async () => {
  const { train, test } = await fashionMnist();
  assertEquals([train.length, train.height, train.width, train.channels], [60000, 28, 28, 1]);
  assertEquals(test.length, 10000);
  assertEquals([...train.labels.subarray(0, 10)], [9, 0, 0, 3, 0, 2, 7, 2, 5, 5]);
  assertEquals([...test.labels.subarray(0, 10)], [9, 2, 1, 1, 6, 1, 4, 6, 5, 7]);
  assertEquals(train.classes[train.get(0).label], "Ankle boot");
  for (const set of [train, test]) {
    const counts = set.classes.map((_, label) => set.labels.filter((l) => l === label).length);
    assertEquals(new Set(counts), new Set([set.length / 10]));
  }
  let sum = 0;
  for (const { images } of train.batches({ size: 1000, shuffle: false })) for (const x of images) sum += x;
  assertEquals((sum / 60000 / 784 / 255).toFixed(4), "0.2860"); // the mean that others publish for it
});

const home = new URL("../../", import.meta.url);
const labels = "data/fashion-mnist/t10k-labels-idx1-ubyte.gz";

/** What `fashionMnist` does in a copy of the package, with the data beside it or without. */
async function copied(
  folders: readonly string[],
  work: (fashion: typeof fashionMnist, elsewhere: string) => Promise<void>,
): Promise<void> {
  const elsewhere = await Deno.makeTempDir();
  for (const folder of ["lib/base", "lib/data", "lib/display", "lib/files", ...folders]) {
    await Deno.mkdir(`${elsewhere}/${folder}`, { recursive: true });
    for await (const { name, isFile } of Deno.readDir(new URL(folder, home))) {
      if (isFile) await Deno.copyFile(new URL(`${folder}/${name}`, home), `${elsewhere}/${folder}/${name}`);
    }
  }
  try {
    await work((await import(`file://${elsewhere}/lib/data/fashion.ts`)).fashionMnist, elsewhere);
  } finally {
    await Deno.remove(elsewhere, { recursive: true });
  }
}

Deno.test("the files that are shipped lie beside the package, and a changed one is refused by its checksum", async () => {
  await copied(["data/fashion-mnist"], async (fashion, elsewhere) => {
    const bytes = new Uint8Array(10008);
    bytes.set([0, 0, 8, 1, 0, 0, 10000 >> 8, 10000 & 255]); // ten thousand labels, all 0
    await Deno.writeFile(`${elsewhere}/${labels}`, bytes);
    const error = await assertRejects(
      () => fashion(),
      Error,
      "not the data that were published",
    ) as DataError;
    assertEquals([error.name, error.kind, error.file], ["DataError", "checksum", "Fashion-MNIST test"]);
    await Deno.remove(`${elsewhere}/${labels}`);
    const missing = await assertRejects(() => fashion(), Error, "t10k-labels") as DataError;
    assertEquals([missing.name, missing.kind], ["DataError", "missing"]);
    assert(missing.message.includes("github.com/zalandoresearch"), missing.message);
  });
});

const SPLITS = ["train", "test"] as const,
  pathOf = (split: string) => `fashion_mnist/${split}-00000-of-00001.parquet`;

Deno.test("without files beside it, an installed package reads Fashion-MNIST from the hub, once, and checks every pixel", async () => {
  const shipped = await fashionMnist(), { numTensors } = tf.memory(), cache = await Deno.makeTempDir();
  const files = new Map(SPLITS.map((split) => [pathOf(split), parquetFile(shipped[split])]));
  await using hub = new HubServer(files, { repo: "datasets/zalando-datasets/fashion_mnist" });
  const variables = { HF_HOME: cache, HF_ENDPOINT: hub.endpoint, HF_HUB_OFFLINE: "" };
  const before = Object.keys(variables).map((name) => [name, Deno.env.get(name)] as const),
    { error: say } = console;
  for (const [name, value] of Object.entries(variables)) Deno.env.set(name, value);
  console.error = () => {};
  try {
    await copied([], async (fashion) => {
      const fetched = await fashion(),
        pixels = (set: MemoryDataset) => [...set.batches({ size: set.length, shuffle: false })];
      for (const split of SPLITS) {
        const [got, expected] = [fetched[split], shipped[split]];
        assertEquals([String(got), got.labels], [String(expected), expected.labels]);
        const plain = pixels(expected)[0]!.images;
        assertEquals(pixels(got)[0]!.images.every((x, i) => x === plain[i]), true);
      }
      assertEquals(hub.take().filter(({ host }) => host === "storage").length, 2);
      Deno.env.set("HF_HUB_OFFLINE", "1");
      const storage = `${cache}/hub/datasets--zalando-datasets--fashion_mnist/snapshots`;
      const [{ name }] = [...Deno.readDirSync(storage)] as [Deno.DirEntry];
      const other = [...shipped.test.labels].map((label, i) => i === 5 ? (label + 1) % 10 : label);
      await Deno.writeFile(`${storage}/${name}/${pathOf("test")}`, parquetFile(shipped.test, other));
      const error = await assertRejects(
        () => fashion(),
        Error,
        "not the data that were published",
      ) as DataError;
      assertEquals([error.kind, error.file, hub.take()], ["checksum", "Fashion-MNIST test", []]);
    });
  } finally {
    console.error = say;
    for (const [name, value] of before) {
      value === undefined ? Deno.env.delete(name) : Deno.env.set(name, value);
    }
    await Deno.remove(cache, { recursive: true });
  }
  assertEquals(tf.memory().numTensors, numTensors);
});

Deno.test("the sums that data/README.md states are those of the files", async () => {
  const folder = new URL("../../data/", import.meta.url),
    readme = await Deno.readTextFile(new URL("README.md", folder));
  const rows = [...readme.matchAll(/^\| `([^`]+\.gz)` .* \| ([\d,]+) \| `([0-9a-f]{64})` \|$/gm)];
  assertEquals(rows.length, 4);
  for (const [, name, size, sum] of rows) {
    const bytes = await Deno.readFile(new URL(`fashion-mnist/${name}`, folder));
    const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).toHex();
    assertEquals([bytes.length.toLocaleString("en-US"), digest], [size!, sum!], name);
  }
});
