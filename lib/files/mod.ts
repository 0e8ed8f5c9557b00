/**
 * Tensors and models on disk and on the Hugging Face hub: `nepa/files`.
 *
 * @module
 */
export { CheckpointError } from "./model_folder.ts";
export type { SaveOptions } from "./card.ts";
export { HubError } from "./hub_files.ts";
export type { LoadOptions } from "./hub.ts";
export { readSafetensors, SafetensorsError, writeSafetensors } from "./safetensors.ts";
export type { Dtype, HostArray, HostTensor, SafetensorsFile, TensorInfo } from "./safetensors.ts";
export { openSafetensors } from "./tensor_files.ts";
export type { OpenSafetensors } from "./tensor_files.ts";
