/** Rates by the update and by the parameter: a schedule of one's own, groups with rates and decay of their own, freezing. @module */
import { type Dataset, type Nepa, pretrain, type PretrainOptions, type Run } from "nepa";

/** Rises over ten updates, then falls with the root of their number: the rate of update k, from 0. */
export const inverseRoot = (peak: number) => (k: number): number =>
  peak * Math.min((k + 1) / 10, Math.sqrt(10 / (k + 1)));

/** Trains the upper blocks at full rate, each block below at half of that above it, and leaves the embedding as it is. */
export function tuneFromTheTop(model: Nepa, train: Dataset, options: PretrainOptions = {}): Run<Nepa> {
  const top = model.config.numHiddenLayers + 1; // the depth of the last norm
  return pretrain(model, train, {
    learningRate: inverseRoot(1e-2),
    weightDecay: (k) => 0.05 + 0.01 * k,
    groups: (name) => ({
      rate: 0.5 ** (top - model.depthOf(name)),
      decay: name.endsWith("weight") && !name.includes("norm"), // layer scales do not
      frozen: name.includes("embeddings"),
    }),
    ...options,
  });
}

/** Trains a model of which some parameters are left as they are, whatever trains it, and lets them move again. */
export async function trainFrozen(model: Nepa, train: Dataset, frozen: RegExp, options: PretrainOptions) {
  const still = [...model.parameters].filter(([name]) => frozen.test(name)).map(([, variable]) => variable);
  for (const variable of still) variable.trainable = false;
  try {
    return await pretrain(model, train, options).finish();
  } finally {
    for (const variable of still) variable.trainable = true;
  }
}
