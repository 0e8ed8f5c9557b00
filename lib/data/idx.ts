/** The IDX format of MNIST and its relatives, gzipped or not, read strictly. @module */
import { basename } from "node:path";
import { any, checkOptions, text } from "../base/check.ts";
import { refuseMissing } from "./checks.ts";
import type { MemoryDataset } from "./dataset.ts";
import { arrayDataset } from "./rows.ts";

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
    const text = `expected whole gzip data, got an error while unpacking: ${AGAIN}`;
    throw new DataError("gzip", file, text, { cause });
  }
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
  if (bytes.length < least) {
    throw new DataError("size", file, `expected a header of ${least} bytes, got ${bytes.length}: ${AGAIN}`);
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  const shape = Array.from({ length: dimensions }, (_, i) => view.getUint32(4 + 4 * i));
  const size = shape.reduce((a, b) => a * b, 1);
  if (size === 0 || size > most) {
    const got = `got a header that says [${shape}]: ${AGAIN}`;
    throw new DataError("size", file, `expected 1 to ${most} bytes, ${got}`);
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
  const numbers = Array.from({ length: highest + 1 }, (_, i) => `${i}`);
  const { classes = numbers, name = basename(imageFile) } = options, { length } = classes;
  if (highest >= length) {
    const got = `expected labels 0 to ${length - 1}, got ${highest} for image ${
      labels.data.indexOf(highest)
    }`;
    throw new DataError("labels", labelFile, `${got}; this is not a data set of ${length} classes`);
  }
  const shape = [n, height, width, 1] as const;
  return arrayDataset({ name, images: images.data, shape, labels: labels.data, classes });
}

/** The array in a file, whose name may end with .gz or not. */
async function idxFile(path: string, dimensions: number): Promise<[string, Idx]> {
  const plain = path.replace(/\.gz$/, ""), names = path === plain ? [path, `${path}.gz`] : [path, plain];
  for (const file of names) {
    const bytes = await Deno.readFile(file).catch((error) => {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    });
    if (bytes) return [file, await readIdx(file, bytes, dimensions)];
  }
  throw new DataError("missing", path, `expected this file or ${names[1]}, found neither`);
}
