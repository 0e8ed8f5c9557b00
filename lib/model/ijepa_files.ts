/** I-JEPA in folders, on the hub, and in the public code's files. Loaded when one is first read or written. @module */
import * as tf from "@tensorflow/tfjs";
import { currentEngine } from "@nepa/engine";
import * as is from "../base/check.ts";
import { checkOptions } from "../base/check.ts";
import { defaultPreprocessor, type Preprocessor } from "../data/preprocessor.ts";
import { notice } from "../display/jupyter.ts";
import { type LoadOptions, modelFolder } from "../files/hub.ts";
import { CheckpointError, fromOfficial } from "../files/model_folder.ts";
import { openTorchFile, TorchFileError } from "../files/torch_file.ts";
import { readVariables } from "../files/variables.ts";
import { encoderFields, given } from "./config.ts";
import { BESIDE, IJepa } from "./ijepa.ts";
import { IJepaEncoder } from "./ijepa_encoder.ts";
import { fromOfficialFields, ijepaConfig } from "./ijepa_config.ts";
import type { IJepaConfig, IJepaOptions, IJepaPreset } from "./ijepa_config.ts";
import { loadNetwork } from "./model_files.ts";
import { assignCopies, backboneShapes } from "./network.ts";

/** Options of `IJepa.load`. */
export interface IJepaLoadOptions extends LoadOptions {
  /** Of a `.pth`: what it does not hold. */
  preset?: IJepaPreset;
  /** The same, field by field. */
  config?: IJepaOptions;
  /** Where what is drawn anew starts. Default 0. */
  seed?: number;
}

const LOADING = { revision: is.any, ema: is.flag, preset: is.text, config: is.any, seed: is.index };

/** ImageNet's, which the published models were trained with. */
const IMAGENET = { imageMean: [0.485, 0.456, 0.406], imageStd: [0.229, 0.224, 0.225] };

/** Reads a model, see `IJepa.load`. */
export async function loadIJepa(source: string, options: IJepaLoadOptions): Promise<IJepa> {
  currentEngine();
  checkOptions("load", options, LOADING);
  const { preset, config: own = {}, seed = 0, ...where } = options,
    named = preset ? { preset, ...own } : own;
  if (/\.(pth|pt)(\.tar)?$/.test(source)) return await loadPublic(source, named, seed);
  const folder = await modelFolder(source, where),
    layout = { models: { ijepa: "IJepaModel" }, labelled: false, shapes: backboneShapes };
  const encoder = await loadNetwork(IJepaEncoder, IJepaEncoder, layout, folder, {});
  const json = JSON.parse(await Deno.readTextFile(`${folder}/config.json`)) as Record<string, unknown>;
  const beside = await Deno.stat(`${folder}/${BESIDE}`).then(() => true, () => false);
  let model: IJepa | undefined;
  try {
    const fields = { ...given(encoderFields, encoder.config), ...fromOfficialFields(json) };
    model = new IJepa({ ...fields, ...own }, { seed, preprocessor: encoder.preprocessor });
    assignCopies(model.encoder.parameters, encoder.parameters);
    if (beside) await readVariables([model.parameters, `${folder}/${BESIDE}`, fromOfficial]);
    else assignCopies(model.context.parameters, encoder.parameters);
  } catch (error) {
    model?.dispose();
    throw error;
  } finally {
    encoder.dispose();
  }
  if (!beside) {
    const anew = "the context encoder is a copy of the target encoder, the predictor drawn anew";
    notice(`${source}: there is no ${BESIDE}: ${anew}`);
    sayNormalisation(source, model.preprocessor);
  }
  return model;
}

function sayNormalisation(source: string, { imageMean, imageStd }: Preprocessor): void {
  if (imageMean.length !== 3 || ![...imageMean, ...imageStd].every((x) => x === 0.5)) return;
  const [mean, std] = [IMAGENET.imageMean, IMAGENET.imageStd].map((x) => x.join(", "));
  notice(
    `${source}: images are normalised by mean and standard deviation 0.5, but the published I-JEPA was trained with ` +
      `ImageNet's: for its features write "image_mean": [${mean}] and "image_std": [${std}] there`,
  );
}

/** Names of the public code, and ours. */
const NAMES: readonly (readonly [RegExp, string])[] = [
  [/^(target_encoder|target)\./, "ijepa."],
  [/^encoder\./, "context."],
  [/^(context|ijepa|predictor)\.module\./, "$1."],
  [/\.patch_embed\.proj\./, ".embeddings.patch_embeddings.projection."],
  [/\.pos_embed$/, ".embeddings.position_embeddings"],
  [/\.predictor_embed\./, ".embeddings."],
  [/\.predictor_proj\./, ".projection."],
  [/\.(predictor_)?norm\./, ".layernorm."],
  [/\.(predictor_)?blocks\./, ".encoder.layer."],
  [/\.norm1\./, ".layernorm_before."],
  [/\.norm2\./, ".layernorm_after."],
  [/\.attn\.proj\./, ".attention.output.dense."],
  [/\.mlp\.fc1\./, ".intermediate.dense."],
  [/\.mlp\.fc2\./, ".output.dense."],
];

type Values = { shape: readonly number[]; data: ArrayLike<number> };

/**
 * Tensors of the public code under our names, query, key and value apart, in PyTorch's layout.
 *
 * @param tensors Its own, by name: "encoder.…", "predictor.…", "target_encoder.…".
 */
