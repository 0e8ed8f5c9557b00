import { assert, assertEquals, assertRejects, assertStringIncludes, assertThrows } from "@std/assert";
import * as tf from "@tensorflow/tfjs";
import {
  type EngineName,
  isRecording,
  refuseWhileRecording,
  uncompiled,
  useEngine,
  watch,
} from "../../lib/engine/mod.ts";

type F = (x: tf.Tensor) => tf.TensorContainer;

const DRAWS: Record<string, F> = {
  "tf.randomUniform": (x) => tf.add(x, tf.randomUniform(x.shape)),
  "tf.randomUniformInt": (x) => tf.add(x, tf.randomUniformInt(x.shape, 0, 9)),
  "tf.randomNormal": (x) => tf.add(x, tf.randomNormal(x.shape)),
  "tf.randomStandardNormal": (x) => tf.add(x, tf.randomStandardNormal(x.shape)),
  "tf.randomGamma": (x) => tf.add(x, tf.randomGamma(x.shape, 1)),
  "tf.truncatedNormal": (x) => tf.add(x, tf.truncatedNormal(x.shape)),
  "tf.rand": (x) => tf.add(x, tf.rand(x.shape, () => 0.5)),
  "tf.dropout": (x) => tf.dropout(x, 0.5),
  "tf.multinomial": (x) => tf.multinomial(x as tf.Tensor1D, 2),
  "tf.randomUniform ": (x) => tf.grad((x) => tf.mul(x, tf.randomUniform(x.shape)))(x),
};

for (const name of ["tensorflow", "wasm"] as const) {
  Deno.test(`random draws in a function to be compiled are refused by name on ${name}, and leave nothing`, async () => {
    const engine = await useEngine(name), x = tf.tensor1d([1, 2]), before = tf.memory().numTensors;
    for (const [what, f] of Object.entries(DRAWS)) {
      for (const compiled of [engine.compile(f), engine.compile(f, { compile: false }), uncompiled(f)]) {
        const error = await assertRejects(() => compiled(x), TypeError, `${what.trim()}: its random numbers`);
        assertStringIncludes(error.message, "pass them as an argument");
        compiled.dispose();
      }
    }
    assertEquals([tf.memory().numTensors, isRecording()], [before, false]);
    tf.dispose([tf.randomUniform([2]), x]);
    refuseWhileRecording("nothing");
  });
}

const noise = (x: tf.Tensor): tf.Tensor => tf.add(x, Math.random());
let calls = 0, first = true;
const CHANGES: Record<string, F> = {
  "a number": noise,
  "numbers": (x) => tf.mul(x, tf.tensor1d([Math.random(), 1])),
  "a coin": (x) => Math.random() < 0.5 ? tf.reverse(x) : x,
  "a rare event": (x) => Math.random() > 0.98 ? tf.reverse(x) : x,
  "an order": (x) => tf.gather(x, tf.tensor1d([0, 1].sort(() => Math.random() - 0.5), "int32")),
  "drawn until it fits": (x) => {
    for (;;) {
      const [a, b] = [2 * Math.random() - 1, 2 * Math.random() - 1];
      if (a * a + b * b < 1) return tf.mul(x, a);
    }
  },
  "a counter": (x) => tf.mul(x, calls++),
  "a counter in an attribute": (x) => tf.clipByValue(x, 0, ++calls),
  "a flag": (x) => calls++ % 2 === 0 ? tf.neg(x) : x,
  "a flag, once": (x) => first ? (first = false, tf.neg(x)) : x,
  "a flag that adds": (x) => (calls++ % 2 === 0 ? [x, x] : [x]),
  "names": (x) => ({ [`name ${calls++}`]: x }),
  "the time": (x) => tf.add(x, Date.now() % 1000),
  "whether a second is odd": (x) => Math.floor(Date.now() / 1000) % 2 ? tf.neg(x) : x,
  "the date": (x) => tf.add(x, new Date().getSeconds()),
  "the year": (x) => tf.add(x, new Date().getFullYear()),
  "the clock": (x) => tf.add(x, performance.now()),
  "in a gradient": (x) => tf.grad((x) => tf.mul(x, Math.random()))(x),
};

