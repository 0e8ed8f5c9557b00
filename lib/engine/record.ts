/**
 * Records what a function calls, with stand-ins for its arguments and for every variable.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";
import type { TensorMetadata } from "./binding.ts";
import { whileRecording } from "./frozen.ts";
import type { GraphOutput } from "./graph.ts";
import { type Flat, flattenResult } from "./nested.ts";
import { GraphRecorder } from "./recorder.ts";
import type { TensorFlow } from "./tensorflow.ts";
import { callerOf, extend, withDeepStacks } from "./trace.ts";
import type { Precision } from "./types.ts";

/** A function that is to be compiled. */
export interface Work {
  label: string;
  fn: (...args: never[]) => unknown;
  precision: Precision;
  /** Whether XLA compiles it whole. */
  xla: boolean;
  /** Or else between the products. */
  clustered: boolean;
}

/** The arguments of a call: shapes and types, and how they are nested. */
export interface Inputs {
  held: TensorMetadata[];
  rebuild: Flat["rebuild"];
}

/** What a function called. The one who has it discards `recorder`, or disposes its graph. */
export interface Trace {
  recorder: GraphRecorder;
  /** The new values of variables, and the results. */
  ends: GraphOutput[];
  assigned: tf.Variable[];
  result: Flat;
}

/** Records a function; `before` is what an earlier recording of it uploaded. */
export function trace(
  engine: TensorFlow,
  { label, fn, precision }: Work,
  { held, rebuild }: Inputs,
  before?: ReadonlySet<number>,
): Trace {
  const { binding, backend } = engine;
  if (tf.backend() !== backend as tf.KernelBackend) {
    throw new TypeError(
      `compile("${label}"): tfjs uses another backend now; call useEngine("tensorflow") again`,
    );
  }
  const recorder = new GraphRecorder(engine, label, precision, before);
  const known = new Set(Object.values(tf.engine().registeredVariables));
  const variables = standInForVariables(engine, recorder);
  let traced: Trace | undefined;
  try {
    binding.recorder = recorder;
    tf.tidy(() => {
      const standIns = held.map(({ shape, dtype }, i) => {
        const id = recorder.standIn({ argument: i }, shape, dtype);
        return backend.createOutputTensor({ id, shape, dtype });
      });
      const result = flattenResult(label, call(fn, rebuild(standIns) as never[]));
      refuseNewVariables(known, label);
      const assigned = [...variables.keys()].filter((v) => v.dataId !== variables.get(v)!.dataId);
      const given = backend.getInputTensorIds([...assigned, ...result.tensors]);
      traced = { recorder, ends: given.map((id) => recorder.ending(id)), assigned, result };
    });
    return traced!;
  } finally {
    binding.recorder = undefined;
    restoreVariables(engine, variables);
    if (!traced) recorder.discard();
  }
}

/** Calls the function; an error out of tfjs or of this engine says who called for what failed. */
function call(fn: Work["fn"], args: never[]): unknown {
  return withDeepStacks(() => {
    try {
      return whileRecording(() => fn(...args));
    } catch (error) {
      const caller = error instanceof Error ? callerOf(error) : undefined;
      if (caller) extend(error as Error, `\ncalled at ${caller}`);
      throw error;
    }
  });
}

/** What a variable held before the recording. */
type Held = { dataId: tf.DataId; id: number };

/** Puts a stand-in behind every variable; gives what has to be put back. */
function standInForVariables(engine: TensorFlow, recorder: GraphRecorder): Map<tf.Variable, Held> {
  const { backend } = engine, held = new Map<tf.Variable, Held>();
  for (const variable of Object.values(tf.engine().registeredVariables)) {
    if (!backend.tensorMap.has(variable.dataId)) continue; // it belongs to another backend
    const [id] = backend.getInputTensorIds([variable]);
    // What shares its value now, such as a clone, will not when the variable changes.
    if (backend.refCount(variable.dataId) > 1) assignHandle(engine, variable, id!);
    const data = backend.tensorMap.get(variable.dataId);
    held.set(variable, { dataId: variable.dataId, id: data.id });
    data.id = recorder.standIn({ variable }, data.shape, data.dtype);
  }
  return held;
}

/** Gives a variable the value of the tensor `id`, in data of its own. */
function assignHandle({ backend, binding }: TensorFlow, variable: tf.Variable, id: number): void {
  const value = backend.createOutputTensor(binding.metadata(binding.copy(id)));
  variable.assign(value);
  value.dispose();
}

function restoreVariables(engine: TensorFlow, variables: Map<tf.Variable, Held>): void {
  const { backend, binding } = engine;
  for (const [variable, { dataId, id }] of variables) {
    if (!variable.isDisposed && variable.dataId !== dataId) assignHandle(engine, variable, id);
    if (backend.tensorMap.has(dataId)) backend.tensorMap.get(dataId).id = id;
    else binding.deleteTensor(id);
  }
}

function refuseNewVariables(known: ReadonlySet<tf.Variable>, label: string): void {
  const fresh = Object.values(tf.engine().registeredVariables).filter((variable) => !known.has(variable));
  if (fresh.length === 0) return;
  for (const variable of fresh) variable.dispose();
  throw new TypeError(
    `compile("${label}"): the function makes a variable, ${fresh[0]!.name}; make it outside`,
  );
}
