import { assert, assertAlmostEquals, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { arrayDataset, linearProbe, pretrain, Random, readFeatures, RunFolderError, tf } from "nepa";
import { withFolder } from "../support/folder.ts";
import { assertLosses, assertWeights, everyWay, free, numbersOf, setting } from "../support/plain.ts";
import { trainPlainly, ways } from "../support/plain.ts";
import { noise } from "../support/tiny.ts";
import { Denoiser } from "./method.ts";

const make = (seed = 0) => new Denoiser({ side: 8, noise: 0.3 }, { seed });

/** Stripes down or across, at random places, which one linear map of the pixels cannot tell from a few images. */
const random = new Random(0), count = 200;
const stripes = arrayDataset({
  name: "stripes",
  images: Uint8Array.from(
    Array.from({ length: count }, (_, i) => {
      const at = random.integer(8);
      return Array.from({ length: 64 }, (_, p) => at === (i % 2 ? p % 8 : Math.floor(p / 8)) ? 255 : 0);
    }).flat(),
  ),
  shape: [count, 8, 8, 1],
  labels: Uint8Array.from({ length: count }, (_, i) => i % 2),
  classes: ["across", "down"],
});

/** Both networks by hand. */
function reconstruct(x: tf.Tensor, method: Denoiser): { code: tf.Tensor; image: tf.Tensor } {
  const [w1, b1, w2, b2, w3, b3, w4, b4] = [...method.parameters.values()] as unknown as tf.Tensor2D[];
  const gelu = (x: tf.Tensor) => tf.mul(x, tf.mul(tf.add(tf.erf(tf.mul(x, Math.SQRT1_2)), 1), 0.5));
  const linear = (x: tf.Tensor, w: tf.Tensor2D, b: tf.Tensor) => tf.add(tf.matMul(x as tf.Tensor2D, w), b);
  const code = linear(gelu(linear(x, w1!, b1!)), w2!, b2!);
  return { code, image: linear(gelu(linear(code, w3!, b3!)), w4!, b4!) };
}

everyWay("a method of one's own is trained as in plain numbers", async ({ compile }) => {
  for (const accumulate of [1, 2]) {
    const [method, mine, start] = [make(), make(), make()];
    const run = pretrain(method, noise, { ...setting, compile, accumulate, validation: noise });
    await run.finish();
    const { losses } = await trainPlainly({
      ...{ model: mine, parameters: mine.parameters },
      loss({ batch: { images }, draws }) {
        const clean = tf.tensor2d(Float32Array.from(images.dataSync(), (x) => 2 * x / 255 - 1), [8, 64]);
        return tf.mean(
          tf.square(
            tf.sub(reconstruct(tf.add(clean, tf.mul(0.3, draws.noise!.reshape([8, 64]))), mine).image, clean),
          ),
        );
      },
    });
    assertLosses(run, losses);
    assertWeights(method.parameters, mine.parameters, start.parameters);
    const held = tf.tidy(() => {
      const clean = tf.tensor2d(
        Float32Array.from({ length: 96 * 64 }, (_, i) => {
          return 2 * noise.get(Math.floor(i / 64)).image[i % 64]! / 255 - 1;
        }),
        [96, 64],
      );
      return tf.mean(tf.square(tf.sub(reconstruct(clean, mine).image, clean))).dataSync()[0]!;
    });
    const { validation, metrics } = run.history.at(-1)!;
    assertAlmostEquals(validation!.loss, held, 1e-3, "without noise");
    assert(Number.isFinite(metrics!.effectiveRank) && metrics!.previousPatch === undefined);
    free(run, method.parameters, mine.parameters, start.parameters);
  }
}, ways);

everyWay("a method of one's own is probed, kept and resumed", async ({ compile }) => {
  await withFolder(async (place) => {
    const train = async (folder: string, seed: number, until = 60) => {
      const method = make(seed),
        checkpoint = { folder: `${place}/${folder}`, resume: "auto" as const };
      const run = pretrain(method, stripes, { ...setting, steps: 60, compile, checkpoint });
      for await (const { step } of run) if (step === until) break;
      run.dispose();
      return method;
    };
    const whole = await train("whole", 1),
      left = await train("left", 1, 25),
      resumed = await train("left", 2);
    assertEquals(numbersOf(resumed.parameters), numbersOf(whole.parameters));
    const [fitted, judged] = stripes.split([0.5, 0.5]);
    const { accuracy, untrained } = await linearProbe(whole.encoder, fitted, judged, { references: true });
    assert(accuracy > 0.9, `accuracy ${accuracy}`);
    assert(untrained! > 0 && untrained! <= 1);
    const features = await readFeatures(whole.encoder, stripes.subset([3, 4]), ["final"]);
    const own = tf.tidy(() => {
      const pixels = [3, 4].map((i) => Array.from(stripes.get(i).image, (x) => 2 * x / 255 - 1));
      return reconstruct(tf.tensor2d(pixels), whole).code.dataSync();
    });
    features.get("final")!.forEach((x, i) => assertAlmostEquals(x, own[i]!, 1e-4));
    const other = new Denoiser({ side: 8, noise: 0.5 }),
      checkpoint = { folder: `${place}/left`, resume: true };
    const changed = pretrain(other, stripes, { ...setting, steps: 60, compile, checkpoint });
    const error = await assertRejects(() => changed.finish(), RunFolderError);
    assert(error.message.includes("config.noise: 0.3 then, 0.5 now"), error.message);
    assertThrows(() => pretrain(other, stripes, { emaDecay: 0.9 }), TypeError, "clone()");
    free(changed, whole.parameters, left.parameters, resumed.parameters, other.parameters);
  });
}, ways.slice(1, 3));
