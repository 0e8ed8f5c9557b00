/** A TensorFlow graph under construction. @module */
import {
  ATTR,
  type Attribute,
  cString,
  DTYPE,
  type LibTensorFlow,
  memory,
  type Pointer,
  typeOf,
} from "./libtensorflow.ts";

/** One operation of a graph, and what it is made of. */
export interface GraphNode {
  readonly operation: Pointer;
  /** Unique in its graph; TensorFlow's errors name it. */
  readonly name: string;
  readonly type: string;
  readonly attributes: readonly Attribute[];
  readonly inputs: readonly GraphOutput[];
  /** How many of the inputs, from the first, are one list. */
  readonly list: number;
}

/** One output of a node. */
export interface GraphOutput {
  readonly node: GraphNode;
  readonly index: number;
}

type Ends = readonly GraphOutput[];

/** Adds operations to a graph and makes functions of it. */
export class Graph {
  readonly #graph: Pointer;
  #nodes = 0;

  constructor(private readonly lib: LibTensorFlow) {
    this.#graph = lib.c.TF_NewGraph()!;
  }

  #begin(type: string, name: string): Pointer {
    return this.lib.c.TF_NewOperation(this.#graph, cString(type), new TextEncoder().encode(`${name}\0`))!;
  }

  #name(type: string): string {
    return `${type.replace(/^_+/, "")}.${this.#nodes++}`;
  }

  /** Adds an operation; `what` stands before TensorFlow's message if it refuses. */
  add(
    type: string,
    attributes: readonly Attribute[] = [],
    inputs: readonly GraphOutput[] = [],
    { list = 0, what = type, name = this.#name(type) }: { list?: number; what?: string; name?: string } = {},
  ): GraphNode {
    const { c } = this.lib, description = this.#begin(type, name);
    if (list > 0) c.TF_AddInputList(description, encode(inputs.slice(0, list)), list);
    for (const end of inputs.slice(list)) c.TF_AddInput(description, encode([end]));
    for (const attribute of attributes) this.lib.setAttribute("TF_", description, attribute);
    const operation = this.lib.ok((s) => c.TF_FinishOperation(description, s), what)!;
    return { operation, name, type, attributes, inputs, list };
  }

  placeholder(dtype: number, shape: readonly number[]): GraphOutput {
    const attributes = [typeOf("dtype", dtype), { name: "shape", type: ATTR.SHAPE, value: shape }];
    return { node: this.add("Placeholder", attributes), index: 0 };
  }

  /** Adds a constant with a copy of a TF_Tensor. */
  constant(value: Pointer): GraphOutput {
    const { c } = this.lib, name = this.#name("Const"), description = this.#begin("Const", name);
    this.lib.setAttribute("TF_", description, typeOf("dtype", c.TF_TensorType(value)));
    this.lib.ok((s) => c.TF_SetAttrTensor(description, cString("value"), value, s), "Const");
    const operation = this.lib.ok((s) => c.TF_FinishOperation(description, s), "Const")!;
    return { node: { operation, name, type: "Const", attributes: [], inputs: [], list: 0 }, index: 0 };
  }

  /** Calls `use` with a constant's elements, a TF_Tensor. */
  withValue<T>({ operation }: GraphNode, use: (value: Pointer) => T): T {
    const { c } = this.lib, at = new BigUint64Array(1);
    this.lib.ok((s) => c.TF_OperationGetAttrTensor(operation, cString("value"), at, s), "Const");
    const value = Deno.UnsafePointer.create(at[0]!)!;
    try {
      return use(value);
    } finally {
      c.TF_DeleteTensor(value);
    }
  }

  /** A constant's type, shape and elements; strings are like no others. */
  constantText(node: GraphNode): string {
    const { c } = this.lib, end = { node, index: 0 }, dtype = this.dtype(end);
    if (dtype === DTYPE.STRING) return `Const ${Deno.UnsafePointer.value(node.operation)}`;
    return this.withValue(node, (value) => {
      const data = memory(c.TF_TensorData(value), Number(c.TF_TensorByteSize(value)));
      return `Const ${dtype} [${this.shape(end)}] ${new TextDecoder("latin1").decode(data)}`;
    });
  }

  /** How many values a node gives. */
  outputs({ operation }: GraphNode): number {
    return this.lib.c.TF_OperationNumOutputs(operation);
  }

  dtype(end: GraphOutput): number {
    return this.lib.c.TF_OperationOutputType(encode([end]));
  }

  /** As far as TensorFlow can tell without values; undefined or −1 where it cannot. */
  shape(end: GraphOutput): number[] | undefined {
    const { c } = this.lib, at = encode([end]);
    const rank = this.lib.ok((s) => c.TF_GraphGetTensorNumDims(this.#graph, at, s), end.node.type);
    if (rank < 0) return undefined;
    const dims = new BigInt64Array(rank);
    if (rank > 0) {
      this.lib.ok((s) => c.TF_GraphGetTensorShape(this.#graph, at, dims, rank, s), end.node.type);
    }
    return Array.from(dims, Number);
  }

  /** Lets the graph call a function. */
  admit(fn: Pointer): void {
    this.lib.ok((s) => this.lib.c.TF_GraphCopyFunction(this.#graph, fn, null, s), "function");
  }

  /**
   * Makes a function of these nodes, or of all, and adds it to the context. The caller deletes what it gets.
   *
   * @param name A name that no function has.
   */
  toFunction(name: string, inputs: Ends, outputs: Ends, nodes?: readonly GraphNode[]): Pointer {
    const { c, context } = this.lib, what = `recording ${name}`;
    const body = BigUint64Array.from(nodes ?? [], ({ operation }) => Deno.UnsafePointer.value(operation));
    const some = [nodes ? body.length : -1, body.length > 0 ? body : null] as const;
    const ends = [inputs.length, encode(inputs), outputs.length, encode(outputs), null, null, null] as const;
    const make = (s: Pointer) => c.TF_GraphToFunction(this.#graph, cString(name), 0, ...some, ...ends, s);
    const fn = this.lib.ok(make, what)!;
    this.lib.ok((s) => c.TFE_ContextAddFunction(context, fn, s), what);
    return fn;
  }

  dispose(): void {
    this.lib.c.TF_DeleteGraph(this.#graph);
  }
}

/** TF_Output structs (pointer, int32, padding), one after the other. */
function encode(ends: readonly GraphOutput[]): Uint8Array<ArrayBuffer> {
  const words = new BigUint64Array(Math.max(1, ends.length) * 2);
  ends.forEach(({ node, index }, i) => {
    words[2 * i] = Deno.UnsafePointer.value(node.operation);
    words[2 * i + 1] = BigInt(index);
  });
  return new Uint8Array(words.buffer);
}
