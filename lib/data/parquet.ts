/** Images in Parquet files, as data sets on the Hugging Face hub have them. @module */
import { basename } from "node:path";
import type { FileMetaData } from "hyparquet";
import type { SplittableDataset } from "./dataset.ts";
import { checkOptions } from "../base/check.ts";
import { type DecodeOptions, DECODING, EncodedDataset, type Source } from "./encoded.ts";
import { contentsOf, hashOf } from "./kept.ts";
import { DataError } from "./idx.ts";
import { numbersIn } from "./matching.ts";

/** Groups of rows whose encoded images are kept. */
const GROUPS = 8;

type Row = Record<string, unknown>;

/** Some rows of a file, from `rowStart`. */
interface Group {
  path: string;
  rowStart: number;
  rows(): Promise<Row[]>;
}

/** Which columns have images and labels, and the names of the classes. */
interface Columns {
  image: string;
  label: string;
  classes: readonly string[];
}

/** What a file's notes say of them. */
function columnsOf(file: string, { key_value_metadata }: FileMetaData): Columns {
  const notes = key_value_metadata?.find(({ key }) => key === "huggingface")?.value ?? "{}";
  const { features: noted = {} } = JSON.parse(notes).info ?? {};
  const features = Object.entries<{ _type: string; names?: string[] }>(noted);
  const [image] = features.find(([, { _type }]) => _type === "Image") ?? [];
  const [label, of] = features.find(([, { _type }]) => _type === "ClassLabel") ?? [];
  if (image !== undefined && label !== undefined && of?.names) return { image, label, classes: of.names };
  const got = features.map(([name, { _type }]) => `${name}: ${_type}`).join(", ") || "none of their notes";
  const expected = "expected what Hugging Face datasets writes, with a column Image and a column ClassLabel";
  throw new DataError("magic", file, `${expected}, got ${got}; write the images as files, for imageFolder`);
}

/**
 * Images from Parquet files as the Hugging Face hub has them: a column of images (their encoded bytes) and one of labels,
 * with the names of the classes among the file's notes. Images are read a group of rows at a time and the last eight groups
 * are kept, so that a shuffled pass over files with many more reads a group for almost every image: write those out as
 * files once, for `imageFolder`.
 *
 * @param files One or several, such as `train-00000-of-00002.parquet`; their order is the images' order.
 * @param options As for {@linkcode imageFolder}.
 * @throws {DataError} If a file is missing or is no such file; later, when an image is read that is broken.
 *
 * @example
 * ```ts
 * import { parquetImages } from "nepa";
 * import { assertEquals } from "@std/assert";
 *
 * const pets = await parquetImages("tests/fixtures/images/hub.parquet", { size: 32 });
 * assertEquals([pets.length, pets.classes], [4, ["cat", "dog"]]);
 * ```
 */
export async function parquetImages(
  files: string | readonly string[],
  options: DecodeOptions = {},
): Promise<SplittableDataset> {
  checkOptions("parquetImages", options, DECODING);
  return await EncodedDataset.open(await parquetSource([files].flat(), options), options);
}

/** What Parquet files have, by their notes, or by columns that are known. */
export async function parquetSource(
  files: readonly string[],
  options: DecodeOptions = {},
  known?: Columns,
): Promise<Source> {
  const { asyncBufferFromFile, parquetMetadataAsync, parquetReadObjects } = await import("hyparquet");
  const open = async (file: string) => {
    try {
      const buffer = await asyncBufferFromFile(file), metadata = await parquetMetadataAsync(buffer);
      const real = await Deno.realPath(file);
      return { file, real, buffer, metadata, columns: known ?? columnsOf(file, metadata) };
    } catch (cause) {
      if (cause instanceof DataError) throw cause;
      const got = `expected a Parquet file, but ${(cause as Error).message}`;
      throw new DataError("magic", file, got, { cause });
    }
  };
  const opened = await Promise.all(files.map(open)), labels: number[] = [];
  const first = opened[0]?.columns ?? { image: "", label: "", classes: [] };
  const places: { group: number; at: number }[] = [], groups: Group[] = [];
  for (const { file: path, real, buffer: file, metadata, columns: { image, label, classes } } of opened) {
    const read = await parquetReadObjects({ file, metadata, columns: [label] });
    const numbers = numbersIn(first.classes, classes), last = classes.length - 1;
    if (!numbers) {
      const names = `expected classes among ${first.classes.join(", ")}, as in ${opened[0]!.file}`;
      throw new DataError("labels", path, `${names}, got ${classes.join(", ")}`);
    }
    for (const { [label]: value } of read) {
      const number = typeof value === "bigint" ? Number(value) : value ?? -1;
      const text =
        `expected a class number for image ${labels.length}, from 0 to ${last}, -1 or null for none`;
      const fits = typeof number === "number" && Number.isInteger(number) && number >= -1 && number <= last;
      if (!fits) throw new DataError("labels", path, `${text}, got ${value}`);
      labels.push(numbers[number] ?? -1);
    }
    let rowEnd = 0;
    for (const { num_rows } of metadata.row_groups) {
      const rowStart = rowEnd, end = rowEnd += Number(num_rows), common = { file, metadata, utf8: false };
      for (let at = 0; at < end - rowStart; at++) places.push({ group: groups.length, at });
      const rows = () => parquetReadObjects({ ...common, columns: [image], rowStart, rowEnd: end });
      groups.push({ path: real, rowStart, rows });
    }
  }
  const kept = new Map<number, Promise<Row[]>>();
  const rowsOf = (group: number) => {
    const rows = kept.get(group) ?? groups[group]!.rows();
    kept.delete(group);
    kept.set(group, rows); // the last used is the last
    if (kept.size > GROUPS) kept.delete(kept.keys().next().value!);
    return rows;
  };
  const sizes = opened.map(({ file, buffer }) => [basename(file), buffer.byteLength]);
  const file = opened[0]?.file ?? "no file";
  return {
    name: basename(file),
    classes: first.classes,
    labels: Int32Array.from(labels),
    fingerprint: hashOf(JSON.stringify([options, sizes])),
    contents: () => contentsOf(opened.map(({ file }) => file)),
    nameOf: (row) => `${basename(file)}, image ${row}`,
    fileOf: (row) => {
      const { group, at } = places[row]!, { path, rowStart } = groups[group]!;
      return `${path}, row ${rowStart + at}`;
    },
    bytesOf: async (row) => {
      const { group, at } = places[row]!;
      const image = (await rowsOf(group))[at]![first.image] as { bytes?: Uint8Array } | null;
      if (image?.bytes) return image.bytes;
      throw new DataError("image", `${basename(file)}, image ${row}`, "expected its encoded bytes, got none");
    },
  };
}
