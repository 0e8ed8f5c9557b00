/** Cells of the learning bench that the official PyTorch code trains; what it learned is then read as ours is. @module */
import { join } from "node:path";
import { nepaConfig, toOfficialConfig } from "nepa";
import { PROJECT } from "../notebooks/setup.ts";
import { curveOf, type Pretrained, type Pretraining, type Task } from "./learning_cells.ts";
import { meanOf } from "./learning_page.ts";
import type { Cell, Place } from "./learning_run.ts";
import { python } from "./peer.ts";

/** A checkout of the official code, and a Python to run it, or "". */
export interface Official {
  official: string;
  python: string;
}

/** What their names begin with. */
export const OFFICIAL = "official/";

/** A cell in which the official code pretrains; without `peer` only its earlier result counts. */
export function officialCell(task: Task, options: Pretraining, peer: Official | undefined): Cell<Pretrained> {
  const { network, seed, training } = options;
  const run = async ({ folder }: Place): Promise<Pretrained> => {
    if (!peer) throw new TypeError(`${task.name}: expected --official with a checkout of SihanXU/nepa`);
    const { model_type: _, dtype: __, ...config } = toOfficialConfig(nepaConfig(network));
    const command = new Deno.Command(await python(peer.python), {
      args: [
        ...["-W", "ignore", join(PROJECT, "bench", "learning_peer.py"), peer.official],
        ...[join(PROJECT, "data", "fashion-mnist"), `${folder}/model`],
        JSON.stringify({ config, seed, training }),
      ],
      stdout: "piped",
      stderr: "inherit",
    });
    const { success, stdout } = await command.output();
    if (!success) throw new Error(`${task.name}: the official code failed; see above`);
    const { losses } = JSON.parse(new TextDecoder().decode(stdout)) as { losses: number[] };
    return {
      lossFirst: losses[0]!,
      lossLast: meanOf(losses.slice(-50)),
      curve: curveOf(losses.map((loss, i) => ({ step: i + 1, loss }))),
      collapse: { step: [], featureStd: [], effectiveRank: [] },
    };
  };
  return { ...task, options: { official: "15ea494", ...options }, run };
}
