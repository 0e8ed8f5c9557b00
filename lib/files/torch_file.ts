/**
 * PyTorch's own files: what `torch.save` makes of a dictionary of tensors, a zip archive of a pickle and of the numbers. A
 * pickle is a program: here only the instructions and names that such a dictionary takes are known, and none runs code.
 *
 * @module
 */
import { ForeignError, shown } from "../base/check.ts";
import { notice } from "../display/jupyter.ts";
import type { Entry } from "@zip.js/zip.js";
import { decode, type Dtype, HEADER_LIMIT, type HostTensor, sizeOf, type TensorInfo } from "./safetensors.ts";
import type { OpenSafetensors } from "./tensor_files.ts";

/** The official trainer's averaged weights. */
export const AVERAGED = "pytorch_model_ema.bin";

/** Thrown when a file is not what `torch.save` makes of a dictionary of tensors; it says what it holds instead. */
export class TorchFileError extends ForeignError {
  /** What it is, for those who cannot ask for the class. */
  override name = "TorchFileError";
}

function refuse(message: string, cause?: unknown): never {
  throw new TorchFileError(message, { cause });
}

/** Numbers of the archive's entry `key`, which tensors may share: those from `offset` on by `strides`. */
type Part = [dtype: Dtype, key: string, length: number, offset: number, shape: number[], strides: number[]];

class Tensor {
  readonly info: TensorInfo;
  constructor(readonly part: Part) {
    const [dtype, key, length, offset, shape, strides] = part;
    const byteLength = sizeOf(key, dtype, shape), all = sizeOf(key, dtype, [length]);
    const last = shape.reduce((at, side, axis) => at + (side - 1) * strides[axis]!, offset);
    const counts = [offset, ...shape, ...strides].every((x) => Number.isSafeInteger(x) && x >= 0);
    if (!counts || byteLength > all || byteLength > 0 && !(last < length)) {
      refuse(`expected a tensor within ${length} numbers, got [${shape}] from ${offset} by [${strides}]`);
    }
    this.info = { dtype, shape, byteLength };
  }
}

const tensor = ([_, dtype, key, __, length]: unknown[], ...view: unknown[]) =>
  new Tensor([dtype, key, length, ...view] as Part);

/** What names in a pickle stand for: what may be called with arguments, and how numbers are held. */
const NAMES: ReadonlyMap<string, unknown> = new Map<string, unknown>([
  ["collections\nOrderedDict", () => new Map()],
  ["argparse\nNamespace", () => new Map()],
  ["torch._utils\n_rebuild_tensor_v2", tensor],
  ["torch._utils\n_rebuild_parameter", (data: unknown) => data],
  ...Object.entries({
    Float: "F32",
    Half: "F16",
    BFloat16: "BF16",
    Double: "F64",
    Long: "I64",
    Int: "I32",
    Byte: "U8",
  })
    .map(([type, dtype]) => [`torch\n${type}Storage`, dtype] as const),
]);

/** So many instructions of a pickle are followed, about 60 a tensor; so many entries of an archive are read, one a tensor. */
const MOST_INSTRUCTIONS = 1_000_000, MOST_ENTRIES = 20_000;

