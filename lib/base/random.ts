/**
 * Seeded random numbers. A `Random` is named by a seed and any number of labels, so a draw can be addressed
 * ("the flips of step 12 of seed 0") instead of remembered: nothing has to be saved to continue a run exactly.
 *
 * @module
 */

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
  uniform(low = 0, high = 1): number {
    const unit = ((this.next() >>> 5) * 0x4000000 + (this.next() >>> 6)) / 2 ** 53;
    return low + (high - low) * unit;
  }

  /** An integer from 0 to `n` - 1, each as likely as any other. */
  integer(n: number): number {
    return Math.floor(this.uniform() * n);
  }

  /** A draw from the normal distribution (Box and Muller's method). */
  normal(mean = 0, std = 1): number {
    if (this.#spare !== undefined) {
      const spare = this.#spare;
      this.#spare = undefined;
      return mean + std * spare;
    }
    const radius = Math.sqrt(-2 * Math.log(1 - this.uniform())), angle = 2 * Math.PI * this.uniform();
    this.#spare = radius * Math.sin(angle);
    return mean + std * radius * Math.cos(angle);
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
