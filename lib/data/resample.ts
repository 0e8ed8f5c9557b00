/** Pillow's resampling of 8-bit images, reproduced bit for bit. @module */
import type { Box } from "@nepa/engine";
import type { Image } from "./dataset.ts";
import { expect } from "../base/check.ts";
import { KERNELS as BINARY } from "./resample_binary.ts";

type Extent = Pick<Image, "height" | "width">;

/** How pixels between pixels are found. */
export type Resample = "bilinear" | "bicubic";

/** How far each filter reaches, and what a pixel at a distance weighs. Bicubic: Keys' with a = -0.5. */
const FILTERS: Record<Resample, [support: number, weight: (x: number) => number]> = {
  bilinear: [1, (x) => Math.max(0, 1 - x)],
  bicubic: [2, (x) => x < 1 ? (1.5 * x - 2.5) * x * x + 1 : x < 2 ? ((-0.5 * x + 2.5) * x - 4) * x + 2 : 0],
};

/** Fractional bits of the integer weights, as in Pillow: 8 bits of value and 2 of headroom are left of 32. */
const BITS = 22;

/** How many of them the kernels take apart, so that both parts fit into 16. */
const LOWER = 11;

/** What `kernels/resample.ts` exports. */
interface Kernels {
  resampleRows(from: number, line: number, to: number, count: number, table: number, stride: number): void;
  /** from, lines, bytes from one to the next, channels, to, count, table, stride. */
  resampleColumns(...args: number[]): void;
}

/** Bytes between what lies side by side in the kernels' memory, since they read and write a little too far. */
const GAP = 64;

/** Memory above this is let go of after use; more than the most is not asked for. */
const KEPT = 2 ** 26, MOST = 2 ** 31;
let room: { memory: WebAssembly.Memory; kernels: Kernels } | undefined;

/** Memory of at least so many bytes, and the kernels that work in it. */
function roomFor(bytes: number): { memory: WebAssembly.Memory; kernels: Kernels } {
  if (room && room.memory.buffer.byteLength >= bytes) return room;
  const memory = new WebAssembly.Memory({ initial: Math.ceil(bytes / 65536) });
  const module = new WebAssembly.Module(Uint8Array.fromBase64(BINARY));
  const kernels = new WebAssembly.Instance(module, { env: { memory } }).exports as unknown as Kernels;
  return room = { memory, kernels };
}

/**
 * For some of the `to` places on the pixels from `start` to `end`, `places` from the one numbered `first`, the first pixel, how many
 * pairs of them, and each pair's integer weights, of both the upper bits and the lower bits, two to a number; `stride` numbers
 * in all. `low` and `high` are the first pixel that is read and that after the last.
 */
function weights(start: number, end: number, to: number, resample: Resample, first: number, places: number) {
  const [base, weight] = FILTERS[resample], from = Math.floor(start), until = Math.ceil(end);
  const scale = (end - start) / to, spread = Math.max(scale, 1), support = base * spread;
  const most = Math.ceil(support) * 2 + 1, stride = 2 + 2 * Math.ceil(most / 2);
  const exact = new Float64Array(most), table = new Int32Array(places * stride);
  const halves = new Int16Array(table.buffer);
  let high = from;
  for (let i = 0; i < places; i++) {
    const centre = start + (first + i + 0.5) * scale, at = i * stride;
    const low = Math.max(from, Math.trunc(centre - support + 0.5));
    const count = Math.min(until, Math.trunc(centre + support + 0.5)) - low;
    let sum = 0;
    for (let k = 0; k < count; k++) {
      sum += exact[k] = weight(Math.abs((k + low - centre + 0.5) * (1 / spread)));
    }
    table[at] = low;
    high = low + count;
    table[at + 1] = Math.ceil(count / 2);
    for (let k = 0; k < count; k++) {
      const scaled = exact[k]! / sum * (1 << BITS);
      const rounded = Math.trunc(scaled < 0 ? scaled - 0.5 : scaled + 0.5);
      const place = 2 * (at + 2 + (k & ~1)) + (k & 1); // in 16 bits: a pair's upper halves, then its lower ones
      halves[place] = rounded >> LOWER;
      halves[place + 2] = rounded & ((1 << LOWER) - 1);
    }
  }
  return { table, stride, low: table[0]!, high };
}

