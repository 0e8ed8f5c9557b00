/**
 * NEPA's training step written for jax-js: the same network, loss, clipping and AdamW, for the configurations of `mini`
 * and `nano`. A function of jax-js takes its arguments over; `.ref` keeps one for another use.
 *
 * @module
 */
import { lax, nn, numpy as np } from "npm:@jax-js/jax@0.1.25";
import type { NepaConfig } from "nepa";
import { patchCoordinates, ropeFrequencies } from "../lib/model/rope.ts";

export type Arrays = { [name: string]: np.Array };

/** What a step changes. */
export type State = { parameters: Arrays; m: Arrays; v: Arrays };

/** What is different at every step: images [B, H, W, C], the stretch of the coordinates [1], the optimizer's numbers. */
export type Inputs = { images: np.Array; rescale: np.Array; rate: np.Array; m: np.Array; v: np.Array };

const WEIGHT_DECAY = 0.05, BETAS = [0.9, 0.95] as const, EPS = 1e-8, MAX_NORM = 1;

/** Looks a parameter up, for one use. */
type Weights = (name: string) => np.Array;

/** What a block is told besides its input and its weights. */
type Context = { config: NepaConfig; batch: number; by: { cos: np.Array; sin: np.Array } };

function linear(x: np.Array, weights: Weights, name: string): np.Array {
  return np.matmul(x, weights(`${name}.weight`)).add(weights(`${name}.bias`));
}

function layerNorm(x: np.Array, config: NepaConfig, weights: Weights, name: string): np.Array {
  const normed = nn.standardize(x, -1, { epsilon: config.layerNormEps });
  return normed.mul(weights(`${name}.weight`)).add(weights(`${name}.bias`));
}

/** Cosines and sines [T, 1, d] of coordinates stretched by `rescale`; CLS is not rotated. */
function rotation(config: NepaConfig, rescale: np.Array): Context["by"] {
  const side = config.imageSize / config.patchSize, size = config.hiddenSize / config.numAttentionHeads;
  const centres = np.array(new Float32Array(patchCoordinates(side, side))).reshape([side * side, 2, 1]).mul(
    rescale,
  );
  const frequencies = np.array(new Float32Array(ropeFrequencies(size, config.ropeTheta)));
  const half = centres.mul(frequencies).reshape([side * side, size / 2]); // [N, 2, d/4] to [N, d/2]
  const angles = np.concatenate([half.ref, half], 1); // [N, d]
  const all = np.concatenate([np.zeros([1, size]), angles], 0).reshape([side * side + 1, 1, size]);
  return { cos: np.cos(all.ref), sin: np.sin(all) };
}

function rotate(x: np.Array, by: Context["by"]): np.Array {
  const half = x.shape.at(-1)! / 2;
  const turned = np.concatenate(
    [x.ref.slice([], [], [], [half]).neg(), x.ref.slice([], [], [], [0, half])],
    3,
  );
  return x.mul(by.cos.ref).add(turned.mul(by.sin.ref));
}

/** x [B·T, D]: what each token reads from itself and those before it. */
function attention(x: np.Array, weights: Weights, { config, batch, by }: Context): np.Array {
  const { numAttentionHeads: heads, hiddenSize, layerNormEps: epsilon } = config;
  const part = (name: string) =>
    linear(x.ref, weights, `attention.attention.${name}`).reshape([batch, -1, heads, hiddenSize / heads]); // [B, T, A, d]
  const normed = (name: string) => nn.standardize(part(name), -1, { epsilon });
  const query = rotate(normed("query"), by), key = rotate(normed("key"), by);
  const read = nn.dotProductAttention(query, key, part("value"), { isCausal: true }); // [B, T, A, d]
  x.dispose();
  return linear(read.reshape([-1, hiddenSize]), weights, "attention.output.dense"); // [B·T, D]
}

