import { assert, assertAlmostEquals, assertEquals, assertRejects, assertThrows } from "@std/assert";
import {
  currentEngine,
  type Dataset,
  evaluate,
  finetune,
  type IJepa,
  IJepaEncoder,
  knn,
  linearProbe,
  lowShot,
  Nepa,
  NepaClassifier,
  plotAttention,
  pretrain,
  RunFolderError,
  tf,
  useEngine,
} from "nepa";
import { withFolder } from "../support/folder.ts";
import { everyWay, free, numbersOf, ways } from "../support/plain.ts";
import { noise, tinyJepa, tinyJepaRun } from "../support/tiny.ts";

const all = (model: IJepa) => numbersOf(new Map([...model.parameters, ...model.state]));

everyWay(
  "I-JEPA trains, its target encoder follows, and a run goes on with the same bits",
  async ({ compile }) => {
    await withFolder(async (place) => {
      const train = async (folder: string, seed: number, until = 6) => {
        const checkpoint = { folder: `${place}/${folder}`, resume: "auto" as const };
        const run = tinyJepaRun({ steps: 6, compile, checkpoint }, seed), { model } = run;
        for await (const { step } of run) if (step === until) break;
        const { history } = run;
        run.dispose();
        return { model, history };
      };
      const start = tinyJepa(1), whole = await train("whole", 1), left = await train("left", 1, 3);
      const resumed = await train("left", 2);
      assertEquals(all(resumed.model), all(whole.model));
      assert(whole.history.every(({ loss }) => Number.isFinite(loss)));
      assert(whole.history.at(-1)!.validation!.loss > 0);
      const moved = (of: IJepa, name: string) => {
        const [a, b] = [of, start].map((model) =>
          new Map([...model.parameters, ...model.state]).get(name)!.dataSync()
        );
        return Math.max(...a!.map((x, i) => Math.abs(x - b![i]!)));
      };
      const name = "encoder.layer.0.output.dense.weight";
      const [context, target] = [moved(whole.model, `context.${name}`), moved(whole.model, `ijepa.${name}`)];
      assert(target > 0 && target < 0.1 * context, `${target} and ${context}`);
      assertEquals(moved(whole.model, "ijepa.embeddings.position_embeddings"), 0);
      free(start, whole.model, left.model, resumed.model);
    });
  },
  ways.slice(1, 4),
);

Deno.test("the step is compiled once, whatever the masks", async () => {
  const engine = await useEngine("tensorflow"), before = tf.memory().numTensors;
  for (const masks of ["published"] as const) { // those of "corrected" all have one shape
    const model = tinyJepa(1, { masks, numHiddenLayers: 1 }),
      run = pretrain(model, noise, { steps: 500, batchSize: 2, every: { collapse: 1000 } });
    const compiled = new Set<number>();
    for await (const { step, compileSeconds } of run) if (compileSeconds) compiled.add(step);
    assertEquals([...compiled], [1], masks);
    run.dispose();
    model.dispose();
  }
  assertEquals([tf.memory().numTensors, currentEngine() === engine], [before, true]);
});

Deno.test("the published recipe has the published masks, schedules and groups", async () => {
  await useEngine("wasm");
  const model = tinyJepa(), { published } = model.recipes, recipe = published(4096);
  assertEquals([recipe.steps, recipe.batchSize, recipe.clipNorm], [600, 2048, null]);
  const rate = recipe.learningRate as (k: number, steps: number) => number;
  assertAlmostEquals(rate(0, 300), 2.2e-4, 1e-12);
  assertAlmostEquals(rate(39, 300), 1e-3, 1e-12);
  assertAlmostEquals(rate(299, 300), 1e-6, 1e-12);
  const given = { steps: 3, batchSize: 8, recipe: "published" } as const;
  await withFolder(async (folder) => {
    const run = pretrain(model, noise, { ...given, checkpoint: { folder } });
    await run.finish();
    assertAlmostEquals(run.history[2]!.lr, rate(2, 3), 1e-12);
    const step = [...Deno.readDirSync(folder)].find(({ name }) => /^step-0*3$/.test(name))!;
    const saved = JSON.parse(await Deno.readTextFile(`${folder}/${step.name}/config.json`));
    assertEquals(saved.masks, "published");
    const other = pretrain(model, noise, {
      ...given,
      recipe: "default",
      checkpoint: { folder, resume: true },
    });
    const error = await assertRejects(() => other.finish(), RunFolderError);
    assert(error.message.includes('config.masks: "published" then, "corrected" now'), error.message);
    run.dispose();
    other.dispose();
  });
  assertEquals(model.config.masks, "corrected");
  model.dispose();
});

