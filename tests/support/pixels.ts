/** What tests look at pictures with. @module */
import type { Pixels } from "../../lib/display/png.ts";

export { decodePng } from "../../lib/display/png.ts";

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
