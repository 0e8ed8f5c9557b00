/**
 * The safetensors format, as strict as its Rust crate: 8 bytes with the header's length, a JSON header with names,
 * types, shapes and offsets, then the numbers, little-endian (https://github.com/huggingface/safetensors).
 *
 * @module
 */
import { expect, ForeignError } from "../base/check.ts";

/** The arrays that numbers are read into, in the crate's order: files are written from the last type to the first. */
const types = {
  ...{
    BOOL: Uint8Array,
    F4: Uint8Array,
    F6_E2M3: Uint8Array,
    F6_E3M2: Uint8Array,
    U8: Uint8Array,
    I8: Int8Array,
  },
  ...{ F8_E5M2: Uint8Array, F8_E4M3: Uint8Array, F8_E8M0: Uint8Array },
  ...{ F8_E4M3FNUZ: Uint8Array, F8_E5M2FNUZ: Uint8Array },
  ...{ I16: Int16Array, U16: Uint16Array, F16: Float32Array, BF16: Float32Array },
  ...{ I32: Int32Array, U32: Uint32Array, F32: Float32Array },
  ...{ C64: Uint8Array, F64: Float64Array, I64: BigInt64Array, U64: BigUint64Array },
};

/** How a file holds numbers. F16 and BF16 are read into float32; of C64, F8…, F6… and F4 the bytes are given. */
export type Dtype = keyof typeof types;

const dtypes = Object.keys(types) as Dtype[];

/** Bits of a number: its type's name says how many, but of BOOL, which takes a byte. */
const bitsOf = (dtype: Dtype): number => Number(/\d+/.exec(dtype) ?? 8);

/** Arrays that tensors are read into. */
export type HostArray =
  | (Float32Array | Float64Array)
  | (Int8Array | Int16Array | Int32Array | BigInt64Array)
  | (Uint8Array | Uint16Array | Uint32Array | BigUint64Array);

/** A tensor in the machine's memory. */
export interface HostTensor {
  /** How the file holds it. When written, absent: the array's own type; float32 can be written as F16 or BF16. */
  readonly dtype?: Dtype;
  /** Length along each axis. */
  readonly shape: readonly number[];
  /** Row by row. */
  readonly data: HostArray;
}

/** What a safetensors file holds. */
export interface SafetensorsFile {
  /** By name, in the order of their bytes. */
  readonly tensors: Map<string, HostTensor>;
  /** Texts by name. */
  readonly metadata: Readonly<Record<string, string>>;
}

/** What a file says of a tensor. */
export interface TensorInfo {
  /** How the file holds the numbers. */
  readonly dtype: Dtype;
  /** Length along each axis. */
  readonly shape: readonly number[];
  /** Bytes it takes in the file. */
  readonly byteLength: number;
}

/** Thrown when bytes are not a safetensors file, or an index does not fit its files. */
export class SafetensorsError extends ForeignError {
  /** What it is, for those who cannot ask for the class. */
  override name = "SafetensorsError";
}

/** The longest header, in bytes, that is read and written: the crate's. */
export const HEADER_LIMIT = 100_000_000;

/** What a header says of a tensor. */
export interface Entry extends TensorInfo {
  /** Where it begins, after the header. */
  readonly from: number;
}

/** A header that has been checked. */
export interface Header {
  /** By name, in the order of their bytes. */
  readonly entries: ReadonlyMap<string, Entry>;
  /** Texts by name. */
  readonly metadata: Record<string, string>;
}

const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;

/** Whether a JSON value is an object and no array. */
export const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** Throws a {@linkcode SafetensorsError}. */
export function refuse(message: string, cause?: unknown): never {
  throw new SafetensorsError(`safetensors: ${message}`, { cause });
}

/**
 * Reads a safetensors file.
 *
 * @param bytes The file.
 * @returns Its tensors by name (copies) and its metadata.
 * @throws {SafetensorsError} If the bytes are cut off or inconsistent, or the header is longer than 100 MB.
 *
 * @example
 * ```ts
 * import { readSafetensors, writeSafetensors } from "nepa";
 * import { assertEquals } from "@std/assert";
 *
 * const bytes = writeSafetensors(new Map([["a", { shape: [2], data: new Float32Array([1, 2]) }]]));
 * assertEquals([...readSafetensors(bytes).tensors.get("a")!.data], [1, 2]);
 * ```
 */
export function readSafetensors(bytes: Uint8Array): SafetensorsFile {
  const start = 8 + headerLength(bytes.subarray(0, 8), bytes.length), body = bytes.subarray(start);
  const { entries, metadata } = parseHeader(bytes.subarray(8, start), body.length);
  const bytesOf = ({ from, byteLength }: Entry) => body.slice(from, from + byteLength);
  const tensors = new Map([...entries].map(([name, entry]) => [name, decode(bytesOf(entry), entry)]));
  return { tensors, metadata };
}

