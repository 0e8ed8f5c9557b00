/** Segmenters in folders and on the hub. Loaded when one is first read or written. @module */
import { type LoadOptions, modelFolder } from "../files/hub.ts";
import { CheckpointError, classesOf, fromOfficial } from "../files/model_folder.ts";
import { readJson } from "../files/plain.ts";
import { isObject } from "../files/safetensors.ts";
import { readVariables } from "../files/variables.ts";
import { IJepaEncoder } from "./ijepa_encoder.ts";
import { loadNetwork } from "./model_files.ts";
import { Nepa } from "./nepa.ts";
import { backboneShapes } from "./network.ts";
import { HEADS, NepaSegmenter } from "./segmenter.ts";

/** I-JEPA's encoder alone. */
const ENCODER = { models: { ijepa: "IJepaModel" }, labelled: false, shapes: backboneShapes };

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
