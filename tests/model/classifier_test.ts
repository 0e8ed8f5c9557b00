import { fileURLToPath } from "node:url";
import "../../lib/plot/network.ts";
import { assert, assertEquals, assertNotEquals, assertThrows } from "@std/assert";
import * as tf from "@tensorflow/tfjs";
import { nepaConfig } from "../../lib/model/config.ts";
import { useEngine } from "../../lib/engine/mod.ts";
import { lossAndGradients } from "../../lib/base/gradient.ts";
import { NepaClassifier } from "../../lib/model/classifier.ts";
import { Nepa } from "../../lib/model/nepa.ts";
import { crossEntropy } from "../../lib/model/ops.ts";
import { readSafetensors } from "../../lib/files/safetensors.ts";

await useEngine("cpu");

const small = {
  preset: "mini",
  numHiddenLayers: 2,
  hiddenSize: 32,
  intermediateSize: 64,
  layerscaleValue: 0.5,
} as const;
const images = tf.randomUniform([3, 28, 28, 1], -1, 1, "float32", 1) as tf.Tensor4D;

Deno.test("a head on a pretrained model copies it, sees both ways, and starts at zero", () => {
  const model = new Nepa(small, { seed: 2 }), classifier = NepaClassifier.from(model, { classes: 4 });
  assertEquals([classifier.config.isCausal, classifier.config.addPoolingLayer], [false, true]);
  assertEquals(classifier.classes, ["LABEL_0", "LABEL_1", "LABEL_2", "LABEL_3"]);
  tf.tidy(() => {
    const { logits, predictions, pooled } = classifier.forward(images);
    assertEquals(predictions.dataSync(), model.forward(images, { causal: false }).predictions.dataSync());
    assertEquals(logits.shape, [3, 4]);
    assert(logits.dataSync().every((x) => x === 0));
    assert(Math.abs(tf.mean(pooled).dataSync()[0]!) < 1e-5, "the mean over patches is normed");
  });
  for (const [name, variable] of model.parameters) {
    assertNotEquals(classifier.parameters.get(name)!.dataId, variable.dataId);
  }
  classifier.dispose();
  model.dispose();
});

Deno.test("pooling by the last token reads the last token, and has no norm of its own", () => {
  const model = new Nepa(small),
    classifier = NepaClassifier.from(model, { classes: 2, pool: "last", causal: true });
  assert(!classifier.parameters.has("fc_norm.weight"));
  tf.tidy(() => {
    const { pooled, predictions } = classifier.forward(images);
    assertEquals(pooled.dataSync(), predictions.slice([0, 16], [-1, 1]).dataSync());
    assertEquals(predictions.dataSync(), model.forward(images).predictions.dataSync());
  });
  classifier.dispose();
  model.dispose();
});

Deno.test("all tokens joined are read as they are, after fewer blocks too, and the classifier is saved and loaded", async () => {
  const model = new Nepa(small, { seed: 2 }), folder = await Deno.makeTempDir();
  const classifier = NepaClassifier.from(model, {
    classes: 3,
    pool: "all",
    causal: true,
    config: { numHiddenLayers: 1 },
  });
  assertEquals(classifier.parameters.get("classifier.weight")!.shape, [17 * 32, 3]);
  assert(
    ![...classifier.parameters.keys()].some((name) =>
      name.includes("layer.1.") || name.startsWith("fc_norm")
    ),
  );
  tf.tidy(() => {
    classifier.parameters.get("classifier.weight")!.assign(tf.randomNormal([17 * 32, 3], 0, 1, "float32", 3));
    const { pooled, predictions } = classifier.forward(images),
      { hidden } = model.forward(images, { hidden: true });
    assertEquals(pooled.dataSync(), predictions.dataSync());
    const { mean, variance } = tf.moments(hidden![0]!, -1, true);
    const normed = tf.div(tf.sub(hidden![0]!, mean), tf.sqrt(variance));
    assert(tf.max(tf.abs(tf.sub(predictions, normed))).dataSync()[0]! < 1e-4);
  });
  try {
    await classifier.save(folder);
    const loaded = await NepaClassifier.load(folder);
    assertEquals(loaded.config, classifier.config);
    tf.tidy(() =>
      assertEquals(loaded.forward(images).logits.dataSync(), classifier.forward(images).logits.dataSync())
    );
    loaded.dispose();
    assertThrows(
      () => nepaConfig({ joinTokens: true, addPoolingLayer: true }),
      RangeError,
      "joinTokens: expected false",
    );
  } finally {
    await Deno.remove(folder, { recursive: true });
    classifier.dispose();
    model.dispose();
  }
});

