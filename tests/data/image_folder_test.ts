import { assert, assertEquals, assertMatch, assertNotEquals, assertRejects, assertThrows } from "@std/assert";
import {
  arrayDataset,
  type Batch,
  compose,
  DataError,
  type DataErrorKind,
  type Dataset,
  evaluate,
  finetune,
  horizontalFlip,
  imageFolder,
  type ImageFolderOptions,
  Nepa,
  NepaClassifier,
  parquetImages,
  pretrain,
  Random,
  randomResizedCrop,
  readFeatures,
  RunFolderError,
  tf,
  trainingBatches,
  useEngine,
} from "nepa";
import { withFolder } from "../support/folder.ts";
import { parquetFile } from "../support/parquet.ts";
import { noise } from "../support/tiny.ts";
import { fixtures, pictures } from "../support/images.ts";

const small = `${fixtures}folder`;

/** A folder of files: bytes, links (`{ to }`), or copies of fixtures by their names. */
async function folder(files: Record<string, Uint8Array | string | { to: string }>): Promise<string> {
  const path = await Deno.realPath(await Deno.makeTempDir());
  for (const [name, content] of Object.entries(files)) {
    await Deno.mkdir(`${path}/${name}`.replace(/\/[^/]*$/, ""), { recursive: true });
    if (typeof content === "string") await Deno.copyFile(`${fixtures}${content}`, `${path}/${name}`);
    else if (content instanceof Uint8Array) await Deno.writeFile(`${path}/${name}`, content);
    else await Deno.symlink(content.to, `${path}/${name}`);
  }
  return path;
}

async function assertDataError(work: () => Promise<unknown>, kind: DataErrorKind, ...words: string[]) {
  const error = await assertRejects(work, DataError);
  assertEquals(error.kind, kind, error.message);
  for (const word of words) assert(error.message.includes(word), `"${word}" in "${error.message}"`);
}

const flat = (batches: readonly Batch[]) => batches.flatMap(({ images }) => [...images]);
const passes = async (set: Dataset, options: Parameters<Dataset["batches"]>[0]) =>
  await Array.fromAsync(set.batches(options));

Deno.test("a folder's classes and files are sorted by code points; what is no image is not looked at", async () => {
  const path = await folder({
    "b/2.png": "rgb.png",
    "b/10.PNG": "grey.png",
    "b/deeper/x.jpeg": "rgb.jpg",
    "b/notes.txt": new Uint8Array(3),
    "b/._2.png": new Uint8Array(3),
    "B/\u{ff5e}.webp": "lossy.webp", // before the next by code point, after it by UTF-16
    "B/\u{1f600}.png": "alpha.png",
    ".cache/z.png": "rgb.png",
    "readme.md": new Uint8Array(1),
  });
  const set = await imageFolder(path, { size: 16 });
  assertEquals(set.classes, ["B", "b"]);
  assertEquals([...set.labels], [0, 0, 1, 1, 1]);
  const expected = ["lossy.webp", "alpha.png", "grey.png", "rgb.png", "rgb.jpg"];
  const one = async (name: string) =>
    (await (await imageFolder(await folder({ "a.png": name }), { size: 16 })).get(0)).image;
  for (const [i, name] of expected.entries()) assertEquals((await set.get(i)).image, await one(name), name);
  assert(String(set).includes("5 images 16×16×3, 2 classes"), String(set));
});

Deno.test("without folders in it, a folder is one class of its own name, at the first image's shorter side", async () => {
  const path = await folder({ "1.jpg": "rgb.jpg", "2.jpg": "exif6.jpg" }), set = await imageFolder(path);
  assertEquals([set.length, set.classes, set.height, set.width, set.channels], [
    2,
    [path.split("/").at(-1)!],
    30,
    30,
    3,
  ]);
});

Deno.test("subsets, balanced subsets and batches are those of arrays", async () => {
  const set = await imageFolder(small, { size: 16 });
  const one = async (i: number) => [...(await set.get(i)).image];
  const some = set.subset([3, 0]), [batch] = await passes(some, { size: 2, shuffle: false });
  assertEquals([[...some.labels], [...batch!.labels], batch!.shape], [[1, 0], [1, 0], [2, 16, 16, 3]]);
  assertEquals([...batch!.images], [...await one(3), ...await one(0)]);
  assertEquals([...set.balanced(1, 3).labels], [0, 1]);
  const whole = await passes(set, { size: 1, seed: 4, epoch: 2 });
  assertEquals(await passes(set, { size: 1, seed: 4, epoch: 2, from: 2 }), whole.slice(2));
  assertNotEquals(
    whole.map(({ indices }) => indices[0]),
    (await passes(set, { size: 1, seed: 4, epoch: 3 })).map(({ indices }) => indices[0]),
  );
  await assertRejects(async () => await set.get(4), RangeError, "index from 0 to 3");
});

