/** Encoded images in Parquet files, read one by one: of a file no more than what an image needs, as soon as it is known where that is. @module */
import type { SchemaTree } from "hyparquet";
import { DataError } from "./idx.ts";
import { readAt, type Span, Unreadable } from "./parquet_bytes.ts";
import { aside } from "./parquet_reader.ts";

/** Pages are kept while they have at most so many bytes together. */
const KEPT = 2 ** 25;

/** A file with its column of images. */
export interface ParquetFile {
  path: string;
  image: SchemaTree;
}

/** Values that are read at once. */
interface Page extends Span {
  file: ParquetFile;
  /** Row of its first value, among those of all files. */
  first: number;
}

type Images = (Uint8Array | undefined)[];

/** The images of some files, in their order. */
export class ParquetPages {
  /** Whether images lie in packed groups of rows, each of which is unpacked anew where passes are shuffled. */
  readonly slow: boolean;
  readonly #pages: readonly Page[];
  /** By row: its page, where in the file its bytes are, if that is known, or −1 for none, and how many. */
  readonly #pageOf: Int32Array;
  readonly #starts: Float64Array;
  readonly #lengths: Int32Array;
  /** Pages that were read, the last used last, and those that are being read. */
  readonly #kept = new Map<Page, Images>();
  readonly #reading = new Map<Page, Promise<Images>>();
  #keptBytes = 0;
  #turn: Promise<unknown> = Promise.resolve();

  private constructor(pages: readonly Page[], slow: boolean) {
    const { first, from, to } = pages.at(-1) ?? { first: 0, from: 0, to: 0 }, rows = first + to - from;
    [this.#pages, this.slow, this.#pageOf] = [pages, slow, new Int32Array(rows)];
    [this.#starts, this.#lengths] = [new Float64Array(rows).fill(NaN), new Int32Array(rows)];
    pages.forEach(({ first, from, to }, page) => this.#pageOf.fill(page, first, first + to - from));
  }

  /** Finds the pages. */
  static async open(files: readonly ParquetFile[]): Promise<ParquetPages> {
    const pages: Page[] = [];
    let first = 0, packed = 0;
    for (const file of files) {
      const { path, image } = file, found = await aside("spans", [path, image.element.name]);
      for (const span of found.spans) {
        pages.push({ ...span, file, first });
        first += span.to - span.from;
      }
      packed += found.packed;
    }
    return new ParquetPages(pages, packed > KEPT);
  }

  /** The encoded image of a row, undefined where there is none. Throws a `DataError` if the file is broken. */
  async bytesOf(row: number): Promise<Uint8Array | undefined> {
    const page = this.#pages[this.#pageOf[row]!]!, start = this.#starts[row]!;
    if (start < 0) return undefined;
    if (this.#kept.has(page) || Number.isNaN(start)) return (await this.#valuesOf(page))[row - page.first];
    const { path } = page.file;
    return await readAt(path, start, this.#lengths[row]!).catch((cause) => {
      throw cause instanceof Unreadable ? new DataError(cause.kind, path, cause.message, { cause }) : cause;
    });
  }

  /** The values of a page. One is read at a time, since those of files without an index are large. */
  async #valuesOf(page: Page): Promise<Images> {
    const kept = this.#kept.get(page), reading = this.#reading.get(page);
    if (kept) {
      this.#kept.delete(page);
      this.#kept.set(page, kept);
    }
    if (kept ?? reading) return (kept ?? reading)!;
    const read = this.#turn.then(() => this.#read(page)).finally(() => this.#reading.delete(page));
    this.#turn = read.catch(() => {});
    this.#reading.set(page, read);
    return await read;
  }

  async #read(page: Page): Promise<Images> {
    const { file: { path, image }, first, from, to } = page;
    const expected = { kind: "image", what: `images in rows ${from} to ${to - 1}` } as const;
    const { values, starts } = await aside("values", [path, image.element.name, from, to], expected);
    this.#starts.set(starts, first);
    this.#lengths.set(values.map((bytes) => bytes?.length ?? 0), first);
    this.#keep(page, values, starts.some(Number.isNaN));
    return values;
  }

  /** Keeps a page, if it has to be unpacked whatever its size, and lets go of the longest unused. */
  #keep(page: Page, values: Images, packed: boolean): void {
    if (page.bytes > KEPT && !packed) return;
    this.#kept.set(page, values);
    this.#keptBytes += page.bytes;
    for (const old of this.#kept.keys()) {
      if (this.#keptBytes <= KEPT || old === page) return;
      this.#kept.delete(old);
      this.#keptBytes -= old.bytes;
    }
  }
}
