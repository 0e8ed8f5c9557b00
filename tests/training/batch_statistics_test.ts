import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { nepaLoss, type Objective, perImage, tf, useEngine } from "nepa";
import { nepaAnd, QUICK, refusal, tried } from "../support/objectives.ts";

type Loss = Objective["loss"];

/** Each image's mean token, of length 1: [B, D]. */
const pooled = (x: tf.Tensor3D) => {
  const mean = tf.mean(x, 1);
  return tf.div(mean, tf.norm(mean, 2, 1, true)) as tf.Tensor2D;
};

const OF_THE_BATCH: Record<string, Loss> = {
  "InfoNCE": ({ embeddings, predictions }) => {
    const scores = tf.matMul(pooled(predictions), pooled(embeddings), false, true); // [B, B]
    const own = tf.sum(tf.mul(scores, tf.eye(scores.shape[0])), 1);
    return tf.mean(tf.sub(tf.logSumExp(scores, 1), own)) as tf.Scalar;
  },
  "standardised targets": ({ outputs }) => nepaLoss(outputs, { standardizeTargets: true }),
  "a variance over the batch": ({ outputs, embeddings }) =>
    tf.add(nepaLoss(outputs), tf.mean(tf.moments(pooled(embeddings), 0).variance)) as tf.Scalar,
  "a difference from the batch's mean": ({ predictions }) =>
    tf.mean(tf.abs(tf.sub(predictions, tf.mean(predictions, 0, true)))) as tf.Scalar,
  "a sum over the images": ({ predictions }) => tf.mean(tf.sum(tf.square(predictions), 0)) as tf.Scalar,
};

const OF_EACH_IMAGE: Record<string, Partial<Objective>> = {
  "NEPA's": {},
  "a projection's": {
    loss: ({ embeddings, predictions }) => tf.losses.meanSquaredError(embeddings, predictions) as tf.Scalar,
  },
  "with draws for each image": {
    draws: ({ batchSize, random }) => ({
      noise: perImage(random.normal([16, batchSize]), 1),
      shift: random.normal([16]),
    }),
    loss: ({ predictions, draws: { noise, shift } }) =>
      tf.mean(tf.square(tf.add(tf.sub(pooled(predictions), tf.transpose(noise!)), shift!))) as tf.Scalar,
  },
  "with labels": {
    loss: ({ predictions, labels }) =>
      tf.mean(tf.square(tf.sub(tf.mean(predictions, [1, 2]), labels.cast("float32")))) as tf.Scalar,
  },
};

for (const [engine, compile] of QUICK) {
  Deno.test(`accumulate refuses losses with statistics of the batch, and gives others the same numbers, on ${engine}`, async () => {
    await useEngine(engine);
    const before = tf.memory().numTensors;
    for (const [what, loss] of Object.entries(OF_THE_BATCH)) {
      for (const accumulate of [2, 4]) {
        const message = await refusal(nepaAnd({ loss }), { compile, accumulate });
        assertStringIncludes(
          message,
          "accumulate: expected a loss that is the mean over the images, got ",
          what,
        );
      }
      assertEquals(await refusal(nepaAnd({ loss }), { compile }), "nothing was refused");
      assertEquals(tf.memory().numTensors, before, what);
    }
    for (const [what, objective] of Object.entries(OF_EACH_IMAGE)) {
      const losses = async (accumulate: number) => {
        const run = tried(nepaAnd(objective), { compile, accumulate }), { history } = await run.finish();
        run.model.dispose();
        return history.map(({ loss }) => loss);
      };
      const whole = await losses(1);
      for (const accumulate of [2, 8]) {
        const parts = await losses(accumulate);
        parts.forEach((loss, i) =>
          assert(Math.abs(loss - whole[i]!) < 1e-5, `${what}: ${parts} and ${whole}`)
        );
      }
      assertEquals(tf.memory().numTensors, before, what);
    }
  });
}
