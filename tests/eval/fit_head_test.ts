import { assert, assertEquals, assertNotEquals, assertRejects } from "@std/assert";
import { evaluate, fashionMnist, fitHead, linearProbe, Nepa, NepaClassifier, tf, useEngine } from "nepa";
import { small } from "../support/small.ts";

await useEngine("tensorflow");
const { train, test } = await fashionMnist();

Deno.test("a fitted head classifies as the linear probe of the same features, and nothing else changes", async () => {
  const model = new Nepa({ ...small, layerscaleValue: null }, { seed: 1 });
  const few = train.balanced(20), judged = test.subset(0.05), before = tf.memory().numTensors;
  const { accuracy } = await linearProbe(model, few, judged, { lambdas: [0.03], pool: "all" });
  const classifier = NepaClassifier.from(model, { classes: train.classes, pool: "all", causal: true });
  await fitHead(classifier, few, { lambda: 0.03 });
  const head = await evaluate(classifier, judged);
  assert(accuracy > 0.5 && Math.abs(head.accuracy - accuracy) <= 0.004, `${head.accuracy} and ${accuracy}`);
  for (const [name, weight] of model.parameters) {
    assertEquals(classifier.parameters.get(name)!.dataSync(), weight.dataSync());
  }
  const fitted = classifier.parameters.get("classifier.weight")!.dataSync();
  await fitHead(classifier, few, { lambda: 10 });
  assertNotEquals(classifier.parameters.get("classifier.weight")!.dataSync(), fitted);
  for (const bad of [0, -1, NaN]) {
    await assertRejects(
      () => fitHead(classifier, few, { lambda: bad }),
      RangeError,
      "lambda: expected a positive number",
    );
  }
  classifier.dispose();
  assertEquals(tf.memory().numTensors, before);
  model.dispose();
});
