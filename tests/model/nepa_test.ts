import "../../lib/plot/network.ts";
import { assert, assertAlmostEquals, assertEquals, assertNotEquals, assertThrows } from "@std/assert";
import * as tf from "@tensorflow/tfjs";
import { jupyterDisplay, type MediaBundle } from "../../lib/display/jupyter.ts";
import { useEngine } from "../../lib/engine/mod.ts";
import { lossAndGradients } from "../../lib/base/gradient.ts";
import { Nepa } from "../../lib/model/nepa.ts";
import { nepaLoss } from "../../lib/model/nepa.ts";
import { Random } from "../../lib/base/random.ts";

const small = {
  preset: "mini",
  numHiddenLayers: 2,
  hiddenSize: 32,
  intermediateSize: 64,
  layerscaleValue: 0.5,
} as const;

/** Reproducible images [count, height, width, 1]. */
function picture(count: number, height = 28, width = 28, seed = 1): tf.Tensor4D {
  return tf.randomUniform([count, height, width, 1], -1, 1, "float32", seed);
}

function assertNear(got: tf.Tensor, expected: tf.Tensor, tolerance = 1e-5): void {
  assertEquals(got.shape, expected.shape);
  const numbers = expected.dataSync();
  got.dataSync().forEach((x, i) => assertAlmostEquals(x, numbers[i]!, tolerance));
}

/** Runs a test on an engine, and checks that no tensor is left over. */
function check(name: string, fn: () => void | Promise<void>): void {
  Deno.test(name, async () => {
    await useEngine("cpu");
    const before = tf.memory().numTensors;
    tf.engine().startScope();
    await fn();
    tf.engine().endScope();
    assertEquals(tf.memory().numTensors - before, 0, "tensors left over");
  });
}

Deno.test("a model without an engine says what to write", () => {
  assertThrows(() => new Nepa({ preset: "mini" }), Error, "await useEngine()");
});

check("the presets have the published numbers of parameters", () => {
  const model = new Nepa({ preset: "nano" });
  assertEquals(model.parameterCount, 796_672);
  model.dispose();
});

check(
  "first values are normal with the configured width, norms one, biases zero, layer scale as configured",
  () => {
    const model = new Nepa({ preset: "mini" }, { seed: 3 });
    const values = (name: string) => model.parameters.get(`vit_nepa.${name}`)!.dataSync();
    const weight = [...values("encoder.layer.1.intermediate.up_proj.weight")];
    const mean = weight.reduce((sum, x) => sum + x, 0) / weight.length;
    const std = Math.sqrt(weight.reduce((sum, x) => sum + (x - mean) ** 2, 0) / weight.length);
    assertAlmostEquals(mean, 0, 4e-4);
    assertAlmostEquals(std, 0.02, 4e-4);
    assert(values("embeddings.cls_token").some((x) => x !== 0));
    assert(values("layernorm.weight").every((x) => x === 1));
    assert(values("encoder.layer.0.attention.attention.query.bias").every((x) => x === 0));
    assert(values("encoder.layer.0.layer_scale.lambda1").every((x) => x === Math.fround(1e-5)));
    model.dispose();
  },
);

check("first values depend on the seed and the name alone", () => {
  const name = "vit_nepa.encoder.layer.0.output.dense.weight";
  const [a, b, c] = [[2, 0], [5, 0], [2, 1]].map(([numHiddenLayers, seed]) => {
    const model = new Nepa({ preset: "mini", numHiddenLayers: numHiddenLayers! }, { seed: seed! });
    const values = [...model.parameters.get(name)!.dataSync().slice(0, 50)];
    model.dispose();
    return values;
  });
  assertEquals(a, b);
  assertNotEquals(a, c);
});

check("a causal prediction does not change with later patches, a bidirectional one does", () => {
  const model = new Nepa(small),
    images = picture(1),
    other = tf.concat([images.slice([0, 0], [1, 21]), picture(1, 7, 28, 2)], 1);
  const early = (x: tf.Tensor, causal: boolean) =>
    model.forward(x as tf.Tensor4D, { causal }).predictions.slice([0, 0, 0], [1, 13, -1]); // CLS and 12 patches
  assertNear(early(other, true), early(images, true), 1e-6);
  const moved = tf.max(tf.abs(tf.sub(early(other, false), early(images, false)))).dataSync()[0]!;
  assert(moved > 1e-3, `moved by ${moved}`);
  model.dispose();
});

check("an image's outputs do not depend on its batch", () => {
  const model = new Nepa(small), images = picture(3);
  const alone = model.forward(images.slice([1], [1])).predictions;
  assertNear(model.forward(images).predictions.slice([1], [1]), alone, 1e-6);
  model.dispose();
});

