/** AdamW and gradient clipping, written to be part of a compiled step: whatever changes comes in as a tensor. @module */
import * as tf from "@tensorflow/tfjs";
import { Blocks } from "./blocks.ts";
import { expect } from "../base/check.ts";

/** Options of {@linkcode AdamW}. */
export interface AdamWOptions {
  /** Decay rates of the two moments. Default [0.9, 0.95]. */
  betas?: readonly [number, number];
  /** Added to the root of the second moment. Default 1e-8. */
  eps?: number;
  /** Share of a weight that is taken off, times the learning rate. Default 0.05. */
  weightDecay?: number;
  /** Which parameters decay. Default: those with two axes or more, so no bias, norm or layer scale, as in the official code. */
  decay?: (name: string, variable: tf.Variable) => boolean;
  /** Which learning rate a parameter takes, from 0 on. Default: all take the first. */
  group?: (name: string) => number;
}

/**
 * Adam with decoupled weight decay (arXiv 1711.05101), with PyTorch's order of operations.
 *
 * @example
 * ```ts
 * import { AdamW, tf, useEngine } from "nepa";
 * import { assertAlmostEquals } from "@std/assert";
 *
 * await useEngine("cpu");
 * const weight = tf.variable(tf.tensor1d([1]));
 * const optimizer = new AdamW(new Map([["weight", weight]]));
 * tf.tidy(() => optimizer.update({ weight: tf.tensor1d([3]) }, optimizer.rates(0, [0.1])));
 * assertAlmostEquals(weight.dataSync()[0]!, 0.9, 1e-6); // the first update moves by the learning rate
 * optimizer.dispose();
 * weight.dispose();
 * ```
 */
export class AdamW {
  readonly #parameters: ReadonlyMap<string, tf.Variable>;
  readonly #options: Required<AdamWOptions>;
  readonly #blocks: Blocks;
  /** [n] each, by block; zeros at first. */
  readonly #moments: ReadonlyMap<string, { m: tf.Variable; v: tf.Variable; group: number; decays: boolean }>;
  readonly #groupCount: number;

