import { assert, assertEquals, assertRejects, assertStringIncludes, assertThrows } from "@std/assert";
import * as tf from "@tensorflow/tfjs";
import { useEngine } from "nepa";

const engine = await useEngine("tensorflow");
const handles = () =>
  (tf.backend() as unknown as { binding: { getNumOfTensors(): number } }).binding.getNumOfTensors();

/** The line that this is called on. */
function line(): number {
  return Number(new Error().stack!.split("\n")[2]!.match(/:(\d+):\d+\)?$/)![1]);
}

/** Compiles and calls `f` with [[1, 2], [3, 4]]; gives the error. */
async function failure(f: (x: tf.Tensor) => tf.TensorContainer, xla = true): Promise<Error> {
  const compiled = engine.compile(f, { name: "failing", xla }), x = tf.tensor2d([[1, 2], [3, 4]]);
  const error = await assertRejects(() => compiled(x), Error);
  compiled.dispose();
  x.dispose();
  return error as Error;
}

Deno.test("an operation that fails while it is recorded is named, with TensorFlow's words and the caller's line", async () => {
  let at = 0;
  const { name, message, stack } = await failure((x) => {
    at = line() + 1;
    return tf.matMul(x as tf.Tensor2D, tf.ones([3, 3]));
  });
  assertEquals(name, "TensorFlowError");
  assertStringIncludes(
    message,
    'BatchMatMulV2 while recording "failing": Dimensions must be equal, but are 2 and 3',
  );
  assert(message.endsWith(`\ncalled at ${import.meta.url}:${at}:15`), message);
  assertStringIncludes(stack!, message);
});

Deno.test("what tfjs refuses, a value that is read and a gradient that fails name the caller's line too", async () => {
  let at = 0;
  const broken = tf.customGrad((x) => ({
    value: tf.square(x as tf.Tensor),
    gradFunc: (dy: tf.Tensor) => {
      at = line() + 1;
      return tf.matMul(dy as tf.Tensor2D, tf.ones([3, 3]));
    },
  }));
  const refused: [(x: tf.Tensor) => tf.TensorContainer, string][] = [
    [(x) => (at = line(), tf.reshape(x, [3])), "Cannot reshape a tensor with 4 elements to shape [3]"],
    [(x) => (at = line(), tf.split(x, 3)), "Number of splits must evenly divide the axis."],
    [(x) => (at = line(), x.dataSync()[0]! > 0 ? x : tf.neg(x)), "pass it as an argument."],
    [(x) => (at = line(), x.print(), x), "reads a tensor's values (dataSync, arraySync, print"],
    [(x) => (at = line(), tf.unique(tf.reshape(x, [4])).values), "UniqueV2 gives depends on values"],
    [(x) => tf.grad((x) => tf.sum(broken(x)))(x), "BatchMatMulV2 while recording"],
  ];
  for (const [f, words] of refused) {
    const { message } = await failure(f);
    assertStringIncludes(message, words);
    assertStringIncludes(message, `\ncalled at ${import.meta.url}:${at}:`);
  }
});

Deno.test("the caller's own error comes as it is", async () => {
  const own = new RangeError("expected a small x");
  assertEquals(
    await failure(() => {
      throw own;
    }),
    own,
  );
  assertEquals(own.message, "expected a small x");
});

Deno.test("an operation that fails while a function runs is named with its line; variables stay, and it can run again", async () => {
  const v = tf.variable(tf.scalar(1)), six = tf.scalar(6, "int32");
  let at = 0, recorded = 0;
  const divide = engine.compile((by: tf.Tensor) => {
    v.assign(tf.add(v, 1));
    recorded++;
    const product = tf.mul(by, by);
    at = line() + 1;
    const quotient = tf.floorDiv(six, product);
    return tf.add(quotient, 1);
  }, { name: "divide", xla: false });
  const two = tf.scalar(2, "int32"), zero = tf.scalar(0, "int32"), tensors = tf.memory().numTensors;
  let before = 0;
  for (let i = 0; i < 3; i++) {
    const result = await divide(two);
    assertEquals([result.dataSync()[0], v.dataSync()[0]], [2, 2 + i]);
    result.dispose();
    const known = recorded;
    const { message } = await assertRejects(() => divide(zero), Error) as Error;
    assertStringIncludes(message, 'compiled function "divide"');
    assertStringIncludes(message, "division by zero");
    assert(new RegExp(`\nFloorDiv\\.\\d+ was called at ${import.meta.url}:${at}:25$`).test(message), message);
    assertEquals([v.dataSync()[0], recorded], [2 + i, known + 1]); // once more, to find the line
    if (i === 0) before = handles();
  }
  assertEquals(tf.memory().numTensors, tensors);
  assertEquals(handles(), before);
  divide.dispose();
  tf.dispose([v, six, two, zero]);
});

