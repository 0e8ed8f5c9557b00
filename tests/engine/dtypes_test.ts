import { assert, assertAlmostEquals, assertEquals, assertLess, assertThrows } from "@std/assert";
import * as tf from "@tensorflow/tfjs";
import { useEngine } from "nepa";
import type { Binding } from "../../lib/engine/binding.ts";
import { ATTR, type Attribute, DTYPE } from "../../lib/engine/libtensorflow.ts";
import type { NodeBackend } from "../../lib/engine/tensorflow.ts";

const engine = await useEngine("tensorflow");
const backend = tf.backend() as NodeBackend & { binding: Binding };
const { binding } = backend;

/** Checks that `work` leaves no tensor, in tfjs or in TensorFlow. */
async function leavesNothing(work: () => Promise<void> | void): Promise<void> {
  const before = [tf.memory().numTensors, binding.getNumOfTensors()];
  await work();
  assertEquals([tf.memory().numTensors, binding.getNumOfTensors()], before);
}

const float = (name: string): Attribute => ({ name, type: ATTR.TYPE, value: DTYPE.FLOAT });
const texts = (tensor: tf.Tensor) => tensor.dataSync() as unknown as string[];

// The empty one and those of at most 22 bytes lie in TensorFlow's own record, longer ones elsewhere.
const WORDS = ["", "a", "x".repeat(22), "x".repeat(23), "naïve — 東京 🌲", "a\0b", "long ".repeat(1000)];

Deno.test("strings come back as they were, also through ops and from another engine", async () => {
  await leavesNothing(async () => {
    const words = tf.tensor2d(WORDS, [7, 1]), tiled = tf.tile(words, [1, 2]), equal = tf.equal(words, "a");
    assertEquals(texts(words), WORDS);
    assertEquals(texts(tiled), WORDS.flatMap((word) => [word, word]));
    assertEquals([...equal.dataSync()], [0, 1, 0, 0, 0, 0, 0]);
    await useEngine("cpu");
    const made = tf.tensor1d(WORDS);
    await useEngine("tensorflow");
    const moved = tf.concat([made, made]);
    assertEquals(texts(moved), [...WORDS, ...WORDS]);
    tf.dispose([words, tiled, equal, made, moved]);
  });
});

Deno.test("bytes that are no text, an empty tensor and a scalar of strings come back too", async () => {
  await leavesNothing(async () => {
    const bytes = [Uint8Array.of(255, 0, 128), Uint8Array.of()];
    const raw = tf.tensor1d(bytes as unknown as string[], "string"), joined = tf.concat([raw, raw]);
    assertEquals(await joined.bytes() as unknown, [...bytes, ...bytes]);
    const none = tf.tensor1d([], "string"),
      tiled = tf.tile(none, [2]),
      one = tf.scalar("one"),
      same = one.clone();
    assertEquals([texts(tiled), texts(same)], [[], ["one"]]);
    tf.dispose([raw, joined, none, tiled, one, same]);
  });
});

Deno.test("memory of strings is given back, what was made of them stays, and a failed op keeps nothing", async () => {
  const types = [["T", DTYPE.STRING], ["Tshape", DTYPE.INT32]] as const;
  const attributes = types.map(([name, value]) => ({ name, type: ATTR.TYPE, value }));
  const megabyte = new Uint8Array(1 << 20);
  const round = (k: number) => {
    megabyte.fill(k);
    const three = tf.tensor1d([3], "int32");
    const four = tf.tensor1d(Array<string>(4).fill(megabyte as unknown as string), "string");
    const shared = tf.reshape(four, [2, 2]), copied = tf.tile(shared, [2, 1]);
    assertThrows(() => backend.executeSingleOutput("Reshape", attributes, [four, three]), Error, "4 values");
    tf.dispose([three, four, shared]);
    if (k % 20 === 0) assertEquals((backend.readSync(copied.dataId) as unknown as Uint8Array[])[7], megabyte);
    copied.dispose();
  };
  await leavesNothing(() => {
    for (let k = 0; k < 20; k++) round(k);
    const { rss } = Deno.memoryUsage();
    for (let k = 0; k < 60; k++) round(k); // 240 MB go in, 480 MB are made of them
    assertLess(Deno.memoryUsage().rss - rss, 100e6);
  });
});

