/**
 * TensorFlow's C library through `Deno.dlopen`: C strings, status checks, attributes, tensors.
 *
 * @module
 */

import { dirname } from "node:path";
import { C_API, SETTERS } from "./c_api.ts";
import { FRAMEWORK } from "./download.ts";
import { silently } from "./libc.ts";
import { releasePages } from "./resident.ts";
import { openNeeded } from "./windows.ts";
import { damageOf } from "./sums.ts";

/** A C pointer that is not null. */
export type Pointer = Deno.PointerObject;

/** TensorFlow's numbers for the types of elements that tfjs knows. */
export const DTYPE = {
  FLOAT: 1,
  INT32: 3,
  UINT8: 4,
  STRING: 7,
  COMPLEX64: 8,
  INT64: 9,
  BOOL: 10,
  BFLOAT16: 14,
  RESOURCE: 20,
} as const;

/** The bytes of one element of what is made here; of a string, those of the TF_TString that says where it is. */
const BYTES: Record<number, number> = { 1: 4, 3: 4, 4: 1, 7: 24, 8: 8, 9: 8, 10: 1 };

/** The arrays in which elements other than strings are read. */
const ARRAYS: Record<number, new (buffer: ArrayBuffer) => Values> = {
  [DTYPE.FLOAT]: Float32Array,
  [DTYPE.INT32]: Int32Array,
  [DTYPE.UINT8]: Uint8Array,
  [DTYPE.COMPLEX64]: Float32Array,
  [DTYPE.INT64]: BigInt64Array,
  [DTYPE.BOOL]: Uint8Array,
  [DTYPE.RESOURCE]: Uint8Array,
};

/** The numbers by which an attribute says what kind of value it has. */
export const ATTR = { STRING: 0, INT: 1, FLOAT: 2, BOOL: 3, TYPE: 4, SHAPE: 5, RESOURCE: 6 } as const;

/** One attribute of an op. `null` as a shape is a shape of unknown rank. */
export interface Attribute {
  name: string;
  type: number;
  value: boolean | number | string | null | readonly (number | boolean | string)[];
}

/** An attribute that is a type of elements. */
export const typeOf = (name: string, value: number): Attribute => ({ name, type: ATTR.TYPE, value });

/**
 * The elements of a tensor, as tfjs hands them over: of complex numbers the real and the imaginary part by turns, of a
 * string its bytes. A resource is read as the bytes of its handle.
 */
export type Values = Float32Array | Int32Array | Uint8Array | BigInt64Array | readonly Uint8Array[];

/** What TensorFlow said, with the op that it was said of. */
export class TensorFlowError extends Error {
  override name = "TensorFlowError";
}

const encoder = new TextEncoder();
const cStrings = new Map<string, Uint8Array<ArrayBuffer>>();

/** A zero-terminated UTF-8 copy of `text`, kept: the same few hundred names are used over and over. */
export function cString(text: string): Uint8Array<ArrayBuffer> {
  let bytes = cStrings.get(text);
  if (!bytes) cStrings.set(text, bytes = encoder.encode(text + "\0"));
  return bytes;
}

type Setters = Record<string, (...args: unknown[]) => void>;

/** The library, opened, with one eager context. One per process. */
export class LibTensorFlow {
  readonly c: Deno.DynamicLibrary<typeof C_API>["symbols"];
  readonly context: Pointer;
  readonly version: string;
  /** Full names of the devices, GPUs included. */
  readonly devices: readonly string[];
  readonly #status: Pointer;
  readonly #setters: Setters;

