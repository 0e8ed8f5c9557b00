/**
 * Models on disk: a folder with `config.json`, `model.safetensors`, or several such files and their index, and
 * `preprocessor_config.json`, as the official PyTorch code writes and reads it. Only here is PyTorch's layout known:
 * linear weights [out, in], the patch projection [D, C, p, p].
 *
 * @module
 */
import { basename, resolve } from "node:path";
import { CARD_MARK, modelCard, type SaveOptions } from "./card.ts";
import { fromOfficialConfig, type NepaConfig, toOfficialConfig } from "../model/config.ts";
import {
  defaultPreprocessor,
  fromOfficialPreprocessor,
  toOfficialPreprocessor,
} from "../data/preprocessor.ts";
import type { Preprocessor } from "../data/preprocessor.ts";
import {
  type HostTensor,
  isObject,
  SafetensorsError,
  type TensorInfo,
  writeSafetensors,
} from "./safetensors.ts";
import { type OpenSafetensors, openSafetensors } from "./tensor_files.ts";
import { AVERAGED, openTorchFile, strided, TorchFileError } from "./torch_file.ts";

/** Thrown when a folder does not hold the model that is asked for. */
export class CheckpointError extends Error {
  /** What it is, for those who cannot ask for the class. */
  override name = "CheckpointError";
}

/** A model read from a folder. */
export interface Checkpoint {
  readonly config: NepaConfig;
  readonly preprocessor: Preprocessor;
  /** Class names of a classifier, in the order of its outputs; empty for other models. */
  readonly classes: readonly string[];
  /** The parameters' values by official name, in the engine's layout. */
  readonly values: ReadonlyMap<string, Float32Array>;
}

/** Puts rows that count along `axes` into the order in which they count along them here. */
function permute(data: ArrayLike<number>, shape: readonly number[], axes: readonly number[]): Float32Array {
  const steps = shape.map((_, axis) => shape.slice(axis + 1).reduce((product, side) => product * side, 1));
  const sides = axes.map((axis) => shape[axis]!), strides = axes.map((axis) => steps[axis]!);
  return strided(data, new Float32Array(data.length), sides, strides);
}

const isProjection = (name: string): boolean => name.endsWith("patch_embeddings.projection.weight");

/** The shape that PyTorch gives a tensor whose shape here is `shape`. */
function officialShape(name: string, shape: readonly number[], config: NepaConfig): number[] {
  const { patchSize: p, numChannels } = config;
  if (isProjection(name)) return [shape[1]!, numChannels, p, p];
  return shape.length === 2 ? [...shape].reverse() : [...shape];
}

/**
 * A parameter's numbers in the engine's layout.
 *
 * @param name Its official name.
 * @param tensor In PyTorch's layout.
 * @returns A copy: linear weights as [in, out], the patch projection as [p·p·C, D].
 */
export function fromOfficial(
  name: string,
  { shape, data }: { shape: readonly number[]; data: ArrayLike<number> },
): Float32Array {
  if (isProjection(name)) return permute(data, shape, [2, 3, 1, 0]); // [D, C, p, p] to [p, p, C, D]
  return shape.length === 2 ? permute(data, shape, [1, 0]) : Float32Array.from(data);
}

function toOfficial(name: string, shape: readonly number[], data: Float32Array, config: NepaConfig) {
  const official = officialShape(name, shape, config), { patchSize: p, numChannels: C } = config;
  if (isProjection(name)) return { shape: official, data: permute(data, [p, p, C, shape[1]!], [3, 2, 0, 1]) };
  return { shape: official, data: shape.length === 2 ? permute(data, shape, [1, 0]) : data };
}

