/** Counts specs, those that are known to fail apart. @module */

/** What became of one spec. */
export interface SpecResult {
  name: string;
  /** Why it failed; undefined if it passed. */
  failure: string | undefined;
}

/** The count, and what there is to say about single specs. */
export interface Tally {
  passed: number;
  failed: number;
  lines: string[];
}

/**
 * Counts results.
 *
 * @param results One for each spec that ran.
 * @param known Names of specs that are known to fail, with the reasons. One that is not among the results is a failure.
 * @param leaveOut Whether those are left out of the count as long as they fail; one that passes is then a failure.
 */
export function tally(
  results: readonly SpecResult[],
  known: Readonly<Record<string, string>>,
  leaveOut: boolean,
): Tally {
  const total: Tally = { passed: 0, failed: 0, lines: [] };
  for (const { name, failure } of results) {
    const reason = known[name];
    if (failure === undefined) {
      total[leaveOut && reason !== undefined ? "failed" : "passed"]++;
      if (reason !== undefined) total.lines.push(`passes, take it out of known_failures.json: ${name}`);
    } else if (reason === undefined) {
      total.failed++;
      total.lines.push(`FAILED: ${name}: ${failure}`);
    } else {
      if (!leaveOut) total.failed++;
      total.lines.push(`known to fail${leaveOut ? ", left out" : ""}: ${name}: ${reason}`);
    }
  }
  const names = new Set(results.map(({ name }) => name));
  for (const name of Object.keys(known).filter((name) => !names.has(name))) {
    total.failed++;
    total.lines.push(`did not run, take it out of known_failures.json: ${name}`);
  }
  return total;
}