  /**
   * @param python On Windows: path of Python's DLL, where it does not lie beside the library.
   * @throws {TensorFlowError} If the library is damaged, cannot be opened or lacks a function.
   */
  constructor(path: string, python?: string) {
    refuseDamaged(path);
    try {
      if (Deno.build.os === "windows") openNeeded(path, python);
      this.c = silently(() => Deno.dlopen(path, C_API).symbols);
      this.#setters = Deno.dlopen(path, SETTERS).symbols as Setters;
    } catch (cause) {
      throw new TensorFlowError(`TensorFlow: cannot open ${path}: ${(cause as Error).message}`, { cause });
    }
    this.#status = this.c.TF_NewStatus()!;
    this.version = textAt(this.c.TF_Version());
    const options = this.c.TFE_NewContextOptions()!;
    this.c.TFE_ContextOptionsSetDevicePlacementPolicy(options, 2); // copy inputs to the op's device silently
    const context = silently(() => this.c.TFE_NewContext(options, this.#status));
    this.c.TFE_DeleteContextOptions(options);
    this.check("new context");
    this.context = context!;
    this.devices = this.#listDevices();
    releasePages(path, "TF_Version");
  }

  #listDevices(): string[] {
    const list = this.ok((s) => this.c.TFE_ContextListDevices(this.context, s), "list devices")!;
    const nameOf = (i: number) => textAt(this.ok((s) => this.c.TF_DeviceListName(list, i, s), "device"));
    const names = Array.from({ length: this.c.TF_DeviceListCount(list) }, (_, i) => nameOf(i));
    this.c.TF_DeleteDeviceList(list);
    return names;
  }

  /** Throws what the status holds, if that is an error. */
  check(what: string, status: Pointer = this.#status): void {
    const code = this.c.TF_GetCode(status);
    if (code === 0) return;
    const message = textAt(this.c.TF_Message(status));
    this.c.TF_SetStatus(status, 0, cString("")); // not every function sets it when all is well
    throw new TensorFlowError(`TensorFlow, ${what}: ${message}`);
  }

  /** Calls `f` with the shared status and checks that. For calls that block; the others need a status of their own. */
  ok<T>(f: (status: Pointer) => T, what: string): T {
    const result = f(this.#status);
    this.check(what);
    return result;
  }

  removeFunction(name: string): void {
    this.ok((s) => this.c.TFE_ContextRemoveFunction(this.context, cString(name), s), name);
  }

  /**
   * A TF_Tensor with a copy of `values`; the caller deletes it. That frees the characters of strings, unless a handle
   * shares them still: then nothing will.
   */
  newTensor(shape: readonly number[], dtype: number, values: Values): Pointer {
    const bytes = checkValues(shape, dtype, values), dims = BigInt64Array.from(shape, BigInt);
    const tensor = this.c.TF_AllocateTensor(dtype, dims, shape.length, BigInt(bytes));
    if (tensor === null) throw new RangeError(`createTensor: no memory for shape [${shape}], ${bytes} bytes`);
    if (!ArrayBuffer.isView(values)) {
      this.#strings(tensor).forEach((string, i) => {
        const characters = values[i] as Uint8Array<ArrayBuffer>;
        this.c.TF_StringInit(string);
        this.c.TF_StringCopy(string, characters, BigInt(characters.length));
      });
    } else {
      const own = new Uint8Array(values.buffer, values.byteOffset, bytes);
      memory(this.c.TF_TensorData(tensor), bytes).set(own);
    }
    return tensor;
  }

  /** Where each string of a TF_Tensor is described. */
  #strings(tensor: Pointer): Pointer[] {
    const length = Number(this.c.TF_TensorElementCount(tensor)), first = this.c.TF_TensorData(tensor)!;
    return Array.from({ length }, (_, i) => Deno.UnsafePointer.offset(first, i * BYTES[DTYPE.STRING]!)!);
  }

  /** Gives `use` what is behind a handle, a TF_Tensor. */
  resolved<T>(handle: Pointer, use: (tensor: Pointer) => T): T {
    const tensor = this.ok((s) => this.c.TFE_TensorHandleResolve(handle, s), "read")!;
    try {
      return use(tensor);
    } finally {
      this.c.TF_DeleteTensor(tensor);
    }
  }

  /** Gives `use` the bytes behind a handle. They are TensorFlow's: not to be changed, and gone afterwards. */
  look<T>(handle: Pointer, use: (bytes: Uint8Array<ArrayBuffer>) => T): T {
    return this.resolved(handle, (tensor) => {
      return use(memory(this.c.TF_TensorData(tensor), Number(this.c.TF_TensorByteSize(tensor))));
    });
  }

  /** A copy of the elements behind a handle. */
  read(handle: Pointer): Values {
    const dtype = this.c.TFE_TensorHandleDataType(handle);
    if (dtype === DTYPE.STRING) {
      return this.resolved(handle, (tensor) =>
        this.#strings(tensor).map((string) => {
          const size = Number(this.c.TF_StringGetSize(string));
          return memory(this.c.TF_StringGetDataPointer(string), size).slice();
        }));
    }
    const Elements = ARRAYS[dtype];
    if (!Elements) {
      throw new TypeError(`reading a tensor: elements of TensorFlow type ${dtype} are not supported`);
    }
    return this.look(handle, (bytes) => new Elements(bytes.slice().buffer));
  }

  /** Sets an attribute of an eager op (`"TFE_Op"`) or of a graph operation under construction (`"TF_"`). */
  setAttribute(prefix: "TFE_Op" | "TF_", op: Pointer, { name, type, value }: Attribute): void {
    if (type === ATTR.SHAPE) {
      const dims = BigInt64Array.from((value ?? []) as number[], BigInt), rank = value ? dims.length : -1;
      if (prefix === "TF_") return this.c.TF_SetAttrShape(op, cString(name), dims, rank);
      return this.ok((s) => this.c.TFE_OpSetAttrShape(op, cString(name), dims, rank, s), `attribute ${name}`);
    }
    if (!KINDS[type]) throw new TypeError(`attribute ${name}: expected a type from 0 to 5, got ${type}`);
    const [kind, one, many] = KINDS[type], list = Array.isArray(value);
    const set = this.#setters[`${prefix}SetAttr${kind}${list ? "List" : ""}`]!;
    set(op, cString(name), ...list ? many(value) : one(value));
  }
}