Deno.test("what differs when a function is recorded twice is refused, with the line that called for it", async () => {
  const engine = await useEngine("tensorflow"), x = tf.tensor1d([1, 2]);
  const { Date, Math: { random }, performance: { now } } = globalThis, before = tf.memory().numTensors;
  for (const [what, f] of Object.entries(CHANGES)) {
    for (const xla of [true, false]) {
      const compiled = engine.compile(f, { xla });
      first = true;
      const error = await assertRejects(() => compiled(x), TypeError, "two recordings", what);
      if (what !== "names" && what !== "a flag that adds") {
        assertStringIncludes(error.message, "frozen_test.ts:", what);
      }
      assertEquals(compiled.size, 0);
      compiled.dispose();
    }
  }
  assertEquals([globalThis.Date, Math.random, performance.now], [Date, random, now]);
  assertEquals(tf.memory().numTensors, before);
  x.dispose();
});

Deno.test("a variable chosen by a counter, or a large tensor, is refused too; what stays the same is not", async () => {
  const engine = await useEngine("tensorflow"), x = tf.tensor1d([1, 2]);
  const two = [tf.variable(tf.scalar(1)), tf.variable(tf.scalar(1))],
    large = [tf.ones([1e5]), tf.zeros([1e5])];
  let k = 0;
  for (const list of [two, large]) {
    const compiled = engine.compile((x: tf.Tensor) => tf.add(tf.sum(x), list[k++ % 2]!));
    await assertRejects(() => compiled(x), TypeError, "two recordings");
    compiled.dispose();
  }
  const cache = new Map<string, Float32Array>();
  const same = engine.compile((x: tf.Tensor) => {
    const values = cache.get("values") ?? Float32Array.of(3, 4);
    cache.set("values", values);
    two[0]!.assign(tf.add(two[0]!, tf.sum(large[0]!)));
    assert(new Date(0) instanceof Date && Math.random() < 1); // neither is in the recording
    return { sum: tf.add(x, values), text: tf.cast(tf.onesLike(x), "bool"), now: tf.scalar(7) };
  });
  const got = await same(x) as { sum: tf.Tensor };
  assertEquals([...await got.sum.data()], [4, 6]);
  assertEquals((await two[0]!.data())[0], 1e5 + 1); // once
  same.dispose();
  tf.dispose([x, two, large, got]);
});

Deno.test("a large tensor that TensorFlow first sees in the recording is the same tensor in the second", async () => {
  const engine = await useEngine("tensorflow"), x = tf.tensor1d([1, 2]);
  for (const make of [() => tf.tensor1d(new Float32Array(1e5).fill(2)), () => tf.ones([1e5], "int32")]) {
    const seen = make(), total = [...await tf.sum(seen).data()][0]!, fresh = make();
    const f = (x: tf.Tensor) => tf.add(x, tf.add(tf.sum(fresh), tf.sum(make())).cast("float32"));
    for (const options of [{ xla: true }, { xla: false }]) {
      const compiled = engine.compile(f, options), got = await compiled(x) as tf.Tensor;
      assertEquals([...await got.data()], [2 * total + 1, 2 * total + 2]);
      compiled.dispose();
      got.dispose();
    }
    tf.dispose([seen, fresh]);
  }
  x.dispose();
});

/** tfjs' own account of where it is. */
function position(): unknown[] {
  const { gradientDepth, kernelDepth, activeTape, scopeStack } = tf.engine().state;
  return [gradientDepth, kernelDepth, activeTape, scopeStack.length, tf.memory().numTensors];
}

