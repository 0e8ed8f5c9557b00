/** What networks have in common: their parameters, what these start as, copies of them. @module */
import * as tf from "@tensorflow/tfjs";
import { checkOptions, type Rule } from "../base/check.ts";
import * as is from "../base/check.ts";
import { labelled, whole } from "../base/gradient.ts";
import { type Draws, Random } from "../base/random.ts";
import { defaultPreprocessor, type Preprocessor } from "../data/preprocessor.ts";
import { currentEngine, inStreams, rowsOf } from "@nepa/engine";
import type { SaveOptions } from "../files/card.ts";
import type { Readable } from "../files/model_folder.ts";
import { layersAbove } from "../optim/schedule.ts";
import { type NepaConfig, toOfficialConfig } from "./config.ts";
import { partOfForward } from "./draws.ts";
import { patchGrid, positionTable } from "./patches.ts";

/** Shapes by official name, in the engine's layout. */
export type Shapes = Map<string, number[]>;

/** Gives a parameter its first value. */
export type Initial = (name: string, shape: number[]) => tf.Tensor;

/** What the names of a network's parameters begin with. */
export const prefixOf = ({ positions }: NepaConfig): string => positions ? "ijepa." : "vit_nepa.";

/**
 * The parameters of the backbone. Linear weights are [in, out]; the patch projection is [p·p·C, D], its rows in the
 * order row, column, channel of the patch.
 *
 * @param config The network.
 * @returns Shapes by official name.
 */
export function backboneShapes(config: NepaConfig): Shapes {
  const { hiddenSize: D, intermediateSize: I, patchSize: p, numChannels: C, imageSize } = config;
  const shapes: Shapes = new Map(), table = config.positions !== undefined;
  const prefix = prefixOf(config), up = table ? "dense" : "up_proj";
  const add = (name: string, weight: number[], bias: boolean) => {
    shapes.set(`${name}.weight`, weight);
    if (bias) shapes.set(`${name}.bias`, weight.slice(-1));
  };
  const linear = (name: string, inputs: number, outputs: number) => add(name, [inputs, outputs], true);
  const norm = (name: string, size: number, bias = true) => add(name, [size], bias);
  const scale = (name: string) => config.layerscaleValue !== null && shapes.set(`${name}.lambda1`, [D]);
  if (table) shapes.set(`${prefix}embeddings.position_embeddings`, [1, (imageSize / p) ** 2, D]);
  else shapes.set(`${prefix}embeddings.cls_token`, [1, 1, D]);
  linear(`${prefix}embeddings.patch_embeddings.projection`, p * p * C, D);
  for (let i = 0; i < config.numHiddenLayers; i++) {
    const block = `${prefix}encoder.layer.${i}`, attention = `${block}.attention.attention`;
    norm(`${block}.layernorm_before`, D);
    for (const part of ["query", "key", "value"]) add(`${attention}.${part}`, [D, D], config.qkvBias);
    if (config.qkNorm && config.qkNormAffine) {
      for (const part of ["q_norm", "k_norm"]) {
        norm(`${attention}.${part}`, D / config.numAttentionHeads, config.qkNormBias);
      }
    }
    linear(`${block}.attention.output.dense`, D, D);
    scale(`${block}.layer_scale`);
    norm(`${block}.layernorm_after`, D);
    if (config.useGatedMlp) linear(`${block}.intermediate.gate_proj`, D, I);
    linear(`${block}.intermediate.${up}`, D, I);
    linear(`${block}.output.dense`, I, D);
    scale(`${block}.output.layer_scale`);
  }
  norm(`${prefix}layernorm`, D);
  return shapes;
}

/**
 * The official first values: weights and CLS normal, biases 0, norms 1, layer scale as configured. Each parameter has
 * a random stream of its own, so that its values depend on the seed and its name alone.
 *
 * @param config The network: `initializerRange`, `layerscaleValue`.
 * @param seed Where the random numbers start.
 * @returns What gives a parameter its value.
 */
export function randomInitial(config: NepaConfig, seed: number): Initial {
  return (name, shape) => {
    if (name.endsWith(".position_embeddings")) {
      const side = config.imageSize / config.patchSize;
      return tf.tensor(positionTable(config.hiddenSize, side, side), shape);
    }
    if (name.endsWith(".lambda1")) return tf.fill(shape, config.layerscaleValue!);
    if (name.endsWith(".bias")) return tf.zeros(shape);
    if (shape.length === 1) return tf.ones(shape);
    const random = new Random(seed, name), values = new Float32Array(tf.util.sizeFromShape(shape));
    for (let i = 0; i < values.length; i++) {
      do values[i] = random.normal(0, config.initializerRange); while (Math.abs(values[i]!) > 2); // as trunc_normal_
    }
    return tf.tensor(values, shape);
  };
}

