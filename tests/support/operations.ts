import * as tf from "@tensorflow/tfjs";

/** A function of one tensor, whose value and gradient every engine has to get right. */
export interface Operation {
  name: string;
  shape: number[];
  /** Gives one tensor. */
  of: (x: tf.Tensor) => tf.Tensor;
  low: number;
  high: number;
  /** Whether it only moves numbers, integers too. */
  moves: boolean;
}

type Any = (...args: unknown[]) => tf.Tensor;
const loose = (names: object) => names as Record<string, Any>;
const t = loose(tf), image = loose(tf.image), linalg = loose(tf.linalg), losses = loose(tf.losses);
const fused = loose(tf.fused), spectral = loose(tf.spectral);

/** Fixed numbers. */
export const wave = (shape: number[]): tf.Tensor =>
  tf.tensor(
    Float32Array.from({ length: tf.util.sizeFromShape(shape) }, (_, i) => Math.cos(0.7 * i + 0.2)),
    shape,
  );

/** Numbers from `low` to `high` in no order, all equally far from the next: a small change swaps no two of them. */
export function spaced({ shape, low, high }: Operation): Float32Array {
  const length = tf.util.sizeFromShape(shape);
  const order = Array.from({ length }, (_, i) => i).sort((a, b) =>
    Math.sin(9 * a * a + a) - Math.sin(9 * b * b + b)
  );
  return Float32Array.from(order, (place) => low + (high - low) * (place + 0.5) / length);
}

const ints = (values: unknown, shape?: number[]) => tf.tensor(values as number[], shape, "int32");
const S = [2, 3, 4], CUBE = [3, 3, 3], IMAGE = [1, 4, 5, 2], FLAGS = [false, true];
const PARTS: [number | number[]][] = [[0], [1], [2], [[0, 2]], [[1, 2]]];

function* elementwise(): Generator<[string, number[], Operation["of"], number?, number?]> {
  const names =
    "abs acos asin asinh atan atanh cos cosh elu erf exp expm1 leakyRelu log1p logSigmoid neg relu relu6 selu " +
    "sigmoid sin sinh softplus square tan tanh";
  for (const name of names.split(" ")) yield [name, S, (x) => t[name]!(x), -0.8, 0.8];
  for (const name of ["log", "sqrt", "rsqrt", "reciprocal"]) yield [name, S, (x) => t[name]!(x), 0.3, 2];
  yield ["acosh", S, (x) => tf.acosh(x), 1.2, 3];
  yield ["clipByValue", S, (x) => tf.clipByValue(x, -0.41, 0.52)];
  yield ["step", S, (x) => tf.mul(tf.step(x), x)];
  yield ["sign", S, (x) => tf.mul(tf.sign(x), x)];
  yield [
    "floor, ceil and round",
    S,
    (x) => tf.mul(tf.addN([tf.floor(x), tf.ceil(x), tf.round(x)]), x),
    0.1,
    2.9,
  ];
  yield ["where", S, (x) => tf.where(tf.greater(wave(S), 0), x, tf.mul(x, 2))];
  yield ["prelu", S, (x) => tf.prelu(x, tf.scalar(0.2))];
  yield ["prelu, by its slopes", [3, 1], (x) => tf.prelu(wave(S), x)];
  const binary = "add sub mul div maximum minimum squaredDifference atan2 pow";
  for (const name of binary.split(" ")) {
    const other = () => tf.add(wave([2, 1, 4]), 2.21);
    yield [`${name}, broadcast`, [3, 1], (x) => t[name]!(x, other()), 0.5, 1.5];
    yield [`${name}, broadcast, by the second`, [3, 1], (x) => t[name]!(other(), x), 0.5, 1.5];
    yield [`${name}, by both`, [2, 2], (x) => t[name]!(x, tf.add(tf.reverse(x, 0), 0.013)), 0.5, 1.5];
  }
  yield ["mod", S, (x) => tf.mod(x, tf.scalar(5.3)), 0.1, 2];
  yield ["mod, by the second", [3], (x) => tf.mod(tf.tensor1d([5.3, 7.1, 9.9]), x), 1.9, 2.3];
  yield ["floorDiv", S, (x) => tf.mul(tf.floorDiv(x, tf.scalar(5.3)), x), 0.1, 2];
  yield ["addN", S, (x) => tf.addN([x, tf.square(x), x])];
  yield ["cast", S, (x) => tf.mul(tf.cast(tf.cast(x, "int32"), "float32"), x), 0.1, 0.9];
  yield ["oneHot times", [3], (x) => tf.mul(tf.oneHot(ints([0, 2, 1]), 3), x)];
}

