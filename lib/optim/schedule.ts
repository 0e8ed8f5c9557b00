/** Learning rates by the number of the update. @module */
import { any, checkOptions, expect, flag, notNegative } from "../base/check.ts";
import { roundEven } from "../base/round.ts";

/** Options of {@linkcode warmupCosine}. */
export interface WarmupCosineOptions {
  /** What it rises to. */
  peak: number;
  /** What it rises from. Default 0. */
  start?: number;
  /** What it ends at. Default 0. */
  end?: number;
  /** Updates in all. */
  steps: number;
  /** Updates in which it rises. */
  warmupSteps: number;
}

const SHAPE = { peak: any, start: notNegative, end: notNegative, steps: any, warmupSteps: any };

/**
 * A linear rise from `start` to the peak, then half a cosine to `end` (transformers' cosine schedule with warm-up).
 *
 * @param options The peak and the lengths.
 * @returns The rate of update k, counted from 0; so the first update of a warm-up runs at `start`.
 * @throws {RangeError} If a number cannot be.
 *
 * @example
 * ```ts
 * import { warmupCosine } from "nepa";
 * import { assertEquals } from "@std/assert";
 *
 * const rate = warmupCosine({ peak: 4, steps: 6, warmupSteps: 2 });
 * assertEquals([rate(0), rate(1), rate(2), rate(4), rate(6)], [0, 2, 4, 2, 0]);
 * ```
 */
export function warmupCosine(options: WarmupCosineOptions): (update: number) => number {
  checkOptions("warmupCosine", options, SHAPE);
  const { peak, start = 0, end = 0, steps, warmupSteps } = options;
  expect(peak >= 0, "peak", "a number from 0 up", peak);
  expect(steps >= 1, "steps", "a number from 1 up", steps);
  expect(warmupSteps >= 0 && warmupSteps <= steps, "warmupSteps", `a number from 0 to ${steps}`, warmupSteps);
  return (update) => {
    if (update < warmupSteps) return start + (peak - start) * (update / warmupSteps);
    const progress = Math.min(1, (update - warmupSteps) / Math.max(1, steps - warmupSteps));
    return end + (peak - end) * Math.max(0, 0.5 * (1 + Math.cos(Math.PI * progress)));
  };
}

/**
 * A linear rise from `start` to the peak, then a fall to 0: (1 − share done)^power (mmsegmentation's `PolyLR`).
 *
 * @param options The peak and the lengths; `power`, default 1.
 * @returns The rate of update k, counted from 0.
 * @throws {RangeError} If a number cannot be.
 *
 * @example
 * ```ts
 * import { warmupPoly } from "nepa";
 * import { assertEquals } from "@std/assert";
 *
 * const rate = warmupPoly({ peak: 4, steps: 6, warmupSteps: 2 });
 * assertEquals([rate(0), rate(1), rate(2), rate(4), rate(6)], [0, 2, 4, 2, 0]);
 * ```
 */
export function warmupPoly(
  options: Omit<WarmupCosineOptions, "end"> & { power?: number },
): (update: number) => number {
  const { power = 1, ...rest } = options, rise = warmupCosine(rest), { peak, steps, warmupSteps } = rest;
  expect(power > 0, "power", "a number above 0", power);
  const done = (update: number) => Math.min(1, (update - warmupSteps) / Math.max(1, steps - warmupSteps));
  return (update) => update < warmupSteps ? rise(update) : peak * (1 - done(update)) ** power;
}

/**
 * How many layers lie above a parameter; layer-wise decay multiplies its learning rate by decay^layers.
 *
 * @param name Its official name.
 * @param layers Blocks of the network.
 * @returns layers − 1 − i for block i, `layers` for the embeddings, 0 for the last norm and the head.
 *
 * @example
 * ```ts
 * import { layersAbove } from "nepa";
 * import { assertEquals } from "@std/assert";
 *
 * assertEquals(layersAbove("vit_nepa.encoder.layer.2.output.dense.weight", 4), 1);
 * assertEquals(layersAbove("classifier.weight", 4), 0);
 * ```
 */
export function layersAbove(name: string, layers: number): number {
  const block = /\.encoder\.layer\.(\d+)\./.exec(name)?.[1];
  if (block !== undefined) return layers - 1 - Number(block);
  return /^\w+\.embeddings\./.test(name) ? layers : 0;
}

/** Options of {@linkcode layerCosine}. */
export interface LayerCosineOptions extends WarmupCosineOptions {
  /** Layers above, from {@linkcode layersAbove}. */
  above: number;
  /** Factor of the rate from each layer to the one below it, above 0. */
  decay: number;
  /** What `decay` itself moves to by the end, along half a cosine; then all layers warm up together. Default: it stays. */
  decayEnd?: number | undefined;
  /** Whether a layer rises for the longer, the smaller its factor f is: over W − W·f updates, at least one. Default false. */
  layerWarmup?: boolean | undefined;
}

/**
 * The learning rate of one layer: {@linkcode warmupCosine}, times decay^above (the official `llrd_cosine`, or with
 * `layerWarmup` `llrd_cosine_warmup`).
 *
 * @param options The schedule of the top, and what this layer makes of it.
 * @returns The rate of update k, counted from 0.
 * @throws {RangeError} If a number cannot be.
 *
 * @example
 * ```ts
 * import { layerCosine } from "nepa";
 * import { assertEquals } from "@std/assert";
 *
 * const rate = layerCosine({ peak: 4, steps: 6, warmupSteps: 2, above: 1, decay: 0.5 });
 * assertEquals([rate(0), rate(1), rate(2), rate(6)], [0, 1, 2, 0]);
 * ```
 */
export function layerCosine(options: LayerCosineOptions): (update: number) => number {
  const more = { above: any, decay: any, decayEnd: any, layerWarmup: flag };
  checkOptions("layerCosine", options, { ...SHAPE, ...more });
  const { above, decay, decayEnd, layerWarmup = false, peak, steps, warmupSteps: all } = options;
  expect(decay > 0, "decay", "a number above 0", decay);
  expect((decayEnd ?? 1) > 0, "decayEnd", "a number above 0", decayEnd);
  const both = layerWarmup && decayEnd !== undefined;
  expect(!both, "decayEnd", "none where layers warm up by their factors", "both");
  const own = Math.max(1, all - roundEven(all * Math.min(1, decay ** above)));
  const rate = warmupCosine({ peak, steps, warmupSteps: layerWarmup && all > 0 ? own : all });
  if (decayEnd === undefined) return (update) => decay ** above * rate(update);
  const moved = (update: number) => 0.5 * (1 - Math.cos(Math.PI * update / steps));
  return (update) => (decay + (decayEnd - decay) * moved(update)) ** above * rate(update);
}
