// A process that trains a very small network in a folder and goes on with what is there; it may be killed at any moment.
// Arguments: the folder, the engine, how many updates, `checkpoint` options as JSON, "pretrain", "finetune" or "ijepa",
// and "halting" to stop and go on after each step.
import { type EngineName, useEngine } from "nepa";
import { tinyJepaRun, tinyRun, tinyTuning } from "./tiny.ts";

const [folder = "", engine = "", steps = "", options = "{}", kind, halting] = Deno.args;
await useEngine(engine as EngineName);
const runs = { finetune: tinyTuning, ijepa: tinyJepaRun, pretrain: tinyRun };
const run = runs[(kind ?? "pretrain") as keyof typeof runs]({
  steps: Number(steps),
  checkpoint: { folder, every: 3, best: "loss", resume: "auto", ...JSON.parse(options) },
});
do {
  for await (const { step } of run) {
    console.log("step", step);
    if (halting) break; // which saves
  }
} while (halting && run.stopped);
console.log("ended", run.reason ?? "whole");
Deno.exit(0); // a kernel thread may still wait for work