Deno.test("chance depends on an image's place in the pass, not on when it is decoded", async () => {
  const transform = compose(randomResizedCrop({ size: 12 }), horizontalFlip());
  const options = {
    size: 2,
    seed: 1,
    change: { transform, size: { height: 12, width: 12 }, random: (p: number) => new Random(5, p) },
  };
  const set = await imageFolder(small, { size: 16 }), first = flat(await passes(set, options));
  assertEquals(flat(await passes(set, options)), first); // the small ones are in memory now
  const order = (await passes(set, { size: 4, seed: 1 }))[0]!.indices;
  const slow: number[] = [];
  for (const [p, i] of order.entries()) { // one at a time
    const change = { ...options.change, random: () => new Random(5, p) };
    slow.push(...flat(await passes(set.subset([i]), { size: 1, change })));
  }
  assertEquals(slow, first);
});

Deno.test("a broken file is an error with its name, or left out and counted", async () => {
  const whole = await Deno.readFile(`${fixtures}rgb.jpg`), png = await Deno.readFile(`${fixtures}rgb.png`);
  const path = await folder({
    "a/0.jpg": whole.subarray(0, 300),
    "a/1.jpg": whole,
    "a/2.jpg": whole.subarray(0, whole.length - 200),
    "b/3.png": png.subarray(0, 900),
    "b/4.png": new TextEncoder().encode("<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>"),
    "b/5.png": png,
    "b/6.webp": new Uint8Array(0),
  });
  const set = await imageFolder(path, { size: 16 });
  for (const [i, name] of ["0.jpg", , "2.jpg", "3.png", "4.png", , "6.webp"].entries()) {
    if (name) await assertDataError(async () => await set.get(i), "image", name, 'broken: "skip"');
  }
  assertEquals((await set.get(1)).image.length, 16 * 16 * 3);
  await assertDataError(() => passes(set, { size: 7 }), "image", path);
  const { skipped, labels, length } = await imageFolder(path, { broken: "skip" });
  assertEquals([length, [...labels]], [2, [0, 1]]);
  assertEquals(skipped.map(({ file }) => file.split("/").at(-1)), [
    "0.jpg",
    "2.jpg",
    "3.png",
    "4.png",
    "6.webp",
  ]);
});

Deno.test("a file with a huge size in its header is refused before it is decoded", async () => {
  const png = await Deno.readFile(`${fixtures}rgb.png`), view = new DataView(png.buffer);
  view.setUint32(16, 20_000);
  view.setUint32(20, 20_000);
  const crc = (bytes: Uint8Array) => { // PNG's checksum
    let sum = ~0;
    for (const byte of bytes) {
      for (let k = 0, x = byte; k < 8; k++, x >>= 1) {
        sum = (sum >>> 1) ^ ((sum ^ x) & 1 ? 0xedb88320 : 0);
      }
    }
    return ~sum >>> 0;
  };
  view.setUint32(29, crc(png.subarray(12, 29)));
  const path = await folder({ "bomb.png": png, "fine.png": "rgb.png" });
  const before = Deno.memoryUsage().rss, set = await imageFolder(path, { size: 8 });
  await assertDataError(async () => await set.get(0), "size", "bomb.png", "20000 x 20000", "178956970");
  assert(Deno.memoryUsage().rss - before < 4e8, "it was decoded"); // 1.2 GB, were it
  const { length, skipped } = await imageFolder(path, { broken: "skip" });
  assertEquals([length, skipped.length], [1, 1]);
  await assertDataError(() => imageFolder(path, { maxPixels: 1000 }), "size", "1000 pixels");
});

Deno.test("no link leads out of the folder, or to a folder; links inside are followed", async () => {
  const outside = await folder({ "secret.png": "rgb.png" });
  const within = await folder({ "a/1.png": "rgb.png", "a/2.png": { to: "1.png" } });
  assertEquals((await imageFolder(within, { size: 8 })).length, 2);
  const links: Record<string, string> = {
    "x.png": `${outside}/secret.png`,
    "y.png": "../../../../../../../etc/hostname",
    "z": outside,
    "around": "../a",
    "gone.png": "nowhere.png",
  };
  for (const [name, to] of Object.entries(links)) {
    const path = await folder({ "a/1.png": "rgb.png", [`a/${name}`]: { to } });
    await assertDataError(() => imageFolder(path, { size: 8 }), "link", name, path);
  }
});