for (const name of ["tensorflow", "wasm"] as EngineName[]) {
  Deno.test(`a loss that throws leaves nothing behind on ${name}, wherever it throws, and the next call works`, async () => {
    const engine = await useEngine(name);
    const w = tf.variable(tf.ones([50, 50])), x = tf.ones([50, 50]);
    let bad = true;
    const fail = () => {
      if (bad) throw new RangeError("the loss's own");
    };
    const custom = tf.customGrad((x, save) => {
      (save as (tensors: tf.Tensor[]) => void)([x as tf.Tensor]);
      const value = tf.square(x as tf.Tensor);
      if (places === 1) fail();
      return { value, gradFunc: (dy: tf.Tensor) => (places === 2 && fail(), tf.mul(dy, 2)) };
    });
    let places = 0;
    const f = (x: tf.Tensor) => {
      const loss = () => {
        const y = custom(tf.matMul(tf.tanh(w) as tf.Tensor2D, tf.exp(x) as tf.Tensor2D));
        if (places === 0) fail();
        return (places === 3 && bad ? y : tf.mean(y)) as tf.Scalar;
      };
      return tf.variableGrads(loss, [w]).grads[w.name]!;
    };
    const before = position();
    for (places = 0; places < 4; places++) {
      for (const compile of [true, false]) {
        const compiled = engine.compile(f, { compile });
        for (let i = 0; i < 10; i++) {
          await assertRejects(() => compiled(x), Error, places === 3 ? "scalar" : "the loss's own");
          assertEquals(position(), before);
        }
        bad = false;
        const got = await compiled(x);
        assert(Number.isFinite((await got.data())[0]));
        bad = true;
        got.dispose();
        compiled.dispose();
      }
    }
    assertEquals(position(), before);
    places = 0;
    assertThrows(() => f(x)); // by itself too
    assertEquals(tf.memory().numTensors, before.at(-1));
    tf.dispose([w, x]);
  });

  Deno.test(`watch tells which variables are read and assigned on ${name}, in gradients too`, async () => {
    const engine = await useEngine(name), names = ["used", "listed", "in gradient", "target", "idle"];
    const [used, listed, inner, target, idle] = names.map((name) => tf.variable(tf.scalar(2), true, name));
    const custom = tf.customGrad((x) => ({
      value: tf.square(x as tf.Tensor),
      gradFunc: (dy: tf.Tensor) => tf.mul(dy, inner!),
    }));
    const step = (x: tf.Tensor) => {
      const { result, read, assigned } = watch(() => {
        const seen = watch(() => tf.grad((x) => custom(tf.mul(x, used!)))(x));
        assertEquals([...seen.read].map(({ name }) => name).sort(), ["in gradient", "used"]);
        target!.assign(tf.concat([tf.reshape(x, [1]), tf.stack([listed!])]).sum());
        return seen.result;
      });
      assertEquals([...read].map(({ name }) => name).sort(), ["in gradient", "listed", "used"]);
      assertEquals([...assigned], [target!]);
      assertEquals(read.has(idle!), false);
      return result;
    };
    const compiled = engine.compile(step), x = tf.scalar(3), before = tf.memory().numTensors;
    const got = await compiled(x);
    assertEquals((await target!.data())[0], 5);
    const { runKernelFunc } = tf.engine() as unknown as { runKernelFunc: unknown },
      { assign } = tf.Variable.prototype;
    const refuseAssign = (name: string) => new TypeError(`${name} stays`);
    assertThrows(
      () => tf.tidy(() => watch(() => target!.assign(tf.scalar(9)), { refuseAssign }).result),
      TypeError,
      "target stays",
    );
    assertEquals((await target!.data())[0], 5);
    assertEquals((tf.engine() as unknown as { runKernelFunc: unknown }).runKernelFunc, runKernelFunc);
    assertEquals(tf.Variable.prototype.assign, assign);
    tf.dispose(got);
    assertEquals(tf.memory().numTensors, before);
    compiled.dispose();
    tf.dispose([used!, listed!, inner!, target!, idle!, x]);
  });

  Deno.test(`arguments and results go by name on ${name}; what is no tensor is refused by its path`, async () => {
    const engine = await useEngine(name), before = tf.memory().numTensors;
    type Named = { images: tf.Tensor; draws: { a: tf.Tensor; b?: tf.Tensor }; list?: tf.Tensor[] };
    const f = engine.compile(({ images, draws: { a, b }, list = [] }: Named) => {
      return { sum: tf.addN([images, a, b ?? a, ...list]), parts: { first: [a] } };
    }, { name: "named" });
    const [one, two] = [tf.scalar(1), tf.scalar(2)];
    const value = async (args: Named) => {
      const { sum, parts } = await f(args), result = (await sum.data())[0];
      assertEquals(Object.keys(parts), ["first"]);
      tf.dispose([sum, parts.first]);
      return result;
    };
    assertEquals(await value({ images: one, draws: { a: two, b: one } }), 4);
    assertEquals(await value({ images: one, draws: { a: two } }), 5);
    assertEquals(await value({ images: one, draws: { a: two }, list: [one, two] }), 8);
    if (engine.compiles) assertEquals(f.size, 3);
    const refused = (args: unknown, path: string) =>
      assertRejects(
        async () => await f(args as Named),
        TypeError,
        `compiled function "named", argument ${path}`,
      );
    await refused({ images: one, draws: { a: 3 } }, "draws.a: expected a tensor, got number");
    await refused({ images: one, draws: { a: new Map() } }, "draws.a: expected a tensor, got Map");
    await refused({ images: one, draws: null }, "draws: expected a tensor, got null");
    await refused(5, "0: expected a tensor, got number");
    for (const compile of [true, false]) {
      const bad = engine.compile((x: tf.Tensor) => ({ loss: [x, 5] }) as unknown as tf.Tensor, { compile });
      await assertRejects(() => bad(one), TypeError, "as the result, got number at loss.1");
      bad.dispose();
    }
    assertThrows(
      () => engine.compile((x: tf.Tensor) => x, { presicion: "bfloat16" } as never),
      TypeError,
      "compile: unknown option presicion; did you mean precision?",
    );
    f.dispose();
    tf.dispose([one, two]);
    assertEquals(tf.memory().numTensors, before);
  });
}

