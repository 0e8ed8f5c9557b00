/**
 * Images a second from a folder of JPEG files: decoded, a random part resized to 224 x 224, half of them mirrored, in
 * batches; and torchvision doing the same in a process of its own, by turns. Then a training of `tiny` from a folder,
 * compared with the same training from memory: `speed` is the share of its speed. `processorMs` is what an image takes of
 * all processors together, which other work on the machine changes little.
 *
 *     deno task bench images [--images 256] [--rounds 5] [--steps 30, 0 for none] [--json] [--peer none] [--python PYTHON]
 *     deno task bench images --parquet [--images 12150] [--rounds 3] [--json] [--python PYTHON]
 *
 * `--parquet`: the same images in a folder and in the files that Hugging Face's `datasets` writes, 2,025 in each, shuffled, by
 * turns in processes of their own: images a second, and the most memory that each holds.
 */
import { fileURLToPath } from "node:url";
import {
  arrayDataset,
  compose,
  type Dataset,
  type Extent,
  horizontalFlip,
  imageFolder,
  Nepa,
  pretrain,
  Random,
  randomResizedCrop,
  resize,
  useEngine,
} from "nepa";
import { cpuUsage } from "node:process";
import sharp from "sharp";
import { type Contender, count, race, readOptions, show, showJson, timeEach } from "./common.ts";
import { python, succeeds } from "./peer.ts";
import { Answering } from "./process.ts";

export const SIZE = 224, BATCH = 64;

/** Heights and widths of the files, and how many bytes such photographs have: ImageNet's average, and a large one. */
export const CASES = [{ height: 375, width: 500 }, { height: 1200, width: 1600 }] as const;

/** Something like a photograph: noise of all sizes, the finer the fainter. */
function photograph(height: number, width: number, random: Random): Uint8Array {
  const sum = new Float32Array(height * width * 3), still = new Random(0);
  for (let cells = 2, weight = 110; cells <= width; cells *= 2, weight *= 0.8) {
    const rows = Math.ceil(cells * height / width);
    const data = Uint8Array.from({ length: rows * cells * 3 }, () => random.integer(256));
    const layer = resize({ height, width }, "bicubic")(
      { data, height: rows, width: cells, channels: 3 },
      still,
    );
    layer.data.forEach((x, i) => sum[i]! += (x - 128) / 128 * weight);
  }
  return Uint8Array.from(sum, (x) => Math.max(0, Math.min(255, 128 + x)));
}

/** Two classes of them, some many times over; gives their size on disk. */
export async function writePhotographs(
  folder: string,
  { height, width }: Extent,
  n: number,
): Promise<number> {
  const different: Uint8Array[] = [];
  for (let i = 0; i < Math.min(n, 8); i++) {
    const pixels = photograph(height, width, new Random(1, i));
    different.push(
      await sharp(pixels, { raw: { height, width, channels: 3 } }).jpeg({ quality: 85 }).toBuffer(),
    );
  }
  for (const name of ["a", "b"]) await Deno.mkdir(`${folder}/${name}`, { recursive: true });
  for (let i = 0; i < n; i++) await Deno.writeFile(`${folder}/${"ab"[i % 2]}/${i}.jpg`, different[i % 8]!);
  return different.reduce((sum, { length }) => sum + length, 0) / different.length * n;
}

/** With the least processor time of a pass, in seconds, all threads together. */
export interface Loader extends Contender {
  cpu: number;
}

/** Passes over images, each with another order and other parts. */
export function ours(images: Dataset): Loader {
  const transform = compose(randomResizedCrop({ size: SIZE }), horizontalFlip());
  let epoch = 0;
  const pass = async () => {
    const random = ((epoch) => (p: number) => new Random(0, epoch, p))(++epoch);
    const change = { transform, size: { height: SIZE, width: SIZE }, random };
    const before = cpuUsage();
    for await (const _ of images.batches({ size: BATCH, epoch, change }));
    const { user, system } = cpuUsage(before);
    loader.cpu = Math.min(loader.cpu, (user + system) / 1e6);
  };
  const loader: Loader = { name: "nepa", cpu: Infinity, steps: (n) => timeEach(n, pass), stop: () => {} };
  return loader;
}

const TORCHVISION = "torchvision==0.28.0", PILLOW = "pillow==13.0.0";

/** The Python given, or the benches' own with torchvision in it. */
async function pythonWithTorchvision(given: string): Promise<string> {
  const path = await python(given), check = "import importlib.metadata as m; m.version('torchvision')";
  if (given || await succeeds(path, "-c", check)) return path;
  if (await succeeds(path, "-m", "pip", "install", "-q", "--no-deps", TORCHVISION, PILLOW)) return path;
  throw new Error(`pip could not install ${TORCHVISION}; see above. --python takes a Python that has it`);
}

