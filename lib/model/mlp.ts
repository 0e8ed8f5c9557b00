/** A multilayer perceptron, for predictors and projectors beside a network. @module */
import * as tf from "@tensorflow/tfjs";
import { checkOptions, expect, isCount } from "../base/check.ts";
import * as is from "../base/check.ts";
import { labelled } from "../base/gradient.ts";
import { Random } from "../base/random.ts";
import type { Activation } from "./config.ts";
import { activations, linear } from "./ops.ts";

/** Options of `new Mlp`. */
export interface MlpOptions {
  /** Where the random weights start. Default 0. */
  seed?: number;
  /** What its parameters' names begin with. Default "mlp". */
  name?: string;
  /** Between two linear maps. Default "gelu". */
  activation?: Activation;
}

const RULES = { seed: is.index, name: is.text, activation: is.oneOf(...Object.keys(activations)) };

/**
 * Linear maps with an activation between them: a predictor or a projector of an objective.
 *
 * @example
 * ```ts
 * import { Mlp, tf, useEngine } from "nepa";
 * import { assertEquals } from "@std/assert";
 *
 * await useEngine("cpu");
 * const projector = new Mlp([8, 16, 4], { seed: 0 });
 * assertEquals([...projector.parameters.keys()].length, 4); // two weights, two biases
 * const y = tf.tidy(() => projector.apply(tf.ones([2, 5, 8])));
 * assertEquals(y.shape, [2, 5, 4]);
 * y.dispose();
 * projector.dispose();
 * ```
 */
export class Mlp {
  /** "NAME.i.weight" [in, out] and "NAME.i.bias" [out] of linear map i, from 0. */
  readonly parameters: ReadonlyMap<string, tf.Variable>;
  readonly #layers: { weight: tf.Variable; bias: tf.Variable }[];
  readonly #activation: (x: tf.Tensor) => tf.Tensor;

  /**
   * Weights are normal with variance 1 / inputs, biases 0.
   *
   * @param sizes Lengths of the input, of what lies between, and of the output.
   * @param options The seed, the names, the activation.
   * @throws {RangeError | TypeError} If there are fewer than two sizes, or an option cannot be.
   */
  constructor(sizes: readonly number[], options: MlpOptions = {}) {
    checkOptions("Mlp", options, RULES);
    expect(sizes.length >= 2 && sizes.every(isCount), "Mlp", "two or more lengths from 1", `[${sizes}]`);
    const { seed = 0, name = "mlp", activation = "gelu" } = options;
    this.#activation = activations[activation];
    this.#layers = sizes.slice(1).map((outputs, i) => {
      const inputs = sizes[i]!, random = new Random(seed, name, i);
      return tf.tidy(() => ({
        weight: tf.variable(random.normal([inputs, outputs], 0, inputs ** -0.5)),
        bias: tf.variable(tf.zeros([outputs])),
      }));
    });
    const named = this.#layers.flatMap(({ weight, bias }, i) =>
      [[`${name}.${i}.weight`, weight], [`${name}.${i}.bias`, bias]] as const
    );
    this.parameters = labelled(new Map(named));
  }

  /**
   * Applies it along the last axis.
   *
   * @param x [..., inputs].
   * @returns [..., outputs] of the same rank.
   */
  apply<T extends tf.Tensor>(x: T): T {
    const rows = x.reshape([-1, x.shape.at(-1)!]) as tf.Tensor2D; // [..., in] to [n, in]
    const y = this.#layers.reduce<tf.Tensor2D>((x, { weight, bias }, i) => {
      const input = i === 0 ? x : this.#activation(x) as tf.Tensor2D;
      return linear(input, weight as tf.Tensor as tf.Tensor2D, bias);
    }, rows);
    return y.reshape([...x.shape.slice(0, -1), -1]) as T; // [n, out] to [..., out]
  }

  /** Lets go of the parameters. */
  dispose(): void {
    tf.dispose([...this.parameters.values()]);
  }
}
