/**
 * Compares two recordings of one function. What JavaScript computes anew each time, such as a random number, a counter or
 * the time, is in one of them and not in the other.
 *
 * @module
 */
import type { GraphNode, GraphOutput } from "./graph.ts";
import { DTYPE } from "./libtensorflow.ts";
import type { GraphRecorder, Source } from "./recorder.ts";

const sameSource = (a: Source, b: Source): boolean =>
  "variable" in a
    ? "variable" in b && a.variable === b.variable
    : "argument" in a
    ? "argument" in b && a.argument === b.argument
    : "captured" in b && a.original === b.original;

const settings = ({ type, list, attributes }: GraphNode): string => JSON.stringify([type, list, attributes]);

/**
 * Where two recordings part.
 *
 * @param ends What each recording gives.
 * @returns The names of the nodes that differ, in `a` and in `b`; undefined if there are none.
 */
export function firstDifference(
  a: GraphRecorder,
  b: GraphRecorder,
  ends: readonly (readonly GraphOutput[])[],
): (string | undefined)[] | undefined {
  const twins = new Map<GraphNode, GraphNode>();
  const isText = (end: GraphOutput) => a.graph.dtype(end) === DTYPE.STRING; // of which no two have the same description
  const constants = (x: GraphOutput, y: GraphOutput): boolean =>
    x.node.type === "Const" && y.node.type === "Const" &&
    (isText(x) && isText(y) || a.graph.constantText(x.node) === b.graph.constantText(y.node)) &&
    twins.set(x.node, y.node).has(x.node);
  const same = (x: GraphOutput, y: GraphOutput | undefined): boolean =>
    y !== undefined && x.index === y.index && (twins.get(x.node) === y.node || constants(x, y));
  a.placeholders.forEach(({ node }, i) => {
    const twin = b.placeholders[i];
    if (twin && sameSource(a.sources[i]!, b.sources[i]!)) twins.set(node, twin.node);
  });
  for (let i = 0; i < Math.max(a.nodes.length, b.nodes.length); i++) {
    const x = a.nodes[i], y = b.nodes[i];
    if (!x || !y || settings(x) !== settings(y) || x.inputs.length !== y.inputs.length) {
      return [x?.name, y?.name];
    }
    const k = x.inputs.findIndex((end, k) => !same(end, y.inputs[k]));
    if (k >= 0) {
      return [[x.inputs[k]!.node, x], [y.inputs[k]!.node, y]].map(([input, user]) =>
        input!.type === "Const" ? input!.name : user!.name
      );
    }
    twins.set(x, y);
  }
  const [first, second] = ends as [GraphOutput[], GraphOutput[]];
  return first.length === second.length && first.every((end, i) => same(end, second[i])) ? undefined : [];
}
