import { fileURLToPath } from "node:url";
import { assert, assertEquals, assertNotEquals, assertRejects, assertThrows } from "@std/assert";
import { evaluate, fashionMnist, finetune, Nepa, NepaClassifier, nepaLoss, NonFiniteError } from "nepa";
import { pretrain, type PretrainLoss, type PretrainOptions, runFigure, tf, useEngine } from "nepa";

import { config, few, short, trained, worst } from "../support/trained.ts";

const engine = await useEngine("tensorflow");
const { train, test } = await fashionMnist();

Deno.test("compiled and uncompiled training agree over 50 steps, with drop path, RoPE augmentation, warm-up and averaging", async () => {
  const options: PretrainOptions = { steps: 50, batchSize: 16, seed: 5, emaDecay: 0.9, warmupRatio: 0.2 };
  const compiled = await trained(options), plain = await trained({ ...options, compile: false });
  compiled.result.history.forEach(({ loss, lr, step }, i) => {
    const other = plain.result.history[i]!;
    assert(
      Math.abs(loss - other.loss) <= 1e-4 * Math.abs(other.loss),
      `step ${step}: ${loss} and ${other.loss}`,
    );
    assertEquals(lr, other.lr);
  });
  assert(worst(compiled.weights, plain.weights) < 2e-3);
  assert(worst(compiled.ema, plain.ema) < 2e-3);
  assert(worst(compiled.ema, compiled.weights) > 1e-5, "the average is not the last weights");
});

Deno.test("standardised targets train the same compiled and not, and the held-out loss is by them too", async () => {
  const validation = test.subset(0.01), options = { ...short, standardizeTargets: true, validation };
  const compiled = await trained(options), plain = await trained({ ...options, compile: false });
  const loss = ({ result }: typeof plain) => result.history[0]!.validation!.loss;
  assert(worst(compiled.weights, plain.weights) < 2e-3);
  assert(Math.abs(loss(compiled) - loss(plain)) < 1e-4);
  const other = await trained({ ...short, validation, compile: false });
  assert(worst(compiled.weights, other.weights) > 1e-4);
  assert(loss(other) < loss(compiled) - 0.1, "what all targets share is easy to predict");
  const shared = ({ result }: typeof plain) => result.history[0]!.metrics!.meanDirection;
  assert(
    shared(other) > shared(plain) + 0.2,
    "the guesses are compared with the same targets as the predictions",
  );
  await assertRejects(
    () => trained({ ...options, accumulate: 4, compile: false }),
    RangeError,
    "accumulate: expected a loss that is the mean over the images",
  );
});

Deno.test("the small recipe is the default one with standardised targets, and more updates", async () => {
  const small = await trained({ ...short, recipe: "small", compile: false });
  const same = await trained({ ...short, standardizeTargets: true, compile: false });
  assertEquals(small.weights, same.weights);
  const model = new Nepa(config, { seed: 1 }), run = pretrain(model, few, { recipe: "small" });
  assertEquals(run.steps, 4800);
  run.dispose();
  model.dispose();
});

Deno.test("an objective of one's own is trained and read on the held-out images, compiled or not", async () => {
  const validation = test.subset(0.01);
  const loss: PretrainLoss = ({ embeddings, predictions }) => {
    const [batch, tokens, size] = predictions.shape;
    return nepaLoss({
      embeddings: tf.slice(embeddings, [0, 2, 0]),
      predictions: tf.slice(predictions, 0, [batch, tokens - 2, size]),
    }, { shift: false });
  };
  const compiled = await trained({ ...short, validation, loss });
  const plain = await trained({ ...short, validation, loss, compile: false });
  const usual = await trained({ ...short, validation, compile: false });
  assert(worst(compiled.weights, plain.weights) < 2e-3);
  assert(worst(plain.weights, usual.weights) > 1e-4);
  const held = ({ result }: typeof plain) => result.history.at(-1)!.validation!.loss;
  assert(Math.abs(held(compiled) - held(plain)) < 1e-4);
  assert(held(plain) > held(usual) + 0.02, "further ahead is harder");
  const same = await trained({ ...short, validation, loss: (outputs) => nepaLoss(outputs), compile: false });
  assert(worst(same.weights, usual.weights) < 1e-5, "the method's own, given as a function");
});

