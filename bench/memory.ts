/**
 * Resident memory while a network is trained with `pretrain`'s defaults: the peak, and the slope over the second half, by
 * least squares; and the loss that it reaches.
 *
 *     deno task bench memory [--case nano] [--steps 1000] [--json]
 */
import { fashionMnist, Nepa, pretrain, tf, useEngine } from "nepa";

const MB = 1 << 20;

/** `deno task bench memory`. */
export async function benchMemory(args: readonly string[]): Promise<void> {
  const option = (name: string, value: string) =>
    args.includes(`--${name}`) ? args[args.indexOf(`--${name}`) + 1]! : value;
  const preset = option("case", "nano") as "nano", steps = Number(option("steps", "1000"));
  const engine = await useEngine(), { train } = await fashionMnist();
  const model = new Nepa({ preset }, { seed: 0 }), resident: number[] = [];
  const run = pretrain(model, train, { steps, every: { collapse: 100 } });
  let tensors = 0;
  for await (const { step } of run) {
    resident.push(Deno.memoryUsage().rss / MB);
    if (step === 10) tensors = tf.memory().numTensors;
    if (step === steps - 1) tensors = tf.memory().numTensors - tensors;
  }
  const half = resident.slice(steps >> 1), middle = (half.length - 1) / 2;
  const mean = half.reduce((a, b) => a + b, 0) / half.length;
  const slope = half.reduce((sum, y, x) => sum + (x - middle) * (y - mean), 0) /
    half.reduce((sum, _, x) => sum + (x - middle) ** 2, 0);
  const result = {
    case: preset,
    engine: String(engine),
    steps,
    peakMB: Math.max(...resident),
    kBPerStep: slope * 1024,
    tensorsGained: tensors,
    lossLast: run.result().lossLast,
  };
  if (args.includes("--json")) console.log(JSON.stringify(result));
  else {
    console.log(
      `${result.engine}, ${preset}, ${steps} steps: peak ${result.peakMB.toFixed(0)} MB, ` +
        `${result.kBPerStep.toFixed(2)} kB a step over the second half, ${tensors} tensors gained, ` +
        `loss of the last 50 steps ${result.lossLast.toFixed(4)}`,
    );
  }
  model.dispose();
}
