/**
 * The tensorflow engine: the kernels of `@tensorflow/tfjs-node-gpu` over TensorFlow's C library.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";
import util from "node:util";
import { Binding, type TensorMetadata } from "./binding.ts";
import { Clusters } from "./clusters.ts";
import { openCusolver } from "./cuda.ts";
import { keepCompiled, sealCompiled } from "./kept.ts";
import { correctKernels } from "./kernels.ts";
import {
  ATTR,
  type Attribute,
  cString,
  DTYPE,
  LibTensorFlow,
  type Pointer,
  pointers,
} from "./libtensorflow.ts";
import { setVariable } from "./libc.ts";
import type { Work } from "./record.ts";
import type { Box } from "./types.ts";

/** The device that functions run on, by its full name: the first of a kind, by default of GPUs, else the processor. */
export function mainDevice(devices: readonly string[], kind = "GPU"): string {
  const first = (kind: string) => devices.find((name) => name.includes(`/device:${kind}:`));
  return first(kind) ?? first("CPU")!;
}

/**
 * Parts of a batch that compiled functions compute side by side. An operation of a small network is too short to be divided
 * well among cores: two that have half of them each are done sooner than one after the other with all.
 */
const STREAMS = navigator.hardwareConcurrency > 1 ? 2 : 1;

/** What of the kernels' backend is used here. */
export interface NodeBackend extends tf.KernelBackend {
  readonly tensorMap: tf.DataStorage<{ id: number; shape: number[]; dtype: number; values: unknown }>;
  createOutputTensor(metadata: TensorMetadata): tf.Tensor;
  getInputTensorIds(tensors: readonly tf.Tensor[]): number[];
  executeSingleOutput(name: string, attributes: readonly unknown[], inputs: readonly tf.Tensor[]): tf.Tensor;
}

/** TensorFlow, opened and registered with tfjs as the backend "tensorflow". */
export class TensorFlow {
  readonly clusters: Clusters;
  #tail: Promise<unknown> = Promise.resolve();
  readonly #functions = new Map<string, number>();

  constructor(
    readonly lib: LibTensorFlow,
    readonly binding: Binding,
    readonly backend: NodeBackend,
    readonly kept: string | undefined,
  ) {
    this.clusters = new Clusters(lib);
  }

  /** Keeps the checksums of what XLA has compiled since. */
  sealCompiled(): void {
    if (this.kept) sealCompiled(this.kept);
  }

  /** "gpu" where TensorFlow sees one, else "cpu". */
  get device(): "cpu" | "gpu" {
    return this.binding.isUsingGpuDevice() ? "gpu" : "cpu";
  }

  /** See {@linkcode Engine.streams}. */
  streams(): number {
    return this.binding.recorder && this.device === "cpu" ? STREAMS : 1;
  }

  /** A name that no function of this process has had, and that the next process will give to the same one. */
  functionName(label: string): string {
    const stem = label.replaceAll(/[^A-Za-z0-9_]/g, "_"), count = this.#functions.get(stem) ?? 0;
    this.#functions.set(stem, count + 1);
    return `${stem}_${count}`;
  }

