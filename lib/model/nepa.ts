/**
 * The method: cut an image into patches, embed them, let a causal transformer read them in order, and have each
 * position predict the embedding of the next patch (arXiv 2512.16922). `nepaLoss` compares.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";
import { nepaConfig, type NepaOptions } from "./config.ts";
import { type Draws, makeDraws, partOf, withoutLast } from "./draws.ts";
import { currentEngine, inStreams, rowsOf } from "@nepa/engine";
import { expect } from "../base/check.ts";
import type { LoadOptions } from "../files/hub.ts";
import { causalMask } from "./masks.ts";
import {
  backboneShapes,
  loadNetwork,
  makeParameters,
  Network,
  type NetworkInit,
  randomInitial,
} from "./network.ts";
import { defaultPreprocessor } from "../data/preprocessor.ts";
import { Random } from "../base/random.ts";
import { type Rotation, rotation } from "./rope.ts";
import { block, type BlockContext, layerNorm, linear } from "./transformer.ts";

/** The official class's name. */
const PRETRAINED = "ViTNepaForPreTraining";

/** Options of `new Nepa`. */
export type NepaInit = NetworkInit;

/** Options of {@linkcode Nepa.forward}. */
export interface ForwardOptions {
  /** Augment, drop and drop out as in training: with draws of the model's own, or with those given. Default false. */
  training?: boolean | Draws;
  /** Whether a token sees only itself and those before it. Default: the configuration's `isCausal`. */
  causal?: boolean;
  /** Compute the last position too (default). With causal attention nothing else reads it, and no patch follows it. */
  last?: boolean;
  /** Give the tokens after each block too. Default false. */
  hidden?: boolean;
  /** Give the attention probabilities too. Default false. */
  attentions?: boolean;
}

/** What {@linkcode Nepa.forward} gives. B images, T tokens (CLS and the patches row by row), D numbers a token. */
export type ForwardOutputs = {
  /** z [B, T, D]: what the transformer reads, and the targets. */
  embeddings: tf.Tensor3D;
  /** ẑ [B, T, D]: the transformer's output after the last norm; position t predicts z at t + 1. Without the last, [B, T − 1, D]. */
  predictions: tf.Tensor3D;
  /** [B, T, D] after each block, before the last norm. */
  hidden?: tf.Tensor3D[];
  /** [B, A, T, T] of each block: how much each token (third axis) reads from each (fourth). */
  attentions?: tf.Tensor4D[];
};

/** Options of {@linkcode Nepa.features}. */
export interface FeatureOptions {
  /** Which tokens: "embedding", after block 1 to L, or "final", after the last norm. Default "final". */
  layer?: "embedding" | "final" | number;
  /** Mean of the patch tokens, CLS, the last token, or all tokens joined. Default "mean". */
  pool?: "mean" | "cls" | "last" | "all";
  /** As for `forward`. */
  causal?: boolean;
}

/**
 * The pretraining model.
 *
 * @example
 * ```ts
 * import { Nepa, nepaLoss, tf, useEngine } from "nepa";
 * import { assertEquals } from "@std/assert";
 *
 * await useEngine("cpu");
 * const model = new Nepa({ preset: "mini", numHiddenLayers: 1 }, { seed: 0 });
 * tf.tidy(() => {
 *   const { embeddings, predictions } = model.forward(tf.zeros([2, 28, 28, 1]));
 *   assertEquals(predictions.shape, [2, 17, 128]);
 *   assertEquals(nepaLoss({ embeddings, predictions }).shape, []);
 * });
 * model.dispose();
 * ```
 */
export class Nepa extends Network {
  /** Variables by official tensor name, see `Network`. */
  readonly parameters: Map<string, tf.Variable>;
  protected readonly architecture: string = PRETRAINED;
  readonly #seed: number;
  #forwards = 0;

  /**
   * Makes a model with random weights.
   *
   * @param config A preset, a configuration, or both.
   * @param options `seed` of the first values.
   * @throws {RangeError | TypeError} If the configuration cannot be.
   * @throws {Error} If no engine is chosen yet.
   */
  constructor(config: NepaOptions = {}, options: NepaInit = {}) {
    currentEngine();
    const { seed = 0, initial, preprocessor } = options, all = nepaConfig(config);
    super(all, preprocessor ?? defaultPreprocessor(all.imageSize, all.numChannels));
    this.#seed = seed;
    this.parameters = makeParameters(backboneShapes(all), initial ?? randomInitial(all, seed));
  }

