/** The options of keeping a training on disk. @module */
import { checkOptions, type Rule, shown } from "../base/check.ts";
import * as is from "../base/check.ts";

/**
 * How a training is kept on disk. The folder holds `step-…`, checkpoints that `load` reads too; `run.json`; `metrics.csv`
 * and `timings.csv`, a row for each update. One process at a time writes there.
 *
 * @example
 * ```ts
 * import { fashionMnist, Nepa, pretrain, useEngine } from "nepa";
 * import { assertEquals } from "@std/assert";
 *
 * await useEngine("wasm");
 * const { train } = await fashionMnist(), folder = await Deno.makeTempDir();
 * const start = () => {
 *   const model = new Nepa({ preset: "mini" }, { seed: 0 });
 *   return pretrain(model, train, { steps: 4, batchSize: 8, checkpoint: { folder, resume: "auto" } });
 * };
 * for await (const { step } of start()) if (step === 2) break; // or the process ends
 * const { history } = await start().finish(); // goes on after step 2
 * assertEquals(history.map(({ step }) => step), [1, 2, 3, 4]);
 * await Deno.remove(folder, { recursive: true });
 * ```
 */
export interface CheckpointOptions {
  /** The run's folder, for one run; made if it is not there. */
  folder: string;
  /**
   * Updates between two checkpoints; there is one at the start and one at the end too. Each is written while the
   * training goes on, and waits for the one before it. Default 500.
   */
  every?: number;
  /** How many of the newest checkpoints stay. Default 2. */
  keep?: number;
  /** Keep the checkpoint with the best held-out value too; it is saved when it is measured. Default: none. */
  best?: "loss" | "accuracy" | "meanIoU";
  /**
   * Go on after the folder's newest checkpoint, with the model, the data and the options of that time: true, or "auto",
   * which begins where there is none. Default false: a folder with checkpoints is refused.
   */
  resume?: boolean | "auto";
  /** What a loss or a gradient that is not a number does: "stop" the run, or "rollback" to the last checkpoint and skip the batch. */
  onNonFinite?: "stop" | "rollback";
}

/** {@linkcode CheckpointOptions} with nothing left open. */
export type Keeping = Required<Omit<CheckpointOptions, "best">> & Pick<CheckpointOptions, "best">;

const RULES: Record<keyof CheckpointOptions, Rule> = {
  folder: is.any,
  every: is.count,
  keep: is.count,
  best: is.oneOf("loss", "accuracy", "meanIoU"),
  resume: is.oneOf(true, false, "auto"),
  onNonFinite: is.oneOf("stop", "rollback"),
};

/**
 * Fills in and checks.
 *
 * @param validation Whether there are held-out images.
 * @throws {TypeError} If an option is unknown, the folder is missing, or held-out images are.
 * @throws {RangeError} If a value cannot be.
 */
export function checkpointOptions(options: CheckpointOptions, validation: boolean): Keeping {
  checkOptions("checkpoint", options, RULES, "checkpoint.");
  const { folder, every = 500, keep = 2, best, resume = false, onNonFinite = "stop" } = options;
  if (!is.text[1](folder)) throw new TypeError(`checkpoint.folder: expected a path, got ${shown(folder)}`);
  if (best && !validation) throw new TypeError("checkpoint.best: expected `validation` images too, got none");
  return { folder, every, keep, resume, onNonFinite, ...(best && { best }) };
}