Deno.test("the same seed gives the same bits; another seed gives others", async () => {
  const one = await trained(short), two = await trained(short), other = await trained({ ...short, seed: 4 });
  assertEquals(one.result.history.map((s) => s.loss), two.result.history.map((s) => s.loss));
  assertEquals(worst(one.weights, two.weights), 0);
  assertNotEquals(one.result.lossLast, other.result.lossLast);
});

Deno.test("the same seed gives the same bits in other processes", async () => {
  const script = fileURLToPath(new URL("../support/bits.ts", import.meta.url)), hashes: string[] = [];
  for (let i = 0; i < 3; i++) {
    const { stdout } = await new Deno.Command(Deno.execPath(), { args: ["run", "-A", script] }).output();
    hashes.push(new TextDecoder().decode(stdout).trim());
  }
  assert(/^[0-9a-f]{64}$/.test(hashes[0]!), hashes[0]);
  assertEquals(hashes, Array(3).fill(hashes[0]));
});

Deno.test("a run that is left by break goes on where it was, as if it had never stopped", async () => {
  const whole = await trained(short);
  const model = new Nepa(config, { seed: 1 }), run = pretrain(model, few, short);
  for await (const { step } of run) if (step === 2) break;
  assertEquals([run.stopped, run.reason, run.history.length], [true, "break", 2]);
  for await (const { step } of run) if (step === 3) break;
  const result = await run.finish();
  assertEquals(result.stopped, false);
  assertEquals(result.history.map((s) => s.loss), whole.result.history.map((s) => s.loss));
  assertEquals(
    worst([...model.parameters.values()].map((v) => v.dataSync() as Float32Array), whole.weights),
    0,
  );
  model.dispose();
});

Deno.test("an abort signal ends a run after the current step", async () => {
  const model = new Nepa(config, { seed: 1 }), controller = new AbortController();
  const aborted = pretrain(model, few, { ...short, signal: controller.signal });
  for await (const { step } of aborted) if (step === 2) controller.abort();
  assertEquals([aborted.history.length, aborted.reason], [2, "aborted"]);
  assertEquals((await aborted.finish()).stopped, true);
  aborted.dispose();
  model.dispose();
});

Deno.test("Ctrl-C ends a run after the current step, the next loop goes on, and a second Ctrl-C ends the process", async () => {
  const script = fileURLToPath(new URL("../support/interrupted.ts", import.meta.url));
  const { code, stdout } = await new Deno.Command(Deno.execPath(), { args: ["run", "-A", script] }).output();
  assertEquals(new TextDecoder().decode(stdout).trim().split("\n"), ["3 interrupted false", "4 break"]);
  assertEquals(code, 130);
});

Deno.test("a run cannot be iterated twice at once", async () => {
  const model = new Nepa(config, { seed: 1 }), run = pretrain(model, few, short);
  for await (const { step } of run) {
    if (step > 1) break;
    await assertRejects(() => run.finish(), TypeError, "iterated already");
  }
  run.dispose();
  model.dispose();
});

Deno.test("a hundred steps leave tensors and handles as they were, and a finished run leaves only the model", async () => {
  const handles = () =>
    (tf.backend() as unknown as { binding: { getNumOfTensors(): number } }).binding.getNumOfTensors();
  const before = tf.memory().numTensors;
  const model = new Nepa(config, { seed: 1 }), own = model.parameters.size;
  const run = pretrain(model, few, { ...short, steps: 104, every: { collapse: 20 } });
  let at: [number, number] | undefined;
  for await (const { step } of run) {
    if (step === 3) at = [tf.memory().numTensors, handles()];
    if (step === 103) assertEquals([tf.memory().numTensors, handles()], at);
  }
  assertEquals(tf.memory().numTensors, before + own);
  model.dispose();
  assertEquals(tf.memory().numTensors, before);
});

Deno.test("the collapse meter reads held-out images, or training images, at the first step, at every interval, at the end", async () => {
  const model = new Nepa(config, { seed: 1 });
  const { history } = await pretrain(model, few, { ...short, validation: test, every: { collapse: 4 } })
    .finish();
  assertEquals(history.filter((s) => s.metrics).map((s) => s.step), [1, 4, 6]);
  const { metrics, validation } = history.at(-1)!;
  assert(metrics!.featureStd > 0.3 && metrics!.effectiveRank > 2 && !metrics!.collapsed);
  assert(metrics!.previousPatch < metrics!.meanDirectionPerPosition && metrics!.meanDirectionPerPosition < 1);
  assert(validation!.loss < 0 && validation!.loss > -1);
  const unheld = await pretrain(model, few, short).finish();
  assert(unheld.history[0]!.metrics && !unheld.history[0]!.validation);
  model.dispose();
});

