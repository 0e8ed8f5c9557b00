/** Classification with a pretrained network: pool its tokens, then one linear map. @module */
import * as tf from "@tensorflow/tfjs";
import { type NepaConfig, nepaConfig, type NepaOptions } from "./config.ts";
import { checkOptions, expect, type Rule } from "../base/check.ts";
import * as is from "../base/check.ts";
import type { LoadOptions } from "../files/hub.ts";
import { type ForwardOptions, type ForwardOutputs, Nepa, type NepaInit } from "./nepa.ts";
import { IJepaEncoder } from "./ijepa_encoder.ts";
import {
  assignCopies,
  backboneShapes,
  construct,
  makeParameters,
  namesOf,
  Network,
  randomInitial,
} from "./network.ts";
import type { DrawSize } from "./method.ts";
import type { Shapes } from "./network.ts";
import type { Draws, Random } from "../base/random.ts";
import { layerNorm, linear } from "./ops.ts";
import { poolTokens } from "./encoder.ts";

/** The official classes' names, by what is below the head. */
const CLASSIFIERS = { vit_nepa: "ViTNepaForImageClassification", ijepa: "IJepaForImageClassification" };

/** What can be below a head. */
export type Backbone = Nepa | IJepaEncoder;

/** What makes one. */
type BackboneClass = new (config: NepaOptions, init: NepaInit) => Backbone;

/** Options of `new NepaClassifier`. */
export interface ClassifierInit extends NepaInit {
  /** The class of the network below the head. Default: `Nepa`, or `IJepaEncoder`, as the configuration says. */
  backbone?: BackboneClass;
  /** The classes' names, or how many there are. */
  classes: number | readonly string[];
}

/** Options of {@linkcode NepaClassifier.from}. */
export interface ClassifierOptions {
  /** The classes' names, or how many there are. */
  classes: number | readonly string[];
  /**
   * Read the mean of the patch tokens, normed, or the last token; or, which the official code does not have, all tokens
   * joined, where position counts. Default "mean".
   */
  pool?: "mean" | "last" | "all";
  /** Whether a token sees only itself and those before it. Default false. */
  causal?: boolean;
  /** Multiply layer scale into the weights before it, so that the classifier has none (`layerscaleValue: null`). Default false. */
  foldLayerScale?: boolean;
  /**
   * Changes to the model's configuration, such as `dropPathProb`, or `qkNormAffine` (new norm weights start at 1), or a
   * smaller `numHiddenLayers`, which leaves out the last blocks.
   */
  config?: NepaOptions;
  /** Where random numbers start. Default 0. */
  seed?: number;
}

const FROM_RULES: Record<keyof ClassifierOptions, Rule> = {
  ...{ classes: is.any, config: is.any, seed: is.index, causal: is.flag, foldLayerScale: is.flag },
  pool: is.oneOf("mean", "last", "all"),
};

/** Refuses a configuration that has no place for the model's weights. */
function checkFit(model: Backbone, shapes: Shapes, blocks: number, folds: boolean): void {
  const official = backboneShapes(model.config);
  for (const [name, { shape }] of model.parameters) {
    const block = Number(/\.layer\.(\d+)\./.exec(name)?.[1] ?? 0);
    if (!official.has(name) || folds && name.endsWith(".lambda1") || block >= blocks) continue;
    const fits = shapes.get(name)?.join() === shape.join(), got = shapes.get(name) ?? "no such tensor";
    expect(fits, `config: ${name}`, `the model's shape [${shape}]`, got);
  }
}

/** What {@linkcode NepaClassifier.forward} gives, besides the backbone's tokens. */
export type ClassifierOutputs = ForwardOutputs & {
  /** [B, D], or [B, T·D] of all tokens joined: what the linear map reads. */
  pooled: tf.Tensor2D;
  /** [B, classes]. */
  logits: tf.Tensor2D;
};

