/**
 * Models on disk: a folder with `config.json`, `model.safetensors`, or several such files and their index, and
 * `preprocessor_config.json`, as the official PyTorch code writes and reads it. Only here is PyTorch's layout known:
 * linear weights [out, in], the patch projection [D, C, p, p].
 *
 * @module
 */
import { basename, resolve } from "node:path";
import { ForeignError, shown, visible } from "../base/check.ts";
import { notice } from "../display/jupyter.ts";
import { CARD_MARK, modelCard, type SaveOptions } from "./card.ts";
import { FileError, isPlain, readIfThere, readJson, writeWhole } from "./plain.ts";
import { isObject, SafetensorsError, writeSafetensors } from "./safetensors.ts";
import type { HostTensor, TensorInfo } from "./safetensors.ts";
import { type OpenSafetensors, openSafetensors } from "./tensor_files.ts";
import { AVERAGED, openTorchFile, strided, TorchFileError } from "./torch_file.ts";

/** Thrown when a folder does not hold the model that is asked for. */
export class CheckpointError extends ForeignError {
  /** What it is, for those who cannot ask for the class. */
  override name = "CheckpointError";
}

/** What a model's `config.json` says of its tensors. */
export interface Described<C> {
  readonly config: C;
  /** Which parameters there are: shapes in the engine's layout, by official name. */
  readonly shapes: ReadonlyMap<string, readonly number[]>;
  /** Of the images. */
  readonly channels: number;
}

