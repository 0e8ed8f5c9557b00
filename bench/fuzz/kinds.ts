/** The kinds of files that are broken, and how each is read. @module */
import { Uint8ArrayReader, Uint8ArrayWriter, ZipReader, ZipWriter } from "@zip.js/zip.js";
import process from "node:process";
import { gzipSync } from "node:zlib";
import { basename, join } from "node:path";
import { imageFolder, Nepa, parquetImages, pretrain, Random, readIdx, tf, useEngine } from "nepa";
import { ForeignError } from "../../lib/base/check.ts";
import { openTorchFile } from "../../lib/files/torch_file.ts";
import { checkRead, mutant } from "../../tests/support/mutate.ts";
import { config, noise } from "../../tests/support/tiny.ts";
import { changed } from "./change.ts";

/** Reads file `index` of the broken ones in a folder of its own: whether it was whole. Throws what is wrong with the outcome. */
type Attempt = (folder: string, index: number, seed: number) => Promise<boolean>;

const fixtures = new URL("../../tests/fixtures/", import.meta.url);
const fixture = (path: string) => Deno.readFileSync(new URL(path, fixtures));
const pick = <T>(list: readonly T[], random: Random): T => list[random.integer(list.length)]!;

/** An error has to be this library's, and to name the file or its folder. */
export async function refusedOrWhole(place: string, read: () => Promise<unknown>): Promise<boolean> {
  try {
    await read();
    return true;
  } catch (error) {
    const { message } = error as Error;
    const ours = error instanceof ForeignError || error instanceof RangeError || error instanceof TypeError;
    if (ours && message.includes(place)) return false;
    throw new Error(`expected an error that names ${place}, got ${(error as Error).stack ?? error}`);
  }
}

const torchFile = fixture("torch/every.bin");

/** The entries of an archive. */
async function entriesOf(bytes: Uint8Array): Promise<[string, Uint8Array][]> {
  const reader = new ZipReader(new Uint8ArrayReader(bytes), { useWebWorkers: false });
  const entries = await reader.getEntries();
  return await Promise.all(entries.map(async (entry) => {
    if (entry.directory) throw new TypeError(`expected files, got the folder ${entry.filename}`);
    return [entry.filename, await entry.getData(new Uint8ArrayWriter())] as [string, Uint8Array];
  }));
}

async function archive(entries: readonly (readonly [string, Uint8Array])[]): Promise<Uint8Array> {
  const zip = new ZipWriter(new Uint8ArrayWriter(), { useWebWorkers: false, level: 0 });
  for (const [name, bytes] of entries) await zip.add(name, new Uint8ArrayReader(bytes));
  return await zip.close();
}

const readTorch = async (folder: string, bytes: Uint8Array) => {
  const path = join(folder, "weights.bin");
  await Deno.writeFile(path, bytes);
  return await refusedOrWhole(path, async () => {
    await using file = await openTorchFile(path);
    for (const name of file.infos.keys()) await file.read(name);
  });
};

const torchEntries = await entriesOf(torchFile);

const pickle: Attempt = async (folder, index, seed) => {
  const random = new Random(seed, "pickle", index);
  const own = torchEntries.map(([name, bytes]) =>
    [name, name.endsWith("data.pkl") ? changed(bytes, random) : bytes] as const
  );
  return await readTorch(folder, await archive(own));
};

const zip: Attempt = async (folder, index, seed) => {
  const random = new Random(seed, "zip", index), list = torchFile.length - 60 * torchEntries.length;
  return await readTorch(folder, changed(torchFile, random, { from: random.uniform() < 0.7 ? list : 0 }));
};

/** An IDX file of four images of 3 × 3. */
const images = Uint8Array.of(0, 0, 8, 3, 0, 0, 0, 4, 0, 0, 0, 3, 0, 0, 0, 3, ...Array(36).keys());

const idx: Attempt = async (_, index, seed) => {
  const random = new Random(seed, "idx", index), packed = random.uniform() < 0.5;
  const bytes = random.uniform() < 0.5 && packed
    ? changed(gzipSync(images), random)
    : packed
    ? gzipSync(changed(images, random))
    : changed(images, random);
  return await refusedOrWhole("images.idx", async () => {
    const { data, shape } = await readIdx("images.idx", new Uint8Array(bytes), 3);
    if (data.length !== shape.reduce((a, b) => a * b, 1)) throw new Error(`[${shape}], ${data.length} bytes`);
  });
};

const parquetFiles = ["none", "snappy", "gzip", "brotli", "zstd", "lz4", "no_index"]
  .map((name) => fixture(`parquet/${name}.parquet`));

const parquet: Attempt = async (folder, index, seed) => {
  const random = new Random(seed, "parquet", index), whole = pick(parquetFiles, random);
  const notes = new DataView(whole.buffer).getUint32(whole.length - 8, true) + 8;
  const from = random.uniform() < 0.8 ? whole.length - notes : 0, path = join(folder, "x.parquet");
  await Deno.writeFile(path, changed(whole, random, { from }));
  return await refusedOrWhole(path, async () => {
    const set = await parquetImages(path, { size: 8 });
    for (let i = 0; i < Math.min(set.length, 8); i++) await set.get(i);
  });
};

const PREPROCESSING = {
  ...{
    image_mean: [0.5, 0.5, 0.5],
    image_std: [0.5, 0.5, 0.5],
    do_normalize: true,
    do_rescale: true,
    do_resize: true,
  },
  ...{ rescale_factor: 1 / 255, resample: 3, size: { height: 16, width: 16 } },
};

