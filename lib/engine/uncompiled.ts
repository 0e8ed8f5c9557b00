/** `compile` where nothing compiles: the function is run as it is. @module */
import * as tf from "@tensorflow/tfjs";
import type { Compiled, CompileOptions } from "./types.ts";

/** Fresh tensors throughout, so that the caller owns what it gets even if `fn` hands an argument or a variable back. */
function owned<R extends tf.TensorContainer>(result: R): R {
  if (result instanceof tf.Tensor) return result.clone() as R;
  if (Array.isArray(result)) return result.map((item) => owned(item)) as unknown as R;
  if (result === null || typeof result !== "object") return result;
  return Object.fromEntries(
    Object.entries(result).map(([key, item]) => [key, owned(item as tf.TensorContainer)]),
  ) as R;
}

/**
 * Runs `fn` inside `tf.tidy`, then lets the event loop turn once (timers, progress, a Stop button), since the kernels
 * of these engines block it.
 *
 * @param fn A function of tensors.
 * @returns The function, with the same behaviour as a compiled one but for speed.
 */
export function uncompiled<A extends tf.Tensor[], R extends tf.TensorContainer>(
  fn: (...args: A) => R,
  options: CompileOptions = {},
): Compiled<A, R> {
  let disposed = false;
  const run = async (...args: A): Promise<R> => {
    if (disposed) {
      throw new Error(`${options.name ?? (fn.name || "compiled function")}: called after dispose()`);
    }
    const result = tf.tidy(() => owned(fn(...args)));
    await new Promise((resolve) => setTimeout(resolve));
    return result;
  };
  return Object.assign(run, {
    dispose: () => {
      disposed = true;
    },
    size: 0,
    compileSeconds: 0,
  });
}
