/**
 * Heads that make maps of classes of a network's tokens: batch norm and a linear map, or UPerNet (arXiv 1807.10221) over a
 * pyramid of four blocks, as mmsegmentation builds it for plain vision transformers, with an auxiliary head. Parameters have the
 * names of mmsegmentation's and transformers' modules.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";
import { activations } from "./ops.ts";
import { batchNorm, convolve, halved, pooled, resample, resized, unfold } from "./maps.ts";
import type { Shapes } from "./network.ts";
import type { Weights } from "./transformer.ts";

/** Sides of what the last map is pooled to. */
const SCALES = [1, 2, 3, 6];

/** How a head is made. */
export interface HeadSize {
  readonly head: "linear" | "upernet";
  /** D, the numbers of a token. */
  readonly width: number;
  readonly classes: number;
  /** Of UPerNet's maps. */
  readonly channels: number;
  /** Of the auxiliary head's; 0: there is none. */
  readonly auxiliary: number;
}

/** What a forward of the heads reads and tells. */
export interface HeadPass {
  /** By whole names, running statistics too. */
  readonly weights: Weights;
  /** Gets the batch's statistics by the names of those that run along, which then are not read. Left out in evaluation. */
  readonly statistics?: Record<string, tf.Tensor> | undefined;
  /** Factors [B, channels] of what the classifiers read, by "decode_head" and "auxiliary_head". */
  readonly dropout?: Readonly<Record<string, tf.Tensor | undefined>>;
}

/** The heads' parameters and running statistics, in the engine's layout: convolutions [k, k, in, out], transposed ones [in, 2, 2, out]. */
export function headShapes({ head, width: D, classes, channels: C, auxiliary: A }: HeadSize): Shapes {
  const shapes: Shapes = new Map();
  const norm = (name: string, size: number) =>
    ["weight", "bias", "running_mean", "running_var"].forEach((part) =>
      shapes.set(`${name}.${part}`, [size])
    );
  const module = (name: string, side: number, inputs: number, outputs: number) => {
    shapes.set(`${name}.conv.weight`, [side, side, inputs, outputs]);
    norm(`${name}.batch_norm`, outputs);
  };
  const classifier = (name: string, inputs: number) =>
    shapes.set(`${name}.classifier.weight`, [1, 1, inputs, classes]).set(`${name}.classifier.bias`, [
      classes,
    ]);
  const doubled = (name: string) => shapes.set(`${name}.weight`, [D, 2, 2, D]).set(`${name}.bias`, [D]);
  if (head === "linear") {
    norm("decode_head.batch_norm", D);
    return classifier("decode_head", D);
  }
  doubled("pyramid.up4.0");
  norm("pyramid.up4.1", D);
  ["pyramid.up4.3", "pyramid.up2"].forEach(doubled);
  SCALES.forEach((_, i) => module(`decode_head.psp_modules.${i}.1`, 1, D, C));
  module("decode_head.bottleneck", 3, D + SCALES.length * C, C);
  for (let i = 0; i < 3; i++) {
    module(`decode_head.lateral_convs.${i}`, 1, D, C);
    module(`decode_head.fpn_convs.${i}`, 3, C, C);
  }
  module("decode_head.fpn_bottleneck", 3, 4 * C, C);
  classifier("decode_head", C);
  if (A > 0) {
    module("auxiliary_head.convs.0", 3, D, A);
    classifier("auxiliary_head", A);
  }
  return shapes;
}

/** How many places of a map a filter is applied to, over the number of patches. */
const PLACES: readonly [RegExp, number][] = [
  [/psp_modules/, 0],
  [/head\.bottleneck/, 1 / 4],
  [/(lateral|fpn)_convs\.0|fpn_bottleneck|decode_head\.classifier/, 16],
  [/(lateral|fpn)_convs\.1|up4\.3/, 4],
];

/** Floating-point operations of the heads' forward pass over so many patches, products only. */
export function headFlops(size: HeadSize, patches: number): number {
  const filters = [...headShapes(size)].filter(([, shape]) => shape.length === 4);
  return filters.reduce((sum, [name, [a, b, c, d]]) => {
    const places = size.head === "linear" ? 1 : PLACES.find(([pattern]) => pattern.test(name))?.[1] ?? 1;
    return sum + 2 * a! * b! * c! * d! * places * patches;
  }, 0);
}

const filterOf = ({ weights }: HeadPass, name: string) => weights(`${name}.weight`) as tf.Tensor4D;

