/** Gradients: functions that bring their own, and the gradients of a loss by parameter name. @module */
import * as tf from "@tensorflow/tfjs";

/**
 * A function of tensors that brings its own gradient, so that fewer operations are run than by the chain rule.
 *
 * Where a gradient is itself differentiated, what was saved would be taken for constant: there `forward` is run without its
 * own gradient, and has tfjs's.
 *
 * @param inputs What it depends on.
 * @param forward Computes the value from the inputs, and names the tensors that the gradient needs.
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
  if (tf.engine().state.gradientDepth > 1) return forward().value;
  return ownGradient(inputs, forward, backward);
}

function ownGradient<T extends tf.Tensor>(
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

/**
 * The value, cut off from the gradient.
 *
 * @param x Of any shape.
 * @returns The same numbers; gradients through it are zero.
 *
 * @example
 * ```ts
 * import { stopGradient, tf, useEngine } from "nepa";
 * import { assertEquals } from "@std/assert";
 *
 * await useEngine("cpu");
 * const gradient = tf.tidy(() => tf.grad((x) => tf.mul(x, stopGradient(x)))(tf.scalar(3)));
 * assertEquals(gradient.dataSync()[0], 3); // 6 without
 * gradient.dispose();
 * ```
 */
export function stopGradient<T extends tf.Tensor>(x: T): T {
  return ownGradient([x], () => ({ value: tf.clone(x) }), (dy) => tf.zerosLike(dy));
}

/** What has parameters and, perhaps, state by name. */
export interface WithVariables {
  readonly parameters?: ReadonlyMap<string, tf.Variable>;
  readonly state?: ReadonlyMap<string, tf.Variable>;
}

/** Parameters and state. */
export const whole = (
  { parameters = new Map(), state = new Map() }: WithVariables,
): Map<string, tf.Variable> => new Map([...parameters, ...state]);

const labels = new WeakMap<tf.Variable, string>();

/** Remembers parameters' names, for messages: tfjs has only numbers for them. */
export function labelled<T extends ReadonlyMap<string, tf.Variable>>(parameters: T): T {
  for (const [name, variable] of parameters) labels.set(variable, name);
  return parameters;
}

/** What a variable is called in messages. */
export function labelOf(variable: tf.Variable): string {
  return labels.get(variable) ?? variable.name;
}

/** Where a loss has what it leaves for what comes after the update: tensors of any shape, by name. */
export const LEFT: unique symbol = Symbol("left for after");

/** What a loss gives: a number, or that number and others to be logged, by name. */
export type LossOutput =
  | tf.Scalar
  | { readonly loss: tf.Scalar; readonly [metric: string]: tf.Scalar; readonly [LEFT]?: tf.NamedTensorMap };

/** The value of a loss, and its gradients by the names of the parameters. */
export type LossAndGradients = {
  readonly loss: tf.Scalar;
  readonly gradients: Record<string, tf.Tensor>;
  /** The other numbers that the loss gives. */
  readonly metrics: Record<string, tf.Scalar>;
  /** What the loss leaves under {@linkcode LEFT}, without gradients. */
  readonly left: tf.NamedTensorMap;
  /** Parameters that the loss does not depend on. */
  readonly unreached: readonly string[];
};

/** Checks what a loss gave, and parts the loss from the other numbers. */
export function lossAndMetrics(
  output: unknown,
): { loss: tf.Scalar; metrics: Record<string, tf.Scalar>; left: tf.NamedTensorMap } {
  const plain = output instanceof tf.Tensor ? { loss: output } : output;
  const later = plain instanceof Promise;
  if (later) plain.catch(() => {}); // what it awaits fails too: its tensors are gone
  const kind = later ? "a promise (a loss cannot be async)" : typeof plain;
  if (kind !== "object" || plain === null) {
    const help = "return a scalar tensor, or { loss, … } of such";
    throw new TypeError(`loss: expected a scalar tensor, got ${plain === null ? "null" : kind}; ${help}`);
  }
  const all = plain as Record<string, unknown>;
  if (!("loss" in all)) {
    throw new TypeError(`loss: expected { loss, … }, got { ${Object.keys(all).join(", ")} } without loss`);
  }
  for (const [name, value] of Object.entries(all)) {
    const tensor = value instanceof tf.Tensor,
      shape = tensor ? `[${value.shape}] ${value.dtype}` : typeof value;
    if (tensor && value.rank === 0 && value.dtype === "float32") continue;
    const help = tensor && value.rank > 0 ? "take its mean" : "make it one by tf.scalar or tf.cast";
    throw new TypeError(`loss: ${name}: expected a float32 scalar tensor, shape [], got ${shape}; ${help}`);
  }
  const { loss, [LEFT]: left = {}, ...metrics } = all as Record<string, tf.Scalar> & {
    [LEFT]?: tf.NamedTensorMap;
  };
  return { loss: loss!, metrics, left };
}

/**
 * Runs `loss` and takes its gradients.
 *
 * @param loss A function that gives a number, such as `() => nepaLoss(model.forward(images))`, or `{ loss, … }` with other
 * numbers beside it, whose gradients are not taken.
 * @param parameters What to take the gradients by: a model's `parameters`, or some of them. Those with `trainable = false`
 * are left out.
 * @returns The loss and, for every parameter, a gradient of its shape (zeros if the loss does not depend on it, which
 * `unreached` tells). The caller disposes of them, or calls this inside `tf.tidy`.
 * @throws {TypeError} If the loss is no scalar tensor, or depends on none of the parameters.
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
  loss: () => LossOutput,
  parameters: ReadonlyMap<string, tf.Variable>,
): LossAndGradients {
  const kept: [Record<string, tf.Scalar>, tf.NamedTensorMap] = [{}, {}];
  const trained = [...parameters].filter(([, variable]) => variable.trainable);
  try {
    const { value, grads } = tf.variableGrads(() => {
      const { loss: value, metrics, left } = lossAndMetrics(loss());
      for (const [i, some] of [metrics, left].entries()) {
        for (const [name, x] of Object.entries(some)) kept[i]![name] = tf.keep(stopGradient(x));
      }
      return value;
    }, trained.map(([, variable]) => variable));
    const unreached = trained.filter(([, { name }]) => !grads[name]).map(([name]) => name);
    const gradients = [...parameters].map(([name, variable]) =>
      [name, grads[variable.name] ?? tf.zerosLike(variable)] as const
    );
    const [metrics, left] = kept.map((some) =>
      Object.fromEntries(Object.entries(some).map(([name, x]) => [name, x.clone()]))
    ) as typeof kept;
    return {
      loss: value,
      gradients: Object.fromEntries(gradients),
      metrics,
      left,
      unreached,
    };
  } catch (error) {
    if (!/^Cannot (compute gradient|find a connection)/.test((error as Error).message)) throw error;
    throw new TypeError(
      `loss: expected it to depend on the parameters, it reaches none of the ${trained.length}`,
    );
  } finally {
    tf.dispose(kept);
  }
}
