/** The WebGPU engine: tfjs' own kernels on the adapter that Deno gives. @module */
import * as tf from "@tensorflow/tfjs";

/** Adapters that compute on the processor after all. */
const SOFTWARE = /llvmpipe|lavapipe|swiftshader|basic render|software/i;

/** The adapter: its name, and whether there is hardware behind it. Undefined where there is none. */
export async function findAdapter(): Promise<{ name: string; hardware: boolean } | undefined> {
  const adapter = await navigator.gpu?.requestAdapter({ powerPreference: "high-performance" });
  if (!adapter) return undefined;
  const { description, vendor, architecture } = adapter.info,
    name = description || `${vendor} ${architecture}`.trim();
  const fallback = (adapter.info as { isFallbackAdapter?: boolean }).isFallbackAdapter === true;
  return { name: name || "unnamed adapter", hardware: !fallback && !SOFTWARE.test(name) };
}

/** Sets tfjs' backend "webgpu" up on that adapter. Values are read with `data()`: it has no `dataSync()` under Deno. */
export async function openWebGpu(): Promise<void> {
  await import("@tensorflow/tfjs-backend-webgpu");
  if (!await tf.setBackend("webgpu")) throw new Error("webgpu: the adapter gave no device");
}