Deno.test("a missing folder, an empty one and a file that went away are named errors", async () => {
  await assertDataError(() => imageFolder("/no/such/folder"), "missing", "/no/such/folder");
  await assertDataError(() => imageFolder(`${fixtures}rgb.png`), "missing", "expected a folder, got a file");
  await assertDataError(async () => await imageFolder(await folder({})), "count", "found none");
  const without = await folder({ "a/notes.txt": new Uint8Array(1), "b/1.png": "rgb.png" });
  const { classes, labels } = await imageFolder(without, { emptyClasses: true });
  assertEquals([classes, [...labels]], [["a", "b"], [1]]);
  const path = await folder({ "a/1.png": "rgb.png", "a/2.png": "rgb.png" }), set = await imageFolder(path);
  await Deno.remove(`${path}/a/2.png`);
  await assertDataError(async () => await set.get(1), "missing", "2.png");
  for (const options of [{ channels: 2 }, { size: 0 }, { broken: "maybe" }]) {
    await assertRejects(() => imageFolder(small, options as unknown as ImageFolderOptions), RangeError);
  }
});

Deno.test("a folder's fingerprint changes with names and sizes, and with the images chosen", async () => {
  const files = { "a/1.png": "rgb.png", "a/2.png": "grey.png" } as const;
  const of = async (changed: Record<string, string>) =>
    (await imageFolder(await folder({ ...files, ...changed }), { size: 8 })).fingerprint;
  const same = await of({});
  assertEquals(await of({}), same);
  for (const changed of [{ "a/2.png": "bits.png" }, { "a/3.png": "rgb.png" }, { "b/2.png": "grey.png" }]) {
    assertNotEquals(await of(changed), same);
  }
  const set = await imageFolder(small, { size: 8 });
  assertNotEquals(set.subset([0, 1]).fingerprint, set.subset([1, 0]).fingerprint);
  assertEquals(set.subset([0, 1]).fingerprint, set.subset([0, 1]).fingerprint);
});

Deno.test("a Parquet file of the hub holds the images of the folder it was made from", async () => {
  const hub = await parquetImages(`${fixtures}hub.parquet`, { size: 24 });
  const files = await imageFolder(small, { size: 24 });
  assertEquals([hub.length, hub.classes, [...hub.labels]], [4, ["cat", "dog"], [0, 0, 1, 1]]);
  assertEquals(
    flat(await passes(hub, { size: 4, shuffle: false })),
    flat(await passes(files, { size: 4, shuffle: false })),
  );
  const twice = await parquetImages([`${fixtures}hub.parquet`, `${fixtures}hub.parquet`], { size: 24 });
  assertEquals([twice.length, (await twice.get(6)).image], [8, (await hub.get(2)).image]);
  await assertDataError(() => parquetImages("/no/such.parquet"), "missing", "/no/such.parquet");
  await assertDataError(() => parquetImages(`${fixtures}rgb.png`), "magic", "rgb.png");
});

Deno.test("images of a Parquet file whose label is null or -1 have none, and what needs labels names the row", async () => {
  await useEngine("cpu");
  const path = `${await Deno.makeTempDir()}/x.parquet`, few = noise.subset([0, 1, 2]);
  await Deno.writeFile(path, parquetFile(few));
  assertEquals((await (await parquetImages(path, { channels: 1 })).get(2)).image, few.get(2).image);
  await Deno.writeFile(path, parquetFile(few, [0, -1, 1])); // as the hub marks what has no label
  const hidden = await parquetImages(path, { channels: 1 }),
    batches = trainingBatches(hidden, { batchSize: 3 });
  assertEquals([...(await batches.next()).labels.dataSync()].sort(), [-1, 0, 1]);
  batches.dispose();
  assertThrows(() => hidden.balanced(1), RangeError, "image 1: expected a label from 0 to 1, got -1");
  assert(
    "text/plain" in
      await (hidden as unknown as Record<symbol, () => Promise<object>>)[Symbol.for("Jupyter.display")]!(),
  );
  await Deno.writeFile(path, parquetFile(few, [0, null, 1]));
  const nulls = await parquetImages(path, { channels: 1 });
  assertEquals([...nulls.labels], [0, -1, 1]);
  assert(String(nulls).includes("2 classes, 1 without a label\n(even 1, odd 1)"), String(nulls));
  for (const label of [2, -2]) {
    await Deno.writeFile(path, parquetFile(few, [0, label, 1]));
    const message = `image 1, from 0 to 1, -1 or null for none, got ${label}`;
    await assertDataError(() => parquetImages(path), "labels", message);
  }
  await Deno.remove(path.replace("/x.parquet", ""), { recursive: true });
});

