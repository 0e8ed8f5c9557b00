/**
 * The WebAssembly engine: tfjs' own kernels, but for products, transposes and those of `wasm_rows.ts`. tfjs' product
 * kernel takes its fast path only for one plain [M, K] x [K, N]; here every form is brought into that one.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";
import { replaceKernel } from "./kernels.ts";
import { ROW_KERNELS, type WasmMemory } from "./wasm_rows.ts";

/** What the replaced kernels use of tfjs' WebAssembly backend. */
interface WasmBackend extends WasmMemory {
  dataIdNextNumber: number;
  wasm: WasmModule;
  typedArrayFromHeap(info: tf.TensorInfo): Float32Array;
}

interface WasmModule {
  HEAPU8: Uint8Array;
  tfjs: { registerTensor(id: number, size: number, offset: number): void; disposeData(id: number): void };
  cwrap(name: string, result: null, parameters: ("number" | "array")[]): Product;
}

/** Operand and shape of a, of b, whether they are transposed, the output: ids and bytes. */
type Product = (...args: (number | Uint8Array)[]) => void;

const BYTES = Float32Array.BYTES_PER_ELEMENT;
let product: Product;

/** tfjs' own transpose of up to four dimensions is fast: dimensions that stay side by side are moved as one. */
function transposeKernel(own: tf.KernelConfig): tf.KernelFunc {
  return ({ inputs, attrs, backend }) => {
    const x = inputs.x!, perm = attrs!.perm as number[];
    const runs: number[][] = [];
    for (const axis of perm.filter((axis) => x.shape[axis] !== 1)) {
      if (runs.at(-1)?.at(-1) === axis - 1) runs.at(-1)!.push(axis);
      else runs.push([axis]);
    }
    const sorted = runs.toSorted(([a], [b]) => a! - b!);
    const merged = {
      dataId: x.dataId,
      dtype: x.dtype,
      shape: sorted.map((axes) => axes.reduce((size, axis) => size * x.shape[axis]!, 1)),
    };
    const order = runs.map((axes) => sorted.indexOf(axes));
    const out = own.kernelFunc({ inputs: { x: merged }, attrs: { perm: order }, backend }) as tf.TensorInfo;
    return { ...out, shape: perm.map((axis) => x.shape[axis]!) };
  };
}

/** `x`, read as `shape`, with its dimensions in the order `perm`. */
function transposed(x: tf.TensorInfo, shape: number[], perm: number[], backend: WasmBackend): tf.TensorInfo {
  const inputs = { x: { ...x, shape } };
  return tf.getKernel("Transpose", "wasm").kernelFunc({ inputs, attrs: { perm }, backend }) as tf.TensorInfo;
}

/** `x` with its last two dimensions exchanged. */
function exchanged(x: tf.TensorInfo, backend: WasmBackend): tf.TensorInfo {
  const rank = x.shape.length, perm = x.shape.map((_, i) => i < rank - 2 ? i : 2 * rank - 3 - i);
  return transposed(x, x.shape, perm, backend);
}

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

/** out[i] [M, N] = a[i] [M, K] x b[i] [K, N], each by the fast path, on views of the operands' memory. */
function products(
  backend: WasmBackend,
  [a, b, out]: [tf.TensorInfo, tf.TensorInfo, tf.TensorInfo],
  [m, k, n]: [number, number, number],
  [aPlaces, bPlaces]: [number[], number[]],
): void {
  const { tfjs } = backend.wasm;
  const aShape = new Uint8Array(Int32Array.of(1, m, k).buffer),
    bShape = new Uint8Array(Int32Array.of(1, k, n).buffer);
  const start = ({ dataId }: tf.TensorInfo) => backend.dataIdMap.get(dataId).memoryOffset;
  const [aStart, bStart, outStart] = [start(a), start(b), start(out)];
  const [aId, bId, outId] = [0, 0, 0].map(() => backend.dataIdNextNumber++) as [number, number, number];
  for (const [i, aPlace] of aPlaces.entries()) {
    tfjs.registerTensor(aId, m * k, aStart + aPlace * m * k * BYTES);
    tfjs.registerTensor(bId, k * n, bStart + bPlaces[i]! * k * n * BYTES);
    tfjs.registerTensor(outId, m * n, outStart + i * m * n * BYTES);
    product(aId, aShape, 3, bId, bShape, 3, 0, 0, outId);
    // The kernel keeps its packed copy of b under b's id until the id is let go.
    for (const id of [aId, bId, outId]) tfjs.disposeData(id);
  }
}

/** The largest divisor of `k` from 256 to 1024, for a `k` that is long; else undefined. */
function chunkOf(k: number): number | undefined {
  if (k < 2048) return undefined;
  for (let chunk = 1024; chunk >= 256; chunk--) if (k % chunk === 0) return chunk;
  return undefined;
}