/** The header's length, from the first 8 bytes of a file of `size` bytes. */
export function headerLength(first: Uint8Array, size: number): number {
  if (first.length < 8) refuse(`expected 8 bytes or more, got ${first.length}`);
  const length = Number(new DataView(first.buffer, first.byteOffset).getBigUint64(0, true));
  if (length > HEADER_LIMIT) refuse(`expected a header of at most ${HEADER_LIMIT} bytes, got ${length}`);
  if (8 + length > size) refuse(`cut off: expected a header of ${length} bytes, got a file of ${size}`);
  return length;
}

/** The header, and whether it fits `size` bytes of numbers. */
export function parseHeader(bytes: Uint8Array, size: number): Header {
  const { __metadata__: metadata, ...tensors } = parseStrictly(bytes, "whole"), texts = metadata ?? {};
  const isText = (value: unknown): boolean => typeof value === "string" && value.isWellFormed();
  if (!isObject(texts) || !Object.entries(texts).flat().every(isText)) {
    refuse("__metadata__: expected texts by name");
  }
  if (!Object.keys(tensors).every(isText)) refuse("expected names without halves of surrogate pairs");
  const entries = Object.entries(tensors).map(([name, entry]) => [name, checkEntry(name, entry)] as const);
  entries.sort(([, a], [, b]) => a.from - b.from || a.byteLength - b.byteLength);
  let covered = 0;
  for (const [name, { from, byteLength }] of entries) {
    if (from !== covered) refuse(`${name}: expected to begin at byte ${covered}, got ${from}`);
    covered += byteLength;
  }
  if (covered !== size) {
    refuse(`${covered > size ? "cut off: " : ""}expected ${covered} bytes of numbers, got ${size}`);
  }
  return { entries: new Map(entries), metadata: texts as Record<string, string> };
}

/** A JSON object with `{` first and no key twice in an object; its numbers of any kind, or whole ones in digits. */
export function parseStrictly(bytes: Uint8Array, numbers: "any" | "whole"): Record<string, unknown> {
  if (bytes[0] !== 0x7b) refuse("expected a JSON object that begins with {");
  try {
    const { keys, strange } = scanned(bytes);
    const json = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
    if (countKeys(json) !== keys) throw new SyntaxError("a key twice");
    if (numbers === "whole" && strange) {
      throw new SyntaxError("a number that is not whole, or not written in digits");
    }
    return json;
  } catch (error) {
    return refuse(`expected a JSON object: ${(error as Error).message}`, error);
  }
}

/** Keys of a JSON text, and how deep it is nested, at most: what it becomes takes far more memory than itself. */
const KEYS = 1_000_000, DEPTH = 32;

const code = (sign: string) => sign.charCodeAt(0);
const [QUOTE, BACKSLASH, COLON, EXPONENT] = ['"', "\\", ":", "e"].map(code);
const OPENING = ["{", "["].map(code), CLOSING = ["}", "]"].map(code), STRANGE = ["-", ".", "E"].map(code);
const isDigit = (byte = 0) => byte >= 0x30 && byte <= 0x39;

/** What a JSON text has outside of its texts: keys, and whether a number is no row of digits. */
function scanned(bytes: Uint8Array): { keys: number; strange: boolean } {
  let keys = 0, depth = 0, strange = false, within = false;
  for (let i = 0; i < bytes.length; i++) {
    const byte = bytes[i]!;
    if (within && byte === BACKSLASH) i++;
    else if (byte === QUOTE) within = !within;
    else if (within) continue;
    else if (byte === COLON) keys++;
    else if (OPENING.includes(byte)) depth++;
    else if (CLOSING.includes(byte)) depth--;
    else strange ||= STRANGE.includes(byte) || byte === EXPONENT && isDigit(bytes[i - 1]);
    if (keys > KEYS) throw new SyntaxError(`more than ${KEYS} keys`);
    if (depth > DEPTH) throw new SyntaxError(`nested more than ${DEPTH} deep`);
  }
  return { keys, strange };
}

function countKeys(json: unknown): number {
  if (typeof json !== "object" || json === null) return 0;
  const values = Object.values(json);
  return values.reduce((sum, value) => sum + countKeys(value), Array.isArray(json) ? 0 : values.length);
}

function checkEntry(name: string, entry: unknown): Entry {
  const { dtype, shape, data_offsets: offsets } = isObject(entry) ? entry : {};
  if (typeof dtype !== "string" || !Object.hasOwn(types, dtype)) {
    return refuse(`${name}: expected numbers of type ${dtypes.join(", ")}, got ${JSON.stringify(dtype)}`);
  }
  const areCounts = (list: unknown): list is number[] => Array.isArray(list) && list.every(isCount);
  if (!areCounts(shape) || !areCounts(offsets) || offsets.length !== 2) {
    return refuse(`${name}: expected a shape and two offsets`);
  }
  const [from, to] = offsets as [number, number], expected = sizeOf(name, dtype as Dtype, shape);
  if (to - from !== expected) refuse(`${name}: expected ${expected} bytes for [${shape}], got ${to - from}`);
  return { dtype: dtype as Dtype, shape, byteLength: expected, from };
}

