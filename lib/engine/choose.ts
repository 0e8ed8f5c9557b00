/** Chooses what computes the tensors, checks it, and describes it. @module */
import * as tf from "@tensorflow/tfjs";
import { measureGflops, selfCheck } from "./check.ts";
import { compileWith } from "./compile.ts";
import { gpuOffer } from "./cuda.ts";
import { correctGradients } from "./gradients.ts";
import { host } from "./host.ts";
import { findTensorFlow } from "./install.ts";
import { watchInterrupts } from "./interrupt.ts";
import { refuseCalls } from "./kernels.ts";
import { refuseUnknown } from "./options.ts";
import { openTensorFlow } from "./tensorflow.ts";
import type { Engine, EngineDescription, EngineName } from "./types.ts";
import { uncompiled } from "./uncompiled.ts";
import { openWasm } from "./wasm.ts";
import { findAdapter, openWebGpu } from "./webgpu.ts";

/** What an engine tells of itself once it is open. */
interface Opened
  extends Partial<Pick<Engine, "version" | "device" | "notes" | "compile" | "streams" | "decodeJpeg">> {
  /** What tells engines of one name apart: "cpu, compiled". */
  kind: string;
  threads?: number;
  /** Of them for one operation, if not all. */
  operationThreads?: number;
}

/** Why an engine cannot be had, and what helps. */
class Unavailable extends Error {
  override name = "EngineUnavailableError";

  /** @param notes What else was noticed. */
  constructor(message: string, readonly notes: string[] = []) {
    super(message);
  }
}

const NAMES = ["tensorflow", "webgpu", "wasm", "cpu"] as const;

const opened = new Map<EngineName, Engine>();
let automatic: Engine | undefined, current: Engine | undefined;
let turn: Promise<unknown> = Promise.resolve();

const openers: Record<EngineName, () => Promise<Opened>> = {
  async tensorflow() {
    const found = await findTensorFlow();
    if ("missing" in found) throw new Unavailable(`TensorFlow: ${found.missing}`, found.notes);
    const tensorflow = await openTensorFlow(found.library, found.python);
    await tf.setBackend("tensorflow");
    const { device, lib: { version } } = tensorflow;
    const notes = [`TensorFlow ${version} from ${found.source}`, ...found.notes];
    if (!version.startsWith("2.21.")) {
      notes.push(`TensorFlow ${version} is not tested with this library, 2.21 is`);
    }
    const offer = device === "cpu" ? await gpuOffer(found.library) : undefined;
    return {
      version,
      device,
      kind: `${device}, compiled`,
      threads: navigator.hardwareConcurrency,
      operationThreads: Number(Deno.env.get("TF_NUM_INTRAOP_THREADS")),
      notes: offer ? [...notes, offer] : notes,
      compile: (fn, options = {}) => compileWith(tensorflow, fn, options),
      streams: () => tensorflow.streams(),
      decodeJpeg: (bytes, box, use) => tensorflow.decodeJpeg(bytes, box, use),
    };
  },
  async webgpu() {
    const adapter = await findAdapter();
    if (!adapter) throw new Unavailable("WebGPU: Deno finds no adapter; on Linux it needs a Vulkan driver");
    await openWebGpu();
    const notes = adapter.hardware ? [] : [`${adapter.name} is software: wasm is faster`];
    return { device: adapter.name, kind: adapter.name, notes };
  },
  async wasm() {
    const { version, simd, threads } = await openWasm();
    return { version, kind: simd ? "cpu, simd" : "cpu", threads };
  },
  async cpu() {
    // Its first tensor would print an advertisement for another package.
    Object.assign(tf.findBackend("cpu"), { firstUse: false });
    await tf.setBackend("cpu");
    refuseCalls("cpu");
    return { kind: "javascript" };
  },
};

/** Makes a value show itself in a notebook and in a terminal. */
function shown<T extends object>(value: T, text: () => string): T {
  return Object.defineProperties(value, {
    [Symbol.for("Jupyter.display")]: { value: () => ({ "text/plain": text() }) },
    [Symbol.for("Deno.customInspect")]: { value: text },
  });
}

/** Measured with the engine in place; the one that was current comes back. */
async function describe(engine: Engine, threads: number, each: number): Promise<EngineDescription> {
  const before = tf.getBackend();
  await tf.setBackend(engine.name);
  const gflops = await measureGflops();
  await tf.setBackend(before);
  const { name, version, device, notes } = engine;
  const some = `${threads} thread${threads === 1 ? "" : "s"}${
    each < threads ? `, ${each} for one operation` : ""
  }`;
  const speed = `square float32 matrix products: ${Number(gflops.toPrecision(3))} GFLOP/s`;
  const text = [engine, `version ${version}, device ${device}, ${some}`, speed, ...notes].join("\n");
  return shown({ name, version, device, threads, gflops, text }, () => text);
}

/** Why products in bfloat16 are not to be had; undefined where they are. Whether they are faster, `bench step` measures. */
export function precisionRefusal({ name, compiles }: Engine): string | undefined {
  return compiles ? undefined : `the ${name} engine computes in float32 alone`;
}

