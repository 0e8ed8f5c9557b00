/** Segmentation with a pretrained network: a class for each pixel, by a head over the tokens of its patches. @module */
import * as tf from "@tensorflow/tfjs";
import { checkOptions, expect } from "../base/check.ts";
import * as is from "../base/check.ts";
import { labelled } from "../base/gradient.ts";
import { type Draws, perImage, type Random } from "../base/random.ts";
import { IGNORED } from "../data/dataset.ts";
import { imageSizeOf, type Preprocessor } from "../data/preprocessor.ts";
import type { LoadOptions } from "../files/hub.ts";
import { trainingFlops } from "./config.ts";
import { VisionEncoder } from "./encoder.ts";
import { resample, resized } from "./maps.ts";
import type { DrawSize, Encoder, Layer } from "./method.ts";
import { assignCopies, Model, namesOf } from "./network.ts";
import { pixelCrossEntropy } from "./ops.ts";
import { IMAGES, padded } from "./patches.ts";
import {
  configOf,
  firstValue,
  SEGMENTER_RULES,
  type SegmenterConfig,
  type SegmenterOptions,
} from "./segmenter_config.ts";
import {
  auxiliary,
  headFlops,
  type HeadPass,
  headShapes,
  type HeadSize,
  linearHead,
  pyramid,
  upernet,
} from "./upernet.ts";

/** The file of the heads, beside the network's. */
export const HEADS = "heads.safetensors";

/** Options of {@linkcode NepaSegmenter.forward}. */
export interface SegmenterForwardOptions {
  /** Norm by the batch's own statistics and give them, as in training. Default false: by those that have run along. */
  training?: boolean;
  /** Random numbers of a training forward, from `draws`. Default: nothing is dropped. */
  draws?: Draws | undefined;
}

/** Options of {@linkcode NepaSegmenter.draws}. */
export interface SegmenterDraws {
  /** Of the images in pixels. Default: the network's. */
  height?: number;
  width?: number;
  /** Chance with which the last block's branches are left out. Default: the network's own. */
  dropPath?: number | undefined;
  /** Chance with which a channel that a classifier reads is left out. Default 0. */
  dropout?: number;
}

/** What {@linkcode NepaSegmenter.forward} gives. B images of H × W pixels, K classes. */
export type SegmenterOutputs = {
  /** [B, H, W, K]. */
  logits: tf.Tensor4D;
  /** The same of the auxiliary head, where there is one. */
  auxiliary?: tf.Tensor4D;
  /** In training: the batch's means and variances by the names of what runs along, in `state`. */
  statistics?: Record<string, tf.Tensor>;
};

/**
 * A network with a head that gives each pixel a class.
 *
 * @example
 * ```ts
 * import { Nepa, NepaSegmenter, tf, useEngine } from "nepa";
 * import { assertEquals } from "@std/assert";
 *
 * await useEngine("cpu");
 * const model = new Nepa({ preset: "mini", numHiddenLayers: 1 }, { seed: 0 });
 * const segmenter = NepaSegmenter.from(model, { classes: ["background", "shoe", "bag"] });
 * const { logits } = tf.tidy(() => segmenter.forward(tf.zeros([2, 28, 30, 1])));
 * assertEquals(logits.shape, [2, 28, 30, 3]);
 * logits.dispose();
 * segmenter.dispose();
 * model.dispose();
 * ```
 */
export class NepaSegmenter extends Model {
  /** The network below the heads, which it owns. */
  readonly encoder: Encoder;
  /** Names of the classes, in the order of the logits. */
  override readonly classes: readonly string[];
  /** How it was made. */
  readonly config: SegmenterConfig;
  /** All that gradients move: the network's variables, and the heads' by the names of mmsegmentation's and transformers' modules. */
  readonly parameters: ReadonlyMap<string, tf.Variable>;
  /** The running means and variances of the heads' batch norms, which `moved` statistics are assigned to. */
  override readonly state: ReadonlyMap<string, tf.Variable>;
  /** Side of a patch in pixels. */
  readonly #patch: number;
  readonly #head: HeadSize;

