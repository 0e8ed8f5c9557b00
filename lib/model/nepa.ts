/**
 * The method: cut an image into patches, embed them, let a causal transformer read them in order, and have each position
 * predict the embedding of the next patch (arXiv 2512.16922). First the forward pass and the loss, then the class that holds
 * the weights.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";
import { checkOptions, expect, flag, type Rule } from "../base/check.ts";
import { type LossOutput, stopGradient } from "../base/gradient.ts";
import { cutAxis, type Draws, Random } from "../base/random.ts";
import type { Preprocessor } from "../data/preprocessor.ts";
import type { LoadOptions } from "../files/hub.ts";
import { type NepaConfig, nepaConfig, type NepaOptions, trainingFlops } from "./config.ts";
import { forwardDraws, withoutLast } from "./draws.ts";
import { causalMask } from "./masks.ts";
import { VisionEncoder } from "./encoder.ts";
import type { LossContext, Method, OutputContext } from "./method.ts";
import { backboneShapes, inParts, type NetworkInit } from "./network.ts";
import { gather, standardized, unit } from "./ops.ts";
import { embedPatches, patchGrid } from "./patches.ts";
import { type Rotation, rotation } from "./rope.ts";
import { transformer, type TransformerOutputs, type Weights } from "./transformer.ts";
import { refuseWhileRecording } from "@nepa/engine";

/** The official class's name. */
const PRETRAINED = "ViTNepaForPreTraining";

/** What {@linkcode Nepa.forward} gives. B images, T tokens (CLS and the patches in scan order), D numbers a token. */
export type ForwardOutputs = TransformerOutputs & {
  /** z [B, T, D]: what the transformer reads, and the targets. */
  embeddings: tf.Tensor3D;
  /** ẑ [B, T, D]: the transformer's output after the last norm; position t predicts z at t + 1. Without the last, [B, T − 1, D]. */
  predictions: tf.Tensor3D;
};

/** What {@linkcode nepaForward} is told besides images and weights. */
interface Pass {
  config: NepaConfig;
  preprocessor: Preprocessor;
  rotation: Rotation;
  causal: boolean;
  mask?: tf.Tensor | undefined;
  order?: tf.Tensor2D | undefined;
  draws?: Draws | undefined;
  last?: boolean | undefined;
  hidden?: boolean | undefined;
  attentions?: boolean | undefined;
}

/** Images to embedded patches behind the CLS token, [B, T, D]. */
function embed(images: tf.Tensor4D, weights: Weights, { config, preprocessor, order }: Pass): tf.Tensor3D {
  const embedded = embedPatches(images, weights, { config, preprocessor }), [batch] = embedded.shape;
  const scanned = order ? gather(embedded, order, 1, 1) : embedded;
  const cls = tf.add(tf.zeros([batch, 1, 1]), weights("embeddings.cls_token")!); // [B, 1, D]
  return tf.concat([cls, scanned], 1) as tf.Tensor3D;
}

/** The angles of the first `tokens` tokens, each patch's own wherever it stands in the order. */
function anglesOf({ rotation, order }: Pass, tokens: number): Rotation {
  const first = (x: tf.Tensor) => {
    if (!order) return tf.slice(x, [0, 0], [tokens, x.shape[1]!]);
    const patches = gather(tf.slice(x, [1, 0]), order); // [B, N, d]
    const cls = tf.tile(tf.slice(x, [0, 0], [1, -1]).expandDims(0), [order.shape[0], 1, 1]); // [B, 1, d]
    return tf.slice(tf.concat([cls, patches], 1), 0, [-1, tokens, -1]).expandDims(1); // [B, 1, T, d]
  };
  return { ...rotation, cos: first(rotation.cos), sin: first(rotation.sin) };
}