const modelFiles = new Map<string, Uint8Array>([
  ["config.json", fixture("pretrain-a/config.json")],
  ["model.safetensors", fixture("pretrain-a/model.safetensors")],
  ["preprocessor_config.json", new TextEncoder().encode(JSON.stringify(PREPROCESSING))],
]);

const configuration: Attempt = async (folder, index, seed) => {
  const random = new Random(seed, "config", index);
  const broken = pick(["config.json", "config.json", "preprocessor_config.json"], random);
  for (const [name, bytes] of modelFiles) {
    await Deno.writeFile(
      join(folder, name),
      name === broken ? changed(bytes, random, { text: true }) : bytes,
    );
  }
  return await refusedOrWhole(folder, async () => (await Nepa.load(folder)).dispose());
};

/** Where the run lies that others are copies of, and what its weights became. */
let original: { folder: string; weights: number[] } | undefined;

/** Trains, or goes on; gives the weights. */
async function trained(folder: string, steps: number): Promise<number[]> {
  const model = new Nepa(config, { seed: 1 }),
    checkpoint = { folder, every: 2, keep: 2, resume: "auto" as const };
  const options = { steps, batchSize: 8, emaDecay: 0.9, every: { collapse: 2 }, checkpoint };
  try {
    const run = pretrain(model, noise, options);
    try {
      await run.finish();
    } finally {
      run.ema?.dispose();
      run.dispose();
    }
    return [...model.parameters.values()].flatMap((variable) => [...variable.dataSync()]);
  } finally {
    model.dispose();
  }
}

async function firstRun(): Promise<NonNullable<typeof original>> {
  const folder = await Deno.makeTempDir();
  return { folder, weights: await trained(folder, 4) };
}

async function* below(folder: string): AsyncGenerator<string> {
  for await (const { name, isDirectory } of Deno.readDir(folder)) {
    if (isDirectory) { for await (const inner of below(join(folder, name))) yield join(name, inner); }
    else yield name;
  }
}

/** One file of a run is changed, missing, another's, or a link; then the run is gone on with. */
const run: Attempt = async (place, index, seed) => {
  const random = new Random(seed, "run", index), folder = join(place, "run");
  const whole = original ??= await firstRun(), files = (await Array.fromAsync(below(whole.folder))).sort();
  for (const file of files) {
    await Deno.mkdir(join(folder, file, ".."), { recursive: true });
    await Deno.copyFile(join(whole.folder, file), join(folder, file));
  }
  const file = join(folder, pick(files, random)), text = !file.endsWith(".safetensors");
  const other = join(folder, pick(files, random)), way = random.uniform();
  if (way < 0.75) await Deno.writeFile(file, changed(await Deno.readFile(file), random, { text }));
  else if (way < 0.85) await Deno.writeFile(file, await Deno.readFile(other));
  else {
    await Deno.remove(file);
    if (way > 0.9) await Deno.symlink(join(whole.folder, basename(other)), file);
    if (way > 0.95) await Deno.remove(file).then(() => Deno.mkdir(file));
  }
  return await refusedOrWhole(folder, async () => {
    const weights = await trained(folder, 4);
    if (weights.some((x, i) => x !== whole.weights[i])) {
      throw new Error(`${file}: gone on with other weights`);
    }
  });
};

const pictures = [
  "rgb.jpg",
  "progressive.jpg",
  "cmyk.jpg",
  "exif6.jpg",
  "rgb.png",
  "palette.png",
  "grey16.png",
]
  .concat("lossless.webp", "lossy.webp", "alpha.webp").map((name) =>
    [name, fixture(`images/${name}`)] as const
  );

const image: Attempt = async (folder, index, seed) => {
  const random = new Random(seed, "image", index), [name, bytes] = pick(pictures, random);
  await Deno.mkdir(join(folder, "a"));
  await Deno.writeFile(join(folder, "a", name), changed(bytes, random));
  return await refusedOrWhole(folder, async () => {
    const set = await imageFolder(folder, { size: 16 });
    await set.get(0);
  });
};

/** By name: how many of a hundred of all are of this kind, and how one is read. */
export const KINDS: Readonly<Record<string, { share: number; attempt: Attempt }>> = {
  safetensors: { share: 50, attempt: (_, index, seed) => Promise.resolve(checkRead(mutant(index, seed))) },
  pickle: { share: 10, attempt: pickle },
  zip: { share: 10, attempt: zip },
  idx: { share: 10, attempt: idx },
  parquet: { share: 6, attempt: parquet },
  config: { share: 8, attempt: configuration },
  run: { share: 1, attempt: run },
  image: { share: 5, attempt: image },
};

/** Reads broken files; what comes out of each is handed to `told`. */
export async function attempts(
  kind: string,
  [from, to]: readonly [number, number],
  seed: number,
  told: (
    index: number,
    outcome: { whole?: boolean; wrong?: string; seconds: number },
  ) => Promise<void> | void,
): Promise<void> {
  await useEngine("cpu");
  if (kind === "run") original = await firstRun();
  const { attempt } = KINDS[kind]!, before = tf.memory().numTensors;
  for (let index = from; index < to; index++) {
    const folder = await Deno.makeTempDir(),
      start = process.cpuUsage(),
      spent = () => Object.values(process.cpuUsage(start)).reduce((a, b) => a + b) / 1e6;
    try {
      const whole = await attempt(folder, index, seed), left = tf.memory().numTensors - before;
      if (left !== 0) throw new Error(`${left} tensors were left`);
      await told(index, { whole, seconds: spent() });
    } catch (error) {
      await told(index, { wrong: String((error as Error).stack ?? error), seconds: spent() });
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
  }
}
