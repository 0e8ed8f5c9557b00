/** A running average of the weights. @module */
import * as tf from "@tensorflow/tfjs";
import { Blocks } from "./blocks.ts";
import { expect } from "../base/check.ts";
import * as is from "../base/check.ts";

/**
 * Keeps the average of a model's weights in a second model: average = decay · average + (1 − decay) · weights, after
 * every update.
 *
 * @example
 * ```ts
 * import { Ema, tf, useEngine } from "nepa";
 * import { assertAlmostEquals } from "@std/assert";
 *
 * await useEngine("cpu");
 * const weight = tf.variable(tf.tensor1d([1])), average = tf.variable(tf.tensor1d([0]), false);
 * const ema = new Ema(new Map([["weight", weight]]), new Map([["weight", average]]));
 * tf.tidy(() => ema.update(tf.scalar(Ema.decayAt(0, 0.9)))); // the first update copies
 * tf.tidy(() => {
 *   weight.assign(tf.tensor1d([2]));
 *   ema.update(tf.scalar(Ema.decayAt(1, 0.9)));
 * });
 * assertAlmostEquals(average.dataSync()[0]!, 1.1, 1e-6);
 * tf.dispose([weight, average]);
 * ```
 */
export class Ema {
  readonly #weights: ReadonlyMap<string, tf.Variable>;
  readonly #averages: ReadonlyMap<string, tf.Variable>;
  readonly #blocks: Blocks;

  /**
   * Changes nothing yet.
   *
   * @param parameters The weights that are trained.
   * @param averages Variables of the same names and shapes, which are overwritten. Both stay the caller's.
   * @throws {RangeError} If a name is missing or a shape differs.
   */
  constructor(parameters: ReadonlyMap<string, tf.Variable>, averages: ReadonlyMap<string, tf.Variable>) {
    is.expectKinds("Ema", { parameters: [parameters, is.variables], averages: [averages, is.variables] });
    for (const [name, weight] of parameters) {
      const { shape } = weight, got = averages.get(name)?.shape;
      expect(got?.join() === shape.join(), name, `an average of shape [${shape}]`, got ?? "none");
    }
    this.#weights = parameters;
    this.#averages = averages;
    this.#blocks = new Blocks(parameters);
  }

  /**
   * Takes in the weights as they are now.
   *
   * @param decay What the average keeps of itself, 0 to 1; a tensor, since it is 0 at the first update.
   */
  update(decay: tf.Scalar): void {
    tf.tidy(() => {
      const rest = tf.sub(1, decay);
      const weights = this.#blocks.join(Object.fromEntries(this.#weights));
      const averages = this.#blocks.join(Object.fromEntries(this.#averages));
      for (const [block, average] of Object.entries(averages)) {
        const next = tf.add(tf.mul(average, decay), tf.mul(weights[block]!, rest)) as tf.Tensor1D;
        for (const [name, part] of Object.entries(this.#blocks.split(block, next))) {
          this.#averages.get(name)!.assign(part);
        }
      }
    });
  }

  /** The decay of update `update`, from 0: the first one makes the copy, without a slower start after it. */
  static decayAt(update: number, decay: number): number {
    return update === 0 ? 0 : decay;
  }
}
