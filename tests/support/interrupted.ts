// A process that is interrupted while it trains; train_test.ts looks at what becomes of it.
import { fashionMnist, Nepa, pretrain, useEngine } from "nepa";

await useEngine("wasm");
const { train } = await fashionMnist();
const model = new Nepa({ preset: "mini", hiddenSize: 32, numHiddenLayers: 1, intermediateSize: 32 }, {
  seed: 0,
});
const run = pretrain(model, train, { steps: 50, batchSize: 4, every: { collapse: 1000 } });

async function interrupt(): Promise<void> {
  Deno.kill(Deno.pid, "SIGINT");
  await new Promise((resolve) => setTimeout(resolve, 100));
}

for await (const { step } of run) if (step === 3) await interrupt();
console.log(run.history.length, run.reason);
for await (const { step } of run) if (step === 4) break;
console.log(run.history.length, run.reason);
for await (const _ of run) {
  await interrupt();
  await interrupt();
}
