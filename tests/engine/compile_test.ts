import { assert, assertAlmostEquals, assertEquals, assertRejects, assertThrows } from "@std/assert";
import * as tf from "@tensorflow/tfjs";
import { useEngine } from "nepa";
import { largestDifference, normal, variable } from "../support/tensors.ts";

const engine = await useEngine("tensorflow");

/** Runs `step` compiled and as it is from the same variables; gives the largest difference of results and variables. */
async function compare(
  step: (...args: tf.Tensor[]) => tf.Tensor,
  variables: tf.Variable[],
  args: (k: number) => tf.Tensor[],
  steps: number,
): Promise<number> {
  const compiled = engine.compile(step);
  const start = variables.map((v) => v.clone());
  const expected: tf.Tensor[] = [];
  for (let k = 0; k < steps; k++) {
    const inputs = args(k);
    expected.push(tf.tidy(() => step(...inputs)));
    tf.dispose(inputs);
  }
  const ends = variables.map((v) => v.clone());
  variables.forEach((v, i) => v.assign(start[i]!));
  let worst = 0;
  for (let k = 0; k < steps; k++) {
    const inputs = args(k), got = await compiled(...inputs);
    worst = Math.max(worst, largestDifference(got, expected[k]!));
    tf.dispose([inputs, got]);
  }
  worst = Math.max(worst, ...variables.map((v, i) => largestDifference(v, ends[i]!)));
  assertEquals(compiled.size, 1);
  compiled.dispose();
  tf.dispose([start, expected, ends]);
  return worst;
}

function sgd(loss: () => tf.Scalar, variables: tf.Variable[], rate: tf.Tensor): tf.Scalar {
  const { value, grads } = tf.variableGrads(loss, variables);
  for (const v of variables) v.assign(tf.sub(v, tf.mul(grads[v.name]!, rate)));
  return value;
}

Deno.test("a compiled MLP trains like the same one uncompiled", async () => {
  const before = tf.memory().numTensors;
  const w1 = variable([6, 8], "w1"), b1 = variable([8], "b1"), w2 = variable([8, 3], "w2");
  const all = [w1, b1, w2];
  const step = (x: tf.Tensor, y: tf.Tensor, rate: tf.Tensor) =>
    sgd(
      () => {
        const hidden = tf.tanh(tf.add(tf.matMul(x as tf.Tensor2D, w1 as tf.Tensor2D), b1));
        const logits = tf.matMul(hidden as tf.Tensor2D, w2 as tf.Tensor2D);
        return tf.neg(tf.mean(tf.sum(tf.mul(tf.logSoftmax(logits), y), -1)));
      },
      all,
      rate,
    );
  const args = (k: number) => {
    const x = normal([5, 6], `x${k}`);
    const y = tf.tidy(() => tf.cast(tf.oneHot(tf.tensor1d([0, 1, 2, k % 3, 1], "int32"), 3), "float32"));
    return [x, y, tf.scalar(0.1 / (k + 1))];
  };
  assert(await compare(step, all, args, 6) < 1e-6);
  tf.dispose(all);
  assertEquals(tf.memory().numTensors, before);
});

Deno.test("a compiled CNN trains like the same one uncompiled", async () => {
  const filters = variable([3, 3, 1, 4], "filters"),
    dense = variable([36, 2], "dense"),
    all = [filters, dense];
  const step = (x: tf.Tensor, y: tf.Tensor, rate: tf.Tensor) =>
    sgd(
      () => {
        const maps = tf.relu(tf.conv2d(x as tf.Tensor4D, filters as tf.Tensor4D, 1, "same"));
        const pooled = tf.maxPool(maps as tf.Tensor4D, 2, 2, "valid"); // [B, 3, 3, 4]
        const out = tf.matMul(pooled.reshape([-1, 36]) as tf.Tensor2D, dense as tf.Tensor2D); // [B, 2]
        return tf.mean(tf.square(tf.sub(out, y)));
      },
      all,
      rate,
    );
  const args = (k: number) => [normal([4, 6, 6, 1], `x${k}`), normal([4, 2], `y${k}`), tf.scalar(0.05)];
  assert(await compare(step, all, args, 4) < 1e-6);
  tf.dispose(all);
});

