/** The tensors of a checkpoint: copied, written and read. @module */
import type * as tf from "@tensorflow/tfjs";
import { fromOfficial, type Readable } from "../files/model_folder.ts";
import { type HostTensor, writeSafetensors } from "../files/safetensors.ts";
import { openSafetensors } from "../files/tensor_files.ts";
import { OBJECTIVE, readVariables, refuseOthers, type Source } from "../files/variables.ts";
import { type AdamW, MOMENTS } from "../optim/adamw.ts";
import type { Savable } from "./checkpoints.ts";
import { whole } from "../base/gradient.ts";

export { whole };

/** The values of variables in the machine's memory. */
export async function copyOf(variables: ReadonlyMap<string, tf.Variable>): Promise<Map<string, HostTensor>> {
  const copies = [...variables].map(async ([name, variable]) =>
    [name, { shape: variable.shape, data: await variable.data() as Float32Array }] as const
  );
  return new Map(await Promise.all(copies));
}

/** Milliseconds for which the writing of a checkpoint may keep the training from its next step. */
const SLICE = 10;

/** Copies to be written, which lets the training go on between one and the next. */
function patient(copies: ReadonlyMap<string, HostTensor>): Map<string, Readable> {
  let since = performance.now();
  const waited = async (data: unknown) => {
    if (performance.now() - since > SLICE) await new Promise((resolve) => setTimeout(resolve));
    since = performance.now();
    return data;
  };
  return new Map([...copies].map(([name, { shape, data }]) => [name, { shape, data: () => waited(data) }]));
}

/** A network in a checkpoint: the folder within it, and what lies beside the network's own file. */
export type Part = readonly [at: string, network: Savable, beside: ReadonlyMap<string, tf.Variable>];

/** Writes the values of a network's folder, and what lies beside them. */
export async function saveTo(
  folder: string,
  model: Savable,
  values: ReadonlyMap<string, HostTensor>,
  beside: ReadonlyMap<string, HostTensor>,
): Promise<void> {
  await Deno.mkdir(folder, { recursive: true });
  if (model.save) await model.save(folder, {}, patient(values));
  else await Deno.writeFile(`${folder}/model.safetensors`, writeSafetensors(values));
  if (beside.size > 0) await Deno.writeFile(`${folder}/${OBJECTIVE}`, writeSafetensors(beside));
}

/** Fills networks and the optimizer's moments, once all their files are known to fit. */
export async function fill(folder: string, parts: readonly Part[], optimizer: AdamW): Promise<void> {
  const file = `${folder}/optimizer.safetensors`, sources: Source[] = [];
  for (const [at, network, beside] of parts) {
    for (const [file, some] of Object.entries(network.files ?? { "model.safetensors": whole(network) })) {
      sources.push([some, `${folder}/${at}/${file}`, network.save && fromOfficial]);
    }
    if (beside.size > 0) sources.push([beside, `${folder}/${at}/${OBJECTIVE}`]);
  }
  await using moments = await openSafetensors(file);
  const byBlock = [...optimizer.state.keys()].every((name) => moments.infos.has(name)); // as they were written before
  if (byBlock) return await readVariables(...sources, [optimizer.state, file]);
  const expected = [...optimizer.parameters].flatMap(([name, variable]) =>
    MOMENTS.map((moment) => [`${moment}.${name}`, variable] as const)
  );
  refuseOthers(moments, file, new Map(expected));
  await readVariables(...sources);
  await optimizer.restore(async (name) => (await moments.read(name)).data as Float32Array);
}
