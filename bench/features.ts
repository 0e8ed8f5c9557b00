/**
 * Images a second when features are read as `linearProbe` reads them: every layer of `mini`, the mean of the patch
 * tokens, recording and compiling included; and the official PyTorch model doing the same by turns, compared with ours.
 *
 *     deno task bench features [--images 70000] [--rounds 3] [--json]
 *       [--peer torch --official CHECKOUT [--peer-batch 64,256] [--python PYTHON]]
 */
import { fashionMnist, type MemoryDataset, Nepa, useEngine } from "nepa";
import { readSets } from "../lib/eval/features.ts";
import { type Contender, count, race, readOptions, show, showJson, timeEach } from "./common.ts";
import { OptionError } from "./options.ts";
import { TorchPeer } from "./peer.ts";

/** Features may differ from the peer's by this much; they are about 1 in size. */
const TOLERANCE = 1e-3;

/** The first `n` images of Fashion-MNIST, those for testing after those for training. */
async function images(n: number): Promise<MemoryDataset[]> {
  const { train, test } = await fashionMnist(), most = train.length + test.length;
  if (n > most) throw new OptionError(`--images: expected at most ${most}, got ${n}`);
  const first = (set: MemoryDataset, m: number) => set.subset(Array.from({ length: m }, (_, i) => i));
  const sets = [first(train, Math.min(n, train.length))];
  return n > train.length ? [...sets, first(test, n - train.length)] : sets;
}

interface Ours extends Contender {
  /** The last image's features after the last norm. */
  value?: Float32Array;
}

function ours(model: Nepa, sets: readonly MemoryDataset[]): Ours {
  const contender: Ours = {
    name: "nepa",
    steps: (n) =>
      timeEach(n, async () => {
        const found = await readSets(model, sets, model.layers, {});
        contender.value = found.at(-1)!.get("final")!.slice(-model.config.hiddenSize);
      }),
    stop: () => model.dispose(),
  };
  return contender;
}

async function writePixels(path: string, sets: readonly MemoryDataset[]): Promise<void> {
  using file = await Deno.open(path, { write: true, create: true });
  for (const set of sets) {
    for (const { images } of set.batches({ size: 1000, shuffle: false, dropLast: false })) {
      for (let done = 0; done < images.length;) done += await file.write(images.subarray(done));
    }
  }
}

function compare(own: Ours, peers: readonly TorchPeer[]): number {
  const differences = peers.map(({ value }) =>
    Math.max(...(value as number[]).map((x, i) => Math.abs(x - own.value![i]!)))
  );
  const worst = Math.max(0, ...differences);
  if (!(worst <= TOLERANCE)) {
    throw new Error(`features: expected the peer's, got others: they differ by ${worst}`);
  }
  return worst;
}

/** `deno task bench features`. */
export async function benchFeatures(args: readonly string[]): Promise<void> {
  const given = readOptions(args, {
    images: "70000",
    rounds: "3",
    peer: "",
    "peer-batch": "64,256",
    official: "",
    python: "",
    json: false,
  });
  const total = count("images", given.images), rounds = count("rounds", given.rounds);
  const engine = await useEngine(),
    sets = await images(total),
    model = new Nepa({ preset: "mini" }, { seed: 0 });
  const folder = await Deno.makeTempDir(), own = ours(model, sets), peers: TorchPeer[] = [];
  try {
    if (given.peer === "torch") {
      await model.save(`${folder}/model`);
      await writePixels(`${folder}/images`, sets);
      for (const batch of given["peer-batch"].split(",").map((text) => count("peer-batch", text))) {
        const peer = await TorchPeer.start(`torch, batches of ${batch}`, given);
        await peer.features(`${folder}/model`, `${folder}/images`, batch);
        peers.push(peer);
      }
    }
    const seconds = await race<Contender>([own, ...peers], rounds, 1), difference = compare(own, peers);
    report(given.json, String(engine), total, own, peers, seconds, difference);
  } finally {
    for (const contender of [own, ...peers]) await contender.stop();
    await Deno.remove(folder, { recursive: true });
  }
}

function report(
  json: boolean,
  engine: string,
  images: number,
  own: Contender,
  peers: readonly Contender[],
  all: ReadonlyMap<Contender, number>,
  difference: number,
): void {
  const seconds = all.get(own)!, record = { case: "mini", work: "features", engine, images, seconds };
  if (json) {
    if (peers.length === 0) return showJson([record]);
    return showJson(peers.map((peer) => {
      const peerSeconds = all.get(peer)!;
      return {
        ...record,
        peer: "torch",
        peerMode: peer.name,
        peerSeconds,
        ratio: peerSeconds / seconds,
        difference,
      };
    }));
  }
  const rows = [own, ...peers].map((contender) => {
    const taken = all.get(contender)!;
    return {
      who: contender === own ? engine : contender.name,
      seconds: taken,
      "images/s": Math.round(images / taken),
      "our speed / its": contender === own ? "" : (taken / seconds).toFixed(2),
    };
  });
  show(rows, {
    title: `Features of ${images.toLocaleString("en-US")} images, every layer of mini`,
    ...(peers.length > 0 &&
      { note: `Largest difference between their features and ours: ${difference.toExponential(1)}` }),
  });
}
