import { assert, assertEquals, assertRejects } from "@std/assert";
import { fashionMnist, lowShot, LowShotResult, Nepa, tf, useEngine } from "nepa";
import { small } from "../support/small.ts";

await useEngine("tensorflow");
const { train, test } = await fashionMnist();
const config = {
  ...small,
  numHiddenLayers: 1,
} as const;

Deno.test("few labels: every arm is trained and judged as said, scratch by its best way, and no tensor stays", async () => {
  const model = new Nepa(config, { seed: 1 }), judged = test.balanced(10), before = tf.memory().numTensors;
  const scratch = [{ learningRate: 1e-9 }, { warmupRatio: 0.2 }];
  const result = await lowShot(model, train.balanced(15), judged, {
    labels: [20, Infinity],
    heldOut: 60,
    steps: () => 30,
    finetune: { augment: null, compile: false },
    scratch,
  });
  assertEquals(tf.memory().numTensors, before);
  assertEquals(result.runs.map(({ labels, arm }) => `${labels} ${arm}`), [
    "20 fine-tuned",
    "20 linear probe",
    "20 from scratch",
    "90 fine-tuned",
    "90 linear probe",
    "90 from scratch",
  ]);
  for (const { arm, chosen } of result.runs) { // a rate of 1e-9 learns nothing
    assertEquals(chosen?.way, arm === "from scratch" ? scratch[1] : undefined);
  }
  assert(result.runs.every(({ accuracy }) => accuracy > 0.15 && accuracy <= 1));
  assert(Deno.inspect(result).includes("pretraining buys"));
  model.dispose();
});

Deno.test("accuracies over seeds show as mean and standard deviation, in a table and as lines", async () => {
  const run = (
    arm: "fine-tuned" | "linear probe" | "from scratch",
    labels: number,
    accuracy: number,
    seed: number,
  ) => ({
    arm,
    labels,
    accuracy,
    seed,
  });
  const result = new LowShotResult([
    ...[0, 1].flatMap((seed) => [
      run("fine-tuned", 60, 0.6 + 0.02 * seed, seed),
      run("linear probe", 60, 0.5, seed),
      run("from scratch", 60, 0.4, seed),
    ]),
  ]);
  const text = result.table().toString();
  for (const words of ["61.0 ± 1.4 %", "50.0 ± 0.0 %", "21.0 points"]) assert(text.includes(words), text);
  const { data } = result.plot().toJSON();
  assertEquals(data.map(({ name, y }) => [name, y]), [
    ["fine-tuned", [61]],
    ["linear probe", [50]],
    ["from scratch", [40]],
  ]);
  assertEquals((data[0]!.error_y as { array: number[] }).array, [1.41421]);
  assert((await result.plot().svg()).includes("What pretraining buys"));
});

Deno.test("numbers of labels that cannot be drawn are refused before any training", async () => {
  const model = new Nepa(config, { seed: 1 }), before = tf.memory().numTensors, few = train.balanced(20);
  const refused = (options: object, words: string) =>
    assertRejects(() => lowShot(model, few, test, options), RangeError, words);
  await refused({ labels: [15] }, "multiples of 10 from 10");
  await refused({ labels: [600], heldOut: 20 }, "expected 60 images of each class");
  await refused({ heldOut: 200 }, "heldOut");
  await refused({ scratch: [] }, "at least one way");
  assertEquals(tf.memory().numTensors, before);
  model.dispose();
});