/** What a mask becomes where its image is {@linkcode resized}: each place has the class of one pixel, by torchvision's rule for masks. */
export function nearest(mask: Uint8Array, image: Extent, part: Box & { to: Extent; kept?: Box }): Uint8Array {
  const { to, top, left, height, width, kept = { top: 0, left: 0, ...to } } = part;
  const places = (start: number, from: number, to: number, first: number, count: number, end: number) => {
    const scale = Math.fround(from / to), at = (i: number) => Math.floor(Math.fround((first + i) * scale));
    return Int32Array.from({ length: count }, (_, i) => Math.min(end, Math.floor(start) + at(i)));
  };
  const rows = places(top, height, to.height, kept.top, kept.height, image.height - 1);
  const columns = places(left, width, to.width, kept.left, kept.width, image.width - 1);
  const out = new Uint8Array(rows.length * columns.length);
  let i = 0;
  for (const y of rows) for (const x of columns) out[i++] = mask[y * image.width + x]!;
  return out;
}

function refuseLarge(bytes: number): void {
  expect(bytes <= MOST, "resize", `at most ${MOST} bytes to work in`, `${bytes}; cut a part out first`);
}

/**
 * A part of an image at another size; its edges may lie between pixels. Each axis has its own pass, rounded to 8 bits, so their order shows. Since version 13
 * Pillow begins with the rows where the height shrinks by more than twice as many pixels as the width; before, always with
 * the columns.
 *
 * @param kept What of the resized part is wanted, in its pixels: nothing else is computed. Default: all.
 * @throws {RangeError} If that takes more than 2 GiB.
 */
export function resized(
  image: Image,
  { height, width }: Extent,
  resample: Resample,
  box: Box = { top: 0, left: 0, height: image.height, width: image.width },
  kept: Box = { top: 0, left: 0, height, width },
): Image {
  const { channels: C, height: fromHeight, width: fromWidth } = image;
  const whole = kept.height === height && kept.width === width;
  const keepsHeight = height === fromHeight && box.height === fromHeight;
  if (whole && keepsHeight && width === fromWidth && box.width === fromWidth) return image;
  const rowsFirst = box.height - height > 2 * Math.max(0, box.width - width);
  refuseLarge(kept.height * kept.width * C);
  const top = Math.floor(box.top), line = fromWidth * C, from = box.top - top;
  const down = weights(from, from + box.height, height, resample, kept.top, kept.height);
  const across = weights(box.left, box.left + box.width, width, resample, kept.left, kept.width);
  const lines = down.high - down.low;
  for (let at = 0; at < down.table.length; at += down.stride) down.table[at]! -= down.low;
  const data = image.data.subarray((top + down.low) * line, (top + down.high) * line);
  const places = [
    data.length,
    (rowsFirst ? kept.height * fromWidth : lines * kept.width) * C,
    kept.height * kept.width * C,
  ];
  const sizes = [...places, 4 * down.table.length, 4 * across.table.length];
  const ends = sizes.map(((sum) => (size) => sum = 4 * Math.ceil((sum + size + GAP) / 4))(0)); // places on words
  refuseLarge(ends.at(-1)!);
  const [between, to, rows, columns] = ends as [number, number, number, number, number];
  const { memory: { buffer }, kernels: { resampleRows, resampleColumns } } = roomFor(ends.at(-1)!);
  new Uint8Array(buffer).set(data);
  new Int32Array(buffer, rows).set(down.table);
  new Int32Array(buffer, columns).set(across.table);
  if (rowsFirst) {
    resampleRows(0, line, between, kept.height, rows, down.stride);
    resampleColumns(between, kept.height, line, C, to, kept.width, columns, across.stride);
  } else {
    resampleColumns(0, lines, line, C, between, kept.width, columns, across.stride);
    resampleRows(between, kept.width * C, to, kept.height, rows, down.stride);
  }
  const out = new Uint8Array(buffer, to, places[2]).slice();
  if (buffer.byteLength > KEPT) room = undefined;
  return { data: out, height: kept.height, width: kept.width, channels: C };
}
