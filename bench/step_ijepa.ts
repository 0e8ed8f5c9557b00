/**
 * I-JEPA's step beside the public code's, with the same recorded masks, and NEPA's of the same size beside the official
 * code's: `bench step --method ijepa`. Each is a process of its own, whose peak memory is told too.
 *
 * @module
 */
import { fileURLToPath } from "node:url";
import { IJepa, type IJepaOptions, nepaConfig, updateRandom, useEngine } from "nepa";
import { BATCH, type Contender, race, show, showJson } from "./common.ts";
import { OptionError } from "./options.ts";
import { python, TorchPeer } from "./peer.ts";
import { Answering } from "./process.ts";
import type { Opened, Opening } from "./step_child.ts";

/** What is timed: nano, and ViT-B/16 at 224 with a predictor of 384 by 6. */
const CASES = {
  nano: { network: { preset: "nano" }, batch: BATCH.nano },
  base: { network: { preset: "base", patchSize: 16 }, batch: 8 },
} as const satisfies Record<string, { network: Pick<IJepaOptions, "preset" | "patchSize">; batch: number }>;

/** Updates whose masks the public code is given; then it begins again. */
const RECORDED = 20;

/** One of them. */
interface Timed extends Contender {
  method: Opening["method"];
  peer: boolean;
  flops?: number;
  /** The most memory that it has had, in MB. */
  peak(): Promise<number | undefined>;
}

/** This library's step. */
async function own(opening: Opening): Promise<Timed> {
  const script = fileURLToPath(new URL("step_child.ts", import.meta.url));
  const process = new Answering("nepa", Deno.execPath(), {
    args: ["run", "--no-check", "--allow-all", script],
  });
  const { engine, flops } = await process.ask<Opened>({ opening });
  return {
    ...{ name: engine, method: opening.method, peer: false, flops, peak: () => process.peak() },
    steps: async (rounds) => (await process.ask<{ seconds: number[] }>({ rounds })).seconds,
    stop: () => process.stop(),
  };
}

/** The public code's step, with the masks that ours draws. */
async function publicStep(
  { network, batch }: Pick<Opening, "network" | "batch">,
  given: { ijepa: string; python: string },
): Promise<Timed> {
  if (!given.ijepa) throw new OptionError("--ijepa: expected a checkout of facebookresearch/ijepa, got none");
  const script = fileURLToPath(new URL("ijepa_peer.py", import.meta.url));
  const process = new Answering("torch, public code", await python(given.python), {
    args: ["-W", "ignore", script, given.ijepa],
  });
  await useEngine("cpu");
  const model = new IJepa(network, { seed: 0 });
  const masks = Array.from({ length: RECORDED }, (_, k) => {
    const { context, targets } = model.masks.draw(batch, updateRandom(0, k));
    return { context, targets: targets[0]!.map((_, m) => targets.map((all) => all[m]!)) }; // block by block, [M][B][n]
  });
  await process.ask({ config: model.config, batch, masks });
  model.dispose();
  return {
    ...{ name: process.name, method: "ijepa", peer: true, peak: () => process.peak() },
    steps: async (rounds) => (await process.ask<{ seconds: number[] }>({ rounds })).seconds,
    stop: () => process.stop(),
  };
}

/** The official code's step of NEPA. */
async function officialStep(
  { network, batch }: Pick<Opening, "network" | "batch">,
  given: { official: string; python: string },
): Promise<Timed> {
  const peer = await TorchPeer.start("torch, official code", given);
  await peer.train(nepaConfig(network), batch, "eager");
  return Object.assign(peer, { method: "nepa", peer: true } as const);
}

/** How many times as much the peer needs, of each method, and I-JEPA's ratio over NEPA's. */
export function ratios(
  rows: readonly { method: string; peer: boolean; seconds: number; peak: number | undefined }[],
) {
  const of = (method: string, kind: "seconds" | "peak") => {
    const [ours, theirs] = [false, true].map((peer) =>
      rows.find((row) => row.method === method && row.peer === peer)?.[kind]
    );
    return ours && theirs ? theirs / ours : undefined;
  };
  return (["seconds", "peak"] as const).map((kind) => {
    const [ijepa, nepa] = [of("ijepa", kind), of("nepa", kind)];
    return { "peer / ours": kind, ijepa, nepa, "ijepa / nepa": ijepa && nepa && ijepa / nepa };
  });
}

/** Times them by turns. */
export async function benchStepIJepa(
  given: { case: string; peer: string; ijepa: string; official: string; python: string; json: boolean },
  steps: number,
  warmup: number,
): Promise<void> {
  for (const name of given.case.split(",").filter((name) => name !== "mini")) {
    const known = CASES[name as keyof typeof CASES];
    if (!known) throw new OptionError(`--case: expected ${Object.keys(CASES).join(", ")}, got "${name}"`);
    const { network, batch } = known,
      published = { network: { ...network, masks: "published" as const }, batch };
    const timed = [
      ...given.peer ? [await publicStep(published, given)] : [],
      ...given.peer && given.official ? [await officialStep(known, given)] : [],
      await own({ method: "ijepa", ...published }),
      await own({ method: "nepa", ...known }),
    ];
    const all = await race(timed, steps, warmup), rows = [];
    for (const one of timed) {
      const { name, method, peer, flops } = one, seconds = all.get(one)!, peak = await one.peak();
      rows.push({
        method,
        engine: name,
        peer,
        seconds,
        "GFLOP/s": flops && Math.round(flops / seconds / 1e9),
        peak,
      });
      await one.stop();
    }
    const compared = ratios(rows);
    if (given.json) showJson([...rows.map((row) => ({ case: name, ...row })), ...compared]);
    else {
      show(rows.map(({ peer: _, peak, ...row }) => ({ ...row, "peak, MB": peak })), {
        title: `Training step of I-JEPA and NEPA, ${name}, ${batch} images: median of ${steps}, by turns`,
      });
      if (given.peer) show(compared, { title: "How many times as much PyTorch needs" });
    }
  }
}