/** Bytes that a tensor takes. */
export function sizeOf(name: string, dtype: Dtype, shape: readonly number[]): number {
  let bits = bitsOf(dtype);
  for (const side of [1, ...shape]) {
    bits *= side;
    if (!isCount(bits)) refuse(`${name}: expected fewer numbers than [${shape}] holds`);
  }
  return bits % 8 === 0 ? bits / 8 : refuse(`${name}: expected whole bytes, got ${bits} bits for [${shape}]`);
}

/** A tensor from a copy of its bytes, which begins at its buffer's start. */
export function decode({ buffer }: Uint8Array<ArrayBuffer>, { dtype, shape }: TensorInfo): HostTensor {
  if (dtype === "F16") return { dtype, shape, data: Float32Array.from(new Float16Array(buffer)) };
  if (dtype !== "BF16") return { dtype, shape, data: new types[dtype](buffer) };
  const bits = Uint32Array.from(new Uint16Array(buffer), (half) => half << 16); // the upper half of a float32
  return { dtype, shape, data: new Float32Array(bits.buffer) };
}

/** How the file will hold a tensor: as it says, or as its array is. */
function dtypeOf(name: string, { dtype, data }: HostTensor): Dtype {
  const fits = (dtype: Dtype) => types[dtype] === data.constructor, bits = 8 * data.BYTES_PER_ELEMENT;
  const found = dtype ?? dtypes.find((type) => fits(type) && bitsOf(type) === bits && type !== "BOOL");
  const fitting = found !== undefined && fits(found);
  expect(fitting, name, `an array that ${dtype ?? "a file"} can hold`, data.constructor.name);
  return found!;
}

/** The upper halves of the nearest numbers that have no lower ones; of two, the one whose half is even. */
function toBfloat16(data: Float32Array): Uint16Array {
  const isNaN = (bits: number) => (bits & 0x7fffffff) > 0x7f800000;
  const half = (bits: number) => (isNaN(bits) ? bits | 0x400000 : bits + 0x7fff + (bits >>> 16 & 1)) >>> 16;
  return Uint16Array.from(new Uint32Array(data.slice().buffer), half);
}

function encode(dtype: Dtype, data: HostArray): Uint8Array {
  const half = dtype === "F16" ? (x: Float32Array) => new Float16Array(x) : toBfloat16;
  const held = dtype === "F16" || dtype === "BF16" ? half(data as Float32Array) : data;
  return new Uint8Array(held.buffer, held.byteOffset, held.byteLength);
}

/**
 * Writes tensors as a safetensors file, byte for byte as the Rust crate does: wider numbers first, then by name.
 *
 * @param tensors By name.
 * @param metadata Texts by name, kept in the header. Default: the format that PyTorch's readers ask for.
 * @returns The file.
 * @throws {RangeError} If a shape does not match its numbers, or a name, a type or the header cannot be.
 */
export function writeSafetensors(
  tensors: ReadonlyMap<string, HostTensor>,
  metadata: Readonly<Record<string, string>> = { format: "pt" },
): Uint8Array<ArrayBuffer> {
  const typed = [...tensors].map(([name, tensor]) => ({ name, ...tensor, dtype: dtypeOf(name, tensor) }));
  const rank = ({ dtype }: { dtype: Dtype }) => dtypes.indexOf(dtype);
  typed.sort((a, b) => rank(b) - rank(a) || (a.name < b.name ? -1 : 1));
  const members: string[] = [], parts: [from: number, part: Uint8Array][] = [];
  if (Object.keys(metadata).length > 0) members.push(`"__metadata__":${JSON.stringify(metadata)}`);
  let size = 0;
  for (const { name, dtype, shape, data } of typed) {
    const part = encode(dtype, data), got = part.length;
    const expected = shape.reduce((bits, side) => bits * side, bitsOf(dtype)) / 8;
    const fits = expected === got && shape.every(isCount);
    expect(fits, name, `${expected} bytes for [${shape}] of ${dtype}`, got);
    const isName = name !== "__metadata__" && name.isWellFormed();
    expect(isName, "safetensors", "another name", JSON.stringify(name));
    parts.push([size, part]);
    const entry = { dtype, shape, data_offsets: [size, size += got] };
    members.push(`${JSON.stringify(name)}:${JSON.stringify(entry)}`);
  }
  const json = new TextEncoder().encode(`{${members.join()}}`), header = Math.ceil(json.length / 8) * 8;
  expect(header <= HEADER_LIMIT, "safetensors", `a header of at most ${HEADER_LIMIT} bytes`, header);
  const bytes = new Uint8Array(8 + header + size).fill(0x20, 8, 8 + header);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(header), true);
  bytes.set(json, 8);
  for (const [from, part] of parts) bytes.set(part, 8 + header + from);
  return bytes;
}