check("attention rows sum to one and see nothing ahead", () => {
  const model = new Nepa(small), [first] = model.forward(picture(2), { attentions: true }).attentions!;
  assertEquals(first!.shape, [2, 4, 17, 17]);
  assertNear(tf.sum(first!, -1), tf.ones([2, 4, 17]), 1e-6);
  const row = first!.slice([0, 0, 4], [1, 1, 1]).dataSync();
  assert(row.slice(5).every((p) => p === 0) && row.slice(0, 5).every((p) => p > 0));
  model.dispose();
});

check("images of another grid work, images that are no whole patches are refused", () => {
  const model = new Nepa(small);
  assertEquals(model.forward(picture(2, 14, 42)).predictions.shape, [2, 13, 32]);
  for (const shape of [[1, 28, 30, 1], [1, 28, 28, 3], [28, 28, 1], [1, 0, 28, 1]]) {
    assertThrows(
      () => model.forward(tf.zeros(shape as [number, number, number, number])),
      RangeError,
      `images: expected [B, H, W, 1] with H and W multiples of 7, got [${shape}]`,
    );
  }
  model.dispose();
});

check("training augments the coordinates by its draws, evaluation does not", () => {
  const model = new Nepa(small), images = picture(2), plain = model.forward(images).predictions;
  const draws = model.draws(2, new Random(0)),
    trained = model.forward(images, { training: draws }).predictions;
  assertEquals(Object.keys(draws), ["ropeRescale"]);
  assertNear(model.forward(images, { training: draws }).predictions, trained, 0);
  assertNotEquals([...trained.dataSync()], [...plain.dataSync()]);
  assertNear(model.forward(images, { training: { ropeRescale: tf.tensor1d([1]) } }).predictions, plain, 1e-5);
  model.dispose();
});

check(
  "a model's own draws differ from one training forward to the next, and start over with the same seed",
  () => {
    const [a, b] = [new Nepa(small, { seed: 4 }), new Nepa(small, { seed: 4 })], images = picture(1);
    const run = (model: Nepa) => [...model.forward(images, { training: true }).predictions.dataSync()];
    const first = run(a);
    assertNotEquals(run(a), first);
    assertEquals(run(b), first);
    a.dispose();
    b.dispose();
  },
);

check("dropping a path leaves the tokens as they were before the block", () => {
  const model = new Nepa({ ...small, dropPathProb: 0.5, posEmbedRescale: null }), images = picture(2);
  const dropPath = tf.tensor2d([[1, 1], [1, 1], [0, 2], [0, 2]]); // the second block's, for image 0 only
  const hidden = (training: boolean | Record<string, tf.Tensor>) =>
    model.forward(images, { training, hidden: true }).hidden!;
  const [first, second] = hidden({ dropPath }), [plain] = hidden(false);
  assertNear(first!, plain!, 0);
  assertNear(second!.slice([0], [1]), first!.slice([0], [1]), 0);
  assert(tf.max(tf.abs(tf.sub(second!, first!).slice([1], [1]))).dataSync()[0]! > 1e-3);
  model.dispose();
});

check("dropout acts on the tokens but not on the target embeddings", () => {
  const options = { hiddenDropoutProb: 0.4, attentionProbsDropoutProb: 0.3, posEmbedRescale: null };
  const model = new Nepa({ ...small, ...options }), images = picture(2), plain = model.forward(images);
  const draws = model.draws(2, new Random(1)), trained = model.forward(images, { training: draws });
  assertNear(trained.embeddings, plain.embeddings, 0);
  assertNotEquals([...trained.predictions.dataSync()], [...plain.predictions.dataSync()]);
  const ones = Object.fromEntries(Object.entries(draws).map(([name, draw]) => [name, tf.onesLike(draw)]));
  assertNear(model.forward(images, { training: ones }).predictions, plain.predictions, 1e-6);
  const factors = [...new Set(draws["dropout.1.probabilities"]!.dataSync())].sort();
  assertEquals(factors, [0, Math.fround(1 / 0.7)]);
  model.dispose();
});