Deno.test("complex numbers come back as they were, also through ops and from another engine", async () => {
  await leavesNothing(async () => {
    const z = tf.complex([3, 0, -1], [4, 2, 0.5]);
    assertEquals([...z.dataSync()], [3, 4, 0, 2, -1, 0.5]);
    const size = tf.abs(z), product = tf.mul(z, z), there = tf.tidy(() => tf.ifft(tf.fft(z)));
    assertEquals([...size.dataSync()].slice(0, 2), [5, 2]);
    assertEquals([...product.dataSync()].slice(0, 4), [-7, 24, -4, 0]);
    there.dataSync().forEach((x, i) => assertAlmostEquals(x, [3, 4, 0, 2, -1, 0.5][i]!, 1e-6));
    await useEngine("cpu");
    const made = tf.complex([1, 2], [3, 4]);
    await useEngine("tensorflow");
    const imaginary = tf.imag(made);
    assertEquals([...imaginary.dataSync()], [3, 4]);
    tf.dispose([z, size, product, there, made, imaginary]);
  });
});

Deno.test("a resource is handed from op to op", async () => {
  await leavesNothing(() => {
    const named = { name: "shared_name", type: ATTR.STRING, value: "counter" };
    const shape = { name: "shape", type: ATTR.SHAPE, value: [2] };
    const variable = backend.executeSingleOutput("VarHandleOp", [float("dtype"), shape, named], []);
    const value = tf.tensor1d([3, 4]);
    binding.executeOp("AssignVariableOp", [float("dtype")], backend.getInputTensorIds([variable, value]));
    const read = backend.executeSingleOutput("ReadVariableOp", [float("dtype")], [variable]);
    assertEquals([...read.dataSync()], [3, 4]);
    assert((backend.readSync(variable.dataId) as unknown) instanceof Uint8Array);
    assertThrows(
      () => binding.createTensor([], DTYPE.RESOURCE, new Uint8Array(1)),
      TypeError,
      "not supported",
    );
    binding.executeOp("DestroyResourceOp", [], backend.getInputTensorIds([variable]));
    tf.dispose([variable, value, read]);
  });
});

Deno.test("integers of 64 bits are read as such", () => {
  const id = binding.createTensor([2], DTYPE.INT64, BigInt64Array.of(1n, -(2n ** 40n)));
  assertEquals(binding.tensorDataSync(id), BigInt64Array.of(1n, -(2n ** 40n)));
  binding.deleteTensor(id);
});

Deno.test("elements that do not fit the shape or the type are refused, and leave nothing", async () => {
  const two = [Uint8Array.of(1), Uint8Array.of(2)];
  await leavesNothing(() => {
    const refused = (shape: number[], dtype: number, values: unknown, message: string) =>
      assertThrows(() => binding.createTensor(shape, dtype, values as Uint8Array), RangeError, message);
    refused([3], DTYPE.STRING, two, "shape [3] needs 3 strings, each a Uint8Array, got 2 elements, 2 of");
    refused([2], DTYPE.STRING, [...two, "no bytes"], "got 3 elements, 2 of");
    refused([2], DTYPE.STRING, new Uint8Array(2), "needs 2 strings");
    refused([2], DTYPE.COMPLEX64, new Float32Array(2), "shape [2] needs 16 bytes, got 8");
    refused([2], DTYPE.FLOAT, two, "shape [2] needs 8 bytes, got 0");
  });
});

