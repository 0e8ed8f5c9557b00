/**
 * Turns a tfjs function of tensors and variables into one TensorFlow function.
 *
 * The function is run once with stand-ins for its arguments and for every variable; what it calls is recorded.
 * Variables read become inputs, variables assigned become outputs. Whatever JavaScript computes meanwhile is frozen
 * into the recording: what changes from call to call has to come in as an argument.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";
import type { TensorMetadata } from "./binding.ts";
import type { GraphOutput } from "./graph.ts";
import { TensorFlowError } from "./libtensorflow.ts";
import { GraphRecorder, type Source } from "./recorder.ts";
import type { TensorFlow } from "./tensorflow.ts";
import { callerOf, extend, withDeepStacks } from "./trace.ts";
import type { Compiled, CompileOptions, Precision } from "./types.ts";

interface Recording {
  name: string;
  sources: Source[];
  assigned: tf.Variable[];
  /** Ids of the tensors that the function closes over. */
  captured: number[];
  outputs: number;
  /** Lets go of the functions that only this one calls. */
  release: () => void;
  /** Whether it has run, and so is compiled. */
  ran: boolean;
  /** Who called for the operation that was asked about. */
  caller: string | undefined;
  /** Puts the outputs back into the nesting of the function's result. */
  rebuild: (tensors: readonly tf.Tensor[]) => tf.TensorContainer;
}

/** How a recording becomes a function. */
interface Manner {
  clustered: boolean;
  precision: Precision;
}

/** {@linkcode TensorFlow.compile}, apart from it so that each file is short. */
export function compileWith<A extends tf.Tensor[], R extends tf.TensorContainer>(
  engine: TensorFlow,
  fn: (...args: A) => R,
  options: CompileOptions,
): Compiled<A, R> {
  const { name: label = fn.name || "function", xla = true, precision = "float32", cacheSize = 8 } = options;
  const clustered = xla && engine.device === "cpu", recordings = new Map<string, Recording>();
  let disposed = false, compileSeconds = 0;

  function recordingFor(args: readonly TensorMetadata[]): Recording {
    const key = args.map((t) => `${t.dtype}[${t.shape}]`).join();
    const found = recordings.get(key) ?? record(engine, label, fn, args, { clustered, precision });
    recordings.delete(key);
    recordings.set(key, found); // the last used is the last
    const [oldest] = recordings;
    if (recordings.size > cacheSize && oldest) {
      recordings.delete(oldest[0]);
      forget(engine, oldest[1]);
    }
    return found;
  }

  function compiled(...args: A): Promise<R> {
    if (disposed) throw new TypeError(`compiled function "${label}" was disposed`);
    refuseOthers(label, args);
    const held = args.map((argument) => hold(engine, argument));
    return engine.queue(async () => {
      try {
        await bringVariables(engine);
        const started = performance.now(), recording = recordingFor(held);
        const result = await run(engine, label, recording, held, xla && !clustered).catch((error) => {
          throw locate(engine, label, fn, held, { clustered, precision }, error);
        });
        if (!recording.ran) compileSeconds += (performance.now() - started) / 1000;
        recording.ran = true;
        return result as R;
      } finally {
        for (const { id } of held) engine.binding.deleteTensor(id);
      }
    });
  }

  return Object.defineProperties(compiled as Compiled<A, R>, {
    size: { get: () => recordings.size },
    compileSeconds: { get: () => compileSeconds },
    dispose: {
      value: () => {
        disposed = true;
        // deno-lint-ignore require-await
        engine.queue(async () => { // calls that wait still need them
          for (const recording of recordings.values()) forget(engine, recording);
          recordings.clear();
        });
      },
    },
  });
}

/** Refuses what is not a tensor with a value. */
function refuseOthers(label: string, args: readonly unknown[]): void {
  for (const [i, argument] of args.entries()) {
    const disposed = argument instanceof tf.Tensor && argument.isDisposed;
    if (argument instanceof tf.Tensor && !disposed) continue;
    const got = disposed ? "one that was disposed" : typeof argument;
    throw new TypeError(`compiled function "${label}", argument ${i}: expected a tensor, got ${got}`);
  }
}

