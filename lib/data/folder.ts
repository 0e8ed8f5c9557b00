/** A folder of images, a folder in it for each class. @module */
import { Buffer } from "node:buffer";
import { basename, extname, sep } from "node:path";
import { checkOptions, flag } from "../base/check.ts";
import { notice } from "../display/jupyter.ts";
import { DECODING, EncodedDataset, summary } from "./encoded.ts";
import type { EncodedImages, EncodedOptions, Source } from "./encoded.ts";
import { contentsOf, hashOf } from "./kept.ts";
import { DataError } from "./idx.ts";

/** Options of {@linkcode imageFolder}. */
export interface ImageFolderOptions extends EncodedOptions {
  /** Whether folders without images are classes too. Default false. */
  emptyClasses?: boolean;
}

/** The images of a folder. */
export type ImageFolder = EncodedImages;

/** Names of a data set's parts, which are no classes. */
const PART = /^(train|val|test|eval)(ing|id(ation)?|uation)?$/i;

/** Files that hold images and are not read: that they are left out is said at once. */
const OTHER = /\.(bmp|gif|tiff?|avif|hei[cf]|jfif|jp2|jxl|p[bgnp]m|svg|dng|cr2|nef)$/i;
const IMAGE = /\.(jpe?g|png|webp)$/i, KINDS = "a JPEG, PNG or WebP file";

/** What lies in a folder, sorted by code points, without what is hidden. */
async function entries(folder: string): Promise<Deno.DirEntry[]> {
  const all = await Array.fromAsync(Deno.readDir(folder));
  const bytes = ({ name }: Deno.DirEntry) => Buffer.from(name);
  return all.filter(({ name }) => !name.startsWith(".")).sort((a, b) => Buffer.compare(bytes(a), bytes(b)));
}

/** A file of a folder. */
export interface File {
  path: string;
  bytes: number;
}

/** The image files of a folder and those in it, relative to `root`, with their sizes in bytes; other files go to `skipped`. */
export async function imagesIn(
  root: string,
  inner: string,
  skipped: DataError[],
  deep = true,
): Promise<File[]> {
  const found = (await entries(`${root}/${inner}`)).map(async ({ name, isDirectory, isSymlink }) => {
    const path = inner ? `${inner}/${name}` : name, file = `${root}/${path}`;
    if (isDirectory) return deep ? await imagesIn(root, path, skipped) : [];
    if (isSymlink) {
      const target = await Deno.realPath(file).catch(() => "nothing");
      if (!target.startsWith(root + sep) || (await Deno.stat(target)).isDirectory) {
        const got = `expected a link to a file in ${root}, got one to ${target}`;
        throw new DataError("link", file, `${got}; put the files themselves there, or take it away`);
      }
    }
    const { size: bytes, isFile } = await Deno.stat(file);
    if (isFile && IMAGE.test(path)) return [{ path, bytes }];
    const got = isFile ? extname(path) || "a file without a kind" : "a pipe or a device";
    skipped.push(new DataError("image", file, `expected ${KINDS}, got ${got}`));
    return [];
  });
  return (await Promise.all(found)).flat();
}

/** The classes of a folder, its image files with their numbers, and what is left out. */
async function listed(root: string, emptyClasses: boolean) {
  const left: DataError[] = [], all = await entries(root);
  const folders = all.filter(({ isDirectory }) => isDirectory).map(({ name }) => name);
  const found = await Promise.all(folders.map((folder) => imagesIn(root, folder, left)));
  const loose = await imagesIn(root, "", left, false);
  const leave = (kind: "count" | "image", path: string, why: string) =>
    left.push(new DataError(kind, `${root}/${path}`, why));
  const named = found.some((files) => files.length > 0);
  const isClass = (_: unknown, i: number) => named && (emptyClasses || found[i]!.length > 0);
  for (const folder of folders.filter((folder, i) => !isClass(folder, i))) {
    leave("count", folder, "expected images of a class in this folder, got none");
  }
  for (const { path } of named ? loose : []) {
    leave("image", path, "expected in the folder of a class, got beside those");
  }
  const classes = named ? folders.filter(isClass) : [basename(root)];
  const files = (named ? found.filter(isClass) : [loose]).flatMap((files, label) =>
    files.map((file) => ({ ...file, label }))
  );
  const images = left.filter(({ file, kind }) => kind === "image" && (IMAGE.test(file) || OTHER.test(file)));
  if (images.length > 0) notice(`${root}: left out: ${summary(images)}`);
  return { classes, files, left };
}

