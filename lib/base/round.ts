/** Rounding as Python does it. @module */

/** To the nearest integer, halves to the even one, as Python rounds. */
export function roundEven(x: number): number {
  const low = Math.floor(x), rest = x - low;
  return rest === 0.5 ? low + low % 2 : Math.round(x);
}
