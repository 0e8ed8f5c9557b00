import * as tf from "@tensorflow/tfjs";
import {
  assert,
  assertEquals,
  assertRejects,
  assertStrictEquals,
  assertStringIncludes,
  assertThrows,
} from "@std/assert";
import { selfCheck } from "../../lib/engine/check.ts";
import { currentEngine, type EngineName, useEngine } from "../../lib/engine/mod.ts";
import { findAdapter } from "../../lib/engine/webgpu.ts";
import { inProcess, tensorflowLibrary } from "../support/in_process.ts";

const ADAPTER = await findAdapter();

Deno.test("before useEngine, currentEngine says what to write", () => {
  assertThrows(() => currentEngine(), Error, "await useEngine()");
});

for (const name of ["cpu", "wasm"] as const) {
  Deno.test(`useEngine("${name}") gives one engine, and it computes`, async () => {
    const engine = await useEngine(name);
    assertStrictEquals(await useEngine(name), engine);
    assertStrictEquals(currentEngine(), engine);
    assertEquals([engine.name, tf.getBackend(), engine.compiles], [name, name, false]);
    const product = tf.tidy(() => tf.matMul([[1, 2], [3, 4]], [[1], [1]]).arraySync());
    assertEquals(product, [[3], [7]]);
  });

  Deno.test(`on ${name} compile runs the function as it is, and the caller owns the result`, async () => {
    const engine = await useEngine(name);
    const x = tf.tensor1d([1, 2]), before = tf.memory().numTensors;
    const same = engine.compile((a: tf.Tensor1D) => ({ a, list: [a.add(1).mul(2)] }));
    const { a, list } = await same(x);
    assertEquals([...await list[0]!.data()], [4, 6]);
    tf.dispose([a, list]);
    assertEquals(tf.memory().numTensors, before);
    assertEquals([...await x.data()], [1, 2]);
    same.dispose();
    await assertRejects(() => same(x), Error, "after dispose()");
    x.dispose();
  });
}

Deno.test("auto takes what there is without TensorFlow, and says once what was passed over and what helps", async () => {
  const { stdout, stderr } = await inProcess(`
    const engine = await useEngine();
    console.log(engine.name, await useEngine() === engine, currentEngine() === engine, JSON.stringify(engine.notes));
    tf.matMul([[1]], [[1]]).print();`);
  const name = stderr.match(/^engine: (\w+) /)?.[1] ?? "none";
  assert(name === "wasm" || ADAPTER?.hardware && name === "webgpu", stderr);
  assertStringIncludes(stdout, `${name} true true `);
  for (const text of [stdout, stderr]) {
    assertEquals(
      text.match(/tensorflow was passed over: TensorFlow: NEPA_OFFLINE=1 forbids/g)?.length,
      1,
      text,
    );
    if (ADAPTER && !ADAPTER.hardware) {
      assertStringIncludes(text, `webgpu was passed over: ${ADAPTER.name} is software`);
    }
  }
});

Deno.test("an engine asked for by name that cannot be had is an error with the remedy; the one before stays", async () => {
  const { stdout, stderr } = await inProcess(`
    const before = await useEngine("cpu");
    await useEngine("tensorflow").catch((error) => console.log(error.name, error.message));
    console.log(currentEngine() === before, tf.getBackend());`);
  assertStringIncludes(
    stdout,
    "EngineUnavailableError TensorFlow: NEPA_OFFLINE=1 forbids the download: unset it",
  );
  assertStringIncludes(stdout, "true cpu");
  assertEquals(stderr, "");
});

