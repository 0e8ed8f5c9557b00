/**
 * The safetensors format, as strict as its Rust crate: 8 bytes with the header's length, a JSON header with names,
 * types, shapes and offsets, then the numbers, little-endian (https://github.com/huggingface/safetensors).
 *
 * @module
 */
/** Bits of a number and the array it is read into, in the crate's order: files are written from the last to the first. */
const types = {
  BOOL: [8, Uint8Array],
  F4: [4, Uint8Array],
  F6_E2M3: [6, Uint8Array],
  F6_E3M2: [6, Uint8Array],
  U8: [8, Uint8Array],
  I8: [8, Int8Array],
  F8_E5M2: [8, Uint8Array],
  F8_E4M3: [8, Uint8Array],
  F8_E8M0: [8, Uint8Array],
  F8_E4M3FNUZ: [8, Uint8Array],
  F8_E5M2FNUZ: [8, Uint8Array],
  I16: [16, Int16Array],
  U16: [16, Uint16Array],
  F16: [16, Float32Array],
  BF16: [16, Float32Array],
  I32: [32, Int32Array],
  U32: [32, Uint32Array],
  F32: [32, Float32Array],
  C64: [64, Uint8Array],
  F64: [64, Float64Array],
  I64: [64, BigInt64Array],
  U64: [64, BigUint64Array],
} as const;

/** How a file holds numbers. F16 and BF16 are read into float32; of C64, F8…, F6… and F4 the bytes are given. */
export type Dtype = keyof typeof types;

const dtypes = Object.keys(types) as Dtype[];

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
export class SafetensorsError extends Error {
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
    const json = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
    const { colons, whole } = scan(bytes);
    if (countKeys(json) !== colons) throw new SyntaxError("a key twice");
    if (numbers === "whole" && !whole) {
      throw new SyntaxError("a number that is not whole, or not written in digits");
    }
    return json;
  } catch (error) {
    return refuse(`expected a JSON object: ${(error as Error).message}`, error);
  }
}

function countKeys(json: unknown): number {
  if (typeof json !== "object" || json === null) return 0;
  const values = Object.values(json);
  return values.reduce((sum, value) => sum + countKeys(value), Array.isArray(json) ? 0 : values.length);
}

/** What is written outside texts: how many colons, one for each key, and whether all numbers are whole, in digits. */
function scan(json: Uint8Array): { colons: number; whole: boolean } {
  let colons = 0, whole = true, inText = false;
  for (let i = 0; i < json.length; i++) {
    const byte = json[i]!;
    if (byte === 0x22) inText = !inText;
    else if (inText) i += byte === 0x5c ? 1 : 0; // a backslash, and what it escapes
    else if (byte === 0x3a) colons++;
    else if (byte === 0x2d || byte === 0x2e || byte === 0x45) whole = false; // - . E
    else if (byte === 0x65 && json[i - 1]! <= 0x39) whole = false; // an e after a digit
  }
  return { colons, whole };
}

function checkEntry(name: string, entry: unknown): Entry {
  const { dtype, shape, data_offsets: offsets } = isObject(entry) ? entry : {};
  if (typeof dtype !== "string" || !Object.hasOwn(types, dtype)) {
    refuse(`${name}: expected numbers of type ${dtypes.join(", ")}, got ${JSON.stringify(dtype)}`);
  }
  if (
    !Array.isArray(shape) || !shape.every(isCount) ||
    !Array.isArray(offsets) || !offsets.every(isCount) || offsets.length !== 2
  ) return refuse(`${name}: expected a shape and two offsets`);
  const [from, to] = offsets as [number, number], expected = sizeOf(name, dtype as Dtype, shape);
  if (to - from !== expected) refuse(`${name}: expected ${expected} bytes for [${shape}], got ${to - from}`);
  return { dtype: dtype as Dtype, shape, byteLength: expected, from };
}

/** Bytes that a tensor takes. */
export function sizeOf(name: string, dtype: Dtype, shape: readonly number[]): number {
  let bits: number = types[dtype][0];
  for (const side of [1, ...shape]) {
    bits *= side;
    if (!isCount(bits)) refuse(`${name}: expected fewer numbers than [${shape}] holds`);
  }
  return bits % 8 === 0 ? bits / 8 : refuse(`${name}: expected whole bytes, got ${bits} bits for [${shape}]`);
}

/** A tensor from a copy of its bytes, which begins at its buffer's start. */
export function decode({ buffer }: Uint8Array<ArrayBuffer>, { dtype, shape }: TensorInfo): HostTensor {
  if (dtype === "F16") return { dtype, shape, data: Float32Array.from(new Float16Array(buffer)) };
  if (dtype !== "BF16") return { dtype, shape, data: new types[dtype][1](buffer) };
  const bits = Uint32Array.from(new Uint16Array(buffer), (half) => half << 16); // the upper half of a float32
  return { dtype, shape, data: new Float32Array(bits.buffer) };
}

/** How the file will hold a tensor: as it says, or as its array is. */
function dtypeOf(name: string, { dtype, data }: HostTensor): Dtype {
  const fits = (dtype: Dtype) => types[dtype]?.[1] === data.constructor;
  const found = dtype ??
    dtypes.find((dtype) => fits(dtype) && types[dtype][0] === 8 * data.BYTES_PER_ELEMENT && dtype !== "BOOL");
  if (found && fits(found)) return found;
  const holder = dtype ?? "a file", got = data.constructor.name;
  throw new RangeError(`${name}: expected an array that ${holder} can hold, got ${got}`);
}

/** The upper halves of the nearest numbers that have no lower ones; of two, the one whose half is even. */
function toBfloat16(data: Float32Array): Uint16Array {
  const isNaN = (bits: number) => (bits & 0x7fffffff) > 0x7f800000;
  return Uint16Array.from(
    new Uint32Array(data.slice().buffer),
    (bits) => isNaN(bits) ? bits >>> 16 | 0x40 : (bits + 0x7fff + (bits >>> 16 & 1)) >>> 16,
  );
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
  const members: string[] = [], parts: Uint8Array[] = [];
  if (Object.keys(metadata).length > 0) members.push(`"__metadata__":${JSON.stringify(metadata)}`);
  let size = 0;
  for (const { name, dtype, shape, data } of typed) {
    const part = encode(dtype, data), got = part.length;
    const expected = shape.reduce((bits, side) => bits * side, types[dtype][0]) / 8;
    if (expected !== got || !shape.every(isCount)) {
      throw new RangeError(`${name}: expected ${expected} bytes for [${shape}] of ${dtype}, got ${got}`);
    }
    if (name === "__metadata__" || !name.isWellFormed()) {
      throw new RangeError(`expected another name than ${JSON.stringify(name)}`);
    }
    const entry = { dtype, shape, data_offsets: [size, size + part.length] };
    members.push(`${JSON.stringify(name)}:${JSON.stringify(entry)}`);
    parts.push(part);
    size += part.length;
  }
  const json = new TextEncoder().encode(`{${members.join()}}`), header = Math.ceil(json.length / 8) * 8;
  if (header > HEADER_LIMIT) {
    throw new RangeError(`expected a header of at most ${HEADER_LIMIT} bytes, got ${header}`);
  }
  const bytes = new Uint8Array(8 + header + size).fill(0x20, 8, 8 + header);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(header), true);
  bytes.set(json, 8);
  let at = 8 + header;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}
