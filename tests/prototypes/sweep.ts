/** Three learning rates, two seeds each, compared by mean and deviation: what a difference has to be larger than. @module */
import { type Dataset, Nepa, type NepaConfig, pretrain, type PretrainOptions, readLog, Table } from "nepa";

/** Rates, seeds, and options that all runs share. */
type Sweep = Omit<PretrainOptions, "learningRate" | "seed"> & { rates?: number[]; seeds?: number[] };

/** Mean and standard deviation of a few numbers (of a sample: by one less than there are). */
export function statistics(values: readonly number[]): { mean: number; deviation: number } {
  const mean = values.reduce((sum, x) => sum + x, 0) / values.length;
  const squares = values.reduce((sum, x) => sum + (x - mean) ** 2, 0);
  return { mean, deviation: Math.sqrt(squares / (values.length - 1)) };
}

/** The mean loss of the last steps of a run, from its log. */
export async function lastLoss(folder: string, steps = 50): Promise<number> {
  return statistics((await readLog(folder)).slice(-steps).map(({ loss }) => loss)).mean;
}

/** Trains what is not trained yet, and tells of all: stop it and call it again, and it goes on where it was. */
export async function sweep(
  config: Partial<NepaConfig>,
  train: Dataset,
  folder: string,
  { rates = [3e-4, 1e-3, 3e-3], seeds = [0, 1], ...options }: Sweep = {},
): Promise<Table> {
  const rows = [];
  for (const learningRate of rates) {
    const losses = [];
    for (const seed of seeds) {
      const model = new Nepa(config, { seed }), place = `${folder}/rate ${learningRate} seed ${seed}`;
      const checkpoint = { folder: place, resume: "auto" as const };
      await pretrain(model, train, { ...options, learningRate, seed, checkpoint }).finish();
      model.dispose();
      losses.push(await lastLoss(place));
    }
    rows.push({ rate: learningRate, ...statistics(losses), runs: losses.length });
  }
  return new Table(rows, { title: "Loss by learning rate", format: { rate: String } });
}
