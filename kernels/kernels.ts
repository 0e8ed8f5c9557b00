// deno-lint-ignore-file prefer-const
// AssemblyScript: the kernels of the WebAssembly engine. They work on tfjs' memory, by addresses and sizes in bytes
// unless it says "words", which are 4 bytes. Compiled by build.ts; a change is not in use until that has run.
//
// V8 checks the bounds of each load and store here, so that the matrix product is written to load little: one vector
// of the left side, exchanged in place, meets two of the right.

/** Products are cut to at most so many terms; a block of the left side to so many rows, of the right to columns. */
const DEPTH: i32 = 256;
const ROWS: i32 = 64;
const COLUMNS: i32 = 256;

/** Bytes that `product` needs to work in. */
export function scratchBytes(): i32 {
  return 4 * (DEPTH * (ROWS + COLUMNS) + 4 * 8);
}

/** Four lines of k numbers, `line` apart, to [k, 4], rows `toStep` apart; lines from `lines` on are zeros. */
function pack(from: usize, to: usize, k: i32, line: usize, step: usize, lines: i32, toStep: usize): void {
  if (lines >= 4 && line == 4) {
    for (; k > 0; k--, from += step, to += toStep) v128.store(to, v128.load(from));
    return;
  }
  if (lines >= 4 && step == 4) {
    for (; k >= 4; k -= 4, from += 16) {
      const a = v128.load(from), b = v128.load(from + line);
      const c = v128.load(from + 2 * line), d = v128.load(from + 3 * line);
      const ab = v128.shuffle<f32>(a, b, 0, 4, 1, 5), AB = v128.shuffle<f32>(a, b, 2, 6, 3, 7);
      const cd = v128.shuffle<f32>(c, d, 0, 4, 1, 5), CD = v128.shuffle<f32>(c, d, 2, 6, 3, 7);
      v128.store(to, v128.shuffle<i64>(ab, cd, 0, 2));
      v128.store(to + toStep, v128.shuffle<i64>(ab, cd, 1, 3));
      v128.store(to + 2 * toStep, v128.shuffle<i64>(AB, CD, 0, 2));
      v128.store(to + 3 * toStep, v128.shuffle<i64>(AB, CD, 1, 3));
      to += 4 * toStep;
    }
  }
  for (; k > 0; k--, from += step, to += toStep) {
    for (let i = 0; i < 4; i++) {
      store<u32>(to + (i << 2), i < lines ? load<u32>(from + i * line) : 0);
    }
  }
}

function put(at: usize, row: v128, add: bool): void {
  v128.store(at, add ? f32x4.add(v128.load(at), row) : row);
}

/** A 4 x 4 block of which c[j] holds, in lane i, the number of row i ^ j and column i. */
function putBlock(c0: v128, c1: v128, c2: v128, c3: v128, at: usize, step: usize, add: bool): void {
  const t0 = v128.shuffle<f32>(c0, c1, 0, 5, 2, 7), t1 = v128.shuffle<f32>(c1, c0, 0, 5, 2, 7);
  const t2 = v128.shuffle<f32>(c2, c3, 0, 5, 2, 7), t3 = v128.shuffle<f32>(c3, c2, 0, 5, 2, 7);
  put(at, v128.shuffle<f32>(t0, t2, 0, 1, 6, 7), add);
  put(at + step, v128.shuffle<f32>(t1, t3, 0, 1, 6, 7), add);
  put(at + 2 * step, v128.shuffle<f32>(t2, t0, 0, 1, 6, 7), add);
  put(at + 3 * step, v128.shuffle<f32>(t3, t1, 0, 1, 6, 7), add);
}

