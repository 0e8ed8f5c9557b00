import { fileURLToPath } from "node:url";
import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import * as tf from "@tensorflow/tfjs";
import { useEngine } from "../../lib/engine/mod.ts";
import { Nepa } from "../../lib/model/nepa.ts";
import { AdamW, clipByGlobalNorm } from "../../lib/optim/adamw.ts";

await useEngine("cpu");

const folder = new URL("../fixtures/optim-a/expect.json", import.meta.url);

Deno.test("the parameters that decay are those of the official groups", async () => {
  const { groups } = JSON.parse(await Deno.readTextFile(folder)) as {
    groups: { weight_decay: number; params: string[] }[];
  };
  const model = await Nepa.load(fileURLToPath(new URL("../fixtures/pretrain-a", import.meta.url)));
  const zeros = () =>
    Object.fromEntries([...model.parameters].map(([name, variable]) => [name, tf.zerosLike(variable)]));
  const before = new Map(
    [...model.parameters].map(([name, variable]) => [name, variable.dataSync().slice()]),
  );
  const optimizer = new AdamW(model.parameters);
  tf.tidy(() => optimizer.update(zeros(), optimizer.rates(0, [1])));
  for (const { weight_decay, params } of groups) {
    for (const name of params) {
      const was = before.get(name)!;
      model.parameters.get(name)!.dataSync().forEach((x, i) =>
        assertAlmostEquals(x, was[i]! * (1 - weight_decay), 1e-6, name)
      );
    }
  }
  assertEquals(groups.flatMap(({ params }) => params).length, model.parameters.size);
  optimizer.dispose();
  model.dispose();
});

Deno.test("updates follow Adam's formulas, with the rate of each parameter's group", () => {
  const a = tf.variable(tf.tensor1d([1, -2])), b = tf.variable(tf.tensor2d([[3]]));
  const optimizer = new AdamW(new Map<string, tf.Variable>([["a", a], ["b", b]]), {
    betas: [0.8, 0.9],
    eps: 1e-3,
    weightDecay: 0.5,
    group: (name) => (name === "b" ? 1 : 0),
  });
  const m = [0, 0, 0], v = [0, 0, 0], x = [1, -2, 3], gradients = [[0.5, -1, 2], [0.1, 3, -1], [0, 0.2, 4]];
  gradients.forEach((g, k) => {
    tf.tidy(() =>
      optimizer.update(
        { a: tf.tensor1d(g.slice(0, 2)), b: tf.tensor2d([[g[2]!]]) },
        optimizer.rates(k, [0.1, 0.02]),
      )
    );
    for (let i = 0; i < 3; i++) {
      m[i] = 0.8 * m[i]! + 0.2 * g[i]!;
      v[i] = 0.9 * v[i]! + 0.1 * g[i]! ** 2;
      const lr = i === 2 ? 0.02 : 0.1, decay = i === 2 ? 0.5 : 0;
      const root = Math.sqrt(v[i]! / (1 - 0.9 ** (k + 1))) + 1e-3;
      x[i] = x[i]! * (1 - lr * decay) - lr * (m[i]! / (1 - 0.8 ** (k + 1))) / root;
    }
  });
  [...a.dataSync(), ...b.dataSync()].forEach((got, i) => assertAlmostEquals(got, x[i]!, 1e-5));
  assertAlmostEquals(optimizer.state.get("v joined 1 true")!.dataSync()[0]!, v[2]!, 1e-5);
  optimizer.dispose();
  tf.dispose([a, b]);
});

Deno.test("an update that is not to be applied changes nothing, whatever the gradients are", () => {
  const x = tf.variable(tf.tensor2d([[1, 2]])), optimizer = new AdamW(new Map([["x", x]]));
  tf.tidy(() => {
    optimizer.update({ x: tf.tensor2d([[1, 1]]) }, optimizer.rates(0, [0.1]), tf.scalar(true, "bool"));
    const state = () => [x, ...optimizer.state.values()].map((t) => [...t.dataSync()]);
    const before = state();
    assert(before[0]![0]! < 1);
    optimizer.update(
      { x: tf.tensor2d([[NaN, Infinity]]) },
      optimizer.rates(1, [0.1]),
      tf.scalar(false, "bool"),
    );
    assertEquals(state(), before);
  });
  optimizer.dispose();
  x.dispose();
});

Deno.test("a parameter without a gradient stays as it is, and so do its moments; a frozen one is left out", async () => {
  const make = (values: number[]) => tf.variable(tf.tensor2d([values]));
  const parameters = new Map([["a", make([1, 2])], ["b", make([3])], ["frozen", make([4])]]);
  parameters.get("frozen")!.trainable = false;
  const optimizer = new AdamW(parameters, { weightDecay: 0.5 });
  const update = (gradients: Record<string, tf.Tensor>) =>
    tf.tidy(() => optimizer.update(gradients, optimizer.rates(0, [0.1])));
  update({ a: tf.tensor2d([[1, 1]]), b: tf.tensor2d([[1]]) });
  const before = await optimizer.moments(), b = parameters.get("b")!.dataSync()[0];
  update({ a: tf.tensor2d([[1, 1]]) });
  const after = await optimizer.moments();
  assertEquals([...after.keys()].sort(), ["exp_avg.a", "exp_avg.b", "exp_avg_sq.a", "exp_avg_sq.b"]);
  assertEquals(after.get("exp_avg.b"), before.get("exp_avg.b"));
  assert(after.get("exp_avg.a")!.data[0]! > before.get("exp_avg.a")!.data[0]!);
  assertEquals([parameters.get("b")!.dataSync()[0], parameters.get("frozen")!.dataSync()[0]], [b, 4]);
  await optimizer.restore((name) => Promise.resolve(before.get(name)!.data));
  assertEquals(await optimizer.moments(), before);
  optimizer.dispose();
  tf.dispose([...parameters.values()]);
});

Deno.test("too few rates and impossible constants are refused", () => {
  const x = tf.variable(tf.tensor1d([1])),
    parameters = new Map([["x", x]]),
    optimizer = new AdamW(parameters);
  tf.tidy(() => {
    assertThrows(() => optimizer.rates(0, [1, 2]), RangeError, "expected 1, got 2");
  });
  assertThrows(() => new AdamW(parameters, { betas: [0.9, 1] }), RangeError, "betas");
  assertThrows(() => new AdamW(parameters, { weightDecay: -1 }), RangeError, "weightDecay");
  assertThrows(() => clipByGlobalNorm({}, 0), RangeError, "maxNorm");
  optimizer.dispose();
  x.dispose();
});

Deno.test("clipping scales all gradients together, and leaves small ones alone", () => {
  tf.tidy(() => {
    const gradients = { a: tf.tensor1d([3]), b: tf.tensor2d([[0, 4]]) };
    const large = clipByGlobalNorm(gradients, 1), small = clipByGlobalNorm(gradients, 10);
    assertAlmostEquals(large.norm.dataSync()[0]!, 5, 1e-6);
    assertAlmostEquals(large.clipped.b!.dataSync()[1]!, 0.8, 1e-5);
    assertEquals([...small.clipped.a!.dataSync(), ...small.clipped.b!.dataSync()], [3, 0, 4]);
    const unlimited = clipByGlobalNorm(gradients, Infinity);
    assertEquals([unlimited.norm.dataSync()[0], unlimited.clipped.a], [
      large.norm.dataSync()[0],
      gradients.a,
    ]);
  });
});
