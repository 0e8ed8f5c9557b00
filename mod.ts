/**
 * Next-embedding predictive autoregression for images: the model, its training, and the tools to see what it learned.
 *
 * @module
 */
export * as tf from "@tensorflow/tfjs";
export { Random } from "./lib/random.ts";
export { currentEngine, useEngine } from "./lib/engine/mod.ts";
export type { Compiled, CompileOptions, Engine, EngineDescription, EngineName } from "./lib/engine/mod.ts";