/** What the instructions of a pickle leave: a value that is not sound is refused where it is used. */
function unpickle(bytes: Uint8Array): unknown {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length), memo = new Map<number, unknown>();
  const stack: unknown[] = [], marks: number[] = [];
  let at = 0;
  const skip = (length: number) => (at += length) - length;
  const u8 = () => view.getUint8(skip(1)), u32 = () => view.getUint32(skip(4), true);
  const text = (length: number) =>
    new TextDecoder("utf-8", { fatal: true }).decode(bytes.subarray(skip(length), at));
  const named = () => {
    const end = bytes.indexOf(0x0a, bytes.indexOf(0x0a, at) + 1) + 1, length = Math.max(0, end - at);
    const name = text(length).trim();
    return NAMES.get(name) ?? refuse(`expected tensors alone, got ${shown(name)}, which is not run`);
  };
  const called = ([callee, args]: unknown[]) =>
    typeof callee === "function" && Array.isArray(args) ? callee(...args) : refuse("expected a call");
  const filled = (items: unknown[], map = stack.pop()) => {
    for (let i = 0; i < items.length; i += 2) (map as Map<unknown, unknown>).set(items[i], items[i + 1]);
    return map;
  };
  const listed = (items: unknown[], list = stack.pop()) => {
    for (const item of items) (list as unknown[]).push(item);
    return list;
  };
  const instructions: ReadonlyMap<string, () => unknown> = new Map(Object.entries({
    "}": () => new Map(),
    ")": () => [],
    "]": () => [],
    a: () => listed(stack.splice(-1)),
    e: () => listed(stack.splice(marks.pop() ?? 0)),
    t: () => stack.splice(marks.pop() ?? 0),
    "\x85": () => stack.splice(-1),
    "\x86": () => stack.splice(-2),
    "\x87": () => stack.splice(-3),
    "\x88": () => true,
    "\x89": () => false,
    N: () => null,
    G: () => view.getFloat64(skip(8)),
    "\x8a": () => skip(u8()), // a number of many bytes: nobody asks which
    K: u8,
    M: () => view.getUint16(skip(2), true),
    J: () => view.getInt32(skip(4), true),
    X: () => text(u32()),
    c: named,
    h: () => memo.get(u8()),
    j: () => memo.get(u32()),
    Q: () => stack.pop(), // what is kept apart, by what it is
    R: () => called(stack.splice(-2)),
    "\x81": () => called(stack.splice(-2)),
    s: () => filled(stack.splice(-2)),
    u: () => filled(stack.splice(marks.pop() ?? 0)),
    b: () => stack.splice(-2)[0], // what a dictionary says of itself is passed over
  }));
  for (let count = 0;; count++) {
    if (count === MOST_INSTRUCTIONS) refuse(`expected at most ${MOST_INSTRUCTIONS} instructions, got more`);
    const code = String.fromCharCode(u8());
    if (code === ".") return stack.pop();
    if (code === "\x80") u8(); // the version
    else if (code === "(") marks.push(stack.length);
    else if (code === "q" || code === "r") memo.set(code === "q" ? u8() : u32(), stack.at(-1));
    else stack.push((instructions.get(code) ?? refuse(`expected tensors, got instruction ${code}`))());
  }
}

/**
 * Numbers by steps of their own along each axis, row by row.
 *
 * @param data Where they are.
 * @param out Gets them.
 * @param sides The shape.
 * @param strides How far apart neighbours along each axis are.
 * @param from Where the first one is.
 */
export function strided<T extends { [i: number]: unknown; readonly length: number }>(
  data: ArrayLike<unknown>,
  out: T,
  sides: readonly number[],
  strides: readonly number[],
  from = 0,
): T {
  const at = sides.map(() => 0);
  for (let i = 0; i < out.length; i++) {
    out[i] = data[from];
    for (let axis = sides.length - 1; axis >= 0; axis--) {
      from += strides[axis]!;
      if (++at[axis]! < sides[axis]!) break;
      from -= strides[axis]! * sides[axis]!;
      at[axis] = 0;
    }
  }
  return out;
}

