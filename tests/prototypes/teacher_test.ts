import { assertAlmostEquals, assertEquals } from "@std/assert";
import { collapse, Mlp, type Nepa, pretrain, Random, tf } from "nepa";
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
import { taught, trainStudent } from "./teacher.ts";

const { steps } = setting;
const make = (seed = 1) => {
  const student = plainModel(seed), teacher = student.clone();
  return { student, teacher, predictor: new Mlp([16, 32, 16], { name: "predictor", seed: 0 }) };
};
/** What a teacher of one's own becomes. */
const momentum = (k: number) => 0.95 - 0.05 * Math.cos(Math.PI * k / steps);
/** The last tokens of all images of the set that the meter reads, every patch on its own row. */
function patchesOf(teacher: Nepa): tf.Tensor2D {
  const indices = new Random(setting.seed, "meter").permutation(noise.length);
  const images = Uint8Array.from(Array.from(indices, (i) => [...noise.get(i).image]).flat());
  return tf.tidy(() => {
    const tokens =
      teacher.forward(tf.tensor4d(images, [96, 8, 8, 1], "int32"), { causal: false }).predictions;
    return positions(tokens, 1, 5).reshape([-1, 16]); // [96 · 4, D]
  });
}

everyWay("a student learns what a teacher moved towards it says", async ({ compile }) => {
  const here = make(), mine = make(), start = make(), { student, teacher, predictor } = mine;
  const objective = taught(here.student, here.teacher, here.predictor, steps);
  const run = pretrain(here.student, noise, { ...setting, compile, objective, validation: noise });
  await run.finish();
  const { losses } = await trainPlainly({
    model: student,
    parameters: new Map([...student.parameters, ...predictor.parameters]),
    loss({ batch: { images }, draws }) {
      const targets = constant(teacher.forward(images, { causal: false }).predictions);
      const guesses = predictor.apply(student.forward(images, { draws }).predictions);
      return cosineLoss(positions(guesses, 0, 4), positions(targets, 1, 5));
    },
    after: (k) =>
      tf.tidy(() => {
        for (const [name, x] of teacher.parameters) {
          const [was, now] = [x.dataSync(), student.parameters.get(name)!.dataSync()];
          const next = Float32Array.from(was, (w, i) => momentum(k) * w + (1 - momentum(k)) * now[i]!);
          x.assign(tf.tensor(next, x.shape));
        }
      }),
  });
  assertLosses(run, losses);
  assertWeights(here.student.parameters, student.parameters, start.student.parameters);
  assertWeights(here.predictor.parameters, predictor.parameters, start.predictor.parameters);
  assertWeights(here.teacher.parameters, teacher.parameters, start.teacher.parameters);
  const patches = patchesOf(here.teacher),
    spread = await collapse(patches),
    { metrics } = run.history.at(-1)!;
  assertAlmostEquals(metrics!.featureStd, spread.featureStd, 1e-4);
  assertAlmostEquals(metrics!.effectiveRank, spread.effectiveRank, 1e-3);
  for (const { student, teacher, predictor } of [here, mine, start]) free(student, teacher, predictor);
  free(run, patches);
});

everyWay("a teacher is resumed with the same bits, and let go of", async ({ compile }) => {
  await withFolder(async (place) => {
    const train = async (folder: string, seed: number, until: number = steps) => {
      const { student, teacher, predictor } = make(seed);
      const checkpoint = { folder: `${place}/${folder}`, resume: "auto" as const };
      const objective = taught(student, teacher, predictor, steps);
      const run = pretrain(student, noise, { ...setting, compile, checkpoint, objective });
      for await (const { step } of run) if (step === until) break;
      const all = [student, teacher, predictor].map(({ parameters }) => numbersOf(parameters));
      free(run, student, teacher, predictor);
      return all;
    };
    const whole = await train("whole", 1);
    await train("left", 1, 2);
    assertEquals(await train("left", 7), whole);
    const student = plainModel();
    await trainStudent(student, noise, { ...setting, compile });
    assertEquals(numbersOf(student.parameters), whole[0]);
    student.dispose();
  });
}, [{ engine: "wasm", compile: true }, { engine: "tensorflow", compile: false }]);
