/** What a NEPA network is made of: every field of the official configuration, checked, with presets. @module */
import * as is from "../base/check.ts";
import { checkOptions, expect, type Rule } from "../base/check.ts";

/** The activation functions of the MLP, by their official names. */
export type Activation = "gelu" | "gelu_new" | "silu" | "swish" | "relu" | "selu";

/** The presets: four of this toolkit's for small machines, and the two published sizes. */
export type Preset = "mini" | "nano" | "tiny" | "small" | "base" | "large";

/** A network's configuration. The names are the official ones in camelCase. */
export interface NepaConfig {
  /** D, the length of a token. A multiple of `numAttentionHeads`. Default 768. */
  readonly hiddenSize: number;
  /** L, the number of transformer blocks. Default 12. */
  readonly numHiddenLayers: number;
  /** A, the number of attention heads; D / A, the head size, is a multiple of 4 for the rotation of pairs on two axes. Default 12. */
  readonly numAttentionHeads: number;
  /** I, the length between the two products of the MLP. Default 3072. */
  readonly intermediateSize: number;
  /** Whether the MLP is down(act(gate(x)) · up(x)) in place of down(act(up(x))). Default false. */
  readonly useGatedMlp: boolean;
  /** Default "gelu", the exact one (by the error function). */
  readonly hiddenAct: Activation;
  /** Dropout on the tokens and on both branches of a block, 0 to 1. The target embeddings are taken before it. Default 0. */
  readonly hiddenDropoutProb: number;
  /** Dropout on the attention weights, 0 to 1. Default 0. */
  readonly attentionProbsDropoutProb: number;
  /** Standard deviation of the initial weights. Default 0.02. */
  readonly initializerRange: number;
  /** Added to the variance in every layer norm. Default 1e-12. */
  readonly layerNormEps: number;
  /**
   * How the network is told where a patch lies: by rotated queries and keys, behind a CLS token, which is NEPA; or by a table of
   * sines and cosines added to the patches, without CLS, which is I-JEPA's encoder ("table"). Default: rotated.
   */
  readonly positions?: "table" | undefined;
  /** Base of the rotary frequencies. Default 100. */
  readonly ropeTheta: number;
  /** Height and width of the images it is made for, in pixels. Others work if they are multiples of the patch. Default 224. */
  readonly imageSize: number;
  /** Side of a patch in pixels. Default 16. */
  readonly patchSize: number;
  /** Channels of an image. Default 3. */
  readonly numChannels: number;
  /** Whether query, key and value have biases. Default true. */
  readonly qkvBias: boolean;
  /** Whether queries and keys are layer-normed per head, which bounds the attention scores. Default false. */
  readonly qkNorm: boolean;
  /** Whether that norm has a bias; without `qkNormAffine` it has no effect. Default false. */
  readonly qkNormBias: boolean;
  /** Whether that norm has a weight. Default false. */
  readonly qkNormAffine: boolean;
  /** Initial factor on each branch of a block (small: a deep network starts as the identity); null leaves the factors out. Default 1e-5. */
  readonly layerscaleValue: number | null;
  /** How often the last block's branches are dropped in training, 0 to 1, rising linearly from 0 at the first block. Default 0. */
  readonly dropPathProb: number;
  /** Classification only: read the mean of the patch tokens (true) or the last token (false). Default false. */
  readonly addPoolingLayer: boolean;
  /** Classification only, and not the official code's: read all tokens joined, without `addPoolingLayer`. Default false. */
  readonly joinTokens: boolean;
  /** Whether a token sees only itself and the tokens before it. Default true. */
  readonly isCausal: boolean;
  /** In training, patch coordinates (in [-1, 1]) are shifted by up to this, per axis; null: not at all. Default null. */
  readonly posEmbedShift: number | null;
  /** In training, they are multiplied by up to this (or its inverse), per axis, at least 1; null: not at all. Default null. */
  readonly posEmbedJitter: number | null;
  /** In training, they are multiplied by up to this (or its inverse), both axes alike, at least 1; null: not at all. Default 2. */
  readonly posEmbedRescale: number | null;
}

/** A configuration in part; what is left out comes from the preset, or from the official defaults. */
export type NepaOptions = Partial<NepaConfig> & { readonly preset?: Preset };

function preset(
  [imageSize, numChannels, patchSize]: [number, number, number],
  [hiddenSize, numHiddenLayers, numAttentionHeads]: [number, number, number],
  qkNormAffine = false,
): Partial<NepaConfig> {
  const image = { imageSize, numChannels, patchSize }, norm = { qkNorm: true, qkNormAffine };
  const size = { hiddenSize, numHiddenLayers, numAttentionHeads, intermediateSize: 4 * hiddenSize };
  return Object.freeze({ ...image, ...size, ...norm, addPoolingLayer: true });
}

