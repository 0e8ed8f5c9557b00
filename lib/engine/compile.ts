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
import { GraphRecorder, type Source } from "./recorder.ts";
import type { TensorFlow } from "./tensorflow.ts";
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
  /** Puts the outputs back into the nesting of the function's result. */
  rebuild: (tensors: readonly tf.Tensor[]) => tf.TensorContainer;
}

/** {@linkcode TensorFlow.compile}, apart from it so that each file is short. */
export function compileWith<A extends tf.Tensor[], R extends tf.TensorContainer>(
  engine: TensorFlow,
  fn: (...args: A) => R,
  options: CompileOptions,
): Compiled<A, R> {
  const { name: label = fn.name || "function", xla = true, precision = "float32", cacheSize = 8 } = options;
  const clustered = xla && engine.device === "cpu", recordings = new Map<string, Recording>();
  let disposed = false;

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

  function call(...args: A): Promise<R> {
    if (disposed) throw new TypeError(`compiled function "${label}" was disposed`);
    args.forEach((argument, i) => {
      if (!(argument instanceof tf.Tensor)) {
        throw new TypeError(
          `compiled function "${label}", argument ${i}: expected a tensor, got ${typeof argument}`,
        );
      }
    });
    const held = args.map((argument) => hold(engine, argument));
    return engine.queue(async () => {
      try {
        return await run(engine, label, recordingFor(held), held, xla && !clustered) as R;
      } finally {
        for (const { id } of held) engine.binding.deleteTensor(id);
      }
    });
  }

  return Object.defineProperties(call as Compiled<A, R>, {
    size: { get: () => recordings.size },
    dispose: {
      value: () => {
        disposed = true;
        const last = [...recordings.values()];
        recordings.clear();
        // deno-lint-ignore require-await
        engine.queue(async () => last.forEach((recording) => forget(engine, recording)));
      },
    },
  });
}

/** A second handle on a tensor's value, so that the caller may dispose the tensor while it is in use. */
function hold({ lib, binding, backend }: TensorFlow, tensor: tf.Tensor): TensorMetadata {
  const handle = binding.handle(backend.getInputTensorIds([tensor])[0]!);
  return binding.metadata(lib.ok((s) => lib.c.TFE_TensorHandleCopySharingTensor(handle, s), "argument")!);
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
  const handles = await engine.execute(recording.name, label, inputs, recording.outputs, xla);
  const tensors = handles.map((handle) => backend.createOutputTensor(binding.metadata(handle)));
  recording.assigned.forEach((variable, i) => {
    if (!variable.isDisposed) variable.assign(tensors[i]!);
    tensors[i]!.dispose();
  });
  return recording.rebuild(tensors.slice(recording.assigned.length));
}

function record<A extends tf.Tensor[]>(
  engine: TensorFlow,
  label: string,
  fn: (...args: A) => tf.TensorContainer,
  args: readonly TensorMetadata[],
  { clustered, precision }: { clustered: boolean; precision: Precision },
): Recording {
  const { binding, backend } = engine;
  if (tf.backend() !== backend as tf.KernelBackend) {
    throw new TypeError(
      `compile("${label}"): tfjs uses another backend now; call useEngine("tensorflow") again`,
    );
  }
  const recorder = new GraphRecorder(engine, label, precision);
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
      const { leaves, rebuild } = flatten(fn(...standIns as A), label);
      refuseNewVariables(known, label);
      const assigned = [...variables.keys()].filter((v) => v.dataId !== variables.get(v)!.dataId);
      const ends = backend.getInputTensorIds([...assigned, ...leaves]).map((id) => recorder.ending(id));
      const name = engine.functionName(label), release = toFunction(engine, recorder, ends, name, clustered);
      const { sources, captured } = recorder;
      recording = { name, sources, captured, assigned, release, outputs: ends.length, rebuild };
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
