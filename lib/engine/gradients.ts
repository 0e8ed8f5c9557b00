/** Gradients that tfjs lacks, or gets wrong, whichever backend computes them. @module */
import * as tf from "@tensorflow/tfjs";
import { bilinearGradient, type Convention } from "./resize.ts";

/** The gradients of a kernel's inputs, by their names, out of those of its outputs, what was saved, and its settings. */
type GradientsOf<A> = (dy: tf.Tensor, saved: tf.Tensor[], attrs: A) => Record<string, () => tf.Tensor>;

/** @param more What is saved for the way back beside some inputs. */
function give<A>(kernelName: string, inputsToSave: string[], gradients: GradientsOf<A>, more = {}): void {
  tf.registerGradient({ kernelName, inputsToSave, ...more, gradFunc: gradients as unknown as tf.GradFunc });
}

function amend<A>(kernelName: string, make: (own: GradientsOf<A>) => GradientsOf<A>): void {
  const { gradFunc, ...saving } = tf.getGradient(kernelName);
  const made = make(gradFunc as unknown as GradientsOf<A>);
  tf.registerGradient({ ...saving, gradFunc: made as unknown as tf.GradFunc });
}

const flat = (x: tf.Tensor): tf.Tensor1D => tf.reshape(x, [-1]);

/** The sum over what was broadcast. */
function narrowed(gradient: tf.Tensor, { shape }: tf.Tensor): tf.Tensor {
  if (tf.util.arraysEqual(gradient.shape, shape)) return gradient;
  return tf.reshape(tf.sum(gradient, tf.broadcast_util.getReductionAxes(shape, gradient.shape)), shape);
}

function giveElementwise(): void {
  for (const name of ["Maximum", "Minimum", "SquaredDifference", "BatchMatMul"]) {
    amend(name, (own) => (dy, saved, attrs) => {
      const [a, b] = saved as [tf.Tensor, tf.Tensor], gradients = own(dy, saved, attrs);
      return { a: () => narrowed(gradients.a!(), a), b: () => narrowed(gradients.b!(), b) };
    });
  }
  for (const name of ["FloorDiv", "Greater", "Less", "LessEqual", "Equal", "NotEqual"]) {
    give(name, ["a", "b"], (_, [a, b]) => ({ a: () => tf.zeros(a!.shape), b: () => tf.zeros(b!.shape) }));
  }
  amend<{ dtype: tf.DataType }>("Cast", (own) => (dy, saved, attrs) => {
    return /int32|bool/.test(attrs.dtype) ? { x: () => tf.zerosLike(dy) } : own(dy, saved, attrs);
  });
}

/** Along what a running sum or product goes, and how. */
type Running = { axis: number; exclusive: boolean; reverse: boolean };

function giveReductions(): void {
  give<Running>("Cumsum", [], (dy, _, { axis, exclusive, reverse }) => ({
    x: () => tf.cumsum(dy, axis, exclusive, !reverse),
  }));
  // NaN where a factor is 0: better than a wrong number.
  give<Running>("Cumprod", ["x"], (dy, [x, y], { axis, exclusive, reverse }) => ({
    x: () => tf.div(tf.cumsum(tf.mul(dy, y!), axis, exclusive, !reverse), x!),
  }), { outputsToSave: [true] });
  give("TopK", ["x"], (dy, [x, indices]) => ({
    x: () => {
      const [values] = dy as unknown as [tf.Tensor]; // [..., k]
      const places = tf.oneHot(indices!, x!.shape.at(-1)!); // [..., k, n]
      return tf.sum(tf.mul(places, tf.expandDims(values, -1)), -2);
    },
  }), { outputsToSave: [false, true] });
}

/** What came from a place goes back to it: the kernel tells of places as it moves them. */
function returned(dy: tf.Tensor, { size, shape }: tf.Tensor, move: (x: tf.Tensor) => tf.Tensor): tf.Tensor {
  const places = tf.cast(move(tf.reshape(tf.range(0, size, 1, "int32"), shape)), "int32");
  return tf.reshape(tf.unsortedSegmentSum(flat(dy), flat(places), size), shape);
}

