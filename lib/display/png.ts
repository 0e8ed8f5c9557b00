/** PNG files from pixels. @module */
import { crc32, deflateSync } from "node:zlib";

/** Pixels, 8 bits a channel: [height, width, channels] with 1 (grey), 3 (RGB) or 4 (RGBA) channels. */
export interface Pixels {
  data: ArrayLike<number>;
  height: number;
  width: number;
  channels: number;
}

/** @throws {RangeError} If the channels are not 1, 3 or 4, or the length does not fit the shape. */
export function checkPixels({ data, height, width, channels }: Pixels): void {
  if (![1, 3, 4].includes(channels)) {
    throw new RangeError(`pixels: expected 1, 3 or 4 channels, got ${channels}`);
  }
  if (data.length !== height * width * channels || data.length === 0) {
    throw new RangeError(
      `pixels: expected ${
        height * width * channels
      } values for [${height}, ${width}, ${channels}], got ${data.length}`,
    );
  }
}

function chunk(type: string, data: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(12 + data.length), view = new DataView(bytes.buffer);
  view.setUint32(0, data.length);
  bytes.set(new TextEncoder().encode(type), 4);
  bytes.set(data, 8);
  view.setUint32(8 + data.length, crc32(bytes.subarray(4, 8 + data.length)));
  return bytes;
}

/** The pixels as a PNG file, without loss. */
export function encodePng(pixels: Pixels): Uint8Array<ArrayBuffer> {
  checkPixels(pixels);
  const { data, height, width, channels } = pixels, row = width * channels;
  const raw = new Uint8Array(height * (row + 1)); // each row begins with its filter: 0, none
  for (let y = 0; y < height; y++) {
    for (let i = 0; i < row; i++) raw[y * (row + 1) + 1 + i] = data[y * row + i]!;
  }
  const header = new Uint8Array(13), view = new DataView(header.buffer);
  view.setUint32(0, width);
  view.setUint32(4, height);
  header.set([8, channels === 1 ? 0 : channels === 3 ? 2 : 6], 8); // 8 bits; grey, RGB or RGBA
  const parts = [
    Uint8Array.of(137, 80, 78, 71, 13, 10, 26, 10),
    chunk("IHDR", header),
    chunk("IDAT", deflateSync(raw)),
    chunk("IEND", new Uint8Array()),
  ];
  const file = new Uint8Array(parts.reduce((n, p) => n + p.length, 0));
  parts.reduce((at, part) => (file.set(part, at), at + part.length), 0);
  return file;
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