/**
 * The images of a folder: JPEG, PNG and WebP files, in a folder for each class, however deep; without such folders they
 * are one class. Files are read when their images are asked for, and decoded beside what else is done; folders larger than
 * the memory are fine. Order: classes and files by their names' code points. Other kinds of files, images beside the classes'
 * folders and folders without images are left out: the set says how many and why, and `skipped` names them; hidden files are
 * not looked at.
 *
 * Images are what Pillow's `convert("RGB")` makes of them (`convert("L")` for one channel), turned upright; 16-bit grey
 * keeps its upper 8 bits, where Pillow clips. `randomResizedCrop` and `resize` at the beginning of `augment` and `prepare`
 * work on the whole original; everywhere else the images have `size`. A JPEG with more than twice the pixels that are
 * wanted on a side, four or eight times as many, is decoded at a half, a quarter, an eighth.
 *
 * Parts to train and to test by, with no image in common: `split([0.8, 0.2], { stratified: true })`. Two folders may differ in
 * their classes' order: probes and classifiers go by the names. Files are told apart by their paths, also where a folder is
 * opened twice.
 *
 * Links to files inside the folder are followed; one that leads out of it, or to a folder, is refused.
 *
 * @param path The folder.
 * @returns The images, `skipped` with each file and folder that was left out, and why. A checkpoint knows them by their contents.
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
  checkOptions("imageFolder", options, { ...DECODING, emptyClasses: flag });
  const { emptyClasses = false, ...decode } = options, { resample, orient } = decode;
  const missing = (file: string) => (cause: Error) => {
    throw new DataError("missing", file, `expected it to be there: ${cause.message}`, { cause });
  };
  const root = await Deno.realPath(path).catch(missing(path)), name = basename(root);
  if (!(await Deno.stat(root)).isDirectory) {
    throw new DataError("missing", path, "expected a folder, got a file");
  }
  const { classes, files, left } = await listed(root, emptyClasses);
  if (classes.length > 1 && classes.every((name) => PART.test(name))) {
    const each = classes.map((part) => `imageFolder("${path}/${part}")`).join(", ");
    const parts = `${classes.join(" and ")}, which look like parts of a data set`;
    notice(`${name}: its classes would be ${parts}: open ${each}`);
  }
  const source = (files: readonly (File & { label: number })[], classes: readonly string[]): Source => {
    const nameOf = (row: number) => `${root}/${files[row]!.path}`;
    return {
      name,
      classes,
      labels: Int32Array.from(files, ({ label }) => label),
      fingerprint: hashOf(JSON.stringify([resample, orient, files])),
      contents: () => contentsOf(files.map((_, row) => nameOf(row))),
      nameOf,
      origin: "files",
      place: nameOf,
      bytesOf: (row) => Deno.readFile(nameOf(row)).catch(missing(nameOf(row))),
      only: (rows) => {
        const some = rows.map((row) => files[row]!), there = new Set(some.map(({ label }) => label));
        const left = emptyClasses ? classes : classes.filter((_, label) => there.has(label));
        return source(some.map((file) => ({ ...file, label: left.indexOf(classes[file.label]!) })), left);
      },
    };
  };
  return await EncodedDataset.open(source(files, classes), decode, left);
}
