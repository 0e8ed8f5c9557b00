import { assert, assertAlmostEquals, assertEquals, assertRejects, assertThrows } from "@std/assert";
import {
  fashionScenes,
  finetune,
  Nepa,
  NepaSegmenter,
  type Run,
  type SegmentationOptions,
  tf,
  useEngine,
} from "nepa";
import { withFolder } from "../support/folder.ts";
import { checkpoints } from "../support/kill.ts";
import { tinyJepa } from "../support/tiny.ts";

await useEngine("wasm");
const { train, validation, test } = await fashionScenes({
  size: 16,
  items: 1,
  train: 24,
  validation: 8,
  test: 6,
});
const small = {
  ...{
    imageSize: 16,
    patchSize: 4,
    numChannels: 1,
    hiddenSize: 16,
    numHiddenLayers: 2,
    numAttentionHeads: 2,
  },
  ...{ intermediateSize: 16, posEmbedShift: 0.1, layerscaleValue: null },
} as const;

function segmenter(head: "linear" | "upernet" = "upernet"): NepaSegmenter {
  const model = new Nepa(small, { seed: 1 });
  const options = head === "upernet" ? { head, channels: 8 } : { head };
  const made = NepaSegmenter.from(model, { ...options, classes: train.classes, seed: 1 });
  model.dispose();
  return made;
}

function run(options: SegmentationOptions = {}, one: NepaSegmenter = segmenter()): Run<NepaSegmenter> {
  const own = { batchSize: 4, learningRate: 3e-3, steps: 6, seed: 1 };
  return finetune(one, train, { ...own, validation, every: { validation: 2 }, emaDecay: 0.5, ...options });
}

/** No chance within the network, and all layers alike. */
const eager = { layerDecay: 1, dropPath: 0, dropout: 0, learningRate: 1e-2 };

/** Without anything beside the training. */
const alone = { validation: undefined, every: {}, emaDecay: null } as unknown as SegmentationOptions;

/** All values of a segmenter, one after the other. */
const values = ({ parameters, state }: NepaSegmenter): number[] =>
  [...parameters.values(), ...state.values()].flatMap((x) => [...x.dataSync()]);

function free({ model, ema }: Run<NepaSegmenter>): void {
  model.dispose();
  ema?.dispose();
}

for (const [engine, head] of [["tensorflow", "linear"], ["wasm", "upernet"]] as const) {
  Deno.test(`a ${head} head learns scenes, and its running statistics follow, on ${engine}`, async () => {
    await useEngine(engine);
    const tensors = tf.memory().numTensors,
      training = run({ ...eager, freeze: false, steps: 16, test }, segmenter(head));
    const before = [...training.model.state.values()].map((x) => [...x.dataSync()]);
    const result = await training.finish(), { history } = result;
    const losses = history.map(({ loss }) => loss);
    assert(losses.at(-1)! < losses[0]! - 0.15, String(losses));
    const at = history.filter(({ validation }) => validation).map(({ step }) => step);
    assertEquals(at, Array.from({ length: 8 }, (_, i) => 2 * i + 2));
    for (const reading of [result.test!, history[result.best! - 1]!.validation!]) {
      assert(reading.meanIoU! > 0 && reading.meanIoU! < reading.accuracy!, JSON.stringify(reading));
    }
    const highest = Math.max(...history.flatMap(({ validation }) => validation?.meanIoU ?? []));
    assertEquals(history[result.best! - 1]!.validation!.meanIoU, highest);
    [...training.model.state.values()].forEach((x, i) =>
      assert(x.dataSync().some((y, k) => y !== before[i]![k]))
    );
    free(training);
    assertEquals(tf.memory().numTensors, tensors);
  });
}

Deno.test("running statistics are copied into the average, weights are averaged", async () => {
  await useEngine("wasm");
  const training = run({ ...alone, steps: 3, emaDecay: 0.2 });
  await training.finish();
  const { model, ema } = training,
    [name] = [...model.parameters.keys()].filter((name) => name.includes("fpn_bottleneck"));
  for (const [name, x] of model.state) assertEquals(ema!.state.get(name)!.dataSync(), x.dataSync(), name);
  assert(
    ema!.parameters.get(name!)!.dataSync().some((x, i) => x !== model.parameters.get(name!)!.dataSync()[i]),
  );
  free(training);
});

Deno.test("a run that is broken off goes on with the same bits, running statistics, best and average included", async () => {
  await useEngine("wasm");
  const whole = run();
  await whole.finish();
  await withFolder(async (folder) => {
    const checkpoint = { folder, every: 2, resume: "auto" } as const, first = run({ checkpoint });
    for await (const { step } of first) if (step === 4) break;
    const again = run({ checkpoint });
    await again.finish();
    assertEquals(values(again.model), values(whole.model));
    assertEquals(values(again.ema!), values(whole.ema!));
    assertEquals(again.history.map(({ loss }) => loss), whole.history.map(({ loss }) => loss));
    const read = await NepaSegmenter.load(`${folder}/${checkpoints(folder).at(-1)}`);
    assertEquals(values(read), values(whole.model));
    const other = run({ checkpoint: { folder, resume: true }, dropout: 0.3 });
    await assertRejects(() => other.finish(), Error, "options.dropout: 0.1 then, 0.3 now");
    for (const one of [first, again, other]) free(one);
    read.dispose();
  });
  free(whole);
});

