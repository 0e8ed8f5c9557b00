/** Networks with numbers that are none. @module */
import { assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { attentiveProbe, evaluate, finetune, fitHead, knn, linearProbe, Nepa, NepaClassifier } from "nepa";
import { NonFiniteError, pretrain, readFeatures, tf, useEngine } from "nepa";
import { config, noise } from "../support/tiny.ts";

await useEngine("cpu");

const [train, test] = [noise.subset(Array.from({ length: 48 }, (_, i) => i)), noise.subset([50, 51, 52])];

/** Gives one number of a weight another value. */
function spoil(network: Nepa | NepaClassifier, name: string, value: number): void {
  const weight = [...network.parameters].find(([full]) => full.endsWith(name))![1],
    data = weight.dataSync().slice();
  data[1] = value;
  tf.tidy(() => weight.assign(tf.tensor(data, weight.shape)));
}

Deno.test("features of a network with a weight that is not finite are refused by every reader, with its name", async () => {
  const model = new Nepa(config, { seed: 0 });
  spoil(model, "layer.1.layernorm_before.weight", NaN);
  const classifier = NepaClassifier.from(model, { classes: noise.classes }), before = tf.memory().numTensors;
  const readers: Record<string, () => Promise<unknown>> = {
    readFeatures: () => readFeatures(model, train, ["embedding", "final"]),
    linearProbe: () => linearProbe(model, train, test),
    "all layers": () => linearProbe(model, train, test, { layers: true }),
    knn: () => knn(model, train, test, { k: 3 }),
    attentiveProbe: () => attentiveProbe(model, train, test, { epochs: 1, batchSize: 8 }),
    fitHead: () => fitHead(classifier, train),
    evaluate: () => evaluate(classifier, test),
    validation: () => finetune(classifier, train, { steps: 1, batchSize: 8, validation: test }).finish(),
    "online probe": () => pretrain(model, train, { steps: 1, batchSize: 8, every: { probe: 1 } }).finish(),
  };
  for (const [reader, read] of Object.entries(readers)) {
    const { message } = await assertRejects(read, NonFiniteError, "expected finite numbers, got ", reader);
    assertStringIncludes(message, "layer.1.layernorm_before.weight", reader);
    assertStringIncludes(message, "NaN", reader);
  }
  assertEquals(
    (await readFeatures(model, train, ["embedding"])).get("embedding")!.every(Number.isFinite),
    true,
  );
  classifier.dispose();
  model.dispose();
  assertEquals(tf.memory().numTensors <= before, true);
});

Deno.test("where the weights are finite, the layer and the image are named, and no tensor stays", async () => {
  const model = new Nepa(config, { seed: 0 });
  const projection = [...model.parameters].find(([name]) => name.endsWith("projection.weight"))![1];
  tf.tidy(() => projection.assign(tf.fill(projection.shape, 3e38)));
  const before = tf.memory().numTensors;
  const error = await assertRejects(() => readFeatures(model, test, ["embedding", "final"]), NonFiniteError);
  assertEquals(error instanceof RangeError, true);
  assertStringIncludes(error.message, "noise: image 0, layer embedding: expected finite numbers, got ");
  assertStringIncludes(error.message, "the weights are finite");
  assertEquals(tf.memory().numTensors, before);
  model.dispose();
});