/** The forward pass: from images [B, H, W, C] and weights to embeddings and predictions. Nothing else is read or changed. */
export function nepaForward(images: tf.Tensor4D, weights: Weights, pass: Pass): ForwardOutputs {
  const { config, causal, mask, last = true, hidden = false, attentions = false } = pass;
  const [rows, columns] = patchGrid(images, config);
  const tokens = rows * columns + (last ? 1 : 0);
  const context = {
    ...{ config, draws: pass.draws && !last ? withoutLast(pass.draws) : pass.draws },
    rotation: anglesOf(pass, tokens),
    mask: mask ?? (causal ? causalMask(tokens) : undefined),
  };
  const embeddings = embed(images, weights, pass);
  const read: tf.Tensor3D = last ? embeddings : tf.slice(embeddings, [0, 0, 0], [-1, tokens, -1]);
  return { embeddings, ...transformer(read, weights, context, { hidden, attentions }) };
}

/** How outputs that are computed when they are read are had without the last position, which the shifted loss does not read. */
const shorter = new WeakMap<object, () => ForwardOutputs>();

/** Outputs that are computed when they are first read: whole, or by the loss alone without the last position. */
function deferred(compute: (last: boolean) => ForwardOutputs): ForwardOutputs {
  let made: ForwardOutputs | undefined;
  const property = (name: "embeddings" | "predictions") => ({
    enumerable: true,
    get: () => (made ??= compute(true))[name],
  });
  const outputs = Object.defineProperties({}, {
    embeddings: property("embeddings"),
    predictions: property("predictions"),
  }) as ForwardOutputs;
  shorter.set(outputs, () => made ?? compute(false));
  return outputs;
}

/** The switches of the objective; the third of the method, the causal mask, is `forward`'s. */
export interface NepaLossOptions {
  /** Compare with the next position's embedding (true) or with the same position's. Default true. */
  shift?: boolean;
  /** Let no gradient into the embeddings as targets (true), or let it. Default true. */
  stopGradient?: boolean;
  /**
   * Give every dimension of the targets mean 0 and standard deviation 1 over the batch, so that a cosine counts them alike
   * and their common direction not at all. Not in the paper. Default false.
   */
  standardizeTargets?: boolean;
  /**
   * How much each position counts, from 0: [T] or [B, T], by the position that predicts; the last is not read where there is a
   * shift. The loss is the weighted mean. Default: all alike.
   */
  where?: tf.Tensor;
}

const LOSS_RULES: Record<keyof NepaLossOptions, Rule> = {
  ...{ shift: flag, stopGradient: flag, standardizeTargets: flag },
  where: ["a tensor", (value) => value instanceof tf.Tensor],
};

/**
 * The loss of next-embedding prediction: minus the mean cosine between predictions and the embeddings they predict
 * (arXiv 2512.16922, section 3; `prediction_loss` of the official code).
 *
 * With the shift the prediction at position t is compared with the embedding at t + 1, so that CLS is never a target
 * and the last prediction is unused. −1 is perfect prediction and also collapse: measure that apart.
 *
 * @param outputs `embeddings` [B, T, D] and `predictions`, of the same shape or without the last, as `Nepa.forward` gives them.
 * @param options `shift` and `stopGradient`, both true, `standardizeTargets`, false, and `where`.
 * @returns A number from −1 to 1.
 * @throws {RangeError} If the shapes differ, or there is one token only and a shift.
 *
 * @example
 * ```ts
 * import { nepaLoss, tf, useEngine } from "nepa";
 * import { assertAlmostEquals } from "@std/assert";
 *
 * await useEngine("cpu");
 * const embeddings = tf.tensor3d([[[1, 0], [0, 2]]]), predictions = tf.tensor3d([[[0, 3], [1, 1]]]);
 * assertAlmostEquals(nepaLoss({ embeddings, predictions }).dataSync()[0]!, -1, 1e-6);
 * ```
 */
