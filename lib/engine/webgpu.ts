/** The WebGPU engine: tfjs' own kernels on the adapter that Deno gives. @module */
import * as tf from "@tensorflow/tfjs";
import { replaceKernel } from "./kernels.ts";

/** Adapters that compute on the processor after all. */
const SOFTWARE = /llvmpipe|lavapipe|swiftshader|basic render|software/i;

/** The adapter: its name, and whether there is hardware behind it. Undefined where there is none. */
export async function findAdapter(): Promise<{ name: string; hardware: boolean } | undefined> {
  // To look for OpenGL too, Deno would load Mesa's drivers with their LLVM for the whole process to see; TensorFlow,
  // which has an LLVM of its own, then takes that one's functions for its own, and crashes.
  if (Deno.build.os === "linux" && !Deno.env.get("DENO_WEBGPU_BACKEND")) {
    Deno.env.set("DENO_WEBGPU_BACKEND", "vulkan");
  }
  const adapter = await navigator.gpu?.requestAdapter({ powerPreference: "high-performance" });
  if (!adapter) return undefined;
  const { description, vendor, architecture } = adapter.info,
    name = description || `${vendor} ${architecture}`.trim();
  const fallback = (adapter.info as { isFallbackAdapter?: boolean }).isFallbackAdapter === true;
  return { name: name || "unnamed adapter", hardware: !fallback && !SOFTWARE.test(name) };
}

/** What of tfjs' backend is used here. */
interface WebGpuBackend extends tf.KernelBackend {
  readonly device: GPUDevice;
}

/** tfjs binds all terms of a sum at once. A shader has room for few buffers: more terms are added in groups. */
function groupedSum(own: tf.KernelConfig): tf.KernelFunc {
  return (args) => {
    const terms = args.inputs as unknown as tf.TensorInfo[], backend = args.backend as WebGpuBackend;
    const room = backend.device.limits.maxStorageBuffersPerShaderStage - 1; // one is the result's
    const add = (some: tf.TensorInfo[]) =>
      own.kernelFunc({ ...args, inputs: some as unknown as tf.NamedTensorInfoMap }) as tf.TensorInfo;
    let sum = add(terms.slice(0, room));
    for (let i = room; i < terms.length; i += room - 1) {
      const part = sum;
      sum = add([part, ...terms.slice(i, i + room - 1)]);
      backend.disposeData(part.dataId);
    }
    return sum;
  };
}

/** A program that the device refuses leaves its result as it was: that must not be read as if it were a result. */
function refuseAfterErrors(backend: WebGpuBackend): void {
  let failure: string | undefined;
  backend.device.addEventListener("uncapturederror", (event) => {
    failure ??= (event as GPUUncapturedErrorEvent).error.message;
  });
  const read = backend.read.bind(backend);
  backend.read = async (data: object) => {
    const values = await read(data), message = failure;
    failure = undefined;
    if (message !== undefined) throw new Error(`webgpu: ${message}`);
    return values;
  };
}

/** Sets tfjs' backend "webgpu" up on that adapter. Values are read with `data()`: it has no `dataSync()` under Deno. */
export async function openWebGpu(): Promise<void> {
  await import("@tensorflow/tfjs-backend-webgpu");
  if (!await tf.setBackend("webgpu")) throw new Error("webgpu: the adapter gave no device");
  replaceKernel("AddN", "webgpu", groupedSum);
  refuseAfterErrors(tf.backend() as WebGpuBackend);
}
