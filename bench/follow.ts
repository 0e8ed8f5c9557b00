/** `pretrain` and the official code from the same weights, on the same images with the same random numbers. @module */
import { fashionMnist, horizontalFlip, Nepa, pretrain, Random, useEngine, warmupCosine } from "nepa";
import { Feeder } from "../lib/data/loader.ts";
import { TorchPeer } from "./peer.ts";

/** How far the two have drifted apart since the official code last took our weights; it keeps its own moments. */
export type Drift = {
  update: number;
  rate: number;
  loss: number;
  /** The most of any update. */
  "loss apart": number;
  /** Median over the weights of |difference| / |weight|. */
  "weights apart": number;
};

/** A whole schedule. After a hundred updates on their own, rounding has driven the two apart: so they meet every 20. */
const STEPS = 1000, TOGETHER = 20, SHOWN = [20, 100, 200, 400, 600, 800, 1000], BATCH = 64, SEED = 0;

/** Trains both. */
export async function follow(options: { official: string; python: string }): Promise<Drift[]> {
  const peer = await TorchPeer.start("torch", options);
  await useEngine();
  const { train } = await fashionMnist(), folder = await Deno.makeTempDir();
  const model = new Nepa({ preset: "mini" }, { seed: SEED }), rows: Drift[] = [];
  await model.save(`${folder}/first`);
  const { imageSize } = model.config, augment = horizontalFlip(0.5);
  const size = { height: imageSize, width: imageSize }, normalisation = model.preprocessor;
  const feeder = new Feeder(train, {
    batchSize: BATCH,
    seed: SEED,
    augment,
    normalisation,
    size,
    finish: undefined,
  });
  const rate = warmupCosine({ peak: 3e-3, steps: STEPS, warmupSteps: STEPS / 10 });
  let most = 0;
  try {
    await peer.follow(`${folder}/first`);
    for await (const { step, loss } of pretrain(model, train, { steps: STEPS, seed: SEED, augment })) {
      const { ropeRescale } = model.draws(BATCH, new Random(SEED, "draws", step - 1));
      const [rescale] = await ropeRescale!.data();
      ropeRescale!.dispose();
      const { images } = await feeder.feed(step - 1), file = `${folder}/images`;
      await Deno.writeFile(file, images as Uint8Array);
      most = Math.max(most, Math.abs(loss - await peer.update(file, rate(step - 1), rescale!)));
      if (step % TOGETHER !== 0) continue;
      await model.save(`${folder}/now`);
      const apart = await peer.apart(`${folder}/now`);
      if (SHOWN.includes(step)) {
        rows.push({ update: step, rate: rate(step - 1), loss, "loss apart": most, "weights apart": apart });
      }
      most = 0;
    }
    return rows;
  } finally {
    await peer.stop();
    model.dispose();
    await Deno.remove(folder, { recursive: true });
  }
}
