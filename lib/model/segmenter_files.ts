/** Segmenters in folders and on the hub. Loaded when one is first read or written. @module */
import { any, checkOptions } from "../base/check.ts";
import { toOfficialPreprocessor } from "../data/preprocessor.ts";
import type { SaveOptions } from "../files/card.ts";
import { type LoadOptions, modelFolder } from "../files/hub.ts";
import {
  CheckpointError,
  classesOf,
  fromOfficial,
  type Readable,
  writeModelFolder,
} from "../files/model_folder.ts";
import { readJson } from "../files/plain.ts";
import { isObject } from "../files/safetensors.ts";
import { readVariables } from "../files/variables.ts";
import { toOfficialConfig } from "./config.ts";
import { VisionEncoder } from "./encoder.ts";
import { IJepaEncoder } from "./ijepa_encoder.ts";
import { loadNetwork } from "./model_files.ts";
import { Nepa } from "./nepa.ts";
import { backboneShapes } from "./network.ts";
import { HEADS, NepaSegmenter } from "./segmenter.ts";

/** I-JEPA's encoder alone. */
const ENCODER = { models: { ijepa: "IJepaModel" }, labelled: false, shapes: backboneShapes };

/** Writes a segmenter, see `NepaSegmenter.save`. */
export async function saveSegmenter(
  { encoder, classes, config, files }: NepaSegmenter,
  folder: string,
  options: SaveOptions,
  values: ReadonlyMap<string, Readable>,
): Promise<void> {
  checkOptions("save", options, { run: any, license: any, datasets: any });
  const { head, causal } = config, official = encoder instanceof VisionEncoder, own = Object(encoder.config);
  const architectures = [encoder instanceof IJepaEncoder ? "IJepaModel" : "ViTNepaForPreTraining"];
  const part = (file: string) => new Map([...files[file]!.keys()].map((name) => [name, values.get(name)!]));
  await writeModelFolder(folder, {
    config: {
      ...official ? toOfficialConfig(encoder.config, { architectures }) : own,
      segmentation: config.head === "linear"
        ? { head, causal }
        : { ...config, auxiliary: config.auxiliary || false },
    },
    preprocessor: toOfficialPreprocessor(encoder.preprocessor),
    patch: { size: own.patchSize, channels: encoder.preprocessor.imageMean.length },
    parameters: part("model.safetensors"),
    beside: { file: HEADS, parameters: part(HEADS) },
    ...{ classes, options },
  });
}

/** Reads a segmenter, see `NepaSegmenter.load`. */
export async function loadSegmenter(source: string, options: LoadOptions): Promise<NepaSegmenter> {
  const folder = await modelFolder(source, options), file = `${folder}/config.json`;
  const json = await readJson(file) ?? {}, { segmentation } = json;
  if (!isObject(segmentation)) {
    const help = "NepaSegmenter.from puts heads on a network that Nepa.load or IJepa.load reads";
    throw new CheckpointError(`${file}: segmentation: expected how the heads are made, got none; ${help}`);
  }
  const encoder = json.model_type === "ijepa"
    ? await loadNetwork(IJepaEncoder, IJepaEncoder, ENCODER, folder, {})
    : await Nepa.load(folder);
  let made: NepaSegmenter | undefined;
  try {
    made = NepaSegmenter.from(encoder, { ...segmentation, classes: classesOf(file, json) });
    await readVariables([made.files[HEADS]!, `${folder}/${HEADS}`, fromOfficial]);
    return made;
  } catch (error) {
    made?.dispose();
    throw new CheckpointError(`${folder}: ${(error as Error).message}`, { cause: error });
  } finally {
    encoder.dispose();
  }
}
