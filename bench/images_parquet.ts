/**
 * Images in a folder beside the same in Parquet files, see `images.ts`. As a program it is the process of one of them:
 * each line of input is a number of passes, the answer a line of JSON with their seconds and the peak of resident memory.
 */
import { fileURLToPath } from "node:url";
import { cpuUsage } from "node:process";
import { imageFolder, parquetImages, useEngine } from "nepa";
import { type Contender, race } from "./common.ts";
import { BATCH, CASES, ours, type Result, SIZE, writePhotographs } from "./images.ts";
import { succeeds, venv } from "./peer.ts";
import { Answering, lines } from "./process.ts";

const DATASETS = ["datasets==5.2.0", "pillow==13.0.0"], ROWS = 2025, MB = 2 ** 20;

/** A process that passes over images. */
class Passes implements Contender {
  /** Of resident memory, in bytes. */
  peak = 0;
  /** Seconds of its first pass, in which pages are read for the first time, and of all processors together in the last. */
  first = 0;
  cpu = 0;
  readonly #process: Answering;

  constructor(readonly name: "folder" | "parquet", path: string) {
    const args = ["run", "--allow-all", "--no-check", fileURLToPath(import.meta.url), name, path];
    this.#process = new Answering(name, Deno.execPath(), { args });
  }

  async steps(n: number): Promise<number[]> {
    const { seconds, ...rest } = await this.#process.ask<{ seconds: number[]; peak: number; cpu: number }>(n);
    Object.assign(this, rest);
    this.first ||= seconds[0]!;
    return seconds;
  }

  stop(): Promise<void> {
    return this.#process.stop();
  }
}

/** How both compare: the first pass of each, and the median of the others. */
export async function parquet(n: number, rounds: number, given: string): Promise<Result> {
  const python = given || await venv("bench-venv-datasets", [DATASETS]), root = await Deno.makeTempDir();
  const contenders: Passes[] = [];
  try {
    const bytes = await writePhotographs(`${root}/folder`, CASES[0], n),
      images = Math.floor(n / BATCH) * BATCH;
    const script = fileURLToPath(new URL("images_parquet.py", import.meta.url));
    const written = await succeeds(python, script, `${root}/folder`, `${root}/parquet`, `${ROWS}`);
    if (!written) throw new Error("the Parquet files could not be written; see above");
    for (const name of ["folder", "parquet"] as const) contenders.push(new Passes(name, `${root}/${name}`));
    const seconds = await race(contenders, rounds, 1), [folder, parquet] = contenders as [Passes, Passes];
    const rate = (contender: Passes) => images / seconds.get(contender)!;
    return {
      case: `${n} images in files of ${ROWS}`,
      kilobytes: Math.round(bytes / n / 1000),
      folderImagesPerSecond: Math.round(rate(folder)),
      parquetImagesPerSecond: Math.round(rate(parquet)),
      ratio: rate(parquet) / rate(folder),
      firstPassRatio: folder.first / parquet.first,
      folderProcessorMs: 1000 * folder.cpu / images,
      parquetProcessorMs: 1000 * parquet.cpu / images,
      folderPeakMB: Math.round(folder.peak / MB),
      parquetPeakMB: Math.round(parquet.peak / MB),
    };
  } finally {
    for (const contender of contenders) await contender.stop();
    await Deno.remove(root, { recursive: true });
  }
}

async function answer(kind: string, path: string): Promise<void> {
  await useEngine();
  const files = [...Deno.readDirSync(path)].map(({ name }) => `${path}/${name}`).sort();
  const size = { size: SIZE };
  const loader = ours(await (kind === "parquet" ? parquetImages(files, size) : imageFolder(path, size)));
  let peak = 0;
  setInterval(() => peak = Math.max(peak, Deno.memoryUsage().rss), 20);
  for await (const line of lines(Deno.stdin.readable)) {
    const n = Number(line),
      before = cpuUsage(),
      seconds = await loader.steps(n),
      { user, system } = cpuUsage(before);
    console.log(JSON.stringify({ seconds, peak, cpu: (user + system) / 1e6 / n }));
  }
  Deno.exit();
}

if (import.meta.main) await answer(Deno.args[0]!, Deno.args[1]!);
