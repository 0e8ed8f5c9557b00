/**
 * TensorFlow for Deno, with compiled functions; WebGPU, WebAssembly and plain JavaScript where it cannot be had.
 *
 * @module
 */
export * as tf from "@tensorflow/tfjs";
export { currentEngine, jpegDecoder, precisionRefusal, useEngine } from "./choose.ts";
export { isRecording, refuseWhileRecording, watch } from "./frozen.ts";
export type { Watched } from "./frozen.ts";
export { configureEngine } from "./host.ts";
export type { Host, HostProgress } from "./host.ts";
export type * from "./types.ts";
export { uncompiled } from "./uncompiled.ts";
export { bilinear } from "./resize.ts";
export { inStreams, rowsOf } from "./streams.ts";
export { onInterrupt, onTerminate, RunInterrupted, stoppable } from "./interrupt.ts";
export { cacheRoot, findTensorFlow, installTensorFlow } from "./install.ts";
export type { FindOptions, FoundTensorFlow } from "./install.ts";
export { DownloadError, granted } from "./download.ts";
export { rename } from "./windows.ts";
export type { Environment, Wheel } from "./download.ts";