Deno.test("a chain of thousands of operations is compiled", async () => {
  const chain = engine.compile((x: tf.Tensor) => {
    for (let i = 0; i < 8001; i++) x = tf.neg(x);
    return x;
  });
  const x = tf.scalar(3), got = await chain(x);
  assertEquals(got.dataSync()[0], -3);
  chain.dispose();
  tf.dispose([x, got]);
});

Deno.test("without XLA a compiled function gives the same", async () => {
  const x = normal([4, 5], "x"), f = (x: tf.Tensor) => tf.softmax(tf.mul(x, 2));
  const compiled = engine.compile(f, { xla: false });
  const got = await compiled(x), expected = f(x);
  assert(largestDifference(got, expected) < 1e-6);
  compiled.dispose();
});

Deno.test("long joins and splits, among products and by themselves, give the same", async () => {
  const before = tf.memory().numTensors, weight = variable([4, 4], "weight");
  const step = (x: tf.Tensor) => {
    const parts = tf.split(tf.mul(x, 2), 20); // [1, 4] each
    const products = parts.map((part) => tf.matMul(part as tf.Tensor2D, weight as tf.Tensor2D));
    const joined = tf.concat([...parts, ...products], 0), scaled = tf.mul(joined, tf.sum(tf.square(joined)));
    const ends = tf.split(scaled, 40);
    weight.assign(tf.add(weight, tf.concat([ends[39]!, ends[1]!, ends[20]!, ends[3]!], 0).mul(1e-3)));
    return tf.concat([tf.concat(ends.slice(2, 30), 0), tf.relu(ends[0]!)], 0);
  };
  assert(await compare(step, [weight], (k) => [normal([20, 4], `x${k}`, 0.1)], 3) < 1e-5);
  const parts = engine.compile((x: tf.Tensor) => tf.split(x, 20)), x = normal([20, 4], "x");
  const got = await parts(x);
  got.forEach((part, i) => assertEquals(part.dataSync(), x.dataSync().subarray(4 * i, 4 * i + 4)));
  parts.dispose();
  tf.dispose([x, got, weight]);
  assertEquals(tf.memory().numTensors, before);
});

Deno.test("each combination of shapes and types is recorded once, and the oldest recording goes", async () => {
  let calls = 0;
  const compiled = engine.compile((x: tf.Tensor) => (calls++, tf.add(x, x)), { cacheSize: 2 });
  for (
    const [shape, dtype] of [[[2], "float32"], [[3], "float32"], [[2], "float32"], [[2], "int32"]] as const
  ) {
    const x = tf.ones([...shape], dtype), y = await compiled(x);
    assertEquals(y.shape, [...shape]);
    assertEquals(y.dtype, dtype);
    assertEquals([...y.dataSync()], Array(shape[0]).fill(2));
    tf.dispose([x, y]);
  }
  assertEquals(calls, 2 * 3); // two recordings of each
  assertEquals(compiled.size, 2);
  compiled.dispose();
});

Deno.test("results come back in the function's own nesting, also where an argument or a constant is handed back", async () => {
  const compiled = engine.compile((x: tf.Tensor) => {
    const [first, second] = tf.split(x, 2);
    return { list: [second!, first!], same: x, constant: tf.scalar(3), positive: tf.greater(x, 0) };
  });
  const x = tf.tensor1d([-1, 2]),
    got = await compiled(x) as unknown as {
      list: tf.Tensor[];
      same: tf.Tensor;
      constant: tf.Tensor;
      positive: tf.Tensor;
    };
  assertEquals(got.list.map((t) => t.dataSync()[0]), [2, -1]);
  assertEquals([...got.same.dataSync()], [-1, 2]);
  assertEquals(got.constant.dataSync()[0], 3);
  assertEquals(got.positive.dtype, "bool");
  assertEquals([...got.positive.dataSync()], [0, 1]);
  compiled.dispose();
});