Deno.test("compiled: strings as constant, argument and captured tensor; complex numbers inside", async () => {
  await leavesNothing(async () => {
    const captured = tf.tensor1d(["left", "right"]);
    const which = engine.compile((word: tf.Tensor) => {
      const words = tf.concat([captured, tf.tensor1d(["a constant of more than 22 bytes"])]);
      return { words, equal: tf.equal(words, word) };
    }, { xla: false });
    const word = tf.scalar("right"), { words, equal } = await which(word);
    assertEquals(texts(words), ["left", "right", "a constant of more than 22 bytes"]);
    assertEquals([...equal.dataSync()], [0, 1, 0]);
    const power = engine.compile((x: tf.Tensor) => tf.square(tf.abs(tf.fft(tf.complex(x, tf.zerosLike(x))))));
    const x = tf.tensor1d([1, 2, 3, 4]), spectrum = await power(x);
    spectrum.dataSync().forEach((y, i) => assertAlmostEquals(y, [100, 8, 4, 8][i]!, 1e-4));
    tf.dispose([captured, word, words, equal, x, spectrum]);
    which.dispose();
    power.dispose();
    await new Promise((resolve) => setTimeout(resolve)); // they are forgotten after what was queued
  });
});

Deno.test("compiled: a resource may be closed over", async () => {
  const named = { name: "shared_name", type: ATTR.STRING, value: "closed over" };
  const shape = { name: "shape", type: ATTR.SHAPE, value: [] };
  const variable = backend.executeSingleOutput("VarHandleOp", [float("dtype"), shape, named], []);
  const isThere = engine.compile(
    () => backend.executeSingleOutput("VarIsInitializedOp", [], [variable]),
    { xla: false },
  );
  const before = await isThere(), value = tf.scalar(1);
  binding.executeOp("AssignVariableOp", [float("dtype")], backend.getInputTensorIds([variable, value]));
  const after = await isThere();
  assertEquals([before.dataSync()[0], after.dataSync()[0]], [0, 1]);
  binding.executeOp("DestroyResourceOp", [], backend.getInputTensorIds([variable]));
  isThere.dispose();
  tf.dispose([variable, before, value, after]);
});

Deno.test("integers and truth values have a mean, op by op and compiled, and integers round to themselves", async () => {
  await leavesNothing(async () => {
    const hits = tf.tensor2d([1, 0, 1, 1], [2, 2], "bool"), counts = tf.tensor1d([-7, 2, 12], "int32");
    const means = (hits: tf.Tensor, counts: tf.Tensor) => [tf.mean(hits), tf.mean(counts), tf.mean(hits, 0)];
    const compiled = engine.compile(means), got = await compiled(hits, counts), same = means(hits, counts);
    for (const [share, mean, columns] of [got, same]) {
      assertEquals(share!.dtype, "float32");
      assertEquals(share!.dataSync()[0], 0.75);
      assertAlmostEquals(mean!.dataSync()[0]!, 7 / 3, 1e-6);
      assertEquals([...columns!.dataSync()], [1, 0.5]);
    }
    const rounded = tf.round(counts);
    assertEquals([...rounded.dataSync()], [-7, 2, 12]);
    compiled.dispose();
    tf.dispose([hits, counts, got, same, rounded]);
  });
});

for (const dilations of [2, [1, 3]] as (number | [number, number])[]) {
  for (const pad of ["same", "valid"] as const) {
    Deno.test(`a depthwise convolution with dilations ${dilations}, ${pad}, is that of the cpu engine`, async () => {
      await leavesNothing(async () => {
        const numbers = (n: number) => Float32Array.from({ length: n }, (_, i) => Math.sin(i * i));
        const x = tf.tensor4d(numbers(2 * 9 * 8 * 3), [2, 9, 8, 3]);
        const filter = tf.tensor4d(numbers(3 * 2 * 3 * 2), [3, 2, 3, 2]);
        const run = () => tf.depthwiseConv2d(x, filter, 1, pad, "NHWC", dilations);
        const got = run(), values = await got.data();
        await useEngine("cpu");
        const expected = run(), wanted = await expected.data();
        await useEngine("tensorflow");
        assertEquals(got.shape, expected.shape);
        wanted.forEach((y, i) => assertAlmostEquals(values[i]!, y, 1e-5));
        tf.dispose([x, filter, got, expected]);
      });
    });
  }
}