  /**
   * Takes a network over; see {@linkcode NepaSegmenter.from}, which copies one.
   *
   * @param encoder Belongs to the segmenter from here on.
   * @param classes Their names.
   * @param config How it is made.
   * @param seed Where the heads' random numbers start.
   */
  constructor(encoder: Encoder, classes: readonly string[], config: SegmenterConfig, seed: number = 0) {
    const { height, width } = imageSizeOf(encoder), channels = encoder.preprocessor.imageMean.length;
    const one: [number, number, number, number] = [1, height, width, channels];
    super();
    this.encoder = encoder;
    this.classes = classes;
    this.config = config;
    this.#patch = height / encoder.grid({ shape: one })[0];
    const D = encoder.config?.hiddenSize ??
      tf.tidy(() => encoder.tokens(tf.zeros(one), ["final"])[0]!.shape[2]);
    this.#head = { ...config, width: D, classes: classes.length };
    const made = [...headShapes(this.#head)].map(([name, shape]) => {
      const runs = /\.running_(mean|var)$/.test(name);
      return [name, tf.tidy(() => tf.variable(firstValue(seed, name, shape), !runs)), runs] as const;
    });
    const some = (which: boolean) =>
      made.flatMap(([name, x, runs]) => runs === which ? [[name, x] as const] : []);
    this.parameters = labelled(new Map([...encoder.parameters, ...some(false)]));
    this.state = labelled(new Map(some(true)));
  }

  /**
   * Puts a head on a pretrained network, whose weights are copied.
   *
   * @param given `Nepa`, `IJepa` (its target encoder is read), or an {@linkcode Encoder} of your own that has `clone`.
   * @param options The classes and the head.
   * @returns The segmenter.
   * @throws {RangeError | TypeError} If an option cannot be, or there is no network to put a head on.
   */
  static from(given: Encoder | { readonly encoder: Encoder }, options: SegmenterOptions): NepaSegmenter {
    const encoder = (Object(given).encoder ?? given) as Encoder;
    is.expectKinds("NepaSegmenter.from", { model: [encoder, is.network], options: [options, is.optional] });
    checkOptions("NepaSegmenter.from", options, SEGMENTER_RULES);
    const classes = namesOf("NepaSegmenter.from", options.classes);
    const config = configOf(encoder, options);
    if (!encoder.clone) {
      throw new TypeError("NepaSegmenter.from: expected an encoder with clone(), got none; add it");
    }
    return new this(encoder.clone(), classes, config, options.seed);
  }

  /** What is done to images. */
  get preprocessor(): Preprocessor {
    return this.encoder.preprocessor;
  }

  /** Another with the same weights, which it does not share. */
  clone(): NepaSegmenter {
    const made = new NepaSegmenter(this.encoder.clone!(), this.classes, this.config);
    for (const part of ["parameters", "state"] as const) assignCopies(made[part], this[part]);
    return made;
  }