for (const name of ["tensorflow", "wasm"] as EngineName[]) {
  Deno.test(`indices to gather by are arguments too on ${name}; one that is too large is an error`, async () => {
    const engine = await useEngine(name),
      x = tf.tensor2d([[1, 2, 3], [4, 5, 6]]),
      before = tf.memory().numTensors;
    for (const batchDims of [0, 1]) {
      const f = engine.compile(({ rows }: { rows: tf.Tensor }) => {
        const loss = (x: tf.Tensor) => tf.sum(tf.square(tf.gather(x, rows, 1, batchDims)));
        return { value: tf.gather(x, rows, 1, batchDims), gradient: tf.grad(loss)(x) };
      });
      for (const picked of [[2, 0], [1, 1]] as const) {
        const rows = batchDims === 0
          ? tf.tensor1d([...picked], "int32")
          : tf.tensor2d([[...picked], [2, 2]], [2, 2], "int32");
        const { value, gradient } = await f({ rows });
        const second = batchDims === 0 ? picked : [2, 2];
        const expected = [picked.map((i) => i + 1), second.map((i) => i + 4)];
        assertEquals(await value.array() as number[][], expected);
        const slopes = [picked, second].map((some, row) =>
          [0, 1, 2].map((i) => some.filter((place) => place === i).length * 2 * (1 + i + 3 * row))
        );
        assertEquals(await gradient.array() as number[][], slopes);
        tf.dispose([value, gradient, rows]);
      }
      if (name === "tensorflow") {
        const rows = batchDims === 0
          ? tf.tensor1d([0, 3], "int32")
          : tf.tensor2d([[0, 3], [0, 0]], [2, 2], "int32");
        await assertRejects(() => f({ rows }), Error, "is not in [0, 3)");
        rows.dispose();
      }
      f.dispose();
    }
    assertEquals(tf.memory().numTensors, before);
    x.dispose();
  });
}
