/** What the notebooks share: how much to do, and claims that a run of them checks. @module */

const QUICK = Deno.env.get("NEPA_BUDGET") === "test";

/** How much to do: all of it, or the little that shows that every cell works (`NEPA_BUDGET=test`). */
export function budget<T>(full: T, quick: T): T {
  return QUICK ? quick : full;
}

/** Ends the notebook where a claim does not hold. */
export function claim(holds: boolean, otherwise: string): void {
  if (!holds) throw new Error(otherwise);
}

/** The same for a claim about what networks have learned, which a quick run cannot show. */
export function learned(holds: boolean, otherwise: string): void {
  claim(QUICK || holds, otherwise);
}
