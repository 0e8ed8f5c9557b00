// AssemblyScript: resampling of 8-bit images. Addresses are in bytes; up to 16 bytes after what is read are read too, and
// up to 16 after what is written are written. Compiled by build.ts; a change is not in use until that has run.
//
// A table has, for each place of the result, `stride` words: the first source place, how many there are, their weights
// in units of 2^-22.

const HALF: i32 = 1 << 21;

function first(table: usize): i32 {
  return load<i32>(table);
}

function taps(table: usize): i32 {
  return load<i32>(table + 4);
}

function weight(table: usize, k: i32): v128 {
  return v128.load32_splat(table + 8 + (<usize> k << 2));
}

function term(bytes: v128, w: v128): v128 {
  return i32x4.mul(i32x4.extend_low_i16x8_u(i16x8.extend_low_i8x16_u(bytes)), w);
}

/** The first `n` of four sums as bytes, from 0 to 255. */
function put(to: usize, sum: v128, n: i32): void {
  const words = i32x4.shr_s(sum, 22), halves = i16x8.narrow_i32x4_s(words, words);
  const bytes = i8x16.narrow_i16x8_u(halves, halves);
  if (n >= 4) return v128.store32_lane(to, bytes, 0);
  if (n > 1) v128.store16_lane(to, bytes, 0);
  if (n == 1) v128.store8_lane(to, bytes, 0);
  if (n == 3) v128.store8_lane(to + 2, bytes, 2);
}

/** Rows of `line` bytes to `count` rows. */
export function resampleRows(from: usize, line: i32, to: usize, count: i32, table: usize, stride: i32): void {
  for (let i = 0; i < count; i++, to += line, table += <usize> stride << 2) {
    const start = from + first(table) * line, n = taps(table);
    for (let c = 0; c < line; c += 16) {
      let s0 = i32x4.splat(HALF), s1 = s0, s2 = s0, s3 = s0;
      for (let k = 0, p = start + c; k < n; k++, p += line) {
        const x = v128.load(p), w = weight(table, k);
        const low = i16x8.extend_low_i8x16_u(x), high = i16x8.extend_high_i8x16_u(x);
        s0 = i32x4.add(s0, i32x4.mul(i32x4.extend_low_i16x8_u(low), w));
        s1 = i32x4.add(s1, i32x4.mul(i32x4.extend_high_i16x8_u(low), w));
        s2 = i32x4.add(s2, i32x4.mul(i32x4.extend_low_i16x8_u(high), w));
        s3 = i32x4.add(s3, i32x4.mul(i32x4.extend_high_i16x8_u(high), w));
      }
      const a = i16x8.narrow_i32x4_s(i32x4.shr_s(s0, 22), i32x4.shr_s(s1, 22));
      const b = i16x8.narrow_i32x4_s(i32x4.shr_s(s2, 22), i32x4.shr_s(s3, 22));
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
      const n = taps(t);
      for (let at = 0; at < channels; at += 4) {
        let s0 = i32x4.splat(HALF), s1 = s0, s2 = s0, s3 = s0;
        for (let k = 0, p = from + first(t) * channels + at; k < n; k++, p += channels) {
          const w = weight(t, k);
          s0 = i32x4.add(s0, term(v128.load32_zero(p), w));
          s1 = i32x4.add(s1, term(v128.load32_zero(p + b), w));
          s2 = i32x4.add(s2, term(v128.load32_zero(p + c), w));
          s3 = i32x4.add(s3, term(v128.load32_zero(p + d), w));
        }
        const o = to + i * channels + at, rest = channels - at;
        put(o, s0, rest);
        put(o + B, s1, rest);
        put(o + C, s2, rest);
        put(o + D, s3, rest);
      }
    }
  }
}
