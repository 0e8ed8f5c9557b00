/**
 * Builds a TensorFlow graph from the ops that a function calls. Nothing is computed: the graph infers the shapes.
 *
 * @module
 */
import type * as tf from "@tensorflow/tfjs";
import type { Recorder, TensorMetadata } from "./binding.ts";
import { type Attribute, cString, type LibTensorFlow, type Pointer, type Values } from "./libtensorflow.ts";
import type { TensorFlow } from "./tensorflow.ts";
import { callerOf } from "./trace.ts";

/** Tensors that exist before the recording and are at most this large become constants of it; larger ones, inputs. */
const CONSTANT_BYTES = 1 << 16;

export interface GraphOutput {
  operation: Pointer;
  index: number;
  /** A placeholder cannot be a function's output as it is. */
  placeholder: boolean;
}

/** An input of the recorded function: an argument, a variable's value, or a tensor that the function closes over. */
export type Source = { argument: number } | { variable: tf.Variable } | { captured: number };

/** Builds a graph from ops. */
export class GraphRecorder implements Recorder {
  readonly graph: Pointer;
  readonly sources: Source[] = [];
  readonly placeholders: GraphOutput[] = [];
  readonly captured: number[] = [];
  readonly #engine: TensorFlow;
  readonly #lib: LibTensorFlow;
  readonly #label: string;
  readonly #known = new Map<number, GraphOutput>();
  /** Stand-ins that no op has used so far, and what they stand for. */
  readonly #standIns = new Map<number, { source: Source; shape: readonly number[]; dtype: number }>();
  #nodes = 0;
  /** Name of an operation of interest, and who called for it. */
  readonly #watched: string | undefined;
  caller: string | undefined;

  constructor(engine: TensorFlow, label: string, watched?: string) {
    this.#engine = engine;
    this.#lib = engine.lib;
    this.#label = label;
    this.#watched = watched;
    this.graph = this.#lib.c.TF_NewGraph()!;
  }

  /** The id of a tensor that stands for `source`. */
  standIn(source: Source, shape: readonly number[], dtype: number): number {
    const id = this.#engine.binding.freshId();
    this.#standIns.set(id, { source, shape, dtype });
    return id;
  }

  refuseRead(): never {
    throw new TypeError(
      `compile("${this.#label}"): the function reads a tensor's values (dataSync, arraySync, print, or an op that needs ` +
        `them), which do not exist while it is recorded. Return that tensor, or compute what depends on it outside and ` +
        `pass it as an argument.`,
    );
  }

  constant(id: number, shape: readonly number[], dtype: number, values: Values): void {
    const tensor = this.#lib.newTensor(shape, dtype, values);
    try {
      this.#known.set(id, this.#const(tensor, dtype));
    } finally {
      this.#lib.c.TF_DeleteTensor(tensor);
    }
  }

