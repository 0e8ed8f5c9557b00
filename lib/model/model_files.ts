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
import type { Initial, Network, NetworkInit, Shapes } from "./network.ts";

/** A network's folder, or one on the hub, read: its configuration, the rest of what makes it, and its classes. */
export async function loadNetwork(
  source: string,
  architecture: string,
  shapes: (config: NepaConfig, classes: number) => Shapes,
  options: LoadOptions,
): Promise<{ config: NepaConfig; init: NetworkInit; classes: readonly string[] }> {
  currentEngine();
  checkOptions("load", options, { revision: any, ema: flag });
  const folder = await modelFolder(source, options);
  const found = await readModelFolder(folder, architecture, (json, classes) => {
    const config = fromOfficialConfig(json), { patchSize: size, numChannels: channels } = config;
    return { config, shapes: shapes(config, classes.length), patch: { size, channels } };
  }, options.ema);
  const { config, values, classes } = found,
    plain = defaultPreprocessor(config.imageSize, config.numChannels);
  const preprocessor = found.preprocessor ? fromOfficialPreprocessor(found.preprocessor, plain) : plain;
  const initial: Initial = (name, shape) => tf.tensor(values.get(name)!, shape);
  return { config, init: { preprocessor, initial }, classes };
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
