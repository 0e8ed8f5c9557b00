/** Networks in folders and on the hub, in the official layout. Loaded when one is first read or written. @module */
import * as tf from "@tensorflow/tfjs";
import { currentEngine } from "@nepa/engine";
import { any, checkOptions, flag } from "../base/check.ts";
import {
  defaultPreprocessor,
  fromOfficialPreprocessor,
  toOfficialPreprocessor,
} from "../data/preprocessor.ts";
import type { SaveOptions } from "../files/card.ts";
import { type LoadOptions, modelFolder } from "../files/hub.ts";
import { type Readable, readModelFolder, writeModelFolder } from "../files/model_folder.ts";
import { fromOfficialConfig, type NepaConfig, toOfficialConfig } from "./config.ts";
import { construct, type Initial, type Network, type NetworkInit, type Shapes } from "./network.ts";

/** How a class of networks lies in a folder. */
interface Layout {
  readonly architecture: string;
  readonly shapes: (config: NepaConfig, classes: number) => Shapes;
}

/**
 * Makes a network from its folder, or from one on the hub.
 *
 * @param Class What to make; if it is not `Official`, but extends it, parameters that its constructor adds are read too.
 */
export async function loadNetwork<T extends Network>(
  Class: new (config: NepaConfig, init: NetworkInit & { classes: readonly string[] }) => T,
  Official: unknown,
  { architecture, shapes }: Layout,
  source: string,
  options: LoadOptions,
): Promise<T> {
  currentEngine();
  checkOptions("load", options, { revision: any, ema: flag });
  const folder = await modelFolder(source, options);
  type Init = NetworkInit & { classes: readonly string[] };
  const make = (config: NepaConfig, init: NetworkInit, classes: readonly string[]) =>
    construct(Class, config, (classes.length > 0 ? { ...init, classes } : init) as Init, "load");
  const found = await readModelFolder(folder, architecture, (json, classes) => {
    const config = fromOfficialConfig(json), { patchSize: size, numChannels: channels } = config;
    const all = shapes(config, classes.length), patch = { size, channels };
    if (Class === Official) return { config, shapes: all, patch };
    const blank = make(config, { initial: (_, shape) => tf.zeros(shape) }, classes);
    for (const [name, { shape }] of blank.parameters) all.set(name, shape);
    blank.dispose();
    return { config, shapes: all, patch };
  }, options.ema);
  const { config, values, classes } = found,
    plain = defaultPreprocessor(config.imageSize, config.numChannels);
  const preprocessor = found.preprocessor ? fromOfficialPreprocessor(found.preprocessor, plain) : plain;
  const initial: Initial = (name, shape) => tf.tensor(values.get(name)!, shape);
  const made = make(config, { preprocessor, initial }, classes), official = shapes(config, classes.length);
  for (const [name, variable] of made.parameters) {
    if (!official.has(name)) tf.tidy(() => variable.assign(initial(name, variable.shape)));
  }
  return made;
}

/** Writes a network's folder, see `Network.save`. */
export async function saveNetwork(
  { config, preprocessor, classes }: Network,
  architecture: string,
  folder: string,
  options: SaveOptions,
  parameters: ReadonlyMap<string, Readable>,
): Promise<void> {
  checkOptions("save", options, { run: any, license: any, datasets: any });
  await writeModelFolder(folder, {
    config: toOfficialConfig(config, { architectures: [architecture] }),
    preprocessor: toOfficialPreprocessor(preprocessor),
    patch: { size: config.patchSize, channels: config.numChannels },
    ...{ parameters, classes, options },
  });
}