/** Makes a variable of every shape, with a copy of its first value; a table of positions is not trained. */
export function makeParameters(shapes: Shapes, initial: Initial): Map<string, tf.Variable> {
  const make = (name: string, shape: number[]) =>
    tf.tidy(() => tf.variable(copyOf(initial(name, shape)), !name.endsWith(".position_embeddings")));
  return labelled(new Map([...shapes].map(([name, shape]) => [name, make(name, shape)])));
}

/** Names and shapes. */
const shapesOf = (parameters: ReadonlyMap<string, tf.Variable>) =>
  [...parameters].map(([name, { shape }]) => [name, shape]);

/** Makes one of a class from its configuration; a constructor that cannot is told of, with what to override. */
export function construct<T, I extends object>(
  Class: new (config: NepaConfig, init: I) => T,
  config: NepaConfig,
  init: I,
  what: string,
): T {
  try {
    return new Class(config, init);
  } catch (cause) {
    const { message } = cause as Error;
    throw new TypeError(
      `${Class.name}: expected a constructor (config, init), got "${message}"; override ${what}`,
      { cause },
    );
  }
}

/** Names of classes: as given, or "LABEL_0" and so on of as many as are wanted. */
export function namesOf(where: string, classes: number | readonly string[]): readonly string[] {
  const named = (value: unknown) => typeof value === "number" || Array.isArray(value);
  const kind: is.Kind = ["their names or how many there are", named, "such as { classes: train.classes }"];
  is.expectKinds(where, { classes: [classes, kind] });
  const names = typeof classes === "number"
    ? Array.from({ length: classes }, (_, id) => `LABEL_${id}`)
    : [...classes];
  const alike = names.length < 1 || new Set(names).size < names.length;
  is.expect(!alike, "classes", "one or more, no two alike", JSON.stringify(classes));
  return names;
}

/** Gives variables copies of others' values, by name. */
export function assignCopies(
  variables: ReadonlyMap<string, tf.Variable>,
  values: Iterable<readonly [string, tf.Tensor]>,
): void {
  tf.tidy(() => {
    for (const [name, x] of values) variables.get(name)!.assign(copyOf(x));
  });
}

/** A copy that shares no memory with what it is taken from, not even until one of them changes. */
export function copyOf(tensor: tf.Tensor): tf.Tensor {
  return tf.add(tensor, 0);
}

/** What a network is made from when it is read from a folder or copied. */
export interface NetworkInit {
  /** Where the random first values start. Default 0. */
  seed?: number;
  /** First values from elsewhere: a tensor for each official name and engine-layout shape, which is copied. */
  initial?: Initial;
  /** What was done to the images. Default: mean and standard deviation 0.5. */
  preprocessor?: Preprocessor;
}

const INIT_RULES: Record<keyof NetworkInit, Rule> = {
  ...{ seed: is.index, initial: is.callable, preprocessor: is.any },
};

/** {@linkcode NetworkInit} checked and filled in, once an engine is chosen. */
export function startingPoint(
  where: string,
  config: NepaConfig,
  options: NetworkInit,
): Required<NetworkInit> {
  currentEngine();
  checkOptions(where, options, INIT_RULES);
  const { seed = 0, initial = randomInitial(config, seed) } = options;
  const { preprocessor = defaultPreprocessor(config.imageSize, config.numChannels) } = options;
  return { seed, initial, preprocessor };
}

/** What is cut with a batch of images. */
export interface BatchInputs {
  images: tf.Tensor4D;
  order?: tf.Tensor2D | undefined;
  mask?: tf.Tensor | undefined;
  draws?: Draws | undefined;
}

/** Computes a forward pass in as many parts as the engine computes side by side, and joins what they give. */
export function inParts<T extends object>(
  batch: number,
  inputs: BatchInputs,
  part: (some: BatchInputs) => T,
): T {
  const { images, order, mask, draws } = inputs;
  return inStreams(batch, (from, count) => {
    if (count === batch) return part(inputs);
    const rows = <X extends tf.Tensor>(x: X | undefined) => x && rowsOf(x, from, count);
    return part({
      images: rowsOf(images, from, count),
      order: rows(order),
      mask: mask?.rank === 4 ? rows(mask) : mask,
      draws: draws && partOfForward(draws, from, count),
    });
  });
}

