/** What encoders have in common: their layers, the tokens and the features that are read of them. @module */
import * as tf from "@tensorflow/tfjs";
import { checkOptions, expect, type Rule } from "../base/check.ts";
import * as is from "../base/check.ts";
import type { Draws, Random } from "../base/random.ts";
import type { NepaConfig } from "./config.ts";
import { makeDraws } from "./draws.ts";
import type { DrawContext, DrawSize, Encoder, Layer, TokenOptions } from "./method.ts";
import { backboneShapes, makeParameters, Network, type NetworkInit, prefixOf } from "./network.ts";
import { startingPoint } from "./network.ts";
import type { Weights } from "./transformer.ts";

/** Options of `Nepa.features`. */
export interface FeatureOptions {
  /** Which tokens: "embedding", after block 1 to L, or "final", after the last norm. Default "final". */
  layer?: Layer;
  /** Mean of the patch tokens, CLS, the last token, or all tokens joined. Default "mean". */
  pool?: "mean" | "cls" | "last" | "all";
  /** As for `forward`. */
  causal?: boolean | undefined;
}

const FEATURE_RULES: Record<keyof FeatureOptions, Rule> = {
  ...{ layer: is.any, causal: is.flag },
  pool: is.oneOf("mean", "cls", "last", "all"),
};

/** What a layer's tokens are read from. */
interface TokenOutputs {
  embeddings: tf.Tensor3D;
  predictions: tf.Tensor3D;
  hidden?: tf.Tensor3D[];
}

/** A network whose tokens can be read, layer by layer. */
export abstract class VisionEncoder extends Network implements Encoder {
  /** Tokens before the patches: CLS. */
  readonly prefix: 0 | 1 = 1;
  /** Variables by official tensor name, see `Network`; a table of positions is not trained. */
  readonly parameters: Map<string, tf.Variable>;

  /** Makes one of a configuration that was checked. */
  constructor(where: string, config: NepaConfig, options: NetworkInit) {
    const start = startingPoint(where, config, options);
    super(config, start);
    this.parameters = makeParameters(backboneShapes(config), start.initial);
  }

  /** The weights by the ends of their names. */
  readonly weights: Weights = (name) => this.parameters.get(prefixOf(this.config) + name);

  /** Embeds images and runs the blocks. */
  abstract forward(images: tf.Tensor4D, options?: TokenOptions & { hidden?: boolean }): TokenOutputs;

  /**
   * The random numbers of one training forward.
   *
   * @param batchSize B; or `{ batchSize, random }`.
   * @param random Where they come from.
   * @param size Height and width of the images in pixels. Default: the configuration's.
   * @returns Tensors by name; the caller disposes of them. `ropeShift`, `ropeJitter`, `ropeRescale`: see `ropeDraws`. `dropPath`
   * [2·L, B] and `dropout.…`: factors, 0 or 1 / (1 − p). Each is there only where the configuration asks for it.
   */
  draws(context: DrawContext): Draws;
  draws(batchSize: number, random: Random, size?: DrawSize): Draws;
  draws(first: number | DrawContext, random?: Random, size?: DrawSize): Draws {
    const context = typeof first === "object" ? first : { batchSize: first, random: random! };
    const { imageSize } = this.config, square = { height: imageSize, width: imageSize };
    return makeDraws(this.config, context.batchSize, context.random, size ?? square);
  }

  /** "embedding", 1 to L, "final". */
  get layers(): readonly Layer[] {
    return ["embedding", ...Array.from({ length: this.config.numHiddenLayers }, (_, i) => i + 1), "final"];
  }

  /** Whether a token sees only itself and those before it: as the configuration's `isCausal`. */
  get causal(): boolean {
    return this.config.isCausal;
  }

  /** Heads of each block's attention. */
  get heads(): number {
    return this.config.numAttentionHeads;
  }

  /** The tokens of some layers, [B, T, D] each; the caller disposes of them. */
  tokens(images: tf.Tensor4D, layers: readonly Layer[], options: TokenOptions = {}): tf.Tensor3D[] {
    const known = `"embedding", 1 to ${this.layers.length - 2}, or "final"`;
    for (const layer of layers) expect(this.layers.includes(layer), "layer", known, layer);
    return tf.tidy(() => {
      const hidden = layers.some((layer) => typeof layer === "number");
      const outputs = this.forward(images, { ...options, hidden });
      const { embeddings, predictions } = outputs;
      const of = (layer: Layer) => layer === "embedding" ? embeddings : predictions;
      return layers.map((layer) => typeof layer === "number" ? outputs.hidden![layer - 1]! : of(layer));
    });
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
    checkOptions("features", options, FEATURE_RULES);
    const { layer = "final", pool = "mean", causal } = options;
    return tf.tidy(() => poolTokens(this.tokens(images, [layer], { causal })[0]!, pool, this.prefix));
  }
}

/** Makes one row of an image's tokens [B, T, D], the first `prefix` of which are no patches. */
export function poolTokens(
  x: tf.Tensor3D,
  pool: NonNullable<FeatureOptions["pool"]>,
  prefix: number = 1,
): tf.Tensor2D {
  const [batch, tokens] = x.shape;
  const token = (at: number) => tf.squeeze(tf.slice(x, [0, at, 0], [-1, 1, -1]), [1]) as tf.Tensor2D;
  if (pool === "mean") return tf.mean(tf.slice(x, [0, prefix, 0]), 1);
  expect(pool !== "cls" || prefix === 1, "pool", "another than cls, of a network without CLS", pool);
  if (pool === "cls") return token(0);
  if (pool === "last") return token(tokens - 1);
  if (pool === "all") return x.reshape([batch, -1]) as tf.Tensor2D;
  throw new RangeError(`pool: expected "mean", "cls", "last" or "all", got ${String(pool)}`);
}