function giveMoves(): void {
  const moves = { StridedSlice: "x", DepthToSpace: "x", MirrorPad: "x", ResizeNearestNeighbor: "images" };
  for (const [name, input] of Object.entries(moves)) {
    give<tf.NamedAttrMap>(name, [input], (dy, [x], attrs) => ({
      [input]: () => returned(dy, x!, (places) => tf.engine().runKernel(name, { [input]: places }, attrs)),
    }));
  }
  amend<{ axis: number; batchDims: number }>("GatherV2", (own) => (dy, saved, attrs) => {
    const [x, indices] = saved as [tf.Tensor, tf.Tensor], { axis, batchDims } = attrs;
    if (batchDims === 0) return own(dy, saved, attrs);
    return { x: () => returned(dy, x, (places) => tf.gather(places, indices, axis, batchDims)) };
  });
  give("GatherNd", ["params", "indices"], (dy, [x, indices]) => ({
    params: () => tf.scatterND(indices!, dy, x!.shape as [number]),
  }));
  give("ScatterNd", ["indices"], (dy, [indices]) => ({ updates: () => tf.gatherND(dy, indices!) }));
  give("TensorScatterUpdate", ["indices", "updates"], (dy, [indices, updates]) => ({
    tensor: () => tf.tensorScatterUpdate(dy, indices!, tf.zerosLike(updates!)),
    updates: () => tf.gatherND(dy, indices!),
  }));
  give("Diag", ["x"], (dy, [x]) => ({
    x: () => tf.reshape(tf.gather(flat(dy), tf.range(0, x!.size ** 2, x!.size + 1, "int32")), x!.shape),
  }));
  give("FlipLeftRight", [], (dy) => ({ image: () => tf.image.flipLeftRight(dy as tf.Tensor4D) }));
  // tfjs takes the gradient of a list of one for that of its member.
  for (const name of ["Unpack", "SplitV"]) {
    amend(name, (own) => (dy, saved, attrs) => own([dy].flat() as unknown as tf.Tensor, saved, attrs));
  }
}

/** Every operand's gradient is a sum of products too: of the others and of the result's. */
function giveEinsum(): void {
  give<{ equation: string }>("Einsum", [], (dy, operands, { equation }) => {
    const [left, result] = equation.replaceAll(" ", "").split("->") as [string, string];
    const names = left.split(",");
    const gradient = (i: number) => {
      const own = names[i]!, others = names.toSpliced(i, 1, result), terms = operands.toSpliced(i, 1, dy);
      const lost = [...own].filter((axis) => !others.join("").includes(axis)); // summed over in this operand alone
      if (lost.length > 0) {
        others.push(lost.join(""));
        terms.push(tf.ones(lost.map((axis) => operands[i]!.shape[own.indexOf(axis)]!)));
      }
      return tf.einsum(`${others}->${own}`, ...terms);
    };
    return Object.fromEntries(names.map((_, i) => [i, () => gradient(i)]));
  }, { saveAllInputs: true });
}

/** A filter with zeros between its taps. */
function spread(filter: tf.Tensor4D, down: number, across: number): tf.Tensor4D {
  const [h, w, inputs, outputs] = filter.shape, channels = inputs * outputs;
  return tf.tidy(() => {
    const taps = tf.reshape(filter, [h, 1, w, 1, channels]); // [h, 1, w, 1, inputs × outputs]
    const apart = tf.pad(taps, [[0, 0], [0, down - 1], [0, 0], [0, across - 1], [0, 0]]);
    const whole = tf.reshape<tf.Rank.R4>(apart, [h * down, w * across, inputs, outputs]); // [h × down, w × across, inputs, outputs]
    return tf.slice(whole, [0, 0, 0, 0], [(h - 1) * down + 1, (w - 1) * across + 1, inputs, outputs]);
  });
}

/** How a convolution's filter moves; its taps may lie apart. */
type Filtering = { dilations?: number | [number, number]; strides: number; pad: "same" | "valid" };

function giveConvolutions(): void {
  for (const name of ["Conv2D", "DepthwiseConv2dNative"]) {
    amend<Filtering>(name, (own) => (dy, [x, filter], attrs) => {
      const [down = 1, across = down] = [attrs.dilations ?? 1].flat();
      if (down === 1 && across === 1) return own(dy, [x!, filter!], attrs);
      const wide = () => spread(filter as tf.Tensor4D, down, across), plain = { ...attrs, dilations: 1 };
      return {
        x: () => own(dy, [x!, wide()], plain).x!(),
        filter: () => {
          const all = own(dy, [x!, wide()], plain).filter!(); // [h × down, w × across, ...], without the last zeros
          return tf.stridedSlice(all, [0, 0, 0, 0], all.shape, [down, across, 1, 1]);
        },
      };
    });
  }
  give<Filtering>("Conv3DBackpropInputV2", ["dy", "filter"], (dx, [dy, filter], { strides, pad }) => ({
    dy: () => tf.conv3d(dx as tf.Tensor5D, filter as tf.Tensor5D, strides, pad),
    filter: () => {
      const attrs = { strides, pad, filterShape: filter!.shape };
      return tf.engine().runKernel("Conv3DBackpropFilterV2", { x: dx, dy: dy! }, attrs);
    },
  }));
}

/** An average pool's settings. */
type Pool = tf.NamedAttrMap & { filterSize: number | number[] };

