import { assert, assertEquals } from "@std/assert";
import { Nepa, NepaClassifier, tf, useEngine } from "nepa";

/** What `work` says on stderr. */
function said(work: () => unknown): string[] {
  const { error } = console, lines: string[] = [];
  console.error = (line: string) => lines.push(line);
  try {
    tf.tidy(() => void work());
  } finally {
    console.error = error;
  }
  return lines;
}

Deno.test("floats that no normalised image has are noticed the first time, and nothing else is", async () => {
  await useEngine("cpu");
  const model = new Nepa({ preset: "mini", numHiddenLayers: 1 }, { seed: 0 });
  const classifier = NepaClassifier.from(model, { classes: 2 }), before = tf.memory().numTensors;
  const shape: [number, number, number, number] = [2, 28, 28, 1];
  const values = tf.randomUniform(shape, 0, 255, "float32", 0) as tf.Tensor4D;
  assertEquals(said(() => model.forward(values.cast("int32"))), []);
  assertEquals(said(() => model.forward(tf.sub(tf.div(values, 127.5), 1))), []);
  assertEquals(said(() => model.forward(tf.randomNormal(shape, 0, 1, "float32", 0) as tf.Tensor4D)), []);
  const [line, ...more] = said(() => classifier.forward(values));
  assertEquals(more, []);
  assert(/^forward: floats are taken as normalised, .* from -1\.00 to 1\.00; .*int32/.test(line!), line);
  assertEquals(said(() => model.features(values)), []);
  values.dispose();
  assertEquals(tf.memory().numTensors, before);
  for (const owner of [model, classifier]) owner.dispose();
});
