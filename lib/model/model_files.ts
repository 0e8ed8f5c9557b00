/** Networks in folders and on the hub, in the official layout. Loaded when one is first read or written. @module */
import * as tf from "@tensorflow/tfjs";
import { currentEngine } from "@nepa/engine";
import { any, checkOptions, expect, flag } from "../base/check.ts";
import { whole } from "../base/gradient.ts";
import {
  defaultPreprocessor,
  fromOfficialPreprocessor,
  toOfficialPreprocessor,
} from "../data/preprocessor.ts";
import type { SaveOptions } from "../files/card.ts";
import { type LoadOptions, modelFolder } from "../files/hub.ts";
import { type Readable, readModelFolder, writeModelFolder } from "../files/model_folder.ts";
import { fromOfficialConfig, type NepaConfig } from "./config.ts";
import { construct, type Initial, type Model, type Network, type NetworkInit } from "./network.ts";
import type { Shapes } from "./network.ts";
import { sayIfWaiting } from "./unbegun.ts";

/** How a class of networks lies in a folder. */
interface Layout {
  /** The official classes' names, by their `model_type`. */
  readonly models: { readonly vit_nepa?: string; readonly ijepa?: string };
  /** Whether it is made with names of classes. */
  readonly labelled: boolean;
  readonly shapes: (config: NepaConfig, classes: number) => Shapes;
}

/** Refuses sizes that no tensor of the file has, before anything is made by them. */
function checkSizes(
  file: string,
  { numHiddenLayers, hiddenSize, intermediateSize, patchSize, numChannels }: NepaConfig,
  tensors: ReadonlyMap<string, { shape: readonly number[] }>,
): void {
  const longest = [...tensors.values()].reduce((most, { shape }) => Math.max(most, ...shape.slice(0, 8)), 1);
  const check = (name: string, got: number, most: number) =>
    expect(got <= most, `${file}: ${name}`, `at most ${most}, as the weights have it`, got);
  check("num_hidden_layers", numHiddenLayers, tensors.size);
  const sides = { hidden_size: hiddenSize, intermediate_size: intermediateSize, patch_size: patchSize };
  for (const [name, side] of Object.entries({ ...sides, num_channels: numChannels })) {
    check(name, side, longest);
  }
}

/**
 * Makes a network from its folder, or from one on the hub.
 *
 * @param Class What to make; if it is not `Official`, but extends it, parameters that its constructor adds are read too.
 */
export async function loadNetwork<T extends Network>(
  Class: new (config: NepaConfig, init: NetworkInit & { classes: readonly string[] }) => T,
  Official: unknown,
  { models, labelled, shapes }: Layout,
  source: string,
  options: LoadOptions,
): Promise<T> {
  currentEngine();
  checkOptions("load", options, { revision: any, ema: flag });
  const folder = await modelFolder(source, options);
  type Init = NetworkInit & { classes: readonly string[] };
  const make = (config: NepaConfig, init: NetworkInit, classes: readonly string[]) =>
    construct(Class, config, (labelled ? { ...init, classes } : init) as Init, "load");
  const types = Object.keys(models) as (keyof typeof models)[];
  const found = await readModelFolder(folder, Object.values(models), (json, classes, tensors) => {
    const type = types.find((type) => type === json.model_type) ?? types[0]!;
    const config = fromOfficialConfig(json, type);
    checkSizes(`${folder}/config.json`, config, tensors);
    const all = shapes(config, classes.length);
    if (Class !== Official) {
      const blank = make(config, { initial: (_, shape) => tf.zeros(shape) }, classes);
      for (const [name, { shape }] of blank.parameters) all.set(name, shape);
      blank.dispose();
    }
    return { config, shapes: all, channels: config.numChannels };
  }, options.ema);
  const { config, values, classes } = found,
    plain = defaultPreprocessor(config.imageSize, config.numChannels);
  const preprocessor = found.preprocessor
    ? fromOfficialPreprocessor(found.preprocessor, plain, `${folder}/preprocessor_config.json`)
    : plain;
  const initial: Initial = (name, shape) => tf.tensor(values.get(name)!, shape);
  const made = make(config, { preprocessor, initial }, classes), official = shapes(config, classes.length);
  for (const [name, variable] of made.parameters) {
    if (!official.has(name)) tf.tidy(() => variable.assign(initial(name, variable.shape)));
  }
  return made;
}

/** Writes a model's folder, see `Model.save`. */
export async function saveModel(
  model: Model,
  folder: string,
  options: SaveOptions,
  values: ReadonlyMap<string, Readable>,
): Promise<void> {
  checkOptions("save", options, { run: any, license: any, datasets: any });
  sayIfWaiting(model);
  const { officialConfig: config, preprocessor, classes, files } = model;
  const valueOf = new Map([...whole(model)].map(([name, variable]) => [variable, values.get(name)!]));
  const written = Object.entries(files).map(([file, some]) =>
    [file, new Map([...some].map(([name, variable]) => [name, valueOf.get(variable)!]))] as const
  );
  await writeModelFolder(folder, {
    ...{ config, classes, options, files: Object.fromEntries(written) },
    preprocessor: toOfficialPreprocessor(preprocessor),
    channels: preprocessor.imageMean.length,
  });
}
