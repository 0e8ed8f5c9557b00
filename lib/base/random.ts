/**
 * Seeded random numbers. A `Random` is named by a seed and any number of labels, so a draw can be addressed
 * ("the flips of step 12 of seed 0") instead of remembered: nothing has to be saved to continue a run exactly.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";
import { didYouMean } from "./check.ts";

/** One 32-bit avalanche (the finaliser of MurmurHash3). */
function mix(h: number): number {
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}

/**
 * A seeded stream of draws (the sfc32 generator, 128 bits of state).
 *
 * @example
 * ```ts
 * import { Random } from "nepa";
 * import { assertEquals } from "@std/assert";
 *
 * assertEquals(new Random(0, "flip", 3).uniform(), new Random(0, "flip", 3).uniform());
 * ```
 */
export class Random {
  #a: number;
  #b: number;
  #c: number;
  #counter = 1;
  #spare: number | undefined;

  /**
   * @param seed An integer, 0 to 2^53.
   * @param labels What the draws are for. Another label, another stream.
   * @throws {RangeError} If the seed is not such an integer.
   */
  constructor(seed: number, ...labels: (string | number)[]) {
    if (!Number.isSafeInteger(seed) || seed < 0) {
      throw new RangeError(`seed: expected an integer from 0 to 2^53 - 1, got ${seed}`);
    }
    let low = mix(seed >>> 0), high = mix(Math.floor(seed / 2 ** 32) ^ 0x9e3779b9);
    for (const label of labels) {
      for (const unit of `${typeof label}:${label}\0`) {
        low = mix(low ^ unit.codePointAt(0)!);
        high = mix((high + low) | 0);
      }
    }
    this.#a = low;
    this.#b = high;
    this.#c = mix(low ^ Math.imul(high, 0x27d4eb2f));
    for (let i = 0; i < 12; i++) this.next();
  }

  /** The next 32 random bits, as an integer from 0 to 2^32 - 1. */
  next(): number {
    const t = (this.#a + this.#b + this.#counter++) | 0;
    this.#a = this.#b ^ (this.#b >>> 9);
    this.#b = (this.#c + (this.#c << 3)) | 0;
    this.#c = ((this.#c << 21) | (this.#c >>> 11)) + t | 0;
    return t >>> 0;
  }

  /** A number from `low` (included) to `high` (left out), uniform, 53 bits. */
  uniform(low?: number, high?: number): number;
  /** A float32 tensor of that shape of such numbers; the caller disposes of it. */
  uniform(shape: readonly number[], low?: number, high?: number): tf.Tensor;
  uniform(first: number | readonly number[] = 0, ...[second, third]: (number | undefined)[]): unknown {
    if (typeof first === "object") return this.#tensor(first, () => this.uniform(second, third));
    const low = first, high = second ?? 1;
    const unit = ((this.next() >>> 5) * 0x4000000 + (this.next() >>> 6)) / 2 ** 53;
    return low + (high - low) * unit;
  }

  /** An integer from 0 to `n` - 1, each as likely as any other. */
  integer(n: number): number {
    return Math.floor(this.uniform() * n);
  }

  /** A draw from the normal distribution (Box and Muller's method). */
  normal(mean?: number, std?: number): number;
  /** A float32 tensor of that shape of such draws; the caller disposes of it. */
  normal(shape: readonly number[], mean?: number, std?: number): tf.Tensor;
  normal(first: number | readonly number[] = 0, ...[second, third]: (number | undefined)[]): unknown {
    if (typeof first === "object") return this.#tensor(first, () => this.normal(second, third));
    const mean = first, std = second ?? 1;
    if (this.#spare !== undefined) {
      const spare = this.#spare;
      this.#spare = undefined;
      return mean + std * spare;
    }
    const radius = Math.sqrt(-2 * Math.log(1 - this.uniform())), angle = 2 * Math.PI * this.uniform();
    this.#spare = radius * Math.sin(angle);
    return mean + std * radius * Math.cos(angle);
  }

  #tensor(shape: readonly number[], draw: () => number): tf.Tensor {
    return tf.tensor(Float32Array.from({ length: tf.util.sizeFromShape([...shape]) }, draw), [...shape]);
  }

