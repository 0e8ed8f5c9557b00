/** The step by hand: what `pretrain` does, in a loop that can be read and changed. @module */
import {
  AdamW,
  type Dataset,
  type Nepa,
  nepaLoss,
  tf,
  trainingBatches,
  update,
  updateRandom,
  useEngine,
  warmupCosine,
} from "nepa";

/** Trains for some steps; gives the loss of each, which are `pretrain`'s to the bit. */
export async function stepByHand(
  model: Nepa,
  train: Dataset,
  steps: number,
  batchSize: number,
): Promise<number[]> {
  const engine = await useEngine(), losses: number[] = [], seed = 0;
  const batches = trainingBatches(train, { batchSize, seed });
  const optimizer = new AdamW(model.parameters, { weightDecay: 0.05 });
  const rate = warmupCosine({ peak: 3e-3, steps, warmupSteps: Math.ceil(steps / 10) });
  const step = engine.compile(update({
    loss: (batch: { images: tf.Tensor4D }, draws) => nepaLoss(model.forward(batch.images, { draws })),
    parameters: model.parameters,
    optimizer,
    clipNorm: 1,
  }));
  for (let k = 0; k < steps; k++) {
    const draws = model.draws(batchSize, updateRandom(seed, k)), rates = optimizer.rates(k, [rate(k)]);
    const { loss, gradNorm } = await step({ batch: await batches.next(), draws, rates });
    losses.push((await loss.data())[0]!);
    tf.dispose([loss, gradNorm, draws, rates]);
  }
  for (const made of [batches, optimizer, step]) made.dispose();
  return losses;
}
