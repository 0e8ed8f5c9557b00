/**
 * Kernels of the WebAssembly engine in place of tfjs' own: products, transposes, sums, moves of rows, exp and erf, by
 * the WebAssembly of `kernels/kernels.ts`; and copies that need not be made.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";

/** What `kernels/kernels.ts` exports: addresses and steps in bytes, as described there. */
export interface Kernels {
  scratchBytes(): number;
  /** a and its steps by row and column, b and its, out, M, N, K, scratch. */
  product(...args: number[]): void;
  copyRows(from: number, fromStep: number, to: number, toStep: number, rows: number, width: number): void;
  repeat(from: number, to: number, width: number, times: number): void;
  transpose(from: number, fromStep: number, to: number, toStep: number, rows: number, columns: number): void;
  sumOverRows(from: number, to: number, rows: number, columns: number, factor: number): void;
  sumOfRows(from: number, to: number, rows: number, columns: number, factor: number): void;
  exp(from: number, to: number, count: number): void;
  erf(from: number, to: number, count: number): void;
}

/** tfjs' WebAssembly backend as the kernels use it. */
export interface WasmHeap {
  kernels: Kernels;
  /** Where `product` works. */
  scratch: number;
  /** The address of a tensor. */
  at(x: tf.TensorInfo): number;
  /** A new tensor with arbitrary contents. */
  make(shape: number[], dtype: tf.DataType): tf.TensorInfo;
  /** Another tensor of the same contents, which tensors never change. */
  share(x: tf.TensorInfo): tf.TensorInfo;
}

/** Replaces a kernel by a function of it; undefined hands the call on to tfjs' own. */
export type Replacement = (
  args: Parameters<tf.KernelFunc>[0],
  heap: WasmHeap,
) => ReturnType<tf.KernelFunc> | undefined;

type Info = tf.TensorInfo;

const WORD = 4;
const size = tf.util.sizeFromShape;
const hasBytes = ({ dtype }: tf.TensorInfo) => dtype === "float32" || dtype === "int32" || dtype === "bool";

/** Where each of the products of a batch finds its operand: its place among the operand's own matrices. */
function places(batch: readonly number[], own: readonly number[]): number[] {
  let result = [0];
  const missing = batch.length - own.length;
  for (const [axis, count] of batch.entries()) {
    const size = axis < missing ? 1 : own[axis - missing]!;
    result = result.flatMap((place) =>
      Array.from({ length: count }, (_, i) => size === 1 ? place : place * size + i)
    );
  }
  return result;
}

/** op(a) [..., M, K] x op(b) [..., K, N] = [..., M, N], batches broadcast. */
const batchMatMul: Replacement = ({ inputs, attrs }, { kernels, scratch, at, make }) => {
  const { a, b } = inputs as { a: tf.TensorInfo; b: tf.TensorInfo };
  const { transposeA, transposeB } = attrs as unknown as { transposeA: boolean; transposeB: boolean };
  if (a.dtype !== "float32" || b.dtype !== "float32") {
    throw new TypeError(`matMul on wasm: expected float32 operands, got ${a.dtype} and ${b.dtype}`);
  }
  const [own, others] = [a.shape.slice(0, -2), b.shape.slice(0, -2)];
  const batch = tf.broadcast_util.assertAndGetBroadcastShape(own, others), count = size(batch);
  const m = a.shape.at(transposeA ? -1 : -2)!, k = a.shape.at(transposeA ? -2 : -1)!;
  const n = b.shape.at(transposeB ? -2 : -1)!, out = make([...batch, m, n], "float32");
  // [B, M, K] x [K, N] is one product, [B * M, K] x [K, N].
  const one = !transposeA && size(others) === 1 && size(own) === count;
  const aSteps = transposeA ? [WORD, m * WORD] : [k * WORD, WORD];
  const bSteps = transposeB ? [WORD, k * WORD] : [n * WORD, WORD];
  const [aStart, bStart, outStart] = [at(a), at(b), at(out)], bPlaces = one ? [0] : places(batch, others);
  for (const [i, place] of (one ? [0] : places(batch, own)).entries()) {
    const aAt = aStart + place * m * k * WORD, bAt = bStart + bPlaces[i]! * k * n * WORD;
    const to = outStart + i * m * n * WORD;
    kernels.product(aAt, ...aSteps, bAt, ...bSteps, to, one ? count * m : m, n, k, scratch);
  }
  return out;
};

