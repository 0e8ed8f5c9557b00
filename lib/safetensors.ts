/** The safetensors format: a JSON header with names, types, shapes and offsets, then the numbers, little-endian. @module */

/** A tensor in the machine's memory. */
export interface HostTensor {
  /** Length along each axis. */
  readonly shape: readonly number[];
  /** Row by row. F16 and BF16 are read into float32. */
  readonly data: Float32Array | Int32Array | Uint8Array;
}

/** What a safetensors file holds. */
export interface SafetensorsFile {
  /** By name, in the order of their bytes. */
  readonly tensors: Map<string, HostTensor>;
  /** Texts by name. */
  readonly metadata: Readonly<Record<string, string>>;
}

/** Thrown when bytes are not a safetensors file. */
export class SafetensorsError extends Error {
  /** What it is, for those who cannot ask for the class. */
  override name = "SafetensorsError";
}

interface Entry {
  dtype: string;
  shape: number[];
  data_offsets: [number, number];
}

const bytesOf: Readonly<Record<string, number>> = { F32: 4, F16: 2, BF16: 2, I32: 4, U8: 1 };

const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;

/**
 * Reads a safetensors file.
 *
 * @param bytes The file.
 * @returns Its tensors by name (F32, F16 and BF16 as float32, I32, U8) and its metadata.
 * @throws {SafetensorsError} If the bytes are cut off, inconsistent, or of another type of number.
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
  const { header, start } = readHeader(bytes);
  const { __metadata__: metadata = {}, ...entries } = header as Record<string, unknown>;
  const body = bytes.subarray(start), tensors = new Map<string, HostTensor>();
  let covered = 0;
  const inOrder = Object.entries(entries as Record<string, Entry>).map(([name, entry]) =>
    checkEntry(name, entry)
  );
  for (const { name, dtype, shape, from, to } of inOrder.sort((a, b) => a.from - b.from || a.to - b.to)) {
    if (from !== covered) {
      throw new SafetensorsError(`safetensors: ${name}: expected to begin at byte ${covered}, got ${from}`);
    }
    if (to > body.length) {
      throw new SafetensorsError(
        `safetensors: cut off: expected ${to} bytes of numbers up to ${name}, got ${body.length}`,
      );
    }
    tensors.set(name, { shape, data: decode(body.slice(from, to), dtype) });
    covered = to;
  }
  if (covered !== body.length) {
    throw new SafetensorsError(`safetensors: expected ${covered} bytes of numbers, got ${body.length}`);
  }
  return { tensors, metadata: metadata as Record<string, string> };
}

function readHeader(bytes: Uint8Array): { header: unknown; start: number } {
  if (bytes.length < 8) {
    throw new SafetensorsError(`safetensors: expected 8 bytes or more, got ${bytes.length}`);
  }
  const length = Number(new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true)),
    start = 8 + length;
  if (start > bytes.length) {
    throw new SafetensorsError(
      `safetensors: expected a header of ${length} bytes, got a file of ${bytes.length}`,
    );
  }
  try {
    const header: unknown = JSON.parse(
      new TextDecoder("utf-8", { fatal: true }).decode(bytes.subarray(8, start)),
    );
    if (header === null || typeof header !== "object" || Array.isArray(header)) {
      throw new TypeError("not an object");
    }
    return { header, start };
  } catch (error) {
    throw new SafetensorsError("safetensors: expected a JSON header", { cause: error });
  }
}

function checkEntry(
  name: string,
  { dtype, shape, data_offsets: offsets }: Entry,
): { name: string; dtype: string; shape: number[]; from: number; to: number } {
  const bytes = bytesOf[dtype];
  if (bytes === undefined) {
    throw new SafetensorsError(
      `safetensors: ${name}: expected numbers of type ${Object.keys(bytesOf).join(", ")}, got ${dtype}`,
    );
  }
  if (!Array.isArray(shape) || !shape.every(isCount) || !Array.isArray(offsets) || !offsets.every(isCount)) {
    throw new SafetensorsError(`safetensors: ${name}: expected a shape and two offsets`);
  }
  const [from, to] = offsets, expected = shape.reduce((product, side) => product * side, bytes);
  if (to - from !== expected) {
    throw new SafetensorsError(
      `safetensors: ${name}: expected ${expected} bytes for [${shape}], got ${to - from}`,
    );
  }
  return { name, dtype, shape, from, to };
}

/** `bytes` is a copy, so it begins at its buffer's start. */
function decode(bytes: Uint8Array, dtype: string): HostTensor["data"] {
  if (dtype === "U8") return bytes;
  if (dtype === "I32") return new Int32Array(bytes.buffer);
  if (dtype === "F32") return new Float32Array(bytes.buffer);
  const halves = new Uint16Array(bytes.buffer), numbers = new Float32Array(halves.length);
  if (dtype === "BF16") {
    const bits = new Uint32Array(numbers.buffer); // a bfloat16 is the upper half of a float32
    halves.forEach((half, i) => bits[i] = half << 16);
  } else halves.forEach((half, i) => numbers[i] = halfToNumber(half));
  return numbers;
}

function halfToNumber(half: number): number {
  const sign = half >> 15 ? -1 : 1, exponent = half >> 10 & 31, fraction = half & 1023;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return exponent ? sign * 2 ** (exponent - 15) * (1 + fraction / 1024) : sign * 2 ** -24 * fraction;
}

/**
 * Writes tensors as a safetensors file, in the order of the map.
 *
 * @param tensors By name; float32, int32 or uint8.
 * @param metadata Texts by name, kept in the header. Default: the format that PyTorch's readers ask for.
 * @returns The file.
 * @throws {RangeError} If a shape does not match its numbers.
 */
export function writeSafetensors(
  tensors: ReadonlyMap<string, HostTensor>,
  metadata: Readonly<Record<string, string>> = { format: "pt" },
): Uint8Array<ArrayBuffer> {
  const header: Record<string, unknown> = { __metadata__: metadata };
  let offset = 0;
  for (const [name, { shape, data }] of tensors) {
    const expected = shape.reduce((product, side) => product * side, 1);
    if (expected !== data.length) {
      throw new RangeError(`${name}: expected ${expected} numbers for [${shape}], got ${data.length}`);
    }
    const dtype = data instanceof Float32Array ? "F32" : data instanceof Int32Array ? "I32" : "U8";
    header[name] = { dtype, shape, data_offsets: [offset, offset + data.byteLength] };
    offset += data.byteLength;
  }
  let text = new TextEncoder().encode(JSON.stringify(header));
  const padded = new Uint8Array(Math.ceil(text.length / 8) * 8).fill(0x20);
  padded.set(text);
  text = padded;
  const bytes = new Uint8Array(8 + text.length + offset);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(text.length), true);
  bytes.set(text, 8);
  offset = 8 + text.length;
  for (const { data } of tensors.values()) {
    bytes.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), offset);
    offset += data.byteLength;
  }
  return bytes;
}
