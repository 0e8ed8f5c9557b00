/** The pieces of a training step, each at the shapes at which the step does it, and how often it does. */
import {
  type AdamW,
  causalMask,
  clipByGlobalNorm,
  layerNorm,
  linear,
  type Nepa,
  type NepaConfig,
  nepaLoss,
  rotate,
  tf,
} from "nepa";
import { activations } from "../lib/model/ops.ts";

/** What kinds of work there are, in the order in which they are shown. */
export const KINDS = [
  "linear maps, forward",
  "linear maps, input gradients",
  "linear maps, weight gradients",
  "attention products",
  "softmax",
  "activation",
  "layer norms",
  "rotary embedding",
  "transposes",
  "residuals, scales, biases",
  "sums for their gradients",
  "loss",
  "optimizer",
] as const;

/** Something that a step does. */
export interface Piece {
  kind: typeof KINDS[number];
  name: string;
  /** Times a step. */
  times: number;
  /** Floating-point operations of the products in it. */
  flops?: number;
  /** Shapes of what it takes. */
  shapes: number[][];
  run(...inputs: tf.Tensor[]): tf.Tensor[];
}

/** Numbers that the shapes are made of. */
interface Sizes {
  B: number;
  T: number;
  D: number;
  I: number;
  A: number;
  d: number;
  L: number;
  /** B · T */
  R: number;
}

const gradient = (
  f: (x: tf.Tensor) => tf.Tensor,
  x: tf.Tensor,
  dy: tf.Tensor,
): tf.Tensor[] => [tf.grad(f)(x, dy)];

/** Forward and back at once: what the forward pass saves is not computed again. */
function both(f: (...x: tf.Tensor[]) => tf.Tensor, x: tf.Tensor[], dy: tf.Tensor): tf.Tensor[] {
  const { value, grads } = tf.valueAndGrads(f)(x, dy);
  return [value, ...grads];
}

/** x [rows, from] · weight [from, to]. The patch embedding's input has no gradient. */
function linearPieces(
  name: string,
  times: number,
  [rows, from, to]: [number, number, number],
  input = true,
): Piece[] {
  const map = linear as (x: tf.Tensor, weight: tf.Tensor) => tf.Tensor, flops = 2 * rows * from * to;
  const shapes = [[rows, from], [from, to]], shared = { name, times, flops };
  const forward: Piece = { ...shared, kind: "linear maps, forward", shapes, run: (x, w) => [map(x!, w!)] };
  const back: Piece[] = [{
    ...shared,
    kind: "linear maps, weight gradients",
    shapes: [...shapes, [rows, to]],
    run: (x, w, dy) => gradient((w) => map(x!, w), w!, dy!),
  }, {
    ...shared,
    kind: "linear maps, input gradients",
    shapes: [...shapes, [rows, to]],
    run: (x, w, dy) => gradient((x) => map(x, w!), x!, dy!),
  }];
  return [forward, ...input ? back : back.slice(0, 1)];
}

function products({ B, T, D, I, A, d, L, R }: Sizes, { patchSize: p, numChannels: C }: NepaConfig): Piece[] {
  const heads = [B, A, T, d], square = [B, A, T, T], kind = "attention products";
  const attention = (
    name: string,
    shapes: number[][],
    run: (x: tf.Tensor, y: tf.Tensor) => tf.Tensor,
  ): Piece => {
    return { kind, name, times: L, flops: 2 * B * A * T * T * d, shapes, run: (x, y) => [run(x!, y!)] };
  };
  const multiply = (left: boolean, right: boolean) => (x: tf.Tensor, y: tf.Tensor) =>
    tf.matMul(x, y, left, right);
  return [
    ...linearPieces("patch embedding", 1, [B * (T - 1), p * p * C, D], false),
    ...linearPieces("query, key, value", L, [R, D, 3 * D]),
    ...linearPieces("attention output", L, [R, D, D]),
    ...linearPieces("MLP up", L, [R, D, I]),
    ...linearPieces("MLP down", L, [R, I, D]),
    attention("scores", [heads, heads], multiply(false, true)),
    attention("read", [square, heads], multiply(false, false)),
    attention("gradient of probabilities", [heads, heads], multiply(false, true)),
    attention("gradient of values", [square, heads], multiply(true, false)),
    attention("gradient of queries", [square, heads], multiply(false, false)),
    attention("gradient of keys", [square, heads], multiply(true, false)),
  ];
}

