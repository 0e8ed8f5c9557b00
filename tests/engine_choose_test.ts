import * as tf from "@tensorflow/tfjs";
import { assertEquals, assertRejects, assertStrictEquals, assertThrows } from "@std/assert";
import { currentEngine, useEngine } from "../lib/engine/mod.ts";

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
