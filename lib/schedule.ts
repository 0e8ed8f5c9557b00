/** Learning rates by the number of the update. @module */

/** Options of {@linkcode warmupCosine}. */
export interface WarmupCosineOptions {
  /** The largest rate. */
  peak: number;
  /** Updates in all. */
  steps: number;
  /** Updates in which it rises, from 0. */
  warmupSteps: number;
}

/**
 * A linear rise from 0 to the peak, then half a cosine down to 0 (transformers' cosine schedule with warm-up).
 *
 * @param options The peak and the lengths.
 * @returns The rate of update k, counted from 0; so the first update of a warm-up runs at rate 0.
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
  const { peak, steps, warmupSteps } = options;
  if (!(peak >= 0)) throw new RangeError(`peak: expected a number from 0 up, got ${peak}`);
  if (!(steps >= 1)) throw new RangeError(`steps: expected a number from 1 up, got ${steps}`);
  if (!(warmupSteps >= 0 && warmupSteps <= steps)) {
    throw new RangeError(`warmupSteps: expected a number from 0 to ${steps}, got ${warmupSteps}`);
  }
  return (update) => {
    if (update < warmupSteps) return peak * (update / warmupSteps);
    const progress = Math.min(1, (update - warmupSteps) / Math.max(1, steps - warmupSteps));
    return peak * Math.max(0, 0.5 * (1 + Math.cos(Math.PI * progress)));
  };
}

/**
 * How much of the learning rate a parameter gets under layer-wise decay: the deeper in the network, the more.
 *
 * @param name Its official name.
 * @param layers Blocks of the network.
 * @param decay Factor from one layer to the one before it, 0 to 1.
 * @returns decay^(layers − 1 − i) for block i, decay^layers for the embeddings, 1 for the last norm and the head.
 *
 * @example
 * ```ts
 * import { layerDecay } from "nepa";
 * import { assertEquals } from "@std/assert";
 *
 * assertEquals(layerDecay("vit_nepa.encoder.layer.2.output.dense.weight", 4, 0.5), 0.5);
 * assertEquals(layerDecay("classifier.weight", 4, 0.5), 1);
 * ```
 */
export function layerDecay(name: string, layers: number, decay: number): number {
  const block = /\.encoder\.layer\.(\d+)\./.exec(name)?.[1];
  if (block !== undefined) return decay ** (layers - 1 - Number(block));
  return name.startsWith("vit_nepa.embeddings.") ? decay ** layers : 1;
}