/** A model read from a folder. */
export interface ModelFolder<C> {
  readonly config: C;
  /** `preprocessor_config.json`, where there is one. */
  readonly preprocessor: Record<string, unknown> | undefined;
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

/**
 * Which axes of PyTorch's tensor come one after the other here: of convolutions [out, in, k, k] to [k, k, in, out], of the
 * transposed ones of a pyramid [in, out, 2, 2] to [in, 2, 2, out], of linear maps [out, in] to [in, out].
 */
function axesOf(name: string, rank: number): number[] | undefined {
  if (rank === 4) return name.startsWith("pyramid.") ? [0, 2, 3, 1] : [2, 3, 1, 0];
  return rank === 2 ? [1, 0] : undefined;
}

/** The shape and the order of axes that PyTorch gives a tensor whose shape here is `shape`. */
function toOfficial(name: string, shape: readonly number[], channels: number) {
  const patch = [Math.sqrt(shape[0]! / channels), Math.sqrt(shape[0]! / channels), channels, shape[1]!];
  const whole = isProjection(name) ? patch : shape, axes = axesOf(name, whole.length);
  const back = axes?.map((_, axis) => axes.indexOf(axis));
  return { official: back ? back.map((axis) => whole[axis]!) : [...shape], whole, back };
}

/**
 * A parameter's numbers in the engine's layout.
 *
 * @param name Its official name.
 * @param tensor In PyTorch's layout.
 * @returns A copy: linear weights as [in, out], the patch projection as [p·p·C, D], convolutions as [k, k, in, out].
 */
export function fromOfficial(
  name: string,
  { shape, data }: { shape: readonly number[]; data: ArrayLike<number> },
): Float32Array {
  const axes = axesOf(name, shape.length);
  return axes ? permute(data, shape, axes) : Float32Array.from(data);
}

/** A parameter as PyTorch has it. */
function officialTensor(
  name: string,
  shape: readonly number[],
  data: Float32Array,
  channels: number,
): HostTensor {
  const { official, whole, back } = toOfficial(name, shape, channels);
  return { shape: official, data: back ? permute(data, whole, back) : data };
}

/** So many names of a kind are listed; of the others it is said how many. */
const LISTED = 10;

/**
 * What stands before the names of all tensors, such as "module." of a wrapper, where the rest of one is expected; or of all that
 * are expected, beside others; else "".
 */
function prefixOf(expected: readonly string[], found: readonly string[]): string {
  const all = new Set(found);
  for (const name of expected.some((name) => all.has(name)) ? [] : found) {
    const end = expected.find((end) => name.endsWith(`.${end}`)), prefix = name.slice(0, -(end?.length ?? 0));
    const whole = found.every((name) => name.startsWith(prefix)) ||
      expected.every((name) => all.has(prefix + name));
    if (end && whole) return prefix;
  }
  return "";
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
  const isFloat = (name: string) => ["F16", "BF16", "F32", "F64", undefined].includes(found.get(name)?.dtype);
  const notFloat = [...expected.keys()].filter((name) => !isFloat(name));
  const wrong = { missing, unknown, "of another shape": misshapen, "not floating-point": notFloat };
  const parts = Object.entries(wrong).filter(([, names]) => names.length > 0)
    .map(([what, names]) => {
      const more = names.length > LISTED ? [`and ${names.length - LISTED} more`] : [];
      const listed = names.slice(0, LISTED).map((name) => visible(name));
      return `${names.length} ${what}:\n  ${[...listed, ...more].join("\n  ")}`;
    });
  if (parts.length === 0) return;
  const text = `expected the ${expected.size} tensors that config.json describes, got ${found.size}`;
  throw new CheckpointError(`${folder}: ${text}; ${parts.join("\n")}`);
}

/** What `work` gives; errors that tell of a broken file become a {@linkcode CheckpointError}. */
async function refusing<T>(work: Promise<T>): Promise<T> {
  return await work.catch((error) => {
    const broken = [SafetensorsError, TorchFileError, FileError].some((kind) => error instanceof kind);
    throw broken ? new CheckpointError(error.message, { cause: error }) : error;
  });
}

/** The weights, in one file, in several with an index, or in PyTorch's own; the averaged ones if asked, or alone there. */
async function openWeights(folder: string, ema: boolean): Promise<OpenSafetensors | undefined> {
  const files = ["model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", AVERAGED];
  for (const file of ema ? [AVERAGED] : files) {
    const open = file.endsWith(".bin") ? openTorchFile : openSafetensors, path = `${folder}/${file}`;
    if (await refusing(isPlain(path))) return await refusing(open(path));
  }
  return undefined;
}

/** More classes than any data set has: a file that says so is damaged. */
const MOST_CLASSES = 1_000_000;

/** Names of the classes: the official file has them by number, or says how many; without either there are two, as transformers has it. */
export function classesOf(file: string, json: Record<string, unknown>): string[] {
  const { id2label: names, num_labels: count = 2 } = json;
  const wrong = (key: string, expected: string, got: unknown): never => {
    throw new CheckpointError(`${file}: ${visible(key)}: expected ${expected}, got ${shown(got)}`);
  };
  if (names === undefined || names === null) {
    const right = Number.isSafeInteger(count) && Number(count) >= 0 && Number(count) <= MOST_CLASSES;
    if (!right) wrong("num_labels", `0 to ${MOST_CLASSES}`, count);
    return Array.from({ length: Number(count) }, (_, id) => `LABEL_${id}`);
  }
  if (!isObject(names)) return wrong("id2label", "names of classes by number", names);
  return Object.keys(names).map((_, id) => {
    const name = names[id];
    return typeof name === "string" ? name : wrong(`id2label: ${id}`, "a name", name);
  });
}

/** Folders that hold a model each, such as the checkpoints of a run. */
async function modelsIn(folder: string): Promise<string[]> {
  const all = await Array.fromAsync(Deno.readDir(folder)).catch(() => []),
    names = all.map(({ name }) => name).sort();
  const there = await Promise.all(
    names.map((name) => isPlain(`${folder}/${name}/config.json`).catch(() => false)),
  );
  return names.filter((_, i) => there[i]);
}

const OTHERS =
  "load a pretrained one with Nepa.load or IJepa.load (NepaClassifier.from puts a head on it), " +
  "a classifier with NepaClassifier.load";

/**
 * Reads a model's folder, tensor by tensor.
 *
 * @param folder Its path.
 * @param architectures The official classes' names, one of which it has to be.
 * @param describe What `config.json` says, given the classes that it names and the tensors that there are.
 * @param ema Whether to take the averaged weights in `pytorch_model_ema.bin`.
 * @returns The configuration, the preprocessing and the parameters' values; F16 and BF16 become float32.
 * @throws {CheckpointError} If a file is missing or broken, or tensors are missing, unknown or misshapen: up to
 * ten of each kind are listed.
 */
export async function readModelFolder<C>(
  folder: string,
  architectures: readonly string[],
  describe: (
    json: Record<string, unknown>,
    classes: readonly string[],
    tensors: ReadonlyMap<string, TensorInfo>,
  ) => Described<C>,
  ema = false,
): Promise<ModelFolder<C>> {
  const json = await refusing(readJson(`${folder}/config.json`));
  await using weights = await openWeights(folder, ema);
  if (!json || !weights) {
    const wanted = ema ? AVERAGED : "model.safetensors";
    const missing = [...(json ? [] : ["config.json"]), ...(weights ? [] : [wanted])];
    const text = `expected a folder with config.json and ${wanted}; there is no ${missing.join(", no ")}`;
    const models = await modelsIn(folder), newest = JSON.stringify(`${folder}/${models.at(-1)}`);
    const help = models.length > 0
      ? `; there are models in ${models.slice(-5).join(", ")}: load ${newest}`
      : "";
    throw new CheckpointError(`${folder}: ${text}${help}`);
  }
  const found = Array.isArray(json.architectures) ? json.architectures : [];
  if (found.length > 0 && !architectures.some((one) => found.includes(one))) {
    const text = `expected ${architectures.join(" or ")}, got ${
      found.join(", ")
    }: another task's model; ${OTHERS}`;
    throw new CheckpointError(`${folder}: config.json: architectures: ${text}`);
  }
  const classes = classesOf(`${folder}/config.json`, json);
  const { config, shapes, channels } = naming(
    `${folder}/config.json`,
    () => describe(json, classes, weights.infos),
  );
  const names = [...weights.infos.keys()], whole = names.some((name) => name.includes("ijepa."));
  const onDisk = (name: string) => whole ? name : name.replace(/^ijepa\./, ""); // either is official
  const expected = new Map(
    [...shapes].map(([name, shape]) => [onDisk(name), toOfficial(name, shape, channels).official]),
  );
  const prefix = prefixOf([...expected.keys()], names);
  const own = [...weights.infos].filter(([name]) => name.startsWith(prefix));
  checkTensors(folder, expected, new Map(own.map(([name, info]) => [name.slice(prefix.length), info])));
  if (prefix) {
    const others = names.filter((name) => !name.startsWith(prefix));
    const left = others.length > 0 ? `; others are left out: ${others.slice(0, LISTED).join(", ")}` : "";
    notice(`${folder}: names of tensors begin with "${prefix}", which is taken off${left}`);
  }
  const values = new Map<string, Float32Array>();
  for (const name of shapes.keys()) {
    const { shape, data } = await weights.read(prefix + onDisk(name));
    values.set(name, fromOfficial(name, { shape, data: data as Float32Array | Float64Array }));
  }
  const preprocessor = await refusing(readJson(`${folder}/preprocessor_config.json`));
  return { config, preprocessor, classes, values };
}

/** Does work on what stands in a file; errors of values name it. */
function naming<T>(file: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    const nameless = error instanceof RangeError && !error.message.includes(file);
    if (nameless) error.message = `${file}: ${error.message.replace(/^config\.json: /, "")}`;
    throw error;
  }
}

