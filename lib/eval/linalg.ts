/** Triangular factors of symmetric matrices in float64, row-major. @module */
import { expect } from "../base/check.ts";

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
    const row = l.subarray(i * n, i * n + i), pivot = l[i * n + i]!;
    for (const x of vectors) {
      let even = 0, odd = 0, k = 0; // two sums, so that one addition need not wait for the other
      for (; k + 1 < i; k += 2) {
        even += row[k]! * x[k]!;
        odd += row[k + 1]! * x[k + 1]!;
      }
      if (k < i) even += row[k]! * x[k]!;
      x[i] = (x[i]! - even - odd) / pivot;
    }
  }
}

/** Replaces each x [n] by L⁻ᵀ x, for L [n, n] lower triangular. */
export function solveLowerTransposed(l: Float64Array, vectors: readonly Float64Array[], n: number): void {
  for (let i = n - 1; i >= 0; i--) {
    const row = l.subarray(i * n, i * n + i), pivot = l[i * n + i]!;
    for (const x of vectors) {
      const value = x[i]! / pivot;
      x[i] = value;
      for (let k = 0; k < i; k++) x[k] = x[k]! - row[k]! * value;
    }
  }
}
