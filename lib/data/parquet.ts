/** Images in Parquet files, as data sets on the Hugging Face hub have them. @module */
import { basename, dirname } from "node:path";
import type { SchemaTree } from "hyparquet";
import { checkOptions, expect, orNull, text } from "../base/check.ts";
import { notice } from "../display/jupyter.ts";
import { progress } from "../display/progress.ts";
import { rename, stoppable } from "@nepa/engine";
import { DECODING, EncodedDataset, type EncodedImages, type EncodedOptions, type Source } from "./encoded.ts";
import { contentsOf, hashOf } from "./kept.ts";
import { DataError } from "./idx.ts";
import { numbersIn } from "./matching.ts";
import { bytesIn, type ParquetNotes } from "./parquet_bytes.ts";
import { type ParquetFile, ParquetPages } from "./parquet_pages.ts";
import { aside, unlessAborted } from "./parquet_reader.ts";

/** Options of {@linkcode parquetImages}. */
export interface ParquetOptions extends EncodedOptions {
  /** The column of images. Needed where there are several. */
  image?: string;
  /**
   * The column of labels: class numbers whose names are among the file's notes, or texts or numbers of any kind, which are the
   * names then; null for none. Default: the one with names of classes, else one called "label", else none.
   */
  label?: string | null;
}

/** Which columns have images and labels, and the names of the classes, where they are known. */
interface Columns {
  image: SchemaTree;
  /** The name of that, if there are others of images. */
  among: string | undefined;
  label: string | null;
  classes: readonly string[] | undefined;
}

type Chosen = Pick<ParquetOptions, "image" | "label"> & { classes?: readonly string[] };

/** What a file's notes and its columns say of them. */
function columnsOf(file: string, { columns: all, notes }: ParquetNotes, chosen: Chosen): Columns {
  const noted: Record<string, { _type: string; names?: string[] } | undefined> =
    JSON.parse(notes)?.info?.features ?? {};
  const kindOf = ({ element: { name, type } }: SchemaTree) => noted[name]?._type ?? type ?? "several columns";
  const there = all.map((column) => `${column.element.name}: ${kindOf(column)}`).join(", ") || "none";
  const one = (what: string, given: string | undefined, found: readonly SchemaTree[]): SchemaTree => {
    const fits = given === undefined ? found : all.filter(({ element }) => element.name === given);
    if (fits.length === 1 && (what !== "image" || bytesIn(fits[0]!))) return fits[0]!;
    const wanted = given === undefined
      ? `one column to take as ${what}`
      : `a column ${given} with such values`;
    const remedy = `choose with { ${what}: "…" }`;
    throw new DataError("magic", file, `${what}: expected ${wanted}, got ${there}; ${remedy}`);
  };
  const typed = (type: string) => all.filter(({ element }) => noted[element.name]?._type === type);
  const images = typed("Image"), named = typed("ClassLabel");
  const possible = images.length > 0 ? images : all.filter(bytesIn),
    image = one("image", chosen.image, possible);
  const common = { image, among: possible.length > 1 ? image.element.name : undefined };
  const called = all.filter((column) => column.element.name === "label" && !bytesIn(column));
  const labels = named.length > 0 ? named : called, none = chosen.label === undefined && labels.length === 0;
  if (chosen.label === null || none) return { ...common, label: null, classes: [] };
  const { name } = one("label", chosen.label, labels).element;
  const names = noted[name]?.names ?? undefined,
    texts = names === undefined ||
      Array.isArray(names) && names.every((text) => typeof text === "string");
  if (!texts) {
    throw new DataError("labels", file, `${name}: expected texts as names of the classes, got others`);
  }
  return { ...common, label: name, classes: chosen.classes ?? names };
}

/** What a class is called whose name is a value of its own. */
function textOf(value: unknown): string | undefined {
  const whole = typeof value === "bigint" || typeof value === "boolean" || Number.isSafeInteger(value);
  return whole || typeof value === "string" ? String(value) : undefined;
}

/** Names in order: numbers by size, texts by code points. */
function inOrder(names: readonly string[]): string[] {
  const numbers = names.every((name) => /^-?\d+$/.test(name));
  return [...new Set(names)].sort((a, b) => numbers ? Number(a) - Number(b) : a < b ? -1 : 1);
}

