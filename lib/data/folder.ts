/** A folder of images, a folder in it for each class. @module */
import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";
import { basename, sep } from "node:path";
import type { Dataset } from "./dataset.ts";
import { ahead, type DecodeOptions, EncodedDataset, type Source } from "./encoded.ts";
import { DataError } from "./idx.ts";

/** Options of {@linkcode imageFolder}. */
export interface ImageFolderOptions extends DecodeOptions {
  /**
   * What becomes of files that are no whole images: "throw" when one is read (default), or "skip": each is decoded once
   * now, and those that cannot be are left out.
   */
  broken?: "throw" | "skip";
}

/** The images of a folder. */
export interface ImageFolder extends Dataset {
  /** What was wrong with each file that was left out. */
  readonly skipped: readonly DataError[];
}

interface Found {
  /** Relative to the folder. */
  path: string;
  bytes: number;
}

const IMAGE = /\.(jpe?g|png|webp)$/i;

/** What lies in a folder, sorted by code points, without what is hidden. */
async function entries(folder: string): Promise<Deno.DirEntry[]> {
  const all = await Array.fromAsync(Deno.readDir(folder)).catch((cause) => {
    throw new DataError("missing", folder, `expected a folder of images, got: ${cause.message}`, { cause });
  });
  const order = (a: Deno.DirEntry, b: Deno.DirEntry) =>
    Buffer.compare(Buffer.from(a.name), Buffer.from(b.name));
  return all.filter(({ name }) => !name.startsWith(".")).sort(order);
}

/** The image files of a folder and those in it. Links to files in `root` are followed; none leads out of it. */
async function imagesIn(root: string, inner: string): Promise<Found[]> {
  const found = (await entries(`${root}/${inner}`)).map(async (entry): Promise<Found[]> => {
    const path = inner ? `${inner}/${entry.name}` : entry.name, file = `${root}/${path}`;
    if (entry.isDirectory) return await imagesIn(root, path);
    if (!entry.isSymlink && !IMAGE.test(path)) return [];
    if (entry.isSymlink) {
      const target = await Deno.realPath(file).catch(() => "nothing");
      if (!target.startsWith(root + sep) || (await Deno.stat(target)).isDirectory) {
        throw new DataError(
          "link",
          file,
          `expected a link to a file in ${root}, got one to ${target}; put the files themselves there, or take it away`,
        );
      }
      if (!IMAGE.test(path)) return [];
    }
    return [{ path, bytes: (await Deno.stat(file)).size }];
  });
  return (await Promise.all(found)).flat();
}

/** The classes and their files. */
async function classesIn(root: string): Promise<[name: string, files: Found[]][]> {
  const folders = (await entries(root)).filter(({ isDirectory }) => isDirectory);
  if (folders.length === 0) return [[basename(root), await imagesIn(root, "")]];
  const found: [string, Found[]][] = [];
  for (const { name } of folders) {
    const files = await imagesIn(root, name);
    if (files.length > 0) found.push([name, files]);
    else {
      throw new DataError(
        "count",
        `${root}/${name}`,
        "expected images in the folder of a class, found none; take it away, or put .jpg, .png or .webp files there",
      );
    }
  }
  return found;
}

/** The rows that can be decoded, and what is wrong with the others. */
async function sound(whole: EncodedDataset): Promise<{ rows: number[]; skipped: DataError[] }> {
  const rows: number[] = [], skipped: DataError[] = [];
  const tried = ahead(whole.length, (row) =>
    whole.get(row).then(() => undefined, (error) => {
      if (error instanceof DataError && error.kind !== "missing") return error;
      throw error;
    }));
  let row = 0;
  for await (const error of tried) {
    if (error) skipped.push(error);
    else rows.push(row);
    row++;
  }
  return { rows, skipped };
}

/**
 * The images of a folder: JPEG, PNG and WebP files, in a folder for each class, however deep; without such folders they
 * are one class. Files are read when their images are asked for, and decoded beside what else is done; folders larger than
 * the memory are fine. Order: classes and files by their names' code points; hidden files and other kinds are not looked at.
 *
 * Images are what Pillow's `convert("RGB")` makes of them (`convert("L")` for one channel), turned upright; 16-bit grey
 * keeps its upper 8 bits, where Pillow clips. `randomResizedCrop` and `resize` at the beginning of `augment` and `prepare`
 * work on the whole original; everywhere else the images have `size`. A JPEG with more than twice the pixels that are
 * wanted on a side, four or eight times as many, is decoded at a half, a quarter, an eighth.
 *
 * Links to files inside the folder are followed; one that leads out of it, or to a folder, is refused.
 *
 * @param path The folder.
 * @returns The images, `skipped` with what was left out. A checkpoint knows them by their names and sizes in bytes.
 * @throws {DataError} If the folder is missing or empty, a link leads out of it, or the first file is no image; later, when
 *   an image is read that is broken ("image"), too large ("size") or gone ("missing").
 * @throws {RangeError} If an option cannot be.
 *
 * @example
 * ```ts
 * import { imageFolder } from "nepa";
 * import { assertEquals } from "@std/assert";
 *
 * const photos = await imageFolder("tests/fixtures/images/folder", { size: 32 });
 * assertEquals([photos.length, photos.classes], [4, ["cat", "dog"]]);
 * const { image, label } = await photos.get(0); // [32, 32, 3]
 * assertEquals([image.length, label], [32 * 32 * 3, 0]);
 * ```
 */
export async function imageFolder(path: string, options: ImageFolderOptions = {}): Promise<ImageFolder> {
  const root = await Deno.realPath(path).catch((cause) => {
    throw new DataError("missing", path, `expected a folder of images, got: ${cause.message}`, { cause });
  });
  const { broken = "throw" } = options;
  if (broken !== "throw" && broken !== "skip") {
    throw new RangeError(`broken: expected "throw" or "skip", got ${JSON.stringify(broken)}`);
  }
  const found = await classesIn(root), classes = found.map(([name]) => name);
  const all = found.flatMap(([, files], label) => files.map((file) => ({ ...file, label })));
  const open = (files: typeof all, decode: DecodeOptions) =>
    EncodedDataset.open(sourceOf(root, classes, files, decode), decode);
  if (broken === "throw") return Object.assign(await open(all, options), { skipped: [] });
  const { rows, skipped } = await sound(await open(all, { ...options, size: 1 }));
  return Object.assign(await open(rows.map((row) => all[row]!), options), { skipped });
}

function sourceOf(
  root: string,
  classes: readonly string[],
  files: readonly (Found & { label: number })[],
  { resample, orient }: DecodeOptions,
): Source {
  const nameOf = (row: number) => `${root}/${files[row]!.path}`;
  return {
    name: basename(root),
    classes,
    labels: Int32Array.from(files, ({ label }) => label),
    fingerprint: createHash("sha256").update(JSON.stringify([resample, orient, files])).digest("hex"),
    nameOf,
    bytesOf: (row) =>
      Deno.readFile(nameOf(row)).catch((cause) => {
        throw new DataError("missing", nameOf(row), `expected the file to be there: ${cause.message}`, {
          cause,
        });
      }),
  };
}
