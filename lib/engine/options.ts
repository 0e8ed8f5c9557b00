/** Checks the names of the engine's options. @module */

/** Whether one name becomes the other when a letter, or two side by side, are changed, added, left out or swapped. */
function isNear(a: string, b: string): boolean {
  let start = 0, end = 0;
  while (start < a.length && a[start] === b[start]) start++;
  while (end < Math.min(a.length, b.length) - start && a.at(-1 - end) === b.at(-1 - end)) end++;
  return Math.max(a.length, b.length) - start - end <= 2;
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
