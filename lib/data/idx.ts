/** The IDX format of MNIST and its relatives, gzipped or not, read strictly. @module */

/** What was wrong with a data file. */
export type DataErrorKind =
  | "missing"
  | "gzip"
  | "magic"
  | "size"
  | "count"
  | "labels"
  | "checksum"
  | "image"
  | "link";

/** A data file that is missing, damaged, or not what it should be. The message says what to do. */
export class DataError extends Error {
  /** What was wrong. */
  readonly kind: DataErrorKind;
  /** The file, as it was named. */
  readonly file: string;

  constructor(kind: DataErrorKind, file: string, message: string, options?: ErrorOptions) {
    super(`${file}: ${message}`, options);
    this.name = "DataError";
    this.kind = kind;
    this.file = file;
  }
}

/** An array of bytes from an IDX file. */
export interface Idx {
  /** Row-major. */
  data: Uint8Array;
  shape: number[];
}

/** No array larger than this is read: 2 GiB, more than any IDX data set in use. A byte of gzip holds at most 1,032. */
const MAX_BYTES = 2 ** 31, MOST_PACKED = 1032;
const AGAIN = "the file is damaged or incomplete; fetch it again";

/** The chunks of `bytes`, unpacked if they begin as gzip does. */
async function* unpacked(file: string, bytes: Uint8Array<ArrayBuffer>): AsyncGenerator<Uint8Array> {
  if (bytes[0] !== 0x1f || bytes[1] !== 0x8b) return yield bytes;
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  try {
    yield* stream;
  } catch (cause) {
    throw new DataError("gzip", file, `expected whole gzip data, got an error while unpacking: ${AGAIN}`, {
      cause,
    });
  }
}

function header(file: string, bytes: Uint8Array, dimensions: number, most: number): number[] {
  const hex = (byte: number) => byte.toString(16).padStart(2, "0");
  const magic = [...bytes.subarray(0, 4)].map(hex).join(" "), expected = `00 00 08 ${hex(dimensions)}`;
  if (magic !== expected) {
    throw new DataError(
      "magic",
      file,
      `expected an IDX file of bytes in ${dimensions} dimensions, which begins ${expected}, got ${
        magic || "nothing"
      }; ` +
        `check that images and labels are not swapped and that this is an IDX file`,
    );
  }
  if (bytes.length < 4 + 4 * dimensions) {
    throw new DataError(
      "size",
      file,
      `expected a header of ${4 + 4 * dimensions} bytes, got ${bytes.length}: ${AGAIN}`,
    );
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  const shape = Array.from({ length: dimensions }, (_, i) => view.getUint32(4 + 4 * i));
  const size = shape.reduce((a, b) => a * b, 1);
  if (size === 0 || size > most) {
    throw new DataError(
      "size",
      file,
      `expected 1 to ${most} bytes, got a header that says [${shape}]: ${AGAIN}`,
    );
  }
  return shape;
}

/**
 * Reads an IDX array of unsigned bytes, gzipped or not. Memory is taken after the header has been checked, for what
 * the header says and no more.
 *
 * @param file What to call it in errors.
 * @param bytes The file's content.
 * @param dimensions How many dimensions it must have: 3 for images, 1 for labels.
 * @throws {DataError} "gzip", "magic" or "size".
 *
 * @example
 * ```ts
 * import { readIdx } from "nepa";
 * import { assertEquals } from "@std/assert";
 *
 * const labels = new Uint8Array([0, 0, 8, 1, 0, 0, 0, 2, 7, 9]); // two bytes in one dimension
 * assertEquals((await readIdx("labels", labels, 1)).data, new Uint8Array([7, 9]));
 * ```
 */
export async function readIdx(
  file: string,
  bytes: Uint8Array<ArrayBuffer>,
  dimensions: number,
): Promise<Idx> {
  const start = new Uint8Array(4 + 4 * dimensions), most = Math.min(MAX_BYTES, MOST_PACKED * bytes.length);
  let shape: number[] | undefined, data = new Uint8Array(0), have = 0, expected = 0;
  for await (let chunk of unpacked(file, bytes)) {
    if (!shape) {
      const part = chunk.subarray(0, start.length - have);
      start.set(part, have);
      have += part.length;
      chunk = chunk.subarray(part.length);
      if (have < start.length) continue;
      shape = header(file, start, dimensions, most);
      expected = shape.reduce((a, b) => a * b, 1);
      data = new Uint8Array(expected);
      have = 0;
    }
    if (have + chunk.length <= expected) data.set(chunk, have);
    have += chunk.length;
    if (have > expected) break;
  }
  if (!shape) shape = header(file, start.subarray(0, have), dimensions, most);
  if (have !== expected) {
    const got = have > expected ? "more" : `${have}`;
    throw new DataError("size", file, `expected ${expected} bytes for [${shape}], got ${got}: ${AGAIN}`);
  }
  return { data, shape };
}
