import {
  assert,
  assertEquals,
  assertNotEquals,
  assertRejects,
  assertStringIncludes,
  assertThrows,
} from "@std/assert";
import { AdamW, finetune, Mlp, Nepa, NepaClassifier, nepaLoss, pretrain, tf, update, useEngine } from "nepa";
import { nepaAnd, parts, QUICK, refusal, still, tried, valuesOf, WAYS } from "../support/objectives.ts";
import { noise } from "../support/tiny.ts";

const scalar = (value: number, trainable = true) => tf.tidy(() => tf.variable(tf.scalar(value), trainable));
const throughPatches = ({ embeddings }: { embeddings: tf.Tensor3D }) =>
  tf.mean(tf.square(embeddings)) as tf.Scalar;

for (const [engine, compile] of WAYS) {
  Deno.test(`a variable that nothing trains is refused, with what to write instead, on ${engine}, compile: ${compile}`, async () => {
    await useEngine(engine);
    const before = tf.memory().numTensors, projector = new Mlp([16, 16]);
    const loss = nepaAnd({
      loss: ({ embeddings, predictions }) =>
        nepaLoss({ embeddings, predictions: projector.apply(predictions) }),
    });
    const message = await refusal(loss, { compile });
    for (
      const part of [
        "reads 2 variables that nothing trains",
        "mlp.0.weight [16,16]",
        "mlp.0.bias [16]",
        "as `parameters`",
        "as `state`",
      ]
    ) {
      assertStringIncludes(message, part);
    }
    assertStringIncludes(message, "objectives.ts:");
    const { parameters } = projector, first = valuesOf(parameters);
    for (const kind of [...(engine === "wasm" ? ["state" as const] : []), "parameters"] as const) {
      const run = tried({ ...loss, [kind]: parameters }, { compile });
      await run.finish();
      (kind === "state" ? assertEquals : assertNotEquals)(valuesOf(parameters), first);
      run.model.dispose();
    }
    for (const x of parameters.values()) x.trainable = false;
    const kept = valuesOf(parameters);
    assertEquals(await refusal(loss, { compile }), "nothing was refused");
    assertEquals(await refusal({ ...loss, parameters }, { compile }), "nothing was refused");
    assertEquals(valuesOf(parameters), kept);
    projector.dispose();
    assertEquals(tf.memory().numTensors, before);
  });

  Deno.test(`readings change no state: \`after\` is called once an update, on ${engine}, compile: ${compile}`, async () => {
    await useEngine(engine);
    const count = scalar(0), before = tf.memory().numTensors;
    const objective = nepaAnd({
      state: new Map([["count", count]]),
      after: () => count.assign(tf.add(count, 1)),
    });
    for (const accumulate of parts(engine, compile)) {
      tf.tidy(() => count.assign(tf.scalar(0)));
      const run = tried(objective, {
        compile,
        accumulate,
        validation: noise.subset(0.5),
        every: { collapse: 1 },
      });
      const seen: number[] = [];
      for await (const _ of run) seen.push(count.dataSync()[0]!);
      assertEquals(seen, [1, 2, 3]);
      run.model.dispose();
    }
    count.dispose();
    assertEquals(tf.memory().numTensors, before - 1);
  });

  Deno.test(`what the loss does not reach stays, moments too, and the first step names it, on ${engine}, compile: ${compile}`, async () => {
    await useEngine(engine);
    for (const accumulate of parts(engine, compile)) {
      const run = tried(nepaAnd({ loss: throughPatches }), { compile, accumulate, weightDecay: 0.5 });
      const { parameters } = run.model, before = valuesOf(parameters), notices: (string | undefined)[] = [];
      for await (const { notice } of run) notices.push(notice);
      const after = valuesOf(parameters);
      for (const [name, values] of Object.entries(before)) {
        const reached = name.includes(".embeddings.");
        (reached ? assertNotEquals : assertEquals)(after[name], values, name);
      }
      assertStringIncludes(
        notices[0]!,
        "the loss does not reach 20 parameters, which stay as they are: vit_nepa.enc",
      );
      assertEquals(notices.slice(1).some((notice) => notice?.includes("reach")), false);
      run.model.dispose();
    }
  });
}

for (const [engine, compile] of QUICK) {
  Deno.test(`a loss or targets that assign are refused, and the variable stays, on ${engine}, compile: ${compile}`, async () => {
    await useEngine(engine);
    const state = new Map([["count", scalar(7)]]),
      count = state.get("count")!,
      before = tf.memory().numTensors;
    const assigning = (embeddings: tf.Tensor3D) => {
      count.assign(tf.add(count, 1));
      return embeddings;
    };
    const one = nepaAnd({ state, loss: ({ embeddings }) => tf.mean(assigning(embeddings)) as tf.Scalar });
    const two = nepaAnd({ state, targets: ({ embeddings }) => assigning(embeddings) });
    for (const objective of [one, two]) {
      assertStringIncludes(await refusal(objective, { compile }), "a loss only reads. Move it in `after`");
      assertEquals([count.dataSync()[0], tf.memory().numTensors], [7, before]);
    }
    count.dispose();
  });

  Deno.test(`trainable = false and frozen groups leave weights as they are, on ${engine}, compile: ${compile}`, async () => {
    await useEngine(engine);
    const held = "vit_nepa.encoder.layer.0.output.dense.weight";
    const changed = async (freeze: boolean, groups: object, tune: boolean) => {
      const model = new Nepa(still, { seed: 1 }), before = tf.memory().numTensors;
      const network = tune ? NepaClassifier.from(model, { classes: noise.classes }) : model;
      const x = network.parameters.get(held)!, first = [...x.dataSync()];
      x.trainable = !freeze;
      const options = {
        steps: 3,
        batchSize: 8,
        compile,
        weightDecay: 0.5,
        groups: (name: string) => name === held ? groups : {},
      };
      const run = network instanceof Nepa
        ? pretrain(network, noise, options)
        : finetune(network, noise, options);
      await run.finish();
      const same = first.every((value, i) => value === x.dataSync()[i]);
      if (tune) network.dispose();
      assertEquals(tf.memory().numTensors, before);
      model.dispose();
      return !same;
    };
    for (const tune of [false, true]) {
      assert(await changed(false, {}, tune));
      assertEquals(await changed(true, {}, tune), false, "trainable = false");
      assertEquals(await changed(false, { frozen: true }, tune), false, `frozen, finetune: ${tune}`);
      assertEquals(await changed(false, { rate: 0 }, tune), false, "rate: 0");
    }
  });
}

