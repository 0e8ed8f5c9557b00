/** Images in Parquet files, as data sets on the Hugging Face hub have them. @module */
import { createHash } from "node:crypto";
import { basename } from "node:path";
import type { FileMetaData } from "hyparquet";
import type { Dataset } from "./dataset.ts";
import { type DecodeOptions, EncodedDataset } from "./encoded.ts";
import { DataError } from "./idx.ts";

/** The rows of a file that lie together. */
interface Group {
  file: string;
  first: number;
  count: number;
}

/** Groups of rows whose encoded images are kept. */
const GROUPS = 8;

/** Which columns have images and labels, and the names of the classes. */
function columnsOf(file: string, { key_value_metadata }: FileMetaData) {
  const text = key_value_metadata?.find(({ key }) => key === "huggingface")?.value;
  const features = Object.entries<{ _type: string; names?: string[] }>(
    text ? JSON.parse(text).info.features : {},
  );
  const image = features.find(([, { _type }]) => _type === "Image")?.[0];
  const [label, { names: classes = undefined } = {}] =
    features.find(([, { _type }]) => _type === "ClassLabel") ?? [];
  if (image !== undefined && label !== undefined && classes) return { image, label, classes };
  throw new DataError(
    "magic",
    file,
    `expected a Parquet file written by Hugging Face datasets with a column Image and a column ClassLabel, got ${
      features.map(([name, { _type }]) => `${name}: ${_type}`).join(", ") || "none of its notes"
    }; write the images as files into a folder for each class, and use imageFolder`,
  );
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
): Promise<Dataset> {
  const { asyncBufferFromFile, parquetMetadataAsync, parquetReadObjects } = await import("hyparquet");
  const groups: Group[] = [], places: [group: number, row: number][] = [], labels: number[] = [];
  let columns: ReturnType<typeof columnsOf> | undefined;
  const hash = createHash("sha256").update(JSON.stringify([options.resample, options.orient]));
  for (const file of [files].flat()) {
    const buffer = await asyncBufferFromFile(file).catch((cause) => {
      throw new DataError("missing", file, `expected a Parquet file, got: ${cause.message}`, { cause });
    });
    const metadata = await parquetMetadataAsync(buffer).catch((cause) => {
      throw new DataError("magic", file, `expected a Parquet file, got: ${cause.message}`, { cause });
    });
    columns = columnsOf(file, metadata);
    const read = await parquetReadObjects({ file: buffer, metadata, columns: [columns.label] });
    labels.push(...read.map((row) => Number(row[columns!.label])));
    let first = 0;
    for (const { num_rows } of metadata.row_groups) {
      const count = Number(num_rows);
      for (let row = 0; row < count; row++) places.push([groups.length, row]);
      groups.push({ file, first, count });
      first += count;
    }
    hash.update(JSON.stringify([basename(file), buffer.byteLength]));
  }
  const kept = new Map<number, Promise<Record<string, { bytes: Uint8Array }>[]>>();
  const load = async ({ file, first, count }: Group) =>
    await parquetReadObjects({
      file: await asyncBufferFromFile(file),
      columns: [columns!.image],
      rowStart: first,
      rowEnd: first + count,
      utf8: false,
    }) as Record<string, { bytes: Uint8Array }>[];
  const groupAt = (group: number) => {
    const rows = kept.get(group) ?? load(groups[group]!);
    kept.delete(group);
    kept.set(group, rows); // the last used is the last
    if (kept.size > GROUPS) kept.delete(kept.keys().next().value!);
    return rows;
  };
  return await EncodedDataset.open({
    name: basename([files].flat()[0] ?? "no file"),
    classes: columns?.classes ?? [],
    labels: Int32Array.from(labels),
    fingerprint: hash.digest("hex"),
    nameOf: (row) =>
      `${groups[places[row]![0]]!.file}, row ${groups[places[row]![0]]!.first + places[row]![1]}`,
    bytesOf: async (row) => {
      const [group, at] = places[row]!;
      return (await groupAt(group))[at]![columns!.image]!.bytes;
    },
  }, options);
}
