/** A data set that is a function: five million pictures, 61 GB as pixels, none of which is kept. @module */
import { type Dataset, generatedImages, Nepa, pretrain, Random } from "nepa";

const side = 64;

/** Picture `i`: a coloured disc somewhere. */
export function disc(i: number): Uint8Array {
  const random = new Random(7, "disc", i), pixels = new Uint8Array(side * side * 3);
  const [x, y, radius] = [random.integer(side), random.integer(side), 4 + random.integer(20)];
  const color = [random.integer(256), random.integer(256), random.integer(256)];
  for (let at = 0; at < side * side; at++) {
    const inside = Math.hypot(at % side - x, Math.floor(at / side) - y) < radius;
    if (inside) pixels.set(color, 3 * at);
  }
  return pixels;
}

/** All of them, or as many as wanted. */
export function discs(length = 5_000_000): Dataset {
  const size = { height: side, width: side, channels: 3 };
  return generatedImages({ name: "discs", length, ...size, get: disc, fingerprint: "discs, 1" });
}

/** Trains on them up to a step, from where the folder's last training stopped; gives all losses, and the weights. */
export async function trainOnDiscs(dataset: Dataset, folder: string, until: number) {
  const shape = { imageSize: side, patchSize: 16, numChannels: 3, hiddenSize: 32 };
  const depth = { numHiddenLayers: 2, numAttentionHeads: 2, intermediateSize: 64 };
  const model = new Nepa({ ...shape, ...depth }, { seed: 0 }),
    checkpoint = { folder, resume: "auto" as const };
  const run = pretrain(model, dataset, { steps: 8, batchSize: 4, checkpoint });
  for await (const { step } of run) if (step === until) break;
  const weights = [...model.parameters].map(([name, x]) => [name, [...x.dataSync()]] as const);
  model.dispose();
  return { losses: run.history.map(({ loss }) => loss), weights };
}