Deno.test("a NEPA_TENSORFLOW that leads nowhere, or to no library, stops auto", async () => {
  const code =
    `await useEngine().catch((error) => console.log(error.message)); try { currentEngine() } catch { console.log("none") }`;
  const nowhere = await inProcess(code, { NEPA_TENSORFLOW: "/nowhere" });
  assertStringIncludes(nowhere.stdout, 'got "/nowhere". Correct it');
  assertStringIncludes(nowhere.stdout, "none");
  const folder = await Deno.makeTempDir();
  for (const name of ["libtensorflow_cc", "libtensorflow_framework"]) {
    await Deno.writeTextFile(
      `${folder}/${name}.${Deno.build.os === "darwin" ? "2.dylib" : "so.2"}`,
      "no library",
    );
  }
  const broken = await inProcess(code, { NEPA_TENSORFLOW: folder });
  assertStringIncludes(broken.stdout, folder);
  assertStringIncludes(broken.stdout, "none");
  await Deno.remove(folder, { recursive: true });
});

Deno.test("NEPA_ENGINE says what auto is; unknown names are refused", async () => {
  const code = `const engine = await useEngine().catch((error) => error); console.log(String(engine));`;
  const { stdout, stderr } = await inProcess(code, { NEPA_ENGINE: "cpu" });
  assertEquals([stdout, stderr], ["cpu 4.22 (javascript)\n", ""]);
  assertStringIncludes(
    (await inProcess(code, { NEPA_ENGINE: "abacus" })).stdout,
    'RangeError: engine: expected "auto"',
  );
  await assertRejects(() => useEngine("abacus" as EngineName), RangeError, 'got "abacus"');
});

Deno.test("auto is tensorflow where TensorFlow is, compiles, and says nothing when nobody watches", async () => {
  const { stdout, stderr } = await inProcess(
    `console.log(String(await useEngine()), tf.getBackend(), currentEngine().notes.join());`,
    { NEPA_TENSORFLOW: await tensorflowLibrary() },
  );
  assert(
    /^tensorflow 2\.21 \((cpu|gpu), compiled\) tensorflow TensorFlow 2\.21\.\d from NEPA_TENSORFLOW/.test(
      stdout,
    ),
    stdout,
  );
  assertEquals(stderr, "");
});

Deno.test({
  name: "webgpu computes by name on whatever adapter there is, and says what that is",
  ignore: !ADAPTER,
  async fn() {
    const { stdout, stderr } = await inProcess(`
      const engine = await useEngine("webgpu");
      const sum = tf.matMul([[1, 2]], [[3], [4]]);
      console.log(engine.name, engine.device, engine.compiles, (await sum.data())[0]);`);
    assertEquals(stdout, `webgpu ${ADAPTER!.name} false 11\n`, stderr);
  },
});

Deno.test("the self-check passes, and notices one wrong kernel", async () => {
  await useEngine("cpu");
  await selfCheck();
  const erf = tf.getKernel("Erf", "cpu");
  const wrong: tf.KernelFunc = ({ inputs, ...rest }) =>
    tf.getKernel("Tanh", "cpu").kernelFunc({ inputs, ...rest });
  tf.unregisterKernel("Erf", "cpu");
  tf.registerKernel({ ...erf, kernelFunc: wrong });
  try {
    await assertRejects(() => selfCheck(), Error, "self-check: expected 0.27591");
  } finally {
    tf.unregisterKernel("Erf", "cpu");
    tf.registerKernel(erf);
  }
});

Deno.test("describe measures, shows itself, leaves no tensor and the current engine in place", async () => {
  const wasm = await useEngine("wasm");
  await useEngine("cpu");
  const before = tf.memory().numTensors;
  const description = await wasm.describe();
  assertEquals([tf.getBackend(), tf.memory().numTensors], ["cpu", before]);
  assertEquals([description.name, description.version, description.threads], ["wasm", "4.22.0", 1]);
  assert(description.gflops > 0.1 && description.gflops < 1e4, String(description.gflops));
  assertStringIncludes(description.text, "wasm 4.22 (cpu, simd)\nversion 4.22.0, device cpu, 1 thread");
  assertEquals(Deno.inspect(description), description.text);
  const display = (description as unknown as Record<symbol, () => unknown>)[Symbol.for("Jupyter.display")]!;
  assertEquals(display(), { "text/plain": description.text });
  assertEquals(Deno.inspect(wasm), String(wasm));
});
