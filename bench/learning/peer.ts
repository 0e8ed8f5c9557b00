/** Cells of the learning bench that the official PyTorch code trains; what it learned is then read as ours is. @module */
import { join } from "node:path";
import { PROJECT } from "../../notebooks/.tools/setup.ts";
import { curveOf, type Pretrained, type Pretraining, type Task } from "./cells.ts";
import { meanOf } from "./page.ts";
import type { Cell, Place } from "./run.ts";
import { TorchPeer } from "../peer.ts";

/** A checkout of the official code, and a Python to run it, or "". */
export interface Official {
  official: string;
  python: string;
}

const IMAGES = join(PROJECT, "data", "fashion-mnist", "train-images-idx3-ubyte.gz");

/** What their names begin with. */
export const OFFICIAL = "official/";

/** A cell in which the official code pretrains; without `peer` only its earlier result counts. */
export function officialCell(task: Task, options: Pretraining, peer: Official | undefined): Cell<Pretrained> {
  const run = async ({ folder }: Place): Promise<Pretrained> => {
    if (!peer) throw new TypeError(`${task.name}: expected --official with a checkout of SihanXU/nepa`);
    const torch = await TorchPeer.start(task.name, peer);
    const losses = await torch.pretrain(options, IMAGES, `${folder}/model`).finally(() => torch.stop());
    return {
      lossFirst: losses[0]!,
      lossLast: meanOf(losses.slice(-50)),
      curve: curveOf(losses.map((loss, i) => ({ step: i + 1, loss }))),
      collapse: { step: [], featureStd: [], effectiveRank: [] },
    };
  };
  return { ...task, options: { official: "15ea494", ...options }, run };
}
