/**
 * The WebAssembly engine: tfjs' own kernels, but for those of `wasm_kernels.ts`, which work on the same memory.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";
import { borrowKernels } from "./wasm_borrowed.ts";
import { refuseCalls, replaceKernel } from "./kernels.ts";
import { KERNELS } from "./wasm_binary.ts";
import { type Kernels, REPLACEMENTS, type WasmHeap } from "./wasm_kernels.ts";

/** What is used of tfjs' WebAssembly backend. */
interface WasmBackend extends tf.KernelBackend {
  dataIdMap: { get(dataId: tf.DataId): { memoryOffset: number } };
  wasm: { asm: { memory: WebAssembly.Memory }; _malloc(bytes: number): number };
  makeOutput(shape: number[], dtype: tf.DataType): tf.TensorInfo;
}

async function heapOf(backend: WasmBackend): Promise<WasmHeap> {
  const { asm: { memory }, _malloc } = backend.wasm;
  const { instance } = await WebAssembly.instantiate(Uint8Array.fromBase64(KERNELS), { env: { memory } });
  const kernels = instance.exports as unknown as Kernels;
  return {
    kernels,
    scratch: _malloc(kernels.scratchBytes()),
    at: ({ dataId }) => backend.dataIdMap.get(dataId).memoryOffset,
    make: (shape, dtype) => backend.makeOutput(shape, dtype),
    share: ({ dataId, shape, dtype }) => {
      backend.incRef(dataId);
      return { dataId, shape, dtype };
    },
  };
}

/** Sets the WebAssembly backend up as tfjs' backend "wasm". Its binary lies beside its JavaScript in the npm cache. */
export async function openWasm(): Promise<{ version: string; simd: boolean; threads: number }> {
  const wasm = await import("@tensorflow/tfjs-backend-wasm");
  await tf.setBackend("wasm");
  borrowKernels();
  refuseCalls("wasm");
  const heap = await heapOf(tf.backend() as unknown as WasmBackend);
  for (const [kernelName, replacement] of Object.entries(REPLACEMENTS)) {
    replaceKernel(kernelName, "wasm", (own) => (args) => replacement(args, heap) ?? own.kernelFunc(args));
  }
  const simd = await tf.env().getAsync("WASM_HAS_SIMD_SUPPORT") as boolean;
  return { version: wasm.version_wasm, simd, threads: wasm.getThreadsCount() };
}
