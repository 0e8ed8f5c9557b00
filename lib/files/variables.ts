/** Variables in a safetensors file, by their own names and in their own layout. @module */
import * as tf from "@tensorflow/tfjs";
import { expect } from "../base/check.ts";
import { whole, type WithVariables } from "../base/gradient.ts";
import { writeWhole } from "./plain.ts";
import { type HostTensor, writeSafetensors } from "./safetensors.ts";
import { type OpenSafetensors, openSafetensors } from "./tensor_files.ts";

type Variables = ReadonlyMap<string, tf.Variable>;
type Values = { shape: readonly number[]; data: Float32Array };

/** The file with an objective's parameters and state, beside the model's. */
export const OBJECTIVE = "objective.safetensors";

/** How files hold the numbers of variables. */
const TYPES: Readonly<Record<string, readonly string[]>> = {
  float32: ["F32", "F16", "BF16"],
  int32: ["I32"],
  bool: ["U8"],
};

/** Refuses a file that lacks a variable, or has another in its place. */
export function refuseOthers({ infos }: OpenSafetensors, file: string, variables: Variables): void {
  const few = (names: string[]) => names.slice(0, 10).join(", ");
  const missing = [...variables.keys()].filter((name) => !infos.has(name));
  expect(missing.length === 0, file, `${few(missing)} in it`, few([...infos.keys()]));
  for (const [name, { size, shape, dtype }] of variables) {
    const found = infos.get(name)!, types = TYPES[dtype] ?? [];
    const fits = types.includes(found.dtype) &&
      found.shape.reduce((product, side) => product * side, 1) === size;
    expect(fits, `${file}: ${name}`, `${types[0]} [${shape}]`, `${found.dtype} [${found.shape}]`);
  }
}

/** Variables, the file that has their values, and what makes these of its tensors; default: they are as in the file. */
export type Source = readonly [
  variables: Variables,
  file: string,
  layout?: ((name: string, tensor: Values) => Float32Array) | undefined,
];

/** Gives variables the values that files have for them, once all files are known to have all. */
export async function readVariables(...sources: readonly Source[]): Promise<void> {
  await using opened = new AsyncDisposableStack();
  const files: OpenSafetensors[] = [];
  for (const [variables, file] of sources) {
    files.push(opened.use(await openSafetensors(file)));
    refuseOthers(files.at(-1)!, file, variables);
  }
  for (const [i, [variables, , layout]] of sources.entries()) {
    for (const [name, variable] of variables) {
      const tensor = await files[i]!.read(name) as Values, values = layout?.(name, tensor) ?? tensor.data;
      tf.tidy(() => variable.assign(tf.tensor(values, variable.shape, variable.dtype)));
    }
  }
}

/**
 * Writes an objective's parameters and state beside a model: `objective.safetensors`, which the model's `load` leaves alone.
 *
 * @param folder The model's; made if it is not there.
 * @param objective What has them.
 *
 * @example
 * ```ts
 * import { loadObjective, Mlp, saveObjective, useEngine } from "nepa";
 * import { assertEquals } from "@std/assert";
 *
 * await useEngine("cpu");
 * const folder = await Deno.makeTempDir(), projector = new Mlp([2, 3], { seed: 0 }), other = new Mlp([2, 3], { seed: 1 });
 * await saveObjective(folder, projector);
 * await loadObjective(folder, other);
 * const values = (mlp: Mlp) => mlp.parameters.get("mlp.0.weight")!.arraySync();
 * assertEquals(values(other), values(projector));
 * await Deno.remove(folder, { recursive: true });
 * ```
 */
export async function saveObjective(folder: string, objective: WithVariables): Promise<void> {
  const tensors = new Map<string, HostTensor>();
  for (const [name, variable] of whole(objective)) {
    tensors.set(name, { shape: variable.shape, data: await variable.data() as Float32Array });
  }
  await Deno.mkdir(folder, { recursive: true });
  await writeWhole([`${folder}/${OBJECTIVE}`, writeSafetensors(tensors)]);
}

/**
 * Gives an objective's parameters and state the values that {@linkcode saveObjective} or a checkpoint wrote.
 *
 * @param folder A model's folder, or a checkpoint's (`run/step-…`).
 * @param objective Its variables are assigned.
 * @throws {RangeError} If one is missing there, or has another shape.
 */
export async function loadObjective(folder: string, objective: WithVariables): Promise<void> {
  await readVariables([whole(objective), `${folder}/${OBJECTIVE}`]);
}
