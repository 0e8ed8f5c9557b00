/** Encoded images in Parquet files, read one by one: of a file no more than what an image needs, as soon as it is known where that is. @module */
import type { AsyncBuffer, Compressors, FileMetaData, SchemaTree } from "hyparquet";
import { DataError } from "./idx.ts";

/** Pages are kept while they have at most so many bytes together. */
const KEPT = 2 ** 25;

/** A file whose notes were read. */
export interface ParquetFile {
  path: string;
  metadata: FileMetaData;
  /** The column of images. */
  image: SchemaTree;
}

/** Values that are read at once: a page, or a whole group of rows where there is no index of pages. */
interface Page {
  file: ParquetFile;
  /** Row of its first value, among those of all files and in its own. */
  first: number;
  from: number;
  to: number;
  bytes: number;
}

type Values = (Uint8Array | undefined)[];

/** A file's notes without other columns: an image's bytes alone, not their names beside them. */
function narrowed({ metadata, image }: ParquetFile): FileMetaData {
  const [root] = metadata.schema, bytes = bytesIn(image)!, path = bytes.path.join();
  const own = ({ meta_data }: FileMetaData["row_groups"][0]["columns"][0]) =>
    meta_data?.path_in_schema.join() === path;
  const above = image === bytes ? [] : [{ ...image.element, num_children: 1 }];
  return {
    ...metadata,
    schema: [{ ...root!, num_children: 1 }, ...above, bytes.element],
    row_groups: metadata.row_groups.map((group) => ({ ...group, columns: group.columns.filter(own) })),
  };
}

/** Where in a column encoded images may be: in itself, or under "bytes". */
export function bytesIn(tree: SchemaTree): SchemaTree | undefined {
  const { children, element } = tree, inner = children.find((child) => child.element.name === "bytes");
  if (inner) return bytesIn(inner);
  const { type, converted_type, logical_type, repetition_type } = element;
  const bytes = type === "BYTE_ARRAY" && !converted_type && !logical_type && repetition_type !== "REPEATED";
  return bytes && children.length === 0 ? tree : undefined;
}

/** Bytes of a file. Throws a `DataError` if there are not so many. */
export async function readAt(path: string, at: number, length: number): Promise<Uint8Array<ArrayBuffer>> {
  using file = await Deno.open(path).catch((cause) => {
    throw new DataError("missing", path, `expected it to be there: ${cause.message}`, { cause });
  });
  file.seekSync(at, Deno.SeekMode.Start);
  const bytes = new Uint8Array(length);
  for (let done = 0, read: number | null = 0; done < length; done += read) {
    read = await file.read(bytes.subarray(done));
    if (!read) {
      throw new DataError("size", path, `expected ${length} bytes at ${at}, got ${done}; fetch it again`);
    }
  }
  return bytes;
}

/** A file as hyparquet reads it; `read` is told of each piece. */
export async function bufferOf(
  path: string,
  read: (buffer: ArrayBuffer, at: number) => void = () => {},
): Promise<AsyncBuffer> {
  const { size: byteLength, isFile } = await Deno.stat(path);
  if (!isFile) throw new DataError("missing", path, "expected a file, got a folder, a pipe or a device");
  const slice = async (start: number, end = byteLength) => {
    const { buffer } = await readAt(path, start, end - start);
    read(buffer, start);
    return buffer;
  };
  return { byteLength, slice };
}

type Library = typeof import("hyparquet") & { compressors: Compressors };

/** hyparquet, and what unpacks pages. */
export async function parquetLibrary(): Promise<Library> {
  const [library, { compressors }] = await Promise.all([
    import("hyparquet"),
    import("hyparquet-compressors"),
  ]);
  return { ...library, compressors };
}

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
  readonly #kept = new Map<Page, Values>();
  readonly #reading = new Map<Page, Promise<Values>>();
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
    const { readOffsetIndex } = await parquetLibrary(), pages: Page[] = [];
    let first = 0, packed = 0;
    for (const whole of files) {
      const file = { ...whole, metadata: narrowed(whole) };
      let group = 0;
      for (const { num_rows, columns: [column] } of file.metadata.row_groups) {
        const { offset_index_offset: at, offset_index_length: length, meta_data } = column!;
        const end = group + Number(num_rows), starts: [row: number, bytes: number][] = [];
        if (at && length) {
          const view = new DataView((await readAt(file.path, Number(at), length)).buffer);
          for (const page of readOffsetIndex({ view, offset: 0 }).page_locations) {
            starts.push([group + Number(page.first_row_index), page.compressed_page_size]);
          }
        } else {
          const bytes = Number(meta_data!.total_uncompressed_size);
          if (meta_data!.codec !== "UNCOMPRESSED") packed += bytes;
          starts.push([group, bytes]);
        }
        starts.forEach(([from, bytes], i) => {
          const to = starts[i + 1]?.[0] ?? end;
          pages.push({ file, first, from, to, bytes });
          first += to - from;
        });
        group = end;
      }
    }
    return new ParquetPages(pages, packed > KEPT);
  }

  /** The encoded image of a row, undefined where there is none. Throws a `DataError` if the file is broken. */
  async bytesOf(row: number): Promise<Uint8Array | undefined> {
    const page = this.#pages[this.#pageOf[row]!]!, start = this.#starts[row]!;
    if (start < 0) return undefined;
    if (this.#kept.has(page) || Number.isNaN(start)) return (await this.#valuesOf(page))[row - page.first];
    return await readAt(page.file.path, start, this.#lengths[row]!);
  }

  /** The values of a page. One is read at a time, since those of files without an index are large. */
  async #valuesOf(page: Page): Promise<Values> {
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

  async #read(page: Page): Promise<Values> {
    const { file: { path, metadata, image }, first, from: rowStart, to: rowEnd } = page;
    const { parquetReadObjects, compressors } = await parquetLibrary(), pieces = new Map<unknown, number>();
    const file = await bufferOf(path, (buffer, at) => pieces.set(buffer, at)), { name } = image.element;
    const options = { file, metadata, rowStart, rowEnd, compressors, useOffsetIndex: true, utf8: false };
    const rows = await parquetReadObjects(options).catch((cause) => {
      if (cause instanceof DataError) throw cause;
      const got = `expected images in rows ${rowStart} to ${
        rowEnd - 1
      }, but ${cause.message}; fetch it again`;
      throw new DataError("image", path, got, { cause });
    });
    let packed = false;
    const values = rows.map(({ [name]: value }, i): Uint8Array | undefined => {
      const bytes: Uint8Array | null = image.children.length > 0 ? value?.bytes : value;
      const piece = pieces.get(bytes?.buffer);
      if (!bytes) this.#starts[first + i] = -1;
      else if (piece === undefined) packed = true;
      else {
        this.#starts[first + i] = piece + bytes.byteOffset;
        this.#lengths[first + i] = bytes.length;
      }
      return bytes ?? undefined;
    });
    this.#keep(page, values, packed);
    return values;
  }

  /** Keeps a page, if it has to be unpacked whatever its size, and lets go of the longest unused. */
  #keep(page: Page, values: Values, packed: boolean): void {
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
