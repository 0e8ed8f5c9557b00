/** What tests look at pictures with. @module */
import { inflateSync } from "node:zlib";
import type { Pixels } from "../../lib/display/png.ts";

/** Reads an 8-bit PNG by the book (all five row filters), to see what was drawn. */
export function decodePng(file: Uint8Array): Pixels {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength), parts: Uint8Array[] = [];
  const [width, height] = [view.getUint32(16), view.getUint32(20)],
    channels = { 0: 1, 2: 3, 6: 4 }[file[25]!]!;
  for (let at = 8; at < file.length; at += 12 + view.getUint32(at)) {
    const type = new TextDecoder().decode(file.subarray(at + 4, at + 8));
    if (type === "IDAT") parts.push(file.subarray(at + 8, at + 8 + view.getUint32(at)));
  }
  const raw = inflateSync(new Uint8Array(parts.flatMap((p) => [...p]))), row = width * channels;
  const data = new Uint8Array(height * row);
  for (let y = 0; y < height; y++) {
    for (let i = 0; i < row; i++) {
      const a = i < channels ? 0 : data[y * row + i - channels]!, b = y === 0 ? 0 : data[(y - 1) * row + i]!;
      const c = i < channels || y === 0 ? 0 : data[(y - 1) * row + i - channels]!, p = a + b - c;
      const paeth = Math.abs(p - a) <= Math.abs(p - b) && Math.abs(p - a) <= Math.abs(p - c)
        ? a
        : Math.abs(p - b) <= Math.abs(p - c)
        ? b
        : c;
      data[y * row + i] = raw[y * (row + 1) + 1 + i]! + [0, a, b, (a + b) >> 1, paeth][raw[y * (row + 1)]!]!;
    }
  }
  return { data, width, height, channels };
}

/** Share of pixels that are not white in a part of a picture. */
export function inkIn(
  { data, width, channels }: Pixels,
  left: number,
  top: number,
  right: number,
  bottom: number,
): number {
  let inked = 0;
  for (let y = top; y < bottom; y++) {
    for (let x = left; x < right; x++) if (data[(y * width + x) * channels + 1]! < 250) inked++;
  }
  return inked / ((right - left) * (bottom - top));
}

/** A pixel's colour as "#rrggbb". */
export function colorAt({ data, width, channels }: Pixels, x: number, y: number): string {
  return "#" +
    [0, 1, 2].map((c) => data[(y * width + x) * channels + c]!.toString(16).padStart(2, "0")).join("");
}
