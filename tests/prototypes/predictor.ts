/** A small network between prediction and target, trained with the model: `parameters` of an objective. @module */
import { type Dataset, loadObjective, Mlp, type Nepa, nepaLoss, type Objective, pretrain } from "nepa";
import { type PretrainOptions, type Run, saveObjective } from "nepa";

/** Two linear maps that make of a prediction what is compared with the next embedding. */
export function predictorOf(model: Nepa, seed = 0): Mlp {
  const size = model.config.hiddenSize;
  return new Mlp([size, 2 * size, size], { name: "predictor", seed });
}

/** `nepaLoss` of what the predictor makes of the predictions. Its weights are trained, averaged, saved and resumed as the model's. */
export function withPredictor(predictor: Mlp): Objective {
  return {
    name: "nepa with a predictor",
    parameters: predictor.parameters,
    loss: ({ embeddings, predictions }) =>
      nepaLoss({ embeddings, predictions: predictor.apply(predictions) }),
  };
}

/** Trains both, and writes both to a folder. */
export async function trainPredictor(
  model: Nepa,
  predictor: Mlp,
  train: Dataset,
  folder: string,
  options: PretrainOptions = {},
): Promise<Run<Nepa>> {
  const run = pretrain(model, train, { emaDecay: 0.99, ...options, objective: withPredictor(predictor) });
  await run.finish();
  await model.save(folder); // `Nepa.load(folder)` reads it as any other
  await saveObjective(folder, predictor);
  return run;
}

/** Reads a predictor that was written beside a model. */
export async function readPredictor(model: Nepa, folder: string): Promise<Mlp> {
  const predictor = predictorOf(model);
  await loadObjective(folder, predictor);
  return predictor;
}
