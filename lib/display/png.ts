/** PNG files from pixels. @module */
import { Buffer } from "node:buffer";
import { crc32, deflateSync, inflateSync } from "node:zlib";
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

/** The pixels of an 8-bit PNG file that is not interlaced: grey, RGB or RGBA. Throws a `RangeError` if it is none. */
export function decodePng(file: Uint8Array): Pixels & { data: Uint8Array } {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength), parts: Uint8Array[] = [];
  const kinds: Record<string, number> = { "8,0,0,0,0": 1, "8,2,0,0,0": 3, "8,6,0,0,0": 4 };
  const kind = file.subarray(24, 29).join(), channels = kinds[kind] ?? 0;
  expect(channels > 0, "PNG", "8 bits, grey, RGB or RGBA, not interlaced", kind || "nothing");
  const [width, height] = [view.getUint32(16), view.getUint32(20)], row = width * channels;
  for (let at = 8; at + 8 <= file.length; at += 12 + view.getUint32(at)) {
    const type = String.fromCharCode(...file.subarray(at + 4, at + 8));
    if (type === "IDAT") parts.push(file.subarray(at + 8, at + 8 + view.getUint32(at)));
  }
  const raw = inflateSync(Buffer.concat(parts)), data = new Uint8Array(height * row);
  expect(raw.length === height * (row + 1), "PNG", `${height * (row + 1)} bytes`, raw.length);
  for (let y = 0, i = 0; y < height; y++) {
    const filter = raw[y * (row + 1)]!;
    for (let x = 0; x < row; x++, i++) {
      const a = x < channels ? 0 : data[i - channels]!, b = y === 0 ? 0 : data[i - row]!;
      const c = x < channels || y === 0 ? 0 : data[i - row - channels]!;
      const [pa, pb, pc] = [Math.abs(b - c), Math.abs(a - c), Math.abs(a + b - 2 * c)];
      const paeth = pa <= pb && pa <= pc ? a : pb <= pc ? b : c;
      const guess = [0, a, b, (a + b) >> 1, paeth][filter] ?? paeth;
      data[i] = raw[i + y + 1]! + guess;
    }
  }
  return { data, height, width, channels };
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
