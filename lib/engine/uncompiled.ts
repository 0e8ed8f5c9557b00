/** `compile` where nothing compiles: the function is run as it is. @module */
import * as tf from "@tensorflow/tfjs";
import { whileRecording } from "./frozen.ts";
import { flattenArguments, flattenResult } from "./nested.ts";
import type { Compiled, CompileOptions } from "./types.ts";

/**
 * Runs `fn` inside `tf.tidy`, then lets the event loop turn once (timers, progress, a Stop button), since the kernels
 * of these engines block it.
 *
 * @param fn A function of tensors.
 * @returns The function, with the same behaviour as a compiled one but for speed.
 */
export function uncompiled<A extends object[], R extends tf.TensorContainer>(
  fn: (...args: A) => R,
  options: CompileOptions = {},
): Compiled<A, R> {
  const label = options.name ?? (fn.name || "function");
  let disposed = false;
  const run = async (...args: A): Promise<R> => {
    if (disposed) throw new TypeError(`compiled function "${label}": called after dispose()`);
    flattenArguments(label, args);
    const result = tf.tidy(() => {
      const { tensors, rebuild } = flattenResult(label, whileRecording(() => fn(...args)));
      return rebuild(tensors.map((tensor) => tensor.clone())); // the caller's, even if `fn` hands an argument back
    });
    await new Promise((resolve) => setTimeout(resolve));
    return result as R;
  };
  return Object.assign(run, {
    dispose: () => {
      disposed = true;
    },
    size: 0,
    compileSeconds: 0,
  });
}
