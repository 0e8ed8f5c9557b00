import type { EngineName } from "../../lib/engine/mod.ts";
import list from "../engine/refused.json" with { type: "json" };

/** What an engine refuses, or gets wrong and cannot be helped. */
interface Refusal {
  /** Default: all. */
  engines?: EngineName[];
  /** Part of the message, or of how it is wrong; one of several. */
  says: string | string[];
  /** Why it stays so, and what to write instead. */
  why: string;
}

/** By kind ("gradients", "values", "nan", "xla") and operation. */
export const REFUSED: Readonly<Record<string, Record<string, Refusal>>> = list as Record<
  string,
  Record<string, Refusal>
>;

/** The faults that the list does not name, and the entries of it that are no longer needed. */
export function unexpected(
  kind: string,
  engine: EngineName,
  faults: readonly (readonly [name: string, fault: string | undefined])[],
): string[] {
  const refused = REFUSED[kind]!, found = new Map(faults);
  const surprises = faults.flatMap(([name, fault]) => {
    const entry = refused[name], expected = entry && (entry.engines ?? [engine]).includes(engine);
    if (!expected) return fault === undefined ? [] : [`${name}: ${fault}`];
    if (fault === undefined) return [`${name}: is right now; take it from the list`];
    return [entry.says].flat().some((says) => fault.includes(says))
      ? []
      : [`${name}: expected "${entry.says}", got "${fault}"`];
  });
  const unknown = Object.keys(refused).filter((name) => !found.has(name));
  return [...surprises, ...unknown.map((name) => `${name}: is in the list, and no operation has that name`)];
}
