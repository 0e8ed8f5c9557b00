/** Trains for a few steps and prints a hash of losses and weights: the same in every process. */
import { fashionMnist, Nepa, pretrain, useEngine } from "nepa";

await useEngine("tensorflow");
const { train } = await fashionMnist();
const model = new Nepa({ preset: "mini", dropPathProb: 0.1, posEmbedShift: 0.1 }, { seed: 0 });
const run = pretrain(model, train, { steps: Number(Deno.args[0] ?? 10), seed: 0, emaDecay: 0.9 });
const { history } = await run.finish();
const numbers = [new Float64Array(history.map(({ loss }) => loss)).buffer as ArrayBuffer];
for (const network of [model, run.ema!]) {
  for (const variable of network.parameters.values()) {
    numbers.push(new Float32Array(await variable.data()).buffer);
  }
}
const hash = await crypto.subtle.digest("SHA-256", await new Blob(numbers).arrayBuffer());
console.log(new Uint8Array(hash).toHex());
Deno.exit(0);
