/** A folder of images and a folder of masks. @module */
import { basename, extname } from "node:path";
import {
  checkOptions,
  expect,
  flag,
  index,
  numberThat,
  oneOf,
  orNull,
  type Rule,
  text,
} from "../base/check.ts";
import { PNG_HEADER, pngHeader, pngSamples } from "../display/png.ts";
import { progress } from "../display/progress.ts";
import { IGNORED, type SegmentationSet } from "./dataset.ts";
import { DECODING, EncodedDataset, type EncodedImages, type EncodedOptions, type Source } from "./encoded.ts";
import { type File, imagesIn } from "./folder.ts";
import { DataError } from "./idx.ts";
import { contentsOf, hashOf } from "./kept.ts";
import { ahead } from "./ahead.ts";
import type { Extent } from "./transforms.ts";

/** Options of {@linkcode segmentationFolder}. */
export interface SegmentationFolderOptions extends EncodedOptions {
  /**
   * A known set's folders, classes and values; what is given besides goes before them.
   * "ade20k": ADEChallengeData2016, 150 classes, with `part` "training" or "validation". "voc": VOC2012, 21 classes, with `part`
   * "train", "val" or "trainval".
   */
  layout?: "ade20k" | "voc";
  /** Of a `layout`: which part. */
  part?: string;
  /** The images' folder, in the root. Default "images". */
  images?: string;
  /** The masks' folder, in the root. Default "masks". */
  masks?: string;
  /** Names of the classes, at most 254. */
  classes?: readonly string[];
  /** The value of pixels that are none of the classes; null: there are none. Default 255, null where a class has that. */
  ignore?: number | null;
  /** Whether 0 is none of the classes, and k the class k − 1, as in ADE20K. Default false. */
  zeroIsOther?: boolean;
  /** Each class's value in the masks. Default 0, 1, 2, …; for masks of black and white `[0, 255]`. */
  values?: readonly number[];
  /** A file in the root with the names, one a line, of the images that count. Default: all that are there. */
  list?: string;
  /** Which masks are read whole at once: 50 of them, or all; each is checked when it is first read, too. Default "some". */
  validate?: "some" | "all";
}

/** Images and masks of a folder. */
export interface SegmentationFolder extends SegmentationSet, Pick<EncodedImages, "skipped"> {}

const VOC_CLASSES = "background, aeroplane, bicycle, bird, boat, bottle, bus, car, cat, chair, cow, " +
  "dining table, dog, horse, motorbike, person, potted plant, sheep, sofa, train, tv/monitor";

/** ADE20K's 150 names, as its root has them. */
async function adeClasses(root: string): Promise<string[]> {
  const table = await Deno.readTextFile(`${root}/objectInfo150.txt`).catch(() => "");
  const [, ...lines] = table.trim().split("\n");
  const names = lines.map((line) => line.split("\t").at(-1)!.split(",")[0]!.trim());
  return names.length === 150 ? names : Array.from({ length: 150 }, (_, k) => String(k + 1));
}

type Needed = Required<Pick<SegmentationFolderOptions, "images" | "masks" | "classes">>;
type Settings = SegmentationFolderOptions & Needed;

/** What the layout says, and the options before it. */
async function settled(root: string, options: SegmentationFolderOptions): Promise<Settings> {
  const { layout, part } = options, common = { images: "images", masks: "masks", classes: [] };
  if (!layout) return { ...common, ...options };
  const [first, second] = layout === "voc" ? ["train", "val"] : ["training", "validation"];
  const help = `expected the part of "${layout}", such as "${first}" or "${second}"`;
  if (part === undefined) throw new TypeError(`segmentationFolder: part: ${help}, got none`);
  if (layout === "ade20k") {
    const folders = { images: `images/${part}`, masks: `annotations/${part}` };
    return { classes: options.classes ?? await adeClasses(root), zeroIsOther: true, ...folders, ...options };
  }
  const folders = { images: "JPEGImages", masks: "SegmentationClass" };
  const list = `ImageSets/Segmentation/${part}.txt`;
  return { classes: VOC_CLASSES.split(", "), list, ...folders, ...options };
}

