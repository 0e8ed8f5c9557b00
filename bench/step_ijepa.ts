/** I-JEPA's step beside the public code's, with the same recorded masks: `bench step --method ijepa`. @module */
import { IJepa, type IJepaOptions, updateRandom, useEngine } from "nepa";
import { BATCH, type Contender, endlessRun, race, show, showJson, timeEach } from "./common.ts";
import { OptionError } from "./options.ts";
import { python } from "./peer.ts";
import { Answering } from "./process.ts";

/** What is timed: nano, and ViT-B/16 at 224 with a predictor of 384 by 6. */
const CASES = {
  nano: { network: { preset: "nano" }, batch: BATCH.nano },
  base: { network: { preset: "base", patchSize: 16 }, batch: 8 },
} as const satisfies Record<string, { network: IJepaOptions; batch: number }>;

/** Updates whose masks the public code is given; then it begins again. */
const RECORDED = 20;

/** The public code as a process. */
async function publicStep(model: IJepa, batch: number, checkout: string, given: string): Promise<Contender> {
  if (!checkout) throw new OptionError("--ijepa: expected a checkout of facebookresearch/ijepa, got none");
  const script = new URL("ijepa_peer.py", import.meta.url).pathname;
  const process = new Answering("torch, public code", await python(given), {
    args: ["-W", "ignore", script, checkout],
  });
  const masks = Array.from({ length: RECORDED }, (_, k) => {
    const { context, targets } = model.masks.draw(batch, updateRandom(0, k));
    return { context, targets: targets[0]!.map((_, m) => targets.map((all) => all[m]!)) }; // block by block, [M][B][n]
  });
  await process.ask({ config: model.config, batch, masks });
  return {
    name: process.name,
    steps: async (rounds) => (await process.ask<{ seconds: number[] }>({ rounds })).seconds,
    stop: () => process.stop(),
  };
}

/** Times them by turns. */
export async function benchStepIJepa(
  given: { case: string; peer: string; ijepa: string; python: string; json: boolean },
  steps: number,
  warmup: number,
): Promise<void> {
  for (const name of given.case.split(",").filter((name) => name !== "mini")) {
    const { network, batch } = CASES[name as keyof typeof CASES] ?? {};
    if (!network) throw new OptionError(`--case: expected ${Object.keys(CASES).join(", ")}, got "${name}"`);
    const engine = await useEngine(), model = new IJepa({ ...network, masks: "published" }, { seed: 0 });
    const peers = given.peer ? [await publicStep(model, batch, given.ijepa, given.python)] : [];
    const run = endlessRun(model, batch), own = run[Symbol.asyncIterator]();
    await own.next(); // compiles
    const ours = {
      name: String(engine),
      steps: (n: number) => timeEach(n, () => own.next()),
      stop: () => {},
    };
    const all = await race<Contender>([ours, ...peers], steps, warmup), seconds = all.get(ours)!;
    const record = {
      ...{ case: name, method: "ijepa", engine: String(engine), seconds },
      "GFLOP/s": Math.round(model.flops(batch) / seconds / 1e9),
      ...peers[0] && { peerSeconds: all.get(peers[0])!, ratio: all.get(peers[0])! / seconds },
    };
    if (given.json) showJson([record]);
    else {show([record], {
        title: `Training step of I-JEPA, ${name}, ${batch} images: median of ${steps}, by turns`,
      });}
    await own.return();
    for (const peer of peers) await peer.stop();
    run.dispose();
    model.dispose();
  }
}
