/**
 * Small tensors joined into few long vectors. A step with a handful of long operations compiles and runs faster than
 * one with hundreds of short ones; the variables stay one for each parameter.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";

/** Parameters with at least this many numbers are a block of their own: copying them would cost more than it saves. */
const LARGE = 1 << 18;

/** How a set of parameters is joined. */
export class Blocks {
  /** Names of the parameters of each block, by the block's name. */
  readonly members: ReadonlyMap<string, readonly string[]>;
  readonly #parameters: ReadonlyMap<string, tf.Variable>;

  /**
   * @param parameters By name; kept, not copied.
   * @param key Parameters with the same key may be joined. Default: all may.
   */
  constructor(
    parameters: ReadonlyMap<string, tf.Variable>,
    key: (name: string, variable: tf.Variable) => string = () => "all",
  ) {
    const members = new Map<string, string[]>();
    for (const [name, variable] of parameters) {
      const block = variable.size >= LARGE ? name : `joined ${key(name, variable)}`;
      members.set(block, [...members.get(block) ?? [], name]);
    }
    this.members = members;
    this.#parameters = parameters;
  }

  /** How many numbers a block holds. */
  size(block: string): number {
    return this.members.get(block)!.reduce((sum, name) => sum + this.#parameters.get(name)!.size, 0);
  }

  /** Where in a block its parameters lie. */
  places(block: string): { name: string; from: number; size: number; shape: number[] }[] {
    let from = 0;
    return this.members.get(block)!.map((name) => {
      const { shape, size } = this.#parameters.get(name)!, place = { name, from, size, shape };
      from += size;
      return place;
    });
  }

  /** Joins tensors with the parameters' names and shapes: [n] for each block. */
  join(tensors: Readonly<Record<string, tf.Tensor>>): Record<string, tf.Tensor1D> {
    const joined = [...this.members].map(([block, names]) => {
      const parts = names.map((name) => {
        const part = tensors[name];
        if (!part) throw new RangeError(`expected a tensor for each parameter, got none for ${name}`);
        return part.reshape([part.size]);
      });
      return [block, parts.length === 1 ? parts[0]! : tf.concat(parts)];
    });
    return Object.fromEntries(joined);
  }

  /** Cuts a block [n] into tensors with the parameters' names and shapes. */
  split(block: string, joined: tf.Tensor1D): Record<string, tf.Tensor> {
    const parameters = this.members.get(block)!.map((name) => this.#parameters.get(name)!);
    const parts = parameters.length === 1 ? [joined] : tf.split(joined, parameters.map(({ size }) => size));
    return Object.fromEntries(
      this.members.get(block)!.map((name, i) => [name, parts[i]!.reshape(parameters[i]!.shape)]),
    );
  }
}