/**
 * op(a) [M, K] x b [K, N] for long K, as C products of shorter ones whose results [C, M, N] are added in float64: one
 * float32 sum of thousands of terms drifts, and its operands do not stay in the processor's cache.
 */
function longProduct(
  backend: WasmBackend,
  [a, b]: [tf.TensorInfo, tf.TensorInfo],
  [m, k, n]: [number, number, number],
  transposeA: boolean,
  chunk: number,
): tf.TensorInfo {
  const c = k / chunk, which = Array.from({ length: c }, (_, i) => i);
  const left = transposeA
    ? transposed(a, [c, chunk, m], [0, 2, 1], backend) // [K, M] to [C, M, K/C]
    : transposed(a, [m, c, chunk], [1, 0, 2], backend); // [M, K] to [C, M, K/C]
  const parts = backend.makeOutput([c, m, n], "float32");
  products(backend, [left, b, parts], [m, chunk, n], [which, which]);
  const out = tf.getKernel("Sum", "wasm").kernelFunc({ inputs: { x: parts }, attrs: { axis: 0 }, backend });
  for (const { dataId } of [left, parts]) backend.disposeData(dataId);
  return out as tf.TensorInfo;
}

/** a [..., M, K] x b [..., K, N] = [..., M, N], batches broadcast. */
function plainProduct(
  backend: WasmBackend,
  a: tf.TensorInfo,
  b: tf.TensorInfo,
  batch: number[],
): tf.TensorInfo {
  const [m, k] = a.shape.slice(-2) as [number, number],
    n = b.shape.at(-1)!,
    count = tf.util.sizeFromShape(batch);
  const [own, others] = [a.shape.slice(0, -2), b.shape.slice(0, -2)];
  const out = backend.makeOutput([...batch, m, n], "float32");
  if (k === 0) backend.typedArrayFromHeap(out).fill(0);
  else if (tf.util.sizeFromShape(others) === 1 && tf.util.sizeFromShape(own) === count) {
    // [B, M, K] x [K, N] is one product, [B * M, K] x [K, N].
    if (count * m * n > 0) products(backend, [a, b, out], [count * m, k, n], [[0], [0]]);
  } else if (m * n > 0) {
    products(backend, [a, b, out], [m, k, n], [places(batch, own), places(batch, others)]);
  }
  return out;
}

/** op(a) [..., M, K] x op(b) [..., K, N] = [..., M, N], batches broadcast. */
const batchMatMul: tf.KernelFunc = (args) => {
  const { a, b } = args.inputs as { a: tf.TensorInfo; b: tf.TensorInfo },
    backend = args.backend as WasmBackend;
  const { transposeA, transposeB } = args.attrs as unknown as { transposeA: boolean; transposeB: boolean };
  if (a.dtype !== "float32" || b.dtype !== "float32") {
    throw new TypeError(`matMul on wasm: expected float32 operands, got ${a.dtype} and ${b.dtype}`);
  }
  const batch = tf.broadcast_util.assertAndGetBroadcastShape(a.shape.slice(0, -2), b.shape.slice(0, -2));
  const m = a.shape.at(transposeA ? -1 : -2)!, k = a.shape.at(transposeA ? -2 : -1)!;
  const right = transposeB ? exchanged(b, backend) : b, n = right.shape.at(-1)!;
  const chunk = tf.util.sizeFromShape(batch) === 1 && m * n > 0 ? chunkOf(k) : undefined;
  const left = transposeA && !chunk ? exchanged(a, backend) : a;
  const out = chunk
    ? longProduct(backend, [a, right], [m, k, n], transposeA, chunk)
    : plainProduct(backend, left, right, batch);
  if (left !== a) backend.disposeData(left.dataId);
  if (right !== b) backend.disposeData(right.dataId);
  return { ...out, shape: [...batch, m, n] };
};

/** Sets the WebAssembly backend up as tfjs' backend "wasm". Its binary lies beside its JavaScript in the npm cache. */
export async function openWasm(): Promise<{ version: string; simd: boolean; threads: number }> {
  const wasm = await import("@tensorflow/tfjs-backend-wasm");
  await tf.setBackend("wasm");
  const backend = tf.backend() as unknown as WasmBackend;
  const operand = ["number", "array", "number"] as const, rest = ["number", "number", "number"] as const;
  product = backend.wasm.cwrap("BatchMatMul", null, [...operand, ...operand, ...rest]);
  replaceKernel("BatchMatMul", "wasm", () => batchMatMul);
  replaceKernel("Transpose", "wasm", transposeKernel);
  for (const [name, kernel] of Object.entries(ROW_KERNELS)) {
    replaceKernel(name, "wasm", (own) => (args) => {
      return kernel(args, args.backend as WasmMemory) ?? own.kernelFunc(args);
    });
  }
  const simd = await tf.env().getAsync("WASM_HAS_SIMD_SUPPORT") as boolean;
  return { version: wasm.version_wasm, simd, threads: wasm.getThreadsCount() };
}