/** [4, 8] at `to`, rows `toStep` apart, becomes (or gains, if `add`) packed a [k, 4] transposed x packed b [k, 8]. */
function tile(a: usize, b: usize, k: i32, to: usize, toStep: usize, add: bool): void {
  let c00 = f32x4.splat(0), c01 = f32x4.splat(0), c10 = f32x4.splat(0), c11 = f32x4.splat(0);
  let c20 = f32x4.splat(0), c21 = f32x4.splat(0), c30 = f32x4.splat(0), c31 = f32x4.splat(0);
  for (; k > 0; k--) {
    const b0 = v128.load(b), b1 = v128.load(b, 16), a0 = v128.load(a);
    c00 = f32x4.relaxed_madd(a0, b0, c00);
    c01 = f32x4.relaxed_madd(a0, b1, c01);
    const a1 = v128.shuffle<f32>(a0, a0, 1, 0, 3, 2);
    c10 = f32x4.relaxed_madd(a1, b0, c10);
    c11 = f32x4.relaxed_madd(a1, b1, c11);
    const a2 = v128.shuffle<f32>(a0, a0, 2, 3, 0, 1);
    c20 = f32x4.relaxed_madd(a2, b0, c20);
    c21 = f32x4.relaxed_madd(a2, b1, c21);
    const a3 = v128.shuffle<f32>(a0, a0, 3, 2, 1, 0);
    c30 = f32x4.relaxed_madd(a3, b0, c30);
    c31 = f32x4.relaxed_madd(a3, b1, c31);
    a += 16;
    b += 32;
  }
  putBlock(c00, c10, c20, c30, to, toStep, add);
  putBlock(c01, c11, c21, c31, to + 16, toStep, add);
}

/** [rows, columns] at `to` from all tiles of a packed block of the left side and one of the right. */
function block(
  left: usize,
  right: usize,
  depth: i32,
  to: usize,
  toStep: usize,
  rows: i32,
  columns: i32,
  edge: usize,
  add: bool,
): void {
  for (let j = 0; j < columns; j += 8) {
    const b = right + <usize> j * depth * 4, width = min(8, columns - j);
    for (let i = 0; i < rows; i += 4) {
      const a = left + <usize> i * depth * 4, height = min(4, rows - i), at = to + i * toStep + (j << 2);
      if (width == 8 && height == 4) tile(a, b, depth, at, toStep, add);
      else {
        tile(a, b, depth, edge, 32, false);
        copyCorner(edge, at, toStep, height, width, add);
      }
    }
  }
}

/** The part [rows, columns] of a tile that is inside the result. */
function copyCorner(edge: usize, to: usize, toStep: usize, rows: i32, columns: i32, add: bool): void {
  for (; rows > 0; rows--, edge += 32, to += toStep) {
    for (let x = 0; x < columns; x++) {
      const at = to + (x << 2), value = load<f32>(edge + (x << 2));
      store<f32>(at, add ? load<f32>(at) + value : value);
    }
  }
}

/**
 * out [m, n] = a [m, k] x b [k, n]. Where a number lies is given by steps from row to row and from column to column, so
 * that each side may be transposed.
 */
export function product(
  a: usize,
  aRow: usize,
  aColumn: usize,
  b: usize,
  bRow: usize,
  bColumn: usize,
  out: usize,
  m: i32,
  n: i32,
  k: i32,
  scratch: usize,
): void {
  if (k == 0) memory.fill(out, 0, <usize> (m * n) << 2);
  const right = scratch + 4 * DEPTH * ROWS, edge = right + 4 * DEPTH * COLUMNS, outRow = <usize> n << 2;
  for (let k0 = 0; k0 < k; k0 += DEPTH) {
    const depth = min(DEPTH, k - k0);
    for (let n0 = 0; n0 < n; n0 += COLUMNS) {
      const columns = min(COLUMNS, n - n0);
      for (let j = 0; j < columns; j += 4) {
        const to = right + <usize> (j >> 3) * depth * 32 + ((j & 4) << 2);
        pack(b + k0 * bRow + (n0 + j) * bColumn, to, depth, bColumn, bRow, columns - j, 32);
      }
      for (let m0 = 0; m0 < m; m0 += ROWS) {
        const rows = min(ROWS, m - m0);
        for (let i = 0; i < rows; i += 4) {
          pack(
            a + (m0 + i) * aRow + k0 * aColumn,
            scratch + <usize> i * depth * 4,
            depth,
            aRow,
            aColumn,
            rows - i,
            16,
          );
        }
        block(scratch, right, depth, out + m0 * outRow + (n0 << 2), outRow, rows, columns, edge, k0 > 0);
      }
    }
  }
}

/** Copies `rows` rows of `width` bytes, those of the source `fromStep` apart, those of the target `toStep`. */
export function copyRows(
  from: usize,
  fromStep: usize,
  to: usize,
  toStep: usize,
  rows: i32,
  width: usize,
): void {
  for (; rows > 0; rows--, from += fromStep, to += toStep) {
    if (width > 1024) {
      memory.copy(to, from, width);
      continue;
    }
    let i: usize = 0;
    for (; i + 16 <= width; i += 16) v128.store(to + i, v128.load(from + i));
    for (; i + 4 <= width; i += 4) store<u32>(to + i, load<u32>(from + i));
    for (; i < width; i++) store<u8>(to + i, load<u8>(from + i));
  }
}