function* reductions(): Generator<[string, number[], Operation["of"], number?, number?]> {
  for (const [axis] of PARTS) {
    for (const name of ["sum", "mean", "prod", "max", "min", "logSumExp"]) {
      yield [`${name} along ${axis}`, S, (x) => t[name]!(x, axis), 0.3, 1.5];
    }
    yield [`norm along ${axis}`, S, (x) => tf.norm(x, "euclidean", axis), 0.3, 1.5];
    yield [`moments along ${axis}`, S, (x) => tf.add(tf.moments(x, axis).mean, tf.moments(x, axis).variance)];
  }
  yield ["sum, kept", S, (x) => tf.mul(x, tf.sum(x, 1, true))];
  yield ["norm 1", S, (x) => tf.norm(x, 1, 1), 0.3, 1.5];
  yield ["norm infinity", S, (x) => tf.norm(x, Infinity, 1), 0.3, 1.5];
  yield ["norm", S, (x) => tf.norm(x), 0.3, 1.5];
  yield ["softmax", S, (x) => tf.softmax(x)];
  yield ["logSoftmax", S, (x) => tf.logSoftmax(x)];
  for (const axis of [0, 1, 2]) {
    for (const exclusive of FLAGS) {
      for (const reverse of FLAGS) {
        const how = `along ${axis}${exclusive ? ", exclusive" : ""}${reverse ? ", reverse" : ""}`;
        yield [`cumsum ${how}`, CUBE, (x) => tf.cumsum(x, axis, exclusive, reverse)];
        yield [`cumsum of no cube ${how}`, S, (x) => tf.cumsum(x, axis, exclusive, reverse)];
        yield [`cumprod ${how}`, S, (x) => tf.cumprod(x, axis, exclusive, reverse), 0.5, 1.5];
      }
    }
  }
  yield ["topk", [2, 5], (x) => tf.topk(x, 2).values];
  yield ["sorted", [5], (x) => tf.topk(x, 5).values];
}

