/** Which token may see which, and which patches a network sees and predicts. @module */
import * as tf from "@tensorflow/tfjs";
import { expect, isCount } from "../base/check.ts";
import { type Draws, perImage, Random } from "../base/random.ts";
import { roundEven } from "../base/round.ts";

/**
 * The causal mask: token i sees tokens 0 to i.
 *
 * @param tokens T, the number of tokens, at least 1.
 * @returns [T, T], 0 on and below the diagonal, −Infinity above, to be added to the attention scores.
 * @throws {RangeError} If `tokens` is not an integer from 1 up.
 *
 * @example
 * ```ts
 * import { causalMask, useEngine } from "nepa";
 * import { assertEquals } from "@std/assert";
 *
 * await useEngine("cpu");
 * const mask = causalMask(2);
 * assertEquals(mask.arraySync(), [[0, -Infinity], [0, 0]]);
 * mask.dispose();
 * ```
 */
export function causalMask(tokens: number): tf.Tensor2D {
  expect(isCount(tokens), "causalMask", "a number of tokens from 1 up", tokens);
  const values = new Float32Array(tokens * tokens);
  for (let i = 0; i < tokens; i++) values.fill(-Infinity, i * tokens + i + 1, (i + 1) * tokens);
  return tf.tensor2d(values, [tokens, tokens]);
}

/** Which blocks of patches I-JEPA predicts, and what it sees of the rest. */
export interface BlockOptions {
  /**
   * "corrected": every row and column is reached, scale and aspect are drawn apart, each image has blocks of its own size, and
   * what is too much is left out at random. "published": as the public code draws, where one number decides scale and
   * aspect, the last row and column are never reached, and all images of a batch are cut to the smallest count from the top.
   */
  readonly masks: "corrected" | "published";
  /** Blocks that are predicted, each apart. */
  readonly targetBlocks: number;
  /** Share of the patches in a target block, from and to. */
  readonly targetScale: readonly [number, number];
  /** Height over width of a target block, from and to. */
  readonly targetAspect: readonly [number, number];
  /** Share of the patches in the context's block, which is square, before the targets are taken out of it. */
  readonly contextScale: readonly [number, number];
  /** Context and targets have more patches than this. */
  readonly minKeep: number;
}

/** For B images the numbers of the patches, rising: of the context, and of each of the M targets. */
export interface BlockMasks {
  context: number[][];
  targets: number[][][];
}

type Size = readonly [height: number, width: number];

/** How often sizes and images are tried to learn what can come. */
const TRIES = 2000;

/** Images that are tried for each size of the blocks. */
const IMAGES = 200;

/** Draws the masks of I-JEPA; what can come is known before the first draw. */
export class BlockSampler {
  /** Patches of a context: of every one, or "published", of the largest. */
  readonly contextSize: number;
  /** The same of a target. */
  readonly targetSize: number;
  /** "published": how many patches contexts have, rising, by the sizes of the blocks. */
  readonly #counts: readonly Int32Array[] = [];

  /**
   * @param options What is drawn.
   * @param rows Patches down.
   * @param columns Patches across.
   * @throws {RangeError} If it cannot be met on this grid.
   */
  constructor(readonly options: BlockOptions, readonly rows: number, readonly columns: number) {
    const random = new Random(0, "blocks"), area = ([h, w]: Size) => h * w;
    const drawn = (kind: "target" | "context") => {
      const sizes = Array.from({ length: TRIES }, () => this.#size(kind, random));
      return [...new Map(sizes.map((size) => [String(size), size])).values()];
    };
    const targets = drawn("target"), contexts = drawn("context"), least = Math.min(...targets.map(area));
    if (options.masks === "published") {
      this.#refuse(Math.min(least, ...contexts.map(area)) - 1);
      this.targetSize = Math.max(...targets.map(area));
      this.contextSize = Math.max(...contexts.map((size) => this.#mostSeen(size, targets)));
      const count = (target: Size, block: Size) => this.#published(target, block, random).context.length;
      this.#counts = targets.flatMap((target) =>
        contexts.map((block) => Int32Array.from({ length: IMAGES }, () => count(target, block)).sort())
      );
    } else {
      this.targetSize = least;
      const counts = Int32Array.from({ length: TRIES }, () => this.#blocks(random).context.length).sort();
      this.contextSize = counts[TRIES / 10]!; // nine images of ten have so many
      this.#refuse(Math.min(least, this.contextSize) - 1);
    }
  }

  #refuse(most: number): void {
    const { minKeep, targetScale, contextScale, masks } = this.options;
    if (minKeep <= most) return;
    const scales = `targetScale ${targetScale.join(" to ")} and contextScale ${contextScale.join(" to ")}`;
    const grid = `${masks} masks on ${this.rows} × ${this.columns} patches, ${scales}`;
    const help = most < 0 ? "; give larger scales, or smaller patches" : "";
    const expected = most < 0 ? "patches left of context and targets" : `at most ${most}`;
    throw new RangeError(`minKeep: expected ${expected} with ${grid}, got ${minKeep}${help}`);
  }

  /**
   * Patches of the contexts of a batch: "corrected", always; "published", at most, for the smallest of B counts. One batch in a
   * million has more, and is cut.
   */
  contextSizeOf(batchSize: number): number {
    const larger = 1e-6 ** (1 / batchSize); // share of images with more patches, where all of a batch have
    if (this.#counts.length === 0 || larger < 0.05) return this.contextSize;
    return Math.max(...this.#counts.map((counts) => counts[Math.floor((1 - larger) * IMAGES)]!));
  }

  /** The most patches that a context has once one target or more is taken out of its block. */
  #mostSeen([h, w]: Size, targets: readonly Size[]): number {
    const { minKeep } = this.options;
    return Math.max(...targets.map(([th, tw]) => {
      const both = (side: number, block: number, whole: number) =>
        Math.max(0, Math.min(block, side + block + 1 - whole));
      if (h * w - th * tw <= minKeep) return h * w; // then even the last target may stay in it
      return h * w - both(h, th, this.rows) * both(w, tw, this.columns);
    }));
  }

  #size(kind: "target" | "context", random: Random): Size {
    const { targetScale, targetAspect, contextScale, masks } = this.options;
    const published = masks === "published", first = random.uniform();
    const second = published ? first : random.uniform();
    const [scale, aspect] = kind === "target" ? [targetScale, targetAspect] : [contextScale, [1, 1] as const];
    const between = ([low, high]: readonly [number, number], at: number) => low + at * (high - low);
    const area = Math.floor(this.rows * this.columns * between(scale, first)),
      ratio = between(aspect, second);
    const most = published ? 1 : 0; // the public code leaves room to move
    const side = (x: number, whole: number) =>
      Math.min(whole - most, Math.max(1 - most, roundEven(Math.sqrt(x))));
    return [side(area * ratio, this.rows), side(area / ratio, this.columns)];
  }

  /** The patches of a block at a random place that `free` has. */
  #block([h, w]: Size, random: Random, free: (patch: number) => boolean = () => true): number[] {
    const most = this.options.masks === "published" ? 0 : 1;
    const top = random.integer(this.rows - h + most), left = random.integer(this.columns - w + most);
    return Array.from({ length: h * w }, (_, i) => (top + Math.floor(i / w)) * this.columns + left + i % w)
      .filter(free);
  }

  /** Targets and context of an image, each of a size of its own. */
  #blocks(random: Random): { context: number[]; targets: number[][] } {
    const targets = Array.from(
      { length: this.options.targetBlocks },
      () => this.#block(this.#size("target", random), random),
    );
    const taken = new Set(targets.flat());
    return {
      targets,
      context: this.#block(this.#size("context", random), random, (patch) => !taken.has(patch)),
    };
  }