/** Marks, in a table, a value that is no class's. */
const NONE = 254;

/** What each value of a mask becomes. */
function tableOf({ classes, zeroIsOther = false, values, ignore }: Settings): Uint8Array {
  const own = values ?? classes.map((_, k) => k + (zeroIsOther ? 1 : 0));
  const table = new Uint8Array(2 ** 16).fill(NONE);
  const none = ignore === undefined && !own.includes(IGNORED) ? IGNORED : ignore;
  for (const value of [none, zeroIsOther ? 0 : null]) if (typeof value === "number") table[value] = IGNORED;
  own.forEach((value, k) => table[value] = k);
  return table;
}

/** A rule for lists of up to 254 different things. */
const different = (what: string, [, holds]: Rule): Rule => [
  `1 to ${NONE} ${what}, all different`,
  (list) => Array.isArray(list) && list.every(holds) && Math.min(NONE, new Set(list).size) === list.length,
];
const VALUE = numberThat("", (x) => Number.isInteger(x) && x >= 0 && x < 2 ** 16);
const NAMES = { part: text, images: text, masks: text, list: text, layout: oneOf("ade20k", "voc") };
const RULES = {
  ...{ ...DECODING, ...NAMES, zeroIsOther: flag, ignore: orNull(index), validate: oneOf("some", "all") },
  classes: different("names", text),
  values: different("whole numbers from 0 to 65535", VALUE),
};

/** Paths in the root. */
interface Pair {
  image: string;
  mask: string;
  bytes: number[];
}

/** Files by their paths in a folder, without what they end in. */
async function byName(root: string, folder: string, left: DataError[]): Promise<Map<string, File[]>> {
  const found = await Deno.stat(`${root}/${folder}`).then(
    () => imagesIn(root, folder, left),
    missing(`${root}/${folder}`),
  );
  return Map.groupBy(found, ({ path }) => path.slice(folder.length + 1).replace(/\.[^.]*$/, ""));
}

/** Images and their masks by their names; what has no partner goes to `refuse`. */
async function pairsOf(
  root: string,
  settings: Settings,
  left: DataError[],
  refuse: (error: DataError) => void,
) {
  const { images, masks, list } = settings;
  const ofImages = await byName(root, images, left), ofMasks = await byName(root, masks, left);
  const named = list && await Deno.readTextFile(`${root}/${list}`).catch(missing(`${root}/${list}`));
  const listed = named?.split("\n").map((line) => line.trim()).filter((name) => name);
  const pairs: Pair[] = [];
  for (const name of listed ?? new Set([...ofImages.keys(), ...ofMasks.keys()])) {
    const [image, second] = ofImages.get(name) ?? [], [mask, third = second] = ofMasks.get(name) ?? [];
    const wrong = (path: string, expected: string, got: string) =>
      refuse(new DataError("missing", `${root}/${path}`, `expected ${expected}, got ${got}`));
    const none = "none; add it or take this away";
    if (!image && !mask) wrong(list!, `names of ${images} and ${masks}`, `${name}, which is in neither`);
    else if (!image) wrong(mask!.path, `an image of this name in ${images}`, none);
    else if (!mask) wrong(image.path, `a PNG mask of this name in ${masks}`, none);
    else if (third) wrong(third.path, "one file of this name", "two");
    else if (!/\.png$/i.test(mask.path)) {
      wrong(mask.path, "a PNG file, which keeps numbers", extname(mask.path));
    } else pairs.push({ image: image.path, mask: mask.path, bytes: [image.bytes, mask.bytes] });
  }
  return pairs;
}

const missing = (file: string) => (cause: Error) => {
  throw new DataError("missing", file, `expected it to be there: ${cause.message}`, { cause });
};

const REMEDY = "write the class numbers, Image.fromarray(numbers.astype('uint8')) by Pillow";

