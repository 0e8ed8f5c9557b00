/**
 * Reads Parquet files by hyparquet in a worker, which is ended from outside where that takes too long: a file from a stranger
 * may keep its parser for ever. See `parquet_reader.ts`.
 *
 * @module
 */
import {
  type AsyncBuffer,
  type FileMetaData,
  parquetMetadataAsync,
  parquetReadObjects,
  parquetSchema,
  readOffsetIndex,
} from "hyparquet";
import { compressors } from "hyparquet-compressors";
import { bytesIn, type ParquetNotes, readAt, type Span, Unreadable, type Values } from "./parquet_bytes.ts";

const files = new Map<string, Promise<FileMetaData>>();

/** A file as hyparquet reads it; `read` is told of each piece. */
async function bufferOf(
  path: string,
  read: (buffer: ArrayBuffer, at: number) => void = () => {},
): Promise<AsyncBuffer> {
  const { size: byteLength } = await Deno.stat(path);
  const slice = async (start: number, end = byteLength) => {
    const { buffer } = await readAt(path, start, end - start);
    read(buffer, start);
    return buffer;
  };
  return { byteLength, slice };
}

async function metadataOf(path: string): Promise<FileMetaData> {
  const known = files.get(path) ?? bufferOf(path).then((file) => parquetMetadataAsync(file));
  files.set(path, known);
  return await known;
}

async function open(path: string): Promise<ParquetNotes> {
  files.delete(path);
  const { isFile, size } = await Deno.stat(path).catch((cause) => {
    throw new Unreadable("missing", `expected it to be there: ${cause.message}`, { cause });
  });
  if (!isFile) throw new Unreadable("missing", "expected a file, got a folder, a pipe or a device");
  const metadata = await metadataOf(path), columns = parquetSchema(metadata).children;
  const rows = Number(metadata.num_rows),
    groups = metadata.row_groups.map(({ num_rows }) => Number(num_rows));
  const whole = groups.every((n) => n >= 0) && groups.reduce((a, b) => a + b, 0) === rows;
  if (!whole || rows > size) { // an encoded image has more than a byte
    throw new Error(
      `it says that it has ${rows} rows, in groups of ${groups.slice(0, 20)}, and ${size} bytes`,
    );
  }
  const notes = metadata.key_value_metadata?.find(({ key }) => key === "huggingface")?.value ?? "{}";
  return { bytes: size, rows, columns, notes };
}

async function column(path: string, name: string): Promise<unknown[]> {
  const file = await bufferOf(path), metadata = await metadataOf(path), rows = Number(metadata.num_rows);
  const found = await parquetReadObjects({ file, metadata, compressors, columns: [name] });
  if (found.length !== rows) throw new Error(`its column ${name} has ${found.length} rows of ${rows}`);
  return found.map((row) => row[name]);
}

/** A file's metadata without other columns: an image's bytes alone, not their names beside them. */
async function narrowed(path: string, name: string): Promise<FileMetaData> {
  const metadata = await metadataOf(path), [root] = metadata.schema;
  const image = parquetSchema(metadata).children.find(({ element }) => element.name === name)!;
  const bytes = bytesIn(image)!, place = bytes.path.join();
  const own = ({ meta_data }: FileMetaData["row_groups"][0]["columns"][0]) =>
    meta_data?.path_in_schema.join() === place;
  const above = image === bytes ? [] : [{ ...image.element, num_children: 1 }];
  return {
    ...metadata,
    schema: [{ ...root!, num_children: 1 }, ...above, bytes.element],
    row_groups: metadata.row_groups.map((group) => ({ ...group, columns: group.columns.filter(own) })),
  };
}

async function spans(path: string, name: string): Promise<{ spans: Span[]; packed: number }> {
  const found: Span[] = [];
  let group = 0, packed = 0;
  for (const { num_rows, columns: [column] } of (await narrowed(path, name)).row_groups) {
    const { offset_index_offset: at, offset_index_length: length, meta_data } = column!;
    const end = group + Number(num_rows), starts: [row: number, bytes: number][] = [];
    if (at && length) {
      const view = new DataView((await readAt(path, Number(at), length)).buffer);
      for (const page of readOffsetIndex({ view, offset: 0 }).page_locations) {
        starts.push([group + Number(page.first_row_index), page.compressed_page_size]);
      }
    } else {
      const bytes = Number(meta_data!.total_uncompressed_size);
      if (meta_data!.codec !== "UNCOMPRESSED") packed += bytes;
      starts.push([group, bytes]);
    }
    starts.forEach(([from, bytes], i) => found.push({ from, to: starts[i + 1]?.[0] ?? end, bytes }));
    if (starts[0]?.[0] !== group || starts.some(([from], i) => from > (starts[i + 1]?.[0] ?? end))) {
      throw new Error(`the index of its pages has rows ${starts.map(([from]) => from).slice(0, 20)}`);
    }
    group = end;
  }
  return { spans: found, packed };
}

async function values(path: string, name: string, rowStart: number, rowEnd: number): Promise<Values> {
  const pieces = new Map<unknown, number>(), metadata = await narrowed(path, name);
  const file = await bufferOf(path, (buffer, at) => pieces.set(buffer, at));
  const options = { file, metadata, rowStart, rowEnd, compressors, useOffsetIndex: true, utf8: false };
  const found = (await parquetReadObjects(options)).map(({ [name]: value }) => {
    const bytes: Uint8Array<ArrayBuffer> | null = value instanceof Uint8Array ? value : value?.bytes;
    return bytes ?? undefined;
  });
  const starts = found.map((bytes) => bytes ? (pieces.get(bytes.buffer) ?? NaN) + bytes.byteOffset : -1);
  return { values: found, starts };
}

const WORK = { open, column, spans, values };
export type Work = typeof WORK;

declare const self: { onmessage: unknown; postMessage(message: unknown, transfer?: Transferable[]): void };
self.onmessage = async ({ data: [name, args] }: MessageEvent<[keyof Work, never]>) => {
  self.postMessage({ begun: true });
  try {
    const value = await (WORK[name] as (...args: never[]) => Promise<unknown>)(...args as never[]);
    const images = name === "values" ? (value as Values).values : [];
    self.postMessage({ value }, [...new Set(images.flatMap((bytes) => bytes?.buffer ?? []))]);
  } catch (error) {
    const { message, kind } = error as Unreadable;
    self.postMessage({ failed: message, kind });
  }
};