Deno.test("a linear probe runs beside pretraining where asked, changes nothing of it, and is a line of its plot", async () => {
  const probed = new Nepa(config, { seed: 1 }), plain = new Nepa(config, { seed: 1 });
  const before = tf.memory().numTensors, options = { ...short, validation: test.balanced(20) };
  const run = pretrain(probed, few, { ...options, every: { collapse: 1000, probe: 4 } });
  const { history } = await run.finish();
  assertEquals(tf.memory().numTensors, before);
  assertEquals(history.filter((s) => s.probe !== undefined).map((s) => s.step), [4, 6]);
  assert(history.at(-1)!.probe! > 0.2 && history.at(-1)!.probe! <= 1, `${history.at(-1)!.probe}`);
  const without = await pretrain(plain, few, options).finish();
  assertEquals(history.map((s) => s.loss), without.history.map((s) => s.loss));
  assert(without.history.every((s) => s.probe === undefined));
  const line = runFigure(run).toJSON().data.find(({ name }) => name === "linear probe")!;
  assertEquals(line.x, [4, 6]);
  assertThrows(() => pretrain(plain, few, { every: { probe: 0 } }), RangeError, "every.probe");
  assertThrows(
    () => pretrain(plain, few.subset([0, 1]), { batchSize: 2, every: { probe: 1 } }),
    RangeError,
    "20 images",
  );
  probed.dispose();
  plain.dispose();
});

Deno.test("training lowers the loss below what guessing the mean direction reaches", async () => {
  const model = new Nepa({ ...config, dropPathProb: 0 }, { seed: 1 });
  const { lossFirst, lossLast, history } = await pretrain(model, train, { steps: 200, batchSize: 32 })
    .finish();
  assert(lossLast < lossFirst - 0.2);
  assert(lossLast < -history.at(-1)!.metrics!.meanDirectionPerPosition, `${lossLast}`);
  model.dispose();
});

Deno.test("without the stop-gradient the embeddings collapse, and the run says so once", async () => {
  const model = new Nepa({ ...config, dropPathProb: 0, layerscaleValue: 0.1 }, { seed: 1 });
  const run = pretrain(model, train, {
    steps: 300,
    batchSize: 32,
    stopGradient: false,
    every: { collapse: 50 },
  });
  const warn = console.warn, said: string[] = [];
  console.warn = (text: string) => said.push(text);
  try {
    await run.finish();
  } finally {
    console.warn = warn;
  }
  assertEquals(run.history.at(-1)!.metrics!.collapsed, true);
  assertEquals(run.notices.length, 1);
  assert(run.notices[0]!.includes("collapsed"));
  assertEquals(said, run.notices);
  model.dispose();
});

Deno.test("a value that is not a number stops the run, names step and tensor, and leaves the weights as they were", async () => {
  const model = new Nepa(config, { seed: 1 }), run = pretrain(model, few, short);
  for await (const { step } of run) if (step === 2) break;
  const name = "vit_nepa.encoder.layer.1.output.dense.bias", bias = model.parameters.get(name)!;
  tf.tidy(() => bias.assign(tf.fill([32], NaN)));
  const other = model.parameters.get("vit_nepa.layernorm.weight")!, before = other.dataSync().slice();
  const tensors = tf.memory().numTensors;
  const error = await assertRejects(() => run.finish(), NonFiniteError) as Error;
  assert(error.message.includes("step 3") && error.message.includes(name), error.message);
  assertEquals(other.dataSync(), before);
  assertEquals(tf.memory().numTensors, tensors);
  tf.tidy(() => bias.assign(tf.zeros([32])));
  assertEquals((await run.finish()).steps, 6);
  model.dispose();
});