/** The backbone's parameters and those of the head, in the engine's layout. */
function classifierShapes(config: NepaConfig, classes: number): Shapes {
  const { hiddenSize: D, imageSize, patchSize } = config, shapes = backboneShapes(config);
  if (config.addPoolingLayer && !config.positions) shapes.set("fc_norm.weight", [D]).set("fc_norm.bias", [D]);
  const read = config.joinTokens ? ((imageSize / patchSize) ** 2 + (config.positions ? 0 : 1)) * D : D;
  return shapes.set("classifier.weight", [read, classes]).set("classifier.bias", [classes]);
}

/** The layer scale [D] that what this parameter computes is multiplied by, if any. */
function scaleAfter({ parameters }: Backbone, name: string): tf.Variable | undefined {
  const [, branch] = /^(.*?)(?:\.attention)?\.output\.dense\.(?:weight|bias)$/.exec(name) ?? [];
  if (branch === undefined) return undefined;
  return parameters.get(`${branch}${name.includes(".attention.") ? "" : ".output"}.layer_scale.lambda1`);
}

/**
 * A network with a classification head.
 *
 * @example
 * ```ts
 * import { Nepa, NepaClassifier, tf, useEngine } from "nepa";
 * import { assertEquals } from "@std/assert";
 *
 * await useEngine("cpu");
 * const model = new Nepa({ preset: "mini", numHiddenLayers: 1 }, { seed: 0 });
 * const classifier = NepaClassifier.from(model, { classes: ["shoe", "bag"] });
 * const logits = tf.tidy(() => classifier.forward(tf.zeros([3, 28, 28, 1])).logits);
 * assertEquals(logits.shape, [3, 2]);
 * logits.dispose();
 * classifier.dispose();
 * model.dispose();
 * ```
 */
export class NepaClassifier extends Network {
  /** The network below the head. Its parameters are among {@linkcode NepaClassifier.parameters}. */
  readonly backbone: Backbone;
  /** Names of the classes, in the order of the logits. */
  override readonly classes: readonly string[];
  /** Variables by official tensor name, the backbone's and the head's, see `Network`. */
  readonly parameters: Map<string, tf.Variable>;
  protected readonly architecture: string = CLASSIFIERS[this.config.positions ? "ijepa" : "vit_nepa"];

  /**
   * Makes a classifier with random weights, the head's too.
   *
   * @param config A preset, a configuration, or both.
   * @param init The classes and the seed.
   * @throws {RangeError | TypeError} If the configuration or the classes cannot be.
   * @throws {Error} If no engine is chosen yet.
   */
  constructor(config: NepaOptions, init: ClassifierInit) {
    is.expectKinds("NepaClassifier", { config: [config, is.optional], init: [init, is.optional] });
    const names = namesOf("NepaClassifier", init.classes);
    const { classes: _, backbone: Class = config.positions ? IJepaEncoder : Nepa, ...rest } = init;
    const backbone = Class === Nepa || Class === IJepaEncoder
      ? new Class(config, rest)
      : construct<Backbone, NepaInit>(Class, nepaConfig(config), rest, "NepaClassifier.from");
    const below = backbone.parameters;
    super(backbone.config, { preprocessor: backbone.preprocessor, seed: rest.seed ?? 0 });
    this.backbone = backbone;
    this.classes = names;
    const head = [...classifierShapes(this.config, names.length)].filter(([name]) => !below.has(name));
    const initial = rest.initial ?? randomInitial(this.config, this.seed);
    this.parameters = new Map([...below, ...makeParameters(new Map(head), initial)]);
  }

  protected override remade(init: NepaInit): object {
    const { classes, backbone } = this;
    return { ...super.remade(init), classes, backbone: backbone.constructor };
  }