/** Keys in the order in which the official files have them. */
function sorted(json: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(json).sort(([a], [b]) => a < b ? -1 : 1));
}

/** A variable, or a copy of its values. */
export interface Readable {
  readonly shape: readonly number[];
  /** A Float32Array. */
  data(): Promise<unknown>;
}

/** What {@linkcode writeModelFolder} writes. */
export interface ModelContents {
  /** `config.json`, but for the classes. */
  readonly config: Record<string, unknown>;
  /** `preprocessor_config.json`. */
  readonly preprocessor: Record<string, unknown>;
  /** Channels of the images. */
  readonly channels: number;
  /** Tensors by the names of their files, `model.safetensors` among these. */
  readonly files: Readonly<Record<string, ReadonlyMap<string, Readable>>>;
  readonly classes?: readonly string[] | undefined;
  /** What the model card says besides. */
  readonly options?: SaveOptions;
}

/**
 * Writes a model's folder in float32, with a model card, unless the one there is the user's: all files, or none.
 *
 * @param folder Its path; made if it is not there.
 * @param contents The model.
 */
export async function writeModelFolder(folder: string, contents: ModelContents): Promise<void> {
  const { config, preprocessor, channels, files, classes, options } = contents;
  const sizes = [...files["model.safetensors"]!.values()]
    .map(({ shape }) => shape.reduce((a, b) => a * b, 1));
  const parameterCount = sizes.reduce((a, b) => a + b, 0);
  const card = modelCard(basename(resolve(folder)), { config, parameterCount, classes }, options);
  const there = await readIfThere(`${folder}/README.md`);
  const label2id = Object.fromEntries(classes?.map((name, id) => [name, id]) ?? []);
  const labels = classes && { id2label: { ...classes }, label2id };
  const weights: [string, Uint8Array][] = [];
  for (const [file, variables] of Object.entries(files)) {
    const tensors = new Map<string, HostTensor>();
    for (const [name, variable] of variables) {
      const data = await variable.data() as Float32Array;
      tensors.set(name, officialTensor(name, variable.shape, data, channels));
    }
    weights.push([`${folder}/${file}`, writeSafetensors(tensors)]);
  }
  const json = (value: unknown) => JSON.stringify(value, null, 2) + "\n";
  const ours = !there || new TextDecoder().decode(there).includes(CARD_MARK);
  await Deno.mkdir(folder, { recursive: true });
  await writeWhole(
    ...weights,
    [`${folder}/preprocessor_config.json`, json(preprocessor)],
    [`${folder}/config.json`, json(sorted({ ...config, ...labels }))],
    ...ours ? [[`${folder}/README.md`, card] as const] : [],
  );
}
