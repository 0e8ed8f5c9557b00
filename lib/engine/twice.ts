/**
 * Compares two recordings of one function. What JavaScript computes anew each time, such as a random number, a counter or
 * the time, is in one of them and not in the other.
 *
 * @module
 */
import type { GraphOutput } from "./graph.ts";
import { DTYPE } from "./libtensorflow.ts";
import type { GraphRecorder, Source } from "./recorder.ts";

const sourceText = (source: Source): string =>
  "variable" in source
    ? `variable ${source.variable.id}`
    : "argument" in source
    ? `argument ${source.argument}`
    : `captured ${source.original}`;

/** What a recording consists of, as texts, and whose node each is: operations, what they take, and at last what is given. */
function* written(
  { graph, nodes, placeholders, sources }: GraphRecorder,
  ends: readonly GraphOutput[],
): Generator<[text: string, name?: string]> {
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
}

/**
 * Where two recordings part.
 *
 * @param ends What each recording gives.
 * @returns The names of the nodes that differ, in `a` and in `b`; undefined if there are none.
 */
export function firstDifference(
  a: GraphRecorder,
  b: GraphRecorder,
  ends: readonly [readonly GraphOutput[], readonly GraphOutput[]],
): (string | undefined)[] | undefined {
  const one = [...written(a, ends[0])], other = [...written(b, ends[1])];
  const length = Math.max(one.length, other.length);
  const k = Array.from({ length }).findIndex((_, k) => one[k]?.[0] !== other[k]?.[0]);
  return k < 0 ? undefined : [one[k]?.[1], other[k]?.[1]];
}