function* moves(): Generator<[string, number[], Operation["of"], number?, number?]> {
  for (const axis of [0, 1, 2]) {
    yield [`gather along ${axis}`, CUBE, (x) => tf.gather(x, ints([0, 2, 2]), axis)];
    yield [`gather by a table along ${axis}`, CUBE, (x) => tf.gather(x, ints([[0, 1], [2, 2]]), axis)];
    yield [`stack along ${axis}`, CUBE, (x) => tf.stack([x, tf.square(x)], axis)];
    yield [`concat along ${axis}`, CUBE, (x) => tf.concat([x, tf.square(x)], axis)];
    yield [`reverse along ${axis}`, CUBE, (x) => tf.reverse(x, axis)];
    yield [`unstack along ${axis}`, CUBE, (x) => tf.mul(tf.unstack(x, axis)[0]!, tf.unstack(x, axis)[2]!)];
    yield [
      `split along ${axis}`,
      [4, 4, 4],
      (x) => tf.mul(...tf.split(x, 2, axis) as [tf.Tensor, tf.Tensor]),
    ];
  }
  yield ["unstack of one", [1, 3], (x) => tf.square(tf.unstack(x)[0]!)];
  yield ["split into one", [2, 3], (x) => tf.square(tf.split(x, 1)[0]!)];
  const rows = () => ints([[0, 1], [2, 2], [1, 0]]);
  yield ["gather, rows of each image", [3, 3, 2], (x) => tf.gather(x, rows(), 1, 1)];
  yield ["gather, columns of each image", [3, 3, 3], (x) => tf.gather(x, rows(), 2, 1)];
  yield [
    "gather, two batch dimensions",
    [2, 2, 3],
    (x) => tf.gather(x, ints([[[0, 2], [2, 2]], [[1, 0], [1, 1]]]), 2, 2),
  ];
  yield ["gatherND", CUBE, (x) => tf.gatherND(x, ints([[0, 1], [2, 2], [2, 2]]))];
  yield ["scatterND", [3], (x) => tf.scatterND(ints([[0], [2], [4]]), x, [6])];
  yield ["tensorScatterUpdate", [3], (x) => tf.tensorScatterUpdate(wave([6]), ints([[0], [2], [4]]), x)];
  yield ["unsortedSegmentSum", [4, 3], (x) => tf.unsortedSegmentSum(x, ints([0, 2, 0, 1]) as tf.Tensor1D, 3)];
  yield ["slice", S, (x) => tf.slice(x, [0, 1, 1], [2, 2, 2])];
  yield ["stridedSlice", S, (x) => tf.stridedSlice(x, [0, 0, 0], [2, 3, 4], [1, 2, 2])];
  yield ["stridedSlice backwards", S, (x) => tf.stridedSlice(x, [1, 2, 0], [0, 0, 1], [-1, -2, 1], 1)];
  const dropped = 4;
  yield [
    "stridedSlice, an axis dropped",
    S,
    (x) => tf.stridedSlice(x, [1, 2, 0], [0, 0, 1], [-1, -2, 1], 0, 0, 0, 0, dropped),
  ];
  yield ["pad", S, (x) => tf.pad(x, [[1, 0], [0, 2], [1, 1]], 3)];
  for (const mode of ["reflect", "symmetric"] as const) {
    yield [`mirrorPad, ${mode}`, S, (x) => tf.mirrorPad(x, [[1, 0], [0, 2], [1, 1]], mode)];
  }
  yield ["tile", CUBE, (x) => tf.tile(x, [2, 1, 3])];
  yield ["transpose 120", S, (x) => tf.transpose(x, [1, 2, 0])];
  yield ["transpose 201", S, (x) => tf.transpose(x, [2, 0, 1])];
  yield ["broadcastTo", [1, 3, 1], (x) => tf.broadcastTo(x, [2, 3, 4])];
  yield ["expandDims and squeeze", [2, 1, 3], (x) => tf.squeeze(tf.expandDims(x, 1))];
  yield ["spaceToBatchND", [1, 4, 4, 1], (x) => tf.spaceToBatchND(x, [2, 2], [[0, 0], [2, 0]])];
  yield ["batchToSpaceND", [4, 2, 2, 1], (x) => tf.batchToSpaceND(x, [2, 2], [[0, 1], [1, 0]])];
  yield ["depthToSpace", [1, 2, 2, 4], (x) => tf.depthToSpace(x as tf.Tensor4D, 2)];
  yield ["diag", [3], (x) => tf.diag(x)];
  yield ["linalg.bandPart", [3, 3], (x) => linalg.bandPart!(x, 1, 0)];
}

function* products(): Generator<[string, number[], Operation["of"], number?, number?]> {
  for (const a of FLAGS) {
    for (const b of FLAGS) {
      const how = `${a ? ", first transposed" : ""}${b ? ", second transposed" : ""}`;
      const other = (batch: number[]) => wave([...batch, ...b ? [4, 3] : [3, 4]]);
      const own = a ? [3, 2] : [2, 3];
      yield [`matMul${how}`, own, (x) => tf.matMul(x, other([]), a, b)];
      yield [
        `matMul by the second${how}`,
        b ? [2, 3] : [3, 2],
        (x) => tf.matMul(wave(a ? [3, 4] : [4, 3]), x, a, b),
      ];
      yield [`matMul of batches${how}`, [2, ...own], (x) => tf.matMul(x, other([2]), a, b)];
      yield [`matMul, one for a batch${how}`, [1, ...own], (x) => tf.matMul(x, other([2]), a, b)];
      yield [`matMul, two for a batch${how}`, own, (x) => tf.matMul(x, other([2, 1]), a, b)];
      yield [`matMul, broadcast twice${how}`, [2, 1, ...own], (x) => tf.matMul(x, other([1, 3]), a, b)];
    }
  }
  yield ["dot", [3], (x) => tf.dot(x, wave([3]))];
  yield ["outerProduct", [3], (x) => tf.outerProduct(x as tf.Tensor1D, wave([4]) as tf.Tensor1D)];
  yield ["einsum", [2, 3], (x) => tf.einsum("ij,jk->ik", x, wave([3, 4]))];
  yield ["einsum by the second", [2, 3, 4], (x) => tf.einsum("bij, bjk -> bik", wave([2, 2, 3]), x)];
  yield ["einsum of one", [2, 3], (x) => tf.einsum("ij->j", x)];
  const square = { bias: wave([3]), b: wave([3, 3]) };
  for (const activation of ["elu", "relu6", "sigmoid"]) {
    yield [`fused.matMul, ${activation}`, [3, 3], (x) => fused.matMul!({ a: x, ...square, activation })];
    yield [
      `fused.matMul, transposed, ${activation}`,
      [3, 3],
      (x) => fused.matMul!({ a: x, transposeA: true, ...square, activation }),
    ];
  }
  yield ["linalg.qr", [3, 3], (x) => (linalg.qr!(x) as unknown as tf.Tensor[])[1]!];
  yield ["linalg.gramSchmidt", [2, 3], (x) => linalg.gramSchmidt!(x)];
  yield ["spectral.rfft", [8], (x) => tf.abs(spectral.rfft!(x))];
  yield ["complex", [6], (x) => tf.abs(tf.complex(x, tf.mul(x, 2)))];
}

