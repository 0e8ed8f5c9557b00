/** What an engine is, to those who use one. @module */
import type * as tf from "@tensorflow/tfjs";

/** The engines there are, by the name that {@linkcode useEngine} takes. */
export type EngineName = "tensorflow" | "webgpu" | "wasm" | "cpu";

/** Options of {@linkcode Engine.compile}. */
export interface CompileOptions {
  /** Shown in error messages. Default: the function's own name. */
  name?: string;
  /** Let XLA compile the recorded function (default), or run it as a TensorFlow graph. */
  xla?: boolean;
  /** Recordings kept, one for each combination of argument shapes and dtypes; the oldest goes. Default 8. */
  cacheSize?: number;
}

/** A function of tensors that an engine runs as a whole. */
export interface Compiled<A extends tf.Tensor[], R extends tf.TensorContainer> {
  /** Runs it. The caller owns the arguments and the result. */
  (...args: A): Promise<R>;
  /** Lets go of every recording. A call after that throws. */
  dispose(): void;
  /** Recordings held. */
  readonly size: number;
}

/** What {@linkcode Engine.describe} measures and tells. */
export interface EngineDescription {
  name: EngineName;
  version: string;
  device: string;
  threads: number;
  /** Square float32 matrix product, 10^9 floating-point operations a second, measured now. */
  gflops: number;
  /** All of it in a few lines. */
  text: string;
}

/** The chosen engine. */
export interface Engine {
  readonly name: EngineName;
  readonly version: string;
  readonly device: string;
  /** Whether {@linkcode Engine.compile} compiles; if not, it runs the function as it is. */
  readonly compiles: boolean;
  /** What was taken and why, what was skipped and how to get it. */
  readonly notes: readonly string[];
  compile<A extends tf.Tensor[], R extends tf.TensorContainer>(
    fn: (...args: A) => R,
    options?: CompileOptions,
  ): Compiled<A, R>;
  describe(): Promise<EngineDescription>;
  /** Name, version, device in one line, such as "tensorflow 2.21 (cpu, compiled)". */
  toString(): string;
}
