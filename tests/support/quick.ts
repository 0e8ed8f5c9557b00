/**
 * The library with less to do, in its place for the README's cells: few images, few updates, small batches.
 *
 * @module
 */
import * as nepa from "../../mod.ts";

export * from "../../mod.ts";

const few = { steps: 2, batchSize: 8, every: { collapse: 2 } };

export async function fashionMnist(): ReturnType<typeof nepa.fashionMnist> {
  const { train, test } = await nepa.fashionMnist();
  return { train: train.balanced(12), test: test.balanced(2) };
}

export function pretrain(...[model, train, options]: Parameters<typeof nepa.pretrain>): nepa.Run<nepa.Nepa> {
  return nepa.pretrain(model as nepa.Nepa, train, { ...options, ...few });
}

export const trainingBatches: typeof nepa.trainingBatches = (train, options) =>
  nepa.trainingBatches(train, { ...options, batchSize: few.batchSize });
