/** Refusals in one form. @module */

/**
 * Refuses what does not hold.
 *
 * @param holds Whether all is well.
 * @param name Of what is wrong.
 * @param expected In words.
 * @param got What there is.
 * @throws {RangeError} "name: expected …, got …".
 */
export function expect(holds: boolean, name: string, expected: string, got: unknown): asserts holds {
  if (!holds) throw new RangeError(`${name}: expected ${expected}, got ${String(got)}`);
}

/** Whether a value is an integer from 1 up. */
export function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 1;
}
