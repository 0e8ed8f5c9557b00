import * as tf from "@tensorflow/tfjs";
import { assert, assertEquals, assertThrows } from "@std/assert";
import { Random, useEngine } from "../../mod.ts";

type Shape = number[];

function values(shape: Shape, label: string): Float32Array {
  const random = new Random(0, label);
  return Float32Array.from({ length: tf.util.sizeFromShape(shape) }, () => random.normal());
}

/** The value of `f` and its gradients for a fixed direction, on an engine. */
async function valueAndGradients(
  engine: "cpu" | "wasm",
  shapes: Shape[],
  f: (...x: tf.Tensor[]) => tf.Tensor,
) {
  await useEngine(engine);
  const results = tf.tidy(() => {
    const inputs = shapes.map((shape, i) => tf.tensor(values(shape, `input ${i}`), shape));
    const value = f(...inputs);
    const direction = tf.tensor(values(value.shape, "direction"), value.shape);
    return [value, ...tf.grads((...x: tf.Tensor[]) => f(...x))(inputs, direction)];
  });
  const read = await Promise.all(results.map(async (x) => ({ shape: x.shape, values: [...await x.data()] })));
  tf.dispose(results);
  return read;
}

async function assertSame(shapes: Shape[], f: (...x: tf.Tensor[]) => tf.Tensor, tolerance: number) {
  const expected = await valueAndGradients("cpu", shapes, f),
    actual = await valueAndGradients("wasm", shapes, f);
  for (const [i, { shape, values }] of expected.entries()) {
    assertEquals(actual[i]!.shape, shape);
    const scale = values.reduce((most, x) => Math.max(most, Math.abs(x)), 1e-3);
    const worst = values.reduce((most, x, j) => Math.max(most, Math.abs(x - actual[i]!.values[j]!)), 0);
    assert(
      worst <= tolerance * scale,
      `result ${i} of ${JSON.stringify(shapes)}: off by ${worst} of ${scale}`,
    );
  }
}

const batches: [string, Shape, Shape][] = [
  ["one matrix", [], []],
  ["a batch of 1", [1], [1]],
  ["a batch", [5], [5]],
  ["two batch dimensions", [2, 3], [2, 3]],
];

for (const [name, aBatch, bBatch] of batches) {
  for (const transposeA of [false, true]) {
    for (const transposeB of [false, true]) {
      Deno.test(`matMul on wasm: ${name}, transposed: a ${transposeA}, b ${transposeB}, with gradients`, async () => {
        const a = [...aBatch, ...transposeA ? [7, 33] : [33, 7]],
          b = [...bBatch, ...transposeB ? [18, 7] : [7, 18]];
        await assertSame([a, b], (a, b) => tf.matMul(a!, b!, transposeA, transposeB), 1e-6);
      });
    }
  }
}

for (
  const [transposeA, transposeB] of [[false, false], [true, false], [true, true]] as [boolean, boolean][]
) {
  Deno.test(`matMul on wasm: a long sum, transposed: a ${transposeA}, b ${transposeB}, does not drift`, async () => {
    const k = 25088, m = 5, n = 3;
    const a = values([m, k], "a").map(Math.abs), b = values([n, k], "b").map(Math.abs); // rows along k
    const expected = Array.from({ length: m * n }, (_, at) => {
      let sum = 0;
      for (let i = 0; i < k; i++) sum += a[Math.floor(at / n) * k + i]! * b[at % n * k + i]!;
      return sum;
    });
    await useEngine("wasm");
    const product = tf.tidy(() => {
      const [rows, others] = [tf.tensor2d(a, [m, k]), tf.tensor2d(b, [n, k])];
      const left = transposeA ? tf.transpose(rows) : rows, right = transposeB ? others : tf.transpose(others);
      return tf.matMul(left, right, transposeA, transposeB);
    });
    for (const [i, value] of (await product.data()).entries()) {
      assert(Math.abs(value / expected[i]! - 1) < 1e-6, `${value} for ${expected[i]}`);
    }
    product.dispose();
  });
}

