/** The IDX format of MNIST and its relatives, gzipped or not, read strictly. @module */
import { basename } from "node:path";
import { Readable } from "node:stream";
import { createGunzip } from "node:zlib";
import { any, checkOptions, ForeignError, text } from "../base/check.ts";
import { readIfThere } from "../files/plain.ts";
import { refuseMissing } from "./checks.ts";
import type { MemoryDataset } from "./dataset.ts";
import { numbered } from "./matching.ts";
import { inMemory } from "./rows.ts";

/** What was wrong with a data file. */
export type DataErrorKind =
  | ("missing" | "gzip" | "magic" | "size" | "count")
  | ("labels" | "checksum" | "image" | "link");

/** A data file that is missing, damaged, or not what it should be. The message says what to do. */
export class DataError extends ForeignError {
  /** "DataError". */
  override name = "DataError";

  /**
   * @param kind What was wrong.
   * @param file The file, as it was named.
   * @param message What was expected and found there.
   */
  constructor(readonly kind: DataErrorKind, readonly file: string, message: string, options?: ErrorOptions) {
    super(`${file}: ${message}`, options);
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

/** Whether `bytes` begin as gzip does. */
const isGzip = (bytes: Uint8Array) => bytes[0] === 0x1f && bytes[1] === 0x8b;

/** Fills `out` with what `bytes` hold, unpacked, and says how many came: at most one more than it has room for. */
async function unpack(file: string, bytes: Uint8Array, out: Uint8Array): Promise<number> {
  let count = 0;
  try {
    for await (const chunk of isGzip(bytes) ? Readable.from([bytes]).pipe(createGunzip()) : [bytes]) {
      const fits = chunk.subarray(0, out.length - count);
      out.set(fits, count);
      count += fits.length;
      if (fits.length < chunk.length) return count + 1;
    }
  } catch (cause) {
    const text = `expected whole gzip data, got an error while unpacking: ${AGAIN}`;
    throw new DataError("gzip", file, text, { cause });
  }
  return count;
}

function header(file: string, bytes: Uint8Array, dimensions: number, most: number): number[] {
  const hex = (byte: number) => byte.toString(16).padStart(2, "0");
  const magic = [...bytes.subarray(0, 4)].map(hex).join(" "), expected = `00 00 08 ${hex(dimensions)}`;
  if (magic !== expected) {
    const begins = `expected an IDX file of bytes in ${dimensions} dimensions, which begins ${expected}`;
    const help = "check that images and labels are not swapped and that this is an IDX file";
    throw new DataError("magic", file, `${begins}, got ${magic || "nothing"}; ${help}`);
  }
  const least = 4 + 4 * dimensions;
  const got = bytes.length, cut = `expected a header of ${least} bytes, got ${got}: ${AGAIN}`;
  if (got < least) throw new DataError("size", file, cut);
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  const shape = Array.from({ length: dimensions }, (_, i) => view.getUint32(4 + 4 * i));
  const size = shape.reduce((a, b) => a * b, 1);
  if (size > 0 && size <= most) return shape;
  const text = `expected 1 to ${most} bytes, got a header that says [${shape}]: ${AGAIN}`;
  throw new DataError("size", file, text);
}

/**
 * Reads an IDX array of unsigned bytes, gzipped or not. After the header has been checked, as much is unpacked as it
 * says, and no more.
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
  const start = 4 + 4 * dimensions, most = Math.min(MAX_BYTES, MOST_PACKED * bytes.length);
  const head = new Uint8Array(start), found = await unpack(file, bytes, head);
  const shape = header(file, head.subarray(0, found), dimensions, most);
  const expected = shape.reduce((a, b) => a * b, 1), whole = new Uint8Array(start + expected);
  const count = await unpack(file, bytes, whole);
  if (count !== whole.length) {
    const got = count < whole.length ? count - start : "more";
    throw new DataError("size", file, `expected ${expected} bytes for [${shape}], got ${got}: ${AGAIN}`);
  }
  return { data: whole.subarray(start), shape };
}

/** Options of {@linkcode idxImages}. */
export interface IdxImagesOptions {
  /** Paths of the files, gzipped or not; `.gz` at the end may be there or missing. */
  images: string;
  labels: string;
  /** Names of the classes. Default: "0", "1", … up to the highest label. */
  classes?: readonly string[];
  /** Default: the images' file. */
  name?: string;
}

/**
 * Labelled grey images from two IDX files, as MNIST, Fashion-MNIST, KMNIST and EMNIST have them. EMNIST's images lie
 * transposed, and the labels of its "letters" begin at 1: give 27 classes.
 *
 * @throws {DataError} If a file is missing, damaged or of another kind, or the two do not belong together.
 *
 * @example
 * ```ts
 * import { idxImages } from "nepa";
 * import { assertEquals } from "@std/assert";
 *
 * const [images, labels] = ["images-idx3", "labels-idx1"].map((part) => `data/fashion-mnist/t10k-${part}-ubyte.gz`);
 * assertEquals((await idxImages({ images: images!, labels: labels! })).length, 10000);
 * ```
 */
export async function idxImages(options: IdxImagesOptions): Promise<MemoryDataset> {
  checkOptions("idxImages", options, { images: text, labels: text, classes: any, name: text });
  refuseMissing("idxImages", options, ["images", "labels"]);
  const [imageFile, images] = await idxFile(options.images, 3);
  const [labelFile, labels] = await idxFile(options.labels, 1);
  const [n = 0, height = 0, width = 0] = images.shape, [count] = labels.shape;
  if (count !== n) {
    const expected = `expected a label for each of the ${n} images of ${imageFile}, got ${count}`;
    throw new DataError("count", labelFile, `${expected}; take both files from one source`);
  }
  const highest = labels.data.reduce((a, b) => Math.max(a, b), 0);
  const { classes = numbered(highest + 1), name = basename(imageFile) } = options, { length } = classes;
  if (highest >= length) {
    const at = labels.data.indexOf(highest);
    const got = `expected labels 0 to ${length - 1}, got ${highest} for image ${at}`;
    throw new DataError("labels", labelFile, `${got}; this is not a data set of ${length} classes`);
  }
  const shape = [n, height, width, 1] as const;
  const all = { name, images: images.data, shape, labels: labels.data, classes };
  return inMemory(all, await Deno.realPath(imageFile));
}

/** The array in a file, whose name may end with .gz or not. */
async function idxFile(path: string, dimensions: number): Promise<[string, Idx]> {
  const plain = path.replace(/\.gz$/, ""), other = path === plain ? `${path}.gz` : plain;
  for (const file of [path, other]) {
    const bytes = await readIfThere(file).catch((cause) => {
      throw new DataError("missing", file, `expected a file to read: ${cause.message}`, { cause });
    });
    if (bytes) return [file, await readIdx(file, bytes, dimensions)];
  }
  throw new DataError("missing", path, `expected this file or ${other}, found neither`);
}
