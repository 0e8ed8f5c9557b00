/** PNG files from pixels. @module */
import { Buffer } from "node:buffer";
import { crc32, deflateSync } from "node:zlib";
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

/** A number as four bytes, the first the highest. */
function uint32(value: number): Uint8Array {
  return Uint8Array.of(value >>> 24, value >>> 16, value >>> 8, value);
}

function chunk(type: string, data: Uint8Array): Uint8Array {
  const body = Buffer.concat([Buffer.from(type), data]);
  return Buffer.concat([uint32(data.length), body, uint32(crc32(body))]);
}

/** The pixels as a PNG file, without loss. */
export function encodePng(pixels: Pixels): Uint8Array<ArrayBuffer> {
  checkPixels(pixels);
  const { data, height, width, channels } = pixels, row = width * channels;
  const raw = new Uint8Array(height * (row + 1)); // each row begins with its filter: 0, none
  for (let y = 0; y < height; y++) {
    for (let i = 0; i < row; i++) raw[y * (row + 1) + 1 + i] = data[y * row + i]!;
  }
  const kind = Uint8Array.of(8, channels === 1 ? 0 : channels === 3 ? 2 : 6, 0, 0, 0); // 8 bits; grey, RGB or RGBA
  const header = chunk("IHDR", Buffer.concat([uint32(width), uint32(height), kind]));
  const signature = Uint8Array.of(137, 80, 78, 71, 13, 10, 26, 10);
  const [body, end] = [chunk("IDAT", deflateSync(raw)), chunk("IEND", new Uint8Array())];
  return new Uint8Array(Buffer.concat([signature, header, body, end]));
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