/** Refuses a mask that is no PNG of indices, or has another size than its image. */
function refuseHeader(file: string, bytes: Uint8Array, image: Extent): void {
  const { kind, height, width } = pngHeader(bytes) ?? {}, got = `${height}x${width}`;
  const wrong = (text: string) => new DataError("image", file, `expected ${text}`);
  if (!kind) throw wrong("a PNG file, got another or a broken one");
  if (!["grey", "palette"].includes(kind)) {
    throw wrong(`an index for each pixel, got ${kind} colours; ${REMEDY}`);
  }
  if (height === image.height && width === image.width) return;
  const isTurned = height === image.width && width === image.height;
  const help = isTurned
    ? "; orient: false leaves images as they are stored, whatever their EXIF data say"
    : "";
  throw wrong(`${image.height}x${image.width}, as its image has, got ${got}${help}`);
}

/** The samples of a mask. */
function samplesOf(file: string, bytes: Uint8Array): Uint8Array | Uint16Array {
  try {
    return pngSamples(bytes);
  } catch (cause) {
    const { message } = cause as Error;
    throw new DataError("image", file, `expected a whole PNG mask, but ${message}`, { cause });
  }
}

/** The classes of a mask's pixels. */
function classesOf(file: string, bytes: Uint8Array, table: Uint8Array): Uint8Array {
  const samples = samplesOf(file, bytes), mask = new Uint8Array(samples.length);
  for (let i = 0; i < mask.length; i++) mask[i] = table[samples[i]!]!;
  const beyond = mask.indexOf(NONE),
    wrong = (text: string) => new DataError("labels", file, `expected ${text}`);
  if (beyond >= 0) {
    const own = [...table.keys()].filter((value) => table[value]! < NONE), got = samples[beyond];
    const known = own.length < 6 ? own.join(", ") : `those from ${own[0]} to ${own.at(-1)}`;
    const values = `values of the ${own.length} classes, ${known}`;
    throw wrong(`${values}, got ${got}; name its class, or ignore: ${got}`);
  }
  const ends = table[IGNORED] === IGNORED && samples.includes(IGNORED);
  if (ends && samples.every((value) => value === 0 || value === IGNORED)) {
    const help = "for masks of black and white give two `classes` and values: [0, 255]";
    throw wrong(`indices of classes beside ${IGNORED}, which is none, got 0 and ${IGNORED} alone; ${help}`);
  }
  return mask;
}

/** Each image and its mask. */
const filesOf = (root: string, pairs: readonly Pair[]) =>
  pairs.flatMap(({ image, mask }) => [`${root}/${image}`, `${root}/${mask}`]);

function sourceOf(root: string, pairs: readonly Pair[], settings: Settings): Source {
  const { classes, resample, orient } = settings, table = tableOf(settings), files = filesOf(root, pairs);
  const nameOf = (row: number) => files[2 * row]!;
  const read = (file: string) => Deno.readFile(file).catch(missing(file));
  return {
    name: basename(root),
    classes,
    labels: new Int32Array(pairs.length).fill(-1),
    masked: true,
    fingerprint: hashOf(JSON.stringify([resample, orient, table.toHex(), pairs])),
    contents: async () => hashOf(table.toHex() + await contentsOf(files)),
    nameOf,
    origin: "files",
    place: nameOf,
    bytesOf: (row) => read(nameOf(row)),
    async maskOf(row, image) {
      const file = files[2 * row + 1]!, bytes = await read(file);
      refuseHeader(file, bytes, image);
      return classesOf(file, bytes, table);
    },
    only: (rows) => sourceOf(root, rows.map((row) => pairs[row]!), settings),
  };
}

/** How many masks are read whole at opening. */
const SOME = 50;