// deno-lint-ignore no-explicit-any
type Given = any;

/** By an attribute's type: what C calls it, and how it takes a value and a list of them. */
const KINDS: Record<
  number,
  [name: string, one: (value: Given) => unknown[], many: (all: Given[]) => unknown[]]
> = {
  [ATTR.STRING]: ["String", (text) => [cString(text), BigInt(cString(text).length - 1)], stringList],
  // A seed need not be whole.
  [ATTR.INT]: ["Int", (x) => [BigInt(Math.trunc(x))], (all) => [BigInt64Array.from(all, BigInt), all.length]],
  [ATTR.FLOAT]: ["Float", (x) => [x], (all) => [Float32Array.from(all), all.length]],
  [ATTR.BOOL]: ["Bool", (x) => [Number(x)], (all) => [Uint8Array.from(all), all.length]],
  [ATTR.TYPE]: ["Type", (x) => [x], (all) => [Int32Array.from(all), all.length]],
};

/** Code that was cut off or overwritten would end the process. */
function refuseDamaged(library: string): void {
  const folder = `${dirname(library)}/`;
  for (const path of new Set([library, folder + FRAMEWORK])) {
    const damage = damageOf(path);
    if (damage === undefined) continue;
    throw new TensorFlowError(
      `TensorFlow: ${path} is damaged: ${damage}. Remove ${folder}, and the next start fetches it anew; a Python's own: ` +
        "install that package again",
    );
  }
}

/** A list of strings as C takes it: an array of addresses, an array of lengths. */
function stringList(list: string[]): unknown[] {
  const strings = list.map(cString);
  const addresses = BigUint64Array.from(strings, (b) => Deno.UnsafePointer.value(Deno.UnsafePointer.of(b)));
  return [addresses, BigUint64Array.from(strings, (b) => BigInt(b.length - 1)), list.length];
}

/** The first `count` of addresses. */
export const pointers = (addresses: BigUint64Array, [count]: Int32Array): Pointer[] =>
  Array.from(addresses.subarray(0, count), (value) => Deno.UnsafePointer.create(value)!);

const textAt = (from: Deno.PointerValue): string => Deno.UnsafePointerView.getCString(from!);

/** `size` bytes of TensorFlow's. */
export function memory(from: Deno.PointerValue, size: number): Uint8Array<ArrayBuffer> {
  return new Uint8Array(from && size > 0 ? Deno.UnsafePointerView.getArrayBuffer(from, size) : []);
}

/** The bytes that the tensor needs, if `values` fit its shape and type. */
function checkValues(shape: readonly number[], dtype: number, values: Values): number {
  const size = BYTES[dtype], count = shape.reduce((a, b) => a * b, 1);
  if (size === undefined) {
    throw new TypeError(`createTensor: elements of TensorFlow type ${dtype} are not supported`);
  }
  if (dtype === DTYPE.STRING) {
    const strings = ArrayBuffer.isView(values) ? 0 : values.filter((v) => v instanceof Uint8Array).length;
    if (strings === count && values.length === count) return count * size;
    const got = `${values.length} elements, ${strings} of them Uint8Arrays`;
    throw new RangeError(
      `createTensor: shape [${shape}] needs ${count} strings, each a Uint8Array, got ${got}`,
    );
  }
  const given = ArrayBuffer.isView(values) ? values.byteLength : 0;
  if (given === count * size) return given;
  throw new RangeError(`createTensor: shape [${shape}] needs ${count * size} bytes, got ${given}`);
}
