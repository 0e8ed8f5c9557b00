/** Data sets of JPEG, PNG and WebP images that are decoded as they are asked for. @module */
import type Sharp from "sharp";
import { type Box, jpegDecoder } from "@nepa/engine";
import { count, expect, flag, oneOf } from "../base/check.ts";
import type { Random } from "../base/random.ts";
import { madeOf } from "./checks.ts";
import type { Change, Dataset, Image, SplittableDataset } from "./dataset.ts";
import { hashOf } from "./kept.ts";
import { DataError } from "./idx.ts";
import type { Preprocessor } from "./preprocessor.ts";
import { nearest, type Resample, resized } from "./resample.ts";
import { luma } from "./randaugment.ts";
import { ahead, withRoom } from "./ahead.ts";
import { Fetched, type Made, type Whole } from "./rows.ts";
import type { Extent, Part, Transform } from "./transforms.ts";
import { centerCrop, compose, RESAMPLE, resize, wholeOf } from "./transforms.ts";

/** How encoded images become pixels. */
export interface DecodeOptions {
  /**
   * Height and width of the images where nothing cuts parts out of the originals: the shorter side is brought to it, the
   * middle cut out. Default: the first image's shorter side.
   */
  size?: number;
  /** Filter of that. Default "bicubic". */
  resample?: Resample;
  /** 3 for red, green and blue, 1 for grey. Default 3. */
  channels?: 1 | 3;
  /** Turn images as their EXIF data say. Default true. */
  orient?: boolean;
  /** Images with more pixels are refused before they are decoded, or resized to so many. Default 178,956,970, as Pillow's. */
  maxPixels?: number;
}

/** The same, and what becomes of those that cannot. */
export interface EncodedOptions extends DecodeOptions {
  /**
   * What becomes of files and rows that are no whole images: "throw" when one is read (default), or "skip": each is decoded
   * once now, and those that cannot be are left out.
   */
  broken?: "throw" | "skip";
}

/** Images that are decoded as they are asked for. */
export interface EncodedImages extends SplittableDataset {
  /** What was left out, and why: broken images, of a folder other files and folders too. */
  readonly skipped: readonly DataError[];
}

/** Encoded images and where they come from. */
export interface Source extends Pick<Whole, "name" | "classes" | "labels" | "masked" | "origin" | "place"> {
  /** Changes with the images' names and sizes in bytes. */
  fingerprint: string;
  /** A hash of the images' files. */
  contents(): Promise<string>;
  /** What to call an image in errors. */
  nameOf(row: number): string;
  bytesOf(row: number): Promise<Uint8Array>;
  /** The mask of an image that has such a size, of a source with masks. */
  maskOf?(row: number, image: Extent): Promise<Uint8Array>;
  /** The same without other rows: needed to leave out broken ones. */
  only?(rows: readonly number[]): Source;
}

interface Header extends Extent {
  cmyk: boolean;
  /** Whether it is decoded whole and then kept. */
  small: boolean;
  /** Whether it is a JPEG that lies upright and may be decoded at a half, a quarter, an eighth, which is quicker. */
  scales: boolean;
}

/** Columns beside a part that are decoded with it, since their colours reach into it. */
const MARGIN = 2;

/** Images of at most so many pixels are kept once they are decoded, as long as all of them have at most so many bytes. */
const SMALL = 2 ** 16, KEPT = 2 ** 28;

/** [pixels, 4], 255 for no ink on what was light, to red, green and blue; by Pillow's formula. */
function cmykToRgb(ink: Uint8Array): Uint8Array {
  const out = new Uint8ClampedArray(ink.length / 4 * 3);
  for (let i = 0, at = 0; i < ink.length; i += 4) {
    const white = 255 - ink[i + 3]!;
    for (let c = 0; c < 3; c++) {
      const product = ink[i + c]! * white + 128;
      out[at++] = white - ((product + (product >> 8)) >> 8);
    }
  }
  return new Uint8Array(out.buffer);
}

/**
 * By how much a JPEG may be decoded smaller: twice the pixels that are needed are left, and the sides are multiples of it,
 * or the decoder would resize what it made.
 */
