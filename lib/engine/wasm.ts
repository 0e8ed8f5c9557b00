/** The WebAssembly engine: tfjs' own kernels, and matrix products that always take the fast ones. @module */
import * as tf from "@tensorflow/tfjs";

/** Sets the WebAssembly backend up as tfjs' backend "wasm". Its binary lies beside its JavaScript in the npm cache. */
export async function openWasm(): Promise<{ version: string; simd: boolean; threads: number }> {
  const wasm = await import("@tensorflow/tfjs-backend-wasm");
  await tf.setBackend("wasm");
  const simd = await tf.env().getAsync("WASM_HAS_SIMD_SUPPORT") as boolean;
  return { version: wasm.version_wasm, simd, threads: wasm.getThreadsCount() };
}