function* convolutions(): Generator<[string, number[], Operation["of"], number?, number?]> {
  for (const pad of ["same", "valid"]) {
    for (const s of [1, 2]) {
      const how = `${pad}, stride ${s}`;
      yield [`conv2d, ${how}`, IMAGE, (x) => t.conv2d!(x, wave([3, 2, 2, 3]), s, pad)];
      yield [`conv2d by its filter, ${how}`, [3, 2, 2, 3], (x) => t.conv2d!(wave(IMAGE), x, s, pad)];
      yield [`depthwiseConv2d, ${how}`, IMAGE, (x) => t.depthwiseConv2d!(x, wave([2, 2, 2, 2]), s, pad)];
      yield [
        `depthwiseConv2d by its filter, ${how}`,
        [2, 2, 2, 2],
        (x) => t.depthwiseConv2d!(wave(IMAGE), x, s, pad),
      ];
      yield [
        `separableConv2d, ${how}`,
        IMAGE,
        (x) => t.separableConv2d!(x, wave([2, 2, 2, 1]), wave([1, 1, 2, 3]), s, pad),
      ];
      yield [`conv1d, ${how}`, [1, 6, 2], (x) => t.conv1d!(x, wave([3, 2, 3]), s, pad)];
      const block = [1, 3, 3, 3, 2];
      yield [`conv3d, ${how}`, block, (x) => t.conv3d!(x, wave([2, 2, 2, 2, 3]), s, pad)];
      yield [`conv3d by its filter, ${how}`, [2, 2, 2, 2, 1], (x) => t.conv3d!(wave(block), x, s, pad)];
      for (const name of ["avgPool", "maxPool"]) {
        yield [`${name}, ${how}`, IMAGE, (x) => t[name]!(x, [2, 3], s, pad)];
        yield [`${name} of squares, ${how}`, [2, 5, 5, 1], (x) => t[name]!(x, 3, s, pad)];
        yield [`${name}3d, ${how}`, block, (x) => t[`${name}3d`]!(x, 2, s, pad)];
      }
    }
  }
  yield ["conv2d, dilated", IMAGE, (x) => t.conv2d!(x, wave([2, 2, 2, 3]), 1, "valid", "NHWC", 2)];
  yield [
    "depthwiseConv2d, dilated",
    IMAGE,
    (x) => t.depthwiseConv2d!(x, wave([2, 2, 2, 2]), 1, "valid", "NHWC", 2),
  ];
  yield ["conv2d, channels first", [1, 2, 4, 5], (x) => t.conv2d!(x, wave([2, 2, 2, 3]), 1, "valid", "NCHW")];
  yield ["conv2d, padded by 1", IMAGE, (x) => t.conv2d!(x, wave([3, 3, 2, 3]), 1, 1)];
  for (const name of ["avgPool", "maxPool"]) {
    yield [`${name}, padded by 1`, IMAGE, (x) => t[name]!(x, 3, 1, 1)];
  }
  const up = [1, 3, 3, 2], large = [1, 6, 6, 3];
  yield ["conv2dTranspose", up, (x) => t.conv2dTranspose!(x, wave([3, 3, 3, 2]), large, 2, "same")];
  yield [
    "conv2dTranspose by its filter",
    [2, 2, 3, 2],
    (x) => t.conv2dTranspose!(wave(up), x, large, 2, "same"),
  ];
  yield [
    "conv3dTranspose",
    [1, 2, 2, 2, 2],
    (x) => t.conv3dTranspose!(x, wave([2, 2, 2, 1, 2]), [1, 4, 4, 4, 1], 2, "same"),
  ];
  yield ["dilation2d", IMAGE, (x) => t.dilation2d!(x, wave([2, 2, 2]), 1, "same")];
  const relu6 = {
    filter: wave([2, 2, 2, 3]),
    strides: 1,
    pad: "valid",
    bias: wave([3]),
    activation: "relu6",
  };
  yield ["fused.conv2d", IMAGE, (x) => fused.conv2d!({ x, ...relu6 })];
  yield ["localResponseNormalization", IMAGE, (x) => t.localResponseNormalization!(x, 1)];
}