Deno.test("a configuration may gain norm weights, which start at one, but lose no weights", () => {
  const model = new Nepa(small),
    classifier = NepaClassifier.from(model, { classes: 2, config: { qkNormAffine: true } });
  const name = "vit_nepa.encoder.layer.1.attention.attention.q_norm.weight";
  assert(classifier.parameters.get(name)!.dataSync().every((x) => x === 1));
  assertThrows(
    () => NepaClassifier.from(model, { classes: 2, config: { layerscaleValue: null } }),
    RangeError,
    "layer_scale.lambda1: expected the model's shape [32], got no such tensor",
  );
  assertThrows(
    () => NepaClassifier.from(model, { classes: 2, config: { hiddenSize: 64 } }),
    RangeError,
    "cls_token",
  );
  classifier.dispose();
  model.dispose();
});

Deno.test("gradients reach the head at once, and the network below it once the head is not zero", () => {
  const classifier = new NepaClassifier(small, { classes: ["a", "b"], seed: 1 });
  tf.tidy(() => {
    const labels = tf.tensor1d([0, 1, 1], "int32"), { logits } = classifier.forward(images);
    assert(logits.dataSync().some((x) => x !== 0));
    const loss = () => crossEntropy(classifier.forward(images, { training: true }).logits, labels);
    const { gradients } = lossAndGradients(loss, classifier.parameters);
    assertEquals(Object.keys(gradients), [...classifier.parameters.keys()]);
    for (const name of ["classifier.weight", "fc_norm.bias", "vit_nepa.embeddings.cls_token"]) {
      assert(gradients[name]!.dataSync().some((g) => g !== 0), name);
    }
  });
  assert(Deno.inspect(classifier).includes("fc_norm"));
  const clone = classifier.clone();
  tf.tidy(() =>
    assertEquals(clone.forward(images).logits.dataSync(), classifier.forward(images).logits.dataSync())
  );
  clone.dispose();
  classifier.dispose();
});

Deno.test("classes that cannot be are refused before anything is made", () => {
  const tensors = tf.memory().numTensors;
  for (const classes of [0, [], ["a", "a"]]) {
    assertThrows(
      () => new NepaClassifier(small, { classes }),
      RangeError,
      "expected one or more, no two alike",
    );
  }
  assertEquals(tf.memory().numTensors, tensors);
});

const folder = (name: string) => fileURLToPath(new URL(`../fixtures/${name}`, import.meta.url));

Deno.test("putting on a head gives what the official conversion gives, layer scale folded or not", async () => {
  const affine = { qkNormAffine: true };
  const cases = [
    ["pretrain-a", "init-a-affine", { causal: false, config: { ...affine, dropPathProb: 0.1 } }],
    ["pretrain-a", "init-a-folded", { causal: false, foldLayerScale: true, config: affine }],
    ["pretrain-b", "init-b-folded", { causal: true, foldLayerScale: true }],
  ] as const;
  for (const [source, target, options] of cases) {
    const model = await Nepa.load(folder(source)), official = await NepaClassifier.load(folder(target));
    const tensors = tf.memory().numTensors;
    const classifier = NepaClassifier.from(model, { classes: official.classes, ...options });
    assertEquals(classifier.config, official.config);
    assertEquals([...classifier.parameters.keys()].sort(), [...official.parameters.keys()].sort());
    for (const [name, variable] of official.parameters) {
      assertEquals(classifier.parameters.get(name)!.dataSync(), variable.dataSync(), `${target}: ${name}`);
    }
    const { tensors: expected } = readSafetensors(
      await Deno.readFile(`${folder(target)}/expect.safetensors`),
    );
    tf.tidy(() => {
      const { data, shape } = expected.get("pixel_values")!;
      const pixels = tf.tensor(data as Float32Array, [...shape]).transpose([0, 2, 3, 1]) as tf.Tensor4D; // [B, H, W, C]
      const { predictions, pooled, logits } = classifier.forward(pixels);
      for (const [name, got] of Object.entries({ last_hidden_state: predictions, pooled, logits })) {
        const wanted = tf.tensor(expected.get(name)!.data as Float32Array, got.shape);
        assert(tf.max(tf.abs(tf.sub(got, wanted))).dataSync()[0]! < 2e-5, `${target}: ${name}`);
      }
    });
    classifier.dispose();
    assertEquals(tf.memory().numTensors, tensors);
    model.dispose();
    official.dispose();
  }
});
