/**
 * I-JEPA (arXiv 2301.08243): a network sees a part of the patches, and a second, narrow one predicts what the average of the
 * first makes of blocks of the rest. First the forward passes and the loss, then the classes that hold the weights.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";
import { inStreams, rowsOf } from "@nepa/engine";
import { expect } from "../base/check.ts";
import type { LossOutput } from "../base/gradient.ts";
import type { Draws } from "../base/random.ts";
import { randomResizedCrop } from "../data/transforms.ts";
import type { Preprocessor } from "../data/preprocessor.ts";
import { Ema } from "../optim/ema.ts";
import { warmupCosine } from "../optim/schedule.ts";
import { blockFlops, type NepaConfig } from "./config.ts";
import { encoderOf, ijepaConfig, officialFields, predictorOf } from "./ijepa_config.ts";
import type { IJepaConfig, IJepaOptions } from "./ijepa_config.ts";
import type { IJepaLoadOptions } from "./ijepa_files.ts";
import { encode, type Encoded, IJepaEncoder, named } from "./ijepa_encoder.ts";
import { BlockSampler, maskTensors } from "./masks.ts";
import type { AfterContext, DrawContext, LossContext, Method, MethodRecipe } from "./method.ts";
import { backboneShapes, makeParameters, Model, type NetworkInit, randomInitial } from "./network.ts";
import { gather, layerNorm, smoothL1 } from "./ops.ts";
import { positionTable } from "./patches.ts";
import { project, transformer, type Weights } from "./transformer.ts";

/** The file of context encoder and predictor, beside the target encoder's. */
export const BESIDE = "ijepa.safetensors";

/** Added to the variance of targets: PyTorch's default, not the network's. */
const TARGET_EPS = 1e-5;

/** AdamW as the public code has it, without clipping. */
const PLAIN = { betas: [0.9, 0.999], clipNorm: null } as const;

/** Which patches are seen and predicted, as {@linkcode IJepa.draws} gives them. */
export type Masks = {
  /** [B, K] int32: the numbers of the patches that are seen. */
  context: tf.Tensor2D;
  /** [B, M, n] int32: those of each block that is predicted. */
  targets: tf.Tensor3D;
  /** [1, K]: −Infinity where a place of `context` counts for nothing, else 0. Default: all count. */
  contextPadding?: tf.Tensor2D;
  /** [1, n]: the same of `targets`. */
  targetPadding?: tf.Tensor2D;
};

/** What {@linkcode IJepa.forward} gives. B images, K patches seen, M blocks of n patches predicted, D numbers a token. */
export type IJepaOutputs = {
  /** [B, K, D]: what the context encoder makes of the patches that it sees. */
  context: tf.Tensor3D;
  /** [B, M, n, D]: what is predicted of each block. */
  predictions: tf.Tensor4D;
  /** [B, M, n, D]: what the target encoder makes of them, who sees the whole image; mean 0 and variance 1 along D. */
  targets: tf.Tensor4D;
};

/** Predicts blocks of patches, each apart, from an encoded context: [B, M, n, D]. */
export function predict(
  context: tf.Tensor3D,
  masks: Masks,
  weights: Weights,
  config: NepaConfig,
): tf.Tensor4D {
  const { targets, contextPadding, targetPadding } = masks, [B, M, n] = targets.shape, K = context.shape[1];
  const P = config.hiddenSize, side = config.imageSize / config.patchSize;
  const table = tf.tensor(positionTable(P, side, side), [side ** 2, P]);
  const mapped = (x: tf.Tensor, name: string) =>
    project(x.reshape([-1, x.shape.at(-1)!]) as tf.Tensor2D, weights, name);
  const seen = tf.add(mapped(context, "embeddings").reshape([B, K, P]), gather(table, masks.context)); // [B, K, P]
  const asked = tf.add(gather(table, targets), weights("mask_token")!); // [B, M, n, P]
  const tokens = tf.concat([tf.tile(seen.expandDims(1), [1, M, 1, 1]), asked], 2).reshape([B * M, K + n, P]);
  const mask = contextPadding && targetPadding && tf.concat([contextPadding, targetPadding], 1); // [1, K + n]
  const { predictions } = transformer(tokens as tf.Tensor3D, named(weights), { config, mask });
  const answers = tf.slice(predictions, [0, K, 0]); // [B·M, n, P]
  return mapped(answers, "projection").reshape([B, M, n, -1]);
}