  /**
   * Embeds and predicts.
   *
   * @param images [B, H, W, C]; H and W multiples of the patch, not necessarily those configured. int32: 0 to 255, to be
   * normalised as `preprocessor` says; float32: normalised already.
   * @param options What else to give, and whether to train.
   * @returns Tensors that the caller disposes of.
   * @throws {RangeError} If the images have another shape, or the last position is left out and attention is not causal.
   */
  forward(images: tf.Tensor4D, options: ForwardOptions = {}): ForwardOutputs {
    const { causal = this.config.isCausal, last = true } = options;
    expect(last || causal, "last", "true where attention is not causal", last);
    const [rows, columns] = this.#grid(images), batch = images.shape[0];
    return tf.tidy(() => {
      const draws = this.#trainingDraws(images, options.training),
        angles = rotation(this.config, rows, columns, draws);
      return inStreams(batch, (from, count) => {
        const some = draws && count < batch ? partOf(draws, from, count) : draws;
        return this.#pass(rowsOf(images, from, count), options, angles, some);
      });
    });
  }

  #pass(
    images: tf.Tensor4D,
    options: ForwardOptions,
    { cos, sin }: Rotation,
    all: Draws | undefined,
  ): ForwardOutputs {
    const { causal = this.config.isCausal, last = true, hidden = false, attentions = false } = options;
    const [rows, columns] = this.#grid(images), batch = images.shape[0];
    const tokens = rows * columns + (last ? 1 : 0);
    const as3d = (x: tf.Tensor2D) => x.reshape([batch, tokens, -1]) as tf.Tensor3D; // [B·T, D] to [B, T, D]
    const draws = all && !last ? withoutLast(all) : all, rotated: [number, number] = [tokens, cos.shape[1]];
    const context: BlockContext = {
      config: this.config,
      batch,
      tokens,
      draws,
      rotation: { cos: tf.slice(cos, [0, 0], rotated), sin: tf.slice(sin, [0, 0], rotated) },
      mask: causal ? causalMask(tokens) : undefined,
    };
    const embeddings = this.#embed(images, rows, columns);
    const read = last ? embeddings : tf.slice(embeddings, [0, 0, 0], [-1, tokens, -1]);
    let x = read.reshape([batch * tokens, -1]) as tf.Tensor2D; // [B, T, D] to [B·T, D]
    if (draws?.["dropout.embeddings"]) x = tf.mul(x, draws["dropout.embeddings"].reshape(x.shape));
    const seen: { hidden: tf.Tensor3D[]; attentions: tf.Tensor4D[] } = { hidden: [], attentions: [] };
    for (let i = 0; i < this.config.numHiddenLayers; i++) {
      const weights = (name: string) => this.parameters.get(`vit_nepa.encoder.layer.${i}.${name}`);
      const { output, probabilities } = block(x, weights, context, i);
      x = output;
      if (hidden) seen.hidden.push(as3d(x));
      if (attentions) seen.attentions.push(probabilities);
    }
    const [weight, bias] = [this.#of("layernorm.weight"), this.#of("layernorm.bias")];
    const normed = layerNorm(x, this.config.layerNormEps, weight, bias);
    return {
      embeddings,
      predictions: as3d(normed),
      ...(hidden && { hidden: seen.hidden }),
      ...(attentions && { attentions: seen.attentions }),
    };
  }

  /**
   * One row of numbers for each image.
   *
   * @param images As for `forward`.
   * @param options Which layer, and how its tokens become one row.
   * @returns [B, D], or [B, T·D] if all tokens are joined; the caller disposes of it.
   * @throws {RangeError} If there is no such layer.
   */
  features(images: tf.Tensor4D, options: FeatureOptions = {}): tf.Tensor2D {
    const { layer = "final", pool = "mean", causal = this.config.isCausal } = options;
    const last = this.config.numHiddenLayers, named = typeof layer !== "number";
    const known = named || Number.isInteger(layer) && layer >= 1 && layer <= last;
    expect(known, "layer", `"embedding", 1 to ${last}, or "final"`, layer);
    return tf.tidy(() => {
      const outputs = this.forward(images, { causal, hidden: !named });
      return poolTokens(tokensOf(outputs, layer), pool);
    });
  }

  /**
   * The random numbers of one training forward.
   *
   * @param batchSize B.
   * @param random Where they come from.
   * @param size Height and width of the images in pixels. Default: the configuration's.
   * @returns Tensors by name; the caller disposes of them. `ropeShift`, `ropeJitter`, `ropeRescale`: see `ropeDraws`. `dropPath`
   * [2·L, B] and `dropout.…`: factors, 0 or 1 / (1 − p). Each is there only where the configuration asks for it.
   */
  draws(
    batchSize: number,
    random: Random,
    size: { height: number; width: number } = { height: this.config.imageSize, width: this.config.imageSize },
  ): Draws {
    return makeDraws(this.config, batchSize, random, size);
  }

  /**
   * Reads a model in the official layout: from a folder, or from the Hugging Face hub by way of the cache that Python's
   * huggingface_hub keeps, where the variables HF_HOME, HF_HUB_CACHE, HF_TOKEN, HF_ENDPOINT and HF_HUB_OFFLINE hold.
   *
   * @param source The folder with `config.json`, `model.safetensors` and, where there is one, `preprocessor_config.json`;
   * or a name on the hub, "SixAILab/nepa-base-patch14-224", if there is no such folder. Without safetensors, PyTorch's own
   * `pytorch_model.bin` or `pytorch_model_ema.bin` is read, and none of the code that such a file can hold is run.
   * @param options Which revision on the hub; whether the averaged weights.
   * @returns The model.
   * @throws {CheckpointError} If a file or a tensor is missing, unknown or of another shape; it lists them all.
   * @throws {HubError} If it cannot be had from the hub.
   */
  static async load(source: string, options: LoadOptions = {}): Promise<Nepa> {
    const { config, init } = await loadNetwork(source, PRETRAINED, backboneShapes, options);
    return new Nepa(config, init);
  }

  /** Another model with the same weights, which it does not share. */
  clone(): Nepa {
    const { config, preprocessor } = this, initial = (name: string) => this.parameters.get(name)!;
    return new Nepa(config, { preprocessor, initial, seed: this.#seed });
  }

  #of(name: string): tf.Variable {
    return this.parameters.get(`vit_nepa.${name}`)!;
  }

  /** Patches down and across. */
  #grid({ shape }: tf.Tensor4D): [number, number] {
    const { patchSize: p, numChannels } = this.config, [, height, width, channels] = shape;
    const fits = shape.length === 4 && channels === numChannels && height % p === 0 && width % p === 0;
    const expected = `[B, H, W, ${numChannels}] with H and W multiples of ${p}`;
    expect(fits && height * width > 0, "images", expected, `[${shape}]`);
    return [height / p, width / p];
  }

  #trainingDraws(
    { shape: [batch, height, width] }: tf.Tensor4D,
    training: boolean | Draws = false,
  ): Draws | undefined {
    if (typeof training === "object") return training;
    if (!training) return undefined;
    return this.draws(batch, new Random(this.#seed, "draws", this.#forwards++), { height, width });
  }

  /** Images as floats; those of 8 bits in the official order: rescale, subtract the mean, divide. */
  #normalised(images: tf.Tensor4D): tf.Tensor4D {
    if (images.dtype !== "int32") return images;
    const { rescaleFactor, imageMean, imageStd } = this.preprocessor;
    const rescaled = tf.div(images.cast("float32"), 1 / rescaleFactor);
    return tf.div(tf.sub(rescaled, tf.tensor1d([...imageMean])), tf.tensor1d([...imageStd]));
  }

  /** Images to embedded patches behind the CLS token, [B, T, D]. */
  #embed(images: tf.Tensor4D, rows: number, columns: number): tf.Tensor3D {
    const { patchSize: p, numChannels: C } = this.config, batch = images.shape[0];
    const patches = this.#normalised(images).reshape([batch * rows, p, columns, p * C])
      .transpose([0, 2, 1, 3]) // [B·rows, columns, p, p·C]
      .reshape([batch * rows * columns, p * p * C]) as tf.Tensor2D;
    const projection = "embeddings.patch_embeddings.projection";
    const weight = this.#of(`${projection}.weight`) as tf.Tensor as tf.Tensor2D;
    const embedded = linear(patches, weight, this.#of(`${projection}.bias`))
      .reshape([batch, rows * columns, -1]); // [B, N, D]
    const cls = tf.add(tf.zeros([batch, 1, 1]), this.#of("embeddings.cls_token")); // [B, 1, D]
    return tf.concat([cls, embedded], 1) as tf.Tensor3D;
  }
}

/** The tokens [B, T, D] of a layer, of outputs with `hidden` tokens. */
export function tokensOf(outputs: ForwardOutputs, layer: NonNullable<FeatureOptions["layer"]>): tf.Tensor3D {
  if (layer === "embedding") return outputs.embeddings;
  if (layer === "final") return outputs.predictions;
  return outputs.hidden![layer - 1]!;
}

/** Makes one row of an image's tokens [B, T, D]. */
export function poolTokens(x: tf.Tensor3D, pool: NonNullable<FeatureOptions["pool"]>): tf.Tensor2D {
  const [batch, tokens] = x.shape;
  const token = (at: number) => tf.squeeze(tf.slice(x, [0, at, 0], [-1, 1, -1]), [1]) as tf.Tensor2D;
  if (pool === "mean") return tf.mean(tf.slice(x, [0, 1, 0]), 1);
  if (pool === "cls") return token(0);
  if (pool === "last") return token(tokens - 1);
  if (pool === "all") return x.reshape([batch, -1]) as tf.Tensor2D;
  throw new RangeError(`pool: expected "mean", "cls", "last" or "all", got ${String(pool)}`);
}
