/**
 * What the rest of the library asks of a network and of a method: `Encoder` is what probes, k-NN, meters, heads and pictures
 * read, `Method` what `pretrain` trains, and an `Objective` changes what a model is trained for.
 *
 * @module
 */
import type * as tf from "@tensorflow/tfjs";
import type { LossOutput } from "../base/gradient.ts";
import type { Draws, Random } from "../base/random.ts";
import type { Preprocessor } from "../data/preprocessor.ts";
import type { Transform } from "../data/transforms.ts";
import type { Nepa } from "./nepa.ts";

/** Whose output: the patch embedding, a block (from 1), or the last norm. */
export type Layer = "embedding" | "final" | number;

/** Options of {@linkcode Encoder.tokens}. */
export interface TokenOptions {
  /** Whether a token sees only itself and those before it. Default: as the network was made. */
  causal?: boolean | undefined;
  /** Added to the attention scores in place of the causal mask: [T, T] or [B, 1, T, T]. */
  mask?: tf.Tensor | undefined;
  /** Random numbers of a training forward. Default: none, as in evaluation. */
  draws?: Draws | undefined;
}

/** What {@linkcode Encoder.draws} makes numbers for. */
export interface DrawSize {
  /** Of the images in pixels. */
  readonly height: number;
  readonly width: number;
  /** Chance with which the last block's branches are left out, where another than the network's own is meant. */
  readonly dropPath?: number | undefined;
}

/** A network that makes tokens of images: what probes, k-NN, meters, heads and pictures read. */
export interface Encoder {
  /** What is done to images; `size` is the size that they have, unless `config` says another. */
  readonly preprocessor: Preprocessor;
  readonly config?: { readonly imageSize?: number; readonly hiddenSize?: number };
  /** "embedding", 1 to L, "final". */
  readonly layers: readonly Layer[];
  /** Tokens before the patches: 1 with CLS. */
  readonly prefix: 0 | 1;
  /** Whether a token sees only itself and those before it, unless told otherwise. */
  readonly causal?: boolean;
  /** Heads of its attention: an attentive probe takes as many. */
  readonly heads?: number;
  /** By name. */
  readonly parameters: ReadonlyMap<string, tf.Variable>;
  /** How deep a parameter lies: 0 for the embedding, n for block n, L + 1 for the last norm. For rates by layer. */
  depthOf(name: string): number;
  /** Patches down and across of images [B, H, W, C]. */
  grid(images: { readonly shape: readonly number[] }): [rows: number, columns: number];
  /** The tokens of some layers, [B, T, D] each, of images as `Nepa.forward` takes them. */
  tokens(images: tf.Tensor4D, layers: readonly Layer[], options?: TokenOptions): tf.Tensor3D[];
  /** The random numbers of one training forward, by name; the caller disposes of them. Default: there are none. */
  draws?(batchSize: number, random: Random, size?: DrawSize): Draws;
  /** One of the same class with fresh weights. */
  untrained(seed: number): Encoder;
  /** Another with the same weights, which it does not share. Needed below a head that is trained. */
  clone?(): Encoder;
}

/** What an update's random numbers are made from. */
export interface DrawContext {
  /** B. */
  readonly batchSize: number;
  /** Addressed by the seed and the update: the same update draws the same numbers. */
  readonly random: Random;
}

/** What a loss may read. Tensors belong to the step; do not keep them. */
export interface LossContext<M = Nepa> {
  /** What is trained. */
  readonly model: M;
  /** [B, H, W, C], int32, 0 to 255: as the model's `forward` takes them. The first of `views`. */
  readonly images: tf.Tensor4D;
  /** The same images, augmented apart, as many as `views` asks for. */
  readonly views: readonly tf.Tensor4D[];
  /** [B] class numbers, int32; reading them refuses data sets some of whose images have no label. */
  readonly labels: tf.Tensor1D;
  /** What the model gives for `images`. Computed when it is first read. */
  readonly outputs: Outputs;
  /** z [B, T, D], from `outputs`. */
  readonly embeddings: tf.Tensor3D;
  /** ẑ [B, T, D], from `outputs`. */
  readonly predictions: tf.Tensor3D;
  /** Every random number, by name: the model's and the objective's. Reading another name is an error. */
  readonly draws: Draws;
  /** What changes by schedule, by name. */
  readonly numbers: Readonly<Record<string, tf.Scalar>>;
  /** False where held-out images are read: then nothing is augmented or dropped. */
  readonly training: boolean;
}

