/** Chooses what computes the tensors, checks it, and describes it. @module */
import * as tf from "@tensorflow/tfjs";
import type { CompileOptions, Engine, EngineDescription, EngineName } from "./types.ts";
import { uncompiled } from "./uncompiled.ts";
import { openWasm } from "./wasm.ts";

export type { Compiled, CompileOptions, Engine, EngineDescription, EngineName } from "./types.ts";

/** What an engine tells of itself once it is open. */
interface Opened {
  version: string;
  device: string;
  /** The word that tells engines of one name apart: "compiled", "simd". */
  detail: string;
  threads: number;
  compile?: Engine["compile"];
}

let current: Engine | undefined;
let turn: Promise<unknown> = Promise.resolve();
const opened = new Map<EngineName, Engine>();

async function openCpu(): Promise<Opened> {
  // Its first tensor would print an advertisement for another package.
  Object.assign(tf.findBackend("cpu"), { firstUse: false });
  await tf.setBackend("cpu");
  return { version: tf.version_core, device: "cpu", detail: "javascript", threads: 1 };
}

async function open(name: EngineName): Promise<Opened> {
  if (name === "cpu") return await openCpu();
  if (name === "wasm") {
    const { version, simd, threads } = await openWasm();
    return { version, device: "cpu", detail: simd ? "simd" : "no simd", threads };
  }
  throw new Error(`useEngine("${name}"): not there yet`);
}

function engine(name: EngineName, { version, device, detail, threads, compile }: Opened): Engine {
  const short = version.split(".").slice(0, 2).join(".");
  return {
    name,
    version,
    device,
    compiles: compile !== undefined,
    notes: [],
    compile: compile ??
      (<A extends tf.Tensor[], R extends tf.TensorContainer>(
        fn: (...args: A) => R,
        options?: CompileOptions,
      ) => uncompiled(fn, options)),
    describe: (): Promise<EngineDescription> =>
      Promise.resolve({ name, version, device, threads, gflops: 0, text: `${name} ${version}` }),
    toString: () => `${name} ${short} (${device}, ${detail})`,
  };
}

async function choose(name: "auto" | EngineName): Promise<Engine> {
  const taken = name === "auto" ? "wasm" : name;
  let chosen = opened.get(taken);
  if (chosen) await tf.setBackend(taken);
  else opened.set(taken, chosen = engine(taken, await open(taken)));
  return current = chosen;
}

/**
 * Chooses what computes the tensors, for this process.
 *
 * @param name An engine, or "auto" (default).
 * @returns The engine. The same name again gives the same one; another name switches, and tensors move as they are used.
 */
export function useEngine(name: "auto" | EngineName = "auto"): Promise<Engine> {
  const result = turn.then(() => choose(name));
  turn = result.catch(() => {});
  return result;
}

/**
 * The engine that {@linkcode useEngine} chose.
 *
 * @throws {Error} If none is chosen yet.
 */
export function currentEngine(): Engine {
  if (!current) throw new Error("no engine chosen yet: write `await useEngine()` first");
  return current;
}
