/** NVIDIA GPUs: whether there is a driver, what TensorFlow needs beside it, what to say where it is not used. @module */
import { GPU_BYTES } from "./download.ts";

const DRIVER = [
  "/proc/driver/nvidia/version",
  ...[
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/lib64",
    "/usr/lib/wsl/lib",
    "/usr/local/nvidia/lib64",
  ].map((folder) => `${folder}/libcuda.so.1`),
];

async function anyFile(paths: readonly string[]): Promise<boolean> {
  const present = paths.map((path) => Deno.stat(path).then((info) => info.isFile, () => false));
  return (await Promise.all(present)).includes(true);
}

/** cuSOLVER, where `tensorflow[and-cuda]` puts it: in a package beside TensorFlow's. */
async function cusolver(library: string): Promise<string | undefined> {
  const folder = `${library.slice(0, library.lastIndexOf("/"))}/../nvidia/cusolver/lib`;
  try {
    for await (const { name } of Deno.readDir(folder)) {
      if (/^libcusolver\.so\.\d+$/.test(name)) return `${folder}/${name}`;
    }
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  return undefined;
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
export async function openCusolver(
  library: string,
  signs: readonly string[] = DRIVER,
): Promise<string | undefined> {
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
export async function gpuOffer(
  library: string,
  signs: readonly string[] = DRIVER,
): Promise<string | undefined> {
  if (!await anyFile(signs)) return undefined;
  if (await cusolver(library)) {
    return "an NVIDIA driver and TensorFlow's GPU build are here, the GPU is not used: with TF_CPP_MIN_LOG_LEVEL=0 in " +
      "the environment TensorFlow says why";
  }
  return "an NVIDIA driver is here, its GPU is not used: `deno task setup --gpu` fetches TensorFlow's GPU build " +
    `(${GPU_BYTES.bytes / 1e9} GB to download, ${GPU_BYTES.kept / 1e9} GB on disk)`;
}
