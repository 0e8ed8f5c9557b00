import { assertEquals } from "@std/assert";
import { Nepa, pretrain, tf } from "nepa";
import { withFolder } from "../support/folder.ts";
import {
  assertLosses,
  assertWeights,
  constant,
  cosineLoss,
  everyWay,
  free,
  numbersOf,
  plainModel,
  positions,
  setting,
  trainPlainly,
} from "../support/plain.ts";
import { noise } from "../support/tiny.ts";
import { predictorOf, readPredictor, trainPredictor, withPredictor } from "./predictor.ts";

everyWay("a predictor is trained and averaged as in plain numbers, and read back", async ({ compile }) => {
  await withFolder(async (folder) => {
    const [model, mine, start] = [plainModel(), plainModel(), plainModel()];
    const [predictor, own, first] = [predictorOf(model), predictorOf(model), predictorOf(model)];
    const run = await trainPredictor(model, predictor, noise, folder, { ...setting, emaDecay: 0.8, compile });
    const ours = new Map([...mine.parameters, ...own.parameters]);
    const { losses, averages } = await trainPlainly({
      model: mine,
      parameters: ours,
      ema: 0.8,
      loss({ batch, draws }) {
        const targets = constant(positions(mine.forward(batch.images).embeddings, 1, 5));
        const h = positions(mine.forward(batch.images, { draws }).predictions, 0, 4); // [B, 4, D]
        const [w1, b1, w2, b2] = [...own.parameters.values()] as unknown as tf.Tensor2D[];
        const x = tf.add(tf.matMul(h.reshape([-1, 16]) as tf.Tensor2D, w1!), b1!); // [B · 4, 32]
        const gelu = tf.mul(x, tf.mul(tf.add(tf.erf(tf.mul(x, Math.SQRT1_2)), 1), 0.5));
        return cosineLoss(tf.add(tf.matMul(gelu as tf.Tensor2D, w2!), b2!), targets.reshape([-1, 16]));
      },
    });
    const begun = new Map([...start.parameters, ...first.parameters]);
    assertLosses(run, losses);
    assertWeights(new Map([...model.parameters, ...predictor.parameters]), ours, begun);
    assertWeights(new Map([...run.ema!.parameters, ...run.averages!]), averages, begun);
    const [again, read] = [await Nepa.load(folder), await readPredictor(model, folder)];
    assertEquals(numbersOf(again.parameters), numbersOf(model.parameters));
    assertEquals(numbersOf(read.parameters), numbersOf(predictor.parameters));
    free(run, run.ema, run.averages, model, mine, start, predictor, own, first, again, read);
  });
});

everyWay("a predictor's training that is left goes on with the same bits", async ({ compile }) => {
  await withFolder(async (place) => {
    const train = async (folder: string, seed: number, until = setting.steps) => {
      const model = plainModel(seed), predictor = predictorOf(model, seed);
      const checkpoint = { folder: `${place}/${folder}`, resume: "auto" as const };
      const run = pretrain(model, noise, {
        ...{ ...setting, compile, emaDecay: 0.8, checkpoint },
        objective: withPredictor(predictor),
      });
      for await (const { step } of run) if (step === until) break;
      const all = [model.parameters, predictor.parameters, run.ema!.parameters, run.averages!].map(numbersOf);
      free(run, run.ema, run.averages, model, predictor);
      return { all, losses: run.history.map(({ loss }) => loss) };
    };
    const whole = await train("whole", 1);
    await train("left", 1, 2);
    assertEquals(await train("left", 7), whole); // other first weights, which are replaced
  });
});
