/**
 * Builds a TensorFlow graph from the ops that a function calls. Nothing is computed: the graph infers the shapes.
 *
 * @module
 */
import type * as tf from "@tensorflow/tfjs";
import type { TensorMetadata } from "./binding.ts";
import { Graph, type GraphNode, type GraphOutput } from "./graph.ts";
import { type Attribute, DTYPE, type Pointer, typeOf } from "./libtensorflow.ts";
import type { TensorFlow } from "./tensorflow.ts";
import { callerOf } from "./trace.ts";
import type { Precision } from "./types.ts";

/** Tensors that exist before the recording and are at most this large become constants of it; larger ones, inputs. */
const CONSTANT_BYTES = 1 << 16;

/** Batches of products of matrices with at least this many rows and columns are TensorFlow's own; XLA is as fast at smaller. */
const LARGE = 64;

/** An input of the recorded function: an argument, a variable's value, or a tensor that the function closes over. */
export type Source = { argument: number } | { variable: tf.Variable } | Captured;
type Captured = { captured: number; original: number };

/** What stands for a source, until an op uses it. */
type StandIn = { source: Source; shape: readonly number[]; dtype: number };

/** Builds a graph from ops. */
export class GraphRecorder {
  readonly graph: Graph;
  /** In the order in which they were called: inputs before what uses them. */
  readonly nodes: GraphNode[] = [];
  /** Those of them that are products for TensorFlow's own kernels. */
  readonly products = new Set<GraphNode>();
  readonly sources: Source[] = [];
  /** The node of each source. */
  readonly placeholders: GraphOutput[] = [];
  readonly captured: number[] = [];
  /** Tensors that came into TensorFlow while this recorded: constants, whatever their size. */
  readonly uploaded = new Set<number>();
  readonly #known = new Map<number, GraphOutput>();
  /** Stand-ins that no op has used so far, and what they stand for. */
  readonly #standIns = new Map<number, StandIn>();
  /** Where each operation and constant was called for, by its node's name. */
  readonly #stacks = new Map<string, Error>();

  /**
   * @param label Of the function, for error messages.
   * @param precision Of its matrix products.
   * @param before What an earlier recording of the same function uploaded: constants of this one too.
   */
  constructor(
    private readonly engine: TensorFlow,
    private readonly label: string,
    private readonly precision: Precision,
    private readonly before: ReadonlySet<number> = new Set(),
  ) {
    this.graph = new Graph(engine.lib);
  }

  /** The id of a tensor that stands for `source`. */
  standIn(source: Source, shape: readonly number[], dtype: number): number {
    const id = this.engine.binding.freshId();
    this.#standIns.set(id, { source, shape, dtype });
    return id;
  }

  refuseRead(): never {
    throw new TypeError(
      `compile("${this.label}"): the function reads a tensor's values (dataSync, arraySync, print, or an op that needs ` +
        `them), which do not exist while it is recorded. Return that tensor, or compute what depends on it outside and ` +
        `pass it as an argument.`,
    );
  }

  constant(id: number, tensor: Pointer): void {
    this.uploaded.add(id);
    this.#known.set(id, { node: this.#noticed(this.graph.constant(tensor).node), index: 0 });
  }

  op(name: string, attributes: readonly Attribute[], inputs: readonly number[]): TensorMetadata[] {
    const ends = inputs.map((id) => this.output(id));
    // The ops that take a list (Pack, ConcatV2, AddN, Einsum) take it first and call its length N.
    const list = attributes.find((a) => a.name === "N")?.value as number | undefined ?? 0;
    const rest = attributes.filter((a) => a.name !== "N"), what = `${name} while recording "${this.label}"`;
    const node = name === "BatchMatMulV2"
      ? this.#product(ends, rest, what)
      : this.#add(name, rest, ends, { list, what });
    return Array.from({ length: this.graph.outputs(node) }, (_, index) => {
      const end = { node, index }, id = this.engine.binding.freshId(), shape = this.#shape(end, name);
      this.#known.set(id, this.#same(end, shape) ?? end);
      return { id, shape, dtype: this.graph.dtype(end) };
    });
  }

