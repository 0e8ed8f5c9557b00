/** Gradients: functions that bring their own, and the gradients of a loss by parameter name. @module */
import * as tf from "@tensorflow/tfjs";

/**
 * A function of tensors that brings its own gradient, so that fewer operations are run than by the chain rule.
 *
 * @param inputs What it depends on.
 * @param forward Computes the value, and names the tensors that the gradient needs.
 * @param backward From the gradient of the value, and what was saved, the gradient of each input.
 * @returns The value.
 *
 * @example
 * ```ts
 * import { tf, useEngine, withGradient } from "nepa";
 * import { assertEquals } from "@std/assert";
 *
 * await useEngine("cpu");
 * const square = (x: tf.Tensor) =>
 *   withGradient([x], () => ({ value: tf.square(x), saved: [x] }), (dy, [x]) => tf.mul(dy, tf.mul(2, x!)));
 * const gradient = tf.tidy(() => tf.grad(square)(tf.scalar(3)));
 * assertEquals(gradient.dataSync()[0], 6);
 * gradient.dispose();
 * ```
 */
export function withGradient<T extends tf.Tensor>(
  inputs: readonly tf.Tensor[],
  forward: () => { value: T; saved?: tf.Tensor[] },
  backward: (dy: tf.Tensor, saved: readonly tf.Tensor[]) => tf.Tensor | tf.Tensor[],
): T {
  return tf.customGrad((...given) => {
    const save = given.at(-1) as tf.GradSaveFunc, { value, saved = [] } = forward();
    save(saved);
    return { value, gradFunc: (dy: tf.Tensor, saved: tf.Tensor[]) => backward(dy, saved) };
  })(...inputs) as T;
}

/** The value of a loss, and its gradients by the names of the parameters. */
export type LossAndGradients = {
  readonly loss: tf.Scalar;
  readonly gradients: Record<string, tf.Tensor>;
};

/**
 * Runs `loss` and takes its gradients.
 *
 * @param loss A function that gives a number, such as `() => nepaLoss(model.forward(images))`.
 * @param parameters What to take the gradients by: a model's `parameters`, or some of them.
 * @returns The loss and, for every parameter, a gradient of its shape (zeros if the loss does not depend on it). The
 * caller disposes of them, or calls this inside `tf.tidy`.
 *
 * @example
 * ```ts
 * import { lossAndGradients, Nepa, nepaLoss, tf, useEngine } from "nepa";
 * import { assertEquals } from "@std/assert";
 *
 * await useEngine("cpu");
 * const model = new Nepa({ preset: "mini", numHiddenLayers: 1 });
 * tf.tidy(() => {
 *   const images = tf.zeros<tf.Rank.R4>([2, 28, 28, 1]);
 *   const { gradients } = lossAndGradients(() => nepaLoss(model.forward(images)), model.parameters);
 *   assertEquals(gradients["vit_nepa.embeddings.cls_token"]!.shape, [1, 1, 128]);
 * });
 * model.dispose();
 * ```
 */
export function lossAndGradients(
  loss: () => tf.Scalar,
  parameters: ReadonlyMap<string, tf.Variable>,
): LossAndGradients {
  const { value, grads } = tf.variableGrads(loss, [...parameters.values()]);
  const gradients = Object.fromEntries(
    [...parameters].map(([name, variable]) => [name, grads[variable.name] ?? tf.zerosLike(variable)]),
  );
  return { loss: value, gradients };
}
