/** AdamW and gradient clipping, written to be part of a compiled step: whatever changes comes in as a tensor. @module */
import * as tf from "@tensorflow/tfjs";
import { Blocks } from "./blocks.ts";
import { betas, callable, checkOptions, expect, notNegative, type Rule } from "../base/check.ts";
import * as is from "../base/check.ts";

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

const RULES: Record<keyof AdamWOptions, Rule> = {
  ...{ betas, eps: notNegative, weightDecay: notNegative, decay: callable, group: callable },
};

/** The names of the two moments of a parameter. */
export const MOMENTS = ["exp_avg", "exp_avg_sq"] as const;

/**
 * Adam with decoupled weight decay (arXiv 1711.05101), with PyTorch's order of operations. Parameters with
 * `trainable = false` are left as they are; so are those that have no gradient, moments and weight decay included.
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
  /** Those that are trained: the parameters given, but for frozen ones. */
  readonly parameters: ReadonlyMap<string, tf.Variable>;
  readonly #options: Required<AdamWOptions>;
  readonly #blocks: Blocks;
  /** [n] each, by block; zeros at first. */
  readonly #moments: ReadonlyMap<string, { m: tf.Variable; v: tf.Variable; group: number; decays: boolean }>;
  readonly #groupCount: number;
  /** Parameters that had no gradient when gradients were joined last. */
  #absent: ReadonlySet<string> = new Set();

  /**
   * Starts with moments of zero.
   *
   * @param parameters What to update; they stay the caller's.
   * @param options Constants.
   * @throws {RangeError | TypeError} If an option is unknown or cannot be.
   */
  constructor(parameters: ReadonlyMap<string, tf.Variable>, options: AdamWOptions = {}) {
    is.expectKinds("AdamW", { parameters: [parameters, is.variables] });
    checkOptions("AdamW", options, RULES);
    this.#options = {
      betas: options.betas ?? [0.9, 0.95],
      eps: options.eps ?? 1e-8,
      weightDecay: options.weightDecay ?? 0.05,
      decay: options.decay ?? ((_, { rank }) => rank > 1),
      group: options.group ?? (() => 0),
    };
    const { decay, group } = this.#options;
    this.parameters = new Map([...parameters].filter(([, { trainable }]) => trainable));
    this.#groupCount = Math.max(0, ...[...parameters.keys()].map(group)) + 1;
    this.#blocks = new Blocks(this.parameters, (name, variable) => `${group(name)} ${decay(name, variable)}`);
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
   * @param gradients By parameter name, each of its parameter's shape. A parameter without one stays as it is.
   * @returns [n] each, by a name of its own.
   */
  join(gradients: Readonly<Record<string, tf.Tensor>>): Record<string, tf.Tensor1D> {
    this.#absent = new Set([...this.parameters.keys()].filter((name) => !gradients[name]));
    if (this.#absent.size === 0) return this.#blocks.join(gradients);
    const zeros = [...this.#absent].map((name) => [name, tf.zerosLike(this.parameters.get(name)!)]);
    return this.#blocks.join({ ...gradients, ...Object.fromEntries(zeros) });
  }

  /** Running means of the gradients and of their squares: few long vectors, by names of their own. */
  get state(): Map<string, tf.Variable> {
    return new Map(
      [...this.#moments].flatMap(([block, { m, v }]) => [[`m ${block}`, m] as const, [`v ${block}`, v]]),
    );
  }

  /** The moments by their parameters: "exp_avg.NAME" and "exp_avg_sq.NAME", of the parameter's shape. */
  async moments(): Promise<Map<string, { shape: number[]; data: Float32Array }>> {
    const found = new Map<string, { shape: number[]; data: Float32Array }>();
    for (const [block, { m, v }] of this.#moments) {
      for (const [i, moment] of [m, v].entries()) {
        const data = await moment.data() as Float32Array;
        for (const { name, from, shape, size } of this.#blocks.places(block)) {
          found.set(`${MOMENTS[i]}.${name}`, { shape, data: data.slice(from, from + size) });
        }
      }
    }
    return found;
  }

  /**
   * Goes on from moments that {@linkcode AdamW.moments} gave.
   *
   * @param read Gives the numbers of a moment by its name.
   */
  async restore(read: (name: string) => Promise<ArrayLike<number>>): Promise<void> {
    for (const [block, { m, v }] of this.#moments) {
      for (const [i, moment] of [m, v].entries()) {
        const data = new Float32Array(this.#blocks.size(block));
        for (const { name, from } of this.#blocks.places(block)) {
          data.set(await read(`${MOMENTS[i]}.${name}`), from);
        }
        tf.tidy(() => moment.assign(tf.tensor1d(data)));
      }
    }
  }

  /**
   * What changes from update to update.
   *
   * @param update Its number, from 0.
   * @param learningRates One for each group.
   * @param weightDecay Of this update. Default: the constant of the options.
   * @returns A tensor for {@linkcode AdamW.update}, made outside a compiled step and handed in.
   * @throws {RangeError} If there are more or fewer rates than groups, or one is no number from 0.
   */
  rates(
    update: number,
    learningRates: readonly number[],
    weightDecay: number = this.#options.weightDecay,
  ): tf.Tensor1D {
    const groups = this.#groupCount, given = learningRates.length;
    expect(given === groups, "learningRates", String(groups), given);
    for (const rate of learningRates) {
      expect(rate >= 0 && rate < Infinity, `learning rate of update ${update}`, "a number from 0", rate);
    }
    const { betas } = this.#options;
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
      const weights = this.#blocks.join(Object.fromEntries(this.parameters));
      const scalars = tf.unstack(rates) as tf.Scalar[], root = scalars[0]!;
      const share = (x: number | tf.Scalar) => apply ? tf.mul(apply.cast("float32"), x) : x; // 0 leaves all as it is
      const share1 = share(1 - beta1), share2 = share(1 - beta2), steps = scalars.slice(1).map(share);
      for (const [block, { m, v, group, decays }] of this.#moments) {
        const here = this.#present(block), of = (x: number | tf.Tensor) => here ? tf.mul(here, x) : x;
        const gradient = apply ? tf.where(apply, joined[block]!, 0) : joined[block]!;
        m.assign(tf.add(m, tf.mul(tf.sub(gradient, m), of(share1))));
        v.assign(tf.add(v, tf.mul(tf.sub(tf.square(gradient), v), of(share2))));
        const direction = tf.div(m, tf.add(tf.mul(tf.sqrt(v), root), eps));
        const change = tf.mul(direction, of(steps[2 * group]!)), weight = weights[block]!;
        const less = decays ? tf.add(change, tf.mul(weight, of(steps[2 * group + 1]!))) : change;
        const parts = this.#blocks.split(block, tf.sub(weight, less));
        for (const [name, part] of Object.entries(parts)) this.parameters.get(name)!.assign(part);
      }
    });
  }

  /** [n] of a block: 1 where there is a gradient, 0 where there is none; undefined where all have one. */
  #present(block: string): tf.Tensor1D | undefined {
    const places = this.#blocks.places(block);
    if (!places.some(({ name }) => this.#absent.has(name))) return undefined;
    const here = new Float32Array(this.#blocks.size(block)).fill(1);
    for (const { name, from, size } of places) if (this.#absent.has(name)) here.fill(0, from, from + size);
    return tf.tensor1d(here);
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