/** I-JEPA's loss: how far predictions [B, M, n, D] lie from targets, by smooth L1, the mean over all that count. */
export function ijepaLoss(
  { predictions, targets }: Pick<IJepaOutputs, "predictions" | "targets">,
  padding?: tf.Tensor2D,
): tf.Scalar {
  return tf.tidy(() => {
    const apart = tf.mean(smoothL1(predictions, targets), -1); // [B, M, n]
    if (!padding) return tf.mean(apart);
    const counts = tf.exp(padding), [B, M] = apart.shape as [number, number]; // 0 or 1
    return tf.div(tf.sum(tf.mul(apart, counts)), tf.mul(tf.sum(counts), B * M)) as tf.Scalar;
  });
}

/** The predictor's parameters, in the engine's layout. */
function predictorShapes(config: IJepaConfig): Map<string, number[]> {
  const { hiddenSize: D, predictorHiddenSize: P } = config, shapes = backboneShapes(predictorOf(config));
  const blocks = [...shapes].filter(([name]) => !name.includes(".embeddings."))
    .map(([name, shape]) => [name.replace("ijepa.", "predictor."), shape] as const);
  return new Map([
    ["predictor.mask_token", [1, 1, P]],
    ...[["predictor.embeddings.weight", [D, P]], ["predictor.embeddings.bias", [P]]] as const,
    ...blocks,
    ...[["predictor.projection.weight", [P, D]], ["predictor.projection.bias", [D]]] as const,
  ] as [string, number[]][]);
}

/**
 * Context encoder, predictor, and target encoder, which is what probes and classifiers read: `model.encoder`.
 *
 * @example
 * ```ts
 * import { IJepa, ijepaLoss, Random, tf, useEngine } from "nepa";
 * import { assertEquals } from "@std/assert";
 *
 * await useEngine("cpu");
 * const model = new IJepa({ preset: "nano", numHiddenLayers: 1 }, { seed: 0 });
 * tf.tidy(() => {
 *   const masks = model.draws({ batchSize: 2, random: new Random(0) });
 *   const { predictions, targets } = model.forward(tf.zeros([2, 28, 28, 1]), masks);
 *   assertEquals(predictions.shape, [2, 4, 6, 128]); // images, blocks, patches, numbers
 *   assertEquals(ijepaLoss({ predictions, targets }).shape, []);
 * });
 * model.dispose();
 * ```
 */
export class IJepa extends Model implements Method {
  /** "i-jepa". */
  readonly name: string = "i-jepa";
  /** Every field, checked. */
  readonly config: IJepaConfig;
  /** The target encoder: an average of the context encoder. */
  readonly encoder: IJepaEncoder;
  /** The context encoder. */
  readonly context: IJepaEncoder;
  /** "context.…" and "predictor.…". */
  readonly parameters: ReadonlyMap<string, tf.Variable>;
  /** The target encoder's parameters, "ijepa.…". */
  override readonly state: ReadonlyMap<string, tf.Variable>;
  protected sampler: BlockSampler | undefined;

  /**
   * Makes a model with random weights; the target encoder begins as a copy of the context encoder.
   *
   * @param config A preset, a configuration, or both.
   * @param options `seed` of the first values.
   * @throws {RangeError | TypeError} If the configuration cannot be.
   * @throws {Error} If no engine is chosen yet.
   */
  constructor(config: IJepaOptions = {}, options: NetworkInit = {}) {
    super();
    this.config = ijepaConfig(config);
    const all = encoderOf(this.config), { initial = randomInitial(all, options.seed ?? 0) } = options;
    this.context = new IJepaEncoder(all, {
      ...options,
      initial: (name, shape) => initial(name.replace("ijepa.", "context."), shape),
    });
    this.encoder = this.context.clone();
    const predictor = makeParameters(predictorShapes(this.config), initial);
    const context = [...this.context.parameters].map(([name, x]) =>
      [name.replace("ijepa.", "context."), x] as const
    );
    this.parameters = new Map([...context, ...predictor]);
    this.state = this.encoder.parameters;
  }

