/** What the benches share: options, tables and JSON lines, contenders that run by turns. */
import {
  arrayDataset,
  type Cell,
  type Dataset,
  type IJepa,
  type Nepa,
  pretrain,
  type PretrainOptions,
  Random,
  type Run,
  Table,
  type TableOptions,
} from "nepa";
import { OptionError } from "./options.ts";

export { readOptions } from "./options.ts";

export type Precision = "float32" | "bfloat16";

/** The presets that are timed, and their images in a step. */
export const BATCH = { mini: 64, nano: 64, base: 4 } as const;

export type Case = keyof typeof BATCH;

/** A whole number from an option. */
export function count(name: string, text: string, least = 1): number {
  const value = Number(text);
  if (Number.isSafeInteger(value) && value >= least) return value;
  throw new OptionError(`--${name}: expected a whole number from ${least}, got "${text}"`);
}

/** The names in an option such as "mini,nano". */
export function choices<T extends string>(name: string, text: string, known: readonly T[]): T[] {
  return text.split(",").map((part) => {
    if (known.includes(part as T)) return part as T;
    throw new OptionError(`--${name}: expected ${known.join(", ")}, or some of them, got "${part}"`);
  });
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b), last = sorted.length - 1;
  return (sorted[last >> 1]! + sorted[(last + 1) >> 1]!) / 2;
}

/** A table for people. */
export function show(rows: readonly Record<string, Cell>[], options: TableOptions): void {
  console.log(new Table(rows, options).toString());
}

/** Lines for programs, one for each record. */
export function showJson(records: readonly unknown[]): void {
  for (const record of records) console.log(JSON.stringify(record));
}

/** Something that is timed. */
export interface Contender {
  name: string;
  /** Seconds of each of `n` steps. */
  steps(n: number): Promise<number[]>;
  stop(): void | Promise<void>;
}

/**
 * Runs contenders by turns, about a second each, so that a slow moment of the machine meets all of them.
 *
 * @param contenders Each is warmed up first: that compiles, and fills the caches.
 * @param n Timed steps of each.
 * @param warmup Steps before.
 * @returns Median seconds of a step.
 */
export async function race<C extends Contender>(
  contenders: readonly C[],
  n: number,
  warmup = 2,
): Promise<Map<C, number>> {
  const seconds = new Map(contenders.map((contender) => [contender, [] as number[]]));
  let longest = 0;
  for (const contender of contenders) longest = Math.max(longest, (await contender.steps(warmup)).at(-1)!);
  const turn = Math.min(n, Math.max(2, Math.round(1 / longest)));
  for (let done = 0; done < n; done += turn) {
    for (const contender of contenders) {
      await new Promise((resolve) => setTimeout(resolve, 500)); // threads of the one before spin for a while
      if (longest < 0.5) await contender.steps(1); // to wake up
      seconds.get(contender)!.push(...await contender.steps(Math.min(turn, n - done)));
    }
  }
  return new Map([...seconds].map(([contender, all]) => [contender, median(all)]));
}

/** Seconds of each of `n` rounds of an iteration. */
export async function timeEach(n: number, round: () => Promise<unknown>): Promise<number[]> {
  const seconds: number[] = [];
  for (let i = 0; i < n; i++) {
    const start = performance.now();
    await round();
    seconds.push((performance.now() - start) / 1000);
  }
  return seconds;
}

/** Images of random pixels: what is in them makes no difference to the time. */
export function noise(size: number, channels: number, count: number): Dataset {
  const random = new Random(0, "bench"), images = new Uint8Array(count * size * size * channels);
  for (let i = 0; i < images.length; i++) images[i] = random.integer(256);
  return arrayDataset({
    name: "noise",
    images,
    shape: [count, size, size, channels],
    labels: new Uint8Array(count),
    classes: ["noise"],
  });
}

/** `pretrain` itself, data and optimizer included, over noise; it does not end by itself. */
export function endlessRun<M extends Nepa | IJepa>(
  model: M,
  batchSize: number,
  options: Pick<PretrainOptions, "compile" | "precision" | "accumulate"> = {},
): Run<M> {
  const { imageSize, numChannels } = model.config, never = 1_000_000;
  return pretrain<M>(model, noise(imageSize, numChannels, 4 * batchSize), {
    steps: never,
    batchSize,
    learningRate: 1e-4,
    every: { collapse: never },
    ...options,
  });
}
