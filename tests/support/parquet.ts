/** Parquet files as the Hugging Face hub has them. @module */
import { ByteWriter, parquetWrite } from "hyparquet-writer";
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