  /**
   * Gives each pixel's logits.
   *
   * @param images [B, H, W, C] of any size, as for `Nepa.forward`. Where patches do not divide it, the image is padded below
   * and on the right by its data set's mean, and the padding cut off again.
   * @param options Whether to train.
   * @returns Tensors that the caller disposes of.
   * @throws {RangeError} If the images have another shape.
   */
  forward(images: tf.Tensor4D, options: SegmenterForwardOptions = {}): SegmenterOutputs {
    is.expectKinds("forward", { images: [images, IMAGES] });
    checkOptions("forward", options, { training: is.flag, draws: is.any });
    return tf.tidy(() => {
      const { maps, pass } = this.#read(images, options), { head } = this.config;
      const told = pass.statistics && { statistics: pass.statistics }; // filled by the heads
      if (head === "linear") return { logits: this.#sized(linearHead(maps[0]!, pass), images), ...told };
      const levels = pyramid(maps, pass), beside = this.config.auxiliary > 0;
      return {
        logits: this.#sized(upernet(levels, pass), images),
        ...(beside && { auxiliary: this.#sized(auxiliary(levels, pass), images) }),
        ...told,
      };
    });
  }

  /** The maps [B, rows, columns, D] that the head reads, and what it reads them by. */
  #read(images: tf.Tensor4D, { training = false, draws }: SegmenterForwardOptions) {
    const { encoder, config: { head, blocks, causal } } = this;
    const whole = padded(images, this.#missing(images), encoder.preprocessor),
      [rows, columns] = encoder.grid(whole);
    if (head === "upernet") {
      expect(rows > 1 && columns > 1, "images", "2 × 2 patches or more", `${rows} × ${columns}`);
    }
    const layers: readonly Layer[] = head === "linear" ? ["final"] : blocks;
    const { decode_head, auxiliary_head, ...inner } = draws ?? {};
    const tokens = encoder.tokens(whole, layers, { causal, draws: draws && inner });
    const maps = tokens.map((x) => {
      const [batch, , D] = x.shape;
      return tf.slice(x, [0, encoder.prefix, 0]).reshape([batch, rows, columns, D]) as tf.Tensor4D; // [B, T, D] without CLS
    });
    const pass: HeadPass = {
      weights: (name) => this.parameters.get(name) ?? this.state.get(name),
      dropout: { decode_head, auxiliary_head },
      ...(training && { statistics: {} }),
    };
    return { maps, pass };
  }

  /** How many pixels images lack below and on the right to whole patches. */
  #missing({ shape: [, height = 0, width = 0] }: tf.Tensor4D): [number, number] {
    const up = (side: number) => Math.ceil(side / this.#patch) * this.#patch - side;
    return [up(height), up(width)];
  }

  /** Logits of a head at the images' own size. */
  #sized(x: tf.Tensor4D, images: tf.Tensor4D): tf.Tensor4D {
    const [, height, width] = images.shape, [down, across] = this.#missing(images);
    const side = (from: number, to: number, all: number) =>
      tf.slice(resized(from, all), 0, [to, from]) as tf.Tensor2D; // without the padding
    return resample(x, side(x.shape[1], height, height + down), side(x.shape[2], width, width + across));
  }

  /**
   * The random numbers of one training forward.
   *
   * @param batchSize B.
   * @param random Where they come from.
   * @param options The images' size, and how often what is left out: see {@linkcode Encoder.draws}; `dropout`, the chance of a
   * channel that the classifiers read, default 0.
   * @returns Tensors by name; the caller disposes of them.
   */
  draws(batchSize: number, random: Random, options: SegmenterDraws = {}): Draws {
    const { dropout = 0, height, width, dropPath } = options, { channels, auxiliary } = this.config;
    const size = height === undefined ? imageSizeOf(this.encoder) : { height, width: width! };
    const draws = { ...this.encoder.draws?.(batchSize, random, { ...size, dropPath }) };
    for (const [head, count] of [["decode_head", channels], ["auxiliary_head", auxiliary]] as const) {
      if (dropout === 0 || count === 0) continue;
      const kept = () => random.uniform() < dropout ? 0 : 1 / (1 - dropout);
      const factors = Float32Array.from({ length: batchSize * count }, kept);
      draws[head] = perImage(tf.tensor2d(factors, [batchSize, count]));
    }
    return draws;
  }

  /**
   * Floating-point operations of an update, products only; of a network of another class than the library's the heads' alone.
   *
   * @param batchSize Images in the update.
   * @param size Of these. Default: the network's.
   * @param frozen Whether the network is left as it is.
   */
  flops(batchSize: number, size: DrawSize = imageSizeOf(this.encoder), frozen: boolean = false): number {
    const { encoder } = this,
      rows = Math.ceil(size.height / this.#patch),
      columns = Math.ceil(size.width / this.#patch);
    const whole = [rows * this.#patch, columns * this.#patch] as const;
    const below = encoder instanceof VisionEncoder ? trainingFlops(encoder.config, batchSize, ...whole) : 0;
    return (frozen ? below / 3 : below) + 3 * batchSize * headFlops(this.#head, rows * columns);
  }

  /** The network's, and how the heads are made. */
  get officialConfig(): Record<string, unknown> {
    const { encoder, config } = this, { head, causal } = config;
    return {
      ...encoder instanceof VisionEncoder ? encoder.officialConfig : encoder.config,
      segmentation: head === "linear"
        ? { head, causal }
        : { ...config, auxiliary: config.auxiliary || false },
    };
  }

  /** `model.safetensors` is the network, as its official code reads it, `heads.safetensors` the heads in PyTorch's layout. */
  override get files(): Record<string, ReadonlyMap<string, tf.Variable>> {
    const { parameters } = this.encoder,
      heads = [...this.parameters].filter(([name]) => !parameters.has(name));
    return { "model.safetensors": parameters, [HEADS]: new Map([...heads, ...this.state]) };
  }

  /**
   * Reads a segmenter over a `Nepa` or an I-JEPA's encoder.
   *
   * @param source A folder of {@linkcode NepaSegmenter.save}, or its name on the hub.
   * @param options Which revision on the hub.
   * @returns The segmenter.
   * @throws {CheckpointError} If a file or a tensor is missing, unknown or of another shape.
   */
  static async load(source: string, options: LoadOptions = {}): Promise<NepaSegmenter> {
    const { loadSegmenter } = await import("./segmenter_files.ts");
    return await loadSegmenter(source, options);
  }
}

/** Options of {@linkcode segmentationLoss}. */
export interface SegmentationLossOptions {
  /** How much the auxiliary head's cross-entropy counts. Default 0.4. */
  auxiliaryWeight?: number;
  /** What masks have where no class is meant. Default 255. */
  ignore?: number;
}

/**
 * The loss of segmentation: cross-entropy of the pixels that are not ignored, the mean over all of the batch, and a share of the
 * same of the auxiliary head.
 *
 * @param outputs As {@linkcode NepaSegmenter.forward} gives them.
 * @param masks [B, H, W] int32: each pixel's class.
 * @param options What is ignored, how much the auxiliary head counts.
 * @returns A number from 0 up, in nats; 0 where all pixels are ignored.
 * @throws {RangeError} If the masks have another size than the logits.
 *
 * @example
 * ```ts
 * import { segmentationLoss, tf, useEngine } from "nepa";
 * import { assertAlmostEquals } from "@std/assert";
 *
 * await useEngine("cpu");
 * const loss = tf.tidy(() => {
 *   const logits = tf.zeros<tf.Rank.R4>([1, 1, 2, 3]), masks = tf.tensor3d([[[2, 255]]], [1, 1, 2], "int32");
 *   return segmentationLoss({ logits }, masks);
 * });
 * assertAlmostEquals(loss.dataSync()[0]!, Math.log(3), 1e-6); // of the first pixel alone
 * loss.dispose();
 * ```
 */
export function segmentationLoss(
  { logits, auxiliary }: Pick<SegmenterOutputs, "logits" | "auxiliary">,
  masks: tf.Tensor3D,
  options: SegmentationLossOptions = {},
): tf.Scalar {
  checkOptions("segmentationLoss", options, { auxiliaryWeight: is.notNegative, ignore: is.index });
  const { auxiliaryWeight = 0.4, ignore = IGNORED } = options, expected = logits.shape.slice(0, 3);
  expect(masks.shape.join() === expected.join(), "masks", `[${expected}], as the logits`, `[${masks.shape}]`);
  return tf.tidy(() => {
    const main = pixelCrossEntropy(logits, masks, ignore);
    if (!auxiliary) return main;
    return tf.add(main, tf.mul(pixelCrossEntropy(auxiliary, masks, ignore), auxiliaryWeight));
  });
}
