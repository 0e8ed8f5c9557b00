import { assert, assertAlmostEquals, assertEquals, assertRejects } from "@std/assert";
import {
  attentiveProbe,
  type Encoder,
  fashionMnist,
  knn,
  linearProbe,
  plotClassMap,
  plotPatchColors,
} from "nepa";
import { Random, readFeatures, tf, useEngine } from "nepa";

const { train, test } = await fashionMnist(), few = train.balanced(12), judged = test.balanced(6);

/** Patches of 7 × 7 through one random matrix [49, 24] and a ReLU; no CLS, no heads, two layers. */
class RandomPatches implements Encoder {
  readonly preprocessor = {
    imageMean: [0.5],
    imageStd: [0.5],
    size: { height: 28, width: 28 },
    resample: 2,
    rescaleFactor: 1 / 255,
  };
  readonly layers = ["embedding", "final"] as const;
  readonly prefix = 0;
  readonly parameters: ReadonlyMap<string, tf.Variable>;

  constructor(seed: number) {
    const random = new Random(seed),
      values = Float32Array.from({ length: 49 * 24 }, () => random.normal(0, 0.2));
    this.parameters = new Map([["weight", tf.tidy(() => tf.variable(tf.tensor2d(values, [49, 24])))]]);
  }
  depthOf(): number {
    return 0;
  }
  grid(): [number, number] {
    return [4, 4];
  }
  tokens(images: tf.Tensor4D, layers: readonly (string | number)[]): tf.Tensor3D[] {
    return tf.tidy(() => {
      const [B] = images.shape, x = tf.sub(tf.div(images.cast("float32"), 127.5), 1);
      const cut = x.reshape([B, 4, 7, 4, 7]).transpose([0, 1, 3, 2, 4]).reshape([B * 16, 49]); // [B·N, p·p]
      const embedded = tf.matMul(cut as tf.Tensor2D, this.parameters.get("weight") as tf.Tensor2D);
      const of = (layer: unknown) => layer === "embedding" ? embedded : tf.relu(embedded);
      return layers.map((layer) => of(layer).reshape([B, 16, 24]) as tf.Tensor3D);
    });
  }
  draws(): Record<string, never> {
    return {};
  }
  untrained(seed: number): RandomPatches {
    return new RandomPatches(seed);
  }
}

for (const engine of ["tensorflow", "wasm"] as const) {
  Deno.test(`an encoder of one's own without CLS is probed, compared and drawn on ${engine}`, async () => {
    await useEngine(engine);
    const model = new RandomPatches(1), before = tf.memory().numTensors;
    const features = await readFeatures(model, judged, ["embedding"]);
    const expected = tf.tidy(() => {
      const [batch] = [...judged.batches({ size: judged.length, shuffle: false })];
      const images = tf.tensor4d(batch!.images, batch!.shape, "int32");
      return tf.mean(model.tokens(images, ["embedding"])[0]!, 1).dataSync(); // all 16 tokens: none is CLS
    });
    features.get("embedding")!.forEach((x, i) => assertAlmostEquals(x, expected[i]!, 1e-5));

    const probe = await linearProbe(model, few, judged, {
      layers: true,
      references: true,
      pool: "all",
      lambdas: [0.1],
    });
    assertEquals([...probe.probes.keys()], ["embedding", "final", "untrained", "raw pixels"]);
    assert(probe.accuracy > 0.4, `${probe.accuracy}`);
    assert((await knn(model, few, judged, { k: 3, pool: "all" })).accuracy > 0.4);
    await assertRejects(() => knn(model, few, judged, { pool: "cls" }), RangeError, "without CLS");
    await assertRejects(() => knn(model, few, judged, { layer: 1 }), RangeError, "embedding, final, got 1");

    const attentive = await attentiveProbe(model, few, judged, { epochs: 2, batchSize: 40 });
    assertEquals(attentive.settings.heads, 1); // 24 numbers are fewer than 32
    assertEquals(attentive.losses.length, 2);
    await assertRejects(
      () => attentiveProbe(model, few, judged, { heads: 5 }),
      RangeError,
      "divisor of 24, got 5",
    );
    await assertRejects(
      () => attentiveProbe(model, few, judged, { epoch: 5 } as object),
      TypeError,
      "attentiveProbe: unknown option epoch; did you mean epochs?",
    );

    assertEquals((await plotClassMap(model, judged)).toJSON().data.length, 10);
    const colors = await plotPatchColors(model, judged.subset([0, 1, 2]), { layer: "embedding" });
    assertEquals((colors.toJSON().layout.images as unknown[]).length, 6);
    assertEquals(tf.memory().numTensors, before);
    tf.dispose([...model.parameters.values()]);
  });
}