/** One error for everything that is wrong with the tensors of a folder. */
function checkTensors(
  folder: string,
  expected: ReadonlyMap<string, readonly number[]>,
  found: ReadonlyMap<string, TensorInfo>,
): void {
  const missing = [...expected.keys()].filter((name) => !found.has(name));
  const unknown = [...found.keys()].filter((name) => !expected.has(name));
  const misshapen = [...expected].flatMap(([name, shape]) => {
    const got = found.get(name)?.shape;
    return got && got.join() !== shape.join() ? [`${name}: expected [${shape}], got [${got}]`] : [];
  });
  const notFloat = [...expected.keys()].filter((name) =>
    found.has(name) && !["F16", "BF16", "F32", "F64"].includes(found.get(name)!.dtype)
  );
  const wrong = { missing, unknown, "of another shape": misshapen, "not floating-point": notFloat };
  const parts = Object.entries(wrong).filter(([, names]) => names.length > 0)
    .map(([what, names]) => `${names.length} ${what}:\n  ${names.join("\n  ")}`);
  if (parts.length === 0) return;
  const text = `expected the ${expected.size} tensors that config.json describes, got ${found.size}`;
  throw new CheckpointError(`${folder}: ${text}; ${parts.join("\n")}`);
}

/** What `read` gives, or undefined where there is no such file. */
async function ifThere<T>(read: Promise<T>): Promise<T | undefined> {
  try {
    return await read;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory) return undefined;
    const broken = error instanceof SafetensorsError || error instanceof TorchFileError;
    throw broken ? new CheckpointError(error.message, { cause: error }) : error;
  }
}

function parseJson(file: string, bytes: Uint8Array): Record<string, unknown> {
  try {
    const json: unknown = JSON.parse(new TextDecoder().decode(bytes));
    if (isObject(json)) return json;
    throw new TypeError("not an object");
  } catch (error) {
    throw new CheckpointError(`${file}: expected a JSON object`, { cause: error });
  }
}

/** The weights, in one file, in several with an index, or in PyTorch's own; the averaged ones if asked, or alone there. */
async function openWeights(folder: string, ema: boolean): Promise<OpenSafetensors | undefined> {
  const files = ["model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", AVERAGED];
  for (const file of ema ? [AVERAGED] : files) {
    const open = file.endsWith(".bin") ? openTorchFile : openSafetensors;
    const found = await ifThere(open(`${folder}/${file}`));
    if (found) return found;
  }
  return undefined;
}

/** Names of the classes: the official file has them by number, or only says how many. */
function classesOf(json: Record<string, unknown>): string[] {
  const names = json.id2label as Record<string, string> | undefined;
  if (names) return Object.keys(names).map(Number).sort((a, b) => a - b).map((id) => names[id]!);
  return Array.from({ length: Number(json.num_labels ?? 0) }, (_, id) => `LABEL_${id}`);
}

/**
 * Reads a model's folder, tensor by tensor.
 *
 * @param folder Its path.
 * @param shapes Which parameters the model has, in the engine's layout, by its configuration and its number of classes.
 * @param architecture The official class's name.
 * @param ema Whether to take the averaged weights in `pytorch_model_ema.bin`.
 * @returns The configuration, the preprocessing and the parameters' values; F16 and BF16 become float32.
 * @throws {CheckpointError} If a file is missing or broken, or tensors are missing, unknown or misshapen: all are listed.
 */
