/** A number of one's own beside the loss: in the run's history, its log, its plot and the comparison of runs. @module */
import {
  compareRuns,
  type Dataset,
  Nepa,
  type NepaConfig,
  nepaLoss,
  type Objective,
  plotRun,
  pretrain,
} from "nepa";
import { type PretrainOptions, readLog, tf } from "nepa";

/** Standard deviation of the predictions over images and positions, mean over dimensions: 0 where all are alike. */
export function spread(predictions: tf.Tensor3D): tf.Scalar {
  const { variance } = tf.moments(predictions.reshape([-1, predictions.shape[2]]), 0); // [D]
  return tf.mean(tf.sqrt(variance));
}

/** `nepaLoss`, and what it does not tell; no gradient is taken of the other numbers. */
export const told: Objective = {
  name: "nepa, told more of",
  loss: ({ embeddings, predictions }) => ({
    loss: nepaLoss({ embeddings, predictions }),
    "std of ẑ": spread(predictions),
    "length of z": tf.mean(tf.norm(embeddings, 2, -1)) as tf.Scalar,
  }),
};

/** Trains with and without layer scale, draws each run and both together, and reads the numbers from the logs. */
export async function compareSpread(
  config: Partial<NepaConfig>,
  train: Dataset,
  folder: string,
  options: PretrainOptions = {},
) {
  const folders = [`${folder}/with layer scale`, `${folder}/without`], figures = [], logged = [];
  for (const [i, checkpoint] of folders.entries()) {
    const model = new Nepa({ ...config, layerscaleValue: i === 0 ? 1e-5 : null }, { seed: 0 });
    const run = pretrain(model, train, { ...options, objective: told, checkpoint: { folder: checkpoint } });
    figures.push(await plotRun(run));
    logged.push((await readLog(checkpoint)).map(({ metrics }) => metrics!["std of ẑ"] as number));
    model.dispose();
  }
  return { figures, logged, comparison: await compareRuns(folders) };
}
