import { assert, assertAlmostEquals, assertEquals, assertRejects } from "@std/assert";
import { collapse, Random, tf, trivialPredictors, useEngine } from "nepa";
import { eigenvalues } from "../../lib/eval/linalg.ts";
import { readSafetensors } from "../../lib/files/safetensors.ts";

await useEngine();

const fixtures = new URL("../fixtures/collapse/", import.meta.url);
const { tensors } = readSafetensors(Deno.readFileSync(new URL("embeddings.safetensors", fixtures)));
const expected = JSON.parse(Deno.readTextFileSync(new URL("expect.json", fixtures)));

function assertRelative(actual: number, wanted: number, tolerance: number, what: string): void {
  assertAlmostEquals(actual, wanted, Math.abs(wanted) * tolerance, `${what}: ${actual}, expected ${wanted}`);
}

function fixture(name: string): tf.Tensor2D {
  const { data, shape } = tensors.get(name)!;
  return tf.tensor2d(data as Float32Array, shape as [number, number]);
}

function normal(shape: number[], label: string): tf.Tensor {
  const random = new Random(0, label);
  return tf.tensor(
    Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => random.normal()),
    shape,
  );
}

for (const name of ["spread", "rank1", "near_rank1"]) {
  Deno.test(`collapse of the official embeddings "${name}" has the official figures`, async () => {
    const z = fixture(name), got = await collapse(z), want = expected[name];
    if (name === "rank1") assert(got.featureStd < 1e-6, `${got.featureStd}`);
    else assertRelative(got.featureStd, want.feature_std, 1e-6, "featureStd");
    assertRelative(got.effectiveRank, want.effective_rank, name === "rank1" ? 1e-5 : 1e-6, "effectiveRank");
    assertRelative(got.meanCosine, want.mean_pairwise_cosine, 1e-6, "meanCosine");
    assertEquals(got.collapsed, name !== "spread");
    z.dispose();
  });
}

Deno.test("collapse is flagged by rank as well as by spread", async () => {
  const line = Array.from({ length: 20 }, (_, i) => [i % 2 ? 1 : -1, 1e-9 * i]); // two opposite directions
  const got = await collapse(line);
  assertAlmostEquals(got.featureStd, Math.SQRT1_2, 1e-4);
  assert(got.effectiveRank < 1.5 && got.collapsed);
});

Deno.test("collapse resolves singular values that a float32 Gram matrix loses", async () => {
  // A common direction 10,000 times as long as 15 others: the rank is 1.02, and would be 1.09 from noise alone.
  const u = Array.from({ length: 16 }, (_, i) => i === 0 ? 1e4 : 1), sum = u.reduce((a, b) => a + b, 0);
  const rank = Math.exp(-u.reduce((h, s) => h + s / sum * Math.log(s / sum), 0));
  const z = tf.tidy(() => {
    const q = tf.linalg.qr(normal([600, 16], "left"))[0]!, v = tf.linalg.qr(normal([16, 16], "right"))[0]!;
    return tf.matMul(tf.mul(q, tf.tensor1d(u)), v) as tf.Tensor2D;
  });
  assertRelative((await collapse(z)).effectiveRank, rank, 1e-4, "effectiveRank");
  z.dispose();
});

Deno.test("collapse of zeros, and of fewer embeddings than dimensions, is finite", async () => {
  const zero = await collapse([[0, 0], [0, 0]]);
  assertEquals([zero.featureStd, zero.effectiveRank, zero.meanCosine, zero.collapsed], [0, 1, 0, true]);
  const few = await collapse([[1, 0, 0, 0], [0, 1, 0, 0]]);
  assertAlmostEquals(few.effectiveRank, 2, 1e-5);
  assertAlmostEquals(few.meanCosine, 0, 1e-6);
});

Deno.test("collapse refuses other shapes and numbers that are not finite", async () => {
  const cube = tf.zeros([2, 3, 4]);
  await assertRejects(
    () => collapse(cube),
    RangeError,
    "expected embeddings [n, D] with n >= 2, got [2,3,4]",
  );
  await assertRejects(() => collapse([[1, 2]]), RangeError, "n >= 2");
  await assertRejects(() => collapse([[1, NaN], [1, 2]]), RangeError, "NaN");
  cube.dispose();
});

Deno.test("collapse and the trivial predictors leave no tensors behind", async () => {
  const z = normal([8, 5, 6], "leak"), flat = z.reshape([40, 6]), before = tf.memory().numTensors;
  await collapse(flat);
  await trivialPredictors(z);
  await assertRejects(() => collapse([[1, NaN], [1, 2]]));
  assertEquals(tf.memory().numTensors, before);
  tf.dispose([z, flat]);
});

Deno.test("the trivial predictors are the mean cosines with their guesses, written out", async () => {
  const [images, tokens, size] = [7, 5, 3], z = normal([images, tokens, size], "trivial");
  const values = (z.arraySync() as number[][][]).map((image) =>
    image.slice(1).map((x) => x.map((v) => v / Math.hypot(...x))) // CLS left out, unit length
  );
  const dot = (a: number[], b: number[]) => a.reduce((s, v, i) => s + v * b[i]!, 0);
  const mean = (vectors: number[][]) =>
    vectors[0]!.map((_, i) => vectors.reduce((s, v) => s + v[i]!, 0) / vectors.length);
  const unit = (v: number[]) => v.map((x) => x / Math.hypot(...v));
  const average = (numbers: number[]) => numbers.reduce((a, b) => a + b, 0) / numbers.length;
  const all = unit(mean(values.flat())),
    at = values[0]!.map((_, t) => unit(mean(values.map((image) => image[t]!))));
  const got = await trivialPredictors(z);
  const previous = values.flatMap((image) => image.slice(1).map((x, t) => dot(x, image[t]!)));
  assertAlmostEquals(got.previousPatch, average(previous), 1e-6);
  assertAlmostEquals(got.meanDirection, average(values.flat().map((x) => dot(x, all))), 1e-6);
  assertAlmostEquals(
    got.meanDirectionPerPosition,
    average(values.flatMap((v) => v.map((x, t) => dot(x, at[t]!)))),
    1e-6,
  );
  z.dispose();
  const flat = tf.zeros([4, 3]);
  await assertRejects(() => trivialPredictors(flat), RangeError, "[B, T, D]");
  flat.dispose();
});

Deno.test("eigenvalues have the matrix's trace and determinant, and equal ones are found", () => {
  assertEquals([...eigenvalues(Float64Array.of(3, 0, 0, 0, 1, 0, 0, 0, 2), 3)].sort(), [1, 2, 3]);
  const n = 40,
    random = new Random(0, "eigen"),
    x = Float64Array.from({ length: n * n }, () => random.normal());
  const gram = new Float64Array(n * n);
  for (let i = 0; i < n; i++) {
    for (let j = 0; j < n; j++) for (let k = 0; k < n; k++) gram[i * n + j]! += x[i * n + k]! * x[j * n + k]!;
  }
  const trace = Array.from({ length: n }, (_, i) => gram[i * n + i]!).reduce((a, b) => a + b);
  const squares = gram.reduce((a, b) => a + b * b, 0), found = eigenvalues(gram.slice(), n);
  assertRelative(found.reduce((a, b) => a + b), trace, 1e-12, "trace");
  assertRelative(found.reduce((a, b) => a + b * b, 0), squares, 1e-12, "squares");
  const ones = eigenvalues(new Float64Array(25).fill(1), 5).sort();
  assertAlmostEquals(ones[4]!, 5, 1e-12);
  assertAlmostEquals(ones[0]!, 0, 1e-12);
});
