import { assertEquals } from "@std/assert";
import { type Objective, pretrain, tf } from "nepa";
import {
  assertLosses,
  assertWeights,
  constant,
  cosineLoss,
  everyWay,
  free,
  type PlainContext,
  plainModel,
  positions,
  setting,
  trainPlainly,
  ways,
} from "../support/plain.ts";
import { noise } from "../support/tiny.ts";
import { anyOrder, prefixCausal, prefixMask } from "./orders.ts";

type Loss = (context: PlainContext, mine: ReturnType<typeof plainModel>) => tf.Scalar;

/** Trains by an objective and by a loss written here. */
async function compare(objective: Objective, loss: Loss, compile: boolean, accumulate = 1): Promise<void> {
  const [model, mine, start] = [plainModel(), plainModel(), plainModel()];
  const run = pretrain(model, noise, { ...setting, compile, accumulate, objective });
  await run.finish();
  const { losses } = await trainPlainly({
    ...{ model: mine, parameters: mine.parameters, draws: objective.draws?.bind(objective) },
    loss: (context) => loss(context, mine),
  });
  assertLosses(run, losses);
  assertWeights(model.parameters, mine.parameters, start.parameters);
  free(run, model, mine, start);
}

/** Tokens [B, T, D] with CLS first and the patches as `orders` says. */
const inOrder = (x: tf.Tensor3D, orders: number[][]): tf.Tensor3D =>
  tf.stack(
    tf.unstack(x).map((image, b) => tf.gather(image, [0, ...orders[b]!.map((n) => n + 1)])),
  ) as tf.Tensor3D;

// Reading patches in an order is reading them in place, where each sees those that come before it in that order.
const inPlace: Loss = ({ batch, draws, own }, mine) => {
  const orders = own.order!.arraySync() as number[][];
  const masks = orders.map((order) => {
    const rank = [-1, ...order.map((_, n) => order.indexOf(n))];
    return [rank.map((here) => rank.map((there) => there <= here ? 0 : -Infinity))];
  });
  const { predictions, embeddings } = mine.forward(batch.images, { draws, mask: tf.tensor4d(masks) });
  const h = positions(inOrder(predictions, orders), 0, 4),
    z = positions(inOrder(constant(embeddings), orders), 1, 5);
  return cosineLoss(h, z);
};

everyWay("an order for each image is a mask for each image", async ({ compile }) => {
  await compare(anyOrder(4), inPlace, compile);
});

everyWay("orders are cut with the batch", async ({ compile }) => {
  await compare(anyOrder(4), inPlace, compile, 2);
}, ways.slice(2));

// A token of the beginning, seen alone: what it gives depends on the whole beginning and on nothing after it.
const oneByOne: Loss = ({ batch, draws, own }, mine) => {
  const where = own.where!.arraySync() as number[][], sums: tf.Tensor[] = [];
  const z = constant(mine.forward(batch.images).embeddings);
  let count = 0;
  where.forEach((weights, b) => {
    const prefix = weights.indexOf(1) + 1;
    const mask = tf.tensor2d(
      Array.from({ length: 25 }, (_, i) => Math.max(prefix - 1, Math.floor(i / 5)) >= i % 5 ? 0 : -Infinity),
      [5, 5],
    );
    const dropPath = tf.tile(tf.slice(draws.dropPath!, [0, b], [-1, 1]), [1, 8]);
    const { predictions } = mine.forward(batch.images, { draws: { ...draws, dropPath }, mask });
    const [h, targets] = [predictions, z].map((x) => tf.squeeze(tf.slice(x, [b, 0, 0], [1, -1, -1]), [0]));
    for (let t = prefix - 1; t < 4; t++) {
      sums.push(cosineLoss(tf.slice(h!, t, 1), tf.slice(targets!, t + 1, 1)));
      count++;
    }
  });
  return tf.div(tf.addN(sums), count);
};

everyWay("a prefix-causal mask for each image is that image read alone", async ({ compile }) => {
  const model = plainModel(), objective = prefixCausal(model);
  await compare(objective, oneByOne, compile);
  model.dispose();
});

everyWay("what the prefix sees of itself, and nothing else, changes what a token predicts", () => {
  const model = plainModel();
  const images = tf.randomUniform<tf.Rank.R4>([1, 8, 8, 1], 0, 256, "int32", 3);
  const read = (patch: number) => {
    const other = images.arraySync();
    const [row, column] = [4 * Math.floor(patch / 2), 4 * (patch % 2)];
    other[0]![row]![column]![0] = 255 - other[0]![row]![column]![0]!;
    return tf.tidy(() => {
      const mask = tf.tensor2d(prefixMask(5, 3)); // CLS and the first two patches
      const [a, b] = [images, tf.tensor4d(other, [1, 8, 8, 1], "int32")].map((x) =>
        model.forward(x, { mask }).predictions.arraySync()[0]!
      );
      return a!.map((row, t) => Number(row.some((x, d) => Math.abs(x - b![t]![d]!) > 1e-6)));
    });
  };
  assertEquals([0, 1, 2, 3].map(read), [[1, 1, 1, 1, 1], [1, 1, 1, 1, 1], [0, 0, 0, 1, 1], [0, 0, 0, 0, 1]]);
  free(images, model);
  return Promise.resolve();
}, ways.slice(1, 3));