function* images(): Generator<[string, number[], Operation["of"], number?, number?]> {
  for (const [corners, centers] of [[false, false], [true, false], [false, true]]) {
    const how = corners ? ", corners aligned" : centers ? ", half pixels" : "";
    for (const size of [[6, 6], [2, 2], [7, 3]]) {
      for (const shape of [[1, 3, 3, 1], [2, 3, 4, 2]]) {
        yield [
          `image.resizeBilinear, ${shape} to ${size}${how}`,
          shape,
          (x) => image.resizeBilinear!(x, size, corners, centers),
        ];
      }
    }
    for (const size of [[6, 6], [2, 2]]) {
      yield [
        `image.resizeNearestNeighbor to ${size}${how}`,
        [1, 4, 4, 1],
        (x) => image.resizeNearestNeighbor!(x, size, corners, centers),
      ];
    }
  }
  const box = tf.tensor2d([[0, 0, 0.7, 0.7]]), first = ints([0]);
  yield ["image.cropAndResize", [1, 4, 4, 1], (x) => image.cropAndResize!(x, box, first, [3, 3])];
  yield ["image.flipLeftRight", [1, 4, 4, 1], (x) => image.flipLeftRight!(x)];
  yield ["image.rotateWithOffset", [1, 4, 4, 1], (x) => image.rotateWithOffset!(x, 0.3)];
  yield [
    "image.transform",
    [1, 4, 4, 1],
    (x) => image.transform!(x, tf.tensor2d([[1, 0, 0.5, 0, 1, 0.2, 0, 0]]), "bilinear"),
  ];
}

function* objectives(): Generator<[string, number[], Operation["of"], number?, number?]> {
  const two = () => tf.tensor1d([0.7, 1.3]), norm = t.batchNorm!;
  yield ["batchNorm", [2, 3, 2], (x) => norm(x, wave([2]), two(), wave([2]), wave([2]))];
  yield ["batchNorm by its mean", [2], (x) => norm(wave([2, 3, 2]), x, two(), wave([2]), wave([2]))];
  yield [
    "batchNorm by its variance",
    [2],
    (x) => norm(wave([2, 3, 2]), wave([2]), x, wave([2]), wave([2])),
    0.6,
    1.5,
  ];
  yield ["batchNorm by its scale", [2], (x) => norm(wave([2, 3, 2]), wave([2]), two(), wave([2]), x)];
  const labels = () => tf.cast(tf.greater(wave(S), 0), "float32"),
    classes = () => tf.oneHot(ints([0, 2, 1]), 4);
  yield ["losses.huberLoss", S, (x) => losses.huberLoss!(wave(S), tf.mul(x, 3))];
  yield ["losses.absoluteDifference", S, (x) => losses.absoluteDifference!(wave(S), tf.mul(x, 3))];
  yield ["losses.meanSquaredError", S, (x) => losses.meanSquaredError!(wave(S), x)];
  yield ["losses.sigmoidCrossEntropy", S, (x) => losses.sigmoidCrossEntropy!(labels(), x)];
  yield ["losses.softmaxCrossEntropy", [3, 4], (x) => losses.softmaxCrossEntropy!(classes(), x)];
  yield ["losses.cosineDistance", [3, 4], (x) => losses.cosineDistance!(wave([3, 4]), x, 1)];
  yield ["losses.hingeLoss", S, (x) => losses.hingeLoss!(labels(), x)];
  yield ["losses.logLoss", S, (x) => losses.logLoss!(labels(), x), 0.2, 0.8];
  yield ["movingAverage", [3], (x) => tf.add(tf.mul(wave([3]), 0.9), tf.mul(x, 0.1))];
}

/** Every operation of tfjs that has a gradient, and those that ought to. */
export function operations(): Operation[] {
  const all = [elementwise, reductions, moves, products, convolutions, images, objectives];
  return all.flatMap((group) =>
    [...group()].map(([name, shape, of, low = -1, high = 1]) => ({
      name,
      shape,
      of,
      low,
      high,
      moves: group === moves,
    }))
  );
}
