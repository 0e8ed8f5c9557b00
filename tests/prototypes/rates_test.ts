import { assert, assertAlmostEquals, assertEquals, assertRejects } from "@std/assert";
import type { Nepa } from "nepa";
import { assertLosses, assertWeights, constant, cosineLoss, everyWay, free } from "../support/plain.ts";
import { numbersOf, plainModel, positions, setting, trainPlainly, ways } from "../support/plain.ts";
import { noise } from "../support/tiny.ts";
import { inverseRoot, trainFrozen, tuneFromTheTop } from "./rates.ts";

const { learningRate: _, ...rest } = setting, steps = 4;

/** Trains some parameters of a model here. */
const plainly = (mine: Nepa, some: (name: string) => boolean, more: object) =>
  trainPlainly({
    ...{ model: mine, parameters: new Map([...mine.parameters].filter(([name]) => some(name))), ...more },
    loss({ batch: { images }, draws }) {
      const { embeddings, predictions } = mine.forward(images, { draws });
      return cosineLoss(positions(predictions, 0, 4), constant(positions(embeddings, 1, 5)));
    },
  });

everyWay("a schedule, groups and frozen parameters are those of plain numbers", async ({ compile }) => {
  const [model, mine, start] = [plainModel(), plainModel(), plainModel()];
  const run = tuneFromTheTop(model, noise, { ...rest, compile });
  await run.finish();
  const share = (name: string) => name.includes("layer.0") ? 0.25 : name.includes("layer.1") ? 0.5 : 1;
  const { losses } = await plainly(mine, (name) => !name.includes("embeddings"), {
    rate: (k: number, name: string) => share(name) * 0.01 * (k + 1) / 10,
    decay: (k: number, name: string) =>
      /(query|key|value|dense|proj)\.weight$/.test(name) ? 0.05 + 0.01 * k : 0,
  });
  assertLosses(run, losses);
  assertWeights(model.parameters, mine.parameters, start.parameters);
  const still = [...start.parameters].filter(([name]) => name.includes("embeddings"));
  for (const [name, x] of still) assertEquals(model.parameters.get(name)!.dataSync(), x.dataSync(), name);
  run.history.forEach(({ lr }, k) => assertAlmostEquals(lr, 0.01 * (k + 1) / 10, 1e-9)); // of the fastest group
  assertAlmostEquals(inverseRoot(1)(39), 0.5);
  free(run, model, mine, start);
});

everyWay("what is not trainable stays, decay included, and moves again afterwards", async ({ compile }) => {
  const [model, mine, start] = [plainModel(), plainModel(), plainModel()], frozen = /layer\.0\.|cls/;
  const result = await trainFrozen(model, noise, frozen, { ...setting, compile });
  const { losses } = await plainly(mine, (name) => !frozen.test(name), {});
  assertLosses({ history: result.history }, losses);
  assertWeights(model.parameters, mine.parameters, start.parameters);
  const [now, then] = [numbersOf(model.parameters), numbersOf(start.parameters)];
  for (const name of Object.keys(now)) {
    assertEquals(String(now[name]) === String(then[name]), frozen.test(name), name);
  }
  await trainFrozen(model, noise, /none/, { ...setting, compile, steps: 2 });
  const again = numbersOf(model.parameters);
  assert(Object.keys(now).every((name) => String(again[name]) !== String(now[name])));
  free(model, mine, start);
}, ways.slice(1));

everyWay("a rate that is no number ends the run before the weights change", async () => {
  const model = plainModel(), start = plainModel();
  const run = tuneFromTheTop(model, noise, { ...rest, learningRate: (k) => k < 1 ? 0 : NaN });
  await assertRejects(
    () => run.finish(),
    RangeError,
    "learning rate of update 1: expected a number from 0, got NaN",
  );
  assertEquals(numbersOf(model.parameters), numbersOf(start.parameters));
  assertEquals(run.history.length, 1);
  assertEquals(steps, run.steps);
  free(run, model, start);
}, ways.slice(1, 3));