  /**
   * Puts a head on a pretrained model, whose weights are copied. The head starts at zero, as the official conversion has it.
   *
   * @param model Stays as it is; of an `IJepa`, its target encoder is read.
   * @param options The classes, and what to change.
   * @returns The classifier.
   * @throws {RangeError} If a changed configuration needs weights of another shape, or has no place for the model's.
   */
  static from(given: Backbone | { readonly encoder: Backbone }, options: ClassifierOptions): NepaClassifier {
    const model = Object(given).encoder ?? given as Backbone;
    const headless = (value: unknown) => value instanceof Nepa || value instanceof IJepaEncoder;
    const kind: is.Kind = ["a Nepa or an IJepa to put a head on", headless, is.network[2]];
    is.expectKinds("NepaClassifier.from", { model: [model, kind], options: [options, is.optional] });
    checkOptions("NepaClassifier.from", options, FROM_RULES);
    const { classes, pool = "mean", causal = false, foldLayerScale = false, config: changes = {}, seed = 0 } =
      options;
    const pooling = { addPoolingLayer: pool === "mean", joinTokens: pool === "all" };
    const all = { ...model.config, isCausal: causal, ...pooling, ...changes };
    const config = nepaConfig(foldLayerScale ? { ...all, layerscaleValue: null } : all);
    const fresh = randomInitial(config, seed), official = backboneShapes(model.config);
    checkFit(model, backboneShapes(config), config.numHiddenLayers, foldLayerScale);
    const made = new this(config, {
      classes,
      seed,
      backbone: model.constructor as BackboneClass,
      preprocessor: model.preprocessor,
      initial: (name, shape) => {
        const weight = model.parameters.get(name), scale = foldLayerScale && scaleAfter(model, name);
        if (weight) return scale ? tf.mul(weight, scale) : weight; // [in, out] or [out], times [out]
        return name.startsWith("classifier.") ? tf.zeros(shape) : fresh(name, shape);
      },
    });
    const own = [...model.parameters].filter(([name]) => !official.has(name)); // a subclass's
    const lost = own.find(([name, { shape }]) => made.parameters.get(name)?.shape.join() !== shape.join());
    if (lost || Object.getPrototypeOf(made.backbone) !== Object.getPrototypeOf(model)) {
      made.dispose();
      const got = lost ? `none for ${lost[0]}` : made.backbone.constructor.name;
      throw new TypeError(
        `NepaClassifier.from: expected the constructor (config, init) of ${model.constructor.name} to make the same ` +
          `parameters, got ${got}; give it those two arguments, or override from`,
      );
    }
    assignCopies(made.parameters, own);
    return made;
  }

  /**
   * Classifies.
   *
   * @param images Normalised floats [B, H, W, C].
   * @param options As for `Nepa.forward`.
   * @returns Tensors that the caller disposes of.
   * @throws {RangeError} If the images have another shape.
   */
  forward(images: tf.Tensor4D, options: ForwardOptions = {}): ClassifierOutputs {
    const of = (name: string) => this.parameters.get(name);
    const { addPoolingLayer, joinTokens, layerNormEps } = this.config;
    return tf.tidy(() => {
      const outputs = this.backbone.forward(images, options), tokens = outputs.predictions;
      const way = addPoolingLayer ? "mean" : joinTokens ? "all" : "last";
      const read = poolTokens(tokens, way, this.backbone.prefix), norm = of("fc_norm.weight");
      const pooled = norm ? layerNorm(read, layerNormEps, norm, of("fc_norm.bias")) : read;
      const weight = of("classifier.weight") as tf.Tensor as tf.Tensor2D;
      return { ...outputs, pooled, logits: linear(pooled, weight, of("classifier.bias")) };
    });
  }

  /** The random numbers of one training forward, see `Nepa.draws`. */
  draws(batchSize: number, random: Random, size?: DrawSize): Draws {
    return this.backbone.draws(batchSize, random, size);
  }

  /**
   * Reads a classifier in the official layout, from a folder or from the Hugging Face hub, see `Nepa.load`.
   *
   * @param source The folder, or a name on the hub.
   * @param options Which revision on the hub; whether the averaged weights.
   * @returns The classifier.
   * @throws {CheckpointError} If a file or a tensor is missing, unknown or of another shape; it lists them all.
   * @throws {HubError} If it cannot be had from the hub.
   */
  static async load(source: string, options: LoadOptions = {}): Promise<NepaClassifier> {
    const { loadNetwork } = await import("./model_files.ts");
    const Class = this ?? NepaClassifier,
      layout = { models: CLASSIFIERS, labelled: true, shapes: classifierShapes };
    return await loadNetwork(Class, NepaClassifier, layout, source, options);
  }
}
