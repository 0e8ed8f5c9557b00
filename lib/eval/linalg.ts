/** Triangular factors of symmetric matrices in float64, row-major. @module */
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
  const rows = Array.from({ length: n }, (_, i) => a.subarray(i * n, (i + 1) * n));
  for (const [i, row] of rows.entries()) {
    for (let j = 0; j < i; j++) row[j] = (row[j]! - dot(row, rows[j]!, j)) / rows[j]![j]!;
    const pivot = row[i]! - dot(row, row, i);
    expect(pivot > 0, "cholesky", "a positive definite matrix", `pivot ${pivot} at ${i}`);
    row[i] = Math.sqrt(pivot);
    row.fill(0, i + 1);
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