function scaleOf(header: Header, { height, width, to }: Part): number {
  const fits = (f: number) =>
    height >= 2 * f * to.height && width >= 2 * f * to.width && header.width % f + header.height % f === 0;
  return header.scales ? [8, 4, 2].find(fits) ?? 1 : 1;
}

/** The pixels of an image at a fraction of its size in which a part lies, and some beside it. */
function pixelsIn({ top, left, height, width }: Box, scale: number, image: Extent): Box {
  const [y, x] = [Math.floor(top / scale), Math.max(0, Math.floor(left / scale) - MARGIN)];
  const right = Math.min(image.width / scale, Math.ceil((left + width) / scale) + MARGIN);
  const bottom = Math.ceil((top + height) / scale);
  return { top: y, left: x, height: bottom - y, width: right - x };
}

/** Decodes what a source has. */
class Decoder {
  readonly #headers: Header[] = [];
  readonly #kept = new Map<number, Image>();
  #keptBytes = 0;

  constructor(readonly sharp: typeof Sharp, readonly source: Source, readonly options: DecodeOptions) {}

  #open(bytes: Uint8Array): ReturnType<typeof Sharp> {
    const { orient: autoOrient = true } = this.options;
    return this.sharp(bytes, { autoOrient, limitInputPixels: false, ignoreIcc: true, failOn: "error" });
  }

  #refuseLarge(row: number, { width, height }: Extent, why: string): void {
    const { maxPixels = 178_956_970 } = this.options;
    if (width * height <= maxPixels) return;
    const got = `${width} x ${height}: ${why}, or raise maxPixels`;
    throw new DataError("size", this.source.nameOf(row), `expected at most ${maxPixels} pixels, got ${got}`);
  }

  async #header(row: number, bytes: Uint8Array): Promise<Header> {
    const data = await this.#open(bytes).metadata(), { format, width, height, orientation = 1 } = data;
    const { orient = true } = this.options, small = width * height <= SMALL;
    if (!["jpeg", "png", "webp"].includes(format)) throw new Error(`it is ${format}`);
    this.#refuseLarge(row, { width, height }, "not decoded; remove it");
    const scales = format === "jpeg" && orientation === 1 && !small, cmyk = data.space === "cmyk";
    return { ...orient ? data.autoOrient : { width, height }, cmyk, small, scales };
  }

  /** A part of an image, resized; it is chosen when the image's size is known. */
  async part(row: number, choose: (image: Extent) => Part): Promise<Image> {
    const bytes = this.#kept.has(row) ? new Uint8Array() : await this.source.bytesOf(row);
    try {
      const header = this.#headers[row] ??= await this.#header(row, bytes), { small } = header;
      const part = choose(header), scale = part.exact ? 1 : scaleOf(header, part);
      this.#refuseLarge(row, part.kept ?? part.to, "once it is resized; cut a part out first");
      const box = small ? wholeOf(header) : pixelsIn(part, scale, header);
      const [top, left] = [part.top / scale - box.top, part.left / scale - box.left];
      const within = { top, left, height: part.height / scale, width: part.width / scale };
      const made = (image: Image) => {
        const out = resized(image, part.to, part.resample, within, part.kept);
        return out === image ? { ...image, data: new Uint8Array(image.data) } : out; // a Buffer's `slice` is none
      };
      return await withRoom(header.width * header.height / scale ** 2, async () => {
        const quick = header.scales && !header.cmyk && scale === 1 && await this.#byEngine(bytes, box, made);
        if (quick) return quick;
        const image = this.#kept.get(row) ?? await this.#decoded(bytes, header, box, scale);
        const keeps = small && !this.#kept.has(row) && (this.#keptBytes += image.data.length) <= KEPT;
        if (keeps) this.#kept.set(row, image);
        return made(image);
      });
    } catch (cause) {
      if (cause instanceof DataError) throw cause;
      const got = `expected a whole JPEG, PNG or WebP image, but ${(cause as Error).message.trim()}`;
      const remedy = 'remove it, or leave out such images with broken: "skip"';
      throw new DataError("image", this.source.nameOf(row), `${got}; ${remedy}`, { cause });
    }
  }

  /** Pixels of a file in this data set's channels. */
  #image(rgb: Uint8Array, { height, width }: Extent): Image {
    const { channels = 3 } = this.options;
    return { data: channels === 1 ? luma({ data: rgb, channels: 3 }) : rgb, width, height, channels };
  }

  /**
   * What `made` makes of a box of a JPEG; undefined where the engine decodes none, or not this one. Its decoder gives the same
   * bytes in half the time, and does not see what is missing below the box: only files that have their end.
   */
  async #byEngine(bytes: Uint8Array, box: Box, made: (rgb: Image) => Image): Promise<Image | undefined> {
    if (bytes.at(-2) !== 0xff || bytes.at(-1) !== 0xd9) return undefined;
    return await jpegDecoder()?.(bytes, box, (rgb) => made(this.#image(rgb, box))).catch(() => undefined);
  }

  /** A box of an image that is decoded at a fraction of its size. */
  async #decoded(bytes: Uint8Array, header: Header, box: Box, scale: number): Promise<Image> {
    const { top, left, height, width } = box, { cmyk } = header;
    const all = { height: header.height / scale, width: header.width / scale };
    let image = this.#open(bytes);
    if (scale > 1) image = image.resize({ ...all, fit: "fill" });
    if (height < all.height || width < all.width) image = image.extract({ left, top, width, height });
    image = cmyk ? image.pipelineColourspace("cmyk") : image.removeAlpha();
    const data = await image.toColourspace(cmyk ? "cmyk" : "srgb").raw().toBuffer();
    return this.#image(cmyk ? cmykToRgb(data) : data, box);
  }
}

