/**
 * Resident memory while a network is trained with `pretrain`'s defaults: the peak, and the slope over the second half, by
 * least squares; and the loss that it reaches.
 *
 *     deno task bench memory [--case nano] [--steps 1000] [--batch 64] [--accumulate 1] [--json]
 *
 * `mini` and `nano` learn from Fashion-MNIST, `base` from noise.
 */
import { fashionMnist, Nepa, pretrain, tf, useEngine } from "nepa";
import { BATCH, type Case, choices, count, noise, readOptions, showJson } from "./common.ts";

const MB = 1 << 20;

/** What a step more adds, by least squares. */
function slope(values: readonly number[]): number {
  const middle = (values.length - 1) / 2, mean = values.reduce((a, b) => a + b, 0) / values.length;
  return values.reduce((sum, y, x) => sum + (x - middle) * (y - mean), 0) /
    values.reduce((sum, _, x) => sum + (x - middle) ** 2, 0);
}

/** `deno task bench memory`. */
export async function benchMemory(args: readonly string[]): Promise<void> {
  const given = readOptions(args, { case: "nano", steps: "1000", batch: "", accumulate: "1", json: false });
  const [preset] = choices("case", given.case, Object.keys(BATCH) as Case[]) as [Case];
  const steps = count("steps", given.steps, 4), accumulate = count("accumulate", given.accumulate);
  const batchSize = given.batch ? count("batch", given.batch) : BATCH[preset];
  const engine = await useEngine(), model = new Nepa({ preset }, { seed: 0 }), resident: number[] = [];
  const { imageSize, numChannels } = model.config;
  const train = preset === "base"
    ? noise(imageSize, numChannels, 2 * batchSize)
    : (await fashionMnist()).train;
  const more = accumulate > 1 ? { accumulate } : {};
  const run = pretrain(model, train, { steps, batchSize, every: { collapse: 100 }, ...more });
  let tensors = 0;
  for await (const { step } of run) {
    resident.push(Deno.memoryUsage().rss / MB);
    if (step === Math.min(10, steps >> 1)) tensors = tf.memory().numTensors;
    if (step === steps - 1) tensors = tf.memory().numTensors - tensors;
  }
  const result = {
    case: preset,
    engine: String(engine),
    steps,
    batchSize,
    accumulate,
    peakMB: Math.max(...resident),
    kBPerStep: slope(resident.slice(steps >> 1)) * 1024,
    tensorsGained: tensors,
    lossLast: run.result().lossLast,
  };
  model.dispose();
  if (given.json) return showJson([result]);
  const parts = accumulate > 1 ? ` in ${accumulate} parts` : "";
  console.log(
    `${result.engine}, ${preset}, ${steps} steps of ${batchSize} images${parts}: peak ${
      result.peakMB.toFixed(0)
    } MB, ${
      result.kBPerStep.toFixed(2)
    } kB a step over the second half, ${tensors} tensors gained, loss of the last 50 steps ${
      result.lossLast.toFixed(4)
    }`,
  );
}