export async function readCheckpoint(
  folder: string,
  shapes: (config: NepaConfig, classes: number) => ReadonlyMap<string, number[]>,
  architecture: string,
  ema = false,
): Promise<Checkpoint> {
  const [configFile, preprocessorFile] = await Promise.all(
    ["config.json", "preprocessor_config.json"].map((name) => ifThere(Deno.readFile(`${folder}/${name}`))),
  );
  const json = configFile && parseJson(`${folder}/config.json`, configFile);
  await using weights = await openWeights(folder, ema);
  if (!json || !weights) {
    const wanted = ema ? AVERAGED : "model.safetensors";
    const missing = [...(json ? [] : ["config.json"]), ...(weights ? [] : [wanted])];
    const text = `expected a folder with config.json and ${wanted}; there is no ${missing.join(", no ")}`;
    throw new CheckpointError(`${folder}: ${text}`);
  }
  const found = Array.isArray(json.architectures) ? json.architectures : [];
  if (found.length > 0 && !found.includes(architecture)) {
    const text = `expected ${architecture}, got ${found.join(", ")}: another task's model`;
    const help = "load a pretrained one with Nepa.load (NepaClassifier.from puts a head on it), " +
      "a classifier with NepaClassifier.load";
    throw new CheckpointError(`${folder}: config.json: architectures: ${text}; ${help}`);
  }
  const config = fromOfficialConfig(json), classes = classesOf(json);
  const plain = defaultPreprocessor(config.imageSize, config.numChannels);
  const preprocessor = preprocessorFile
    ? fromOfficialPreprocessor(parseJson(`${folder}/preprocessor_config.json`, preprocessorFile), plain)
    : plain;
  const expected = new Map(
    [...shapes(config, classes.length)].map(([name, shape]) => [name, officialShape(name, shape, config)]),
  );
  checkTensors(folder, expected, weights.infos);
  const values = new Map<string, Float32Array>();
  for (const name of expected.keys()) {
    const { shape, data } = await weights.read(name);
    values.set(name, fromOfficial(name, { shape, data: data as Float32Array | Float64Array }));
  }
  return { config, preprocessor, classes, values };
}

/** A variable, or a copy of its values. */
export interface Readable {
  readonly shape: readonly number[];
  /** A Float32Array. */
  data(): Promise<unknown>;
}

/** What {@linkcode writeCheckpoint} writes. */
export interface CheckpointContents {
  /** The official class's name. */
  readonly architecture: string;
  readonly config: NepaConfig;
  readonly preprocessor: Preprocessor;
  readonly parameters: ReadonlyMap<string, Readable>;
  readonly classes?: readonly string[];
  /** What the model card says besides. */
  readonly options?: SaveOptions;
}

/**
 * Writes a model's folder in float32, with a model card, unless the one there is the user's. Each file is written beside its place and then moved there.
 *
 * @param folder Its path; made if it is not there.
 * @param contents The model.
 */
export async function writeCheckpoint(folder: string, contents: CheckpointContents): Promise<void> {
  const { architecture, config, preprocessor, parameters, classes, options } = contents;
  const sizes = [...parameters.values()].map(({ shape }) => shape.reduce((a, b) => a * b, 1));
  const parameterCount = sizes.reduce((a, b) => a + b, 0);
  const card = modelCard(basename(resolve(folder)), { config, parameterCount, classes }, options);
  const there = await ifThere(Deno.readTextFile(`${folder}/README.md`));
  const labels = classes && {
    id2label: Object.fromEntries(classes.map((name, id) => [id, name])),
    label2id: Object.fromEntries(classes.map((name, id) => [name, id])),
  };
  const tensors = new Map<string, HostTensor>();
  for (const [name, variable] of parameters) {
    tensors.set(name, toOfficial(name, variable.shape, await variable.data() as Float32Array, config));
  }
  const json = (value: unknown) => new TextEncoder().encode(JSON.stringify(value, null, 2) + "\n");
  const files: [string, Uint8Array][] = [
    ["model.safetensors", writeSafetensors(tensors)],
    ["preprocessor_config.json", json(toOfficialPreprocessor(preprocessor))],
    ["config.json", json(toOfficialConfig(config, { architectures: [architecture], ...labels }))],
  ];
  if (!there || there.includes(CARD_MARK)) files.push(["README.md", new TextEncoder().encode(card)]);
  await Deno.mkdir(folder, { recursive: true });
  try {
    for (const [name, bytes] of files) await Deno.writeFile(`${folder}/${name}.part`, bytes);
  } catch (error) {
    for (const [name] of files) await Deno.remove(`${folder}/${name}.part`).catch(() => {});
    throw error;
  }
  for (const [name] of files) await Deno.rename(`${folder}/${name}.part`, `${folder}/${name}`);
}