export function fromPublic(tensors: Iterable<readonly [string, Values]>): Map<string, Values> {
  const found = new Map<string, Values>();
  for (const [given, { shape, data }] of tensors) {
    const name = NAMES.reduce((name, [pattern, ours]) => name.replace(pattern, ours), given);
    if (name.endsWith("predictor_pos_embed")) continue; // the table, which is computed
    if (!name.includes(".attn.qkv.")) {
      found.set(name, { shape, data });
      continue;
    }
    ["query", "key", "value"].forEach((part, i) => {
      const size = data.length / 3, some = Array.prototype.slice.call(data, i * size, (i + 1) * size);
      found.set(name.replace("attn.qkv", `attention.attention.${part}`), {
        shape: [shape[0]! / 3, ...shape.slice(1)],
        data: some,
      });
    });
  }
  return found;
}

/** What the tensors tell of a configuration. */
function sizesOf(tensors: ReadonlyMap<string, Values>): Partial<IJepaConfig> {
  const shape = (name: string) => tensors.get(name)?.shape ?? [];
  const layers = (prefix: string) => {
    const blocks = [...tensors.keys()].filter((name) => name.startsWith(`${prefix}.encoder.layer.`));
    return Math.max(...blocks.map((name) => Number(name.split(".")[3]))) + 1;
  };
  const [D, C, p] = shape("ijepa.embeddings.patch_embeddings.projection.weight");
  return {
    ...{ hiddenSize: D!, numChannels: C!, patchSize: p!, numHiddenLayers: layers("ijepa") },
    imageSize: Math.sqrt(shape("ijepa.embeddings.position_embeddings")[1]!) * p!,
    intermediateSize: shape("ijepa.encoder.layer.0.intermediate.dense.bias")[0]!,
    predictorHiddenSize: shape("predictor.embeddings.bias")[0]!,
    predictorNumHiddenLayers: layers("predictor"),
    predictorIntermediateSize: shape("predictor.encoder.layer.0.intermediate.dense.bias")[0]!,
    qkvBias: tensors.has("ijepa.encoder.layer.0.attention.attention.query.bias"),
  };
}

/** Reads the public code's file. */
async function loadPublic(path: string, given: IJepaOptions, seed: number): Promise<IJepa> {
  await using file = await openTorchFile(path, true).catch((error) => {
    throw error instanceof TorchFileError ? new CheckpointError(error.message, { cause: error }) : error;
  });
  const read: [string, Values][] = [];
  for (const name of file.infos.keys()) {
    if (/^(encoder|predictor|target_encoder)\./.test(name)) {
      read.push([name, await file.read(name) as Values]);
    }
  }
  return buildIJepa(path, fromPublic(read), given, seed);
}

/**
 * A model of tensors from {@linkcode fromPublic}, which have to be all that the configuration asks for.
 *
 * @param path For messages.
 * @param tensors By our names, in PyTorch's layout.
 * @param given What they do not tell: heads, masks, momentum.
 * @throws {CheckpointError} If a tensor is missing, unknown or of another size.
 */
export function buildIJepa(
  path: string,
  tensors: ReadonlyMap<string, Values>,
  given: IJepaOptions,
  seed: number = 0,
): IJepa {
  const names = [...tensors.keys()],
    parts = { context: "encoder", predictor: "predictor", ijepa: "target_encoder" };
  const lacks = Object.entries(parts).filter(([ours]) => !names.some((name) => name.startsWith(`${ours}.`)));
  if (lacks.length > 0) {
    const text = `no ${lacks.map(([, theirs]) => theirs).join(", no ")}`;
    throw new CheckpointError(`${path}: expected encoder, predictor and target_encoder, got ${text}`);
  }
  const found = sizesOf(tensors);
  if (given.numAttentionHeads === undefined && given.preset === undefined) {
    const sizes = Object.entries(found).map(([name, x]) => `${name} ${x}`).join(", ");
    const help = "which such a file does not hold, in { config } or by { preset }";
    throw new CheckpointError(`${path}: expected numAttentionHeads, ${help}; it has ${sizes}`);
  }
  const wanted: Partial<IJepaConfig> = given.preset ? ijepaConfig(given) : given;
  const other = Object.entries(found).filter(([name, x]) => (wanted[name as keyof IJepaConfig] ?? x) !== x);
  if (other.length > 0) {
    const text = other.map(([name, x]) => `${name}: expected ${x}, got ${wanted[name as keyof IJepaConfig]}`);
    throw new CheckpointError(`${path}: expected the sizes that the file has; ${text.join("; ")}`);
  }
  const config = ijepaConfig({ ...given, ...found }), { imageSize, numChannels } = config;
  const plain = defaultPreprocessor(imageSize, numChannels);
  const preprocessor = numChannels === 3 ? { ...plain, ...IMAGENET } : plain;
  const model = new IJepa(config, { seed, preprocessor });
  const all = new Map([...model.parameters, ...model.state]);
  const wrong = [...all].flatMap(([name, { shape, size }]) => {
    const got = tensors.get(name), words = got ? `[${got.shape}]` : "none";
    return got?.data.length === size ? [] : [`${name}: expected [${shape}], got ${words}`];
  });
  wrong.push(...names.filter((name) => !all.has(name)).map((name) => `${name}: unknown`));
  if (wrong.length > 0) {
    model.dispose();
    throw new CheckpointError(
      [`${path}: expected the tensors of this configuration;`, ...wrong].join("\n  "),
    );
  }
  const value = (name: string, shape: number[]) => tf.tensor(fromOfficial(name, tensors.get(name)!), shape);
  tf.tidy(() => assignCopies(all, [...all].map(([name, { shape }]) => [name, value(name, shape)])));
  return model;
}