  /** What is done to images. */
  get preprocessor(): Preprocessor {
    return this.encoder.preprocessor;
  }

  /**
   * Encodes a context, predicts blocks from it, and encodes the whole image for what these are.
   *
   * @param images [B, H, W, C] of the configured size, as for `Nepa.forward`.
   * @param masks From {@linkcode IJepa.draws}. Without them the target encoder's tokens of whole images are given.
   * @returns Tensors that the caller disposes of.
   * @throws {RangeError} If images or masks have another shape.
   */
  forward(images: tf.Tensor4D): Encoded;
  forward(images: tf.Tensor4D, masks: Masks | Draws): IJepaOutputs;
  forward(images: tf.Tensor4D, given?: Masks | Draws): Encoded | IJepaOutputs {
    if (!given) return this.encoder.forward(images);
    const { imageSize: side, numChannels: C } = this.config;
    const sized = images.shape.slice(1).join() === [side, side, C].join();
    expect(
      sized,
      "images",
      `[B, ${side}, ${side}, ${C}], the size that masks are drawn for`,
      `[${images.shape}]`,
    );
    const masks = given as Masks, batch = images.shape[0], { config, preprocessor } = this.encoder;
    const [seen, asked] = [masks.context, masks.targets];
    const fits = seen?.rank === 2 && asked?.rank === 3 &&
      [seen, asked].every(({ shape }) => shape[0] === batch);
    const got = [seen, asked].map((x) => `[${x?.shape ?? "none"}]`).join(" and ");
    expect(fits, "masks", `context [${batch}, K] and targets [${batch}, M, n]`, got);
    const padding = paddings(given), predictor = predictorOf(this.config);
    return tf.tidy(() =>
      inStreams(batch, (from, count) => {
        const rows = <T extends tf.Tensor>(x: T) => rowsOf(x, from, count);
        const [some, visible, targets] = [rows(images), rows(seen), rows(asked)];
        const weights = (part: string): Weights => (name) => this.parameters.get(`${part}.${name}`);
        const pass = { config, preprocessor, visible, mask: padding.contextPadding };
        const context = encode(some, weights("context"), pass).predictions;
        const part = { context: visible, targets, ...padding };
        const predictions = predict(context, part, weights("predictor"), predictor);
        const whole = encode(some, this.encoder.weights, { config, preprocessor }).predictions; // [B, N, D]
        const normed = layerNorm(gather(whole, targets, 1, 1), TARGET_EPS) as tf.Tensor4D;
        return { context, predictions, targets: normed };
      })
    );
  }

  /** What is made smaller: {@linkcode ijepaLoss}. */
  loss({ images, draws }: Pick<LossContext<never>, "images" | "draws">): LossOutput {
    return ijepaLoss(this.forward(images, draws), paddings(draws).targetPadding);
  }

  /** Moves the target encoder towards the context encoder. */
  after({ numbers }: Pick<AfterContext<never>, "numbers">): void {
    const trained = [...this.context.parameters].filter(([, { trainable }]) => trainable);
    new Ema(new Map(trained), this.encoder.parameters).update(numbers.momentum!);
  }

  /** The momentum of update `k`, from 0, of `steps`. */
  numbers(k: number, steps: number): { momentum: number } {
    const [first, last] = this.config.momentum;
    return { momentum: first + k * (last - first) / steps };
  }

  /** The masks' sampler, made when it is first asked for: a model that is not trained needs none. */
  get masks(): BlockSampler {
    const { imageSize, patchSize } = this.config, side = imageSize / patchSize;
    return this.sampler ??= new BlockSampler(this.config, side, side);
  }

  /**
   * The masks of one update.
   *
   * @param context How many images; where the numbers come from.
   * @returns Tensors that the caller disposes of, always of the same shapes, see {@linkcode Masks}.
   * @throws {RangeError} If masks of this kind do not fit the grid.
   */
  draws({ batchSize, random }: DrawContext): Draws {
    return maskTensors(this.masks.draw(batchSize, random), this.masks);
  }

