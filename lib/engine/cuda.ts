/** NVIDIA GPUs: whether there is a driver, what TensorFlow needs beside it, what to say where it is not used. @module */
import { dirname } from "node:path";
import { GPU_BYTES } from "./download.ts";

const FOLDERS = [
  "lib/x86_64-linux-gnu",
  "lib/aarch64-linux-gnu",
  "lib64",
  "lib/wsl/lib",
  "local/nvidia/lib64",
];
const DRIVER = ["/proc/driver/nvidia/version", ...FOLDERS.map((folder) => `/usr/${folder}/libcuda.so.1`)];

async function anyFile(paths: readonly string[]): Promise<boolean> {
  const present = paths.map((path) => Deno.stat(path).then((info) => info.isFile, () => false));
  return (await Promise.all(present)).includes(true);
}

/** cuSOLVER, where `tensorflow[and-cuda]` puts it: in a package beside TensorFlow's. */
async function cusolver(library: string): Promise<string | undefined> {
  const folder = `${dirname(library)}/../nvidia/cusolver/lib`;
  const files = await Array.fromAsync(Deno.readDir(folder)).catch(() => []);
  const file = files.find(({ name }) => /^libcusolver\.so\.\d+$/.test(name));
  return file && `${folder}/${file.name}`;
}

/**
 * Opens cuSOLVER before TensorFlow asks for it. `libtensorflow_framework.so.2` opens all of CUDA by name and knows, relative
 * to itself, in which packages to look; cuSOLVER's is written in `libtensorflow_cc.so.2` instead, where it has no
 * effect, and without one of them TensorFlow uses no GPU. A library that is open is found by its name.
 *
 * @param library Path of `libtensorflow_cc.so.2`.
 * @param signs Files of which any one tells of a driver.
 * @returns Its path. Undefined where there is no driver, or no cuSOLVER that can be opened.
 */
export async function openCusolver(library: string, signs = DRIVER): Promise<string | undefined> {
  const path = await anyFile(signs) ? await cusolver(library) : undefined;
  if (path === undefined) return undefined;
  try {
    Deno.dlopen(path, {});
    return path;
  } catch {
    return undefined; // TensorFlow will say so
  }
}

/**
 * What to say where an NVIDIA driver is present and the GPU is not used.
 *
 * @param library Path of `libtensorflow_cc.so.2`.
 * @param signs Files of which any one tells of a driver.
 */
export async function gpuOffer(library: string, signs = DRIVER): Promise<string | undefined> {
  if (!await anyFile(signs)) return undefined;
  if (await cusolver(library)) {
    return "an NVIDIA driver and TensorFlow's GPU build are here, the GPU is not used: with TF_CPP_MIN_LOG_LEVEL=0 in " +
      "the environment TensorFlow says why";
  }
  return "an NVIDIA driver is here, its GPU is not used: `deno task setup --gpu` fetches TensorFlow's GPU build " +
    `(${GPU_BYTES.bytes / 1e9} GB to download, ${GPU_BYTES.kept / 1e9} GB on disk)`;
}