/** A dimension: its length, and the steps along it in the source and in the target. */
type Axis = { length: number; from: number; to: number };

/** The dimensions of a transpose in the target's order; those that stay side by side are one. */
function transposedAxes(x: tf.TensorInfo, perm: number[], bytes: number): Axis[] {
  const shape = perm.map((axis) => x.shape[axis]!), axes: Axis[] = [];
  for (const [i, axis] of perm.entries()) {
    const length = shape[i]!, last = axes.at(-1);
    const next = {
      length,
      from: bytes * size(x.shape.slice(axis + 1)),
      to: bytes * size(shape.slice(i + 1)),
    };
    if (last?.from === length * next.from) axes.push({ ...next, length: axes.pop()!.length * length });
    else if (length !== 1) axes.push(next);
  }
  return axes;
}

const transpose: Replacement = ({ inputs, attrs }, { kernels, at, make }) => {
  const x = inputs.x!, perm = attrs!.perm as number[], bytes = tf.util.bytesPerElement(x.dtype);
  if (!hasBytes(x)) return undefined;
  const axes = transposedAxes(x, perm, bytes), last = axes.at(-1) ?? { length: 1, from: bytes, to: bytes };
  const inner = axes.find((axis) => axis.from === bytes && axis !== last); // the source's last, if it moves
  if (inner && bytes !== WORD) return undefined;
  const out = make(perm.map((axis) => x.shape[axis]!), x.dtype);
  if (size(x.shape) === 0) return out;
  const outer = axes.filter((axis) => axis !== last && axis !== inner);
  // Where the last dimension stays the last, its rows are moved: many at once, those that lie close together.
  const distance = ({ length, from, to }: Axis) => Math.min(from, to) / length;
  const rows = inner ? undefined : outer.toSorted((a, b) => distance(a) - distance(b))[0];
  const { length: count, from, to } = rows ?? { length: 1, from: 0, to: 0 };
  let starts = [[at(x), at(out)] as const];
  for (const { length, from, to } of outer.filter((axis) => axis !== rows)) {
    const steps = Array.from({ length }, (_, i) => [i * from, i * to] as const);
    starts = starts.flatMap(([source, target]) => steps.map(([a, b]) => [source + a, target + b] as const));
  }
  for (const [source, target] of starts) {
    if (inner) kernels.transpose(source, last.from, target, inner.to, last.length, inner.length);
    else kernels.copyRows(source, from, target, to, count, last.length * bytes);
  }
  return out;
};

/** Copies between a tensor and the parts of it along an axis: into the parts, or out of them. */
function copyParts({ kernels, at }: WasmHeap, whole: Info, parts: Info[], axis: number, into: boolean): void {
  const bytes = tf.util.bytesPerElement(whole.dtype), rows = size(whole.shape.slice(0, axis));
  const step = bytes * size(whole.shape.slice(axis));
  let start = at(whole);
  for (const part of parts) {
    const width = bytes * size(part.shape.slice(axis));
    if (into) kernels.copyRows(start, step, at(part), width, rows, width);
    else kernels.copyRows(at(part), width, start, step, rows, width);
    start += width;
  }
}