function makeEngine(
  name: EngineName,
  { kind, threads = 1, operationThreads = threads, ...opened }: Opened,
): Engine {
  const { version = tf.version_core, device = "cpu", notes = [], compile, ...more } = opened;
  const title = `${name} ${version.split(".").slice(0, 2).join(".")} (${kind})`;
  const engine: Engine = {
    name,
    version,
    device,
    compiles: compile !== undefined,
    notes,
    compile(fn, options = {}) {
      refuseUnknown("compile", options, ["name", "xla", "precision", "cacheSize", "compile"]);
      return (options.compile === false ? uncompiled : compile ?? uncompiled)(fn, options);
    },
    ...more,
    describe: () => exclusive(() => describe(engine, threads, operationThreads)),
    toString: () => title,
  };
  return shown(engine, () => [title, ...engine.notes].join("\n  "));
}

/** Opens an engine and checks it, or takes it up again. */
async function take(name: EngineName): Promise<Engine> {
  const known = opened.get(name);
  if (known) {
    await tf.setBackend(name);
    return known;
  }
  correctGradients();
  const engine = makeEngine(name, await openers[name]());
  await selfCheck();
  opened.set(name, engine);
  return engine;
}

/** The same, or the reason why not, added to the notes. */
async function attempt(name: EngineName, notes: string[]): Promise<Engine | undefined> {
  try {
    return await take(name);
  } catch (error) {
    const explained = error instanceof Unavailable;
    // A path that the user wrote out is not passed over.
    if (name === "tensorflow" && !explained && Deno.env.get("NEPA_TENSORFLOW")) throw error;
    notes.push(...explained ? error.notes : [], `${name} was passed over: ${(error as Error).message}`);
    return undefined;
  }
}

async function choose(): Promise<Engine> {
  if (automatic) return await take(automatic.name);
  const notes: string[] = [];
  let engine = await attempt("tensorflow", notes);
  const adapter = engine ? undefined : await findAdapter();
  if (adapter && !adapter.hardware) notes.push(`webgpu was passed over: ${adapter.name} is software`);
  if (adapter?.hardware) engine = await attempt("webgpu", notes);
  engine ??= await attempt("wasm", notes) ?? await take("cpu");
  automatic = Object.assign(engine, { notes: [...engine.notes, ...notes] });
  if (notes.length > 0 || host.inNotebook() || Deno.stderr.isTerminal()) {
    host.say([`engine: ${engine}`, ...engine.notes].join("\n  "));
  }
  return automatic;
}

/** Runs `work` when all that was asked before is done: engines are chosen one at a time. */
function exclusive<T>(work: () => Promise<T>): Promise<T> {
  const result = turn.then(work);
  turn = result.catch(() => {});
  return result;
}

/**
 * Chooses what computes the tensors, for this process, after checking it on a small forward and backward pass. In a
 * notebook the Stop button ends runs, not the kernel, from then on.
 *
 * @param name "tensorflow": TensorFlow's C library, found or downloaded once (274 MB); "webgpu": a graphics card;
 * "wasm": WebAssembly; "cpu": plain JavaScript. "auto" (default) is what `NEPA_ENGINE` names, or else tensorflow, or else
 * webgpu (on hardware), or else wasm, or else cpu; `notes` tells what was passed over, why, and what helps.
 * @returns The engine. The same name again gives the same one; another name switches, and tensors move as they are used.
 * @throws {Error} If an engine asked for by name cannot be had, with what helps; if `NEPA_TENSORFLOW` leads nowhere.
 * @throws {RangeError} If there is no engine of that name.
 *
 * @example
 * ```ts
 * import { tf, useEngine } from "nepa";
 * import { assertEquals } from "@std/assert";
 *
 * const engine = await useEngine("wasm");
 * assertEquals(engine.name, "wasm");
 * const sum = tf.tidy(() => tf.add([1, 2], [3, 4]));
 * assertEquals([...await sum.data()], [4, 6]);
 * sum.dispose();
 * ```
 */
export async function useEngine(name: "auto" | EngineName = "auto"): Promise<Engine> {
  const wanted = name === "auto" ? Deno.env.get("NEPA_ENGINE") || name : name;
  if (wanted !== "auto" && !NAMES.includes(wanted as EngineName)) {
    throw new RangeError(
      `engine: expected "auto", ${NAMES.map((n) => `"${n}"`).join(", ")}, got "${wanted}"`,
    );
  }
  if (host.inNotebook()) watchInterrupts();
  return await exclusive(async () => {
    try {
      return current = wanted === "auto" ? await choose() : await take(wanted as EngineName);
    } catch (error) {
      if (current) await tf.setBackend(current.name);
      throw error;
    }
  });
}

/**
 * The engine that {@linkcode useEngine} chose.
 *
 * @throws {Error} If none is chosen yet.
 *
 * @example
 * ```ts
 * import { currentEngine, useEngine } from "nepa";
 *
 * await useEngine("wasm");
 * console.log(String(currentEngine())); // wasm 4.22 (cpu, simd)
 * ```
 */
export function currentEngine(): Engine {
  if (!current) throw new Error("no engine chosen yet: write `await useEngine()` first");
  return current;
}

/** The decoder of the engine that is chosen, if one is and has it. */
export function jpegDecoder(): Engine["decodeJpeg"] {
  return current?.decodeJpeg;
}
