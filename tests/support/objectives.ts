/** Objectives that tests try on a very small network. @module */
import { Nepa, nepaLoss, type Objective, pretrain, type PretrainOptions, type Run, type tf } from "nepa";
import { config, noise } from "./tiny.ts";

/** How a step is run: compiled, op by op, and by an engine that does not compile. */
export const WAYS = [["tensorflow", true], ["tensorflow", false], ["wasm", true]] as const;

/** Those that take no seconds to compile. */
export const QUICK = WAYS.slice(1);

/** Batches whole and in halves; in halves alone where each takes seconds to compile. */
export const parts = (engine: string, compile: boolean): readonly number[] =>
  engine === "tensorflow" && compile ? [2] : [1, 2];

/** A small network that draws nothing. */
export const still = {
  ...config,
  numHiddenLayers: 1,
  dropPathProb: 0,
  posEmbedShift: null,
  posEmbedRescale: null,
} as const;

/** NEPA's loss with whatever is given beside it. */
export const nepaAnd = (more: Partial<Objective>): Objective => ({
  name: "nepa and more",
  loss: ({ outputs }) => nepaLoss(outputs),
  ...more,
});

/** A short training by an objective. */
export function tried(
  objective: Objective,
  options: PretrainOptions = {},
  model: Nepa = new Nepa(still, { seed: 1 }),
): Run<Nepa> {
  return pretrain(model, noise, { steps: 3, batchSize: 8, ...options, objective });
}

/** What an error says once a run is driven, or made; the network of the run is let go of. */
export async function refusal(
  objective: Objective,
  options: PretrainOptions = {},
  model: Nepa = new Nepa(still, { seed: 1 }),
): Promise<string> {
  let run: Run<Nepa> | undefined;
  try {
    run = tried(objective, options, model);
    await run.finish();
  } catch (error) {
    return `${(error as Error).name}: ${(error as Error).message}`;
  } finally {
    run?.dispose();
    model.dispose();
  }
  return "nothing was refused";
}

/** The numbers of some variables. */
export const valuesOf = (variables: ReadonlyMap<string, tf.Variable>): Record<string, number[]> =>
  Object.fromEntries([...variables].map(([name, x]) => [name, [...x.dataSync()]]));