Deno.test("two functions share a variable, and calls that are not waited for keep their order", async () => {
  const count = tf.variable(tf.scalar(1));
  const add = engine.compile((x: tf.Tensor) => (count.assign(tf.add(count, x)), count.clone()));
  const double = engine.compile((x: tf.Tensor) => (count.assign(tf.mul(count, x)), count.clone()));
  const two = tf.scalar(2), pending = [add(two), double(two), add(two)];
  two.dispose(); // the calls hold its value
  const values = (await Promise.all(pending)).map((t) => t.dataSync()[0]);
  assertEquals(values, [3, 6, 8]);
  assertEquals(count.dataSync()[0], 8);
  assertEquals(count.name in tf.engine().registeredVariables, true);
  add.dispose();
  double.dispose();
  count.dispose();
});

Deno.test("the event loop and other ops go on while a compiled function runs", async () => {
  const a = normal([700, 700], "a") as tf.Tensor2D;
  const long = engine.compile((x: tf.Tensor2D) => {
    let y = x;
    for (let i = 0; i < 40; i++) y = tf.mul(tf.matMul(y, x), 0.03) as tf.Tensor2D;
    return y;
  });
  (await long(a)).dispose();
  let ticks = 0, others = 0, done = false;
  const timer = setInterval(() => ticks++, 1);
  const pending = long(a).then((t) => (done = true, t));
  while (!done) {
    const failing = () => tf.matMul(tf.ones([2, 3]), tf.ones([2, 3]));
    tf.tidy(() => assertEquals(tf.sum(tf.ones([10])).dataSync()[0], 10));
    tf.tidy(() => assertThrows(failing, Error, "size-incompatible")); // its error stays with it
    others++;
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  clearInterval(timer);
  const result = await pending;
  assert(ticks > 3 && others > 3, `${ticks} timer ticks and ${others} other ops meanwhile`);
  assert(Number.isFinite(result.dataSync()[0]));
  long.dispose();
  tf.dispose([a, result]);
});

Deno.test("what cannot be recorded is refused with the remedy, and leaves variables and memory as they were", async () => {
  const v = tf.variable(tf.tensor1d([1, 2])), x = tf.tensor1d([1, 2]);
  const tensors = tf.memory().numTensors;
  const refused: [(x: tf.Tensor) => tf.TensorContainer, string][] = [
    [(x) => (v.assign(tf.mul(v, 3)), x.dataSync()[0]! > 0 ? x : tf.neg(x)), "pass it as an argument"],
    [(x) => tf.variable(tf.add(x, 1)), "make it outside"],
    [(x) => tf.matMul(x as tf.Tensor2D, tf.ones([3, 3])), ""],
    [() => 5 as unknown as tf.Tensor, "expected tensors"],
    [(x) => Promise.resolve(x) as unknown as tf.Tensor, "async"],
    [() => {
      throw new RangeError("the user's own");
    }, "the user's own"],
  ];
  for (const [f, message] of refused) {
    const compiled = engine.compile(f);
    const error = await assertRejects(() => compiled(x), Error, message);
    assert(error instanceof Error);
    assertEquals(compiled.size, 0);
    compiled.dispose();
  }
  assertEquals([...v.dataSync()], [1, 2]);
  assertEquals(tf.memory().numTensors, tensors);
  tf.dispose([v, x]);
});

Deno.test("a disposed function, a disposed variable and a wrong argument are named errors", async () => {
  const v = tf.variable(tf.scalar(1), true, "weight"), x = tf.scalar(1);
  const compiled = engine.compile((x: tf.Tensor) => tf.add(x, v), { name: "add weight" });
  (await compiled(x)).dispose();
  v.dispose();
  await assertRejects(() => compiled(x), TypeError, "variable weight was disposed");
  assertThrows(() => compiled(3 as unknown as tf.Tensor), TypeError, "argument 0");
  compiled.dispose();
  assertThrows(() => compiled(x), TypeError, "was disposed");
  x.dispose();
});

Deno.test("disposing a function while it runs lets the call end", async () => {
  const compiled = engine.compile((x: tf.Tensor) => tf.sum(tf.exp(x))), x = tf.zeros([1000]);
  const pending = compiled(x);
  compiled.dispose();
  assertAlmostEquals((await pending).dataSync()[0]!, 1000);
  x.dispose();
});

Deno.test("a tensor that the function closes over is part of it, whatever becomes of it later", async () => {
  for (const size of [3, 100_000]) { // a constant of the recording; an input of it
    const closed = tf.fill([size], 2),
      compiled = engine.compile((x: tf.Tensor) => tf.mul(closed, x)),
      x = tf.scalar(5);
    (await compiled(x)).dispose();
    closed.dispose();
    const y = await compiled(x);
    assertEquals(y.dataSync()[size - 1], 10);
    compiled.dispose();
    tf.dispose([x, y]);
  }
});

Deno.test("what shares a variable's value when a function is recorded stays as it is when the variable changes", async () => {
  const v = tf.variable(tf.scalar(1)), twin = tf.variable(v.clone()), kept = v.clone(), ten = tf.scalar(10);
  const compiled = engine.compile((x: tf.Tensor) => {
    v.assign(tf.add(v, x));
    return tf.stack([v, twin, kept]);
  });
  for (const expected of [11, 21]) {
    const got = await compiled(ten);
    assertEquals([...got.dataSync()], [expected, 1, 1]);
    got.dispose();
  }
  compiled.dispose();
  tf.dispose([v, twin, kept, ten]);
});

Deno.test("a variable that another engine made and that the function does not use keeps its value", async () => {
  await useEngine("cpu");
  const elsewhere = tf.variable(tf.scalar(7));
  await useEngine("tensorflow");
  const compiled = engine.compile((x: tf.Tensor) => tf.add(x, 1)), x = tf.scalar(1);
  const got = await compiled(x);
  assertEquals(got.dataSync()[0], 2);
  assertEquals([elsewhere.isDisposed, elsewhere.dataSync()[0]], [false, 7]);
  compiled.dispose();
  tf.dispose([elsewhere, x, got]);
});

Deno.test("a hundred compiled steps leave tensors and handles as they were", async () => {
  const backend = tf.backend() as unknown as { binding: { getNumOfTensors(): number } };
  const w = variable([4, 4], "leak"), x = normal([4, 4], "leak x");
  const compiled = engine.compile((
    x: tf.Tensor,
  ) => (w.assign(tf.matMul(w as tf.Tensor2D, x as tf.Tensor2D)), tf.sum(w)));
  (await compiled(x)).dispose();
  const tensors = tf.memory().numTensors, handles = backend.binding.getNumOfTensors();
  for (let i = 0; i < 100; i++) (await compiled(x)).dispose();
  assertEquals(tf.memory().numTensors, tensors);
  assertEquals(backend.binding.getNumOfTensors(), handles);
  for (let i = 0; i < 20; i++) {
    assertThrows(() => tf.tidy(() => tf.matMul(tf.ones([2, 3]), tf.ones([2, 3]))), Error, "BatchMatMulV2");
  }
  assertEquals(tf.memory().numTensors, tensors);
  assertEquals(backend.binding.getNumOfTensors(), handles);
  compiled.dispose();
  tf.dispose([w, x]);
});

Deno.test("a chain of 5,000 reshapes, each of what the one before gave, is compiled", async () => {
  const chain = engine.compile((x: tf.Tensor) => {
    for (let i = 0; i < 5000; i++) x = tf.reshape(x, i % 2 ? [1, 1, 1] : [1, 1]);
    return tf.add(x, x);
  });
  const x = tf.scalar(2), y = await chain(x);
  assertEquals([y.shape, [...y.dataSync()]], [[1, 1, 1], [4]]);
  chain.dispose();
  tf.dispose([x, y]);
});
