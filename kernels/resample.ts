// AssemblyScript: resampling of 8-bit images. Addresses are in bytes. Where places come to an odd number, one more row
// or pixel is read, and counts for nothing; up to 16 bytes after what is read are read too, and up to 16 after what is
// written are written. Compiled by build.ts; a change is not in use until that has run.
//
// A table has, for each place of the result, `stride` words: the first source place, how many pairs of them there are,
// and for each pair two words of two 16-bit halves each: what its weights, in units of 2^-22, have above the lower 11 bits,
// and those. Products of pairs of 16-bit numbers are quicker than products of words.

const HALF: i32 = 1 << 21;

function first(table: usize): i32 {
  return load<i32>(table);
}

function pairs(table: usize): i32 {
  return load<i32>(table + 4);
}

function upper(table: usize, k: i32): v128 {
  return v128.load32_splat(table + 8 + (<usize> k << 3));
}

function lower(table: usize, k: i32): v128 {
  return v128.load32_splat(table + 12 + (<usize> k << 3));
}

/** Sums of the upper and of the lower parts, as one, back from units of 2^-22. */
function whole(high: v128, low: v128): v128 {
  return i32x4.shr_s(i32x4.add(i32x4.shl(high, 11), i32x4.add(low, i32x4.splat(HALF))), 22);
}

/** Four bytes at each of two places, one beside the other: 8 halves. */
function both(p: usize, q: usize): v128 {
  const x = v128.load32_zero(p), y = v128.load32_zero(q);
  return i16x8.extend_low_i8x16_u(
    i8x16.shuffle(x, y, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23),
  );
}

/** The first `n` of four words as bytes, from 0 to 255. */
function put(to: usize, words: v128, n: i32): void {
  const halves = i16x8.narrow_i32x4_s(words, words);
  const bytes = i8x16.narrow_i16x8_u(halves, halves);
  if (n >= 4) return v128.store32_lane(to, bytes, 0);
  if (n > 1) v128.store16_lane(to, bytes, 0);
  if (n == 1) v128.store8_lane(to, bytes, 0);
  if (n == 3) v128.store8_lane(to + 2, bytes, 2);
}

/** Rows of `line` bytes to `count` rows. */
export function resampleRows(from: usize, line: i32, to: usize, count: i32, table: usize, stride: i32): void {
  for (let i = 0; i < count; i++, to += line, table += <usize> stride << 2) {
    const start = from + first(table) * line, n = pairs(table);
    for (let c = 0; c < line; c += 16) {
      let h0 = i32x4.splat(0), h1 = h0, h2 = h0, h3 = h0, l0 = h0, l1 = h0, l2 = h0, l3 = h0;
      for (let k = 0, p = start + c; k < n; k++, p += line << 1) {
        const x = v128.load(p), y = v128.load(p + line), u = upper(table, k), w = lower(table, k);
        const xy = i8x16.shuffle(x, y, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
        const more = i8x16.shuffle(x, y, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
        const x0 = i16x8.extend_low_i8x16_u(xy), x1 = i16x8.extend_high_i8x16_u(xy);
        const x2 = i16x8.extend_low_i8x16_u(more), x3 = i16x8.extend_high_i8x16_u(more);
        h0 = i32x4.add(h0, i32x4.dot_i16x8_s(x0, u));
        h1 = i32x4.add(h1, i32x4.dot_i16x8_s(x1, u));
        h2 = i32x4.add(h2, i32x4.dot_i16x8_s(x2, u));
        h3 = i32x4.add(h3, i32x4.dot_i16x8_s(x3, u));
        l0 = i32x4.add(l0, i32x4.dot_i16x8_s(x0, w));
        l1 = i32x4.add(l1, i32x4.dot_i16x8_s(x1, w));
        l2 = i32x4.add(l2, i32x4.dot_i16x8_s(x2, w));
        l3 = i32x4.add(l3, i32x4.dot_i16x8_s(x3, w));
      }
      const a = i16x8.narrow_i32x4_s(whole(h0, l0), whole(h1, l1));
      const b = i16x8.narrow_i32x4_s(whole(h2, l2), whole(h3, l3));
      v128.store(to + c, i8x16.narrow_i16x8_u(a, b));
    }
  }
}

/** `lines` lines of pixels of `channels` bytes, `fromLine` bytes apart, to lines of `count` pixels. */
export function resampleColumns(
  from: usize,
  lines: i32,
  fromLine: i32,
  channels: i32,
  to: usize,
  count: i32,
  table: usize,
  stride: i32,
): void {
  const toLine = <usize> count * channels, next = <usize> fromLine;
  for (; lines > 0; lines -= 4, from += next << 2, to += toLine << 2) {
    // Of the last lines, those that are missing are read from the first of them, and written as it is.
    const b = lines > 1 ? next : 0, c = lines > 2 ? 2 * next : 0, d = lines > 3 ? 3 * next : 0;
    const B = lines > 1 ? toLine : 0, C = lines > 2 ? 2 * toLine : 0, D = lines > 3 ? 3 * toLine : 0;
    for (let i = 0, t = table; i < count; i++, t += <usize> stride << 2) {
      const n = pairs(t);
      for (let at = 0; at < channels; at += 4) {
        let h0 = i32x4.splat(0), h1 = h0, h2 = h0, h3 = h0, l0 = h0, l1 = h0, l2 = h0, l3 = h0;
        let p = from + first(t) * channels + at;
        for (let k = 0; k < n; k++, p += channels << 1) {
          const u = upper(t, k), w = lower(t, k), q = p + channels;
          const x0 = both(p, q), x1 = both(p + b, q + b), x2 = both(p + c, q + c), x3 = both(p + d, q + d);
          h0 = i32x4.add(h0, i32x4.dot_i16x8_s(x0, u));
          h1 = i32x4.add(h1, i32x4.dot_i16x8_s(x1, u));
          h2 = i32x4.add(h2, i32x4.dot_i16x8_s(x2, u));
          h3 = i32x4.add(h3, i32x4.dot_i16x8_s(x3, u));
          l0 = i32x4.add(l0, i32x4.dot_i16x8_s(x0, w));
          l1 = i32x4.add(l1, i32x4.dot_i16x8_s(x1, w));
          l2 = i32x4.add(l2, i32x4.dot_i16x8_s(x2, w));
          l3 = i32x4.add(l3, i32x4.dot_i16x8_s(x3, w));
        }
        const o = to + i * channels + at, rest = channels - at;
        put(o, whole(h0, l0), rest);
        put(o + B, whole(h1, l1), rest);
        put(o + C, whole(h2, l2), rest);
        put(o + D, whole(h3, l3), rest);
      }
    }
  }
}
