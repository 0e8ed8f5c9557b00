/** A folder of images, a folder in it for each class. @module */
import { Buffer } from "node:buffer";
import { basename, sep } from "node:path";
import type { SplittableDataset } from "./dataset.ts";
import { checkOptions, oneOf } from "../base/check.ts";
import { notice } from "../display/jupyter.ts";
import { type DecodeOptions, DECODING, EncodedDataset } from "./encoded.ts";
import { ahead } from "./rows.ts";
import { contentsOf, hashOf } from "./kept.ts";
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
export interface ImageFolder extends SplittableDataset {
  /** What was wrong with each file that was left out. */
  readonly skipped: readonly DataError[];
}

/** Names of a data set's parts, which are no classes. */
const PART = /^(train|val|test|eval)(ing|id(ation)?|uation)?$/i;

const IMAGE = /\.(jpe?g|png|webp)$/i;

/** What lies in a folder, sorted by code points, without what is hidden. */
async function entries(folder: string): Promise<Deno.DirEntry[]> {
  const all = await Array.fromAsync(Deno.readDir(folder));
  const bytes = ({ name }: Deno.DirEntry) => Buffer.from(name);
  return all.filter(({ name }) => !name.startsWith(".")).sort((a, b) => Buffer.compare(bytes(a), bytes(b)));
}

/** The image files of a folder and those in it, relative to `root`, with their sizes in bytes. */
async function imagesIn(root: string, inner: string): Promise<[path: string, bytes: number][]> {
  const found = (await entries(`${root}/${inner}`)).map(async ({ name, isDirectory, isSymlink }) => {
    const path = inner ? `${inner}/${name}` : name, file = `${root}/${path}`;
    if (isDirectory) return await imagesIn(root, path);
    if (isSymlink) {
      const target = await Deno.realPath(file).catch(() => "nothing");
      if (!target.startsWith(root + sep) || (await Deno.stat(target)).isDirectory) {
        const got = `expected a link to a file in ${root}, got one to ${target}`;
        throw new DataError("link", file, `${got}; put the files themselves there, or take it away`);
      }
    }
    return IMAGE.test(path) ? [[path, (await Deno.stat(file)).size] as [string, number]] : [];
  });
  return (await Promise.all(found)).flat();
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
 * @returns The images, `skipped` with what was left out. A checkpoint knows them by their contents.
 * @throws {DataError} If the folder is missing or has no images, a link leads out of it, or the first file is no image; later, when
 *   an image is read that is broken ("image"), too large ("size") or gone ("missing").
 * @throws {TypeError | RangeError} If an option is unknown or cannot be.
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
  checkOptions("imageFolder", options, { ...DECODING, broken: oneOf("throw", "skip") });
  const { broken = "throw", resample, orient } = options;
  const missing = (file: string) => (cause: Error) => {
    throw new DataError("missing", file, `expected it to be there: ${cause.message}`, { cause });
  };
  const root = await Deno.realPath(path).catch(missing(path)), name = basename(root);
  const folders = (await entries(root)).filter(({ isDirectory }) => isDirectory).map(({ name }) => name);
  const [classes, inner] = folders.length > 0 ? [folders, folders] : [[name], [""]];
  if (folders.length > 1 && folders.every((name) => PART.test(name))) {
    const each = folders.map((part) => `imageFolder("${path}/${part}")`).join(", ");
    notice(
      `${name}: its classes would be ${
        folders.join(" and ")
      }, which look like parts of a data set: open ${each}`,
    );
  }
  const found = await Promise.all(inner.map((inner) => imagesIn(root, inner)));
  const files = found.flatMap((ofClass, label) => ofClass.map(([path, bytes]) => ({ path, bytes, label })));
  const open = (files: readonly { path: string; label: number }[], decode: DecodeOptions) => {
    const nameOf = (row: number) => `${root}/${files[row]!.path}`;
    return EncodedDataset.open({
      name,
      classes,
      labels: Int32Array.from(files, ({ label }) => label),
      fingerprint: hashOf(JSON.stringify([resample, orient, files])),
      contents: () => contentsOf(files.map((_, row) => nameOf(row))),
      nameOf,
      fileOf: nameOf,
      bytesOf: (row) => Deno.readFile(nameOf(row)).catch(missing(nameOf(row))),
    }, decode);
  };
  if (broken === "throw") return Object.assign(await open(files, options), { skipped: [] });
  const all = await open(files, { ...options, size: 1 });
  const tried = await Array.fromAsync(ahead(files.length, (row) => all.get(row).catch((error) => error)));
  const whole = files.filter((_, row) => !(tried[row] instanceof DataError));
  const skipped = tried.filter((got) => got instanceof DataError);
  return Object.assign(await open(whole, options), { skipped });
}