/** The `width` bytes at `from`, `times` times in a row. */
export function repeat(from: usize, to: usize, width: usize, times: usize): void {
  memory.copy(to, from, width);
  for (let done = width, all = width * times; done < all; done += done) {
    memory.copy(to + done, to, min(done, all - done));
  }
}

/** [rows, columns] of words, rows `fromStep` apart, to [columns, rows], rows `toStep` apart. */
export function transpose(
  from: usize,
  fromStep: usize,
  to: usize,
  toStep: usize,
  rows: i32,
  columns: i32,
): void {
  for (let j = 0; j < columns; j += 32) { // so that what is written stays in the processor's cache
    const count = min(32, columns - j), source = from + (j << 2), target = to + j * toStep;
    let i = 0;
    for (; i + 4 <= rows; i += 4) {
      pack(source + i * fromStep, target + (i << 2), count, fromStep, 4, 4, toStep);
    }
    for (; i < rows; i++) {
      for (let x = 0; x < count; x++) {
        store<u32>(target + x * toStep + (i << 2), load<u32>(source + i * fromStep + (x << 2)));
      }
    }
  }
}

/** The low two numbers in float64. */
function low(x: v128): v128 {
  return f64x2.promote_low_f32x4(x);
}

/** The high two numbers in float64. */
function high(x: v128): v128 {
  return f64x2.promote_low_f32x4(v128.shuffle<i64>(x, x, 1, 1));
}

/** Two numbers and two more, in float32. */
function joined(a: v128, b: v128): v128 {
  return v128.shuffle<i64>(f32x4.demote_f64x2_zero(a), f32x4.demote_f64x2_zero(b), 0, 2);
}

/** [rows, columns] to its sum over the rows, times a factor, [columns], added in float64. */
export function sumOverRows(from: usize, to: usize, rows: i32, columns: i32, factor: f64): void {
  const step = <usize> columns << 2, times = f64x2.splat(factor);
  let j = 0;
  for (; j + 8 <= columns; j += 8, to += 32) {
    let a = f64x2.splat(0), b = f64x2.splat(0), c = f64x2.splat(0), d = f64x2.splat(0);
    for (let i = 0, at = from + (j << 2); i < rows; i++, at += step) {
      const x = v128.load(at), y = v128.load(at, 16);
      a = f64x2.add(a, low(x));
      b = f64x2.add(b, high(x));
      c = f64x2.add(c, low(y));
      d = f64x2.add(d, high(y));
    }
    v128.store(to, joined(f64x2.mul(a, times), f64x2.mul(b, times)));
    v128.store(to, joined(f64x2.mul(c, times), f64x2.mul(d, times)), 16);
  }
  for (; j < columns; j++, to += 4) {
    let sum: f64 = 0;
    for (let i = 0, at = from + (j << 2); i < rows; i++, at += step) sum += load<f32>(at);
    store<f32>(to, <f32> (sum * factor));
  }
}

/** [rows, columns] to the sum of each row, times a factor, [rows], added in float64. */
export function sumOfRows(from: usize, to: usize, rows: i32, columns: i32, factor: f64): void {
  for (; rows > 0; rows--, to += 4) {
    let a = f64x2.splat(0), b = f64x2.splat(0), i = 0;
    for (; i + 4 <= columns; i += 4, from += 16) {
      const x = v128.load(from);
      a = f64x2.add(a, low(x));
      b = f64x2.add(b, high(x));
    }
    a = f64x2.add(a, b);
    let sum = f64x2.extract_lane(a, 0) + f64x2.extract_lane(a, 1);
    for (; i < columns; i++, from += 4) sum += load<f32>(from);
    store<f32>(to, <f32> (sum * factor));
  }
}

