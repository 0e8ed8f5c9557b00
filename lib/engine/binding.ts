/**
 * The object through which the kernels of `@tensorflow/tfjs-node-gpu` talk to TensorFlow. Theirs is a compiled addon;
 * this one is the C library itself. While a {@linkcode GraphRecorder} is set, ops go to it instead of being executed.
 *
 * @module
 */
import {
  ATTR,
  type Attribute,
  cString,
  DTYPE,
  type LibTensorFlow,
  type Pointer,
  pointers,
  typeOf,
  type Values,
} from "./libtensorflow.ts";
import type { GraphRecorder } from "./recorder.ts";

/** What the kernels need to know of an op's output. */
export interface TensorMetadata {
  id: number;
  shape: number[];
  dtype: number;
}

/** The binding: a table from tensor ids to TensorFlow handles. */
export class Binding {
  readonly TF_Version: string;

  recorder: GraphRecorder | undefined;
  readonly #handles = new Map<number, Pointer>();
  readonly #outputs = new BigUint64Array(1024);
  readonly #count = new Int32Array(1);
  #nextId = 1;

  constructor(private readonly lib: LibTensorFlow) {
    this.TF_Version = lib.version;
    Object.assign(this, prefixed("TF_", DTYPE), prefixed("TF_ATTR_", ATTR));
  }

  /** An id that no tensor has had. */
  freshId(): number {
    return this.#nextId++;
  }

  createTensor(shape: readonly number[], dtype: number, values: Values): number {
    const tensor = this.lib.newTensor(shape, dtype, values);
    try {
      const id = this.freshId();
      this.recorder?.constant(id, tensor);
      const handle = this.lib.ok((s) => this.lib.c.TFE_NewTensorHandle(tensor, s), "new tensor")!;
      this.#handles.set(id, dtype === DTYPE.STRING ? this.#ownStrings(handle) : handle);
      return id;
    } finally {
      this.lib.c.TF_DeleteTensor(tensor);
    }
  }

  /** Takes over a handle that shares strings with a TF_Tensor; gives one on a copy, which TensorFlow frees with it. */
  #ownStrings(handle: Pointer): Pointer {
    const id = this.adopt(handle);
    try {
      return this.#execute("DeepCopy", [typeOf("T", DTYPE.STRING)], [id])[0]!;
    } finally {
      this.deleteTensor(id);
    }
  }

  /** Takes over a handle; gives its id. */
  adopt(handle: Pointer): number {
    const id = this.freshId();
    this.#handles.set(id, handle);
    return id;
  }

  /** The handle of a tensor that has one. */
  handle(id: number): Pointer {
    const handle = this.#handles.get(id);
    if (!handle) throw new TypeError("a tensor that was disposed, or that belongs to a recording, was used");
    return handle;
  }

  /** A second handle on a tensor's value; the caller's. */
  copy(id: number): Pointer {
    const handle = this.handle(id);
    return this.lib.ok((s) => this.lib.c.TFE_TensorHandleCopySharingTensor(handle, s), "copy")!;
  }

  deleteTensor(id: number): void {
    const handle = this.#handles.get(id);
    if (!handle) return;
    this.#handles.delete(id);
    this.lib.c.TFE_DeleteTensorHandle(handle);
  }

  tensorDataSync(id: number): Values {
    if (this.recorder && !this.#handles.has(id)) this.recorder.refuseRead();
    return this.lib.read(this.handle(id));
  }

  executeOp(name: string, attributes: readonly Attribute[], inputs: readonly number[]): TensorMetadata[] {
    if (this.recorder) return this.recorder.op(name, attributes, inputs);
    return this.#execute(name, attributes, inputs).map((handle) => this.metadata(handle));
  }

  #execute(name: string, attributes: readonly Attribute[], inputs: readonly number[]): Pointer[] {
    const { c } = this.lib, op = this.newOp(name, attributes, inputs);
    try {
      this.#count[0] = this.#outputs.length;
      this.lib.ok((s) => c.TFE_Execute(op, this.#outputs, this.#count, s), name);
      return pointers(this.#outputs, this.#count);
    } finally {
      c.TFE_DeleteOp(op);
    }
  }

  /** An eager op with its attributes and inputs set; the caller executes and deletes it. */
  newOp(name: string, attributes: readonly Attribute[], inputs: readonly number[]): Pointer {
    const { c, context } = this.lib;
    const handles = inputs.map((id) => this.handle(id));
    const op = this.lib.ok((s) => c.TFE_NewOp(context, cString(name), s), name)!;
    try {
      for (const attribute of attributes) this.lib.setAttribute("TFE_Op", op, attribute);
      for (const handle of handles) this.lib.ok((s) => c.TFE_OpAddInput(op, handle, s), name);
      return op;
    } catch (error) {
      c.TFE_DeleteOp(op);
      throw error;
    }
  }

  /** Takes over a handle and reads its shape and type. */
  metadata(handle: Pointer): TensorMetadata {
    const { c } = this.lib;
    const rank = this.lib.ok((s) => c.TFE_TensorHandleNumDims(handle, s), "shape");
    const dim = (i: number) => Number(this.lib.ok((s) => c.TFE_TensorHandleDim(handle, i, s), "shape"));
    const shape = Array.from({ length: rank }, (_, i) => dim(i));
    return { id: this.adopt(handle), shape, dtype: c.TFE_TensorHandleDataType(handle) };
  }

  isUsingGpuDevice(): boolean {
    return this.lib.devices.some((name) => name.includes("device:GPU"));
  }

  getNumOfTensors(): number {
    return this.#handles.size;
  }
}

/** Numbers by the names that the kernels read: TF_FLOAT, TF_ATTR_INT. */
const prefixed = (prefix: string, numbers: Record<string, number>) =>
  Object.fromEntries(Object.entries(numbers).map(([name, value]) => [prefix + name, value]));
