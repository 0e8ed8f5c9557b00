/**
 * The tensorflow engine: the kernels of `@tensorflow/tfjs-node-gpu` over TensorFlow's C library.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";
import util from "node:util";
import { Binding, type TensorMetadata } from "./binding.ts";
import { compileWith } from "./compile.ts";
import { cString, LibTensorFlow, type Pointer } from "./libtensorflow.ts";
import type { Compiled, CompileOptions } from "./types.ts";

/** What of the kernels' backend is used here. */
export interface NodeBackend extends tf.KernelBackend {
  readonly tensorMap: tf.DataStorage<{ id: number; shape: number[]; dtype: number; values: unknown }>;
  createOutputTensor(metadata: TensorMetadata): tf.Tensor;
  getInputTensorIds(tensors: readonly tf.Tensor[]): number[];
  executeSingleOutput(name: string, attributes: readonly unknown[], inputs: readonly tf.Tensor[]): tf.Tensor;
}

/** TensorFlow, opened and registered with tfjs as the backend "tensorflow". */
export class TensorFlow {
  readonly lib: LibTensorFlow;
  readonly binding: Binding;
  readonly backend: NodeBackend;
  #tail: Promise<unknown> = Promise.resolve();
  #functions = 0;

  constructor(lib: LibTensorFlow, binding: Binding, backend: NodeBackend) {
    this.lib = lib;
    this.binding = binding;
    this.backend = backend;
  }

  get version(): string {
    return this.lib.version;
  }

  /** "gpu" where TensorFlow sees one, else "cpu". */
  get device(): "cpu" | "gpu" {
    return this.binding.isUsingGpuDevice() ? "gpu" : "cpu";
  }

  /** See {@linkcode Engine.compile}. */
  compile<A extends tf.Tensor[], R extends tf.TensorContainer>(
    fn: (...args: A) => R,
    options: CompileOptions = {},
  ): Compiled<A, R> {
    return compileWith(this, fn, options);
  }

  /** A name that no function of this process has had. */
  functionName(label: string): string {
    return `${label.replaceAll(/[^A-Za-z0-9_]/g, "_")}_${this.#functions++}`;
  }

  /** Runs `work` when all that was queued before it is done: compiled calls never overlap. */
  queue<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#tail.then(work);
    this.#tail = result.catch(() => {});
    return result;
  }

  /** Executes an added function on a thread of its own; the event loop goes on. Gives its outputs' handles. */
  async execute(
    name: string,
    label: string,
    inputs: readonly number[],
    outputs: number,
    xla: boolean,
  ): Promise<Pointer[]> {
    const { c } = this.lib;
    const op = this.binding.newOp(name, [{ name: "_XlaMustCompile", type: 3, value: xla }], inputs);
    const status = c.TF_NewStatus()!,
      handles = new BigUint64Array(Math.max(1, outputs)),
      count = Int32Array.of(outputs);
    try {
      const device = this.lib.devices.find((d) => d.includes("device:GPU")) ?? this.lib.devices[0]!;
      this.lib.ok((s) => c.TFE_OpSetDevice(op, cString(device), s), label);
      await c.TFE_ExecuteOffThread(op, handles, count, status);
      this.lib.check(`compiled function "${label}"`, status);
      return Array.from(handles.subarray(0, count[0]!), (value) => Deno.UnsafePointer.create(value)!);
    } finally {
      c.TFE_DeleteOp(op);
      c.TF_DeleteStatus(status);
    }
  }
}

let opened: { library: string; engine: TensorFlow } | undefined;

/**
 * Opens the library and registers the backend "tensorflow" with tfjs, without making it the current one.
 *
 * @param library Path of `libtensorflow_cc.so.2`; `libtensorflow_framework.so.2` lies beside it.
 * @throws {TensorFlowError} If it cannot be opened, or another copy is open: there is one for each process.
 */
export async function openTensorFlow(library: string): Promise<TensorFlow> {
  if (opened) {
    if (opened.library !== library) {
      throw new TypeError(
        `TensorFlow: ${opened.library} is open in this process; restart it to use ${library}`,
      );
    }
    return opened.engine;
  }
  setDefault("TF_CPP_MIN_LOG_LEVEL", "2");
  setDefault("TF_FORCE_GPU_ALLOW_GROWTH", "true");
  // Keeps the memory of one step for the next: given back each time, its pages cost up to a third of a step.
  setDefault("TF_CPU_ALLOCATOR_USE_BFC", "true");
  const lib = new LibTensorFlow(library);
  // The kernels call two functions of node:util that newer runtimes dropped.
  const patched = util as unknown as Record<string, unknown>;
  patched.isNullOrUndefined ??= (value: unknown) => value === null || value === undefined;
  patched.isArray ??= Array.isArray;
  const { NodeJSKernelBackend } = await import("@tensorflow/tfjs-node-gpu/dist/nodejs_kernel_backend.js");
  const binding = new Binding(lib);
  const Backend = NodeJSKernelBackend as unknown as new (
    binding: Binding,
    packageName: string,
  ) => NodeBackend;
  const backend = new Backend(binding, "@tensorflow/tfjs-node-gpu");
  tf.registerBackend("tensorflow", () => backend, 3);
  await import("@tensorflow/tfjs-node-gpu/dist/register_all_kernels.js");
  opened = { library, engine: new TensorFlow(lib, binding, backend) };
  return opened.engine;
}

function setDefault(variable: string, value: string): void {
  if (Deno.env.get(variable) === undefined) Deno.env.set(variable, value);
}
