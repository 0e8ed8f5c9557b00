/** Dense symmetric matrices in float64, row-major. @module */
import { expect } from "../base/check.ts";

/** The inner product of the first `n` numbers: four sums, so that one addition need not wait for the other. */
export function dot(a: Float64Array, b: Float64Array, n: number = a.length): number {
  let s0 = 0, s1 = 0, s2 = 0, s3 = 0, k = 0;
  for (; k + 3 < n; k += 4) {
    s0 += a[k]! * b[k]!;
    s1 += a[k + 1]! * b[k + 1]!;
    s2 += a[k + 2]! * b[k + 2]!;
    s3 += a[k + 3]! * b[k + 3]!;
  }
  for (; k < n; k++) s0 += a[k]! * b[k]!;
  return s0 + s1 + s2 + s3;
}

/**
 * The lower triangle L of a positive definite matrix A = L Lᵀ (Cholesky), in place of A; zeros above.
 *
 * @param a [n, n]; only the lower triangle is read. Overwritten and returned.
 * @throws {RangeError} If A is not positive definite.
 */
export function cholesky(a: Float64Array, n: number): Float64Array {
  for (let j = 0; j < n; j++) {
    const rowJ = a.subarray(j * n, j * n + j);
    let pivot = a[j * n + j]!;
    for (let k = 0; k < j; k++) pivot -= rowJ[k]! * rowJ[k]!;
    expect(pivot > 0, "cholesky", "a positive definite matrix", `pivot ${pivot} at ${j}`);
    const root = Math.sqrt(pivot);
    a[j * n + j] = root;
    a.fill(0, j * n + j + 1, (j + 1) * n);
    for (let i = j + 1; i < n; i += 4) { // four rows at once, so that one addition need not wait for the other
      const [row, last] = [i * n, (n - 1) * n];
      const [r1, r2, r3] = [
        Math.min(row + n, last),
        Math.min(row + 2 * n, last),
        Math.min(row + 3 * n, last),
      ];
      let s0 = a[row + j]!, s1 = a[r1 + j]!, s2 = a[r2 + j]!, s3 = a[r3 + j]!;
      for (let k = 0; k < j; k++) {
        const x = rowJ[k]!;
        s0 -= a[row + k]! * x;
        s1 -= a[r1 + k]! * x;
        s2 -= a[r2 + k]! * x;
        s3 -= a[r3 + k]! * x;
      }
      a[r3 + j] = s3 / root; // past the end the rows are the last one again, as often as it takes
      a[r2 + j] = s2 / root;
      a[r1 + j] = s1 / root;
      a[row + j] = s0 / root;
    }
  }
  return a;
}

/** Replaces each x [n] by L⁻¹ x, for L [n, n] lower triangular. Together, as reading L is most of the work. */
export function solveLower(l: Float64Array, vectors: readonly Float64Array[], n: number): void {
  for (let i = 0; i < n; i++) {
    const row = l.subarray(i * n, (i + 1) * n);
    for (const x of vectors) x[i] = (x[i]! - dot(row, x, i)) / row[i]!;
  }
}

/** Replaces each x [n] by L⁻ᵀ x, for L [n, n] lower triangular. */
export function solveLowerTransposed(l: Float64Array, vectors: readonly Float64Array[], n: number): void {
  for (let i = n - 1; i >= 0; i--) {
    const row = l.subarray(i * n, (i + 1) * n);
    for (const x of vectors) {
      x[i]! /= row[i]!;
      for (let k = 0; k < i; k++) x[k]! -= row[k]! * x[i]!;
    }
  }
}

/** Reduces a symmetric matrix to a tridiagonal one with the same eigenvalues, by Householder reflections. */
function tridiagonal(a: Float64Array, n: number): { diagonal: Float64Array; beside: Float64Array } {
  const diagonal = new Float64Array(n), beside = new Float64Array(n), p = new Float64Array(n);
  for (let i = n - 1; i > 0; i--) {
    const v = a.subarray(i * n, i * n + i); // the row left of the diagonal becomes the reflection's vector
    const norm = Math.hypot(...v), last = v[i - 1]!;
    diagonal[i] = a[i * n + i]!;
    beside[i] = last > 0 ? -norm : norm;
    if (norm === 0) continue;
    v[i - 1] = last - beside[i]!;
    const half = norm * (norm + Math.abs(last)); // vᵀv / 2
    for (let j = 0; j < i; j++) {
      let sum = 0;
      for (let k = 0; k <= j; k++) sum += a[j * n + k]! * v[k]!;
      for (let k = j + 1; k < i; k++) sum += a[k * n + j]! * v[k]!;
      p[j] = sum / half;
    }
    let overlap = 0;
    for (let j = 0; j < i; j++) overlap += p[j]! * v[j]!;
    for (let j = 0; j < i; j++) p[j] = p[j]! - overlap / (2 * half) * v[j]!;
    for (let j = 0; j < i; j++) {
      for (let k = 0; k <= j; k++) a[j * n + k] = a[j * n + k]! - v[j]! * p[k]! - p[j]! * v[k]!;
    }
  }
  diagonal[0] = a[0]!;
  return { diagonal, beside };
}

/**
 * The eigenvalues of a symmetric matrix, in no order: Householder's tridiagonal form, then QL with implicit shifts.
 *
 * @param a [n, n]; only the lower triangle is read. Overwritten.
 * @throws {RangeError} If a value is not finite.
 */
export function eigenvalues(a: Float64Array, n: number): Float64Array {
  expect(a.every(Number.isFinite), "eigenvalues", "finite numbers", "a NaN or an infinity");
  const { diagonal: d, beside } = tridiagonal(a, n), e = Float64Array.from([...beside.subarray(1), 0]);
  const small = (i: number) => Math.abs(e[i]!) <= Number.EPSILON * (Math.abs(d[i]!) + Math.abs(d[i + 1]!));
  for (let low = 0; low < n; low++) {
    for (let sweep = 0;; sweep++) {
      let high = low;
      while (high < n - 1 && !small(high)) high++;
      if (high === low) break;
      if (sweep === 60) throw new RangeError("eigenvalues: no convergence in 60 sweeps");
      implicitShift(d, e, low, high);
    }
  }
  return d;
}

/** One QL sweep with Wilkinson's shift over rows `low` to `high` of a tridiagonal matrix. */
function implicitShift(d: Float64Array, e: Float64Array, low: number, high: number): void {
  const half = (d[low + 1]! - d[low]!) / (2 * e[low]!);
  let g = d[high]! - d[low]! + e[low]! / (half + Math.sign(half || 1) * Math.hypot(half, 1));
  let sine = 1, cosine = 1, shift = 0;
  for (let i = high - 1; i >= low; i--) {
    const f = sine * e[i]!, b = cosine * e[i]!, r = Math.hypot(f, g);
    e[i + 1] = r;
    if (r === 0) { // the matrix has fallen apart here: go on with what is left
      d[i + 1] = d[i + 1]! - shift;
      e[high] = 0;
      return;
    }
    [sine, cosine] = [f / r, g / r];
    g = d[i + 1]! - shift;
    const t = (d[i]! - g) * sine + 2 * cosine * b;
    shift = sine * t;
    d[i + 1] = g + shift;
    g = cosine * t - b;
  }
  d[low] = d[low]! - shift;
  e[low] = g;
  e[high] = 0;
}