  #noticed(node: GraphNode): GraphNode {
    this.#stacks.set(node.name, new Error());
    return node;
  }

  /** The line that called for a node; undefined if it is none of the caller's. */
  caller(name: string): string | undefined {
    const stack = this.#stacks.get(name);
    return stack && callerOf(stack);
  }

  #add(...operation: Parameters<Graph["add"]>): GraphNode {
    const node = this.#noticed(this.graph.add(...operation));
    this.nodes.push(node);
    return node;
  }

  /** A product of two matrices, or of many; in bfloat16 where that was asked for and gains something. */
  #product(ends: readonly GraphOutput[], attributes: readonly Attribute[], what: string): GraphNode {
    const shapes = ends.map((end) => this.graph.shape(end)), plain = shapes.every((s) => s?.length === 2);
    const outside = plain || shapes.every((shape) => shape?.slice(-2).every((n) => n >= LARGE));
    const add = (ends: readonly GraphOutput[], attributes: readonly Attribute[]) => {
      const node = plain
        ? this.#add("MatMul", attributes.map(asMatMul), ends, { what })
        : this.#add("BatchMatMulV2", attributes, ends, { what });
      if (outside) this.products.add(node);
      return node;
    };
    const rounded = this.precision === "bfloat16" && this.graph.dtype(ends[0]!) === DTYPE.FLOAT &&
      (outside || this.engine.device === "gpu"); // XLA on a CPU gains nothing from it
    if (!rounded) return add(ends, attributes);
    const typed = attributes.map((a) => a.name === "T" ? { ...a, value: DTYPE.BFLOAT16 } : a);
    const product = add(ends.map((end) => this.#cast(end, DTYPE.BFLOAT16)), typed);
    return this.#cast({ node: product, index: 0 }, DTYPE.FLOAT).node;
  }

  #cast(end: GraphOutput, to: number): GraphOutput {
    const types = [typeOf("SrcT", this.graph.dtype(end)), typeOf("DstT", to)];
    return { node: this.#add("Cast", types, [end]), index: 0 };
  }

  /** What a node only passes on: a reshape to the same shape, a cast to the same type. */
  #same({ node }: GraphOutput, shape: readonly number[]): GraphOutput | undefined {
    const [from] = node.inputs;
    if (!from || node.type !== "Reshape" && node.type !== "Cast") return undefined;
    const same = this.graph.dtype(from) === this.graph.dtype({ node, index: 0 }) &&
      this.graph.shape(from)?.join() === shape.join();
    return same ? from : undefined;
  }

  /** Where in the graph the value of tensor `id` comes from. */
  output(id: number): GraphOutput {
    const known = this.#known.get(id);
    if (known) return known;
    const standIn = this.#standIns.get(id);
    const end = standIn ? this.#placeholder(standIn) : this.#capture(id);
    this.#known.set(id, end);
    return end;
  }

  #capture(id: number): GraphOutput {
    const { lib, binding } = this.engine, copy = binding.copy(id);
    const { id: held, shape, dtype } = binding.metadata(copy);
    const size = shape.reduce((a, b) => a * b, 1);
    if (size * 8 > CONSTANT_BYTES && !this.before.has(id) || dtype === DTYPE.RESOURCE) {
      this.captured.push(held);
      return this.#placeholder({ source: { captured: held, original: id }, shape, dtype });
    }
    try {
      return lib.resolved(copy, (tensor) => this.graph.constant(tensor));
    } finally {
      binding.deleteTensor(held);
    }
  }

  #placeholder({ source, shape, dtype }: StandIn): GraphOutput {
    const end = this.graph.placeholder(dtype, shape);
    this.sources.push(source);
    this.placeholders.push(end);
    return end;
  }

  #shape(end: GraphOutput, name: string): number[] {
    const shape = this.graph.shape(end);
    if (!shape || shape.some((d) => d < 0)) {
      throw new TypeError(
        `compile("${this.label}"): the shape of what ${name} gives depends on values, which do not exist while the ` +
          `function is recorded. Call ${name} outside and pass its result as an argument.`,
      );
    }
    return shape;
  }

  /** An output's own node, since an input cannot be a function's output as it is. */
  ending(id: number): GraphOutput {
    const end = this.output(id), { type } = end.node;
    if (type !== "Placeholder" && type !== "Const") return end;
    return { node: this.#add("Identity", [], [end]), index: 0 };
  }

  /** Lets go of what it captured too, which a function would need. */
  discard(): void {
    for (const id of this.captured) this.engine.binding.deleteTensor(id);
    this.graph.dispose();
  }
}

const MATMUL: Readonly<Record<string, string>> = { adj_x: "transpose_a", adj_y: "transpose_b" };

/** BatchMatMulV2's attributes by MatMul's names. */
const asMatMul = (given: Attribute): Attribute => ({ ...given, name: MATMUL[given.name] ?? given.name });
