import { assert, assertAlmostEquals, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { CheckpointError, type Encoder, Nepa, NepaSegmenter, Random, readSafetensors } from "nepa";
import { segmentationLoss, type SegmenterOptions, tf, useEngine } from "nepa";
import { positionTable } from "../../lib/model/patches.ts";
import { withFolder } from "../support/folder.ts";
import { loadFixture } from "../support/parity_segmentation.ts";
import { config, tinyJepa } from "../support/tiny.ts";

/** Patches of 4 × 4 through one matrix [16, 12]; images of any size, no CLS, one block. */
class Patches implements Encoder {
  readonly preprocessor = {
    ...{
      imageMean: [0.5],
      imageStd: [0.5],
      size: { height: 8, width: 8 },
      resample: 2,
      rescaleFactor: 1 / 255,
    },
  };
  readonly layers = ["embedding", 1, "final"] as const;
  readonly prefix = 0;
  readonly parameters = new Map([[
    "patches.weight",
    tf.tidy(() => tf.variable(tf.randomNormal([16, 12], 0, 0.2, "float32", 1))),
  ]]);
  depthOf = () => 0;
  untrained = () => new Patches();
  grid({ shape: [, height, width] }: { readonly shape: readonly number[] }): [number, number] {
    return [height! / 4, width! / 4];
  }
  tokens(images: tf.Tensor4D, layers: readonly unknown[]): tf.Tensor3D[] {
    const [rows, columns] = this.grid(images), B = images.shape[0];
    return tf.tidy(() => {
      const cut = images.cast("float32").reshape([B, rows, 4, columns, 4]).transpose([0, 1, 3, 2, 4]);
      const x = tf.matMul(
        cut.reshape([-1, 16]),
        this.parameters.get("patches.weight") as tf.Tensor as tf.Tensor2D,
      );
      return layers.map(() => x.reshape([B, rows * columns, 12]) as tf.Tensor3D);
    });
  }
  clone(): Patches {
    const made = new Patches();
    made.parameters.get("patches.weight")!.assign(this.parameters.get("patches.weight")!);
    return made;
  }
}

const upernet = { classes: 3, head: "upernet", channels: 8 } as const satisfies SegmenterOptions;
const images = (height: number, width: number) =>
  tf.randomUniform([2, height, width, 1], 0, 256, "int32", 3) as tf.Tensor4D;
const networks = {
  Nepa: () => new Nepa(config),
  IJepa: () => tinyJepa(),
  "a class of one's own": () => new Patches(),
};

for (const engine of ["tensorflow", "wasm"] as const) {
  for (const [name, make] of Object.entries(networks)) {
    Deno.test(`both heads stand on ${name}, whose weights they move, on ${engine}`, async () => {
      await useEngine(engine);
      const model = make(), before = tf.memory().numTensors;
      for (const options of [{ classes: 3 }, upernet]) {
        const segmenter = NepaSegmenter.from(model, options), inputs = images(16, 12);
        const masks = tf.zeros<tf.Rank.R3>([2, 16, 12], "int32");
        const loss = () => segmentationLoss(segmenter.forward(inputs, { training: true }), masks);
        const variables = [...segmenter.parameters.values()];
        const { value, grads } = tf.variableGrads(loss, variables);
        const first = segmenter.encoder.parameters.values().find(({ trainable }) => trainable)!;
        const moves = grads[first.name]!.dataSync().some((x) => x !== 0);
        assert(moves && Math.abs(value.dataSync()[0]! - Math.log(3) * (options === upernet ? 1.4 : 1)) < 0.3);
        const own = Object(model).encoder ?? model;
        for (const [name, x] of own.parameters) assert(segmenter.parameters.get(name) !== x, name);
        segmenter.dispose();
        tf.dispose([grads, value, inputs, masks]);
      }
      assertEquals(tf.memory().numTensors, before);
    });
  }
}

Deno.test("images of any size are segmented: padded by their mean, the padding cut off", async () => {
  await useEngine("wasm");
  const segmenter = NepaSegmenter.from(new Nepa(config), upernet), odd = images(10, 7);
  const whole = tf.tidy(() => {
    const grey = tf.fill([2, 12, 8, 1], 128, "int32"), [rows, columns] = [10, 7];
    const inside = tf.pad(tf.onesLike(odd), [[0, 0], [0, 12 - rows], [0, 8 - columns], [0, 0]]);
    const padded = tf.pad(odd, [[0, 0], [0, 2], [0, 1], [0, 0]]);
    return tf.where(inside.cast("bool"), padded, grey) as tf.Tensor4D;
  });
  const got = tf.tidy(() => segmenter.forward(odd).logits),
    all = tf.tidy(() => segmenter.forward(whole).logits);
  assertEquals(got.shape, [2, 10, 7, 3]);
  const cut = all.slice([0, 0, 0, 0], got.shape).dataSync();
  got.dataSync().forEach((x, i) => assertAlmostEquals(x, cut[i]!, 1e-5));
  assertThrows(() => segmenter.forward(images(4, 12)), RangeError, "2 × 2 patches or more, got 1 × 3");
  assertThrows(() => segmenter.forward(null as never), TypeError, "images: expected a tensor [B, H, W, C]");
});

Deno.test("I-JEPA computes its table of positions for the grid at hand; its pretraining takes the configured size alone", async () => {
  await useEngine("cpu");
  const model = tinyJepa(), { encoder } = model, x = images(12, 4); // of 8 × 8, by patches of 2
  tf.tidy(() => {
    const [tokens] = encoder.tokens(x, ["embedding"]);
    const patches = x.cast("float32").div(127.5).sub(1).reshape([2, 6, 2, 2, 2]).transpose([0, 1, 3, 2, 4]);
    const weight = encoder.parameters.get("ijepa.embeddings.patch_embeddings.projection.weight")!;
    const bare = tf.matMul(patches.reshape([24, 4]), weight as tf.Tensor as tf.Tensor2D).reshape([2, 12, 16]);
    const expected = tf.add(bare, tf.tensor(positionTable(16, 6, 2), [12, 16])).dataSync();
    tokens!.dataSync().forEach((x, i) => assertAlmostEquals(x, expected[i]!, 1e-5));
    const masks = model.draws({ batchSize: 2, random: new Random(0) });
    assertThrows(
      () => model.forward(x, masks),
      RangeError,
      "[B, 8, 8, 1], the size that masks are drawn for",
    );
  });
});

Deno.test("a saved segmenter is the network's own folder and the heads under PyTorch's names, and is read again", async () => {
  await useEngine("wasm");
  for (const fixture of ["segment-linear", "segment-upernet"]) {
    const path = `tests/fixtures/${fixture}`,
      json = JSON.parse(await Deno.readTextFile(`${path}/expect.json`));
    const segmenter = await loadFixture(fixture, json), channels = fixture === "segment-linear" ? 1 : 3;
    const side = fixture === "segment-linear" ? 18 : 24, x = tf.ones<tf.Rank.R4>([2, side, side, channels]);
    const logits = (one: NepaSegmenter) => tf.tidy(() => one.forward(x).logits.dataSync());
    await withFolder(async (folder) => {
      await segmenter.save(folder);
      for (const file of ["heads.safetensors", "model.safetensors"]) {
        const [ours, theirs] = await Promise.all([folder, path].map((at) => Deno.readFile(`${at}/${file}`)));
        const tensors = readSafetensors(theirs!).tensors, written = readSafetensors(ours!).tensors;
        assertEquals([...written.keys()].sort(), [...tensors.keys()].sort());
        for (const [name, tensor] of tensors) assertEquals(written.get(name), tensor, name);
      }
      const again = await NepaSegmenter.load(folder), backbone = await Nepa.load(folder);
      assertEquals([again.config, again.classes], [segmenter.config, segmenter.classes]);
      assertEquals(logits(again), logits(segmenter));
      await Deno.remove(`${folder}/heads.safetensors`);
      await assertRejects(() => NepaSegmenter.load(folder), CheckpointError, "heads.safetensors");
      await Deno.writeFile(`${folder}/heads.safetensors`, await Deno.readFile(`${folder}/model.safetensors`));
      await assertRejects(() => NepaSegmenter.load(folder), CheckpointError, "decode_head");
      await backbone.save(folder);
      await assertRejects(
        () => NepaSegmenter.load(folder),
        CheckpointError,
        "segmentation: expected how the heads",
      );
      again.dispose();
      backbone.dispose();
    });
    segmenter.dispose();
    x.dispose();
  }
});

Deno.test("a segmenter over I-JEPA is saved and read, too; a copy shares nothing", async () => {
  await useEngine("wasm");
  const before = tf.memory().numTensors, model = tinyJepa(), segmenter = NepaSegmenter.from(model, upernet);
  const x = images(8, 8), logits = (one: NepaSegmenter) => tf.tidy(() => one.forward(x).logits.dataSync());
  const shifted = tf.ones([16]);
  segmenter.state.get("pyramid.up4.1.running_mean")!.assign(shifted);
  const copy = segmenter.clone(), own = logits(segmenter);
  assertEquals(logits(copy), own);
  await withFolder(async (folder) => {
    await segmenter.save(folder);
    const again = await NepaSegmenter.load(folder);
    assertEquals(logits(again), own);
    again.dispose();
  });
  segmenter.dispose();
  assertEquals(logits(copy), own);
  copy.dispose();
  model.dispose();
  tf.dispose([x, shifted]);
  assertEquals(tf.memory().numTensors, before);
});

Deno.test("options that no head has, blocks out of order, a network that cannot be copied: refused in words", async () => {
  await useEngine("cpu");
  const model = new Nepa(config),
    from = (options: object) => () => NepaSegmenter.from(model, options as never);
  assertThrows(
    from({ classes: 3, channels: 8 }),
    RangeError,
    "channels: expected none, which a linear head does not have",
  );
  assertThrows(
    from({ ...upernet, blocks: [2, 1, 2, 2] }),
    RangeError,
    "blocks: expected four blocks, rising, from 1 to 2",
  );
  assertThrows(from({ ...upernet, head: "fcn" }), RangeError, 'head: expected one of "linear", "upernet"');
  assertThrows(from({ ...upernet, dropout: 0.1 }), TypeError, "unknown option dropout");
  assertThrows(from({ head: "linear" }), TypeError, "classes: expected their names or how many there are");
  const lone = Object.assign(Object.create(Patches.prototype), new Patches(), { clone: undefined });
  assertThrows(() => NepaSegmenter.from(lone, upernet), TypeError, "expected an encoder with clone()");
  assertThrows(
    () => NepaSegmenter.from(new Map() as never, upernet),
    TypeError,
    "model: expected a network, got a Map",
  );
  const segmenter = NepaSegmenter.from(model, upernet),
    one = images(8, 8).slice([0, 0, 0, 0], [1, -1, -1, -1]);
  const alone = () => segmenter.forward(one as tf.Tensor4D, { training: true });
  assertThrows(
    alone,
    RangeError,
    "batch norm: expected two values or more of a channel; take more images at a time, got 1",
  );
  const outputs = segmenter.forward(images(8, 8)), masks = tf.zeros<tf.Rank.R3>([2, 8, 4], "int32");
  assertThrows(
    () => segmentationLoss(outputs, masks),
    RangeError,
    "masks: expected [2,8,8], as the logits, got [2,8,4]",
  );
});

Deno.test("ignored pixels count for nothing, and dropped channels are scaled up", async () => {
  await useEngine("cpu");
  tf.tidy(() => {
    const logits = tf.tensor4d([5, 0, 0, 1, 2, 0, 7, 7], [1, 2, 2, 2]);
    const loss = (masks: number[]) =>
      segmentationLoss({ logits }, tf.tensor3d(masks, [1, 2, 2], "int32")).dataSync()[0]!;
    assertAlmostEquals(loss([255, 1, 255, 0]), (Math.log1p(Math.exp(-1)) + Math.LN2) / 2, 1e-6);
    assertEquals(loss([255, 255, 255, 255]), 0);
    const gradient = tf.grad((x) =>
      segmentationLoss({ logits: x as tf.Tensor4D }, tf.fill([1, 2, 2], 255, "int32"))
    )(logits);
    assert(gradient.dataSync().every((x) => x === 0));
  });
  await useEngine("wasm");
  const segmenter = NepaSegmenter.from(new Nepa({ ...config, dropPathProb: 0 }), {
    ...upernet,
    channels: 400,
  });
  const draws = segmenter.draws(2, new Random(0), { dropout: 0.1, dropPath: 0.5 });
  assertEquals(Object.entries(draws).map(([name, { shape }]) => [name, shape]), [
    ["ropeShift", [2]],
    ["ropeRescale", [1]],
    ["dropPath", [4, 2]],
    ["decode_head", [2, 400]],
    ["auxiliary_head", [2, 200]],
  ]);
  const factors = draws.decode_head!.dataSync(), kept = factors.filter((x) => x !== 0);
  assert(kept.every((x) => Math.abs(x - 1 / 0.9) < 1e-6) && kept.length > 680 && kept.length < 760);
  const x = images(8, 8),
    [dropped, plain] = [draws, undefined].map((draws) =>
      tf.tidy(() => segmenter.forward(x, { draws }).logits.dataSync())
    );
  assert(dropped!.some((y, i) => Math.abs(y - plain![i]!) > 1e-4));
});
