/** PNG files from pixels. @module */
import { decode, encode } from "fast-png";
import { expect } from "../base/check.ts";

/** Pixels, 8 bits a channel: [height, width, channels] with 1 (grey), 3 (RGB) or 4 (RGBA) channels. */
export interface Pixels {
  data: ArrayLike<number>;
  height: number;
  width: number;
  channels: number;
}

/** @throws {RangeError} If the channels are not 1, 3 or 4, or the length does not fit the shape. */
export function checkPixels({ data, height, width, channels }: Pixels): void {
  const { length } = data, shape = [height, width, channels], size = height * width * channels;
  expect([1, 3, 4].includes(channels), "pixels", "1, 3 or 4 channels", channels);
  expect(length === size && size > 0, "pixels", `${size} values for [${shape.join(", ")}]`, length);
}

/** The pixels as a PNG file, without loss. */
export function encodePng(pixels: Pixels): Uint8Array<ArrayBuffer> {
  checkPixels(pixels);
  return new Uint8Array(encode({ ...pixels, data: Uint8Array.from(pixels.data) }));
}

/** The pixels of an 8-bit PNG file: grey, RGB or RGBA. Throws an error if it is none. */
export function decodePng(file: Uint8Array): Pixels & { data: Uint8Array } {
  const { data, height, width, channels, depth, palette } = decode(file, { checkCrc: true });
  const kind = palette ? "a palette" : `${depth} bits`;
  expect(kind === "8 bits", "PNG", "8 bits, grey, RGB or RGBA", kind);
  const pixels = { data: new Uint8Array(data), height, width, channels };
  checkPixels(pixels);
  return pixels;
}

/** What the first {@linkcode PNG_HEADER} bytes of a PNG file say. */
export interface PngHeader {
  height: number;
  width: number;
  /** Of a sample: 1, 2, 4, 8 or 16. */
  bits: number;
  kind: "grey" | "RGB" | "palette" | "grey and alpha" | "RGBA";
  interlaced: boolean;
}

/** Bytes that a PNG file's header takes. */
export const PNG_HEADER = 29;
const SIGNATURE = "89504e470d0a1a0a0000000d49484452";
const KINDS: readonly (PngHeader["kind"] | undefined)[] = [
  ...["grey", undefined, "RGB", "palette", "grey and alpha", undefined, "RGBA"] as const,
];

/** The header of a PNG file; undefined if it is none. */
export function pngHeader(file: Uint8Array): PngHeader | undefined {
  if (file.length < PNG_HEADER || file.subarray(0, 16).toHex() !== SIGNATURE) return undefined;
  const view = new DataView(file.buffer, file.byteOffset), kind = KINDS[file[25]!];
  if (!kind) return undefined;
  const size = { width: view.getUint32(16), height: view.getUint32(20) };
  return { ...size, bits: file[24]!, kind, interlaced: file[28] === 1 };
}

/**
 * The samples [height, width] of a grey or palette PNG file as they are stored: of a palette the indices, of grey nothing is
 * scaled. Throws an error if it is none, or damaged.
 */
export function pngSamples(file: Uint8Array): Uint8Array | Uint16Array {
  const { height, width, bits, kind, interlaced } = pngHeader(file) ?? {} as PngHeader;
  expect(kind === "grey" || kind === "palette", "PNG", "grey or a palette", kind);
  expect(bits >= 8 || !interlaced, "PNG", `${bits} bits without interlacing`, "interlacing; save it without");
  const { data } = decode(file, { checkCrc: true }), line = Math.ceil(width * bits / 8);
  if (bits >= 8) return data as Uint8Array | Uint16Array;
  const out = new Uint8Array(height * width), each = 8 / bits, most = 2 ** bits - 1;
  for (let y = 0, i = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const byte = data[y * line + Math.floor(x / each)]!, shift = bits * (each - 1 - x % each);
      out[i++] = byte >> shift & most;
    }
  }
  return out;
}

/** A PNG file as a URL that holds it. */
export function pngUrl(pixels: Pixels): string {
  return `data:image/png;base64,${encodePng(pixels).toBase64()}`;
}

/** Every pixel repeated `times` down and across, so that browsers and printers keep it square. */
export function enlarge({ data, height, width, channels }: Pixels, times: number): Pixels {
  const [h, w] = [height * times, width * times], out = new Uint8Array(h * w * channels);
  for (let y = 0, i = 0; y < h; y++) {
    for (let x = 0; x < w; x++) {
      const from = (Math.floor(y / times) * width + Math.floor(x / times)) * channels;
      for (let c = 0; c < channels; c++) out[i++] = data[from + c]!;
    }
  }
  return { data: out, height: h, width: w, channels };
}