  /** A draw from the Gamma distribution of that shape, above 0 (Marsaglia and Tsang's method). */
  #gamma(shape: number): number {
    if (shape < 1) return this.#gamma(shape + 1) * (1 - this.uniform()) ** (1 / shape);
    const d = shape - 1 / 3;
    while (true) {
      const x = this.normal(), v = (1 + x / Math.sqrt(9 * d)) ** 3;
      if (v > 0 && Math.log(1 - this.uniform()) < x * x / 2 + d * (1 - v + Math.log(v))) return d * v;
    }
  }

  /** A number from 0 to 1, from the Beta(`a`, `b`) distribution. */
  beta(a: number, b: number): number {
    const x = this.#gamma(a), y = this.#gamma(b);
    return x / (x + y);
  }

  /** The integers 0 to `n` - 1 in random order (Fisher and Yates' shuffle). */
  permutation(n: number): Int32Array {
    const order = Int32Array.from({ length: n }, (_, i) => i);
    for (let i = n - 1; i > 0; i--) {
      const j = this.integer(i + 1), kept = order[i]!;
      order[i] = order[j]!;
      order[j] = kept;
    }
    return order;
  }
}

/** The random numbers of one update or one training forward, by name. */
export type Draws = Record<string, tf.Tensor>;

/** Which axis of a draw counts the images. */
const imageAxes = new WeakMap<tf.Tensor, number>();

/**
 * Says that a draw holds something for each image, so that it is cut where a batch is computed in parts. Draws without this
 * mark are shared by all images.
 *
 * @param draw Of any shape.
 * @param axis Which axis counts the images of the batch. Default: the first.
 * @returns The same tensor.
 *
 * @example
 * ```ts
 * import { perImage, Random, useEngine } from "nepa";
 * import { assertEquals } from "@std/assert";
 *
 * await useEngine("cpu");
 * const noise = perImage(new Random(0, "noise").normal([4, 8]));
 * assertEquals(noise.shape, [4, 8]);
 * noise.dispose();
 * ```
 */
export function perImage<T extends tf.Tensor>(draw: T, axis: number = 0): T {
  imageAxes.set(draw, axis);
  return draw;
}

/** The axis that {@linkcode perImage} gave, if any. */
export function imageAxis(draw: tf.Tensor): number | undefined {
  return imageAxes.get(draw);
}

/** `count` places of an axis, from `from` on. */
export function cutAxis<T extends tf.Tensor>(x: T, axis: number, from: number, count: number): T {
  const along = (here: number, there: (whole: number) => number) =>
    x.shape.map((whole, i) => i === axis ? here : there(whole));
  return tf.slice(x, along(from, () => 0), along(count, (whole) => whole));
}

/** The draws of `count` images of a batch; the caller disposes of them. */
export function partOf(draws: Draws, from: number, count: number): Draws {
  const parts = Object.entries(draws).map(([name, draw]) => {
    const axis = imageAxis(draw);
    return [name, axis === undefined ? draw.clone() : perImage(cutAxis(draw, axis, from, count), axis)];
  });
  return Object.fromEntries(parts);
}

const kinds = new WeakMap<Draws, "training" | "evaluation">();

/**
 * Draws for a loss: reading a name that is not there is an error, and a forward takes its own of them.
 *
 * @param draws All of an update.
 * @param training Whether a forward is to augment and drop by them.
 */
export function guardedDraws(draws: Draws, training: boolean): Draws {
  const guarded = new Proxy(draws, {
    get(all, name) {
      if (typeof name === "symbol" || name in all) return Reflect.get(all, name);
      throw new TypeError(`draws: unknown draw ${name}${didYouMean(name, Object.keys(all))}`);
    },
  });
  kinds.set(guarded, training ? "training" : "evaluation");
  return guarded;
}

/** What {@linkcode guardedDraws} said; undefined for others. */
export function drawsKind(draws: Draws): "training" | "evaluation" | undefined {
  return kinds.get(draws);
}