  op(name: string, attributes: readonly Attribute[], inputs: readonly number[]): TensorMetadata[] {
    const { c } = this.#lib;
    const ends = inputs.map((id) => this.output(id));
    const node = this.#begin(name);
    // The ops that take a list (Pack, ConcatV2, AddN, Einsum) take it first and call its length N.
    const list = attributes.find((a) => a.name === "N")?.value as number | undefined ?? 0;
    if (list > 0) c.TF_AddInputList(node, encode(ends.slice(0, list)), list);
    for (const end of ends.slice(list)) c.TF_AddInput(node, encode([end]));
    for (const attribute of attributes) {
      if (attribute.name !== "N") this.#lib.setAttribute("TF_", node, attribute);
    }
    const operation = this.#finish(node, name);
    return Array.from({ length: c.TF_OperationNumOutputs(operation) }, (_, index) => {
      const end = { operation, index, placeholder: false };
      const id = this.#engine.binding.freshId();
      this.#known.set(id, end);
      return { id, shape: this.#shape(end, name), dtype: c.TF_OperationOutputType(encode([end])) };
    });
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
    const { c } = this.#lib, handle = this.#engine.binding.handle(id);
    const copy = this.#lib.ok((s) => c.TFE_TensorHandleCopySharingTensor(handle, s), "capture")!;
    const { id: held, shape, dtype } = this.#engine.binding.metadata(copy);
    const size = shape.reduce((a, b) => a * b, 1);
    if (size * 8 > CONSTANT_BYTES) {
      this.captured.push(held);
      return this.#placeholder({ source: { captured: held }, shape, dtype });
    }
    const tensor = this.#lib.ok((s) => c.TFE_TensorHandleResolve(copy, s), "capture")!;
    try {
      return this.#const(tensor, dtype);
    } finally {
      c.TF_DeleteTensor(tensor);
      this.#engine.binding.deleteTensor(held);
    }
  }

  #placeholder(
    { source, shape, dtype }: { source: Source; shape: readonly number[]; dtype: number },
  ): GraphOutput {
    const { c } = this.#lib;
    const node = c.TF_NewOperation(
      this.graph,
      cString("Placeholder"),
      cString(`input${this.sources.length}`),
    )!;
    c.TF_SetAttrType(node, cString("dtype"), dtype);
    c.TF_SetAttrShape(node, cString("shape"), BigInt64Array.from(shape, BigInt), shape.length);
    const end = { operation: this.#finish(node, "Placeholder"), index: 0, placeholder: true };
    this.sources.push(source);
    this.placeholders.push(end);
    return end;
  }

  #const(tensor: Pointer, dtype: number): GraphOutput {
    const { c } = this.#lib;
    const node = this.#begin("Const");
    c.TF_SetAttrType(node, cString("dtype"), dtype);
    this.#lib.ok((s) => c.TF_SetAttrTensor(node, cString("value"), tensor, s), "Const");
    return { operation: this.#finish(node, "Const"), index: 0, placeholder: false };
  }

  /** A new operation of the graph, to be described and finished. */
  #begin(type: string): Pointer {
    const name = `${type.replace(/^_+/, "")}.${this.#nodes++}`;
    if (name === this.#watched) this.caller = callerOf(new Error());
    return this.#lib.c.TF_NewOperation(this.graph, cString(type), new TextEncoder().encode(`${name}\0`))!;
  }

  #finish(node: Pointer, name: string): Pointer {
    return this.#lib.ok(
      (s) => this.#lib.c.TF_FinishOperation(node, s),
      `${name} while recording "${this.#label}"`,
    )!;
  }

  #shape(end: GraphOutput, name: string): number[] {
    const { c } = this.#lib;
    const rank = this.#lib.ok((s) => c.TF_GraphGetTensorNumDims(this.graph, encode([end]), s), name);
    const dims = new BigInt64Array(Math.max(rank, 0));
    if (rank > 0) {
      this.#lib.ok((s) => c.TF_GraphGetTensorShape(this.graph, encode([end]), dims, rank, s), name);
    }
    if (rank < 0 || dims.some((d) => d < 0n)) {
      throw new TypeError(
        `compile("${this.#label}"): the shape of what ${name} gives depends on values, which do not exist while the ` +
          `function is recorded. Call ${name} outside and pass its result as an argument.`,
      );
    }
    return Array.from(dims, Number);
  }

  /** Adds the graph to the context as a function. */
  toFunction(outputs: readonly GraphOutput[]): string {
    const { c, context } = this.#lib;
    const ends = outputs.map((end) => end.placeholder ? this.#identity(end) : end);
    const name = this.#engine.functionName(this.#label);
    const { placeholders: inputs } = this;
    const fn = this.#lib.ok(
      (s) =>
        c.TF_GraphToFunction(
          this.graph,
          cString(name),
          0,
          -1,
          null,
          inputs.length,
          encode(inputs),
          ends.length,
          encode(ends),
          null,
          null,
          null,
          s,
        ),
      `recording "${this.#label}"`,
    )!;
    this.#lib.ok((s) => c.TFE_ContextAddFunction(context, fn, s), `recording "${this.#label}"`);
    c.TF_DeleteFunction(fn);
    return name;
  }

  #identity(end: GraphOutput): GraphOutput {
    const { c } = this.#lib;
    const node = this.#begin("Identity");
    c.TF_AddInput(node, encode([end]));
    return { operation: this.#finish(node, "Identity"), index: 0, placeholder: false };
  }

  dispose(): void {
    this.#lib.c.TF_DeleteGraph(this.graph);
  }
}

/** TF_Output structs (pointer, int32, padding), one after the other. */
function encode(ends: readonly GraphOutput[]): Uint8Array<ArrayBuffer> {
  const words = new BigUint64Array(Math.max(1, ends.length) * 2);
  ends.forEach(({ operation, index }, i) => {
    words[2 * i] = Deno.UnsafePointer.value(operation);
    words[2 * i + 1] = BigInt(index);
  });
  return new Uint8Array(words.buffer);
}