/** What a model gives for some images: of NEPA, `embeddings` and `predictions`. */
export type Outputs = Readonly<{ embeddings: tf.Tensor3D; predictions: tf.Tensor3D }>;

/** What is known after an update, inside the compiled step. */
export type AfterContext<M = Nepa> = Omit<LossContext<M>, "training">;

/** What `pretrain` trains: `Nepa`, or a method of one's own. */
export interface Method {
  /** Shown in logs and kept with a run. */
  readonly name: string;
  /** What else says what it is; JSON. A resumed run has to have the same. */
  readonly config: object;
  /** What probes, the meter and pictures read. */
  readonly encoder: Encoder;
  /** All that gradients move, by name. */
  readonly parameters: ReadonlyMap<string, tf.Variable>;
  /** Kept and resumed, and moved by `after` alone, by name: an averaged copy, a queue, a centre. */
  readonly state?: ReadonlyMap<string, tf.Variable>;
  /** Differently augmented versions of each image. Default 1. */
  readonly views?: number;
  /** Every random number of an update, by name; those for each image marked by `perImage`. */
  draws(context: DrawContext): Draws;
  /** What changes by schedule at update `k`, from 0, of `steps`: scalars in `loss` and `after`. */
  numbers?(k: number, steps: number): Record<string, number>;
  /** What the model gives for images, for `outputs` in the loss's context. */
  outputs?(context: OutputContext): Outputs;
  /** What is made smaller; other numbers beside it are logged. Called once if the step is compiled. */
  loss(context: LossContext<never>): LossOutput;
  /** The embeddings [B, T, D] that the collapse meter watches. Default: the encoder's last tokens. */
  targets?(context: LossContext<never>): tf.Tensor3D;
  /** Called once an update, after the weights have moved, inside the compiled step; assigns to `state`. */
  after?(context: AfterContext<never>): void;
  /** Floating-point operations of an update. */
  flops(batchSize: number): number;
  /** What `pretrain` sets where its options leave it open, by `recipe`; "default" where none is named. Default: Nepa's. */
  readonly recipes?: Readonly<Record<string, (images: number) => MethodRecipe>>;
}

/** What a method's recipe sets, as `pretrain`'s options of these names. */
export interface MethodRecipe {
  /** The method as this recipe trains it, with the same variables. */
  readonly method?: Method;
  readonly steps?: number;
  readonly batchSize?: number;
  readonly learningRate?: number | ((update: number, steps: number) => number);
  readonly baseLearningRate?: number;
  readonly weightDecay?: number | ((update: number, steps: number) => number);
  readonly betas?: readonly [number, number];
  readonly warmupRatio?: number;
  readonly clipNorm?: number | null;
  readonly emaDecay?: number | null;
  readonly augment?: Transform | null;
}

/** What {@linkcode Method.outputs} is given. */
export interface OutputContext {
  readonly images: tf.Tensor4D;
  /** The model's own draws; undefined in evaluation. */
  readonly draws: Draws | undefined;
  readonly causal?: boolean | undefined;
}

/**
 * Changes what a model is trained for: a loss, and whatever of a {@linkcode Method} it needs besides. Its parameters, state,
 * draws and numbers come to the model's; its names must be others.
 */
export interface Objective<M = Nepa> {
  /** Shown in logs; a resumed run has to have the same. */
  readonly name: string;
  /** Numbers and texts that the loss depends on, for a resumed run to be compared by. */
  readonly config?: object;
  readonly parameters?: ReadonlyMap<string, tf.Variable>;
  readonly state?: ReadonlyMap<string, tf.Variable>;
  readonly views?: number;
  draws?(context: DrawContext): Draws;
  numbers?(k: number, steps: number): Record<string, number>;
  loss(context: LossContext<M>): LossOutput;
  targets?(context: LossContext<M>): tf.Tensor3D;
  after?(context: AfterContext<M>): void;
}