check("draws keep their order and their rates, and follow from the random stream", () => {
  const options = { dropPathProb: 0.4, numHiddenLayers: 3, hiddenDropoutProb: 0.25, posEmbedShift: 0.1 };
  const model = new Nepa({ ...small, ...options }),
    draws = model.draws(400, new Random(2), { height: 7, width: 14 });
  assertEquals(Object.keys(draws), [
    "ropeShift",
    "ropeRescale",
    "dropPath",
    "dropout.embeddings",
    ...[0, 1, 2].flatMap((i) => [`dropout.${i}.attention`, `dropout.${i}.mlp`]),
  ]);
  assertEquals(draws.dropPath!.shape, [6, 400]);
  assertEquals(draws["dropout.0.mlp"]!.shape, [400, 3, 32]);
  const dropped = (draws.dropPath!.arraySync() as number[][]).map((row) =>
    row.filter((x) => x === 0).length / 400
  );
  [0, 0, 0.2, 0.2, 0.4, 0.4].forEach((rate, i) => assertAlmostEquals(dropped[i]!, rate, 0.08));
  const again = model.draws(400, new Random(2), { height: 7, width: 14 });
  assertEquals([...again.dropPath!.dataSync()], [...draws.dropPath!.dataSync()]);
  model.dispose();
});

check(
  "a forward without the last position gives the others as they are, and the same loss and gradients",
  () => {
    const model = new Nepa({
      ...small,
      dropPathProb: 0.4,
      hiddenDropoutProb: 0.25,
      attentionProbsDropoutProb: 0.25,
      posEmbedShift: 0.1,
    });
    const images = picture(3), training = model.draws(3, new Random(4));
    const pass = (last: boolean) =>
      lossAndGradients(() => nepaLoss(model.forward(images, { training, last })), model.parameters);
    const predictions = (last: boolean) => model.forward(images, { training, last }).predictions;
    assertNear(predictions(false), predictions(true).slice([0, 0], [-1, 16]), 1e-5);
    const all = pass(true), fewer = pass(false);
    assertNear(fewer.loss, all.loss, 1e-6);
    for (const name of model.parameters.keys()) {
      assertNear(
        fewer.gradients[name]!,
        all.gradients[name]!,
        1e-5,
      );
    }
    assertThrows(() => model.forward(images, { last: false, causal: false }), RangeError, "not causal");
    model.dispose();
  },
);

check("features pool the chosen layer's tokens", () => {
  const model = new Nepa(small), images = picture(2), outputs = model.forward(images, { hidden: true });
  const { predictions, embeddings, hidden } = outputs;
  assertNear(model.features(images), tf.mean(predictions.slice([0, 1]), 1), 1e-6);
  assertNear(model.features(images, { pool: "cls" }), predictions.slice([0, 0], [-1, 1]).reshape([2, 32]), 0);
  assertNear(
    model.features(images, { pool: "last" }),
    predictions.slice([0, 16], [-1, 1]).reshape([2, 32]),
    0,
  );
  assertNear(model.features(images, { pool: "all", layer: 1 }), hidden![0]!.reshape([2, 17 * 32]), 0);
  assertNear(model.features(images, { layer: "embedding" }), tf.mean(embeddings.slice([0, 1]), 1), 1e-6);
  const seeing = model.forward(images, { causal: false }).predictions;
  assertNear(model.features(images, { causal: false }), tf.mean(seeing.slice([0, 1]), 1), 1e-6);
  for (const layer of [0, 3, 1.5]) {
    assertThrows(
      () => model.features(images, { layer }),
      RangeError,
      'expected "embedding", 1 to 2, or "final"',
    );
  }
  model.dispose();
});

check("a clone has the same weights and a life of its own", () => {
  const model = new Nepa(small, { seed: 1 }), clone = model.clone(), images = picture(1);
  assertNear(clone.forward(images).predictions, model.forward(images).predictions, 0);
  for (const [name, variable] of model.parameters) {
    assert(variable.dataId !== clone.parameters.get(name)!.dataId);
  }
  model.dispose();
  assertEquals(clone.forward(images).predictions.shape, [1, 17, 32]);
  clone.dispose();
});

check("a forward and its features leave nothing behind but what they return", () => {
  const model = new Nepa(small), images = picture(2), before = tf.memory().numTensors;
  const outputs = model.forward(images, { training: true, hidden: true, attentions: true });
  assertEquals(tf.memory().numTensors - before, 2 + 2 + 2);
  tf.dispose(outputs);
  tf.dispose(model.features(images, { layer: 1 }));
  assertEquals(tf.memory().numTensors, before);
  model.dispose();
});

check("a model shows its layers and how many parameters they have", () => {
  const model = new Nepa({ preset: "mini" }), text = Deno.inspect(model);
  const expected = model.parameterCount.toLocaleString("en-US");
  assert(
    text.includes("block 4") && text.includes(`${expected} parameters, 16 patches of 7×7×1, 4 heads, causal`),
  );
  const show = (model as unknown as Record<symbol, () => MediaBundle>)[jupyterDisplay]!;
  assert(String(show.call(model)["text/html"]).includes("final norm"));
  model.dispose();
});