function block(x: np.Array, weights: Weights, context: Context): np.Array {
  const { config } = context;
  const read = attention(layerNorm(x.ref, config, weights, "layernorm_before"), weights, context);
  const seen = x.add(read.mul(weights("layer_scale.lambda1")));
  const up = linear(
    layerNorm(seen.ref, config, weights, "layernorm_after"),
    weights,
    "intermediate.up_proj",
  );
  const thought = linear(nn.gelu(up, { approximate: false }), weights, "output.dense");
  return seen.add(thought.mul(weights("output.layer_scale.lambda1")));
}

/** Embedded patches behind CLS, [B·T, D]. */
function embed(images: np.Array, config: NepaConfig, weights: Weights): np.Array {
  const { patchSize: p, numChannels: C, hiddenSize } = config,
    [batch, height] = images.shape as [number, number];
  const side = height / p;
  const patches = images.reshape([batch * side, p, side, p * C]).transpose([0, 2, 1, 3]) // [B·rows, columns, p, p·C]
    .reshape([batch * side * side, p * p * C]);
  const embedded = linear(patches, weights, "embeddings.patch_embeddings.projection");
  const cls = np.broadcastTo(weights("embeddings.cls_token"), [batch, 1, hiddenSize]);
  return np.concatenate([cls, embedded.reshape([batch, side * side, hiddenSize])], 1).reshape([
    -1,
    hiddenSize,
  ]);
}

function unit(x: np.Array): np.Array {
  const norm = np.sqrt(np.square(x.ref).sum(-1, { keepdims: true }));
  return x.div(np.maximum(norm, 1e-12));
}

/** Minus the mean cosine between each prediction and the next embedding. */
export function loss(parameters: Arrays, images: np.Array, rescale: np.Array, config: NepaConfig): np.Array {
  const batch = images.shape[0]!,
    under = (prefix: string) => (name: string) => parameters[prefix + name]!.ref;
  const weights = under("vit_nepa."), by = rotation(config, rescale);
  const embeddings = embed(images, config, weights);
  let x = embeddings.ref;
  for (let i = 0; i < config.numHiddenLayers; i++) {
    x = block(x, under(`vit_nepa.encoder.layer.${i}.`), { config, batch, by });
  }
  const tokens = (y: np.Array) => y.reshape([batch, -1, config.hiddenSize]); // [B·T, D] to [B, T, D]
  const predictions = tokens(layerNorm(x, config, weights, "layernorm"));
  const targets = tokens(lax.stopGradient(embeddings) as np.Array);
  for (const array of [by.cos, by.sin, ...Object.values(parameters)]) array.dispose();
  const cosines = unit(predictions.slice([], [0, -1], [])).mul(unit(targets.slice([], [1], []))).sum(-1);
  return cosines.mean().neg();
}

/** Gradients, clipped together at norm 1, and AdamW. */
export function update(
  { parameters, m, v }: State,
  gradients: Arrays,
  inputs: Omit<Inputs, "images" | "rescale">,
): State {
  const squares = Object.values(gradients).map((gradient) => np.square(gradient.ref).sum());
  const norm = np.sqrt(squares.reduce((a, b) => a.add(b)));
  const factor = np.minimum(np.divide(MAX_NORM, norm.add(1e-6)), 1),
    next: State = { parameters: {}, m: {}, v: {} };
  for (const [name, weight] of Object.entries(parameters)) {
    const gradient = gradients[name]!.mul(factor.ref), decay = weight.ndim > 1 ? WEIGHT_DECAY : 0;
    const first = m[name]!.mul(BETAS[0]).add(gradient.ref.mul(1 - BETAS[0]));
    const second = v[name]!.mul(BETAS[1]).add(np.square(gradient).mul(1 - BETAS[1]));
    next.m[name] = first.ref;
    next.v[name] = second.ref;
    const direction = first.div(inputs.m.ref).div(np.sqrt(second.div(inputs.v.ref)).add(EPS));
    next.parameters[name] = weight.ref.sub(direction.add(weight.mul(decay)).mul(inputs.rate.ref));
  }
  for (const array of [factor, inputs.rate, inputs.m, inputs.v]) array.dispose();
  return next;
}
