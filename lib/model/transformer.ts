/**
 * The parts of a transformer: attention, MLP, and the pre-norm block made of them.
 * Tokens are rows: [B·T, D], so that every linear map is one plain matrix product.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";
import type { NepaConfig } from "./config.ts";
import { activations, layerNorm, linear } from "./ops.ts";
import { rotate, type Rotation } from "./rope.ts";

/** Looks a parameter up by the end of its name; undefined where the configuration has none. */
export type Weights = (name: string) => tf.Tensor | undefined;

/** What a block is told besides its input and its weights. */
export interface BlockContext {
  /** The network. */
  readonly config: NepaConfig;
  /** B, images. */
  readonly batch: number;
  /** T, tokens of an image. */
  readonly tokens: number;
  /** What queries and keys are rotated by; left out, they are not. */
  readonly rotation?: Rotation | undefined;
  /** [T, T], [B, 1, T, T] or, the same for all that look, [1, T], added to the scores; left out, every token sees all. */
  readonly mask?: tf.Tensor | undefined;
  /** A training forward's random factors by name, each 0 or 1 / (1 − p); left out in evaluation. */
  readonly draws?: Readonly<Record<string, tf.Tensor>> | undefined;
}

/** The linear map of that name. */
export function project(x: tf.Tensor2D, weights: Weights, name: string): tf.Tensor2D {
  return linear(x, weights(`${name}.weight`) as tf.Tensor2D, weights(`${name}.bias`));
}

/** The layer norm of that name. */
function norm<T extends tf.Tensor>(x: T, { layerNormEps }: NepaConfig, weights: Weights, name: string): T {
  return layerNorm(x, layerNormEps, weights(`${name}.weight`), weights(`${name}.bias`));
}

/** Query, key and value by one product: [B·T, D] to three of that shape. */
function queryKeyValue(x: tf.Tensor2D, weights: Weights): tf.Tensor2D[] {
  const names = ["query", "key", "value"].map((part) => `attention.attention.${part}`);
  const weight = tf.concat(names.map((name) => weights(`${name}.weight`)!), 1) as tf.Tensor2D; // [D, 3·D]
  const biases = names.map((name) => weights(`${name}.bias`)).filter((bias) => bias !== undefined);
  return tf.split(linear(x, weight, biases.length > 0 ? tf.concat(biases) : undefined), 3, 1);
}

/**
 * What every token reads from those that the mask lets it see.
 *
 * @param x Tokens [B·T, D].
 * @param weights The block's parameters.
 * @param context The rest.
 * @param dropout Factors on the probabilities [B, A, T, T], or none.
 * @returns `output` [B·T, D] and `probabilities` [B, A, T, T], each row of which sums to 1.
 */
export function attention(
  x: tf.Tensor2D,
  weights: Weights,
  context: BlockContext,
  dropout?: tf.Tensor,
): { output: tf.Tensor2D; probabilities: tf.Tensor4D } {
  const { config, batch, tokens, rotation, mask } = context;
  const heads = config.numAttentionHeads, size = config.hiddenSize / heads; // A, d
  const [q, k, v] = queryKeyValue(x, weights).map((rows) =>
    tf.transpose(rows.reshape([batch, tokens, heads, size]), [0, 2, 1, 3]) // [B, T, A, d] to [B, A, T, d]
  ) as [tf.Tensor4D, tf.Tensor4D, tf.Tensor4D];
  const normed = (x: tf.Tensor4D, name: string) =>
    config.qkNorm ? norm(x, config, weights, `attention.attention.${name}`) : x;
  const turned = (x: tf.Tensor4D) => rotation ? rotate(x, rotation) : x;
  const query = tf.mul(turned(normed(q, "q_norm")), size ** -0.5), key = turned(normed(k, "k_norm"));
  const scores = tf.matMul(query, key, false, true); // [B, A, T, T]
  const probabilities = tf.softmax(mask ? tf.add(scores, mask) : scores) as tf.Tensor4D;
  const read = tf.matMul(dropout ? tf.mul(probabilities, dropout) : probabilities, v); // [B, A, T, d]
  const joined = tf.transpose(read, [0, 2, 1, 3]).reshape([batch * tokens, heads * size]) as tf.Tensor2D; // [B·T, D]
  return { output: project(joined, weights, "attention.output.dense"), probabilities };
}

/**
 * down(act(up(x))), or down(act(gate(x)) · up(x)).
 *
 * @param x Tokens [B·T, D].
 * @param weights The block's parameters.
 * @param config The network.
 * @returns [B·T, D].
 */
export function mlp(x: tf.Tensor2D, weights: Weights, config: NepaConfig): tf.Tensor2D {
  const act = activations[config.hiddenAct], up = project(x, weights, "intermediate.up_proj"); // [B·T, I]
  const inner = config.useGatedMlp ? tf.mul(act(project(x, weights, "intermediate.gate_proj")), up) : act(up);
  return project(inner as tf.Tensor2D, weights, "output.dense");
}

