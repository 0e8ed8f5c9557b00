/** Numbers that are not finite: where they begin, and the one refusal of them. @module */
import type * as tf from "@tensorflow/tfjs";

/**
 * Thrown where a loss, a gradient or a feature is not a finite number. Of a training, the weights are those before the update
 * that it names.
 */
export class NonFiniteError extends RangeError {
  override name = "NonFiniteError";
}

/** The name of the first tensor with a value that is not finite, and one such value. */
export async function firstNonFinite(
  tensors: Iterable<readonly [string, tf.Tensor]>,
): Promise<{ name: string; value: number } | undefined> {
  for (const [name, tensor] of tensors) {
    const value = (await tensor.data()).find((x) => !Number.isFinite(x));
    if (value !== undefined) return { name, value };
  }
  return undefined;
}

/**
 * Refuses what a network gives where it is not finite.
 *
 * @param values What it gives.
 * @param weights Its parameters: if one of them is not finite, it is named, else the place.
 * @param place In words, of the index of a value.
 * @throws {NonFiniteError}
 */
export async function refuseNonFinite(
  values: ArrayLike<number> & { findIndex(holds: (x: number) => boolean): number },
  weights: Iterable<readonly [string, tf.Tensor]>,
  place: (index: number) => string,
): Promise<void> {
  const at = values.findIndex((x) => !Number.isFinite(x));
  if (at < 0) return;
  const weight = await firstNonFinite(weights),
    got = `${place(at)}: expected finite numbers, got ${values[at]}`;
  const why = weight
    ? `the weight ${weight.name} is not finite, it has ${weight.value}: load or train the network anew`
    : "the weights are finite: look at the image, and whether weights have grown without bound";
  throw new NonFiniteError(`${got}; ${why}`);
}
