/** The encoder of I-JEPA: a vision transformer without CLS, which adds a table of positions to its patches. @module */
import * as tf from "@tensorflow/tfjs";
import { checkOptions, type Rule } from "../base/check.ts";
import * as is from "../base/check.ts";
import type { Draws } from "../base/random.ts";
import type { Preprocessor } from "../data/preprocessor.ts";
import { encoderConfig, type NepaConfig, type NepaOptions } from "./config.ts";
import { forwardDraws } from "./draws.ts";
import { VisionEncoder } from "./encoder.ts";
import { causalMask } from "./masks.ts";
import type { TokenOptions } from "./method.ts";
import { inParts, type NetworkInit } from "./network.ts";
import { gather } from "./ops.ts";
import { embedPatches, patchGrid, positionTable } from "./patches.ts";
import { transformer, type TransformerOutputs, type Weights } from "./transformer.ts";

/** What an encoder's forward gives: B images, N patches or the K that it sees. */
export type Encoded = TransformerOutputs & {
  /** [B, N, D]: the patches with their positions. */
  embeddings: tf.Tensor3D;
};

/** What {@linkcode encode} is told besides images and weights. */
interface Pass {
  config: NepaConfig;
  preprocessor: Preprocessor;
  visible?: tf.Tensor2D;
  mask?: tf.Tensor | undefined;
  draws?: Draws | undefined;
  hidden?: boolean | undefined;
  attentions?: boolean | undefined;
}

/** The official names of what blocks call otherwise. */
export const named = (weights: Weights): Weights => (name) => weights(name.replace("up_proj", "dense"));

/** Encodes images [B, H, W, C], or the patches of them that are visible. */
export function encode(images: tf.Tensor4D, weights: Weights, pass: Pass): Encoded {
  const { visible, config, mask, draws, hidden, attentions } = pass,
    { hiddenSize: D, imageSize, patchSize } = config;
  const [rows, columns] = patchGrid(images, config), side = imageSize / patchSize;
  const table = rows === side && columns === side
    ? weights("embeddings.position_embeddings")!.reshape([-1, D]) // [1, N, D] to [N, D]
    : tf.tensor(positionTable(D, rows, columns), [rows * columns, D]);
  const patches = embedPatches(images, weights, pass, visible);
  const embeddings = tf.add(patches, visible ? gather(table, visible) : table) as tf.Tensor3D;
  const context = { config, mask, draws };
  return { embeddings, ...transformer(embeddings, named(weights), context, { hidden, attentions }) };
}

const tensor: Rule = ["a tensor", (value) => value instanceof tf.Tensor];
const FORWARD_RULES = {
  ...{ draws: is.any, causal: is.flag, mask: tensor, hidden: is.flag, attentions: is.flag },
  last: ["true", (value) => value === true] as Rule,
};

/** The encoder of I-JEPA: a vision transformer without CLS that sees the whole image. */
export class IJepaEncoder extends VisionEncoder {
  override readonly prefix = 0;
  protected readonly architecture: string = "IJepaModel";

  /**
   * Makes an encoder with random weights.
   *
   * @param config An encoder's configuration.
   * @param options `seed` of the first values.
   */
  constructor(config: NepaOptions = {}, options: NetworkInit = {}) {
    super("IJepaEncoder", encoderConfig(config), options);
  }

  /**
   * Encodes whole images.
   *
   * @param images [B, H, W, C] as for `Nepa.forward`; for others than the configured size the table of positions is computed.
   * @param options As for `Nepa.forward`, without `order`.
   * @returns `embeddings` and `predictions`, the tokens after the last norm, [B, N, D]; the caller disposes of them.
   */
  forward(
    images: tf.Tensor4D,
    options: TokenOptions & { hidden?: boolean; attentions?: boolean; last?: boolean } = {},
  ): Encoded {
    checkOptions("forward", options, FORWARD_RULES);
    const { causal = this.config.isCausal, hidden, attentions, draws } = options;
    const [rows, columns] = this.grid(images), batch = images.shape[0], N = rows * columns;
    const given = draws && forwardDraws(draws, this.config, batch), { config, preprocessor } = this;
    return tf.tidy(() => {
      const mask = options.mask ?? (causal ? causalMask(N) : undefined);
      const pass = { config, preprocessor, hidden, attentions };
      return inParts(batch, { images, mask, draws: given }, ({ images, mask, draws }) => {
        return encode(images, this.weights, { ...pass, mask, draws });
      });
    });
  }
}
