/** Masks laid over pictures in their classes' colours. @module */
import { palette } from "./figure.ts";
import type { LegendEntry } from "./pictures.ts";
import type { Pixels } from "./png.ts";

type Color = readonly [red: number, green: number, blue: number];

/** A class's colour: the palette's, then hues as far from one another as can be, lighter and darker. */
export function classColor(k: number): Color {
  const own = palette[k];
  if (own) return [...Uint8Array.fromHex(own.slice(1))] as unknown as Color;
  const hue = 6 * ((0.82 + k * 0.618034) % 1), light = [0.85, 0.6, 0.95][k % 3]!;
  const part = (shift: number) => {
    const place = (hue + shift) % 6, share = Math.min(1, Math.max(0, Math.abs(place - 3) - 1));
    return Math.round(255 * light * (0.25 + 0.75 * share));
  };
  return [part(0), part(4), part(2)];
}

/**
 * A picture with a mask over it.
 *
 * @param picture Grey or RGB.
 * @param mask [height, width] classes; a number of 255, none, shows the picture as it is.
 * @param opacity Of the mask, 0 to 1. At 1 the colours alone are seen.
 */
export function overlaid({ data, height, width, channels }: Pixels, mask: Uint8Array, opacity = 0.6): Pixels {
  const out = new Uint8ClampedArray(height * width * 3), none = 255;
  const colors = Array.from({ length: none }, (_, k) => classColor(k));
  for (let i = 0; i < height * width; i++) {
    const color = colors[mask[i]!];
    for (let c = 0; c < 3; c++) {
      const own = data[i * channels + (channels === 1 ? 0 : c)]!;
      out[3 * i + c] = color ? opacity * color[c]! + (1 - opacity) * own : own;
    }
  }
  return { data: out, height, width, channels: 3 };
}

/** Classes shown at most. */
const MOST = 16;

/** The classes of masks, the most frequent of them, in their order. */
export function legendOf(classes: readonly string[], masks: readonly Uint8Array[]): LegendEntry[] {
  const counts = new Float64Array(256);
  for (const mask of masks) for (const k of mask) counts[k]!++;
  const seen = classes.map((_, k) => k).filter((k) => counts[k]! > 0).sort((a, b) => counts[b]! - counts[a]!);
  return seen.slice(0, MOST).sort((a, b) => a - b).map((k) => ({
    name: classes[k]!,
    color: `rgb(${classColor(k)})`,
  }));
}
