/** What an engine is, to those who use one. @module */
import type * as tf from "@tensorflow/tfjs";

/** The engines there are, by the name that {@linkcode useEngine} takes. */
export type EngineName = "tensorflow" | "webgpu" | "wasm" | "cpu";

/** What matrix products are computed in. */
export type Precision = "float32" | "bfloat16";

/** Options of {@linkcode Engine.compile}. */
export interface CompileOptions {
  /** Shown in error messages. Default: the function's own name. */
  name?: string;
  /**
   * Let XLA compile the recorded function (default; on a CPU all but its matrix products, for which TensorFlow's own
   * kernels are faster), or run it as a TensorFlow graph.
   */
  xla?: boolean;
  /** Of the matrix products; their operands are rounded to it, all else stays float32. Default "float32". */
  precision?: Precision;
  /** Recordings kept, one for each combination of the arguments' names, shapes and dtypes; the oldest goes. Default 8. */
  cacheSize?: number;
  /** False: run the function as it is, as engines do that do not compile. Default: true. */
  compile?: boolean;
}

/** A function of tensors that an engine runs as a whole. */
export interface Compiled<A extends object[], R extends tf.TensorContainer> {
  /** Runs it. The caller owns the arguments and the result. */
  (...args: A): Promise<R>;
  /** Lets go of every recording. A call after that throws. */
  dispose(): void;
  /** Recordings held. */
  readonly size: number;
  /** Seconds that recording and compiling took so far: of each first call for new shapes, its own run included. */
  readonly compileSeconds: number;
}

/** A part of an image, in pixels. */
export interface Box {
  /** Rows above it. */
  top: number;
  /** Columns left of it. */
  left: number;
  /** Its rows. */
  height: number;
  /** Its columns. */
  width: number;
}

/** What {@linkcode Engine.describe} measures and tells. */
export interface EngineDescription {
  /** Which engine. */
  name: EngineName;
  /** Of the library behind it: "2.21.0". */
  version: string;
  /** "cpu", "gpu", or the graphics adapter's name. */
  device: string;
  /** That work on one product. */
  threads: number;
  /** Square float32 matrix product, 10^9 floating-point operations a second, measured now. */
  gflops: number;
  /** All of it in a few lines. */
  text: string;
}

/** The chosen engine; see {@linkcode useEngine}. In a notebook or a terminal it shows its title and its notes. */
export interface Engine {
  /** Which engine. */
  readonly name: EngineName;
  /** Of the library behind it: TensorFlow's "2.21.0", or tfjs' "4.22.0". */
  readonly version: string;
  /** "cpu", "gpu", or the graphics adapter's name. */
  readonly device: string;
  /** Whether {@linkcode Engine.compile} compiles; if not, it runs the function as it is. */
  readonly compiles: boolean;
  /** What was taken and why, what was skipped and how to get it. */
  readonly notes: readonly string[];
  /**
   * Makes one function of the engine's out of a function of tensors.
   *
   * What changes from call to call must be an argument: numbers of JavaScript are frozen into a compiled function. Random
   * draws in it are refused, and so is what differs when it is recorded twice. Variables may be read and assigned. The
   * event loop goes on while it runs.
   *
   * @param fn Takes tensors of any shapes, by position or by name: in arrays and records, nested as you like. Recorded for
   * each combination of names, shapes and dtypes.
   * @param options Its name, and how it is compiled.
   * @returns The compiled function; the caller owns its results.
   * @throws {TypeError} If there is an option of another name. When it is called: if an argument is no tensor; if `fn` reads
   * a tensor's values, draws random numbers, is not the same each time, makes a variable, or gives something else than
   * tensors; if a shape depends on values. These errors and TensorFlow's own name the line that called what failed.
   *
   * @example
   * ```ts
   * import { tf, useEngine } from "nepa";
   * import { assertEquals } from "@std/assert";
   *
   * const engine = await useEngine();
   * const scale = engine.compile(({ x, by }: { x: tf.Tensor; by: tf.Tensor }) => tf.mul(x, by));
   * const x = tf.tensor1d([1, 2]), by = tf.scalar(3), scaled = await scale({ x, by });
   * assertEquals([...await scaled.data()], [3, 6]);
   * tf.dispose([x, by, scaled]);
   * scale.dispose();
   * ```
   */
  compile<A extends object[], R extends tf.TensorContainer>(
    fn: (...args: A) => R,
    options?: CompileOptions,
  ): Compiled<A, R>;
  /** How many parts of a batch the function that is being compiled computes side by side; 1 outside of one. */
  streams?(): number;
  /**
   * Decodes a part of a JPEG, grey or in colours other than CMYK, as it lies in the file; the event loop goes on. Only where the
   * engine has a decoder.
   *
   * @param bytes The file.
   * @param box The part, in whole pixels.
   * @param use Is given its pixels [height, width, 3], 0 to 255, in the engine's memory: to be read, and gone afterwards. The
   * outermost columns may differ from the whole image's: their neighbours' colours are not looked at.
   * @returns What that gives.
   * @throws {Error} If the file is broken, or the part lies outside of the image.
   */
  decodeJpeg?<T>(bytes: Uint8Array, box: Box, use: (pixels: Uint8Array) => T): Promise<T>;
  /**
   * Measures the engine's matrix products (a second or less) and tells what it is.
   *
   * @example
   * ```ts
   * import { useEngine } from "nepa";
   *
   * const engine = await useEngine("wasm");
   * console.log(await engine.describe());
   * ```
   */
  describe(): Promise<EngineDescription>;
  /** Name, version, device in one line, such as "tensorflow 2.21 (cpu, compiled)". */
  toString(): string;
}
