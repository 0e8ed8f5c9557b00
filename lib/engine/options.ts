/** Checks the names of the engine's options. @module */

/** Whether one name becomes the other when two letters side by side, or a third of a long one, are written anew. */
function isNear(a: string, b: string): boolean {
  let start = 0, end = 0;
  while (start < a.length && a[start] === b[start]) start++;
  while (end < Math.min(a.length, b.length) - start && a.at(-1 - end) === b.at(-1 - end)) end++;
  return Math.max(a.length, b.length) - start - end <= Math.max(2, a.length / 3);
}

/**
 * Refuses option names that a function does not know.
 *
 * @throws {TypeError} With the one that was probably meant, and all there are.
 */
export function refuseUnknown(where: string, options: object, known: readonly string[]): void {
  for (const name of Object.keys(options)) {
    if (known.includes(name)) continue;
    const meant = known.find((other) => isNear(name.toLowerCase(), other.toLowerCase()));
    throw new TypeError(
      `${where}: unknown option ${name}; ${meant ? `did you mean ${meant}? There` : "there"} are: ${
        known.join(", ")
      }`,
    );
  }
}