/**
 * Images from Parquet files as the Hugging Face hub has them: a column of images (their encoded bytes), and one of labels with
 * the names of the classes among the file's notes, or of texts or numbers; without such a column, images without labels, for
 * pretraining. Images are read one by one, by the file's index of pages, in any order; packed pages (snappy, gzip, zstd,
 * brotli, lz4) are unpacked. Packed files without that index are slow where passes are shuffled, which is said:
 * {@linkcode unpackParquet} writes their images as files once.
 *
 * A row whose label is null or -1, as in the hub's test sets, has none: pretraining takes it, what needs labels names it. Files
 * that have the same classes in another order are joined by the names. Without a test set, `split([0.8, 0.2])`.
 *
 * @param files One or several, such as `train-00000-of-00002.parquet`; their order is the images' order.
 * @param options As for {@linkcode imageFolder}, `broken: "skip"` too, which leaves out rows without an image; and which columns.
 * @returns The images, `skipped` with what was left out.
 * @throws {DataError} If a file is missing or is no such file, if there are several columns of images and none is chosen, or a
 * label is none; later, when an image is read that is broken or not there.
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
  options: ParquetOptions = {},
): Promise<EncodedImages> {
  checkOptions("parquetImages", options, { ...DECODING, ...COLUMNS });
  const source = await stoppable(
    "parquetImages",
    undefined,
    (signal) => unlessAborted(signal, parquetSource([files].flat(), options)),
  );
  if (source.slow) {
    notice(
      `${source.name}: packed without an index of pages: a shuffled pass unpacks a whole group of rows for almost every image. ` +
        'unpackParquet(files, "photos") writes them as files once, for imageFolder',
    );
  }
  return await EncodedDataset.open(source, options);
}

const COLUMNS = { image: text, label: orNull(text) };

/** A file with its columns, its size and what its column of labels holds. */
type Opened = ParquetFile & Columns & Pick<ParquetNotes, "bytes" | "rows"> & { labels: unknown[] };

async function opened(path: string, chosen: Chosen): Promise<Opened> {
  const found = await aside("open", [path]), { bytes, rows } = found;
  try {
    const columns = columnsOf(path, found, chosen), { label } = columns;
    return {
      path,
      bytes,
      rows,
      labels: label === null ? [] : await aside("column", [path, label]),
      ...columns,
    };
  } catch (cause) {
    if (cause instanceof DataError) throw cause;
    const got = `expected notes of the columns as the library datasets writes them, but ${cause}`;
    throw new DataError("magic", path, got, { cause });
  }
}

/** The labels of a file as numbers of the classes, which are those of the file `first`. */
function numbered(file: Opened, classes: readonly string[], first: string): Int32Array {
  const { path, labels, classes: own, label, rows } = file;
  if (label === null) return new Int32Array(rows).fill(classes.length > 0 ? -1 : 0);
  const places = own ? numbersIn(classes, own) : new Map(classes.map((name, i) => [name, i]));
  if (!places) {
    const expected = `expected classes among ${classes.join(", ")}, as in ${first}`;
    throw new DataError("labels", path, `${expected}, got ${own?.join(", ")}`);
  }
  const last = own && `a class number for image #, from 0 to ${own.length - 1}, -1 or null for none`;
  return Int32Array.from(labels, (value, row) => {
    if (value === null || value === undefined || Number(value) === -1) return -1;
    const number = places instanceof Map ? places.get(textOf(value) ?? "") : places[Number(value)];
    if (number !== undefined) return number;
    const expected = (last ?? "a text or a number for image #").replace("#", String(row));
    throw new DataError("labels", path, `expected ${expected}, got ${value}`);
  });
}