const split: Replacement = ({ inputs, attrs }, heap) => {
  const { numOrSizeSplits, axis } = attrs as { numOrSizeSplits: number | number[]; axis: number },
    x = inputs.x!;
  if (!hasBytes(x)) return undefined;
  const along = tf.util.parseAxisParam(axis, x.shape)[0]!;
  const parts = tf.backend_util.prepareSplitSize(x as tf.Tensor, numOrSizeSplits, along)
    .map((length) => heap.make(x.shape.with(along, length), x.dtype));
  copyParts(heap, x, parts, along, true);
  return parts;
};

const concat: Replacement = ({ inputs, attrs }, heap) => {
  const parts = inputs as unknown as tf.TensorInfo[], first = parts[0]!;
  if (!parts.every((part) => hasBytes(part) && part.dtype === first.dtype)) return undefined;
  const along = tf.util.parseAxisParam((attrs as unknown as { axis: number }).axis, first.shape)[0]!;
  const shapes = parts.map(({ shape }) => shape);
  tf.backend_util.assertParamsConsistent(shapes, along);
  const out = heap.make(tf.backend_util.computeOutShape(shapes, along), first.dtype);
  copyParts(heap, out, parts, along, false);
  return out;
};

/** Along one dimension only, which is what broadcasting needs. */
const tile: Replacement = ({ inputs, attrs }, { kernels, at, make }) => {
  const x = inputs.x!, { reps } = attrs as unknown as { reps: number[] };
  const repeated = reps.flatMap((times, axis) => times === 1 ? [] : [axis]), along = repeated[0];
  if (!hasBytes(x) || repeated.length !== 1 || along === undefined) return undefined;
  const out = make(x.shape.map((length, axis) => length * reps[axis]!), x.dtype);
  const width = tf.util.bytesPerElement(x.dtype) * size(x.shape.slice(along)), times = reps[along]!;
  for (let row = 0; row < size(x.shape.slice(0, along)); row++) {
    if (times > 0) kernels.repeat(at(x) + row * width, at(out) + row * width * times, width, times);
  }
  return out;
};

/** A sum or a mean over the first or the last dimensions, in float64. */
const reduction = (mean: boolean): Replacement => ({ inputs, attrs }, { kernels, at, make }) => {
  const x = inputs.x!, rank = x.shape.length;
  const { axis, keepDims } = attrs as unknown as { axis: number | number[]; keepDims: boolean };
  const axes = tf.util.parseAxisParam(axis, x.shape).toSorted((a, b) => a - b);
  const from = (start: number) => axes.every((axis, i) => axis === start + i),
    trailing = from(rank - axes.length);
  if (x.dtype !== "float32" || !from(0) && !trailing) return undefined;
  const kept = x.shape.map((length, axis) => axes.includes(axis) ? 1 : length), count = size(kept);
  const out = make(keepDims ? kept : kept.filter((_, axis) => !axes.includes(axis)), "float32");
  const terms = size(axes.map((axis) => x.shape[axis]!)), factor = mean ? 1 / terms : 1;
  if (trailing) kernels.sumOfRows(at(x), at(out), count, terms, factor);
  else kernels.sumOverRows(at(x), at(out), terms, count, factor);
  return out;
};

const elementwise = (name: "exp" | "erf"): Replacement => ({ inputs }, { kernels, at, make }) => {
  const x = inputs.x!;
  if (x.dtype !== "float32") return undefined;
  const out = make(x.shape, "float32");
  kernels[name](at(x), at(out), size(x.shape));
  return out;
};

/** By the name of the kernel that each replaces. */
export const REPLACEMENTS: Readonly<Record<string, Replacement>> = {
  BatchMatMul: batchMatMul,
  Transpose: transpose,
  SplitV: split,
  Concat: concat,
  Tile: tile,
  Sum: reduction(false),
  Mean: reduction(true),
  Exp: elementwise("exp"),
  Erf: elementwise("erf"),
  Identity: ({ inputs }, { share }) => share(inputs.x!),
  Cast: ({ inputs, attrs }, { share }) => inputs.x!.dtype === attrs!.dtype ? share(inputs.x!) : undefined,
};
