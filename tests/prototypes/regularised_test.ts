import { assertAlmostEquals, assertEquals } from "@std/assert";
import { type Objective, pretrain, tf } from "nepa";
import { assertLosses, assertWeights, constant, cosineLoss, everyWay, free } from "../support/plain.ts";
import { plainModel, positions, setting, trainPlainly } from "../support/plain.ts";
import { noise } from "../support/tiny.ts";
import { withSigreg } from "./regularised.ts";
import { withVicreg } from "./vicreg.ts";

const sum = (xs: readonly tf.Tensor[]) => tf.addN([...xs]);
const column = (x: tf.Tensor2D, d: number) => tf.squeeze(tf.slice(x, [0, d], [-1, 1]), [1]);

/** SIGReg knot by knot, direction by direction. */
function slices(rows: tf.Tensor2D, directions: number[][]): tf.Tensor {
  const parts = directions[0]!.map((_, m) => {
    const direction = directions.map((row) => row[m]!), length = Math.hypot(...direction);
    const x = tf.squeeze(tf.matMul(rows, tf.tensor2d(direction.map((d) => [d / length]))), [1]);
    return sum(Array.from({ length: 17 }, (_, i) => {
      const t = -4 + i / 2, window = Math.exp(-t * t / 2), share = i === 0 || i === 16 ? 0.25 : 0.5;
      const real = tf.sub(tf.mean(tf.cos(tf.mul(x, t))), window), imaginary = tf.mean(tf.sin(tf.mul(x, t)));
      return tf.mul(tf.add(tf.square(real), tf.square(imaginary)), share * window);
    }));
  });
  return tf.div(sum(parts), parts.length);
}

/** VICReg dimension by dimension. */
function moments(rows: tf.Tensor2D): { variance: tf.Tensor; covariance: tf.Tensor } {
  const centred = Array.from({ length: 16 }, (_, d) => tf.sub(column(rows, d), tf.mean(column(rows, d))));
  const product = (a: number, b: number) =>
    tf.div(tf.sum(tf.mul(centred[a]!, centred[b]!)), rows.shape[0] - 1);
  const below = centred.map((_, d) => tf.relu(tf.sub(1, tf.sqrt(tf.add(product(d, d), 1e-4)))));
  const alike = centred.flatMap((_, a) =>
    centred.flatMap((_, b) => a === b ? [] : [tf.square(product(a, b))])
  );
  return { variance: tf.div(sum(below), 16), covariance: tf.div(sum(alike), 16) };
}

/** Trains by an objective, and by `nepaLoss` and weighted terms written here; the terms are in the history. */
async function compare(
  objective: Objective,
  weights: Record<string, number>,
  termsOf: (rows: tf.Tensor2D, draws: Record<string, tf.Tensor>) => Record<string, tf.Tensor>,
  compile: boolean,
): Promise<void> {
  const [model, mine, start] = [plainModel(), plainModel(), plainModel()];
  const run = pretrain(model, noise, { ...setting, compile, objective });
  await run.finish();
  const seen: Record<string, number>[] = [];
  const { losses } = await trainPlainly({
    ...{ model: mine, parameters: mine.parameters, draws: objective.draws?.bind(objective) },
    loss({ batch: { images }, draws, own }) {
      const { embeddings, predictions } = mine.forward(images, { draws });
      const nepa = cosineLoss(positions(predictions, 0, 4), constant(positions(embeddings, 1, 5)));
      const terms = Object.entries(termsOf(embeddings.reshape([-1, 16]) as tf.Tensor2D, own));
      seen.push(
        Object.fromEntries([["nepa", nepa] as const, ...terms].map(([name, x]) => [name, x.dataSync()[0]!])),
      );
      return sum([nepa, ...terms.map(([name, x]) => tf.mul(x, weights[name]!))]) as tf.Scalar;
    },
  });
  assertLosses(run, losses);
  assertWeights(model.parameters, mine.parameters, start.parameters);
  for (const [k, terms] of seen.entries()) {
    for (const [name, value] of Object.entries(terms)) {
      assertAlmostEquals(run.history[k]!.metrics![name] as number, value, 1e-3 * (1 + Math.abs(value)), name);
    }
  }
  free(run, model, mine, start);
}

everyWay("SIGReg along fresh directions is learned beside the loss", async ({ compile }) => {
  const drawn = new Set<string>();
  await compare(withSigreg(16, 0.1, 6), { "not normal": 0.1 }, (rows, { directions }) => {
    drawn.add(String(directions!.dataSync()));
    return { "not normal": slices(rows, directions!.arraySync() as number[][]) };
  }, compile);
  assertEquals(drawn.size, setting.steps);
});

everyWay("VICReg's terms are learned beside the loss", async ({ compile }) => {
  const weights = { variance: 1, covariance: 0.04 };
  await compare(withVicreg(weights), weights, moments, compile);
});