/** A folder of 12 images in 3 classes, and the same images in memory. */
async function both(): Promise<{ path: string; files: Dataset; memory: Dataset }> {
  const names = pictures.slice(0, 12);
  const path = await folder(Object.fromEntries(names.map((name, i) => [`${"abc"[i % 3]}/${name}`, name])));
  const files = await imageFolder(path, { size: 16 });
  const [batch] = await passes(files, { size: 12, shuffle: false });
  const { classes, labels } = files;
  const memory = arrayDataset({
    name: "memory",
    images: batch!.images,
    shape: batch!.shape,
    labels,
    classes,
  });
  return { path, files, memory };
}

const network = {
  imageSize: 16,
  patchSize: 8,
  numChannels: 3,
  hiddenSize: 16,
  numHiddenLayers: 1,
  numAttentionHeads: 2,
};

Deno.test("training, features, probe and fine-tuning from files are those from memory", async () => {
  await useEngine("cpu");
  const { path, files, memory } = await both(), before = tf.memory().numTensors;
  const results = await Promise.all([files, memory].map(async (set) => {
    const model = new Nepa({ ...network, intermediateSize: 32 }, { seed: 0 });
    const settings = { steps: 4, batchSize: 5, seed: 3, compile: false };
    const { history } = await pretrain(model, set, settings).finish();
    const features = await readFeatures(model, set, ["final"]);
    const classifier = NepaClassifier.from(model, { classes: set.classes });
    const tuned = await finetune(classifier, set, settings).finish();
    const { loss } = await evaluate(classifier, set);
    classifier.dispose();
    model.dispose();
    const losses = [...history, ...tuned.history].map(({ loss }) => loss);
    return { losses, loss, features: [...features.get("final")!], metrics: history[0]!.metrics };
  }));
  assertEquals(results[0], results[1]);
  assertEquals(tf.memory().numTensors, before);
  await Deno.remove(path, { recursive: true });
});

Deno.test("a training from files goes on exactly, and not when a file has changed", async () => {
  await useEngine("cpu");
  const { path, files } = await both(), out = await Deno.makeTempDir();
  const augment = compose(randomResizedCrop({ size: 16, scale: [0.3, 1] }), horizontalFlip());
  const start = (set: Dataset, checkpoint?: { folder: string; resume: boolean }) =>
    pretrain(new Nepa({ ...network, intermediateSize: 32 }, { seed: 0 }), set, {
      steps: 5,
      batchSize: 5,
      augment,
      compile: false,
      ...checkpoint && { checkpoint },
    });
  const losses = ({ history }: { history: readonly { loss: number }[] }) => history.map(({ loss }) => loss);
  const whole = await start(files).finish();
  for await (const { step } of start(files, { folder: out, resume: false })) if (step === 3) break; // inside a pass
  const again = await imageFolder(path, { size: 16 });
  assertEquals(losses(await start(again, { folder: out, resume: true }).finish()), losses(whole));
  await Deno.rename(`${path}/a/${pictures[0]}`, `${path}/a/zz.png`);
  const changed = await imageFolder(path, { size: 16 });
  await assertRejects(
    () => start(changed, { folder: out, resume: true }).finish(),
    RunFolderError,
    "data.contents",
  );
  for (const folder of [path, out]) await Deno.remove(folder, { recursive: true });
});

Deno.test("a folder that holds train and test is opened with a hint to open each, others without", async () => {
  await withFolder(async (folder) => {
    const said: string[] = [], { error } = console, open = () => imageFolder(folder, { size: 8 });
    console.error = (...words: unknown[]) => said.push(words.join(" "));
    try {
      for (const part of ["train", "test"]) {
        await Deno.mkdir(`${folder}/${part}/cat`, { recursive: true });
        await Deno.copyFile("tests/fixtures/images/rgb.png", `${folder}/${part}/cat/1.png`);
      }
      assertEquals((await open()).classes, ["test", "train"]);
      assertEquals(said.length, 1);
      assertMatch(said[0]!, /its classes would be test and train, .* open imageFolder\(".*\/test"\)/);
      await Deno.rename(`${folder}/test`, `${folder}/testament`);
      await open();
      assertEquals(said.length, 1);
    } finally {
      console.error = error;
    }
  });
});
