/** The fonts that figures are drawn with, and how wide their letters are. @module */
import { createRequire } from "node:module";

/** Paths of DejaVu Sans, regular and bold, as npm ships them: with them a figure looks the same on every machine. */
export async function fontFiles(): Promise<{ regular: string; bold: string }> {
  await import("dejavu-fonts-ttf/package.json", { with: { type: "json" } }); // brings the package into the cache
  const { resolve } = createRequire(Deno.execPath());
  return {
    regular: resolve("dejavu-fonts-ttf/ttf/DejaVuSans.ttf"),
    bold: resolve("dejavu-fonts-ttf/ttf/DejaVuSans-Bold.ttf"),
  };
}

/**
 * Reads the advance widths of a TrueType font (OpenType specification: tables `head`, `hhea`, `hmtx` and `cmap` format 12).
 *
 * @param bytes The font file.
 * @returns The width of a text in ems (multiples of the font size), without kerning.
 * @throws {TypeError} If the font has no character map of that format.
 */
export function textMeasure(bytes: Uint8Array): (text: string) => number {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const tables = new Map<string, number>();
  for (let i = 0; i < view.getUint16(4); i++) { // records of tag, checksum, offset, length
    const at = 12 + 16 * i;
    tables.set(String.fromCharCode(...bytes.subarray(at, at + 4)), view.getUint32(at + 8));
  }
  const table = (tag: string) => tables.get(tag) ?? 0;
  const unitsPerEm = view.getUint16(table("head") + 18), measured = view.getUint16(table("hhea") + 34);
  let groups = 0;
  for (let i = 0; i < view.getUint16(table("cmap") + 2); i++) { // records of platform, encoding, offset
    const at = table("cmap") + view.getUint32(table("cmap") + 8 + 8 * i);
    if (view.getUint16(at) === 12) groups = at + 12;
  }
  if (groups === 0) throw new TypeError("font: expected a character map of format 12, got none");
  const glyph = (code: number) => {
    for (let i = 0, at = groups + 4; i < view.getUint32(groups); i++, at += 12) { // first, last, glyph of the first
      if (code <= view.getUint32(at + 4)) {
        return code < view.getUint32(at) ? 0 : view.getUint32(at + 8) + code - view.getUint32(at);
      }
    }
    return 0;
  };
  const widths = new Map<string, number>();
  const width = (char: string) => {
    const index = Math.min(glyph(char.codePointAt(0)!), measured - 1); // the last width holds for all that follow
    return view.getUint16(table("hmtx") + 4 * index) / unitsPerEm;
  };
  return (text) =>
    [...text].reduce((sum, char) => {
      if (!widths.has(char)) widths.set(char, width(char));
      return sum + widths.get(char)!;
    }, 0);
}