  /** Products of an update, the target encoder's pass among them, which has no backward. */
  flops(batchSize: number): number {
    const { patchSize: p, numChannels: C, hiddenSize: D, predictorHiddenSize: P, targetBlocks: M } =
      this.config;
    const { targetSize: n, rows, columns } = this.masks,
      K = this.masks.contextSizeOf(batchSize),
      N = rows * columns;
    const encoder = (tokens: number) => 2 * tokens * p * p * C * D + blockFlops(this.encoder.config, tokens);
    const predictor = 2 * K * D * P + M * (blockFlops(predictorOf(this.config), K + n) + 2 * n * P * D);
    return batchSize * (encoder(N) + 3 * (encoder(K) + predictor));
  }

  /** What `pretrain` does: "default", for small networks and data sets, or "published", with the public code's masks. */
  get recipes(): Readonly<Record<"default" | "published", (images: number) => MethodRecipe>> {
    const masked = { config: ijepaConfig({ ...this.config, masks: "published" }), sampler: undefined };
    const method: IJepa = Object.assign(Object.create(Object.getPrototypeOf(this)), this, masked);
    return {
      default: () => ({ ...PLAIN, augment: null, steps: 4800, learningRate: 1e-3 }),
      published: (images) => publishedRecipe(images, this.config.imageSize, method),
    };
  }

  /** The target encoder's, as Hugging Face's `IJepaModel` reads it, and this toolkit's fields. */
  get officialConfig(): Record<string, unknown> {
    return { ...this.encoder.officialConfig, ...officialFields(this.config) };
  }

  /** `model.safetensors` is the target encoder, `ijepa.safetensors` context encoder and predictor. */
  override get files(): Record<string, ReadonlyMap<string, tf.Variable>> {
    const bare = [...this.state].map(([name, x]) => [name.replace("ijepa.", ""), x] as const);
    return { "model.safetensors": new Map(bare), [BESIDE]: this.parameters };
  }

  /**
   * Reads a model.
   *
   * @param source A folder of {@linkcode IJepa.save} or of Hugging Face's `IJepaModel`, a name on the hub, or the public code's
   * `.pth`, of which no code is run.
   * @param options Which revision on the hub; for a `.pth`, which does not hold its heads and sizes, `preset` or `config`.
   * @returns The model; of a folder without `ijepa.safetensors` the predictor is drawn anew, which is said.
   * @throws {CheckpointError} If a file or a tensor is missing, unknown or of another shape; it lists them all.
   */
  static async load(source: string, options: IJepaLoadOptions = {}): Promise<IJepa> {
    const { loadIJepa } = await import("./ijepa_files.ts");
    return await loadIJepa(source, options);
  }

  /** How many numbers the three networks hold together. */
  override get parameterCount(): number {
    return super.parameterCount + this.encoder.parameterCount;
  }
}

/** The paddings among draws, where there are such. */
function paddings(masks: Masks | Draws): Pick<Masks, "contextPadding" | "targetPadding"> {
  const { contextPadding, targetPadding } = Object.fromEntries(Object.entries(masks)) as Masks;
  return contextPadding && targetPadding ? { contextPadding, targetPadding } : {};
}

/** The paper's recipe: 300 epochs of batches of 2,048, 40 of them to warm up, weight decay from 0.04 to 0.4. */
function publishedRecipe(images: number, size: number, method: Method): MethodRecipe {
  const batchSize = 2048, epochs = 300, warm = (steps: number) => Math.floor(40 * steps / epochs);
  const rate = (steps: number) =>
    warmupCosine({ start: 2e-4, peak: 1e-3, end: 1e-6, steps, warmupSteps: warm(steps) });
  return {
    ...{ method, batchSize, steps: epochs * Math.max(1, Math.floor(images / batchSize)) },
    ...PLAIN,
    learningRate: (k, steps) => rate(steps)(k + 1), // the public code moves on before the first update
    weightDecay: (k, steps) => warmupCosine({ peak: 0.04, end: 0.4, steps, warmupSteps: 0 })(k + 1),
    augment: randomResizedCrop({ size, scale: [0.3, 1] }),
  };
}