Deno.test("options that cannot be are refused before anything is computed", () => {
  const model = new Nepa(config, { seed: 1 }), tensors = tf.memory().numTensors;
  const color = new Nepa({ ...config, numChannels: 3 }), large = new Nepa({ ...config, imageSize: 56 });
  const wrong: [() => unknown, string][] = [
    [() => pretrain(model, few, { steps: 0 }), "steps: expected an integer from 1, got 0"],
    [() => pretrain(model, few, { batchSize: 5000 }), "batchSize: 5000 images do not fit"],
    [() => pretrain(model, few, { learningRate: -1 }), "learningRate: expected a positive number"],
    [() => pretrain(model, few, { steps: 3, epochs: 3 }), "expected steps or epochs, got both"],
    [() => pretrain(model, few, { emaDecay: 1 }), "emaDecay"],
    [() => pretrain(model, few, { recipe: "best" as "default" }), "recipe"],
    [() => pretrain(model, few, { batchsize: 3 } as PretrainOptions), "unknown option batchsize"],
    [() => pretrain(model, few, { loss: nepaLoss, shift: false }), "expected loss or shift, got both"],
    [() => pretrain(model, few, { seed: 0.5 }), "seed: expected an integer"],
    [() => pretrain(color, few), "expected images with 3 channels"],
    [() => pretrain(large, few), "expected images of 56x56"],
  ];
  for (const [f, message] of wrong) assertThrows(f, Error, message);
  tf.dispose([...color.parameters.values(), ...large.parameters.values()]);
  assertEquals(tf.memory().numTensors, tensors);
  model.dispose();
});

Deno.test("the official recipe scales the learning rate with the batch, crops, and averages the weights", async () => {
  const model = new Nepa(config, { seed: 1 });
  const run = pretrain(model, few, {
    recipe: "official",
    batchSize: 128,
    steps: 40,
    seed: 0,
    every: { collapse: 1000 },
  });
  const { history } = await run.finish();
  assertEquals(history[0]!.lr, 0);
  assert(Math.abs(Math.max(...history.map((s) => s.lr)) - 3e-4 * 128 / 256) < 1e-12);
  assertEquals(history.findIndex((s) => s.lr === 3e-4 * 128 / 256), 1); // 2.5 % of 40 updates
  assert(run.ema);
  run.ema!.dispose();
  model.dispose();
});

Deno.test("fine-tuning learns to classify, reads the validation images, and leaves no tensors", async () => {
  const model = new Nepa({ ...config, dropPathProb: 0 }, { seed: 1 }), labelled = train.balanced(60, 0);
  const classifier = NepaClassifier.from(model, { classes: train.classes });
  const start = await evaluate(classifier, test.subset(0.05));
  const tensors = tf.memory().numTensors;
  const run = finetune(classifier, labelled, {
    steps: 200,
    batchSize: 32,
    validation: test.subset(0.05),
    every: { validation: 100 },
  });
  const { history } = await run.finish();
  assertEquals(tf.memory().numTensors, tensors);
  assertEquals(history.filter((s) => s.validation).map((s) => s.step), [100, 200]);
  const { loss, accuracy: right } = await evaluate(classifier, test.subset(0.05));
  assertEquals(history.at(-1)!.validation, { accuracy: right, loss });
  const { accuracy } = history.at(-1)!.validation!;
  assert(accuracy! > Math.max(0.4, start.accuracy + 0.2), `${start.accuracy} to ${accuracy}`);
  assertEquals(history.findIndex((s) => Math.abs(s.lr - 3e-3) < 1e-15), 40); // a fifth of the updates
  assertThrows(
    () => finetune(NepaClassifier.from(model, { classes: 3 }), labelled),
    RangeError,
    "expected 3 classes",
  );
  classifier.dispose();
  model.dispose();
});

Deno.test("an engine that does not compile trains the same", async () => {
  const compiled = await trained(short);
  await useEngine("wasm");
  try {
    const plain = await trained(short);
    compiled.result.history.forEach(({ loss }, i) =>
      assert(Math.abs(loss - plain.result.history[i]!.loss) < 1e-4)
    );
  } finally {
    assertEquals(await useEngine("tensorflow"), engine);
  }
});

Deno.test("images have the configured size, whatever a preprocessing file says they are resized to first", async () => {
  const plain = new Nepa(config, { seed: 1 }), { preprocessor } = plain, size = { height: 256, width: 256 };
  const model = new Nepa(config, { seed: 1, preprocessor: { ...preprocessor, size } });
  const losses = async (model: Nepa) => {
    const options = { ...short, steps: 2, every: { probe: 2 }, compile: false };
    return (await pretrain(model, few, options).finish()).history.map(({ loss, probe }) => [loss, probe]);
  };
  assertEquals(await losses(model), await losses(plain));
  plain.dispose();
  model.dispose();
});