export function nepaLoss(
  outputs: { readonly embeddings: tf.Tensor3D; readonly predictions: tf.Tensor3D },
  options: NepaLossOptions = {},
): tf.Scalar {
  checkOptions("nepaLoss", options, LOSS_RULES);
  const { shift = true, stopGradient: stopped = true, standardizeTargets = false, where } = options;
  const { embeddings, predictions } = shift ? shorter.get(outputs)?.() ?? outputs : outputs;
  const [batch, tokens, size] = embeddings.shape;
  const given = predictions.shape[1] + (shift && predictions.shape[1] === tokens - 1 ? 1 : 0);
  if (embeddings.shape.join() !== [predictions.shape[0], given, predictions.shape[2]].join()) {
    throw new RangeError(
      `nepaLoss: expected predictions like the embeddings [${embeddings.shape}], got [${predictions.shape}]`,
    );
  }
  if (shift && tokens < 2) throw new RangeError("nepaLoss: expected 2 tokens or more to shift, got 1");
  const weighs = [[tokens], [batch, tokens]].some((shape) => shape.join() === where?.shape.join());
  expect(!where || weighs, "where", `[${tokens}] or [${batch}, ${tokens}]`, `[${where?.shape}]`);
  const loss = tf.tidy((): tf.Scalar => {
    const targets = stopped ? stopGradient(embeddings) : embeddings;
    const count = shift ? tokens - 1 : tokens, compared: [number, number, number] = [batch, count, size];
    const predicted = shift ? tf.slice(predictions, [0, 0, 0], compared) : predictions;
    const next = shift ? tf.slice(targets, [0, 1, 0], compared) : targets;
    const cosines = tf.sum(tf.mul(unit(predicted), unit(standardizeTargets ? standardized(next) : next)), -1); // [B, T or T − 1]
    if (!where) return tf.neg(tf.mean(cosines));
    const weights = tf.mul(tf.ones([batch, 1]), cutAxis(where, where.rank - 1, 0, count)); // [B, T or T − 1]
    return tf.neg(tf.div(tf.sum(tf.mul(cosines, weights)), tf.sum(weights)));
  });
  cosineLosses.add(loss);
  return loss;
}

const cosineLosses = new WeakSet<object>();

/** Whether what a loss gives is what {@linkcode nepaLoss} gave. */
export const isCosine = (output: LossOutput): boolean =>
  cosineLosses.has(output instanceof tf.Tensor ? output : Object(output).loss);

/** Options of `new Nepa`. */
export type NepaInit = NetworkInit;

export type { FeatureOptions } from "./encoder.ts";

/** Options of {@linkcode Nepa.forward}. */
export interface ForwardOptions {
  /**
   * Augment, drop and drop out as in training, by these random numbers, from `draws`. Then outputs are computed when they are
   * first read. Default: nothing of it.
   */
  draws?: Draws | undefined;
  /** As `draws`; or true, for draws of the model's own, which cannot be compiled. Default false. */
  training?: boolean | Draws;
  /** Whether a token sees only itself and those before it. Default: the configuration's `isCausal`. */
  causal?: boolean | undefined;
  /** Added to the attention scores in place of the causal mask: [T, T] or [B, 1, T, T], 0 or −Infinity. */
  mask?: tf.Tensor | undefined;
  /**
   * In which order the patches are read: [B, N] int32, row b the numbers of image b's patches, counted row by row. Embeddings
   * and predictions come in that order; each patch keeps the angles of its place. Default: row by row.
   */
  order?: tf.Tensor2D | undefined;
  /** Compute the last position too (default). With causal attention nothing else reads it, and no patch follows it. */
  last?: boolean;
  /** Give the tokens after each block too. Default false. */
  hidden?: boolean;
  /** Give the attention probabilities too. Default false. */
  attentions?: boolean;
}

