/** What the reader of Parquet files and its worker share; it loads nothing else. @module */
import type { SchemaTree } from "hyparquet";

/** What stands in a file's notes, as far as it is asked for. */
export interface ParquetNotes {
  bytes: number;
  rows: number;
  columns: SchemaTree[];
  /** What the library `datasets` wrote about them. */
  notes: string;
}

/** Rows of a file that are read at once: a page, or a whole group where there is no index of pages. */
export interface Span {
  from: number;
  to: number;
  bytes: number;
}

/** Encoded images; of each where in the file it begins: −1 for none, NaN if it was packed. */
export interface Values {
  values: (Uint8Array<ArrayBuffer> | undefined)[];
  starts: number[];
}

/** Where in a column encoded images may be: in itself, or under "bytes". */
export function bytesIn(tree: SchemaTree): SchemaTree | undefined {
  const { children, element } = tree, inner = children.find((child) => child.element.name === "bytes");
  if (inner) return bytesIn(inner);
  const { type, converted_type, logical_type, repetition_type } = element;
  const bytes = type === "BYTE_ARRAY" && !converted_type && !logical_type && repetition_type !== "REPEATED";
  return bytes && children.length === 0 ? tree : undefined;
}

/** A file of which the bytes asked for cannot be had. */
export class Unreadable extends Error {
  /**
   * @param kind Of a `DataError`.
   * @param message What was expected and found.
   */
  constructor(readonly kind: "missing" | "size", message: string, options?: ErrorOptions) {
    super(message, options);
  }
}

/** Bytes of a file. Throws `Unreadable` if there are not so many. */
export async function readAt(path: string, at: number, length: number): Promise<Uint8Array<ArrayBuffer>> {
  using file = await Deno.open(path).catch((cause) => {
    throw new Unreadable("missing", `expected it to be there: ${cause.message}`, { cause });
  });
  const size = (await file.stat()).size, there = at >= 0 && length >= 0 && at + length <= size;
  if (!there) {
    throw new Unreadable("size", `expected ${length} bytes at ${at}, got a file of ${size}; fetch it again`);
  }
  file.seekSync(at, Deno.SeekMode.Start);
  const bytes = new Uint8Array(length);
  for (let done = 0, read: number | null = 0; done < length; done += read) {
    read = await file.read(bytes.subarray(done));
    if (!read) {
      throw new Unreadable("size", `expected ${length} bytes at ${at}, got ${done}; fetch it again`);
    }
  }
  return bytes;
}
