/** The random numbers of a training forward, made outside so that a compiled step takes them as arguments. @module */
import * as tf from "@tensorflow/tfjs";
import type { NepaConfig } from "./config.ts";
import { didYouMean, expect } from "../base/check.ts";
import { cutAxis, type Draws, drawsKind, perImage, type Random } from "../base/random.ts";
import { ropeDraws } from "./rope.ts";

/**
 * Draws what a training forward needs; each is there only where the configuration asks for it.
 *
 * @param config The network.
 * @param batchSize B.
 * @param random Where the numbers come from.
 * @param size Height and width of the images in pixels.
 * @returns Tensors that the caller disposes of: those of {@linkcode ropeDraws}; `dropPath` [2·L, B], a row for each branch of
 * each block; `dropout.embeddings` and `dropout.{i}.{attention,mlp}` [B, T, D], `dropout.{i}.probabilities` [B, A, T, T].
 * Those are factors, 0 or 1 / (1 − p).
 */
export function makeDraws(
  config: NepaConfig,
  batchSize: number,
  random: Random,
  size: { height: number; width: number },
): Draws {
  const { numHiddenLayers: L, hiddenSize: D, numAttentionHeads: A, patchSize: p } = config;
  const draws: Draws = { ...ropeDraws(config, random) as Draws };
  const tokens = 1 + Math.floor(size.height / p) * Math.floor(size.width / p), rows = [batchSize, tokens, D];
  const factors = (name: string, shape: number[], rate: (index: number) => number) => {
    const values = Float32Array.from({ length: tf.util.sizeFromShape(shape) }, (_, index) => {
      const p = rate(index);
      return random.uniform() < p ? 0 : 1 / (1 - p);
    });
    draws[name] = perImage(tf.tensor(values, shape), axes(name).images[0]);
  };
  const { dropPathProb, hiddenDropoutProb, attentionProbsDropoutProb } = config;
  if (dropPathProb > 0 && L > 1) {
    const rate = (i: number) => dropPathProb * Math.floor(i / (2 * batchSize)) / (L - 1);
    factors("dropPath", [2 * L, batchSize], rate);
  }
  if (hiddenDropoutProb > 0) factors("dropout.embeddings", rows, () => hiddenDropoutProb);
  for (let i = 0; i < L; i++) {
    if (attentionProbsDropoutProb > 0) {
      const shape = [batchSize, A, tokens, tokens];
      factors(`dropout.${i}.probabilities`, shape, () => attentionProbsDropoutProb);
    }
    if (hiddenDropoutProb > 0) {
      factors(`dropout.${i}.attention`, rows, () => hiddenDropoutProb);
      factors(`dropout.${i}.mlp`, rows, () => hiddenDropoutProb);
    }
  }
  return draws;
}

/** Which axes of a draw are the images, and which the tokens. */
function axes(name: string): { images: number[]; tokens: number[] } {
  if (name === "dropPath") return { images: [1], tokens: [] }; // [2·L, B]
  if (!name.startsWith("dropout.")) return { images: [], tokens: [] };
  return { images: [0], tokens: name.endsWith(".probabilities") ? [2, 3] : [1] }; // [B, A, T, T], [B, T, D]
}

function cut(draws: Draws, along: "images" | "tokens", from: number, size: (whole: number) => number): Draws {
  const cutOne = (x: tf.Tensor, here: readonly number[]) =>
    here.reduce((x, axis) => cutAxis(x, axis, from, size(x.shape[axis]!)), x);
  return Object.fromEntries(Object.entries(draws).map(([name, x]) => [name, cutOne(x, axes(name)[along])]));
}

/** The same draws for a forward that leaves out the last token. */
export function withoutLast(draws: Draws): Draws {
  return cut(draws, "tokens", 0, (tokens) => tokens - 1);
}

/** A forward's draws for `count` images of a batch. Inside a compiled function, marks on the arguments are not seen. */
export function partOfForward(draws: Draws, from: number, count: number): Draws {
  return cut(draws, "images", from, () => count);
}

/** The draws that the configuration asks for. */
function wanted(config: NepaConfig): string[] {
  const { numHiddenLayers: L, dropPathProb, hiddenDropoutProb, attentionProbsDropoutProb } = config;
  const blocks = (part: string) => Array.from({ length: L }, (_, i) => `dropout.${i}.${part}`);
  return [
    ...config.posEmbedShift === null ? [] : ["ropeShift"],
    ...config.posEmbedJitter === null ? [] : ["ropeJitter"],
    ...config.posEmbedRescale === null ? [] : ["ropeRescale"],
    ...dropPathProb > 0 && L > 1 ? ["dropPath"] : [],
    ...hiddenDropoutProb > 0 ? ["dropout.embeddings", ...blocks("attention"), ...blocks("mlp")] : [],
    ...attentionProbsDropoutProb > 0 ? blocks("probabilities") : [],
  ];
}

const KNOWN =
  /^(ropeShift|ropeJitter|ropeRescale|dropPath|dropout\.(embeddings|\d+\.(attention|mlp|probabilities)))$/;

/**
 * The draws among those given that a forward takes.
 *
 * @throws {TypeError} If one is unknown, or one that the configuration asks for is missing.
 * @throws {RangeError} If one is for another number of images.
 */
export function forwardDraws(given: Draws, config: NepaConfig, batch: number): Draws | undefined {
  const kind = drawsKind(given), names = Object.keys(given), own = names.filter((name) => KNOWN.test(name));
  if (kind === "evaluation") return undefined;
  const unknown = names.find((name) => !KNOWN.test(name)), all = wanted(config);
  if (kind === undefined && unknown !== undefined) {
    throw new TypeError(`forward: draws: unknown draw ${unknown}${didYouMean(unknown, all)}`);
  }
  const missing = all.find((name) => !Object.hasOwn(given, name));
  if (missing !== undefined) {
    throw new TypeError(
      `forward: draws: expected ${all.join(", ")}, got no ${missing}; model.draws makes all of them`,
    );
  }
  for (const name of own) {
    const { shape } = given[name]!;
    const fits = axes(name).images.every((axis) => shape[axis] === batch);
    expect(fits, `forward: draws: ${name}`, `as many as there are images, ${batch}`, `[${shape}]`);
  }
  return Object.fromEntries(own.map((name) => [name, given[name]!]));
}