  /** Runs `work` when all that was queued before it is done: compiled calls never overlap. */
  queue<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#tail.then(work);
    this.#tail = result.catch(() => {});
    return result;
  }

  /** Executes an added function on a thread of its own; the event loop goes on. Gives its outputs' handles. */
  async execute(name: string, { label, xla }: Work, inputs: number[], outputs: number): Promise<Pointer[]> {
    const op = this.binding.newOp(name, [{ name: "_XlaMustCompile", type: ATTR.BOOL, value: xla }], inputs);
    return await this.#offThread(op, mainDevice(this.lib.devices), outputs, `compiled function "${label}"`);
  }

  /** See {@linkcode Engine.decodeJpeg}. */
  async decodeJpeg<T>(bytes: Uint8Array, box: Box, use: (pixels: Uint8Array) => T): Promise<T> {
    const attributes: Attribute[] = [
      { name: "channels", type: ATTR.INT, value: 3 },
      { name: "dct_method", type: ATTR.STRING, value: "INTEGER_ACCURATE" },
    ];
    const window = Int32Array.of(box.top, box.left, box.height, box.width), { binding } = this;
    const ids = [
      binding.createTensor([], DTYPE.STRING, [bytes]),
      binding.createTensor([4], DTYPE.INT32, window),
    ];
    try {
      const op = binding.newOp("DecodeAndCropJpeg", attributes, ids), { devices } = this.lib;
      const [handle] = await this.#offThread(op, mainDevice(devices, "CPU"), 1, "decoding a JPEG");
      ids.push(binding.adopt(handle!));
      return this.lib.look(handle!, use);
    } finally {
      ids.forEach((id) => binding.deleteTensor(id));
    }
  }

  /** Executes an op on a thread of its own and deletes it; gives its outputs' handles. */
  async #offThread(op: Pointer, device: string, outputs: number, what: string): Promise<Pointer[]> {
    const { c } = this.lib, status = c.TF_NewStatus()!;
    const handles = new BigUint64Array(Math.max(1, outputs)), count = Int32Array.of(outputs);
    try {
      this.lib.ok((s) => c.TFE_OpSetDevice(op, cString(device), s), what);
      await c.TFE_ExecuteOffThread(op, handles, count, status);
      this.lib.check(what, status);
      return pointers(handles, count);
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
 * @param python On Windows: path of Python's DLL, where it does not lie beside the library.
 * @throws {TensorFlowError} If it cannot be opened, or another copy is open: there is one for each process.
 */
export async function openTensorFlow(library: string, python?: string): Promise<TensorFlow> {
  if (opened?.library === library) return opened.engine;
  if (opened) {
    throw new TypeError(
      `TensorFlow: ${opened.library} is open in this process; restart it to use ${library}`,
    );
  }
  for (const [name, value] of Object.entries(Deno.env.toObject())) {
    if (/^(TF|XLA)_/.test(name)) setVariable(name, value); // what this process was told since it began
  }
  setDefault("TF_NUM_INTRAOP_THREADS", String(Math.ceil(navigator.hardwareConcurrency / STREAMS)));
  const flags = Deno.env.get("XLA_FLAGS");
  setFlags(withoutYnnpackSums(flags));
  const kept = await keepCompiled(library, Deno.env.toObject());
  setDefault("TF_CPP_MIN_LOG_LEVEL", "3"); // errors come as such; the log's would tell of every kept function
  setDefault("TF_FORCE_GPU_ALLOW_GROWTH", "true");
  // Without AVX-512 TensorFlow leaves oneDNN off, but its products are faster, and it keeps memory from step to step.
  setDefault("TF_ENABLE_ONEDNN_OPTS", "1");
  await openCusolver(library);
  const lib = new LibTensorFlow(library, python);
  if (!lib.version.startsWith("2.21.")) setFlags(flags); // an option that it does not know would end the process
  // The kernels call two functions of node:util that newer runtimes dropped.
  const patched = util as unknown as Record<string, unknown>;
  patched.isNullOrUndefined ??= (value: unknown) => value === null || value === undefined;
  patched.isArray ??= Array.isArray;
  const { NodeJSKernelBackend } = await import("@tensorflow/tfjs-node-gpu/dist/nodejs_kernel_backend.js");
  const binding = new Binding(lib);
  const Backend = NodeJSKernelBackend as unknown as new (binding: Binding, name: string) => NodeBackend;
  const backend = new Backend(binding, "@tensorflow/tfjs-node-gpu");
  tf.registerBackend("tensorflow", () => backend, 3);
  await import("@tensorflow/tfjs-node-gpu/dist/register_all_kernels.js");
  correctKernels();
  opened = { library, engine: new TensorFlow(lib, binding, backend, kept) };
  return opened.engine;
}

/**
 * XLA's flags, with those that have it write the code of sums itself. In 2.21 it builds what YNNPACK needs for a sum when the
 * sum first runs, into a list without a lock (later versions have one): two streams that come to the same sum at once can
 * crash the process. A user's own choice stays, and so does a file's name.
 */
function withoutYnnpackSums(flags = ""): string {
  const option = "--xla_cpu_experimental_ynn_fusion_type", isFile = /^\s*[^-\s]/.test(flags);
  return isFile || flags.includes(option) ? flags : `${flags} ${option}=-reduce`.trim();
}

/** XLA reads them when it first compiles. */
const setFlags = (flags: string | undefined): void => setVariable("XLA_FLAGS", flags);

function setDefault(variable: string, value: string): void {
  if (Deno.env.get(variable) === undefined) setVariable(variable, value);
}