const isTensor: Rule = ["a tensor", (value) => value instanceof tf.Tensor];
const FORWARD_RULES: Record<keyof ForwardOptions, Rule> = {
  draws: ["draws by name", (value) => typeof value === "object"],
  training: ["true, false or draws by name", (value) => ["boolean", "object"].includes(typeof value)],
  ...{ mask: isTensor, order: isTensor, causal: flag, last: flag, hidden: flag, attentions: flag },
};

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
export class Nepa extends VisionEncoder implements Method {
  /** "nepa". */
  readonly name: string = "nepa";
  protected readonly architecture: string = PRETRAINED;
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
    const all = nepaConfig(config), { positions } = all;
    expect(!positions, "positions", "none, for NEPA rotates; IJepa and IJepaEncoder add a table", positions);
    super("Nepa", all, options);
  }

  /**
   * Embeds and predicts.
   *
   * @param images [B, H, W, C]; H and W multiples of the patch, not necessarily those configured. int32: 0 to 255, to be
   * normalised as `preprocessor` says; float32: normalised already.
   * @param options What else to give, what to see, and whether to train.
   * @returns Tensors that the caller disposes of.
   * @throws {RangeError} If images, mask or order have another shape, or the last position is left out and attention is not
   * causal.
   * @throws {TypeError} If an option or a draw is unknown, or a draw that the configuration asks for is missing.
   */
  forward(images: tf.Tensor4D, options: ForwardOptions = {}): ForwardOutputs {
    checkOptions("forward", options, FORWARD_RULES);
    const { causal = this.config.isCausal, mask, order, last, hidden, attentions } = options;
    const [rows, columns] = this.grid(images), batch = images.shape[0], T = rows * columns + 1;
    expect(last !== false || causal && !mask, "last", "true where attention is not causal", last);
    const fits = [[T, T], [batch, 1, T, T]].some((shape) => shape.join() === mask?.shape.join());
    expect(!mask || fits, "mask", `[${T}, ${T}] or [${batch}, 1, ${T}, ${T}]`, `[${mask?.shape}]`);
    const orders = order?.dtype === "int32" && order.shape.join() === [batch, T - 1].join();
    expect(!order || orders, "order", `int32 [${batch}, ${T - 1}]`, `${order?.dtype} [${order?.shape}]`);
    const { training = false, draws = typeof training === "object" ? training : undefined } = options;
    const given = draws && forwardDraws(draws, this.config, batch), { config, preprocessor } = this;
    const compute = (last: boolean) =>
      tf.tidy(() => {
        const draws = given ?? (training === true ? this.#ownDraws(images) : undefined);
        const angles = { ...rotation(config, rows, columns, draws), fixed: true };
        const pass = { config, preprocessor, rotation: angles, causal, last, hidden, attentions };
        return inParts(batch, { images, order, mask, draws }, (part) => {
          const { images, ...rest } = part;
          return nepaForward(images, this.weights, { ...pass, ...rest });
        });
      });
    const whole = !causal || mask || last !== undefined || hidden || attentions;
    return whole || !given ? compute(last ?? true) : deferred(compute);
  }

  /** The random numbers of a forward that was given none. */
  #ownDraws({ shape: [batch, height, width] }: tf.Tensor4D): Draws {
    refuseWhileRecording("forward(…, { training: true })");
    return this.draws(batch, new Random(this.seed, "draws", this.#forwards++), { height, width });
  }

  /** The model itself: it is what a probe reads. */
  get encoder(): this {
    return this;
  }

  /** What is made smaller by default: {@linkcode nepaLoss}. */
  loss({ outputs }: Pick<LossContext<never>, "outputs">): LossOutput {
    return nepaLoss(outputs);
  }

  /** What a loss reads of images. */
  outputs({ images, draws, causal }: OutputContext): ForwardOutputs {
    return this.forward(images, { draws, causal });
  }

  /** The patch embeddings, whose collapse the loss cannot tell. */
  targets({ embeddings }: Pick<LossContext<never>, "embeddings">): tf.Tensor3D {
    return embeddings;
  }

  /** Of an update, by {@linkcode trainingFlops}. */
  flops(batchSize: number): number {
    return trainingFlops(this.config, batchSize);
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
  static async load<T extends Nepa = Nepa>(
    this: (new (config: NepaOptions, init: NepaInit) => T) | void,
    source: string,
    options: LoadOptions = {},
  ): Promise<T> {
    const Class = this ?? Nepa as unknown as new (config: NepaOptions, init: NepaInit) => T;
    const { loadNetwork } = await import("./model_files.ts");
    const layout = { models: { vit_nepa: PRETRAINED }, labelled: false, shapes: backboneShapes };
    return await loadNetwork(Class, Nepa, layout, source, options);
  }
}
