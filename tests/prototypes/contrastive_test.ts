import { assertAlmostEquals, assertRejects } from "@std/assert";
import { horizontalFlip, pretrain, randomResizedCrop, tf } from "nepa";
import { compose } from "nepa";
import { assertLosses, assertWeights, everyWay, free, plainModel, setting } from "../support/plain.ts";
import { trainPlainly, ways } from "../support/plain.ts";
import { noise } from "../support/tiny.ts";
import { infoNce, projectorOf } from "./contrastive.ts";

const augment = compose(randomResizedCrop({ size: 8, scale: [0.5, 1] }), horizontalFlip(0.5));

everyWay("two views of an image are told from the batch's others", async ({ compile }) => {
  const [model, mine, start] = [plainModel(), plainModel(), plainModel()];
  const [projector, own, first] = [projectorOf(model), projectorOf(model), projectorOf(model)];
  const run = pretrain(model, noise, { ...setting, augment, compile, objective: infoNce(projector) });
  await run.finish();
  const found: number[] = [];
  const { losses } = await trainPlainly({
    ...{ model: mine, parameters: new Map([...mine.parameters, ...own.parameters]), views: 2, augment },
    loss({ batch, draws }) {
      const [w1, b1, w2, b2] = [...own.parameters.values()] as unknown as tf.Tensor2D[];
      const rows = batch.views!.map((view) => {
        const x = tf.mean(mine.forward(view, { draws, causal: false }).predictions, 1) as tf.Tensor2D;
        const y = tf.add(tf.matMul(tf.relu(tf.add(tf.matMul(x, w1!), b1!)) as tf.Tensor2D, w2!), b2!);
        return tf.unstack(tf.div(y, tf.sqrt(tf.sum(tf.square(y), 1, true))));
      });
      const cosine = (i: number, j: number) => tf.div(tf.sum(tf.mul(rows[0]![i]!, rows[1]![j]!)), 0.2);
      const all = Array.from({ length: 8 }, (_, i) => Array.from({ length: 8 }, (_, j) => cosine(i, j)));
      const values = all.map((row) => row.map((x) => x.dataSync()[0]!));
      found.push(values.filter((row, i) => row[i] === Math.max(...row)).length / 8);
      const parts = all.flatMap((row, i) =>
        [row, all.map((row) => row[i]!)].map((others) =>
          tf.sub(tf.log(tf.addN(others.map((x) => tf.exp(x)))), row[i]!)
        )
      );
      return tf.div(tf.addN(parts), 16);
    },
  });
  assertLosses(run, losses);
  assertWeights(model.parameters, mine.parameters, start.parameters);
  assertWeights(projector.parameters, own.parameters, first.parameters);
  run.history.forEach(({ metrics }, k) =>
    assertAlmostEquals(metrics!["own view found"] as number, found[k]!)
  );
  free(run, model, mine, start, projector, own, first);
});

everyWay("negatives from the batch are not cut into parts", async ({ compile }) => {
  const model = plainModel(), projector = projectorOf(model);
  const run = pretrain(model, noise, { ...setting, compile, accumulate: 2, objective: infoNce(projector) });
  await assertRejects(() => run.finish(), RangeError, "it depends on the batch as a whole");
  free(run, model, projector);
}, ways.slice(1, 3));