/** tfjs divides by the whole window's size also where a part of it lay outside of the image; this makes it good. */
function weighted(dy: tf.Tensor, x: tf.Tensor, { filterSize, ...pool }: Pool): tf.Tensor {
  const window = typeof filterSize === "number" ? Array<number>(x.rank - 2).fill(filterSize) : filterSize;
  const ones = tf.ones([...x.shape.slice(0, -1), 1]), filter = tf.ones([...window, 1, 1]);
  const [name, dataFormat] = x.rank === 5 ? ["Conv3D", "NDHWC"] : ["Conv2D", "NHWC"];
  const attrs = { ...pool, dataFormat: dataFormat!, dilations: 1 };
  const inside = tf.engine().runKernel(name!, { x: ones, filter }, attrs) as tf.Tensor; // [B, ..., 1]
  return tf.div(tf.mul(dy, filter.size), inside);
}

function giveImages(): void {
  for (const name of ["AvgPool", "AvgPool3D"]) {
    amend<Pool>(name, (own) => (dy, [x], attrs) => ({
      x: () => own(tf.getBackend() === "tensorflow" ? dy : weighted(dy, x!, attrs), [x!], attrs).x!(),
    }));
  }
  give<Convention>("ResizeBilinear", ["images"], (dy, [x], convention) => ({
    images: () => bilinearGradient(dy as tf.Tensor4D, x as tf.Tensor4D, convention),
  }));
}

/** What has no gradient here, and what to write instead. */
const INSTEAD: Readonly<Record<string, string>> = {
  Complex: "tf.complex and tf.spectral: write the transform as products, tf.matMul, with cosines and sines",
  CropAndResize: "tf.image.cropAndResize: write tf.slice and tf.image.resizeBilinear",
  RotateWithOffset: "tf.image.rotateWithOffset: write tf.gather of the pixels, flat, by their places",
  Transform: "tf.image.transform: write tf.gather of the pixels, flat, by their places",
};

function refuseOthers(): void {
  for (const [name, instead] of Object.entries(INSTEAD)) {
    give(name, [], () => {
      throw new TypeError(`there is no gradient of ${instead}`);
    });
  }
}

/** What of tfjs' engine is used here. */
interface Taping {
  gradients(...args: unknown[]): unknown;
  keep(tensor: tf.Tensor): tf.Tensor;
  addTapeNode(...args: unknown[]): void;
  state: { gradientDepth: number; kernelDepth: number; activeTape: TapeNode[] | null };
}

interface TapeNode {
  inputs: Record<string, tf.Tensor>;
  outputs: tf.Tensor[];
  saved: tf.Tensor[];
}

/**
 * Where a gradient is differentiated, an operation stands on the tape before the copies of its outputs that it saved (tanh's,
 * softmax's): tfjs puts it behind them, and takes them for constant.
 */
function putSavedBehind(): void {
  const engine = tf.engine() as unknown as Taping, { addTapeNode, state } = engine;
  engine.addTapeNode = (...args) => {
    addTapeNode.apply(engine, args);
    if (state.gradientDepth < 2) return;
    const tape = state.activeTape!, node = tape.pop()!, made = new Set(node.outputs.map(({ id }) => id));
    let at = tape.length;
    while (at > 0 && Object.values(tape[at - 1]!.inputs).some(({ id }) => made.has(id))) at--;
    tape.splice(at, 0, node);
  };
}

/** What was saved for the way back is let go of where a gradient throws. */
function letGoAfterErrors(): void {
  const engine = tf.engine() as unknown as Taping, { gradients, keep } = engine, { state } = engine;
  const unfinished = new Set<tf.Tensor>(); // saved by custom gradients, which may not come as far as the tape
  engine.keep = (tensor) => {
    if (state.gradientDepth > 0 && state.kernelDepth > 0) unfinished.add(tensor);
    return keep.call(engine, tensor);
  };
  engine.gradients = (...args) => {
    try {
      return gradients.apply(engine, args);
    } catch (error) {
      if (state.gradientDepth === 0) {
        tf.dispose([...unfinished, ...state.activeTape?.flatMap(({ saved }) => saved) ?? []]);
        state.activeTape = null;
      }
      throw error;
    } finally {
      if (state.gradientDepth === 0) unfinished.clear();
    }
  };
}

let corrected = false;

/** Corrects tfjs for this process. */
export function correctGradients(): void {
  if (corrected) return;
  corrected = true;
  const gradients = [
    giveElementwise,
    giveReductions,
    giveMoves,
    giveEinsum,
    giveConvolutions,
    giveImages,
    refuseOthers,
  ];
  for (const correct of [letGoAfterErrors, putSavedBehind, ...gradients]) correct();
}