Deno.test("matMul on wasm: sizes on both sides of every block's edge, against float64", async () => {
  await useEngine("wasm");
  const sizes = [
    [1, 1, 1],
    [2, 3, 5],
    [4, 8, 4],
    [5, 9, 3],
    [3, 7, 257],
    [64, 8, 256],
    [65, 257, 2],
    [68, 264, 260],
    [7, 255, 513],
  ] as [number, number, number][];
  for (const [m, n, k] of sizes) {
    const a = values([m, k], "a"), b = values([k, n], "b");
    const product = tf.tidy(() => tf.matMul(tf.tensor2d(a, [m, k]), tf.tensor2d(b, [k, n])));
    const actual = await product.data();
    product.dispose();
    for (let i = 0; i < m * n; i++) {
      let sum = 0, size = 0;
      for (let j = 0; j < k; j++) {
        const term = a[Math.floor(i / n) * k + j]! * b[j * n + i % n]!;
        sum += term;
        size += Math.abs(term);
      }
      assert(
        Math.abs(actual[i]! - sum) <= 1e-6 * size,
        `[${m}, ${k}] x [${k}, ${n}], ${i}: ${actual[i]} for ${sum}`,
      );
    }
  }
});

Deno.test("matMul on wasm: the same operands give the same bits", async () => {
  await useEngine("wasm");
  const [a, b] = [tf.tensor(values([65, 300], "a"), [65, 300]), tf.tensor(values([300, 33], "b"), [300, 33])];
  const product = () => tf.tidy(() => tf.matMul(a, b).dataSync());
  const first = product();
  for (let i = 0; i < 50; i++) assertEquals(product(), first);
  tf.dispose([a, b]);
});

Deno.test("matMul on wasm: batches that broadcast, against products and sums", async () => {
  await useEngine("wasm");
  for (
    const [aShape, bShape] of [
      [[4, 3, 2], [2, 5]],
      [[3, 2], [4, 2, 5]],
      [[2, 1, 3, 2], [1, 3, 2, 5]],
      [[2, 3, 3, 2], [3, 2, 5]],
    ] as [Shape, Shape][]
  ) {
    tf.tidy(() => {
      const a = tf.tensor(values(aShape, "a"), aShape), b = tf.tensor(values(bShape, "b"), bShape);
      const expected = a.expandDims(-1).mul(b.expandDims(-3)).sum(-2); // [.., M, K, 1] * [.., 1, K, N]
      const actual = tf.matMul(a, b);
      assertEquals(actual.shape, expected.shape);
      assert(actual.sub(expected).abs().max().arraySync() as number < 1e-6);
    });
  }
});

Deno.test("matMul on wasm: nothing to add up gives zeros, no rows give none, other dtypes are refused", async () => {
  await useEngine("wasm");
  tf.tidy(() => {
    assertEquals(tf.matMul(tf.zeros([2, 0]), tf.zeros([0, 2])).arraySync(), [[0, 0], [0, 0]]);
    assertEquals(tf.matMul(tf.zeros([0, 2]), tf.zeros([2, 3])).shape, [0, 3]);
    assertThrows(
      () => tf.matMul(tf.ones([2, 2], "int32"), tf.ones([2, 2], "int32")),
      TypeError,
      "expected float32",
    );
  });
});

Deno.test("matMul on wasm: NaN and infinity come through", async () => {
  await useEngine("wasm");
  const product = tf.tidy(() => tf.matMul([[NaN, 1], [Infinity, 1], [1, 1]], [[1, 2], [3, 4]]));
  assertEquals([...await product.data()], [NaN, NaN, Infinity, Infinity, 4, 6]);
  product.dispose();
});

for (
  const [shape, perm] of [
    [[2, 3, 4, 5, 6], [0, 1, 3, 2, 4]],
    [[2, 3, 4, 5, 6], [4, 2, 0, 3, 1]],
    [[1, 3, 1, 4, 2], [3, 0, 4, 2, 1]],
    [[3, 1, 2], [1, 0, 2]],
    [[4, 5], [1, 0]],
    [[2, 3, 2, 3, 2, 3], [0, 3, 4, 1, 5, 2]],
    [[5], [0]],
    [[1, 1], [1, 0]],
    [[3, 0, 2], [2, 0, 1]],
    [[37, 70], [1, 0]],
    [[2, 4, 9, 5], [0, 2, 1, 3]],
    [[3, 300, 2], [0, 2, 1]],
    [[2, 3, 300], [1, 0, 2]],
  ] as [Shape, number[]][]
) {
  Deno.test(`transpose on wasm: ${shape} by ${perm}, with its gradient`, async () => {
    await assertSame([shape], (x) => tf.transpose(x!, perm), 0);
  });
}

