/**
 * Compares two recordings of one function. What JavaScript computes anew each time, such as a random number, a counter or
 * the time, is in one of them and not in the other.
 *
 * @module
 */
import type { GraphOutput } from "./graph.ts";
import { DTYPE } from "./libtensorflow.ts";
import type { Trace } from "./record.ts";
import type { Source } from "./recorder.ts";

const sourceText = (source: Source): string =>
  "variable" in source
    ? `variable ${source.variable.id}`
    : "argument" in source
    ? `argument ${source.argument}`
    : `captured ${source.original}`;

/** What a recording consists of, as texts, and whose node each is: operations, what they take, and at last what is given. */
function* written({ recorder, ends, assigned, result }: Trace): Generator<[text: string, name?: string]> {
  const { graph, nodes, placeholders, sources } = recorder;
  const names = new Map(placeholders.map(({ node }, i) => [node, sourceText(sources[i]!)]));
  const value = (end: GraphOutput): string => {
    const { node, index } = end;
    // No two texts have the same description.
    if (!names.has(node)) {
      names.set(node, graph.dtype(end) === DTYPE.STRING ? "text" : graph.constantText(node));
    }
    return `${names.get(node)}:${index}`;
  };
  for (const [i, { type, list, attributes, name, inputs }] of nodes.entries()) {
    yield [JSON.stringify([type, list, attributes]), name];
    for (const end of inputs) yield [value(end), end.node.type === "Const" ? end.node.name : name];
    names.set(nodes[i]!, `operation ${i}`);
  }
  for (const end of ends) yield [value(end)];
  yield [`${result.form} ${assigned.map(({ id }) => id)}`];
}

/** Whether two recordings differ, and the line that called for what does. */
export function firstDifference(a: Trace, b: Trace): { caller: string | undefined } | undefined {
  const one = [...written(a)], other = [...written(b)], length = Math.max(one.length, other.length);
  const k = Array.from({ length }).findIndex((_, k) => one[k]?.[0] !== other[k]?.[0]);
  const caller = ({ recorder }: Trace, name = "") => recorder.caller(name);
  return k < 0 ? undefined : { caller: caller(a, one[k]?.[1]) ?? caller(b, other[k]?.[1]) };
}