/** Gives what an archive holds in its one folder by name, at most `limit` bytes of it. */
async function openArchive(bytes: Uint8Array) {
  const { Uint8ArrayReader, Uint8ArrayWriter, ZipReader } = await import("@zip.js/zip.js");
  const entries = new Map<string, Entry>();
  for await (const entry of new ZipReader(new Uint8ArrayReader(bytes)).getEntriesGenerator()) {
    entries.set(entry.filename.replace(/^[^/]*\//, ""), entry);
    if (entries.size > MOST_ENTRIES) refuse(`expected at most ${MOST_ENTRIES} entries, got more`);
  }
  return async (name: string, limit = bytes.length): Promise<Uint8Array> => {
    const entry = entries.get(name);
    if (!entry || entry.directory) return refuse(`expected ${name} in the archive`);
    const { compressionMethod, uncompressedSize, compressedSize } = entry;
    if (compressionMethod !== 0 || uncompressedSize !== compressedSize || uncompressedSize > limit) {
      refuse(`${name}: expected at most ${limit} bytes, not compressed, got ${uncompressedSize}`);
    }
    return await entry.getData(new Uint8ArrayWriter(), { useWebWorkers: false, checkSignature: true });
  };
}

/** Where trainers keep a network's weights among other things. */
const NESTED = ["model", "state_dict", "model_state_dict", "module"];

const isTensors = (value: unknown): value is Map<string, Tensor> =>
  value instanceof Map && value.size > 0 &&
  [...value].every(([name, of]) => typeof name === "string" && of instanceof Tensor);

/** A file's tensors by name, or those of the one dictionary in it that is meant. */
function tensorsIn(path: string, content: unknown): Map<string, Tensor> {
  if (!(content instanceof Map)) return refuse("got something else");
  if (content.size === 0 || isTensors(content)) return content;
  const inner = [...content as Map<unknown, unknown>].filter((entry) => isTensors(entry[1]));
  const known = inner.find(([name]) => NESTED.includes(String(name)));
  if (!known && inner.length > 1) {
    refuse(`got several: ${inner.map(([name]) => name).join(", ")}; save one alone`);
  }
  const [name, found] = known ?? inner[0] ?? [];
  const other = [...content].find(([name, of]) => typeof name !== "string" || !(of instanceof Tensor))!;
  if (!isTensors(found)) return refuse(`got something else as ${other[0]}`);
  notice(`${path}: the tensors under "${name}" are taken, of ${[...content.keys()].join(", ")}`);
  return found;
}

/** All tensors in dictionaries within dictionaries, "outer.inner"; what else is there is passed over. */
function flattened(
  content: unknown,
  prefix = "",
  found: Map<string, Tensor> = new Map(),
): Map<string, Tensor> {
  if (!(content instanceof Map)) return refuse("got something else");
  for (const [name, value] of content) {
    if (value instanceof Tensor) found.set(`${prefix}${name}`, value);
    else if (value instanceof Map) flattened(value, `${prefix}${name}.`, found);
  }
  return found;
}

/**
 * Opens what `torch.save` made of a dictionary of tensors, such as the official trainer's `pytorch_model_ema.bin`, or of
 * one that holds such a dictionary, as "model" say, beside other things.
 *
 * @param path The file, as PyTorch writes it since 1.6; it is read whole.
 * @param nested Whether dictionaries may hold dictionaries, whose tensors are named "outer.inner", and numbers and lists, which are
 * passed over. Default false.
 * @returns Its tensors.
 * @throws {TorchFileError} If it holds anything else, or is broken.
 */
export async function openTorchFile(path: string, nested = false): Promise<OpenSafetensors> {
  const bytes = await Deno.readFile(path);
  const naming = <T>(work: () => Promise<T>): Promise<T> =>
    work().catch((error) => refuse(`${path}: expected a dictionary of tensors: ${error.message}`, error));
  return await naming(async () => {
    const content = await openArchive(bytes), infos = new Map<string, TensorInfo>();
    const order = await content("byteorder").catch(() => new Uint8Array());
    if (new TextDecoder().decode(order) === "big") refuse("got big-endian numbers");
    const all = unpickle(await content("data.pkl", HEADER_LIMIT));
    const tensors = nested ? flattened(all) : tensorsIn(path, all);
    for (const [name, { info }] of tensors) infos.set(name, info);
    const read = async (name: string): Promise<HostTensor> => {
      const { info, part } = tensors.get(name) ?? refuse(`there is no tensor ${name}`);
      const [dtype, key, length, offset, shape, strides] = part, raw = await content(`data/${key}`);
      if (raw.length !== sizeOf(key, dtype, [length])) refuse(`${name}: got ${raw.length} bytes`);
      const { data } = decode(raw as Uint8Array<ArrayBuffer>, { ...info, shape: [length] });
      const out = data.slice(0, shape.reduce((a, b) => a * b, 1));
      return { ...info, data: strided(data, out, shape, strides, offset) };
    };
    const close = () => Promise.resolve();
    return { infos, metadata: {}, read: (name) => naming(() => read(name)), [Symbol.asyncDispose]: close };
  });
}
