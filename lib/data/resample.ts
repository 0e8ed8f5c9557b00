/** Pillow's resampling of 8-bit images, reproduced bit for bit. @module */
import type { Image } from "./dataset.ts";

/** How pixels between pixels are found. */
export type Resample = "bilinear" | "bicubic";

const FILTERS: Record<Resample, { support: number; weight: (x: number) => number }> = {
  bilinear: { support: 1, weight: (x) => Math.max(0, 1 - Math.abs(x)) },
  bicubic: {
    support: 2,
    weight: (x) => { // Keys' cubic with a = -0.5
      x = Math.abs(x);
      if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
      return x < 2 ? ((-0.5 * x + 2.5) * x - 4) * x + 2 : 0;
    },
  },
};

/** Fractional bits of the integer weights, as in Pillow: 8 bits of value and 2 of headroom are left of 32. */
const BITS = 22;

/** For each of `to` places: the first source pixel, how many, and their integer weights, `stride` apart. */
function weights(from: number, to: number, resample: Resample): {
  first: Int32Array;
  count: Int32Array;
  values: Int32Array;
  stride: number;
} {
  const { support: base, weight } = FILTERS[resample];
  const scale = from / to,
    spread = Math.max(scale, 1),
    support = base * spread,
    stride = Math.ceil(support) * 2 + 1;
  const first = new Int32Array(to), count = new Int32Array(to), values = new Int32Array(to * stride);
  for (let i = 0; i < to; i++) {
    const centre = (i + 0.5) * scale;
    const low = Math.max(0, Math.trunc(centre - support + 0.5)),
      high = Math.min(from, Math.trunc(centre + support + 0.5));
    const exact = Array.from(
      { length: high - low },
      (_, k) => weight((k + low - centre + 0.5) * (1 / spread)),
    );
    const sum = exact.reduce((a, b) => a + b, 0);
    exact.forEach((value, k) => {
      const scaled = value / sum * (1 << BITS);
      values[i * stride + k] = Math.trunc(scaled < 0 ? scaled - 0.5 : scaled + 0.5);
    });
    [first[i], count[i]] = [low, high - low];
  }
  return { first, count, values, stride };
}

/**
 * Resamples one axis of an array seen as [outer, from, inner] to [outer, to, inner]. For columns inner is the channels,
 * for rows a whole line.
 */
function resampled(
  data: Uint8Array,
  [outer, from, inner]: [number, number, number],
  to: number,
  resample: Resample,
): Uint8Array {
  if (from === to) return data;
  const { first, count, values, stride } = weights(from, to, resample);
  const out = new Uint8ClampedArray(outer * to * inner);
  for (let o = 0, at = 0; o < outer; o++) {
    for (let i = 0; i < to; i++) {
      const start = (o * from + first[i]!) * inner, n = count[i]!, row = i * stride;
      for (let c = 0; c < inner; c++) {
        let sum = 1 << (BITS - 1);
        for (let k = 0, p = start + c; k < n; k++, p += inner) sum += data[p]! * values[row + k]!;
        out[at++] = sum >> BITS;
      }
    }
  }
  return new Uint8Array(out.buffer);
}

/**
 * An image at another size. Each axis has its own pass, rounded to 8 bits, so their order shows. Since version 13 Pillow
 * begins with the rows where the height shrinks by more than twice as many pixels as the width; before, always with
 * the columns.
 */
export function resized(
  image: Image,
  { height, width }: { height: number; width: number },
  resample: Resample,
): Image {
  const { data, channels, height: fromHeight, width: fromWidth } = image;
  const columns = (pixels: Uint8Array, lines: number) =>
    resampled(pixels, [lines, fromWidth, channels], width, resample); // [lines, width, C]
  const rows = (pixels: Uint8Array, line: number) =>
    resampled(pixels, [1, fromHeight, line * channels], height, resample); // [height, line, C]
  const rowsFirst = fromHeight - height > 2 * Math.max(0, fromWidth - width);
  const out = rowsFirst ? columns(rows(data, fromWidth), height) : rows(columns(data, fromHeight), width);
  return { data: out, height, width, channels };
}