/** What the options of decoding may be. */
export const DECODING = {
  ...{ size: count, maxPixels: count, resample: RESAMPLE, channels: oneOf(1, 3), orient: flag },
  broken: oneOf("throw", "skip"),
};

const REASONS = 5;

/** How many images or files were left out for each of the first reasons. */
export function summary(skipped: readonly DataError[]): string {
  const alike = Map.groupBy(skipped, ({ file, message }) => message.slice(file.length + 2));
  const reasons = [...alike].map(([why, { length }]) => `${length} × ${why}`),
    more = reasons.length - REASONS;
  return [...reasons.slice(0, REASONS), ...more > 0 ? [`and ${more} reasons more`] : []].join("; ");
}

interface Origin extends Pick<Source, "fingerprint" | "contents" | "maskOf"> {
  decoder: Decoder;
  /** How images look where nothing cuts parts out of them. */
  view: Transform;
  /** What else decides about the pixels. */
  decoding: string;
  /** What was left out. */
  left: readonly DataError[];
}

/** Some of the images of a source. */
export class EncodedDataset extends Fetched<Whole & Origin> {
  /**
   * Opens a source. Throws a `DataError` if it is empty, or the first image decides about the size and is none; a
   * `RangeError` if an option cannot be.
   */
  static async open(
    source: Source,
    { broken, ...options }: EncodedOptions,
    left: readonly DataError[] = [],
  ): Promise<EncodedDataset & EncodedImages> {
    if (broken === "skip" && source.labels.length > 0) {
      const all = await EncodedDataset.open(source, { ...options, size: 1 });
      const tried = await Array.fromAsync(ahead(all.length, (row) => all.get(row).catch((error) => error)));
      const isBroken = (got: unknown) => got instanceof DataError;
      const whole = [...tried.keys()].filter((row) => !isBroken(tried[row]));
      return await EncodedDataset.open(source.only!(whole), options, [...left, ...tried.filter(isBroken)]);
    }
    const { resample = "bicubic", channels = 3 } = options;
    if (source.labels.length === 0) {
      const others = left.length > 0 ? `; left out: ${summary(left)}` : "";
      throw new DataError("count", source.name, `expected images, found none${others}`);
    }
    const { default: sharp } = await import("sharp");
    sharp.cache(false);
    sharp.concurrency(1); // for one image, since several are decoded beside one another
    const decoder = new Decoder(sharp, source, options);
    let side = options.size ?? 0;
    if (options.size === undefined) {
      await decoder.part(0, (first) => {
        side = Math.min(first.height, first.width);
        return { ...wholeOf(first), to: { height: 1, width: 1 }, resample };
      });
    }
    const view = compose(resize(side, resample), centerCrop(side));
    const decoding = JSON.stringify([side, channels, resample, options.orient ?? true]);
    const whole = { ...source, height: side, width: side, channels, decoder, view, decoding, left };
    return Object.assign(new EncodedDataset(whole), { skipped: left });
  }