/** What Parquet files have. */
export async function parquetSource(
  files: readonly string[],
  options: ParquetOptions = {},
  known?: readonly string[],
): Promise<Source & { slow: boolean }> {
  const all = await Promise.all(
    files.map((file) => opened(file, { ...options, ...known && { classes: known } })),
  );
  const pages = await ParquetPages.open(all), noted = all.find(({ classes }) => classes?.length)?.classes;
  const texts = all.flatMap(({ labels }) => noted ? [] : labels.flatMap((value) => textOf(value) ?? []));
  const classes = noted ?? inOrder(texts.filter((name) => name !== "-1"));
  const parts = all.map((file) => numbered(file, classes, all[0]!.path));
  const labels = Int32Array.from(parts.flatMap((part) => [...part]));
  const real = await Promise.all(files.map((file) => Deno.realPath(file)));
  const called = (names: readonly string[], what: string, row: number) => {
    let file = 0;
    for (; row >= parts[file]!.length; file++) row -= parts[file]!.length;
    return `${names[file]}, ${what} ${row}`;
  };
  const nameOf = (row: number) => called(files, "image", row), column = all[0]?.among;
  const sizes = all.map(({ path, bytes }) => [basename(path), bytes]);
  const source = (rows: Int32Array): Source & { slow: boolean } => ({
    name: basename(files[0] ?? "no file"),
    classes,
    labels: rows.map((row) => labels[row]!),
    slow: pages.slow,
    fingerprint: hashOf(JSON.stringify([options, sizes])),
    contents: async () => column ? hashOf(column + await contentsOf(files)) : await contentsOf(files),
    nameOf: (i) => nameOf(rows[i]!),
    origin: "files",
    place: (i) => called(real, "row", rows[i]!),
    bytesOf: async (i) => {
      const bytes = await pages.bytesOf(rows[i]!);
      if (bytes) return bytes;
      const expected = "expected its encoded bytes, got none (null, or a path alone)";
      throw new DataError("image", nameOf(rows[i]!), `${expected}; leave such rows out with broken: "skip"`);
    },
    only: (chosen) => source(Int32Array.from(chosen, (i) => rows[i]!)),
  });
  return source(labels.map((_, row) => row));
}

/** Endings of files by how they begin. */
const KINDS = { "\xff\xd8": "jpg", "\x89P": "png", RI: "webp" } as Record<string, string>;

/**
 * Writes the images of Parquet files as files, for {@linkcode imageFolder}: in a folder for each class, named by their rows.
 *
 * @param files As for {@linkcode parquetImages}.
 * @param folder Where to; it must not be there yet, and is not if this fails.
 * @param options Which columns, and whether rows without an image are left out.
 * @throws {DataError} If an image or a label is missing or broken.
 * @throws {RangeError} If the folder is there, or a class has a name that no folder can have.
 *
 * @example
 * ```ts
 * import { imageFolder, unpackParquet } from "nepa";
 * import { assertEquals } from "@std/assert";
 *
 * const folder = `${await Deno.makeTempDir()}/pets`;
 * await unpackParquet("tests/fixtures/images/hub.parquet", folder);
 * assertEquals((await imageFolder(folder)).classes, ["cat", "dog"]);
 * await Deno.remove(folder, { recursive: true });
 * ```
 */
export async function unpackParquet(
  files: string | readonly string[],
  folder: string,
  options: Pick<ParquetOptions, "image" | "label" | "broken"> = {},
): Promise<void> {
  checkOptions("unpackParquet", options, { ...COLUMNS, broken: DECODING.broken });
  const source = await parquetSource([files].flat(), options), { classes, labels } = source;
  const there = await Deno.stat(folder).catch(() => undefined);
  const odd = classes.find((name) => !/^[^./\\\0][^/\\\0]*$/.test(name));
  expect(!there, "unpackParquet: folder", "one that is not there yet", folder);
  expect(odd === undefined, "unpackParquet: classes", "names that folders can have", odd);
  await Deno.mkdir(dirname(folder), { recursive: true });
  const part = await Deno.makeTempDir({ dir: dirname(folder), prefix: `.${basename(folder)}-` });
  await using bar = progress({ title: "unpacking", total: labels.length, unit: "images" });
  try {
    await stoppable("unpackParquet", undefined, async (signal) => {
      for (const inner of classes.length > 0 ? classes : [""]) {
        await Deno.mkdir(`${part}/${inner}`, { recursive: true });
      }
      for (const [row, label] of labels.entries()) {
        signal.throwIfAborted();
        const bytes = await source.bytesOf(row).catch((error) => {
          if (options.broken !== "skip") throw error;
        });
        bar.update(row + 1);
        if (!bytes) continue;
        const kind = KINDS[String.fromCharCode(...bytes.subarray(0, 2))];
        const wrong = !kind ? "a JPEG, PNG or WebP image" : label < 0 ? "a label" : undefined;
        if (wrong) throw new DataError("image", source.nameOf(row), `expected ${wrong}, got another or none`);
        await Deno.writeFile(
          `${part}/${classes[label] ?? ""}/${String(row).padStart(8, "0")}.${kind}`,
          bytes,
        );
      }
    });
    await rename(part, folder);
  } catch (error) {
    await Deno.remove(part, { recursive: true }).catch(() => {});
    throw error;
  }
}