Deno.test("probes, neighbours, pictures, fine-tuning and few labels take the target encoder as any other", async () => {
  await useEngine("wasm");
  const before = tf.memory().numTensors, model = tinyJepa(), { encoder } = model;
  const [train, test] = noise.split([0.5, 0.5]) as [Dataset, Dataset];
  const { accuracy, untrained } = await linearProbe(
    encoder,
    train,
    test,
    { references: true },
  );
  assert([accuracy, untrained!].every((x) => x > 0 && x <= 1));
  assert((await knn(encoder, train, test)).accuracy > 0);
  const pooled = (pool?: "cls") =>
    tf.tidy(() => encoder.features(tf.zeros([2, 8, 8, 1]), pool && { pool }).dataSync());
  const mean = tf.tidy(() => tf.mean(encoder.forward(tf.zeros([2, 8, 8, 1])).predictions, 1).dataSync());
  assertEquals(pooled(), mean); // no patch is taken for CLS
  assertThrows(() => pooled("cls"), RangeError, "without CLS");
  const image = { data: noise.get(0).image, height: 8, width: 8, channels: 1 } as const;
  assert(String(await (await plotAttention(encoder, image, { patch: 3 })).svg()).includes("<svg"));
  await assertRejects(
    () => plotAttention(encoder, image, { patch: "cls" }),
    RangeError,
    "without CLS",
  );
  const classifier = NepaClassifier.from(model, { classes: noise.classes });
  const run = finetune(classifier, train, { steps: 3, batchSize: 8, dropPath: 0.2, validation: test });
  await run.finish();
  assert((await evaluate(classifier, test)).accuracy > 0);
  const few = {
    labels: [20],
    heldOut: 10,
    steps: () => 2,
    scratch: [{ warmupRatio: 0.2 }],
  };
  const { runs } = await lowShot(model, train, test, few);
  assertEquals(runs.length, 3);
  run.dispose();
  classifier.dispose();
  model.dispose();
  assertEquals(tf.memory().numTensors, before);
});

Deno.test("what cannot be trained is refused before it begins", async () => {
  await useEngine("wasm");
  const before = tf.memory().numTensors,
    tidy = tinyJepa(),
    narrow = tinyJepa(1, { minKeep: 4 }),
    other = tinyJepa(1, { imageSize: 12 });
  assertThrows(
    () => pretrain(narrow, noise),
    RangeError,
    "minKeep: expected at most 0 with corrected masks on 4 × 4 patches",
  );
  assertThrows(() => pretrain(other, noise), RangeError, "12");
  assertThrows(
    () => pretrain(other, noise, { recipe: "standardized" }),
    RangeError,
    'recipe: expected one of "default", "published"',
  );
  assertThrows(
    () => pretrain(tidy, noise, { shift: false }),
    TypeError,
    "shift: expected no switch of NEPA",
  );
  assertThrows(
    () => pretrain(tidy, noise, { causal: true }),
    TypeError,
    "causal: expected no switch of NEPA",
  );
  assertThrows(() => new Nepa({ positions: "table" }), RangeError, "positions: expected none");
  assertThrows(() => new IJepaEncoder({ qkNorm: true }), RangeError, "qkNorm: expected an encoder of I-JEPA");
  assertThrows(() => pretrain(narrow, noise, { emaDecay: 0.9 }), TypeError, "clone()");
  free(narrow, other, tidy);
  assertEquals(tf.memory().numTensors, before);
});