const rowOps: [string, Shape[], (...x: tf.Tensor[]) => tf.Tensor][] = [
  ["split, short rows, the last axis", [[3, 2, 6]], (x) => tf.stack(tf.split(x!, 2, -1)).square()],
  [
    "split, long rows, the first axis",
    [[4, 100]],
    (x) => tf.concat(tf.split(x!, [1, 3], 0).toReversed(), 0).exp(),
  ],
  ["split, unequal parts in the middle", [[2, 5, 3]], (x) => tf.split(x!, [2, 0, 3], 1)[2]!.square()],
  ["concat, short rows", [[3, 2], [3, 5]], (a, b) => tf.concat([a!, b!], -1).square()],
  ["concat, long rows, three parts", [[2, 70], [1, 70], [3, 70]], (...x) => tf.concat(x, 0).square()],
  ["concat, one part empty", [[2, 3], [2, 0]], (a, b) => tf.concat([a!, b!], 1).square()],
  ["tile of one number", [[1]], (x) => tf.tile(x!.square(), [300])],
  ["tile along the middle", [[2, 3, 2]], (x) => tf.tile(x!.square(), [1, 4, 1])],
  ["tile along all", [[2, 3]], (x) => tf.tile(x!.square(), [2, 3])],
  ["sum over the first axis", [[7, 33]], (x) => tf.sum(x!.square(), 0)],
  ["sum over the first two", [[3, 4, 9]], (x) => tf.sum(x!.square(), [1, 0], true)],
  ["sum over the last two, keeping them", [[3, 2, 5]], (x) => tf.sum(x!.square(), [1, 2], true)],
  ["sum over the middle", [[3, 4, 5]], (x) => tf.sum(x!.square(), 1)],
  ["sum over the first and the last", [[3, 4, 5]], (x) => tf.sum(x!.square(), [0, 2])],
  ["sum of a number", [[]], (x) => tf.sum(x!.square())],
  ["sum over nothing", [[0, 3]], (x) => tf.sum(x!, 0)],
  ["mean over the first", [[5, 2, 3]], (x) => tf.mean(x!.square(), 0)],
  ["mean over the last, keeping it", [[2, 3, 7]], (x) => tf.mean(x!.square(), -1, true)],
  ["mean over all", [[2, 3, 7, 2]], (x) => tf.mean(x!.square())],
  ["mean over the middle", [[2, 3, 7]], (x) => tf.mean(x!.square(), 1)],
  ["concat, rows of 3, 16 and 300", [[2, 3], [2, 16], [2, 300]], (...x) => tf.concat(x, 1).square()],
  ["tile, no times", [[2, 3]], (x) => tf.tile(x!.square(), [1, 0])],
  ["tile of a long row", [[1, 300]], (x) => tf.tile(x!.square(), [3, 1])],
  ["exp", [[3, 5]], (x) => tf.exp(x!)],
  ["erf", [[3, 5]], (x) => tf.erf(x!)],
  ["a copy, and a cast to the same type", [[3, 5]], (x) => tf.cast(tf.clone(x!), "float32").square()],
  ["sum over the last, and over all", [[3, 4, 9]], (x) => tf.sum(x!, -1).square().add(tf.sum(x!))],
];

for (const [name, shapes, f] of rowOps) {
  Deno.test(`${name}, on wasm, with its gradient`, async () => {
    await assertSame(shapes, f, 1e-6);
  });
}

Deno.test("rows of integers and of truth values keep every bit on wasm", async () => {
  await useEngine("wasm");
  tf.tidy(() => {
    const numbers = tf.tensor2d([[0x7f800001, -1, 3], [4, 5, 6]], [2, 3], "int32"); // the first is a NaN to a float
    assertEquals(tf.concat(tf.split(numbers, 3, 1), 1).arraySync(), [[0x7f800001, -1, 3], [4, 5, 6]]);
    assertEquals(tf.tile(numbers, [1, 2]).arraySync()[0], [0x7f800001, -1, 3, 0x7f800001, -1, 3]);
    const flags = tf.tensor2d([[1, 0, 0], [0, 1, 0]], [2, 3], "bool");
    assertEquals([...tf.concat(tf.split(flags, 3, 1).toReversed(), 1).dataSync()], [0, 0, 1, 0, 1, 0]);
    assertEquals([...tf.tile(flags, [1, 2]).dataSync()], [1, 0, 0, 1, 0, 0, 0, 1, 0, 0, 1, 0]);
    assertEquals([...tf.transpose(flags).dataSync()], [1, 0, 0, 1, 0, 0]);
    assertEquals([...tf.transpose(flags.reshape([2, 1, 3, 1]), [1, 0, 2, 3]).dataSync()], [1, 0, 0, 0, 1, 0]);
    assertEquals(tf.transpose(numbers).arraySync(), [[0x7f800001, 4], [-1, 5], [3, 6]]);
    assertEquals([...tf.cast(flags, "float32").dataSync()], [1, 0, 0, 0, 1, 0]);
    assertEquals(tf.sum(numbers, 0).arraySync(), [0x7f800001 + 4, 4, 9]);
  });
});

