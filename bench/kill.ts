/**
 * Kills a very small training with kill -9 at random moments, saving included, and goes on from what it left. A kill has
 * passed if weights, optimizer and averaged weights are the same bytes as those of a run that was never stopped, at the
 * newest checkpoint then and at the run's end, and the log's rows are too.
 *
 *     deno task bench kill [--kills 100] [--engine tensorflow] [--task pretrain] [--method nepa] [--steps 50] [--seed 0]
 *         [--place FOLDER]
 */
import { killRuns } from "../tests/support/kill.ts";
import { choices, count, readOptions } from "./common.ts";

/** `deno task bench kill`. */
export async function benchKill(args: readonly string[]): Promise<void> {
  const given = readOptions(args, {
    ...{
      kills: "100",
      engine: "tensorflow",
      task: "pretrain",
      method: "nepa",
      steps: "50",
      seed: "0",
      place: "",
    },
  });
  const { engine, task, method, place: dir } = given, steps = count("steps", given.steps);
  const kills = count("kills", given.kills), seed = count("seed", given.seed, 0);
  choices("task", task, ["pretrain", "finetune"]);
  choices("method", method, task === "pretrain" ? ["nepa", "ijepa"] : ["nepa"]);
  const kind = method === "ijepa" ? method : task;
  const place = await Deno.makeTempDir(dir ? { dir } : {});
  const result = await killRuns(place, engine, kills, steps, seed, kind);
  await Deno.remove(place, { recursive: true });
  console.log(
    `${engine}, ${kind}: ${result.runs} runs of ${steps} updates; ${result.saving} kills hit a save`,
  );
  console.log(`${result.passed} passed, ${result.failed} failed`);
  if (result.failed > 0) Deno.exit(1);
}
