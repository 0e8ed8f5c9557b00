/** Tensors in arrays and records, and the way back. @module */
import * as tf from "@tensorflow/tfjs";

/** Tensors that were nested, side by side. */
export interface Flat {
  tensors: tf.Tensor[];
  /** What two values share that are nested alike, names included. */
  form: string;
  /** Puts others in their places. */
  rebuild(tensors: readonly tf.Tensor[]): tf.TensorContainer;
}

type Template = number | Template[] | { [name: string]: Template };

/** What a message calls a value that is no tensor. */
function kindOf(value: unknown): string {
  if (value instanceof tf.Tensor) return "one that was disposed";
  if (value instanceof Promise) return "a promise (an async function cannot be recorded)";
  return value === null ? "null" : typeof value === "object" ? value.constructor.name : typeof value;
}

/**
 * Lays nested tensors side by side. What is undefined in a record counts as left out.
 *
 * @param refuse Makes the error for what is no tensor, such as "draws.noise" and "number".
 */
export function flatten(value: unknown, refuse: (path: string[], got: string) => Error): Flat {
  const tensors: tf.Tensor[] = [];
  const walk = (value: unknown, path: string[]): Template => {
    if (value instanceof tf.Tensor && !value.isDisposed) return tensors.push(value) - 1;
    if (Array.isArray(value)) return value.map((part, i) => walk(part, [...path, String(i)]));
    if (value !== null && typeof value === "object" && Object.getPrototypeOf(value) === Object.prototype) {
      const parts = Object.entries(value).filter(([, part]) => part !== undefined);
      return Object.fromEntries(parts.map(([name, part]) => [name, walk(part, [...path, name])]));
    }
    throw refuse(path, kindOf(value));
  };
  const build = (part: Template, tensors: readonly tf.Tensor[]): tf.TensorContainer => {
    if (typeof part === "number") return tensors[part]!;
    if (Array.isArray(part)) return part.map((p) => build(p, tensors));
    return Object.fromEntries(Object.entries(part).map(([name, p]) => [name, build(p, tensors)]));
  };
  const template = walk(value, []);
  return { tensors, form: JSON.stringify(template), rebuild: (tensors) => build(template, tensors) };
}

/** The tensors of a function's arguments. */
export function flattenArguments(label: string, args: readonly unknown[]): Flat {
  return flatten(args, (path, got) => {
    const name = (args.length === 1 && path.length > 1 ? path.slice(1) : path).join(".");
    return new TypeError(`compiled function "${label}", argument ${name}: expected a tensor, got ${got}`);
  });
}

/** The tensors of a function's result. */
export function flattenResult(label: string, result: unknown): Flat {
  return flatten(result, (path, got) => {
    const at = path.length > 0 ? ` at ${path.join(".")}` : "";
    return new TypeError(
      `compile("${label}"): expected tensors, in arrays and records, as the result, got ${got}${at}`,
    );
  });
}
