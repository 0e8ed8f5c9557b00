import { assert, assertAlmostEquals } from "@std/assert";
import { pretrain, tf } from "nepa";
import { assertLosses, assertWeights, constant, cosineLoss, everyWay, free } from "../support/plain.ts";
import { plainModel, positions, setting, trainPlainly } from "../support/plain.ts";
import { noise } from "../support/tiny.ts";
import { regularised } from "./regularised.ts";

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
function moments(rows: tf.Tensor2D): tf.Tensor {
  const centred = Array.from({ length: 16 }, (_, d) => tf.sub(column(rows, d), tf.mean(column(rows, d))));
  const covariance = (a: number, b: number) =>
    tf.div(tf.sum(tf.mul(centred[a]!, centred[b]!)), rows.shape[0] - 1);
  const spread = centred.map((_, d) => tf.relu(tf.sub(1, tf.sqrt(tf.add(covariance(d, d), 1e-4)))));
  const alike = centred.flatMap((_, a) =>
    centred.flatMap((_, b) => a === b ? [] : [tf.square(covariance(a, b))])
  );
  return tf.div(tf.add(sum(spread), sum(alike)), 16);
}

for (const kind of ["sigreg", "vicreg"] as const) {
  everyWay(`${kind} is learned beside the loss`, async ({ compile }) => {
    const [model, mine, start] = [plainModel(), plainModel(), plainModel()],
      objective = regularised(kind, 16, 0.1, 6);
    const run = pretrain(model, noise, { ...setting, compile, objective });
    await run.finish();
    const seen: number[] = [], drawn = new Set<string>();
    const { losses } = await trainPlainly({
      ...{ model: mine, parameters: mine.parameters, draws: objective.draws?.bind(objective) },
      loss({ batch: { images }, draws, own }) {
        const { embeddings, predictions } = mine.forward(images, { draws });
        const nepa = cosineLoss(positions(predictions, 0, 4), constant(positions(embeddings, 1, 5)));
        const rows = embeddings.reshape([-1, 16]) as tf.Tensor2D;
        const spread = kind === "vicreg"
          ? moments(rows)
          : slices(rows, own.directions!.arraySync() as number[][]);
        if (kind === "sigreg") drawn.add(String(own.directions!.dataSync()));
        seen.push(spread.dataSync()[0]!);
        return tf.add(nepa, tf.mul(spread, 0.1));
      },
    });
    assertLosses(run, losses);
    assertWeights(model.parameters, mine.parameters, start.parameters);
    run.history.forEach(({ metrics, loss }, k) => {
      const { nepa, [kind]: spread } = metrics as unknown as Record<string, number>;
      assertAlmostEquals(spread!, seen[k]!, 1e-3 * (1 + seen[k]!));
      assertAlmostEquals(loss, nepa! + 0.1 * spread!, 1e-5);
    });
    assert(kind === "vicreg" || drawn.size === setting.steps, "the directions of every update are others");
    free(run, model, mine, start);
  });
}
