import { dirname } from "node:path";
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { gpuOffer, openCusolver } from "../../lib/engine/cuda.ts";
import { mainDevice } from "../../lib/engine/tensorflow.ts";
import { needs } from "../support/needs.ts";

const { ignore } = needs("proc");

/** The paths of the libraries that are open in this process. */
function openLibraries(): string[] {
  const lines = Deno.readTextFileSync("/proc/self/maps").split("\n");
  return [...new Set(lines.map((line) => line.slice(line.indexOf("/"))))].filter((path) =>
    /\.so(\.|$)/.test(path)
  );
}

/** The packages of `tensorflow[and-cuda]`, each an empty file but for cuSOLVER, which is any library that can be opened. */
async function sitePackages(): Promise<
  { folder: string; library: string; cusolver: string; driver: string }
> {
  const folder = await Deno.makeTempDir(), library = `${folder}/tensorflow/libtensorflow_cc.so.2`;
  await Deno.mkdir(`${folder}/tensorflow`);
  await Deno.writeTextFile(library, "");
  for (const name of ["cublas/lib/libcublas.so.12", "cusolver/lib/libcusolverMg.so.11"]) {
    await Deno.mkdir(`${folder}/nvidia/${dirname(name)}`, { recursive: true });
    await Deno.writeTextFile(`${folder}/nvidia/${name}`, "");
  }
  const cusolver = `${folder}/nvidia/cusolver/lib/libcusolver.so.11`, driver = `${folder}/libcuda.so.1`;
  await Deno.copyFile(openLibraries().find((path) => path.includes("libgcc_s"))!, cusolver);
  await Deno.writeTextFile(driver, "");
  return { folder, library, cusolver, driver };
}

Deno.test(
  "cuSOLVER beside TensorFlow is opened where there is a driver, and nothing else is",
  { ignore },
  async () => {
    const { folder, library, cusolver, driver } = await sitePackages();
    assertEquals(await openCusolver(library, ["/nowhere"]), undefined);
    assert(!openLibraries().some((path) => path.startsWith(folder)));
    const opened = await openCusolver(library, ["/nowhere", driver]);
    assertEquals(await Deno.realPath(opened!), cusolver);
    assertEquals(openLibraries().filter((path) => path.startsWith(folder)), [cusolver]);
    await Deno.remove(folder, { recursive: true });
  },
);

Deno.test("where there is no cuSOLVER, or a broken one, TensorFlow opens without", { ignore }, async () => {
  const { folder, library, cusolver, driver } = await sitePackages();
  await Deno.writeTextFile(cusolver, "no library");
  assertEquals(await openCusolver(library, [driver]), undefined);
  await Deno.remove(`${folder}/nvidia`, { recursive: true });
  assertEquals(await openCusolver(library, [driver]), undefined);
  await Deno.remove(folder, { recursive: true });
});

Deno.test(
  "where a driver is and the GPU is not used, what helps is said, and nowhere else",
  { ignore },
  async () => {
    const { folder, library, driver } = await sitePackages();
    assertEquals(await gpuOffer(library, ["/nowhere"]), undefined);
    assertStringIncludes((await gpuOffer(library, ["/nowhere", driver]))!, "with TF_CPP_MIN_LOG_LEVEL=0");
    await Deno.remove(`${folder}/nvidia`, { recursive: true });
    const offer = await gpuOffer(library, ["/nowhere", driver]);
    for (const part of ["deno task setup --gpu", "3.5 GB", "7.5 GB"]) assertStringIncludes(offer!, part);
    await Deno.remove(folder, { recursive: true });
  },
);

Deno.test("functions run on the first GPU, else on the processor", () => {
  const name = (device: string) => `/job:localhost/replica:0/task:0/device:${device}`;
  assertEquals(mainDevice([name("CPU:0")]), name("CPU:0"));
  assertEquals(mainDevice(["CPU:0", "GPU:0", "GPU:1"].map(name)), name("GPU:0"));
  assertEquals(mainDevice(["XLA_GPU:0", "XLA_CPU:0", "CPU:0"].map(name)), name("CPU:0"));
});
