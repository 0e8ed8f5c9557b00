/**
 * The ladder of engines: seconds of a training step of `mini` on each, op by op or compiled. Each is timed in a process
 * of its own, since webgpu and TensorFlow cannot share one.
 *
 *     deno task bench engines [--case mini] [--engine compiled,graph,eager,webgpu,wasm,cpu] [--steps 10] [--json]
 *
 * webgpu is left out where there is no graphics card, unless it is asked for; cpu, plain JavaScript, does one step.
 */
import { fileURLToPath } from "node:url";
import { nepaConfig, trainingFlops } from "nepa";
import { findAdapter } from "../lib/engine/webgpu.ts";
import { BATCH, type Case, choices, count, readOptions, show, showJson } from "./common.ts";
import { type Way, WAYS } from "./step.ts";

/** What the step's bench says of a way, or why there is nothing to say. */
type Result = { way: Way; record: { engine: string; mode: string; seconds: number } } | {
  way: Way;
  failure: string;
};

async function timeAlone(way: Way, preset: Case, steps: number): Promise<Result> {
  const main = fileURLToPath(new URL("mod.ts", import.meta.url));
  const amount = way === "cpu" ? ["--steps", "1", "--warmup", "0"] : ["--steps", `${steps}`];
  const options = ["--case", preset, "--engine", way, "--precision", "float32", ...amount, "--json"];
  const { success, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "--quiet", "--allow-all", main, "step", ...options],
    env: { NO_COLOR: "1" },
  }).output();
  const [out, err] = [stdout, stderr].map((bytes) => new TextDecoder().decode(bytes).trim().split("\n")) as [
    string[],
    string[],
  ];
  if (success) return { way, record: JSON.parse(out.at(-1)!) };
  return { way, failure: err.find((line) => /error/i.test(line)) ?? err.at(-1) ?? "it ended without a word" };
}

/** `deno task bench engines`. */
export async function benchEngines(args: readonly string[]): Promise<void> {
  const given = readOptions(args, { case: "mini", engine: "", steps: "10", json: false });
  const [preset] = choices("case", given.case, Object.keys(BATCH) as Case[]) as [Case];
  const steps = count("steps", given.steps), graphics = (await findAdapter())?.hardware === true;
  const ways = given.engine
    ? choices("engine", given.engine, WAYS)
    : WAYS.filter((way) => way !== "webgpu" || graphics);
  const results: Result[] = [];
  for (const way of ways) results.push(await timeAlone(way, preset, steps));
  const flops = trainingFlops(nepaConfig({ preset }), BATCH[preset]);
  if (given.json) {
    return showJson(
      results.map((r) =>
        "record" in r ? { ...r.record, gflops: flops / r.record.seconds / 1e9 } : { case: preset, ...r }
      ),
    );
  }
  const rows = results.map((result) => {
    if ("failure" in result) return { engine: result.way, "": result.failure };
    const { engine, mode, seconds } = result.record;
    return { engine, mode: mode === "eager" ? "op by op" : mode, seconds, "GFLOP/s": flops / seconds / 1e9 };
  });
  const notes = [
    ...ways.includes("cpu") ? ["cpu: one step."] : [],
    ...!given.engine && !graphics ? ["No webgpu: there is no graphics card."] : [],
  ];
  show(rows, {
    title: `Training step, ${preset}, ${
      BATCH[preset]
    } images, median of ${steps}, each engine in its own process`,
    ...(notes.length > 0 && { note: notes.join(" ") }),
  });
}
