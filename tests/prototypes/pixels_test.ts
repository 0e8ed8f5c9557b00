import { assertAlmostEquals } from "@std/assert";
import { pretrain, tf } from "nepa";
import { assertLosses, assertWeights, everyWay, free, plainModel, positions } from "../support/plain.ts";
import { setting, trainPlainly, ways } from "../support/plain.ts";
import { noise } from "../support/tiny.ts";
import { pixelHead, pixelTargets } from "./pixels.ts";

/** The pixels of each patch of images of 8 by 8, in fours, by their places: [B, 4, 16]. */
function targetsOf(images: Uint8Array | Int32Array, normalised: boolean): number[][][] {
  return Array.from({ length: images.length / 64 }, (_, b) =>
    [0, 1, 2, 3].map((patch) => {
      const pixels = Array.from({ length: 16 }, (_, i) => {
        const row = 4 * Math.floor(patch / 2) + Math.floor(i / 4), column = 4 * (patch % 2) + i % 4;
        return 2 * images[64 * b + 8 * row + column]! / 255 - 1;
      });
      const mean = pixels.reduce((sum, x) => sum + x / 16, 0);
      const variance = pixels.reduce((sum, x) => sum + (x - mean) ** 2 / 16, 0);
      return normalised ? pixels.map((x) => (x - mean) / Math.sqrt(variance + 1e-6)) : pixels;
    }));
}

const check = (normalised: boolean) => async ({ compile }: { compile: boolean }) => {
  const [model, mine, start] = [plainModel(), plainModel(), plainModel()];
  const [head, own, first] = [pixelHead(model), pixelHead(model), pixelHead(model)];
  const run = pretrain(model, noise, { ...setting, compile, objective: pixelTargets(head, normalised) });
  await run.finish();
  const explained: number[] = [];
  const { losses } = await trainPlainly({
    ...{ model: mine, parameters: new Map([...mine.parameters, ...own.parameters]) },
    loss({ batch: { images }, draws }) {
      const [weight, bias] = [...own.parameters.values()] as unknown as [tf.Tensor2D, tf.Tensor];
      const h = positions(mine.forward(images, { draws }).predictions, 0, 4).reshape([-1, 16]) as tf.Tensor2D;
      const guesses = tf.add(tf.matMul(h, weight), bias); // [B · 4, 16]
      const wanted = targetsOf(images.dataSync() as Int32Array, normalised).flat();
      const loss = tf.mean(tf.square(tf.sub(guesses, tf.tensor2d(wanted)))) as tf.Scalar;
      const power = wanted.flat().reduce((sum, x) => sum + x * x, 0) / wanted.flat().length;
      explained.push(1 - loss.dataSync()[0]! / power);
      return loss;
    },
  });
  assertLosses(run, losses);
  assertWeights(model.parameters, mine.parameters, start.parameters);
  assertWeights(head.parameters, own.parameters, first.parameters);
  run.history.forEach(({ metrics }, k) =>
    assertAlmostEquals(metrics!["share explained"] as number, explained[k]!, 1e-3)
  );
  free(run, model, mine, start, head, own, first);
};

everyWay("the next patch's pixels are learned through a linear head", check(false));
everyWay("pixels normalised by patch are learned", check(true), ways.slice(2));