/** What owns variables until {@linkcode Model.dispose}, and can be written into a folder. */
export abstract class Model {
  /** All that gradients move, by name. */
  abstract readonly parameters: ReadonlyMap<string, tf.Variable>;
  /** What no gradient moves, by name. */
  readonly state?: ReadonlyMap<string, tf.Variable>;
  /** What is done to images before `forward`. */
  abstract readonly preprocessor: Preprocessor;
  /** The classes of one that has any. */
  readonly classes?: readonly string[];
  /** What `config.json` says of it, but for the classes. */
  abstract get officialConfig(): Record<string, unknown>;

  /** What {@linkcode Model.save} writes where, under the names that it has there. */
  get files(): Record<string, ReadonlyMap<string, tf.Variable>> {
    return { "model.safetensors": this.parameters };
  }

  /**
   * Writes the model into a folder, as the official PyTorch code reads it, in float32, with a model card for the Hugging
   * Face hub. A README.md that is not of an earlier save stays as it is.
   *
   * @param folder Made if it is not there; files in it are replaced whole or not at all.
   * @param options For the card: the run, the licence, the data sets.
   * @param values To write instead of the present ones: all of `parameters` and `state`, by the same names, of the same shapes.
   * @throws {RangeError} If the licence or a data set is no name on the hub.
   */
  async save(
    folder: string,
    options: SaveOptions = {},
    values: ReadonlyMap<string, Readable> = whole(this),
  ): Promise<void> {
    const { saveModel } = await import("./model_files.ts");
    await saveModel(this, folder, options, values);
  }

  /** How many numbers the parameters hold together. */
  get parameterCount(): number {
    return [...this.parameters.values()].reduce((sum, { size }) => sum + size, 0);
  }

  /** Lets go of the variables. */
  dispose(): void {
    tf.dispose([...whole(this).values()]);
  }
}

/** A configuration, a preprocessing, and parameters that it owns. */
export abstract class Network extends Model {
  /** Variables by official tensor name, in the engine's layout: linear weights [in, out], the patch projection [p·p·C, D]. */
  abstract override readonly parameters: Map<string, tf.Variable>;
  readonly preprocessor: Preprocessor;
  protected readonly seed: number;

  /**
   * For what extends it.
   *
   * @param config Every field of the configuration, checked.
   * @param start What is done to images before `forward`; where random numbers start.
   */
  constructor(readonly config: NepaConfig, start: Pick<Required<NetworkInit>, "preprocessor" | "seed">) {
    super();
    ({ preprocessor: this.preprocessor, seed: this.seed } = start);
  }

  /** The official class's name. */
  protected abstract readonly architecture: string;

  get officialConfig(): Record<string, unknown> {
    return toOfficialConfig(this.config, { architectures: [this.architecture] });
  }

  /** What the constructor is given besides the configuration to make another of the same class. */
  protected remade(init: NetworkInit): object {
    return { preprocessor: this.preprocessor, seed: this.seed, ...init };
  }

  #another(what: string, config: NepaConfig, init: NetworkInit): this {
    const Class = this.constructor as new (config: NepaConfig, init: object) => this;
    const made = construct(Class, config, this.remade(init), what), alike = config === this.config;
    const fields = (network: this) =>
      Object.entries(network).filter(([name, x]) =>
        name !== "seed" && /number|string|boolean/.test(typeof x)
      );
    const [own, other] = [this, made].map((one) =>
      JSON.stringify([fields(one), alike && shapesOf(one.parameters).map(String).sort()])
    );
    const same = own === other && JSON.stringify(made.config) === JSON.stringify(config);
    if (same && Object.getPrototypeOf(made) === Object.getPrototypeOf(this)) return made;
    made.dispose();
    throw new TypeError(
      `${Class.name}: expected its constructor (config, init) to make the same parameters and fields; override ${what}`,
    );
  }

  /** Another of the same class with the same weights, which it does not share. */
  clone(): this {
    const made = this.#another("clone", this.config, {});
    assignCopies(made.parameters, this.parameters);
    return made;
  }

  /** One of the same class with fresh weights and without layer scale: what no training made. */
  untrained(seed: number): this {
    return this.#another("untrained", { ...this.config, layerscaleValue: null }, { seed });
  }

  /** How deep a parameter lies: 0 for the embedding, n for block n, L + 1 for what comes after. */
  depthOf(name: string): number {
    return this.config.numHiddenLayers - layersAbove(name, this.config.numHiddenLayers) +
      (isLast(name) ? 1 : 0);
  }

  /** Patches down and across of images [B, H, W, C]; H and W are multiples of the patch. */
  grid(images: { readonly shape: readonly number[] }): [rows: number, columns: number] {
    return patchGrid(images, this.config);
  }
}

/** Whether a parameter comes after the blocks. */
function isLast(name: string): boolean {
  return !/\.encoder\.layer\.|^\w+\.embeddings\./.test(name);
}