Deno.test("parameters that come, go, are replaced, freeze or thaw after the run was made are refused, between steps too", async () => {
  await useEngine("wasm");
  const name = "vit_nepa.layernorm.bias";
  type Variables = Map<string, tf.Variable>;
  const changes: ((parameters: Variables, own: Variables) => void)[] = [
    (parameters) => parameters.set("more", scalar(1)),
    (_, own) => own.set("more", scalar(1)),
    (parameters) => parameters.delete(name),
    (parameters) => parameters.set(name, tf.tidy(() => tf.variable(tf.zeros([16])))),
    (parameters) => parameters.get(name)!.trainable = false,
    (_, own) => own.get("factor")!.trainable = false,
  ];
  for (const change of changes) {
    for (const after of [0, 2]) {
      const own = new Map([["factor", scalar(1)]]);
      const run = tried(nepaAnd({
        parameters: own,
        loss: ({ outputs }) => tf.mul(nepaLoss(outputs), own.get("factor")!) as tf.Scalar,
      }));
      if (after > 0) { for await (const { step } of run) if (step === after) break; }
      change(run.model.parameters, own);
      await assertRejects(
        () => run.finish(),
        TypeError,
        "expected those that were there when the training was made",
      );
      assertEquals(run.history.length, after);
    }
  }
  const classifier = new NepaClassifier(still, { classes: 2 });
  const run = finetune(classifier, noise, { steps: 3, batchSize: 8 });
  for await (const { step } of run) if (step === 2) break;
  classifier.parameters.get("classifier.bias")!.trainable = false;
  await assertRejects(() => run.finish(), TypeError, "with the same `trainable`");
});

Deno.test("a network that reads a variable outside of its parameters is refused, fine-tuned too", async () => {
  await useEngine("wasm");
  const extra = scalar(1);
  class Scaled extends Nepa {
    override forward(images: tf.Tensor4D, options = {}) {
      const { embeddings, predictions } = super.forward(images, options);
      return { embeddings, predictions: tf.mul(predictions, extra) as tf.Tensor3D };
    }
  }
  const model = new Scaled(still, { seed: 1 }),
    classifier = NepaClassifier.from(model, { classes: noise.classes });
  const options = { steps: 2, batchSize: 8 };
  for (const run of [pretrain(model, noise, options), finetune(classifier, noise, options)]) {
    const { message } = await assertRejects(
      () => run.finish(),
      TypeError,
      "reads 1 variables that nothing trains",
    );
    assertStringIncludes(message, "variables_test.ts:");
  }
});

Deno.test("an update by hand refuses strangers and parameters that its optimizer has not, and warns of those it does not reach", async () => {
  const engine = await useEngine("tensorflow"), before = tf.memory().numTensors;
  const [a, b, c] = [scalar(1), scalar(2), scalar(3)], said: string[] = [];
  const optimizer = new AdamW(new Map([["a", a], ["b", b]]), { weightDecay: 0.5, decay: () => true });
  const step = async (loss: () => tf.Tensor, names: Record<string, tf.Variable>, compile: boolean) => {
    const unreached = (names: readonly string[]) => said.push(...names);
    const one = update({
      loss: () => loss() as tf.Scalar,
      parameters: new Map(Object.entries(names)),
      optimizer,
      unreached,
    });
    const compiled = engine.compile(one, { compile }),
      rates = optimizer.rates(0, [0.1]),
      batch = { x: tf.scalar(0) };
    try {
      tf.dispose({ ...await compiled({ batch, rates }) });
    } finally {
      tf.dispose([rates, batch.x]);
      compiled.dispose();
    }
  };
  for (const compile of [true, false]) {
    await assertRejects(
      () => step(() => tf.mul(a, c), { a, b }, compile),
      TypeError,
      "reads 1 variables that nothing",
    );
    await assertRejects(() => step(() => tf.mul(a, c), { a, b, c }, compile), TypeError, "got none for c");
    await assertRejects(() => step(() => tf.mul(a, c), { a, b: c }, compile), TypeError, "got none for b");
    said.length = 0;
    await step(() => tf.square(a), { a, b }, compile);
    assertEquals([...new Set(said)], ["b"]);
    assertEquals([b.dataSync()[0], c.dataSync()[0]], [2, 3]);
  }
  assertThrows(
    () => update({ loss: () => a, parameter: new Map(), optimizer } as never),
    TypeError,
    "did you mean parameters?",
  );
  optimizer.dispose();
  tf.dispose([a, b, c]);
  assertEquals(tf.memory().numTensors, before);
});
