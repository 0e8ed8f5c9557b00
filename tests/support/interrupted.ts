// A process that is interrupted while it trains; train_test.ts looks at what becomes of it.
import { fashionMnist, Nepa, pretrain, RunInterrupted, useEngine } from "nepa";
import { pressCtrlC } from "./ctrl_c.ts";

await useEngine("wasm");
const { train } = await fashionMnist();
const model = new Nepa({ preset: "mini", hiddenSize: 32, numHiddenLayers: 1, intermediateSize: 32 }, {
  seed: 0,
});
const run = pretrain(model, train, { steps: 50, batchSize: 4, every: { collapse: 1000 } });

async function interrupt(): Promise<void> {
  pressCtrlC();
  await new Promise((resolve) => setTimeout(resolve, 100));
}

try {
  for await (const { step } of run) if (step === 3) await interrupt();
} catch (error) {
  if (!(error instanceof RunInterrupted)) throw error;
}
console.log(run.history.length, run.reason, run.history.at(-1)!.metrics!.collapsed);
for await (const { step } of run) if (step === 4) break;
console.log(run.history.length, run.reason);
for await (const _ of run) {
  await interrupt();
  await interrupt();
}