  override toString(): string {
    const text = super.toString(), { left, labels } = this.whole;
    if (left.length === 0 || this.length < labels.length) return text;
    return `${text.replace(/$/m, `, ${left.length} left out`)}\nleft out: ${summary(left)}`;
  }

  /** Of the source, and of which of its images these are. */
  get fingerprint(): string {
    return hashOf(this.whole.fingerprint, this.rows);
  }

  override async contents(): Promise<string> {
    return hashOf(this.whole.decoding + await this.whole.contents(), this.rows);
  }

  override original(i: number): Promise<Image> {
    return this.#part(this.checked(i), (image) => ({ ...wholeOf(image), to: image, resample: "bilinear" }));
  }

  /** A part of an image, and of its mask. */
  async #part(i: number, choose: (image: Extent) => Part): Promise<Image> {
    const { decoder, maskOf } = this.whole, row = this.rows[i]!;
    let mask: Promise<Uint8Array> | undefined;
    const made = await decoder.part(row, (image) => {
      const part = choose(image);
      mask = maskOf?.(row, image).then((whole) => nearest(whole, image, part));
      mask?.catch(() => {}); // it is thrown below
      return part;
    });
    return mask ? { ...made, mask: await mask } : made;
  }

  /** The same images, each brought to a size whatever its own sides are. */
  squeezed(size: Extent, resample: Resample): EncodedDataset {
    const { begins } = resize(size, resample);
    const decoding = JSON.stringify([size, resample, this.whole.decoding]);
    const part = (image: Extent, random: Random) => ({ ...begins!.part(image, random), exact: true });
    const view: Transform = Object.assign((image: Image) => image, { begins: { ...begins!, part } });
    return new EncodedDataset({ ...this.whole, ...size, view, decoding }, this.rows);
  }

  protected override async pixels(i: number, random: Random, change?: Change): Promise<Made> {
    const { view } = this.whole, transform = change?.transform ?? view;
    const { part, rest } = (transform.begins ? transform : compose(view, transform)).begins!;
    const begun = await this.#part(i, (image) => part(image, random));
    const { height, width } = change?.size ?? this;
    return madeOf(begun, rest(begun, random), [height, width, this.channels], i, transform);
  }
}

/** How images come to a network's size. */
export type Prepare = "crop" | "official";

/** What may be said of it. */
export const PREPARE = oneOf("crop", "official");

/** Pillow's numbers of its filters. */
const FILTERS: Readonly<Record<number, Resample>> = { 2: "bilinear", 3: "bicubic" };

/**
 * Images as probes read them: as they are, or as a model's image processor makes them of encoded ones.
 *
 * @throws {RangeError} If they are not encoded and have another size, or the processor another filter than those two.
 */
export function prepared(set: Dataset, processor: Preprocessor, prepare: Prepare = "crop"): Dataset {
  const { size: { height, width }, resample } = processor, filter = FILTERS[resample];
  if (prepare === "crop") return set;
  expect(filter !== undefined, "preprocessor: resample", "2, bilinear, or 3, bicubic", resample);
  if (set instanceof EncodedDataset) return set.squeezed({ height, width }, filter);
  const fits = set.height === height && set.width === width, got = `${set.height}x${set.width}`;
  const others = 'or encoded ones such as imageFolder\'s, where prepare is "official"';
  expect(fits, set.name, `images of ${height}x${width}, ${others}`, got);
  return set;
}