/** Compares all sizes by the files' headers, and reads some masks, or all, whole. */
async function validate(source: Source, files: readonly string[], every: boolean, orient: boolean) {
  const { default: sharp } = await import("sharp"), count = files.length / 2;
  await using bar = progress({ title: `checking ${source.name}`, total: count, unit: "masks" });
  const step = every ? 1 : Math.max(1, count / SOME);
  const isWhole = (row: number) => Math.floor(Math.ceil(row / step) * step) === row;
  const check = async (row: number) => {
    const [image, mask] = files.slice(2 * row) as [string, string];
    const data = await sharp(image, { limitInputPixels: false }).metadata().catch((cause) => {
      const text = `expected a whole JPEG, PNG or WebP image, but ${cause.message}`;
      throw new DataError("image", image, text, { cause });
    });
    const size = orient ? data.autoOrient : data, head = new Uint8Array(PNG_HEADER);
    if (isWhole(row)) return void await source.maskOf!(row, size);
    using file = await Deno.open(mask);
    refuseHeader(mask, head.subarray(0, await file.read(head) ?? 0), size);
  };
  let done = 0;
  for await (const _ of ahead(count, check)) bar.update(++done);
}

/**
 * Images with a class for each pixel: a folder of images (JPEG, PNG, WebP) and one of masks, PNG files of the same names whose
 * samples are classes. Masks may be grey or have a palette, whose indices count and not its colours, of 1, 2, 4, 8 or 16 bits. Files
 * are read when they are asked for; transforms move image and mask together, masks by nearest neighbour.
 *
 * At opening names, pairs and sizes are compared, and 50 masks read whole; every mask is checked whenever it is read. What cannot be is
 * refused with the file, or left out with `broken: "skip"`: an image or a mask without its partner, unlike sizes, colours in place of
 * indices, a class that there is not, a mask of 0 and 255 alone where 255 is ignored.
 *
 * - ADE20K, `ADEChallengeData2016`: `{ layout: "ade20k", part: "training" }`. 0, "other", is ignored, k is class k − 1. The full
 *   ADE20K, whose masks are colours of 3,000 classes, is another data set.
 * - Pascal VOC: `{ layout: "voc", part: "train" }`. 0 is the background, a class; 255, the border, is ignored.
 * - Cityscapes: copies of its `labelTrainIds` files under the images' names, with 19 `classes`.
 * - Masks of black and white: `{ classes: ["other", "road"], values: [0, 255] }`.
 *
 * @param path The root of both folders.
 * @returns The images; without a transform they are cut to `size`, as `imageFolder`'s are.
 * @throws {DataError} If a file or folder is missing or not what it should be; later, when an image is read, too.
 * @throws {TypeError | RangeError} If an option is unknown, missing or cannot be.
 *
 * @example
 * ```ts
 * import { segmentationFolder } from "nepa";
 * import { assertEquals } from "@std/assert";
 *
 * const set = await segmentationFolder("tests/fixtures/segmentation", { classes: ["sky", "land", "sea"], size: 16 });
 * const { image, mask } = await set.get(0); // [16, 16, 3] and [16, 16]
 * assertEquals([set.length, image.length, mask.length], [4, 768, 256]);
 * ```
 */
export async function segmentationFolder(
  path: string,
  options: SegmentationFolderOptions = {},
): Promise<SegmentationFolder> {
  checkOptions("segmentationFolder", options, RULES);
  const { orient = true, broken = "throw" } = options, skips = broken === "skip", left: DataError[] = [];
  const root = await Deno.realPath(path).catch(missing(path));
  const settings = await settled(root, options), { classes, values } = settings, count = classes.length;
  if (count === 0) throw new TypeError("segmentationFolder: expected classes, their names, got none");
  const fits = !values || values.length === count;
  expect(fits, "segmentationFolder: values", `one for each of ${count} classes`, values?.length);
  const pairs = await pairsOf(root, settings, left, (error) => {
    if (!skips) throw error;
    left.push(error);
  });
  const source = sourceOf(root, pairs, settings);
  if (!skips) await validate(source, filesOf(root, pairs), settings.validate === "all", orient);
  return await EncodedDataset.open(source, options, left) as unknown as SegmentationFolder;
}
