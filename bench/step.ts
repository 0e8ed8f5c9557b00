/**
 * Seconds for one training step, forward to new weights, on each engine, and of the official PyTorch code in turn with it.
 *
 *     deno task bench step [--case mini,nano,base] [--engine compiled,eager,wasm] [--peer torch --official CHECKOUT
 *       [--peer-mode eager,compile,bf16] [--python PYTHON]] [--steps 10] [--json]
 */
import {
  arrayDataset,
  type Dataset,
  Nepa,
  nepaConfig,
  pretrain,
  Random,
  type Run,
  Table,
  trainingFlops,
  useEngine,
} from "nepa";
import { TorchPeer } from "./peer.ts";

const BATCH: Record<string, number> = { mini: 64, nano: 64, base: 4 };

interface Contender {
  name: string;
  /** Seconds of each of `n` steps. */
  steps(n: number): Promise<number[]>;
  stop(): void | Promise<void>;
}

function noise(size: number, channels: number, count: number): Dataset {
  const random = new Random(0, "bench"), images = new Uint8Array(count * size * size * channels);
  for (let i = 0; i < images.length; i++) images[i] = random.integer(256);
  const labels = new Uint8Array(count);
  return arrayDataset({
    name: "noise",
    images,
    shape: [count, size, size, channels],
    labels,
    classes: ["noise"],
  });
}

/** Our own step: `pretrain` itself, data and optimizer included. */
async function ours(preset: "mini", mode: string): Promise<Contender> {
  const engine = await useEngine(mode === "wasm" ? "wasm" : "tensorflow"), batchSize = BATCH[preset]!;
  const model = new Nepa({ preset }, { seed: 0 }), { imageSize, numChannels } = model.config;
  const run: Run<Nepa> = pretrain(model, noise(imageSize, numChannels, 4 * batchSize), {
    steps: 1_000_000,
    batchSize,
    learningRate: 1e-4,
    compile: mode !== "eager",
    every: { collapse: 1_000_000 },
  });
  const steps = run[Symbol.asyncIterator]();
  return {
    name: mode === "wasm" ? String(engine) : `tensorflow, ${mode === "eager" ? "op by op" : "compiled"}`,
    async steps(n) {
      await useEngine(mode === "wasm" ? "wasm" : "tensorflow");
      const seconds: number[] = [];
      for (let i = 0; i < n; i++) {
        const start = performance.now();
        await steps.next();
        seconds.push((performance.now() - start) / 1000);
      }
      return seconds;
    },
    async stop() {
      await useEngine(mode === "wasm" ? "wasm" : "tensorflow");
      await steps.return();
      run.dispose();
      model.dispose();
    },
  };
}

async function torch(preset: "mini", mode: string, checkout: string, python?: string): Promise<Contender> {
  const peer = await TorchPeer.start(checkout, python);
  await peer.prepare(nepaConfig({ preset }), BATCH[preset]!, mode);
  return { name: `torch, ${mode}`, steps: (n) => peer.steps(n), stop: () => peer.stop() };
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[values.length >> 1]!;
}

function option(args: readonly string[], name: string, value: string): string {
  const at = args.indexOf(`--${name}`);
  return at < 0 ? value : args[at + 1] ?? value;
}

/** Runs the contenders by turns, two steps each, so that a slow moment of the machine meets all of them. */
async function race(contenders: readonly Contender[], count: number): Promise<Map<Contender, number>> {
  const seconds = new Map(contenders.map((c) => [c, [] as number[]]));
  for (const contender of contenders) await contender.steps(2); // compiles, and fills the caches
  for (let i = 0; i < count; i += 2) {
    for (const contender of contenders) {
      await new Promise((resolve) => setTimeout(resolve, 500)); // threads of the one before spin for a while
      seconds.get(contender)!.push(...await contender.steps(2));
    }
  }
  return new Map([...seconds].map(([contender, all]) => [contender, median(all)]));
}

/** `deno task bench step`. */
export async function benchStep(args: readonly string[]): Promise<void> {
  const json = args.includes("--json"), count = Number(option(args, "steps", "10"));
  const peered = option(args, "peer", "") === "torch", checkout = option(args, "official", "");
  if (peered && !checkout) {
    throw new TypeError("--peer torch: expected --official with a checkout of SihanXU/nepa");
  }
  const rows: Record<string, string | number | undefined>[] = [];
  for (const preset of option(args, "case", "mini,nano").split(",") as "mini"[]) {
    const modes = option(args, "engine", "compiled,eager,wasm").split(",");
    const contenders: Contender[] = [];
    for (const mode of modes) contenders.push(await ours(preset, mode));
    const peers: Contender[] = [];
    for (const mode of peered ? option(args, "peer-mode", "eager").split(",") : []) {
      peers.push(await torch(preset, mode, checkout, option(args, "python", "") || undefined));
    }
    const medians = await race([...contenders, ...peers], count);
    const flops = trainingFlops(nepaConfig({ preset }), BATCH[preset]!);
    for (const contender of [...contenders, ...peers]) {
      const seconds = medians.get(contender)!, ratio = peers[0] ? medians.get(peers[0])! / seconds : NaN;
      rows.push({
        case: preset,
        engine: contender.name,
        seconds: seconds.toFixed(4),
        "GFLOP/s": Math.round(flops / seconds / 1e9),
        ...(peers[0] && { "times torch's speed": ratio.toFixed(2) }),
      });
    }
    if (json) report(preset, contenders, peers, modes, medians);
    for (const contender of [...contenders, ...peers]) await contender.stop();
  }
  if (!json) {
    console.log(new Table(rows, { title: `Training step, median of ${count}, by turns` }).toString());
  }
}

function report(
  preset: string,
  contenders: readonly Contender[],
  peers: readonly Contender[],
  modes: readonly string[],
  medians: ReadonlyMap<Contender, number>,
): void {
  contenders.forEach((contender, i) => {
    const seconds = medians.get(contender)!, mode = modes[i] === "compiled" ? "compiled" : "eager";
    const engine = modes[i] === "wasm" ? "wasm" : "tensorflow";
    const line = { case: preset, engine, precision: "float32", mode, seconds };
    if (peers.length === 0) console.log(JSON.stringify(line));
    for (const peer of peers) {
      const peerSeconds = medians.get(peer)!, peerMode = peer.name.split(", ")[1];
      console.log(
        JSON.stringify({ ...line, peer: "torch", peerMode, peerSeconds, ratio: peerSeconds / seconds }),
      );
    }
  });
}