async function torchvision(folder: string, given: string, workers: number): Promise<Loader> {
  const script = fileURLToPath(new URL("images_peer.py", import.meta.url));
  const args = ["-W", "ignore", script, folder, ...[SIZE, BATCH, workers].map(String)];
  const peer = new Answering("torchvision", await pythonWithTorchvision(given), { args });
  const loader: Loader = {
    name: `torchvision, ${workers} processes more`,
    cpu: Infinity,
    steps: async (n) => {
      const { seconds, cpu } = await peer.ask<{ seconds: number[]; cpu: number }>(n);
      loader.cpu = Math.min(loader.cpu, cpu);
      return seconds;
    },
    stop: () => peer.stop(),
  };
  return loader;
}

export interface Result {
  case: string;
  [name: string]: string | number;
}

async function decoding(
  at: Extent,
  n: number,
  rounds: number,
  given: { peer: string; python: string },
): Promise<Result[]> {
  const folder = await Deno.makeTempDir(), contenders: Loader[] = [];
  try {
    const bytes = await writePhotographs(folder, at, n), images = Math.floor(n / BATCH) * BATCH;
    contenders.push(ours(await imageFolder(folder, { size: SIZE })));
    if (given.peer !== "none") {
      for (const workers of [0, 1, 2]) contenders.push(await torchvision(folder, given.python, workers));
    }
    const seconds = await race(contenders, rounds, 1), [own, ...peers] = contenders;
    const speed = (contender: Loader) => images / seconds.get(contender)!;
    const cost = ({ cpu }: Loader) => 1000 * cpu / images;
    const record = {
      case: `${at.width}x${at.height}`,
      kilobytes: Math.round(bytes / n / 1000),
      imagesPerSecond: Math.round(speed(own!)),
      processorMs: cost(own!),
    };
    return peers.length === 0 ? [record] : peers.map((peer) => ({
      ...record,
      peer: peer.name,
      peerImagesPerSecond: Math.round(speed(peer)),
      ratio: speed(own!) / speed(peer),
      ...peer === peers[0] && { peerProcessorMs: cost(peer) },
    }));
  } finally {
    for (const contender of contenders) await contender.stop();
    await Deno.remove(folder, { recursive: true });
  }
}

/** `pretrain` over a data set, as a contender. */
function training(name: string, images: Dataset): Contender {
  const model = new Nepa({ preset: "tiny" }, { seed: 0 }), never = 1_000_000;
  const augment = compose(randomResizedCrop({ size: 64, scale: [0.3, 1] }), horizontalFlip());
  const run = pretrain(model, images, {
    steps: never,
    batchSize: BATCH,
    augment,
    every: { collapse: never },
  });
  const steps = run[Symbol.asyncIterator]();
  return {
    name,
    steps: (n) => timeEach(n, () => steps.next()),
    stop: async () => {
      await steps.return();
      run.dispose();
      model.dispose();
    },
  };
}

/** The share of the speed from memory that training from a folder has. */
async function starving(n: number, steps: number): Promise<Result> {
  const folder = await Deno.makeTempDir();
  await writePhotographs(folder, { height: 96, width: 128 }, n);
  const files = await imageFolder(folder, { size: 64 }), images = new Uint8Array(n * 64 * 64 * 3);
  let done = 0;
  for await (const batch of files.batches({ size: BATCH, shuffle: false })) {
    images.set(batch.images, done);
    done += batch.images.length;
  }
  const memory = arrayDataset({ ...files, name: "memory", images, shape: [n, 64, 64, 3] });
  const contenders = [
    training("memory", memory),
    training("folder", await imageFolder(folder, { size: 64 })),
  ];
  try {
    const seconds = await race(contenders, steps), [fromMemory, fromFolder] = [...seconds.values()];
    return {
      case: "tiny from a folder",
      secondsPerStep: fromFolder!,
      fromMemory: fromMemory!,
      speed: fromMemory! / fromFolder!,
    };
  } finally {
    for (const contender of contenders) await contender.stop();
    await Deno.remove(folder, { recursive: true });
  }
}

/** `deno task bench images`. */
export async function benchImages(args: readonly string[]): Promise<void> {
  const given = readOptions(args, {
    parquet: false,
    images: "",
    rounds: "",
    steps: "30",
    peer: "torchvision",
    python: "",
    json: false,
  });
  const n = count("images", given.images || (given.parquet ? "12150" : "256"), BATCH);
  const rounds = count("rounds", given.rounds || (given.parquet ? "3" : "5"));
  const tell = (results: readonly Result[]) =>
    given.json ? showJson(results) : show(results, { title: "Images from a folder" });
  if (given.parquet) {
    return tell([await (await import("./images_parquet.ts")).parquet(n, rounds, given.python)]);
  }
  const steps = count("steps", given.steps, 0), engine = String(await useEngine());
  const named = (results: readonly Result[]) => results.map((result) => ({ ...result, engine }));
  for (const at of CASES) tell(named(await decoding(at, n, rounds, given)));
  if (steps > 0) tell(named([await starving(n, steps)]));
}