  /**
   * Starts with moments of zero.
   *
   * @param parameters What to update; they stay the caller's.
   * @param options Constants.
   * @throws {RangeError} If an option cannot be.
   */
  constructor(parameters: ReadonlyMap<string, tf.Variable>, options: AdamWOptions = {}) {
    this.#options = {
      betas: [0.9, 0.95],
      eps: 1e-8,
      weightDecay: 0.05,
      decay: (_, { rank }) => rank > 1,
      group: () => 0,
      ...options,
    };
    const { betas, eps, weightDecay, group } = this.#options;
    expect(betas.every((b) => b >= 0 && b < 1), "betas", "two numbers from 0 to below 1", betas);
    expect(eps >= 0, "eps", "a number from 0 up", eps);
    expect(weightDecay >= 0, "weightDecay", "a number from 0 up", weightDecay);
    this.#parameters = parameters;
    this.#groupCount = Math.max(0, ...[...parameters.keys()].map(group)) + 1;
    const { decay } = this.#options;
    this.#blocks = new Blocks(parameters, (name, variable) => `${group(name)} ${decay(name, variable)}`);
    this.#moments = new Map(
      [...this.#blocks.members].map(([block, [first]]) => {
        const zeros = () => tf.tidy(() => tf.variable(tf.zeros([this.#blocks.size(block)]), false));
        const decays = decay(first!, parameters.get(first!)!);
        return [block, { m: zeros(), v: zeros(), group: group(first!), decays }];
      }),
    );
  }

  /**
   * Gradients as {@linkcode AdamW.update} works on them: few long vectors instead of many small tensors.
   *
   * @param gradients By parameter name, each of its parameter's shape.
   * @returns [n] each, by a name of its own.
   * @throws {RangeError} If one is missing.
   */
  join(gradients: Readonly<Record<string, tf.Tensor>>): Record<string, tf.Tensor1D> {
    return this.#blocks.join(gradients);
  }

  /** Running means of the gradients and of their squares: few long vectors, by names of their own. Assign to them to go on from others. */
  get state(): Map<string, tf.Variable> {
    return new Map(
      [...this.#moments].flatMap(([block, { m, v }]) => [[`m ${block}`, m] as const, [`v ${block}`, v]]),
    );
  }

  /**
   * What changes from update to update.
   *
   * @param update Its number, from 0.
   * @param learningRates One for each group.
   * @returns A tensor for {@linkcode AdamW.update}, made outside a compiled step and handed in.
   * @throws {RangeError} If there are more or fewer rates than groups.
   */
  rates(update: number, learningRates: readonly number[]): tf.Tensor1D {
    const groups = this.#groupCount, given = learningRates.length;
    expect(given === groups, "learningRates", String(groups), given);
    const { betas, weightDecay } = this.#options;
    const correction = (beta: number) => 1 - beta ** (update + 1); // the moments begin at 0
    const pairs = learningRates.flatMap((rate) => [rate / correction(betas[0]), rate * weightDecay]);
    return tf.tensor1d([1 / Math.sqrt(correction(betas[1])), ...pairs]);
  }

  /**
   * Updates the moments, then the parameters.
   *
   * @param gradients By parameter name, each of its parameter's shape; or from {@linkcode AdamW.join}.
   * @param rates From {@linkcode AdamW.rates}.
   * @param apply Whether to update at all, a boolean; where it is false, nothing changes. Default: true.
   */
  update(gradients: Readonly<Record<string, tf.Tensor>>, rates: tf.Tensor1D, apply?: tf.Scalar): void {
    const { betas: [beta1, beta2], eps } = this.#options;
    tf.tidy(() => {
      const joined = [...this.#moments.keys()].every((block) => block in gradients)
        ? gradients
        : this.join(gradients);
      const weights = this.join(Object.fromEntries(this.#parameters));
      const scalars = tf.unstack(rates) as tf.Scalar[], root = scalars[0]!;
      const share = (x: number | tf.Scalar) => apply ? tf.mul(apply.cast("float32"), x) : x; // 0 leaves all as it is
      const share1 = share(1 - beta1), share2 = share(1 - beta2), steps = scalars.slice(1).map(share);
      for (const [block, { m, v, group, decays }] of this.#moments) {
        const gradient = apply ? tf.where(apply, joined[block]!, 0) : joined[block]!;
        m.assign(tf.add(m, tf.mul(tf.sub(gradient, m), share1)));
        v.assign(tf.add(v, tf.mul(tf.sub(tf.square(gradient), v), share2)));
        const direction = tf.div(m, tf.add(tf.mul(tf.sqrt(v), root), eps));
        const change = tf.mul(direction, steps[2 * group]!), weight = weights[block]!;
        const less = decays ? tf.add(change, tf.mul(weight, steps[2 * group + 1]!)) : change;
        const parts = this.#blocks.split(block, tf.sub(weight, less));
        for (const [name, part] of Object.entries(parts)) this.#parameters.get(name)!.assign(part);
      }
    });
  }

  /** Lets go of the moments. */
  dispose(): void {
    for (const { m, v } of this.#moments.values()) tf.dispose([m, v]);
  }
}

/**
 * Scales all gradients together so that their norm is at most `maxNorm` (PyTorch's `clip_grad_norm_`).
 *
 * @param gradients By parameter name.
 * @param maxNorm The largest Euclidean norm of all of them together; Infinity leaves them as they are.
 * @returns `clipped`: the gradients times min(1, maxNorm / (norm + 1e-6)). `norm`: before clipping.
 *
 * @example
 * ```ts
 * import { clipByGlobalNorm, tf, useEngine } from "nepa";
 * import { assertAlmostEquals } from "@std/assert";
 *
 * await useEngine("cpu");
 * tf.tidy(() => {
 *   const { clipped, norm } = clipByGlobalNorm({ a: tf.tensor1d([3]), b: tf.tensor1d([4]) }, 1);
 *   assertAlmostEquals(norm.dataSync()[0]!, 5, 1e-6);
 *   assertAlmostEquals(clipped.a!.dataSync()[0]!, 0.6, 1e-6);
 * });
 * ```
 */
export function clipByGlobalNorm(
  gradients: Readonly<Record<string, tf.Tensor>>,
  maxNorm: number,
): { clipped: Record<string, tf.Tensor>; norm: tf.Scalar } {
  expect(maxNorm > 0, "maxNorm", "a number above 0", maxNorm);
  const squares = Object.values(gradients).map((gradient) => tf.sum(tf.square(gradient)));
  const norm = tf.sqrt(tf.addN(squares)) as tf.Scalar;
  if (maxNorm === Infinity) return { clipped: { ...gradients }, norm };
  const factor = tf.minimum(1, tf.div(maxNorm, tf.add(norm, 1e-6)));
  const clipped = Object.entries(gradients).map(([name, gradient]) => [name, tf.mul(gradient, factor)]);
  return { clipped: Object.fromEntries(clipped), norm };
}
