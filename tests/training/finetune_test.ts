import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import * as tf from "@tensorflow/tfjs";
import type { Dataset } from "../../lib/data/dataset.ts";
import { arrayDataset } from "../../lib/data/rows.ts";
import { fashionMnist } from "../../lib/data/fashion.ts";
import { centerCrop, compose, normalize, resize } from "../../lib/data/transforms.ts";
import { useEngine } from "../../lib/engine/mod.ts";
import { evaluate } from "../../lib/eval/evaluate.ts";
import { type FinetuneOptions, layerRates } from "../../lib/training/classification.ts";
import { finetune, learningRates } from "../../lib/training/finetune.ts";
import { NepaClassifier } from "../../lib/model/classifier.ts";
import type { Nepa } from "../../lib/model/nepa.ts";
import type { Validation } from "../../lib/eval/evaluate.ts";

await useEngine("tensorflow");
const { train, test } = await fashionMnist();
const config = {
  preset: "mini",
  numHiddenLayers: 2,
  hiddenSize: 32,
  intermediateSize: 64,
  posEmbedRescale: null,
} as const;
const { classes } = train, few = train.subset(0.01), held = test.subset(0.02);

const fresh = (more = {}) => new NepaClassifier({ ...config, ...more }, { classes, seed: 1 });

/** A data set with something else in the place of some properties. */
function changed(set: Dataset, instead: (key: string | symbol) => unknown): Dataset {
  return new Proxy(set, {
    get(_, key) {
      const value = instead(key) ?? Reflect.get(set, key, set);
      return typeof value === "function" ? value.bind(set) : value;
    },
  });
}

/** Equal but for what a compiled pass rounds otherwise. */
function assertSame(a: Validation, b: Validation): void {
  assertAlmostEquals(a.loss, b.loss, 1e-5 * b.loss);
  assertAlmostEquals(a.accuracy!, b.accuracy!, 0.005);
}

Deno.test("each layer moves by its own rate, the head by another, the patch embedding not at all", async () => {
  const classifier = fresh({ layerscaleValue: 1 }), tensors = tf.memory().numTensors;
  const before = new Map([...classifier.parameters].map(([name, x]) => [name, x.dataSync().slice()]));
  await finetune(classifier, few, {
    steps: 1,
    warmupRatio: 0,
    learningRate: 0.004,
    headLearningRate: 0.001,
    weightDecay: 0,
    layerDecay: 0.5,
    layerWarmup: true,
    freezePatches: true,
    compile: false,
  }).finish();
  assertEquals(tf.memory().numTensors, tensors);
  // AdamW's first update moves a weight by the learning rate, whatever its gradient.
  const rate = (name: string) => {
    if (name.includes(".projection.")) return 0;
    if (name.startsWith("classifier.") || name.startsWith("vit_nepa.layernorm.")) return 0.001;
    if (name.includes(".embeddings.")) return 0.001;
    return name.includes(".layer.0.") ? 0.002 : 0.004; // fc_norm is above the last block
  };
  for (const [name, x] of classifier.parameters) {
    const moved = x.dataSync().map((value, i) => Math.abs(value - before.get(name)![i]!));
    assertAlmostEquals(Math.max(...moved), rate(name), 2e-5, name);
  }
  classifier.dispose();
});

interface Schedule {
  kind: "llrd_cosine" | "llrd_cosine_warmup";
  learning_rate: number;
  head_lr: number | null;
  llrd: number;
  llrd_end: number | null;
  layers: number;
  total_steps: number;
  warmup_steps: number;
  params: Record<string, { group: number }>;
  groups: { lr: Record<string, number> }[];
}

