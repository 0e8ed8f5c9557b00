/**
 * Splits a recorded graph between two compilers. Matrix products run as TensorFlow's own kernels (oneDNN), which XLA on
 * a CPU does not reach; all that lies between them is grouped into clusters that XLA compiles, since it fuses what
 * TensorFlow runs operation by operation. So are batches of small products, at which XLA is as fast. Clusters with the same
 * operations are one function, compiled once. Long joins and splits stay outside too: XLA takes as long to compile them as all
 * the rest of a training step.
 *
 * A cluster holds nodes of one level: how many nodes outside of clusters are on the longest way to them. No way between
 * two nodes of a level passes through such a node, so no cluster waits for itself. What of a level has nothing in common is
 * in clusters of its own, so that parts of a batch run side by side.
 *
 * @module
 */
import { createHash } from "node:crypto";
import { Graph, type GraphNode, type GraphOutput } from "./graph.ts";
import { ATTR, type LibTensorFlow, type Pointer } from "./libtensorflow.ts";
import type { GraphRecorder } from "./recorder.ts";

/** A function that XLA compiles, and how many recordings call it. */
type Cluster = { fn: Pointer; users: number };

/** What a cluster takes, what it is made of, what it gives. */
interface Part {
  args: GraphOutput[];
  members: GraphNode[];
  results: GraphOutput[];
}

/** Compiled clusters that are kept when no recording calls them: the next one often has the same. */
const IDLE = 256;

const hash = (text: string): string => createHash("sha256").update(text).digest("hex").slice(0, 32);

const COMPILE = [{ name: "_XlaMustCompile", type: ATTR.BOOL, value: true }];

/** Computed anew where they are used rather than kept, if what they are made of is there anyway. */
const CHEAP = new Set(["Add", "AddV2", "Sub", "Mul", "Neg"]);

/** Joining more tensors than this, or splitting into more, stays out of clusters: XLA compiles a case for each. */
const MANY = 16;

/** What has better kernels than XLA's, or quicker ones to compile: convolutions and the largest of windows. */
const OWN = /^(GatherV2|Conv2D|Conv2DBackprop(Input|Filter)|MaxPool|MaxPoolGrad)$/;

/** Whether a node joins or splits too many tensors for XLA. */
const isLong = (node: GraphNode): boolean =>
  node.type === "ConcatV2" && node.list > MANY ||
  node.attributes.some(({ name, value }) => name === "num_split" && Number(value) > MANY);
const isConstant = ({ type }: GraphNode): boolean => type === "Const";

/** What reshapes give another form. */
function beneath(end: GraphOutput): GraphOutput {
  while (end.node.type === "Reshape") end = end.node.inputs[0]!;
  return end;
}

/** The clusters of a process, by names that say what they are made of; those of the oldest recordings first. */
export class Clusters {
  readonly #made = new Map<string, Cluster>();

  constructor(private readonly lib: LibTensorFlow) {}

  /**
   * Makes a function of a recording.
   *
   * @param name Of the function.
   * @returns Gives the clusters back when the function is no longer there.
   */
  toFunction(recorder: GraphRecorder, outputs: readonly GraphOutput[], name: string): () => void {
    const graph = new Graph(this.lib), split = new Split(recorder, outputs), used: string[] = [];
    const wires = new Map<GraphNode, GraphOutput[]>();
    recorder.placeholders.forEach((end) => {
      wires.set(end.node, [graph.placeholder(recorder.graph.dtype(end), recorder.graph.shape(end)!)]);
    });
    const make = (node: GraphNode) => {
      const { type, attributes, inputs, name, list } = node;
      const made = isConstant(node)
        ? recorder.graph.withValue(node, (value) => graph.constant(value)).node
        : graph.add(type, attributes, inputs.map(wire), { name, list });
      wires.set(node, Array.from({ length: graph.outputs(made) }, (_, index) => ({ node: made, index })));
    };
    const wire = ({ node, index }: GraphOutput): GraphOutput => {
      const chain: GraphNode[] = []; // of reshapes, which may be long: the first first
      for (let at: GraphNode | undefined = node; at && !wires.has(at); at = at.inputs[0]?.node) {
        chain.push(at);
      }
      chain.reverse().forEach(make);
      return wires.get(node)![index]!;
    };
    try {
      split.parts.forEach((parts, level) => {
        for (const part of parts) {
          // XLA finds the code that another process kept by the name.
          const name = `cluster_${hash(describe(recorder.graph, part))}`;
          graph.admit(this.#take(name, part, recorder));
          used.push(name);
          const call = graph.add(name, COMPILE, part.args.map(wire));
          part.results.forEach(({ node, index }, i) => {
            if (!wires.has(node)) wires.set(node, []);
            wires.get(node)![index] = { node: call, index: i };
          });
        }
        for (const node of split.alone[level]!) wire({ node, index: 0 });
      });
      const inputs = recorder.placeholders.map(wire);
      this.lib.c.TF_DeleteFunction(graph.toFunction(name, inputs, outputs.map(wire)));
    } catch (error) {
      this.#release(used);
      throw error;
    } finally {
      graph.dispose();
    }
    return () => this.#release(used);
  }

  #take(name: string, { args, members, results }: Part, { graph }: GraphRecorder): Pointer {
    const cluster = this.#made.get(name) ?? { fn: graph.toFunction(name, args, results, members), users: 0 };
    cluster.users++;
    this.#made.set(name, cluster);
    return cluster.fn;
  }

