/** Small changes to files of any kind: to bytes, and to the words of a text. @module */
import type { Random } from "nepa";

/** Numbers at which sizes and places in a file change their meaning. */
const EDGES = [0, 1, 0x7f, 0x80, 0xff, 0x7fff, 0xffff, 0x7fffffff, 0x80000000, 0xffffffff];

/** What may stand in the place of a value of a text. */
const VALUES = [
  ...["0", "-1", "1.5", "1e9", "1e400", "9007199254740993", "NaN", "null", "true", '""', '"x"', "[]", "{}"],
  ...['"\\ud800"', '"\u001b[2J"', '"../../x"', '"__proto__"', "[".repeat(200), "\0", ",", '"', "\\", ""],
];

/** A part of `bytes` in another place, or other bytes in its place. */
function splice(bytes: Uint8Array, at: number, gone: number, piece: Uint8Array): Uint8Array<ArrayBuffer> {
  const out = new Uint8Array(
    Math.min(bytes.length, at) + piece.length + Math.max(0, bytes.length - at - gone),
  );
  out.set(bytes.subarray(0, at));
  out.set(piece, at);
  out.set(bytes.subarray(at + gone), at + piece.length);
  return out;
}

/** Bytes with one change, at `from` or after. */
export function changeBytes(bytes: Uint8Array, random: Random, from = 0): Uint8Array<ArrayBuffer> {
  const copy = new Uint8Array(bytes), at = from + random.integer(Math.max(1, bytes.length - from));
  const length = 1 + random.integer(16), other = random.integer(bytes.length || 1);
  const edge = EDGES[random.integer(EDGES.length)]!, view = new DataView(copy.buffer);
  switch (random.integer(7)) {
    case 0:
      copy[at]! ^= 1 << random.integer(8);
      return copy;
    case 1:
      copy[at] = random.integer(256);
      return copy;
    case 2:
      if (at + 4 <= copy.length) view.setUint32(at, edge, random.uniform() < 0.5);
      return copy;
    case 3:
      return splice(bytes, at, length, new Uint8Array(0));
    case 4:
      return splice(bytes, at, 0, Uint8Array.from({ length }, () => random.integer(256)));
    case 5:
      return splice(bytes, at, 0, bytes.subarray(other, other + 8 * length));
    default:
      return copy.slice(0, at);
  }
}

/** A text with one of its words, numbers or signs changed. */
export function changeText(text: string, random: Random): string {
  const tokens = text.match(/"(?:[^"\\]|\\.)*"|-?[\d.]+(?:e[+-]?\d+)?|\w+|\s+|./gs) ?? [""];
  const values = tokens.flatMap((token, i) => /^["\d-]|^\w/.test(token) ? [i] : []);
  const at = values.length > 0 && random.uniform() < 0.8
    ? values[random.integer(values.length)]!
    : random.integer(tokens.length);
  const other = tokens[random.integer(tokens.length)]!, value = VALUES[random.integer(VALUES.length)]!;
  const piece = random.uniform() < 0.7 ? value : other;
  return tokens.toSpliced(at, random.uniform() < 0.9 ? 1 : 1 + random.integer(4), piece).join("");
}

/** One to three changes; a text's are half of the time to its words. */
export function changed(bytes: Uint8Array, random: Random, { text = false, from = 0 } = {}): Uint8Array {
  for (let changes = 1 + random.integer(3); changes > 0 && bytes.length > 0; changes--) {
    bytes = text && random.uniform() < 0.8
      ? new TextEncoder().encode(changeText(new TextDecoder().decode(bytes), random))
      : changeBytes(bytes, random, Math.min(from, bytes.length - 1));
  }
  return bytes;
}