Deno.test("what XLA lacks is named with its line and the remedy, which works", async () => {
  let at = 0;
  const filter = tf.tensor3d([1, 2, 3, 4], [2, 2, 1]);
  const dilate = (x: tf.Tensor) => {
    const image = tf.reshape(x, [1, 2, 2, 1]) as tf.Tensor4D; // [2, 2] -> [1, 2, 2, 1]
    at = line() + 1;
    return tf.dilation2d(image, filter, 1, "same");
  };
  const { message } = await failure(dilate);
  assertStringIncludes(message, "No registered 'Dilation2D' OpKernel for XLA_");
  assert(/Dilation2D\.\d+ was called at /.test(message), message);
  assertStringIncludes(message, `${import.meta.url}:${at}:`);
  assertStringIncludes(message, "compile with { xla: false }");
  const compiled = engine.compile(dilate, { xla: false }), x = tf.tensor2d([[1, 2], [3, 4]]);
  const got = await compiled(x), expected = tf.tidy(() => dilate(x));
  assertEquals([...got.dataSync()], [...expected.dataSync()]);
  compiled.dispose();
  tf.dispose([x, got, expected, filter]);
});

Deno.test("an argument that was disposed before the call is refused", () => {
  const compiled = engine.compile((x: tf.Tensor) => tf.add(x, 1), { name: "plus" }), x = tf.scalar(1);
  x.dispose();
  assertThrows(
    () => compiled(x),
    TypeError,
    '"plus", argument 0: expected a tensor, got one that was disposed',
  );
  compiled.dispose();
});

Deno.test("calls that wait when a function is disposed end, recorded once and compared; calls after that are refused", async () => {
  let recorded = 0;
  const [closed, x] = tf.tidy(() => [tf.neg(tf.zeros([100_000])), tf.neg(-1)]) as [tf.Tensor, tf.Tensor];
  const before = handles();
  const f = engine.compile((x: tf.Tensor) => (recorded++, tf.sum(tf.add(closed, x))), { name: "sum" });
  const pending = [f(x), f(x), f(x)];
  f.dispose();
  assertThrows(() => f(x), TypeError, '"sum" was disposed');
  const results = await Promise.all(pending);
  assertEquals(results.map((t) => t.dataSync()[0]), [1e5, 1e5, 1e5]);
  tf.dispose(results);
  await engine.compile((x: tf.Tensor) => tf.neg(x))(x).then((t) => t.dispose()); // what was queued before is done
  assertEquals([recorded, f.size, handles()], [2, 0, before]);
  tf.dispose([closed, x]);
});

Deno.test("variables may be disposed, or given another value, while a function runs that assigns them", async () => {
  const gone = tf.variable(tf.zeros([400, 400])), later = tf.variable(tf.scalar(1));
  const a = tf.fill([400, 400], 0.01), tensors = tf.memory().numTensors;
  const f = engine.compile((a: tf.Tensor) => {
    let y = a;
    for (let i = 0; i < 60; i++) y = tf.matMul(y, a);
    gone.assign(tf.add(gone, y) as tf.Tensor2D);
    later.assign(tf.add(later, 1));
    return tf.sum(y);
  });
  (await f(a)).dispose();
  assertEquals(later.dataSync()[0], 2);
  let runs = true;
  const pending = f(a).finally(() => runs = false);
  await new Promise((resolve) => setTimeout(resolve));
  gone.dispose();
  tf.tidy(() => later.assign(tf.scalar(10)));
  assert(runs);
  (await pending).dispose();
  assertEquals([gone.isDisposed, later.dataSync()[0]], [true, 10]);
  await assertRejects(() => f(a), TypeError, "was disposed");
  assertEquals(tf.memory().numTensors, tensors - 1);
  f.dispose();
  tf.dispose([a, later]);
});

Deno.test("variables that another engine made are read and assigned like all others", async () => {
  const x = tf.scalar(10);
  for (const elsewhere of ["wasm", "cpu"] as const) {
    await useEngine(elsewhere);
    const read = tf.variable(tf.scalar(1)), assigned = tf.variable(tf.tensor1d([1, 2]));
    await useEngine("tensorflow");
    const f = engine.compile((x: tf.Tensor) => {
      assigned.assign(tf.add(assigned, x));
      return tf.add(read, x);
    });
    for (const expected of [11, 15]) {
      const y = await f(x);
      assertEquals(y.dataSync()[0], expected);
      y.dispose();
      tf.tidy(() => read.assign(tf.scalar(5)));
    }
    assertEquals([...assigned.dataSync()], [21, 22]);
    f.dispose();
    tf.dispose([read, assigned]);
  }
  x.dispose();
});

Deno.test("compileSeconds grows with each first call for new shapes, and only then", async () => {
  const f = engine.compile((x: tf.Tensor) => tf.softmax(x)), seen = [f.compileSeconds];
  for (const shape of [[3], [3], [4]]) {
    const x = tf.ones(shape);
    tf.dispose([await f(x), x]);
    seen.push(f.compileSeconds);
  }
  assertEquals(seen[0], 0);
  assert(seen[1]! > 0 && seen[2] === seen[1] && seen[3]! > seen[2]!, String(seen));
  f.dispose();
});