/** Batch norm of that name. */
function norm(x: tf.Tensor4D, { weights, statistics }: HeadPass, name: string): tf.Tensor4D {
  const at = { mean: `${name}.running_mean`, variance: `${name}.running_var` };
  const running = { mean: weights(at.mean)!, variance: weights(at.variance)! };
  const { normed, statistics: found } = batchNorm(x, statistics ? undefined : running);
  if (found) Object.assign(statistics!, { [at.mean]: found.mean, [at.variance]: found.variance });
  return tf.add(tf.mul(normed, weights(`${name}.weight`)!), weights(`${name}.bias`)!);
}

/** Convolution, batch norm, ReLU. */
function module(x: tf.Tensor4D, pass: HeadPass, name: string): tf.Tensor4D {
  return tf.relu(norm(convolve(x, filterOf(pass, `${name}.conv`)), pass, `${name}.batch_norm`));
}

/** The classes' logits at every place, dropout before. */
function classify(x: tf.Tensor4D, pass: HeadPass, head: string): tf.Tensor4D {
  const factors = pass.dropout?.[head]?.reshape([x.shape[0], 1, 1, x.shape[3]]);
  const read = factors ? tf.mul(x, factors) : x, name = `${head}.classifier`;
  return tf.add(convolve(read as tf.Tensor4D, filterOf(pass, name)), pass.weights(`${name}.bias`)!);
}

/** A map at another's size. */
function sizedLike(x: tf.Tensor4D, { shape: [, height, width] }: tf.Tensor4D): tf.Tensor4D {
  const [, from, fromWidth] = x.shape;
  if (from === height && fromWidth === width) return x;
  return resample(x, resized(from, height), resized(fromWidth, width));
}

/** Four maps of one size at four times, twice, once and half of it. */
export function pyramid([first, second, third, last]: readonly tf.Tensor4D[], pass: HeadPass): tf.Tensor4D[] {
  const doubled = (x: tf.Tensor4D, name: string) =>
    unfold(x, filterOf(pass, name), pass.weights(`${name}.bias`)!);
  const twice = norm(doubled(first!, "pyramid.up4.0"), pass, "pyramid.up4.1");
  const fourfold = doubled(activations.gelu(twice) as tf.Tensor4D, "pyramid.up4.3");
  return [fourfold, doubled(second!, "pyramid.up2"), third!, halved(last!)];
}

/** The last map, and what it is pooled to at four scales. */
function pooledModule(x: tf.Tensor4D, pass: HeadPass): tf.Tensor4D {
  const scales = SCALES.map((side, i) => {
    const small = resample(x, pooled(x.shape[1], side), pooled(x.shape[2], side));
    return sizedLike(module(small, pass, `decode_head.psp_modules.${i}.1`), x);
  });
  return module(tf.concat([x, ...scales], 3), pass, "decode_head.bottleneck");
}

/** Logits of a pyramid's maps, at the first one's size. */
export function upernet(maps: readonly tf.Tensor4D[], pass: HeadPass): tf.Tensor4D {
  const laterals = maps.slice(0, -1).map((x, i) => module(x, pass, `decode_head.lateral_convs.${i}`));
  laterals.push(pooledModule(maps.at(-1)!, pass));
  for (let i = laterals.length - 1; i > 0; i--) {
    laterals[i - 1] = tf.add(laterals[i - 1]!, sizedLike(laterals[i]!, laterals[i - 1]!));
  }
  const mixed = laterals.map((x, i) =>
    i < laterals.length - 1 ? module(x, pass, `decode_head.fpn_convs.${i}`) : x
  );
  const all = tf.concat(mixed.map((x) => sizedLike(x, mixed[0]!)), 3);
  return classify(module(all, pass, "decode_head.fpn_bottleneck"), pass, "decode_head");
}

/** Logits of the third map alone, by a convolution: what an auxiliary loss is taken of. */
export function auxiliary(maps: readonly tf.Tensor4D[], pass: HeadPass): tf.Tensor4D {
  return classify(module(maps[2]!, pass, "auxiliary_head.convs.0"), pass, "auxiliary_head");
}

/** Logits of one map by batch norm and a linear map. */
export function linearHead(x: tf.Tensor4D, pass: HeadPass): tf.Tensor4D {
  return classify(norm(x, pass, "decode_head.batch_norm"), pass, "decode_head");
}