// V8 makes a constant vector anew at each use, from integers; a variable is only read. Exported, it stays a variable.
export let ONE: v128 = f32x4.splat(1), FOUR: v128 = f32x4.splat(4), SMALL: v128 = f32x4.splat(0.95);
export let LEAST: v128 = f32x4.splat(-104), MOST: v128 = f32x4.splat(89), BIAS: v128 = i32x4.splat(127);
export let SIGN: v128 = i32x4.splat(0x80000000), LOG2E: v128 = f32x4.splat(1.44269504);
export let LN2: v128 = f32x4.splat(-0.693359375), LN2_REST: v128 = f32x4.splat(0.000212194441701);
export let E0: v128 = f32x4.splat(0.49999994), E1: v128 = f32x4.splat(0.166665211);
export let E2: v128 = f32x4.splat(0.0416683927), E3: v128 = f32x4.splat(0.00836872961);
export let E4: v128 = f32x4.splat(0.00138144474);
export let S0: v128 = f32x4.splat(0.128379136), S1: v128 = f32x4.splat(-0.376124471);
export let S2: v128 = f32x4.splat(0.112813205), S3: v128 = f32x4.splat(-0.0267488677);
export let S4: v128 = f32x4.splat(0.00496751023), S5: v128 = f32x4.splat(-0.000586209237);
export let L0: v128 = f32x4.splat(1.12866342), L1: v128 = f32x4.splat(0.635090768);
export let L2: v128 = f32x4.splat(0.106337123), L3: v128 = f32x4.splat(-0.0238484722);
export let L4: v128 = f32x4.splat(0.00368334563), L5: v128 = f32x4.splat(-0.000332866795);
export let L6: v128 = f32x4.splat(1.22373249e-5);

/** a b + c, rounded once where the processor can. */
function madd(a: v128, b: v128, c: v128): v128 {
  return f32x4.relaxed_madd(a, b, c);
}

/** e^(x - n log 2) for |x - n log 2| <= log(2) / 2, by a polynomial fitted for the smallest relative error. */
function reduced(x: v128, n: v128): v128 {
  const r = madd(n, LN2_REST, madd(n, LN2, x)), square = f32x4.mul(r, r);
  const p = madd(madd(E4, square, madd(E3, r, E2)), square, madd(E1, r, E0));
  return f32x4.add(madd(p, square, r), ONE);
}

/** 2^n for whole n from -126 to 127. */
function powerOf2(n: v128): v128 {
  return i32x4.shl(i32x4.add(n, BIAS), 23);
}

/** e^x within 1 ulp. */
function exponential(x: v128): v128 {
  x = f32x4.pmin(f32x4.pmax(x, LEAST), MOST); // NaN stays
  const n = f32x4.nearest(f32x4.mul(x, LOG2E));
  const whole = i32x4.relaxed_trunc_f32x4_s(n), half = i32x4.shr_s(whole, 1); // one float may not hold 2^n
  return f32x4.mul(f32x4.mul(reduced(x, n), powerOf2(half)), powerOf2(i32x4.sub(whole, half)));
}

/** The error function within 2 ulp: an odd polynomial up to 0.95, 1 - e^(-|x| p(|x|)) from there on, both fitted. */
function errorFunction(x: v128): v128 {
  const size = f32x4.abs(x), t = f32x4.mul(x, x), t2 = f32x4.mul(t, t);
  const s = madd(madd(madd(S5, t, S4), t2, madd(S3, t, S2)), t2, madd(S1, t, S0));
  const small = f32x4.lt(size, SMALL);
  if (i32x4.all_true(small)) return madd(x, s, x);
  const a = f32x4.pmin(size, FOUR), a2 = f32x4.mul(a, a);
  const p = madd(madd(madd(L6, a2, madd(L5, a, L4)), a2, madd(L3, a, L2)), a2, madd(L1, a, L0));
  const exponent = f32x4.neg(f32x4.mul(a, p)), n = f32x4.nearest(f32x4.mul(exponent, LOG2E));
  const rest = f32x4.mul(reduced(exponent, n), powerOf2(i32x4.relaxed_trunc_f32x4_s(n)));
  const large = v128.bitselect(x, f32x4.sub(ONE, rest), SIGN);
  return v128.bitselect(madd(x, s, x), large, small);
}

/** The error function of n numbers. */
export function erf(from: usize, to: usize, n: i32): void {
  for (; n >= 4; n -= 4, from += 16, to += 16) v128.store(to, errorFunction(v128.load(from)));
  for (; n > 0; n--, from += 4, to += 4) v128.store_lane<f32>(to, errorFunction(v128.load32_zero(from)), 0);
}

/** e^x of n numbers. */
export function exp(from: usize, to: usize, n: i32): void {
  for (; n >= 4; n -= 4, from += 16, to += 16) v128.store(to, exponential(v128.load(from)));
  for (; n > 0; n--, from += 4, to += 4) v128.store_lane<f32>(to, exponential(v128.load32_zero(from)), 0);
}
