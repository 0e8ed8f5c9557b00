// Steps of mini on the data that ships, on TensorFlow; prints each loss, the median time of a step, and the engine, as JSON.
import { fashionMnist, Nepa, pretrain, useEngine } from "nepa";
import { median } from "../common.ts";

const steps = Number(Deno.args[0]), engine = await useEngine("tensorflow"), { train } = await fashionMnist();
const model = new Nepa({ preset: "mini" }, { seed: 0 }), losses: number[] = [], seconds: number[] = [];
let before = performance.now();
for await (const { loss } of pretrain(model, train, { seed: 0, steps: 100 })) {
  const now = performance.now();
  seconds.push((now - before) / 1000);
  before = now;
  losses.push(loss);
  if (losses.length === steps) break;
}
console.log(JSON.stringify({ engine: String(engine), losses, seconds: median(seconds.slice(5)) }));
Deno.exit(0);
