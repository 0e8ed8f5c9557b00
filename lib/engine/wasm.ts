/**
 * The WebAssembly engine: tfjs' own kernels, but for products and transposes. tfjs' product kernel takes its fast path
 * only for one plain [M, K] x [K, N]; here every form is brought into that one.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";

/** What the replaced kernels use of tfjs' WebAssembly backend. */
interface WasmBackend extends tf.KernelBackend {
  dataIdNextNumber: number;
  dataIdMap: { get(dataId: tf.DataId): { id: number; memoryOffset: number } };
  wasm: WasmModule;
  makeOutput(shape: number[], dtype: tf.DataType): tf.TensorInfo;
  typedArrayFromHeap(info: tf.TensorInfo): Float32Array;
}

interface WasmModule {
  tfjs: { registerTensor(id: number, size: number, offset: number): void; disposeData(id: number): void };
  cwrap(name: string, result: null, parameters: ("number" | "array")[]): (...args: unknown[]) => void;
}

type Product = (
  ...args: [
    a: number,
    aShape: Uint8Array,
    aRank: 3,
    b: number,
    bShape: Uint8Array,
    bRank: 3,
    0,
    0,
    out: number,
  ]
) => void;

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

/** `x` with its last two dimensions exchanged. */
function exchanged(x: tf.TensorInfo, backend: WasmBackend): tf.TensorInfo {
  const rank = x.shape.length, perm = x.shape.map((_, i) => i < rank - 2 ? i : 2 * rank - 3 - i);
  return tf.getKernel("Transpose", "wasm").kernelFunc({
    inputs: { x },
    attrs: { perm },
    backend,
  }) as tf.TensorInfo;
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
  const [aStart, bStart, outStart] = [a, b, out].map((x) => backend.dataIdMap.get(x.dataId).memoryOffset) as [
    number,
    number,
    number,
  ];
  const aId = backend.dataIdNextNumber++,
    bId = backend.dataIdNextNumber++,
    outId = backend.dataIdNextNumber++;
  for (const [i, aPlace] of aPlaces.entries()) {
    tfjs.registerTensor(aId, m * k, aStart + aPlace * m * k * BYTES);
    tfjs.registerTensor(bId, k * n, bStart + bPlaces[i]! * k * n * BYTES);
    tfjs.registerTensor(outId, m * n, outStart + i * m * n * BYTES);
    product(aId, aShape, 3, bId, bShape, 3, 0, 0, outId);
    // The kernel keeps its packed copy of b under b's id until the id is let go.
    for (const id of [aId, bId, outId]) tfjs.disposeData(id);
  }
}

/** op(a) [..., M, K] x op(b) [..., K, N] = [..., M, N], batches broadcast. */
const batchMatMul: tf.KernelFunc = (args) => {
  const { inputs, attrs } = args, backend = args.backend as WasmBackend;
  const { transposeA, transposeB } = attrs as { transposeA: boolean; transposeB: boolean };
  if (inputs.a!.dtype !== "float32" || inputs.b!.dtype !== "float32") {
    throw new TypeError(
      `matMul on wasm: expected float32 operands, got ${inputs.a!.dtype} and ${inputs.b!.dtype}`,
    );
  }
  const a = transposeA ? exchanged(inputs.a!, backend) : inputs.a!;
  const b = transposeB ? exchanged(inputs.b!, backend) : inputs.b!;
  const [m, k] = a.shape.slice(-2) as [number, number], n = b.shape.at(-1)!;
  const batch = tf.broadcast_util.assertAndGetBroadcastShape(a.shape.slice(0, -2), b.shape.slice(0, -2));
  const out = backend.makeOutput([...batch, m, n], "float32"), count = tf.util.sizeFromShape(batch);
  if (k === 0) backend.typedArrayFromHeap(out).fill(0);
  else if (m * n * count > 0) {
    const bMatrices = tf.util.sizeFromShape(b.shape.slice(0, -2));
    const aMatrices = tf.util.sizeFromShape(a.shape.slice(0, -2));
    // [B, M, K] x [K, N] is one product, [B * M, K] x [K, N].
    if (bMatrices === 1 && aMatrices === count) products(backend, [a, b, out], [count * m, k, n], [[0], [0]]);
    else {
      const which = [a, b].map(({ shape }) => places(batch, shape.slice(0, -2))) as [number[], number[]];
      products(backend, [a, b, out], [m, k, n], which);
    }
  }
  if (a !== inputs.a) backend.disposeData(a.dataId);
  if (b !== inputs.b) backend.disposeData(b.dataId);
  return out;
};

function replace(kernelName: string, make: (own: tf.KernelConfig) => tf.KernelFunc): void {
  const own = tf.getKernel(kernelName, "wasm");
  tf.unregisterKernel(kernelName, "wasm");
  tf.registerKernel({ ...own, kernelFunc: make(own) });
}

/** Sets the WebAssembly backend up as tfjs' backend "wasm". Its binary lies beside its JavaScript in the npm cache. */
export async function openWasm(): Promise<{ version: string; simd: boolean; threads: number }> {
  const wasm = await import("@tensorflow/tfjs-backend-wasm");
  await tf.setBackend("wasm");
  const backend = tf.backend() as unknown as WasmBackend;
  const number = "number", array = "array";
  product = backend.wasm.cwrap("BatchMatMul", null, [
    ...[number, array, number] as const,
    ...[number, array, number] as const,
    ...[number, number, number] as const,
  ]) as Product;
  replace("BatchMatMul", () => batchMatMul);
  replace("Transpose", transposeKernel);
  const simd = await tf.env().getAsync("WASM_HAS_SIMD_SUPPORT") as boolean;
  return { version: wasm.version_wasm, simd, threads: wasm.getThreadsCount() };
}