Deno.test("fine-tuning gives each parameter of a classifier the official rate, at every listed update", async () => {
  const { schedules } = JSON.parse(
    await Deno.readTextFile(new URL("../fixtures/schedules/finetune.json", import.meta.url)),
  ) as { schedules: Schedule[] };
  for (const schedule of schedules) {
    const {
      kind,
      learning_rate,
      head_lr,
      llrd,
      llrd_end,
      layers,
      total_steps,
      warmup_steps,
      params,
      groups,
    } = schedule;
    const classifier = fresh({ numHiddenLayers: layers, qkNormAffine: true });
    const plan = {
      learningRate: learning_rate,
      steps: total_steps,
      warmupSteps: warmup_steps,
      groups: undefined,
    };
    const { rates, optimizer } = learningRates({
      ...classifier,
      frozen: () => false,
      ...layerRates(classifier, plan, {
        layerDecay: llrd,
        layerDecayEnd: llrd_end,
        layerWarmup: kind === "llrd_cosine_warmup",
        headLearningRate: head_lr,
      }),
    }, plan);
    for (const [name, { group }] of Object.entries(params)) {
      assert(classifier.parameters.has(name), name);
      for (const [k, expected] of Object.entries(groups[group]!.lr)) {
        const got = rates(Number(k))[optimizer!.group!(name)]!;
        assertAlmostEquals(got, expected, expected * 1e-12, `${name} at ${k}`);
      }
    }
    assert(
      classifier.parameters.size - Object.keys(params).length <= 2,
      "all but the frozen patch embedding",
    );
    classifier.dispose();
  }
});

Deno.test("the official recipe runs: mixed labels, drop path, averaged weights, compiled in one as in parts", async () => {
  const losses: number[][] = [];
  for (const accumulate of [1, 2]) {
    const classifier = fresh(), tensors = tf.memory().numTensors;
    const run = finetune(classifier, few, {
      recipe: "official-base",
      steps: 4,
      batchSize: 16,
      accumulate,
      compile: accumulate === 1,
      validation: held,
      every: { validation: 2 },
    });
    const { history, best } = await run.finish();
    assertAlmostEquals(history[0]!.lr, 0, 0);
    assert(best === 2 || best === 4);
    assertSame(
      history[best! - 1]!.validation!,
      await evaluate(run.ema!, held, { prepare: compose(resize(32, "bicubic"), centerCrop(28)) }),
    );
    losses.push(history.map((s) => s.loss));
    run.ema!.dispose();
    assertEquals(tf.memory().numTensors, tensors);
    classifier.dispose();
  }
  losses[0]!.forEach((loss, i) => assertAlmostEquals(loss, losses[1]![i]!, 1e-4));
});

Deno.test("the other recipes run, with their own peak, warm-up and layers", async () => {
  // The largest rate of update 1 of 10: of the head in "nano", whose warm-up is one update; of the head's own rate; halfway of two.
  for (const [recipe, rate] of [["nano", 3e-3], ["official-large", 1e-3], ["small", 1e-3 / 2]] as const) {
    const classifier = fresh();
    const run = finetune(classifier, few, { recipe, steps: 10, batchSize: 8, compile: false });
    for await (const { step, lr } of run) {
      if (step < 2) continue;
      assertAlmostEquals(lr, rate, 1e-12, recipe);
      break;
    }
    run.dispose();
    run.ema?.dispose();
    classifier.dispose();
  }
});

Deno.test("the run ends with the weights that did best on the validation images, and reads the test images once", async () => {
  const classifier = fresh(), tensors = tf.memory().numTensors;
  let read = 0;
  const counted = changed(test.subset(0.03, 1), (key) => {
    if (key === "batches") read++;
    return undefined;
  });
  // The rate is so large that the network is worse in the end than on the way.
  const run = finetune(classifier, few, {
    steps: 40,
    batchSize: 32,
    learningRate: 0.02,
    warmupRatio: 1,
    validation: held,
    test: counted,
    compile: false,
    every: { validation: 4 },
  });
  const result = await run.finish();
  assertEquals(read, 1);
  const readings = result.history.filter((s) => s.validation);
  const highest = Math.max(...readings.map((s) => s.validation!.accuracy!));
  assert(result.best! < 40, `best at ${result.best}`);
  assertEquals(result.history[result.best! - 1]!.validation!.accuracy, highest);
  assertSame(await evaluate(classifier, held), result.history[result.best! - 1]!.validation!);
  assertSame(await evaluate(classifier, test.subset(0.03, 1)), result.test!);
  assertEquals(tf.memory().numTensors, tensors);
  classifier.dispose();
});

