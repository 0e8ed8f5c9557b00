/** What an I-JEPA is made of: its encoders, its predictor, its masks and how the target encoder follows. @module */
import { checkOptions, type Rule } from "../base/check.ts";
import * as is from "../base/check.ts";
import {
  checkWidth,
  encoderConfig,
  encoderFields,
  given,
  type NepaConfig,
  presets,
  snake,
} from "./config.ts";
import type { BlockOptions } from "./masks.ts";

/** What predictor, masks and target encoder have of their own. */
interface OwnConfig extends BlockOptions {
  /** P, the length of a predictor's token: narrower than the encoder's. A multiple of 4 and of the heads. Default 384. */
  readonly predictorHiddenSize: number;
  /** Blocks of the predictor. Default 6. */
  readonly predictorNumHiddenLayers: number;
  /** Length between the two products of its MLPs. Default 4 · `predictorHiddenSize`. */
  readonly predictorIntermediateSize: number;
  /** What the target encoder keeps of itself at an update, at first and at last, along a line. Default [0.996, 1]. */
  readonly momentum: readonly [number, number];
}

/** An I-JEPA's configuration: both encoders', as in {@linkcode NepaConfig}, then its own. The predictor has the encoder's heads. */
export type IJepaConfig = Pick<NepaConfig, typeof encoderFields[number]> & OwnConfig;

/** The presets: NEPA's patches and widths, and the three published sizes (ViT-H/14, ViT-H/16 at 448, ViT-g/16). */
export type IJepaPreset = keyof typeof presets | "huge" | "huge-448" | "giant";

/** A configuration in part; what is left out comes from the preset, or from the published ViT-B/16. */
export type IJepaOptions = Partial<IJepaConfig> & { readonly preset?: IJepaPreset };

const pair = (expected: string, holds: (x: number) => boolean): Rule => [
  `two numbers ${expected}, the first not above the second`,
  (v) => Array.isArray(v) && v.length === 2 && v.every((x) => Number.isFinite(x) && holds(x)) && v[0] <= v[1],
];

const RULES: Record<keyof OwnConfig, Rule> = {
  predictorHiddenSize: is.count,
  predictorNumHiddenLayers: is.count,
  predictorIntermediateSize: is.count,
  ...{ masks: is.oneOf("corrected", "published"), targetBlocks: is.count, minKeep: is.index },
  targetScale: pair("above 0, at most 1", (x) => x > 0 && x <= 1),
  contextScale: pair("above 0, at most 1", (x) => x > 0 && x <= 1),
  targetAspect: pair("above 0", (x) => x > 0),
  momentum: pair("from 0 to 1", (x) => x >= 0 && x <= 1),
};

/** The fields that encoders do not have. */
const ownFields = Object.keys(RULES) as (keyof OwnConfig)[];

/** Those, as `config.json` has them. */
export const officialFields = (config: IJepaConfig): Record<string, unknown> =>
  Object.fromEntries(ownFields.map((field) => [snake(field), config[field]]));

/** What `config.json` has of them. */
export const fromOfficialFields = (json: object): Partial<IJepaConfig> => given(ownFields, json, snake);

/** The published masks and momentum (arXiv 2301.08243). */
const DEFAULTS: Omit<OwnConfig, "predictorIntermediateSize"> = {
  ...{ predictorHiddenSize: 384, predictorNumHiddenLayers: 6 },
  ...{ masks: "corrected", targetBlocks: 4, minKeep: 10 },
  ...{ targetScale: [0.15, 0.2], targetAspect: [0.75, 1.5], contextScale: [0.85, 1], momentum: [0.996, 1] },
};

const published = (
  imageSize: number,
  patchSize: number,
  hiddenSize: number,
  [L, A, I]: number[],
  depth: number,
) => ({
  ...{ imageSize, numChannels: 3, patchSize, hiddenSize, numHiddenLayers: L!, numAttentionHeads: A! },
  ...{ intermediateSize: I!, predictorNumHiddenLayers: depth },
});

/** What presets add to the encoder's, or all of them. */
const PRESETS: Readonly<Record<IJepaPreset, Partial<IJepaConfig>>> = {
  mini: { predictorHiddenSize: 64, predictorNumHiddenLayers: 2, minKeep: 0 },
  nano: { predictorHiddenSize: 64, predictorNumHiddenLayers: 2, minKeep: 4 },
  tiny: { predictorHiddenSize: 96, predictorNumHiddenLayers: 3, minKeep: 6 },
  small: { predictorHiddenSize: 192 },
  base: {},
  large: { predictorNumHiddenLayers: 12 },
  huge: published(224, 14, 1280, [32, 16, 5120], 12),
  "huge-448": published(448, 16, 1280, [32, 16, 5120], 12),
  giant: published(224, 16, 1408, [40, 16, 6144], 16),
};

type Encoders = Pick<NepaConfig, typeof encoderFields[number]>;

const encodersPart = (options: object) => given<Encoders>(encoderFields, options);

/** The configuration of both encoders. */
export const encoderOf = (config: Partial<IJepaConfig>): NepaConfig => encoderConfig(encodersPart(config));

/** The configuration of the predictor's blocks. */
export const predictorOf = (config: IJepaConfig): NepaConfig => ({
  ...encoderOf(config),
  hiddenSize: config.predictorHiddenSize,
  numHiddenLayers: config.predictorNumHiddenLayers,
  intermediateSize: config.predictorIntermediateSize,
});

/**
 * Completes and checks a configuration.
 *
 * @param options Fields to set, over those of `preset` if it is given.
 * @returns Every field, frozen.
 * @throws {TypeError} If a field's name is unknown.
 * @throws {RangeError} If a value, or two together, cannot be.
 *
 * @example
 * ```ts
 * import { ijepaConfig } from "nepa";
 * import { assertEquals } from "@std/assert";
 *
 * const config = ijepaConfig({ preset: "nano", predictorHiddenSize: 32 });
 * assertEquals([config.hiddenSize, config.predictorHiddenSize, config.masks], [128, 32, "corrected"]);
 * ```
 */
export function ijepaConfig(options: IJepaOptions = {}): IJepaConfig {
  const encoders = Object.fromEntries(encoderFields.map((field) => [field, is.any]));
  const named = { preset: is.oneOf(...Object.keys(PRESETS)) };
  checkOptions("configuration", options, { ...named, ...encoders, ...RULES });
  const { preset } = options,
    shared = preset && preset in presets ? presets[preset as keyof typeof presets] : {};
  const set = given<IJepaConfig>([...encoderFields, ...ownFields], options);
  const start = { ...DEFAULTS, ...encodersPart(shared), ...preset && PRESETS[preset] };
  const all: Partial<IJepaConfig> = { ...start, ...set };
  const encoder = encoderOf(all);
  checkWidth("predictorHiddenSize", all.predictorHiddenSize!, encoder);
  const { predictorIntermediateSize = 4 * all.predictorHiddenSize! } = all;
  const own = given<OwnConfig>(ownFields, { ...all, predictorIntermediateSize }) as OwnConfig;
  return Object.freeze({ ...encodersPart(encoder) as Encoders, ...own });
}
