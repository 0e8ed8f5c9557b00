/** Data sets whose images are made when they are asked for. @module */
import { Random } from "../base/random.ts";
import type { Batch, BatchOptions, Change, Example } from "./dataset.ts";
import { Rows, type Whole } from "./rows.ts";

/** What `make` gives for 0 to `count`, in order, up to `most` of them begun ahead of their turn. */
export async function* ahead<T>(
  count: number,
  make: (i: number) => Promise<T>,
  most = Math.min(32, 4 * navigator.hardwareConcurrency),
): AsyncGenerator<T> {
  const pending: Promise<T>[] = [];
  for (let i = 0, done = 0; done < count; done++) {
    for (; i < count && pending.length < most; i++) {
      const made = make(i);
      made.catch(() => {}); // it is thrown when its turn comes
      pending.push(made);
    }
    yield await pending.shift()!;
  }
}

/** Some of the images of a whole that is not in memory. */
export abstract class Fetched<W extends Whole> extends Rows<W> {
  /** Images that are made beside one another. Default: as suits the processors. */
  protected readonly beside: number | undefined;

  /** What `get` gives, without a label, or what a change makes of image `i`. */
  protected abstract pixels(i: number, random: Random, change?: Change): Promise<Uint8Array>;

  override async get(i: number): Promise<Example> {
    return { image: await this.pixels(this.checked(i), new Random(0)), label: this.labels[i]! };
  }

  batches(options: BatchOptions): AsyncIterable<Batch> {
    return this.#passes(this.order(options), options);
  }

  async *#passes(order: Int32Array, { size, from = 0, change }: BatchOptions): AsyncGenerator<Batch> {
    const still = new Random(0), random = (p: number) => change?.random(from * size + p) ?? still;
    const make = (p: number) => this.pixels(order[p]!, random(p), change);
    const images = ahead(order.length, make, this.beside);
    try {
      for (let at = 0; at < order.length; at += size) {
        const indices = order.subarray(at, at + size), pixels: Uint8Array[] = [];
        while (pixels.length < indices.length) pixels.push((await images.next()).value!);
        yield this.batch(pixels, indices, change);
      }
    } finally {
      await images.return(undefined);
    }
  }
}