Deno.test("the linear recipe leaves the network as it is; UPerNet's moves deeper blocks less, and all but the last norm", async () => {
  await useEngine("wasm");
  const linear = run({ ...alone, steps: 2 }, segmenter("linear")),
    before = values(linear.model);
  await linear.finish();
  const frozen = [...linear.model.encoder.parameters.values()].reduce((sum, { size }) => sum + size, 0);
  assertEquals(values(linear.model).slice(0, frozen), before.slice(0, frozen));
  assert(values(linear.model).slice(frozen).some((x, i) => x !== before[frozen + i]));
  free(linear);

  const training = run({ ...alone, steps: 1, layerDecay: 0.5, weightDecay: 0, warmupRatio: 0 });
  const { parameters } = training.model,
    old = new Map([...parameters].map(([name, x]) => [name, x.dataSync().slice()]));
  await training.finish();
  assertEquals(training.notices, []);
  const moved = (name: string) =>
    Math.max(...Array.from(parameters.get(name)!.dataSync(), (x, i) => Math.abs(x - old.get(name)![i]!)));
  const rates = {
    "decode_head.fpn_bottleneck.conv.weight": 1,
    "vit_nepa.encoder.layer.1.output.dense.weight": 0.5,
  };
  const deep = {
    "vit_nepa.encoder.layer.0.output.dense.weight": 0.25,
    "vit_nepa.embeddings.cls_token": 0.125,
  };
  for (const [name, share] of Object.entries({ ...rates, ...deep, "vit_nepa.layernorm.weight": 0 })) {
    assertAlmostEquals(moved(name), 3e-3 * share, 1e-5, name); // AdamW's first step is the rate
  }
  free(training);
});

Deno.test("frozen statistics stay, and then a batch may be computed in parts", async () => {
  await useEngine("wasm");
  const losses: number[][] = [];
  for (const accumulate of [1, 2]) {
    const training = run({ freezeStatistics: true, accumulate, steps: 2, ...alone });
    const before = [...training.model.state.values()].map((x) => [...x.dataSync()]);
    losses.push((await training.finish()).history.map(({ loss }) => loss));
    assertEquals([...training.model.state.values()].map((x) => [...x.dataSync()]), before);
    free(training);
  }
  losses[0]!.forEach((loss, i) => assertAlmostEquals(loss, losses[1]![i]!, 1e-5));
});

Deno.test("I-JEPA's encoder is fine-tuned, too, at another size than its own", async () => {
  await useEngine("wasm");
  const model = tinyJepa(),
    one = NepaSegmenter.from(model, { classes: train.classes, head: "upernet", channels: 8 });
  const training = run({ size: 16, steps: 2, every: {} }, one);
  const { history } = await training.finish();
  assert(history.every(({ loss }) => loss > 0 && loss < 6) && history[1]!.validation!.meanIoU! >= 0);
  free(training);
  model.dispose();
});

Deno.test("sets without masks, with other classes or channels, options of other kinds: refused before training", async () => {
  await useEngine("wasm");
  const one = segmenter(),
    refused = (options: object, message: string, kind: new (message: string) => Error = RangeError) =>
      assertThrows(() => run(options as SegmentationOptions, one), kind, message);
  refused(
    { accumulate: 2 },
    "accumulate: expected 1, since batch norm takes the statistics of a whole batch, got 2",
  );
  refused({ labelSmoothing: 0.1 }, "unknown option labelSmoothing", TypeError);
  refused(
    { recipe: "official-base" },
    'recipe: expected one of "linear", "mae-upernet", got "official-base"',
  );
  refused({ validation: train }, "held out from training");
  refused({ size: 20 }, "expected");
  refused({ size: 20, augment: null }, "images of 20x20, since augment is null, got 16x16");
  const { noise } = await import("../support/tiny.ts");
  assertThrows(
    () => finetune(one, noise as never),
    RangeError,
    "noise: expected images with masks, got images without",
  );
  const few = NepaSegmenter.from(one.encoder, { classes: 3 });
  assertThrows(() => finetune(few, train), RangeError, "expected 3 classes, as the segmenter has, got 11");
  const turned = NepaSegmenter.from(one.encoder, { classes: train.classes.toReversed() });
  assertThrows(() => finetune(turned, train), RangeError, "in this order");
  for (const made of [one, few, turned]) made.dispose();
});
