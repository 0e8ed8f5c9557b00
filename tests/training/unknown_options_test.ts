import { assertEquals, assertRejects } from "@std/assert";
import {
  AdamW,
  finetune,
  fitHead,
  layerCosine,
  lowShot,
  Mlp,
  Nepa,
  NepaClassifier,
  nepaConfig,
  nepaLoss,
  pretrain,
  tf,
  trainingBatches,
  update,
  useEngine,
  warmupCosine,
} from "nepa";
import { withFolder } from "../support/folder.ts";
import { still } from "../support/objectives.ts";
import { noise } from "../support/tiny.ts";

Deno.test("every public function of training and model refuses an option that it does not know, with the one that was meant", async () => {
  await useEngine("wasm");
  const model = new Nepa(still), classifier = NepaClassifier.from(model, { classes: noise.classes });
  const images = tf.zeros<tf.Rank.R4>([1, 8, 8, 1]), z = tf.ones<tf.Rank.R3>([1, 3, 4]);
  const optimizer = new AdamW(new Map()), schedule = { peak: 1, steps: 2, warmupSteps: 1 };
  await withFolder(async (folder) => {
    await model.save(`${folder}/model`);
    await classifier.save(`${folder}/classifier`);
    const checkpoint = { folder: `${folder}/run` }, before = tf.memory().numTensors;
    const calls: [meant: string, call: (name: string) => unknown][] = [
      ["batchSize", (name) => pretrain(model, noise, { [name]: 8 })],
      ["collapse", (name) => pretrain(model, noise, { batchSize: 8, every: { [name]: 8 } })],
      [
        "resume",
        (name) => pretrain(model, noise, { batchSize: 8, checkpoint: { ...checkpoint, [name]: true } }),
      ],
      ["rate", (name) => pretrain(model, noise, { batchSize: 8, groups: () => ({ [name]: 1 }) })],
      [
        "targets",
        (name) => pretrain(model, noise, { objective: { name: "x", loss: () => tf.scalar(0), [name]: 1 } }),
      ],
      ["layerDecay", (name) => finetune(classifier, noise, { [name]: 0.5 })],
      ["validation", (name) => finetune(classifier, noise, { batchSize: 8, every: { [name]: 0.5 } })],
      ["rate", (name) => finetune(classifier, noise, { batchSize: 8, groups: () => ({ [name]: 1 }) })],
      [
        "labels",
        (name) => lowShot(model, noise, noise.subset(0.5), { [name]: [4] }),
      ],
      ["seed", (name) => new Nepa(still, { [name]: 1 })],
      ["hiddenSize", (name) => new Nepa({ ...still, [name]: 16 })],
      ["hiddenSize", (name) => nepaConfig({ [name]: 16 })],
      ["seed", (name) => new NepaClassifier(still, { classes: 2, [name]: 1 })],
      ["classes", (name) => NepaClassifier.from(model, { classes: 2, [name]: 3 })],
      ["causal", (name) => model.forward(images, { [name]: true })],
      ["causal", (name) => classifier.forward(images, { [name]: true })],
      ["layer", (name) => model.features(images, { [name]: 1 })],
      ["revision", (name) => Nepa.load(`${folder}/model`, { [name]: "main" })],
      ["revision", (name) => NepaClassifier.load(`${folder}/classifier`, { [name]: "main" })],
      ["license", (name) => model.save(`${folder}/again`, { [name]: "mit" })],
      ["license", (name) => classifier.save(`${folder}/again`, { [name]: "mit" })],
      ["shift", (name) => nepaLoss({ embeddings: z, predictions: z }, { [name]: true })],
      ["weightDecay", (name) => new AdamW(new Map(), { [name]: 1 })],
      [
        "clipNorm",
        (name) => update({ loss: () => tf.scalar(0), parameters: new Map(), optimizer, [name]: 1 }),
      ],
      ["warmupSteps", (name) => warmupCosine({ ...schedule, [name]: 1 })],
      ["decay", (name) => layerCosine({ ...schedule, above: 1, decay: 0.5, [name]: 1 })],
      ["activation", (name) => new Mlp([2, 3], { [name]: "relu" } as never)],
      ["lambda", (name) => fitHead(classifier, noise, { [name]: 1 } as never)],
      ["augment", (name) => trainingBatches(noise, { batchSize: 8, [name]: null })],
    ];
    const swapped = (name: string) => name.slice(0, -2) + name.at(-1) + name.at(-2); // two letters in the wrong order
    for (const [meant, call] of calls) {
      const attempt = async () => await call(swapped(meant));
      await assertRejects(attempt, TypeError, `; did you mean ${meant}? There are: `, `${meant}: ${call}`);
      await assertRejects(attempt, TypeError, `unknown option ${swapped(meant)}`, `${meant}: ${call}`);
      assertEquals(tf.memory().numTensors, before, `${call}`);
    }
    const there = (await Array.fromAsync(Deno.readDir(folder))).map(({ name }) => name).sort();
    assertEquals(there, ["classifier", "model"]);
  });
});
