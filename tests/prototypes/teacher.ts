/** Targets from an averaged copy of the network, with a predictor: `state`, `after` and `numbers` of an objective. @module */
import {
  type Dataset,
  Ema,
  Mlp,
  type Nepa,
  nepaLoss,
  type Objective,
  pretrain,
  type PretrainOptions,
} from "nepa";
import type { Run, tf } from "nepa";

/** What changes with the student: the teacher, its copy at first, which is moved towards it after each update. */
export function taught(student: Nepa, teacher: Nepa, predictor: Mlp, steps: number): Objective {
  const average = new Ema(student.parameters, teacher.parameters);
  const targets = (images: tf.Tensor4D) => teacher.tokens(images, ["final"], { causal: false })[0]!;
  return {
    name: "targets of a teacher that sees the whole image",
    parameters: predictor.parameters,
    state: new Map([...teacher.parameters].map(([name, x]) => [`teacher.${name}`, x])),
    numbers: (k) => ({ momentum: 1 - 0.1 * (1 + Math.cos(Math.PI * k / steps)) / 2 }), // rises from 0.9 to 1
    loss: ({ images, predictions }) =>
      nepaLoss({ embeddings: targets(images), predictions: predictor.apply(predictions) }),
    targets: ({ images }) => targets(images), // what the collapse meter watches
    after: ({ numbers }) => average.update(numbers.momentum!),
  };
}

/** Trains a student; `probe`, `save` and the like take it as any other model. */
export async function trainStudent(
  student: Nepa,
  train: Dataset,
  options: PretrainOptions & { steps: number },
): Promise<Run<Nepa>> {
  const teacher = student.clone(), size = student.config.hiddenSize;
  const predictor = new Mlp([size, 2 * size, size], { name: "predictor", seed: 0 });
  const run = pretrain(student, train, {
    ...options,
    objective: taught(student, teacher, predictor, options.steps),
  });
  await run.finish();
  for (const made of [teacher, predictor]) made.dispose();
  return run;
}