/** In float64: a series, or 1 less a continued fraction. */
function erf(x: number): number {
  const size = Math.abs(x);
  if (size < 2.5) {
    let term = x, sum = x;
    for (let n = 1; n < 60; n++) sum += (term *= -x * x / n) / (2 * n + 1);
    return 2 / Math.sqrt(Math.PI) * sum;
  }
  let fraction = 0;
  for (let n = 60; n > 0; n--) fraction = n / 2 / (size + fraction);
  return Math.sign(x) * (1 - Math.exp(-x * x) / Math.sqrt(Math.PI) / (size + fraction));
}

for (
  const [name, f, expected, limit, ulps] of [
    ["exp", tf.exp, Math.exp, 87, 1.01],
    ["erf", tf.erf, erf, 6, 2],
  ] as [string, (x: tf.Tensor) => tf.Tensor, (x: number) => number, number, number][]
) {
  Deno.test(`${name} on wasm is within ${ulps} units in the last place`, async () => {
    await useEngine("wasm");
    const random = new Random(0, name);
    const x = Float32Array.from(
      { length: 40_001 },
      (_, i) => i % 2 ? random.uniform(-limit, limit) : random.normal(),
    );
    const y = tf.tidy(() => f(tf.tensor1d(x)).dataSync());
    for (const [i, at] of x.entries()) {
      const value = expected(at), ulp = 2 ** (Math.floor(Math.log2(Math.abs(value))) - 23);
      assert(Math.abs(y[i]! - value) <= ulps * ulp, `${name}(${at}) = ${y[i]}, expected ${value}`);
    }
  });

  Deno.test(`${name} on wasm: what is not an ordinary number, and every remainder of a length`, async () => {
    await useEngine("wasm");
    const odd = [NaN, Infinity, -Infinity, 0, -0, 200, -200];
    for (let n = 0; n <= 9; n++) {
      const x = Array.from({ length: n }, (_, i) => odd[(i + n) % odd.length]!);
      const y = tf.tidy(() => [...f(tf.tensor1d(x)).dataSync()]);
      assertEquals(
        y,
        x.map((x) => Math.fround(name === "erf" && Math.abs(x) >= 200 ? Math.sign(x) : expected(x))),
      );
    }
  });
}

Deno.test("parts that do not fit together are refused on wasm", async () => {
  await useEngine("wasm");
  tf.tidy(() => {
    assertThrows(() => tf.concat([tf.zeros([2, 3]), tf.zeros([3, 3])], 1), Error, "does not match");
    assertThrows(() => tf.split(tf.zeros([5, 2]), 2), Error);
  });
});

Deno.test("the kernels on wasm leave nothing behind, neither tensors nor memory", async () => {
  await useEngine("wasm");
  const a = tf.ones([8, 64, 512]), b = tf.ones([8, 64, 512]); // 1 MB each
  const [long, other] = [a, b].map((x) => x.reshape([4096, 64]));
  const step = () =>
    tf.dispose(tf.tidy(() => [
      tf.matMul(a, b, true),
      tf.matMul(a, b, false, true),
      tf.matMul(long!, other!, true),
      tf.matMul(tf.transpose(long!), tf.transpose(other!), false, true),
      tf.concat(tf.split(a, 2, 2), 2),
      tf.tile(tf.sum(a, [0, 1], true), [8, 1, 1]),
    ]));
  const backend = tf.backend() as unknown as { wasm: { HEAPU8: Uint8Array }; numDataIds(): number };
  const state = () => [
    tf.memory().numTensors,
    tf.memory().numDataBuffers,
    backend.numDataIds(),
    backend.wasm.HEAPU8.length,
  ];
  for (let i = 0; i < 5; i++) step();
  const before = state();
  for (let i = 0; i < 40; i++) step();
  assertEquals(state(), before);
  tf.dispose([a, b, long!, other!]);
});

Deno.test("a copy on wasm lives on without its original", async () => {
  await useEngine("wasm");
  const before = tf.memory(), x = tf.tensor1d([1, 2, 3]), copy = tf.clone(x), cast = tf.cast(copy, "float32");
  x.dispose();
  copy.dispose();
  assertEquals([...await cast.data()], [1, 2, 3]);
  cast.dispose();
  const { numTensors, numDataBuffers, numBytes } = tf.memory();
  assertEquals([numTensors, numDataBuffers, numBytes], [
    before.numTensors,
    before.numDataBuffers,
    before.numBytes,
  ]);
});
