/**
 * Replacing kernels of tfjs; those of its Node package that give something else on TensorFlow 2.21 than tfjs' own specs ask.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";
import type { Binding } from "./binding.ts";

/** Puts another kernel in the place of a registered one, which `make` gets to build upon. */
export function replaceKernel(
  name: string,
  backend: string,
  make: (own: tf.KernelConfig) => tf.KernelFunc,
): void {
  const own = tf.getKernel(name, backend);
  tf.unregisterKernel(name, backend);
  tf.registerKernel({ ...own, kernelFunc: make(own) });
}

/** Corrects the kernels of the backend "tensorflow". */
export function correctKernels(): void {
  // Theirs hands float32 over and says that it is what it was before: TensorFlow refuses that.
  replaceKernel("Mean", "tensorflow", (own) => (args) => {
    if (args.inputs.x!.dtype === "float32") return own.kernelFunc(args);
    const x = tf.cast(args.inputs.x as tf.Tensor, "float32");
    try {
      return own.kernelFunc({ ...args, inputs: { x } });
    } finally {
      x.dispose();
    }
  });
  // TensorFlow rounds integers to zero since 2.17: https://github.com/tensorflow/tensorflow/issues/74789.
  replaceKernel("Round", "tensorflow", (own) => (args) => {
    return (args.inputs.x!.dtype === "int32" ? tf.getKernel("Identity", "tensorflow") : own).kernelFunc(args);
  });
  // TensorFlow takes a space for an axis.
  replaceKernel("Einsum", "tensorflow", (own) => (args) => {
    return own.kernelFunc({
      ...args,
      attrs: { equation: (args.attrs!.equation as string).replaceAll(" ", "") },
    });
  });
  // Theirs reads the indices to check them, which have no values while a function is recorded. TensorFlow checks them too.
  replaceKernel("GatherV2", "tensorflow", (own) => (args) => {
    const { backend } = args as unknown as { backend: { binding: Binding } };
    const blind = backend.binding.recorder && Object.create(backend, { readSync: { value: () => [] } });
    return own.kernelFunc(blind ? { ...args, backend: blind } : args);
  });
}

/** Refuses, on the backends "cpu" and "wasm", what they get wrong. */
export function refuseCalls(backend: "cpu" | "wasm"): void {
  replaceKernel("StridedSlice", backend, (own) => (args) => {
    const { shrinkAxisMask, strides } = args.attrs as { shrinkAxisMask: number; strides: number[] };
    if (shrinkAxisMask !== 0 && strides.some((stride) => stride !== 1)) {
      throw new TypeError(
        `tf.stridedSlice on ${backend}: expected shrinkAxisMask = 0 with strides other than 1, got ${shrinkAxisMask}; ` +
          "drop the axes by tf.squeeze afterwards",
      );
    }
    return own.kernelFunc(args);
  });
  if (backend === "wasm") return;
  replaceKernel("BatchMatMul", backend, (own) => (args) => {
    const batches = [args.inputs.a!, args.inputs.b!].map(({ shape }) => shape.slice(0, -2));
    const count = tf.util.sizeFromShape(
      tf.broadcast_util.assertAndGetBroadcastShape(batches[0]!, batches[1]!),
    );
    if (batches.every((batch) => ![1, count].includes(tf.util.sizeFromShape(batch)))) {
      throw new TypeError(
        `tf.matMul on ${backend}: expected batches of which at most one is broadcast, got [${
          batches.join("] and [")
        }]; ` +
          "repeat one by tf.tile",
      );
    }
    return own.kernelFunc(args);
  });
}