function normsAndCurves({ B, T, D, I, A, d, L, R }: Sizes, config: NepaConfig): Piece[] {
  const heads = [B, A, T, d], square = [B, A, T, T], act = activations[config.hiddenAct];
  const masked = (x: tf.Tensor) => tf.softmax(config.isCausal ? tf.add(x, causalMask(T)) : x);
  const turned = (cos: tf.Tensor, sin: tf.Tensor) => (x: tf.Tensor) =>
    rotate(x as tf.Tensor4D, { cos: cos as tf.Tensor2D, sin: sin as tf.Tensor2D });
  const pieces: Piece[] = [
    {
      kind: "softmax",
      name: "masked",
      times: L,
      shapes: [square, square],
      run: (x, dy) => both(masked, [x!], dy!),
    },
    {
      kind: "activation",
      name: config.hiddenAct,
      times: L,
      shapes: [[R, I], [R, I]],
      run: (x, dy) => both(act, [x!], dy!),
    },
    {
      kind: "layer norms",
      name: "of tokens",
      times: 2 * L + 1,
      shapes: [[R, D], [D], [D], [R, D]],
      run: (x, w, b, dy) => both((x, w, b) => layerNorm(x!, config.layerNormEps, w, b), [x!, w!, b!], dy!),
    },
    {
      kind: "rotary embedding",
      name: "queries and keys",
      times: 2 * L,
      shapes: [heads, [T, d], [T, d], heads],
      run: (x, cos, sin, dy) => both(turned(cos!, sin!), [x!], dy!),
    },
  ];
  if (!config.qkNorm) return pieces;
  return [...pieces, {
    kind: "layer norms",
    name: "of queries and keys",
    times: 2 * L,
    shapes: [heads, heads],
    run: (x, dy) => both((x) => layerNorm(x!, config.layerNormEps), [x!], dy!),
  }];
}

/** [B·T, 3·D] to three of [B, A, T, d], and the joined output of attention back; their gradients go the other way. */
function transposes({ B, T, D, A, d, L, R }: Sizes): Piece[] {
  const kind = "transposes", heads = [B, A, T, d], order = [0, 2, 1, 3];
  const cut = (x: tf.Tensor) => tf.transpose(x.reshape([B, T, A, d]), order); // [B, T, A, d] to [B, A, T, d]
  const join = (x: tf.Tensor) => tf.transpose(x, order).reshape([R, D]); // [B, A, T, d] to [B·T, D]
  return [
    { kind, name: "into heads", times: L, shapes: [[R, 3 * D]], run: (x) => tf.split(x!, 3, 1).map(cut) },
    {
      kind,
      name: "into heads, gradient",
      times: L,
      shapes: [heads, heads, heads],
      run: (...x) => [tf.concat(x.map(join), 1)],
    },
    { kind, name: "out of heads", times: L, shapes: [heads], run: (x) => [join(x!)] },
    { kind, name: "out of heads, gradient", times: L, shapes: [[R, D]], run: (x) => [cut(x!)] },
  ];
}

function rest({ B, T, D, I, L, R }: Sizes): Piece[] {
  const sums = "sums for their gradients", adds = "residuals, scales, biases";
  const bias = (name: string, times: number, width: number): Piece[] => [
    {
      kind: adds,
      name: `bias of ${name}`,
      times,
      shapes: [[R, width], [width]],
      run: (x, b) => [tf.add(x!, b!)],
    },
    { kind: sums, name: `bias of ${name}`, times, shapes: [[R, width]], run: (dy) => [tf.sum(dy!, 0)] },
  ];
  const tokens = [B, T, D];
  return [
    ...bias("query, key, value", L, 3 * D),
    ...bias("attention output, MLP down", 2 * L, D),
    ...bias("MLP up", L, I),
    {
      kind: adds,
      name: "residual",
      times: 2 * L,
      shapes: [[R, D], [R, D], [D]],
      run: (x, y, l) => [tf.add(x!, tf.mul(y!, l!))],
    },
    {
      kind: adds,
      name: "residual, gradient",
      times: 2 * L,
      shapes: [[R, D], [D]],
      run: (dy, l) => [tf.mul(dy!, l!)],
    },
    {
      kind: sums,
      name: "layer scale",
      times: 2 * L,
      shapes: [[R, D], [R, D]],
      run: (y, dy) => [tf.sum(tf.mul(y!, dy!), 0)],
    },
    {
      kind: "loss",
      name: "cosines",
      times: 1,
      shapes: [tokens, tokens],
      run: (z, x) => {
        const loss = (x: tf.Tensor) =>
          nepaLoss({ embeddings: z as tf.Tensor3D, predictions: x as tf.Tensor3D });
        const { value, grad } = tf.valueAndGrad(loss)(x!);
        return [value, grad];
      },
    },
  ];
}

/** Clipping and AdamW over a model's parameters, which change. */
export function optimizerPiece(model: Nepa, optimizer: AdamW): Piece {
  const names = [...model.parameters.keys()], parameters = [...model.parameters.values()];
  return {
    kind: "optimizer",
    name: "clipping, AdamW",
    times: 1,
    shapes: [[3], ...parameters.map(({ shape }) => shape)],
    run: (rates, ...gradients) => {
      const named = Object.fromEntries(names.map((name, i) => [name, gradients[i]!]));
      const { clipped, norm } = clipByGlobalNorm(optimizer.join(named), 1);
      optimizer.update(clipped, rates as tf.Tensor1D, tf.isFinite(norm));
      return [norm];
    },
  };
}

/** Everything but the optimizer. */
export function piecesOf(config: NepaConfig, batch: number): Piece[] {
  const { hiddenSize: D, intermediateSize: I, numAttentionHeads: A, numHiddenLayers: L } = config;
  const T = 1 + (config.imageSize / config.patchSize) ** 2;
  const sizes: Sizes = { B: batch, T, D, I, A, d: D / A, L, R: batch * T };
  return [...products(sizes, config), ...normsAndCurves(sizes, config), ...transposes(sizes), ...rest(sizes)];
}
