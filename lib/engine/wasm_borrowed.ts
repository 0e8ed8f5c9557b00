/**
 * Kernels that the WebAssembly backend lacks, or whose values are wrong there: those of tfjs' JavaScript backend, which read
 * WebAssembly's memory in place.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";
import { replaceKernel } from "./kernels.ts";

/** What of tfjs' JavaScript backend is used here. */
interface Lender extends tf.KernelBackend {
  data: tf.DataStorage<{ values: tf.TypedArray }>;
  makeTensorInfo(shape: number[], dtype: tf.DataType, values: tf.TypedArray): tf.TensorInfo;
}

/** What of the WebAssembly backend is used here. */
interface Borrower extends tf.KernelBackend {
  makeOutput(shape: number[], dtype: tf.DataType): tf.TensorInfo;
  typedArrayFromHeap(x: tf.TensorInfo): tf.TypedArray;
}

type Call = Parameters<tf.KernelFunc>[0];

const transposedOrCut = ({ attrs }: Call) =>
  attrs!.transposeA === true || attrs!.transposeB === true || /^relu/.test(String(attrs!.activation));
const ofIntegers = ({ inputs }: Call) => inputs.x!.dtype !== "float32";

/** Kernels whose values are wrong, or that hide NaN: in some calls, and in all. */
const WRONG: Readonly<Record<string, (call: Call) => boolean>> = {
  _FusedMatMul: transposedOrCut,
  GatherV2: ({ attrs }) => attrs!.batchDims !== 0,
  StridedSlice: ofIntegers,
  DepthToSpace: ofIntegers,
};
const ALWAYS_WRONG =
  "AvgPool AvgPoolGrad AvgPool3DGrad ClipByValue Conv3DBackpropFilterV2 Conv3DBackpropInputV2 " +
  "Dilation2D Dilation2DBackpropFilter Dilation2DBackpropInput MaxPoolGrad MaxPool3D MaxPool3DGrad Maximum Minimum Prelu Relu6";

/** Complex numbers and texts do not lie in its memory. */
const ELSEWHERE = /Complex|FFT|Real|Imag|String|Ragged|Draw/;

/** The same kernel in JavaScript, for tensors of WebAssembly's. */
function borrowed({ kernelFunc }: tf.KernelConfig): tf.KernelFunc {
  const lender = Object.assign(tf.findBackend("cpu") as Lender, { firstUse: false }); // or it would print an advertisement
  return ({ inputs, attrs, backend }) => {
    const borrower = backend as Borrower, lent: tf.TensorInfo[] = [];
    const lend = (x: tf.TensorInfo) => {
      const info = lender.makeTensorInfo(x.shape, x.dtype, borrower.typedArrayFromHeap(x));
      lent.push(info);
      return { ...info, rank: x.shape.length };
    };
    const lentInputs = Array.isArray(inputs)
      ? inputs.map(lend)
      : Object.fromEntries(Object.entries(inputs).flatMap(([name, x]) => x ? [[name, lend(x)]] : []));
    const args = { inputs: lentInputs as tf.NamedTensorInfoMap, attrs: attrs!, backend: lender };
    const outputs = [kernelFunc(args)].flat(),
      own = outputs.map(({ dataId, shape, dtype }) => {
        const made = borrower.makeOutput(shape, dtype);
        borrower.typedArrayFromHeap(made).set(lender.data.get(dataId).values);
        return made;
      });
    for (const { dataId } of new Set([...lent, ...outputs])) lender.disposeData(dataId);
    return own.length === 1 ? own[0]! : own;
  };
}

/** Registers them for the backend "wasm". */
export function borrowKernels(): void {
  const known = new Set(tf.getKernelsForBackend("wasm").map(({ kernelName }) => kernelName));
  for (const kernel of tf.getKernelsForBackend("cpu")) {
    const { kernelName } = kernel, inJavaScript = borrowed(kernel);
    const wrong = ALWAYS_WRONG.split(" ").includes(kernelName) ? () => true : WRONG[kernelName];
    if (!known.has(kernelName) && !ELSEWHERE.test(kernelName)) {
      tf.registerKernel({ kernelName, backendName: "wasm", kernelFunc: inJavaScript });
    } else if (wrong) {
      replaceKernel(
        kernelName,
        "wasm",
        (own) => (call) => wrong(call) ? inJavaScript(call) : own.kernelFunc(call),
      );
    }
  }
}