/**
 * One pre-norm block: x + attention(norm(x)), then x + mlp(norm(x)), each branch with its layer scale.
 *
 * @param x Tokens [B·T, D].
 * @param weights The block's parameters.
 * @param context The rest.
 * @param index Which block it is, from 0.
 * @returns `output` [B·T, D] and `probabilities` [B, A, T, T].
 *
 * @example
 * ```ts
 * import { block, causalMask, Nepa, rotation, tf, useEngine } from "nepa";
 * import { assertEquals } from "@std/assert";
 *
 * await useEngine("cpu");
 * const model = new Nepa({ preset: "mini" }), { config, parameters } = model;
 * tf.tidy(() => {
 *   const weights = (name: string) => parameters.get(`vit_nepa.encoder.layer.0.${name}`);
 *   const context = { config, batch: 2, tokens: 17, rotation: rotation(config, 4, 4), mask: causalMask(17) };
 *   const { output, probabilities } = block(tf.ones([2 * 17, 128]), weights, context, 0);
 *   assertEquals([output.shape, probabilities.shape], [[34, 128], [2, 4, 17, 17]]);
 * });
 * model.dispose();
 * ```
 */
export function block(
  x: tf.Tensor2D,
  weights: Weights,
  context: BlockContext,
  index: number,
): { output: tf.Tensor2D; probabilities: tf.Tensor4D } {
  const { config, batch, draws } = context;
  const branch = (y: tf.Tensor2D, part: "attention" | "mlp", scale: string) => {
    const dropout = draws?.[`dropout.${index}.${part}`], lambda = weights(`${scale}.lambda1`);
    if (dropout) y = tf.mul(y, dropout.reshape(y.shape)); // [B, T, D] to [B·T, D]
    if (lambda) y = tf.mul(y, lambda);
    if (!draws?.dropPath || index === 0) return y;
    const kept = tf.slice(draws.dropPath, [2 * index + (part === "mlp" ? 1 : 0), 0], [1, batch]);
    return tf.mul(y.reshape([batch, -1]), kept.reshape([batch, 1])).reshape(y.shape) as tf.Tensor2D; // [B, T·D]
  };
  const dropout = draws?.[`dropout.${index}.probabilities`],
    normed = norm(x, config, weights, "layernorm_before");
  const { output, probabilities } = attention(normed, weights, context, dropout);
  const attended: tf.Tensor2D = tf.add(x, branch(output, "attention", "layer_scale"));
  const mixed = mlp(norm(attended, config, weights, "layernorm_after"), weights, config);
  return { output: tf.add(attended, branch(mixed, "mlp", "output.layer_scale")), probabilities };
}

/** What {@linkcode transformer} gives. B images, T tokens, D numbers a token. */
export type TransformerOutputs = {
  /** [B, T, D], after the last norm. */
  predictions: tf.Tensor3D;
  /** [B, T, D] after each block, before the last norm. */
  hidden?: tf.Tensor3D[];
  /** [B, A, T, T] of each block: how much each token (third axis) reads from each (fourth). */
  attentions?: tf.Tensor4D[];
};

/**
 * All blocks, one after the other, then the last norm.
 *
 * @param tokens [B, T, D].
 * @param weights Their parameters.
 * @param context The rest.
 * @param give What to give besides.
 * @returns `predictions` and what is asked for.
 */
export function transformer(
  tokens: tf.Tensor3D,
  weights: Weights,
  context: Omit<BlockContext, "batch" | "tokens">,
  { hidden, attentions }: { hidden?: boolean | undefined; attentions?: boolean | undefined } = {},
): TransformerOutputs {
  const { config, draws } = context, [batch, length] = tokens.shape;
  const as3d = (x: tf.Tensor2D) => x.reshape(tokens.shape) as tf.Tensor3D; // [B·T, D] to [B, T, D]
  let x = tokens.reshape([batch * length, -1]) as tf.Tensor2D; // [B, T, D] to [B·T, D]
  if (draws?.["dropout.embeddings"]) x = tf.mul(x, draws["dropout.embeddings"].reshape(x.shape));
  const kept: Required<Omit<TransformerOutputs, "predictions">> = { hidden: [], attentions: [] };
  for (let i = 0; i < config.numHiddenLayers; i++) {
    const here = { ...context, batch, tokens: length };
    const { output, probabilities } = block(x, (name) => weights(`encoder.layer.${i}.${name}`), here, i);
    x = output;
    if (hidden) kept.hidden.push(as3d(x));
    if (attentions) kept.attentions.push(probabilities);
  }
  return {
    predictions: as3d(norm(x, config, weights, "layernorm")),
    ...(hidden && { hidden: kept.hidden }),
    ...(attentions && { attentions: kept.attentions }),
  };
}
