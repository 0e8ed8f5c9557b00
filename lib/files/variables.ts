/** Variables in a safetensors file, by their own names and in their own layout. @module */
import * as tf from "@tensorflow/tfjs";
import { expect } from "../base/check.ts";
import { type HostTensor, writeSafetensors } from "./safetensors.ts";
import { openSafetensors } from "./tensor_files.ts";

type Variables = ReadonlyMap<string, tf.Variable>;
type Values = { shape: readonly number[]; data: Float32Array };

/** What has parameters and, perhaps, state by name: an objective. */
export interface WithVariables {
  readonly parameters?: Variables;
  readonly state?: Variables;
}

/** The file with an objective's parameters and state, beside the model's. */
export const OBJECTIVE = "objective.safetensors";

const all = ({ parameters = new Map(), state = new Map() }: WithVariables): Map<string, tf.Variable> =>
  new Map([...parameters, ...state]);

/** Gives variables the values that a file has for them. */
export async function readVariables(
  variables: Variables,
  file: string,
  layout: (name: string, tensor: Values) => Float32Array = (_, { data }) => Float32Array.from(data),
): Promise<void> {
  await using tensors = await openSafetensors(file);
  const missing = [...variables.keys()].filter((name) => !tensors.infos.has(name));
  const [lacks, has] = [missing, [...tensors.infos.keys()]].map((names) => names.slice(0, 10).join(", "));
  expect(missing.length === 0, file, `${lacks} in it`, has);
  for (const [name, variable] of variables) {
    const tensor = await tensors.read(name), values = layout(name, tensor as Values);
    expect(values.length === variable.size, `${file}: ${name}`, `[${variable.shape}]`, `[${tensor.shape}]`);
    tf.tidy(() => variable.assign(tf.tensor(values, variable.shape)));
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
  for (const [name, variable] of all(objective)) {
    tensors.set(name, { shape: variable.shape, data: await variable.data() as Float32Array });
  }
  await Deno.mkdir(folder, { recursive: true });
  const file = `${folder}/${OBJECTIVE}`;
  await Deno.writeFile(`${file}.part`, writeSafetensors(tensors));
  await Deno.rename(`${file}.part`, file);
}

/**
 * Gives an objective's parameters and state the values that {@linkcode saveObjective} or a checkpoint wrote.
 *
 * @param folder A model's folder, or a checkpoint's (`run/step-…`).
 * @param objective Its variables are assigned.
 * @throws {RangeError} If one is missing there, or has another shape.
 */
export async function loadObjective(folder: string, objective: WithVariables): Promise<void> {
  await readVariables(all(objective), `${folder}/${OBJECTIVE}`);
}