/** A second handle on a tensor's value, so that the caller may dispose the tensor while it is in use. */
function hold({ lib, binding, backend }: TensorFlow, tensor: tf.Tensor): TensorMetadata {
  const handle = binding.handle(backend.getInputTensorIds([tensor])[0]!);
  return binding.metadata(lib.ok((s) => lib.c.TFE_TensorHandleCopySharingTensor(handle, s), "argument")!);
}

/** Gives this engine the variables that another one holds: a recording would take their values for constants. */
async function bringVariables({ backend }: TensorFlow): Promise<void> {
  for (const variable of Object.values(tf.engine().registeredVariables)) {
    const { dataId, shape, dtype } = variable;
    if (backend.tensorMap.has(dataId) || tf.getBackend() !== "tensorflow") continue;
    const values = await variable.data();
    if (variable.isDisposed || variable.dataId !== dataId) continue;
    tf.tidy(() => variable.assign(tf.tensor(values, shape, dtype)));
  }
}

/** An error of a running function, with the line of code whose operation failed: the function is recorded once more. */
function locate<A extends tf.Tensor[]>(
  engine: TensorFlow,
  label: string,
  fn: (...args: A) => tf.TensorContainer,
  args: readonly TensorMetadata[],
  manner: Manner,
  error: Error,
): Error {
  const operation = error.message.match(/\{\{node (?:[^}]*\/)?([A-Za-z]\w*\.\d+)/)?.[1];
  if (!(error instanceof TensorFlowError) || operation === undefined) return error;
  try {
    const again = record(engine, label, fn, args, manner, operation);
    forget(engine, again);
    if (again.caller) extend(error, `\n${operation} was called at ${again.caller}`);
  } catch {
    // What the function depends on is gone by now: without the line, then.
  }
  if (error.message.includes("Detected unsupported operations")) {
    extend(error, "\nXLA lacks this operation: compile with { xla: false }");
  }
  return error;
}

function forget({ lib, binding }: TensorFlow, recording: Recording): void {
  lib.removeFunction(recording.name);
  recording.release();
  for (const id of recording.captured) binding.deleteTensor(id);
}

async function run(
  engine: TensorFlow,
  label: string,
  recording: Recording,
  args: readonly TensorMetadata[],
  xla: boolean,
): Promise<tf.TensorContainer> {
  const { binding, backend } = engine;
  const inputs = recording.sources.map((source) => {
    if ("argument" in source) return args[source.argument]!.id;
    if ("captured" in source) return source.captured;
    if (source.variable.isDisposed) {
      throw new TypeError(`compiled function "${label}": variable ${source.variable.name} was disposed`);
    }
    return backend.getInputTensorIds([source.variable])[0]!;
  });
  const before = recording.assigned.map(({ dataId }) => dataId);
  const handles = await engine.execute(recording.name, label, inputs, recording.outputs, xla);
  const tensors = handles.map((handle) => backend.createOutputTensor(binding.metadata(handle)));
  recording.assigned.forEach((variable, i) => {
    // A value that it was given meanwhile is the later one.
    if (!variable.isDisposed && variable.dataId === before[i]) variable.assign(tensors[i]!);
    tensors[i]!.dispose();
  });
  return recording.rebuild(tensors.slice(recording.assigned.length));
}

function record<A extends tf.Tensor[]>(
  engine: TensorFlow,
  label: string,
  fn: (...args: A) => tf.TensorContainer,
  args: readonly TensorMetadata[],
  { clustered, precision }: Manner,
  watched?: string,
): Recording {
  const { binding, backend } = engine;
  if (tf.backend() !== backend as tf.KernelBackend) {
    throw new TypeError(
      `compile("${label}"): tfjs uses another backend now; call useEngine("tensorflow") again`,
    );
  }
  const recorder = new GraphRecorder(engine, label, precision, watched);
  const known = new Set(Object.values(tf.engine().registeredVariables));
  const variables = standInForVariables(engine, recorder);
  let recording: Recording | undefined;
  try {
    binding.recorder = recorder;
    tf.tidy(() => {
      const standIns = args.map(({ shape, dtype }, i) => {
        return backend.createOutputTensor({
          id: recorder.standIn({ argument: i }, shape, dtype),
          shape,
          dtype,
        });
      });
      const { leaves, rebuild } = flatten(call(fn, standIns as A), label);
      refuseNewVariables(known, label);
      const assigned = [...variables.keys()].filter((v) => v.dataId !== variables.get(v)!.dataId);
      const ends = backend.getInputTensorIds([...assigned, ...leaves]).map((id) => recorder.ending(id));
      const name = engine.functionName(label), release = toFunction(engine, recorder, ends, name, clustered);
      const { sources, captured, caller } = recorder, outputs = ends.length;
      recording = { name, sources, captured, assigned, release, outputs, ran: false, caller, rebuild };
    });
    return recording!;
  } finally {
    binding.recorder = undefined;
    restoreVariables(engine, variables);
    if (!recording) { for (const id of recorder.captured) binding.deleteTensor(id); }
    recorder.dispose();
  }
}

/** Adds the recorded graph to the context as a function: whole, or with XLA between the products. */
function toFunction(
  { lib, clusters }: TensorFlow,
  recorder: GraphRecorder,
  outputs: readonly GraphOutput[],
  name: string,
  clustered: boolean,
): () => void {
  if (clustered) return clusters.toFunction(recorder, outputs, name, `recording ${name}`);
  lib.c.TF_DeleteFunction(
    recorder.graph.toFunction(name, recorder.placeholders, outputs, `recording ${name}`),
  );
  return () => {};
}

/** Calls the function; an error out of tfjs or of this engine says who called for what failed. */
function call<A extends tf.Tensor[], R>(fn: (...args: A) => R, args: A): R {
  return withDeepStacks(() => {
    try {
      return fn(...args);
    } catch (error) {
      const caller = error instanceof Error ? callerOf(error) : undefined;
      if (caller) extend(error as Error, `\ncalled at ${caller}`);
      throw error;
    }
  });
}

/** What a variable held before the recording. */
interface Held {
  dataId: tf.DataId;
  id: number;
}

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
function assignHandle({ backend, binding, lib }: TensorFlow, variable: tf.Variable, id: number): void {
  const handle = lib.ok((s) => lib.c.TFE_TensorHandleCopySharingTensor(binding.handle(id), s), "variable")!;
  const value = backend.createOutputTensor(binding.metadata(handle));
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

/** The tensors of a result, in order, and the way back. */
function flatten(result: unknown, label: string): { leaves: tf.Tensor[]; rebuild: Recording["rebuild"] } {
  const leaves: tf.Tensor[] = [];
  type Template = number | Template[] | { [key: string]: Template };
  const walk = (value: unknown): Template => {
    if (value instanceof tf.Tensor) return leaves.push(value) - 1;
    if (Array.isArray(value)) return value.map(walk);
    if (value !== null && typeof value === "object" && Object.getPrototypeOf(value) === Object.prototype) {
      return Object.fromEntries(Object.entries(value).map(([key, part]) => [key, walk(part)]));
    }
    const got = value instanceof Promise ? "a promise (an async function cannot be recorded)" : typeof value;
    throw new TypeError(
      `compile("${label}"): expected tensors, in arrays and records, as the result, got ${got}`,
    );
  };
  const template = walk(result);
  const build = (part: Template, tensors: readonly tf.Tensor[]): tf.TensorContainer => {
    if (typeof part === "number") return tensors[part]!;
    if (Array.isArray(part)) return part.map((p) => build(p, tensors));
    return Object.fromEntries(Object.entries(part).map(([key, p]) => [key, build(p, tensors)]));
  };
  return { leaves, rebuild: (tensors) => build(template, tensors) };
}