Deno.test("an evaluation tells of each class, shows itself as a table and as a confusion matrix, and keeps no tensor", async () => {
  const classifier = fresh(), tensors = tf.memory().numTensors, set = test.balanced(6);
  const found = await evaluate(classifier, set), { confusion, perClass, accuracy, interval, loss } = found;
  assertEquals(tf.memory().numTensors, tensors);
  const logits = tf.tidy(() => {
    const { images, shape } = [...set.batches({ size: set.length, shuffle: false })][0]!;
    return classifier.forward(tf.tensor4d(normalize(images, shape, classifier.preprocessor), shape)).logits;
  });
  const guesses = await tf.argMax(logits, 1).data();
  confusion.forEach((row, label) =>
    assertEquals(
      row,
      classes.map((_, guess) => guesses.filter((g, i) => g === guess && set.labels[i] === label).length),
    )
  );
  const right = confusion.map((row, label) => row[label]!);
  assertEquals(Object.values(perClass), right.map((n) => n / 6));
  assertAlmostEquals(accuracy, right.reduce((a, b) => a + b) / 60, 1e-12);
  assert(interval[0] < accuracy + 1e-12 && accuracy < interval[1]);
  const expected = tf.losses.softmaxCrossEntropy(tf.oneHot(tf.tensor1d(set.labels, "int32"), 10), logits);
  assertAlmostEquals(loss, (await expected.data())[0]!, 1e-4);
  const text = Deno.inspect(found);
  for (const words of ["60", `${(100 * accuracy).toFixed(1)} %`, "loss"]) assert(text.includes(words), text);
  const [plot] = found.plots();
  assert((await plot!.svg()).includes("What was taken for what"));
  classifier.dispose();
});

Deno.test("what cannot be is refused before training, by the field or the image", () => {
  const classifier = fresh(), tensors = tf.memory().numTensors;
  const set = (more: Partial<Parameters<typeof arrayDataset>[0]>) =>
    arrayDataset({
      name: "odd",
      images: new Uint8Array(70 * 28 * 28),
      shape: [70, 28, 28, 1],
      labels: Array(70).fill(0),
      classes,
      ...more,
    });
  const labels = few.labels.map((label, i) => i === 7 ? 10 : label);
  const mislabelled = changed(few, (key) => key === "labels" ? labels : undefined);
  const large = set({ images: new Uint8Array(70 * 32 * 32), shape: [70, 32, 32, 1] });
  const colour = set({ images: new Uint8Array(70 * 28 * 28 * 3), shape: [70, 28, 28, 3] });
  const empty = changed(held, (key) => key === "length" ? 0 : undefined);
  const wrong: [Dataset, FinetuneOptions, string][] = [
    [set({ classes: ["a", "b"] }), {}, "odd: expected 10 classes, as the classifier has, got 2"],
    [mislabelled, {}, "image 7: expected a label from 0 to 9, got 10"],
    [colour, {}, "odd: expected images with 1 channels"],
    [large, {}, "image 0: expected 28x28x1 to come out, got 32x32x1"],
    [large, { augment: null }, "odd: expected images of 28x28"],
    [few, { validation: large }, "odd: expected images of 28x28"],
    [few, { validation: empty }, "expected at least one image, got none"],
    [few, { test: large, prepare: resize(30) }, "expected 28x28x1 to come out, got 30x30x1"],
    [few, { validation: held, test: held }, "got one set twice"],
    [few, { mixup: -1 }, "mixup: expected a number from 0, got -1"],
    [few, { erasing: 2 }, "erasing: expected a number from 0 to 1, got 2"],
    [few, { dropPath: 1 }, "dropPath: expected a number from 0 to below 1"],
    [few, { headLearningRate: 0 }, "headLearningRate"],
    [few, { layerWarmup: true, layerDecayEnd: 1 }, "decayEnd"],
    [few, { every: { validation: 0 } }, "every.validation"],
    [few, { recipe: "best" as "nano" }, 'recipe: expected one of "default"'],
    [few, { mixUp: 1 } as FinetuneOptions, "unknown option mixUp"],
  ];
  for (const [dataset, options, message] of wrong) {
    assertThrows(() => finetune(classifier, dataset, options), Error, message);
  }
  assertThrows(() => finetune(classifier.backbone as Nepa as never, few), TypeError, "NepaClassifier.from");
  assertThrows(() => few.subset([]), RangeError, "empty subset");
  assertEquals(tf.memory().numTensors, tensors);
  classifier.dispose();
});