/** What each preset sets. All have GELU, normed queries and keys, and layer scale 1e-5, as the published models. */
export const presets: Readonly<Record<Preset, Partial<NepaConfig>>> = Object.freeze({
  mini: preset([28, 1, 7], [128, 4, 4]),
  nano: preset([28, 1, 4], [128, 4, 4]),
  tiny: preset([64, 3, 8], [192, 6, 3]),
  small: preset([224, 3, 14], [384, 12, 6]),
  base: preset([224, 3, 14], [768, 12, 12]),
  large: preset([224, 3, 14], [1024, 24, 16], true),
});

const number = is.numberThat("a number", () => true),
  factor = is.numberThat("a number from 1", (x) => x >= 1);

/** Each field's official default, and what it may be. */
const rules: { [Field in keyof NepaConfig]-?: readonly [NepaConfig[Field], Rule] } = {
  hiddenSize: [768, is.count],
  numHiddenLayers: [12, is.count],
  numAttentionHeads: [12, is.count],
  intermediateSize: [3072, is.count],
  useGatedMlp: [false, is.flag],
  hiddenAct: ["gelu", is.oneOf("gelu", "gelu_new", "silu", "swish", "relu", "selu")],
  hiddenDropoutProb: [0, is.belowOne],
  attentionProbsDropoutProb: [0, is.belowOne],
  initializerRange: [0.02, is.notNegative],
  layerNormEps: [1e-12, is.notNegative],
  positions: [undefined, is.oneOf("table")],
  ropeTheta: [100, is.positive],
  imageSize: [224, is.count],
  patchSize: [16, is.count],
  numChannels: [3, is.count],
  qkvBias: [true, is.flag],
  qkNorm: [false, is.flag],
  qkNormBias: [false, is.flag],
  qkNormAffine: [false, is.flag],
  layerscaleValue: [1e-5, is.orNull(number)],
  dropPathProb: [0, is.belowOne],
  addPoolingLayer: [false, is.flag],
  joinTokens: [false, is.flag],
  isCausal: [true, is.flag],
  posEmbedShift: [null, is.orNull(is.notNegative)],
  posEmbedJitter: [null, is.orNull(factor)],
  posEmbedRescale: [2, is.orNull(factor)],
};

const fields = Object.keys(rules) as (keyof NepaConfig)[];

/** Those of an object's fields that are there, by the names that the object has for them. */
export function given<T>(fields: readonly string[], from: object, as = (name: string) => name): Partial<T> {
  const all = fields.map((field) => [field, (from as Record<string, unknown>)[as(field)]] as const);
  return Object.fromEntries(all.filter(([, value]) => value !== undefined)) as Partial<T>;
}

const checks = Object.fromEntries(fields.map((field) => [field, rules[field][1]]));
const defaults = given(
  fields,
  Object.fromEntries(fields.map((field) => [field, rules[field][0]])),
) as NepaConfig;

/** Refuses a width that cannot be cut into heads, or has no room for the positions on two axes. */
export function checkWidth(
  name: string,
  width: number,
  { numAttentionHeads: heads, positions }: Pick<NepaConfig, "numAttentionHeads" | "positions">,
): void {
  if (positions) {
    expect(width % heads === 0 && width % 4 === 0, name, `a multiple of 4 and of ${heads}, the heads`, width);
  } else expect(width % (4 * heads) === 0, name, `a multiple of 4 · numAttentionHeads = ${4 * heads}`, width);
}

/**
 * Completes and checks a configuration.
 *
 * @param options Fields to set, over those of `preset` if it is given, over the official defaults.
 * @returns Every field, frozen.
 * @throws {TypeError} If a field's name is unknown.
 * @throws {RangeError} If a value, or two values together, cannot be.
 *
 * @example
 * ```ts
 * import { nepaConfig } from "nepa";
 * import { assertEquals } from "@std/assert";
 *
 * const config = nepaConfig({ preset: "mini", numHiddenLayers: 6 });
 * assertEquals([config.hiddenSize, config.numHiddenLayers, config.patchSize], [128, 6, 7]);
 * ```
 */
export function nepaConfig(options: NepaOptions = {}): NepaConfig {
  checkOptions("configuration", options, { preset: is.oneOf(...Object.keys(presets)), ...checks });
  const { preset } = options;
  const config: NepaConfig = { ...defaults, ...(preset && presets[preset]), ...given(fields, options) };
  const { hiddenSize, imageSize, patchSize } = config;
  checkWidth("hiddenSize", hiddenSize, config);
  expect(imageSize % patchSize === 0, "imageSize", `a multiple of patchSize = ${patchSize}`, imageSize);
  expect(!(config.joinTokens && config.addPoolingLayer), "joinTokens", "false, with addPoolingLayer", true);
  return Object.freeze(config);
}

/** What an encoder of I-JEPA has in common with every other. */
const TABLE: Partial<NepaConfig> = {
  ...{ positions: "table", layerscaleValue: null, isCausal: false, posEmbedRescale: null },
  addPoolingLayer: true,
};