  /** Clusters that nothing calls are kept for a while, those that were let go of last the longest. */
  #release(names: readonly string[]): void {
    for (const name of names) {
      const cluster = this.#made.get(name)!;
      cluster.users--;
      this.#made.delete(name);
      this.#made.set(name, cluster); // the last used is the last
    }
    const idle = [...this.#made].filter(([, { users }]) => users === 0);
    for (const [name, { fn }] of idle.slice(0, -IDLE)) {
      this.#made.delete(name);
      this.lib.removeFunction(name);
      this.lib.c.TF_DeleteFunction(fn);
    }
  }
}

/** Which nodes go where. */
class Split {
  /** The clusters of each level. */
  readonly parts: Part[][] = [];
  /** What runs alone, after the clusters of each level. */
  readonly alone: GraphNode[][];
  readonly #graph: Graph;
  readonly #products: ReadonlySet<GraphNode>;
  readonly #level = new Map<GraphNode, number>();
  /** What clusters have to give. */
  readonly #wanted = new Map<GraphNode, Set<number>>();

  constructor({ graph, nodes, placeholders, products }: GraphRecorder, outputs: readonly GraphOutput[]) {
    this.#graph = graph;
    this.#products = products;
    for (const { node } of placeholders) this.#level.set(node, 0);
    const used = reachable(outputs), order = nodes.filter((node) => used.has(node));
    this.#assignLevels(order, new Set(outputs.map(({ node }) => node)));
    const levels = 1 + this.#level.values().reduce((last, level) => Math.max(last, level), 0);
    const alone = Map.groupBy(order.filter((node) => this.#isAlone(node)), (node) => this.#level.get(node));
    this.alone = Array.from({ length: levels }, (_, level) => alone.get(level) ?? []);
    outputs.forEach((end) => this.#want(end));
    const position = new Map(order.map((node, i) => [node, i]));
    for (let level = levels - 1; level >= 0; level--) {
      for (const node of this.alone[level]!) node.inputs.forEach((end) => this.#want(end));
      this.parts[level] = this.#results(level).map((results) => this.#part(level, results, position));
    }
  }

  /** As early as can be; then what nothing at its level uses goes to where it is used, unless that is more to keep. */
  #assignLevels(order: readonly GraphNode[], ends: ReadonlySet<GraphNode>): void {
    const users = new Map<GraphNode, GraphNode[]>(), at = this.#level;
    for (const node of order) {
      let level = 0;
      for (const { node: from } of node.inputs) {
        if (isConstant(from)) continue;
        level = Math.max(level, at.get(from)! + (this.#isAlone(from) ? 1 : 0));
        if (!users.has(from)) users.set(from, []);
        users.get(from)!.push(node);
      }
      at.set(node, level);
    }
    for (const node of order.toReversed()) {
      if (this.#products.has(node) || ends.has(node) || this.#reduces(node)) continue;
      const first = Math.min(...users.get(node)!.map((user) => at.get(user)!));
      at.set(node, first - (this.#isAlone(node) ? 1 : 0));
    }
  }

  /** Whether a node runs as TensorFlow's own kernel, between clusters. XLA gathers something where an index is wrong. */
  #isAlone(node: GraphNode): boolean {
    return this.#products.has(node) || isLong(node) || OWN.test(node.type);
  }

  #reduces(node: GraphNode): boolean {
    const size = (end: GraphOutput) => this.#graph.shape(end)!.reduce((a, b) => a * b, 1);
    return size({ node, index: 0 }) < Math.max(0, ...node.inputs.map(size));
  }

  /** Asks for a value from the cluster that has it; a reshape is made outside, where it costs nothing. */
  #want(end: GraphOutput): void {
    const { node, index } = beneath(end);
    if (this.#isOutside(node)) return;
    if (!this.#wanted.has(node)) this.#wanted.set(node, new Set());
    this.#wanted.get(node)!.add(index);
  }

  /** A level's wanted values; apart from one another those that share nothing of it, which can be computed side by side. */
  #results(level: number): GraphOutput[][] {
    const up = new Map<GraphNode, GraphNode>();
    const top = (node: GraphNode): GraphNode => {
      let last = node;
      while (up.get(last) !== last) last = up.get(last)!;
      up.set(node, last); // which is shorter the next time
      return last;
    };
    const wanted = [...this.#wanted].filter(([node]) => this.#level.get(node) === level);
    const open = wanted.map(([node]) => node);
    open.forEach((node) => up.set(node, node));
    for (let node = open.pop(); node; node = open.pop()) {
      for (const { node: from } of node.inputs) {
        if (!this.#isIn(level, from)) continue;
        if (!up.has(from)) open.push(from);
        if (!up.has(from)) up.set(from, from);
        up.set(top(from), top(node));
      }
    }
    const results = wanted.flatMap(([node, indices]) => [...indices].map((index) => ({ node, index })));
    return [...Map.groupBy(results, ({ node }) => top(node)).values()];
  }

  /** Whether a node is computed in a cluster of that level. */
  #isIn(level: number, node: GraphNode): boolean {
    return this.#level.get(node) === level && !this.#isOutside(node);
  }

  #isOutside(node: GraphNode): boolean {
    return this.#isAlone(node) || isConstant(node) || node.type === "Placeholder";
  }

  /** What of a level some of its values need. */
  #part(level: number, results: GraphOutput[], position: ReadonlyMap<GraphNode, number>): Part {
    const members = new Set<GraphNode>(), constants = new Set<GraphNode>(), args: GraphOutput[] = [];
    // Depth first, without recursion: chains are long. The order decides a cluster's name.
    const open: Iterator<GraphOutput>[] = [results.values()];
    while (open.length > 0) {
      const { value: end, done } = open.at(-1)!.next();
      if (done) open.pop();
      else if (isConstant(end.node)) constants.add(end.node);
      else if (this.#isIn(level, end.node) || this.#again(end.node)) {
        if (!members.has(end.node)) open.push(end.node.inputs.values());
        members.add(end.node);
      } else if (!args.some((arg) => arg.node === end.node && arg.index === end.index)) {
        args.push(end);
        this.#want(end);
      }
    }
    const ordered = [...members].sort((a, b) => position.get(a)! - position.get(b)!);
    results.sort((a, b) => position.get(a.node)! - position.get(b.node)! || a.index - b.index);
    return { args, members: [...constants, ...ordered], results };
  }

  /** Whether a node of an earlier level is computed anew. */
  #again({ type, inputs }: GraphNode): boolean {
    return type === "Reshape" || CHEAP.has(type) && inputs.every((end) => this.#isOutside(beneath(end).node));
  }
}

function reachable(ends: readonly GraphOutput[]): Set<GraphNode> {
  const found = new Set<GraphNode>(), open = ends.map(({ node }) => node);
  for (let node = open.pop(); node; node = open.pop()) {
    if (found.has(node)) continue;
    found.add(node);
    open.push(...node.inputs.map((end) => end.node));
  }
  return found;
}

/** A text that two parts share only if they compute the same. */
function describe(graph: Graph, { args, members, results }: Part): string {
  const names = new Map(members.map((node, i) => [node, i]));
  const name = ({ node, index }: GraphOutput) => {
    const member = names.get(node);
    return member === undefined
      ? `arg ${args.findIndex((arg) => arg.node === node && arg.index === index)}`
      : `${member}:${index}`;
  };
  const lines = members.map((node) => {
    if (isConstant(node)) return graph.constantText(node);
    return `${node.type} ${JSON.stringify(node.attributes)} ${node.list} ${node.inputs.map(name)}`;
  });
  const types = args.map((arg) => `${graph.dtype(arg)}`);
  return [types.join(), ...lines, results.map(name).join()].join("\n");
}