  /** So many of them, at random. */
  #some(patches: number[], count: number, random: Random): number[] {
    const kept = random.permutation(patches.length).slice(0, count).sort();
    return Array.from(kept, (i) => patches[i]!);
  }

  #corrected(random: Random): { context: number[]; targets: number[][] } {
    for (;;) {
      const { context, targets } = this.#blocks(random);
      if (context.length < this.contextSize || targets.some(({ length }) => length < this.targetSize)) {
        continue;
      }
      return {
        context: this.#some(context, this.contextSize, random),
        targets: targets.map((target) => this.#some(target, this.targetSize, random)),
      };
    }
  }

  /** As the public code: targets that leave too little of the context's block are let be, the last first, after 20 tries. */
  #published(target: Size, block: Size, random: Random): { context: number[]; targets: number[][] } {
    const { targetBlocks, minKeep } = this.options;
    const targets = Array.from({ length: targetBlocks }, () => this.#block(target, random));
    for (let tries = 0;; tries++) {
      const taken = new Set(targets.slice(0, Math.max(0, targetBlocks - Math.floor(tries / 20))).flat());
      const context = this.#block(block, random, (patch) => !taken.has(patch));
      if (context.length > minKeep) return { context, targets };
    }
  }

  /**
   * The masks of a batch.
   *
   * @param batchSize B.
   * @param random Where they come from: the same numbers, the same masks.
   * @returns As many patches for each image: "corrected", always; "published", in a batch.
   */
  draw(batchSize: number, random: Random): BlockMasks {
    const { minKeep, masks } = this.options;
    const fitting = (kind: "target" | "context", most: number): Size => {
      for (;;) {
        const [h, w] = this.#size(kind, random);
        if (h * w > minKeep && h * w <= most) return [h, w];
      }
    };
    const [target, block] = [fitting("target", this.targetSize), fitting("context", Infinity)];
    const one = () =>
      masks === "published" ? this.#published(target, block, random) : this.#corrected(random);
    const images = Array.from({ length: batchSize }, one);
    const least = Math.min(this.contextSizeOf(batchSize), ...images.map(({ context }) => context.length));
    return {
      context: images.map(({ context }) => context.slice(0, least)),
      targets: images.map(({ targets }) => targets),
    };
  }
}

/**
 * Masks as tensors for a compiled step, always of the same shapes: `context` [B, K] and `targets` [B, M, n], int32. Where fewer
 * patches are drawn than can come, `contextPadding` [1, K] and `targetPadding` [1, n] are −Infinity in the places too many.
 */
export function maskTensors(
  { context, targets }: BlockMasks,
  sampler: BlockSampler,
): Draws {
  const { targetSize, options } = sampler, contextSize = sampler.contextSizeOf(context.length);
  const padded = (patches: readonly number[], size: number) =>
    Array.from({ length: size }, (_, i) => patches[i] ?? 0);
  const padding = (count: number, size: number) =>
    tf.tensor2d(Array.from({ length: size }, (_, i) => i < count ? 0 : -Infinity), [1, size]);
  return {
    context: perImage(tf.tensor2d(context.map((one) => padded(one, contextSize)), undefined, "int32")),
    targets: perImage(
      tf.tensor3d(targets.map((all) => all.map((one) => padded(one, targetSize))), undefined, "int32"),
    ),
    ...options.masks === "published" && {
      contextPadding: padding(context[0]!.length, contextSize),
      targetPadding: padding(targets[0]![0]!.length, targetSize),
    },
  };
}
