/** The random numbers of a training forward, made outside so that a compiled step takes them as arguments. @module */
import * as tf from "@tensorflow/tfjs";
import type { NepaConfig } from "./config.ts";
import { didYouMean, expect } from "../base/check.ts";
import { cutAxis, type Draws, drawsKind, perImage, type Random } from "../base/random.ts";
import type { DrawSize } from "./method.ts";
import { ropeDraws } from "./rope.ts";

/**
 * Draws what a training forward needs; each is there only where the configuration asks for it.
 *
 * @param config The network.
 * @param batchSize B.
 * @param random Where the numbers come from.
 * @param size Height and width of the images in pixels; the chance of dropping paths, where it is another than the network's.
 * @returns Tensors that the caller disposes of: those of {@linkcode ropeDraws}; `dropPath` [2·L, B], a row for each branch of
 * each block; `dropout.embeddings` and `dropout.{i}.{attention,mlp}` [B, T, D], `dropout.{i}.probabilities` [B, A, T, T].
 * Those are factors, 0 or 1 / (1 − p).
 */
export function makeDraws(
  config: NepaConfig,
  batchSize: number,
  random: Random,
  size: DrawSize,
): Draws {
  const { patchSize: p, numHiddenLayers: L, dropPathProb } = config, { dropPath = dropPathProb } = size;
  if (dropPath !== dropPathProb) {
    const draws = makeDraws({ ...config, dropPathProb: dropPath }, batchSize, random, { ...size, dropPath });
    if (dropPath > 0) return draws;
    return { ...draws, dropPath: perImage(tf.ones([2 * L, batchSize]), 1) }; // nothing is dropped
  }
  const tokens = 1 + Math.floor(size.height / p) * Math.floor(size.width / p);
  const draws: Draws = { ...ropeDraws(config, random) as Draws };
  for (const [name, { shape, rate }] of factorsOf(config, batchSize, tokens)) {
    const values = Float32Array.from({ length: tf.util.sizeFromShape(shape) }, (_, index) => {
      const p = rate(index);
      return random.uniform() < p ? 0 : 1 / (1 - p);
    });
    draws[name] = perImage(tf.tensor(values, shape), axes(name).images[0]);
  }
  return draws;
}

/** The factors that the configuration asks for, by name: their shape, and how often the one of that index is 0. */
function factorsOf(config: NepaConfig, batch: number, tokens: number) {
  const { numHiddenLayers: L, hiddenSize: D, numAttentionHeads: A, dropPathProb } = config;
  const { hiddenDropoutProb: hidden, attentionProbsDropoutProb: attention } = config;
  const factors = new Map<string, { shape: number[]; rate: (index: number) => number }>();
  const add = (name: string, shape: number[], p: number, rate = (_: number) => p) =>
    p > 0 && factors.set(name, { shape, rate });
  const last = L - 1, perBlock = 2 * batch, rows = [batch, tokens, D];
  if (last > 0) {
    add("dropPath", [2 * L, batch], dropPathProb, (i) => dropPathProb * Math.floor(i / perBlock) / last);
  }
  add("dropout.embeddings", rows, hidden);
  for (let i = 0; i < L; i++) {
    add(`dropout.${i}.probabilities`, [batch, A, tokens, tokens], attention);
    add(`dropout.${i}.attention`, rows, hidden);
    add(`dropout.${i}.mlp`, rows, hidden);
  }
  return factors;
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
  const { posEmbedShift: ropeShift, posEmbedJitter: ropeJitter, posEmbedRescale: ropeRescale } = config;
  const rope = Object.entries({ ropeShift, ropeJitter, ropeRescale }).filter(([, limit]) => limit !== null);
  return [...rope.map(([name]) => name), ...factorsOf(config, 1, 1).keys()];
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
  const help = "model.draws makes all of them";
  if (missing) throw new TypeError(`forward: draws: expected ${all.join(", ")}, got no ${missing}; ${help}`);
  for (const name of own) {
    const { shape } = given[name]!, fits = axes(name).images.every((axis) => shape[axis] === batch);
    expect(fits, `forward: draws: ${name}`, `as many as there are images, ${batch}`, `[${shape}]`);
  }
  return Object.fromEntries(own.map((name) => [name, given[name]!]));
}