/** What an encoder of I-JEPA can have of its own. */
export const encoderFields = [
  ...["imageSize", "numChannels", "patchSize", "hiddenSize", "numHiddenLayers", "numAttentionHeads"] as const,
  ...["intermediateSize", "hiddenAct", "qkvBias", "initializerRange", "layerNormEps"] as const,
] as const satisfies readonly (keyof NepaConfig)[];

/** Of an encoder of I-JEPA, which sees all patches and adds a table of positions to them. */
export function encoderConfig(options: Partial<NepaConfig>): NepaConfig {
  const config = nepaConfig({ ...TABLE, layerNormEps: 1e-6, ...options });
  const other = (["qkNorm", "useGatedMlp"] as const).find((field) => config[field]);
  expect(
    !other && config.positions === "table",
    other ?? "positions",
    "an encoder of I-JEPA, which has no such thing",
    other && true,
  );
  return config;
}

export const snake = (name: string): string => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);

/**
 * The configuration as the official `config.json` has it.
 *
 * @param config A configuration.
 * @param more Keys that are not the network's own, such as `architectures` and `id2label`.
 * @returns An object to write as JSON, its keys in alphabetical order.
 *
 * @example
 * ```ts
 * import { nepaConfig, toOfficialConfig } from "nepa";
 * import { assertEquals } from "@std/assert";
 *
 * const json = toOfficialConfig(nepaConfig({ preset: "mini" }), { architectures: ["ViTNepaForPreTraining"] });
 * assertEquals([json.model_type, json.hidden_size, json.patch_size], ["vit_nepa", 128, 7]);
 * ```
 */
export function toOfficialConfig(
  config: NepaConfig,
  more: Record<string, unknown> = {},
): Record<string, unknown> {
  const type = config.positions ? "ijepa" : "vit_nepa", plain = { ...defaults, ...config.positions && TABLE };
  const known: readonly string[] = config.positions
    ? [...encoderFields, "hiddenDropoutProb", "attentionProbsDropoutProb"]
    : fields.filter((field) => field !== "joinTokens" && field !== "positions");
  const written = fields.filter((field) => known.includes(field) || config[field] !== plain[field]);
  const own = Object.fromEntries(written.map((field) => [snake(field), config[field]]));
  const all = Object.entries({ ...own, model_type: type, dtype: "float32", ...more });
  return Object.fromEntries(all.sort(([a], [b]) => (a < b ? -1 : 1)));
}

/**
 * The configuration in an official `config.json`. Keys that the network does not know are left out, absent ones get
 * the official default.
 *
 * @param json The parsed file.
 * @param type Which model's: NEPA's (default), or I-JEPA's encoder.
 * @returns The configuration, checked.
 * @throws {RangeError} If it is another model's, or a value cannot be.
 *
 * @example
 * ```ts
 * import { fromOfficialConfig } from "nepa";
 * import { assertEquals } from "@std/assert";
 *
 * const config = fromOfficialConfig({ model_type: "vit_nepa", hidden_size: 384, num_attention_heads: 6 });
 * assertEquals([config.hiddenSize, config.numHiddenLayers], [384, 12]);
 * ```
 */
export function fromOfficialConfig(
  json: Record<string, unknown>,
  type: "vit_nepa" | "ijepa" = "vit_nepa",
): NepaConfig {
  expect(json.model_type === type, "config.json", `model_type "${type}"`, JSON.stringify(json.model_type));
  const found = given<NepaConfig>(fields, json, snake);
  return nepaConfig(type === "ijepa" ? { ...TABLE, ...found } : found);
}

/** Products of one forward pass of T tokens through the blocks. */
export function blockFlops(
  { hiddenSize: D, intermediateSize: I, numHiddenLayers: L, useGatedMlp }: NepaConfig,
  T: number,
): number {
  return L * (8 * T * D * D + (useGatedMlp ? 6 : 4) * T * D * I + 4 * T * T * D);
}

/**
 * Products in one training step, forward and backward: what GFLOP/s and "% of peak" are computed from.
 *
 * @param config The network.
 * @param batchSize Images in the step.
 * @param height Their height in pixels. Default: the configuration's.
 * @param width Their width in pixels. Default: `height`.
 * @returns Floating-point operations: 3 · batch · (2·N·p²·C·D + L·(8·T·D² + 4·T·D·I (6 if gated) + 4·T²·D)).
 *
 * @example
 * ```ts
 * import { nepaConfig, trainingFlops } from "nepa";
 * import { assertAlmostEquals } from "@std/assert";
 *
 * assertAlmostEquals(trainingFlops(nepaConfig({ preset: "nano" }), 64) / 1e9, 16, 0.5);
 * ```
 */
export function trainingFlops(
  config: NepaConfig,
  batchSize: number,
  height: number = config.imageSize,
  width: number = height,
): number {
  const { hiddenSize: D, patchSize: p, numChannels: C } = config;
  const N = Math.floor(height / p) * Math.floor(width / p), T = config.positions ? N : N + 1;
  return 3 * batchSize * (2 * N * p * p * C * D + blockFlops(config, T));
}
