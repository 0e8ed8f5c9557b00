/** How a segmenter is made: its options, checked and filled in, and its heads' first values. @module */
import * as tf from "@tensorflow/tfjs";
import { expect, type Rule } from "../base/check.ts";
import * as is from "../base/check.ts";
import { Random } from "../base/random.ts";
import type { Encoder } from "./method.ts";

/** Options of {@linkcode NepaSegmenter.from}. */
export interface SegmenterOptions {
  /** The classes' names, or how many there are. */
  classes: number | readonly string[];
  /** "linear": batch norm and a linear map of the last norm's tokens (default). "upernet": a pyramid over four blocks. */
  head?: "linear" | "upernet";
  /** After which four blocks, from 1, UPerNet reads; rising. Default: a third, half, two thirds of them, and the last. */
  blocks?: readonly number[];
  /** Channels of UPerNet's maps. Default 512. */
  channels?: number;
  /** Whether UPerNet has an auxiliary head, on the third map, or with how many channels. Default: half of `channels`. */
  auxiliary?: boolean | number;
  /** Whether a token sees only itself and those before it. Default false. */
  causal?: boolean;
  /** Where the heads' random numbers start. Default 0. */
  seed?: number;
}

/** How a segmenter is made, everything filled in. */
export interface SegmenterConfig {
  readonly head: "linear" | "upernet";
  readonly blocks: readonly number[];
  readonly channels: number;
  /** 0: there is none. */
  readonly auxiliary: number;
  readonly causal: boolean;
}

/** What each option may be. */
export const SEGMENTER_RULES: Record<keyof SegmenterOptions, Rule> = {
  ...{
    classes: is.any,
    head: is.oneOf("linear", "upernet"),
    channels: is.count,
    causal: is.flag,
    seed: is.index,
  },
  blocks: ["four numbers of blocks", (value) => Array.isArray(value) && value.length === 4],
  auxiliary: [
    "true, false or a number of channels",
    (value) => typeof value === "boolean" || is.isCount(value),
  ],
};

/** The whole number of blocks of a network. */
const blocksOf = ({ layers }: Encoder): number =>
  layers.reduce((most: number, layer) => typeof layer === "number" ? Math.max(most, layer) : most, 0);

/** Options checked against a network, and filled in. */
export function configOf(encoder: Encoder, options: SegmenterOptions): SegmenterConfig {
  const { head = "linear", channels = 512, auxiliary = true, causal = false } = options,
    L = blocksOf(encoder);
  const linear = (["blocks", "channels", "auxiliary"] as const).find((name) => options[name] !== undefined);
  expect(head === "upernet" || !linear, linear!, "none, which a linear head does not have", options[linear!]);
  if (head === "linear") return { head, blocks: [], channels: 0, auxiliary: 0, causal };
  const { blocks = [1 / 3, 1 / 2, 2 / 3, 1].map((share) => Math.max(1, Math.round(share * L))) } = options;
  const rising = blocks.every((block, i) => is.isCount(block) && block <= L && block >= (blocks[i - 1] ?? 1));
  expect(rising, "blocks", `four blocks, rising, from 1 to ${L}`, `[${blocks}]`);
  const half = Math.max(1, Math.floor(channels / 2)), own = auxiliary === true ? half : Number(auxiliary);
  return { head, blocks, channels, auxiliary: own, causal };
}

/** The heads' first values: convolutions by what they read (He), classifiers normal with 0.01, norms 1, biases 0. */
export function firstValue(seed: number, name: string, shape: number[]): tf.Tensor {
  if (/\.(bias|running_mean)$/.test(name)) return tf.zeros(shape);
  if (shape.length === 1) return tf.ones(shape);
  const [side, , inputs] = shape as [number, number, number];
  const deviation = name.includes("classifier")
    ? 0.01
    : name.startsWith("pyramid.")
    ? side ** -0.5
    : Math.sqrt(2 / (side * side * inputs)); // transposed ones are [in, 2, 2, out]
  return new Random(seed, name).normal(shape, 0, deviation);
}
