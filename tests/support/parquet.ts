/** Parquet files as the Hugging Face hub has them. @module */
import { ByteWriter, type ColumnSource, parquetWrite } from "hyparquet-writer";
import type { MemoryDataset } from "nepa";
import { encodePng } from "../../lib/display/png.ts";

/** A data set's images as PNG, and their labels or others, with the notes of `datasets`. */
export function parquetFile(
  set: MemoryDataset,
  labels: readonly (number | null)[] = [...set.labels],
): Uint8Array<ArrayBuffer> {
  const { height, width, channels, classes: names } = set, writer = new ByteWriter();
  const examples = Array.from({ length: set.length }, (_, i) => set.get(i));
  const images = examples.map(({ image: data }, i) => {
    return { bytes: encodePng({ data, height, width, channels }), path: `${i}.png` };
  });
  const features = { image: { _type: "Image" }, label: { _type: "ClassLabel", names } };
  parquetWrite({
    writer,
    columnData: [
      { name: "image", data: images },
      { name: "label", data: labels.map((label) => label === null ? null : BigInt(label)) },
    ],
    schema: [
      { name: "schema", num_children: 2 },
      { name: "image", num_children: 2, repetition_type: "OPTIONAL" },
      { name: "bytes", type: "BYTE_ARRAY", repetition_type: "OPTIONAL" },
      { name: "path", type: "BYTE_ARRAY", converted_type: "UTF8", repetition_type: "OPTIONAL" },
      { name: "label", type: "INT64", repetition_type: "OPTIONAL" },
    ],
    rowGroupSize: 1000,
    kvMetadata: [{ key: "huggingface", value: JSON.stringify({ info: { features } }) }],
  });
  return new Uint8Array(writer.getBuffer());
}

/** An encoded image with its name, as `datasets` holds one; or none. */
export type Cell = { bytes: Uint8Array | null; path: string | null } | null;

/** Columns of images, and others as they are, with notes on their kinds. */
export function parquetColumns(
  images: Readonly<Record<string, readonly Cell[]>>,
  columns: readonly ColumnSource[] = [],
  features?: Readonly<Record<string, object>>,
): Uint8Array<ArrayBuffer> {
  const writer = new ByteWriter(), types: Record<string, string> = { STRING: "BYTE_ARRAY" };
  parquetWrite({
    writer,
    columnData: [
      ...Object.entries(images).map(([name, data]) => ({ name, data: [...data] })),
      ...columns.map(({ name, data }) => ({ name, data })),
    ],
    schema: [
      { name: "schema", num_children: Object.keys(images).length + columns.length },
      ...Object.keys(images).flatMap((name) => [
        { name, num_children: 2, repetition_type: "OPTIONAL" as const },
        { name: "bytes", type: "BYTE_ARRAY" as const, repetition_type: "OPTIONAL" as const },
        {
          name: "path",
          type: "BYTE_ARRAY" as const,
          converted_type: "UTF8" as const,
          repetition_type: "OPTIONAL" as const,
        },
      ]),
      ...columns.map(({ name, type = "BYTE_ARRAY" }) => ({
        name,
        type: (types[type] ?? type) as "BYTE_ARRAY",
        repetition_type: "OPTIONAL" as const,
        ...type === "STRING" && { converted_type: "UTF8" as const },
      })),
    ],
    ...features && { kvMetadata: [{ key: "huggingface", value: JSON.stringify({ info: { features } }) }] },
  });
  return new Uint8Array(writer.getBuffer());
}
