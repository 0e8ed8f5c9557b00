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
