import { assert, assertEquals, assertRejects } from "@std/assert";
import * as tf from "@tensorflow/tfjs";
import { useEngine } from "nepa";
import { findAdapter } from "../../lib/engine/webgpu.ts";

const ignore = !await findAdapter();

Deno.test("webgpu adds any number of terms", { ignore }, async () => {
  await useEngine("webgpu");
  for (const count of [1, 2, 7, 8, 13, 14, 100]) {
    const terms = Array.from({ length: count }, (_, i) => tf.fill([3], i + 1)), before = tf.memory();
    const sum = tf.addN(terms);
    assertEquals([...await sum.data()], Array(3).fill(count * (count + 1) / 2));
    sum.dispose();
    assertEquals([tf.memory().numTensors, tf.memory().numDataBuffers], [
      before.numTensors,
      before.numDataBuffers,
    ]);
    tf.dispose(terms);
  }
});

Deno.test("on webgpu, what the device refused is not read as a result", { ignore }, async () => {
  await useEngine("webgpu");
  const { device } = tf.backend() as unknown as { device: GPUDevice }, x = tf.ones([10_000]), y = tf.neg(x);
  device.createShaderModule({ code: "no shader" });
  await assertRejects(() => y.data(), Error, "webgpu: ");
  assertEquals((await y.data()).every((value) => value === -1), true);
  tf.dispose([x, y]);
});

Deno.test("tensorflow compiles in a process that has opened webgpu, and both go on", { ignore }, async () => {
  const double = (x: tf.Tensor) => tf.add(x, x), x = tf.tensor1d([1, 2]);
  for (const name of ["webgpu", "tensorflow", "webgpu", "tensorflow"] as const) {
    const compiled = (await useEngine(name)).compile(double), y = await compiled(x);
    assertEquals([...await y.data()], [2, 4], name);
    assert(tf.getBackend() === name);
    y.dispose();
    compiled.dispose();
  }
  x.dispose();
});
