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
import { elsewhere } from "./frozen.ts";
import { TensorFlowError } from "./libtensorflow.ts";
import { type Flat, flattenArguments } from "./nested.ts";
import { type Inputs, type Trace, trace, type Work } from "./record.ts";
import type { Source } from "./recorder.ts";
import { releaseGarbage } from "./resident.ts";
import type { TensorFlow } from "./tensorflow.ts";
import { extend } from "./trace.ts";
import { firstDifference } from "./twice.ts";
import type { Compiled, CompileOptions } from "./types.ts";

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
  /** Puts the outputs back into the nesting of the function's result. */
  rebuild: Flat["rebuild"];
}

/** Milliseconds from which a recording leaves garbage that is worth a collection, which takes some 20. */
const LONG = 200;

/** See {@linkcode Engine.compile}. */
export function compileWith<A extends object[], R extends tf.TensorContainer>(
  engine: TensorFlow,
  fn: (...args: A) => R,
  options: CompileOptions,
): Compiled<A, R> {
  const { name: label = fn.name || "function", xla = true, precision = "float32", cacheSize = 8 } = options;
  const clustered = xla && engine.device === "cpu", recordings = new Map<string, Recording>();
  const work: Work = { label, fn, precision, clustered, xla: xla && !clustered };
  let disposed = false, compileSeconds = 0;

  function recordingFor(form: string, inputs: Inputs): Recording {
    const key = form + inputs.held.map((t) => `${t.dtype}[${t.shape}]`).join();
    const found = recordings.get(key) ?? record(engine, work, inputs);
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
    const { tensors, form, rebuild } = flattenArguments(label, args);
    const held = tensors.map((tensor) => hold(engine, tensor));
    return engine.queue(async () => {
      try {
        await bringVariables(engine);
        const started = performance.now(), recording = recordingFor(form, { held, rebuild });
        const long = () => performance.now() - started > LONG;
        if (!recording.ran && long()) releaseGarbage();
        const result = await run(engine, work, recording, held).catch((error) => {
          throw locate(engine, work, { held, rebuild }, error);
        });
        if (!recording.ran) {
          if (long()) releaseGarbage();
          compileSeconds += (performance.now() - started) / 1000;
          engine.sealCompiled();
        }
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

/** A second handle on a tensor's value, so that the caller may dispose the tensor while it is in use. */
function hold({ binding, backend }: TensorFlow, tensor: tf.Tensor): TensorMetadata {
  return binding.metadata(binding.copy(backend.getInputTensorIds([tensor])[0]!));
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
function locate(engine: TensorFlow, work: Work, inputs: Inputs, error: Error): Error {
  const operation = error.message.match(/\{\{node (?:[^}]*\/)?([A-Za-z]\w*\.\d+)/)?.[1];
  if (!(error instanceof TensorFlowError) || operation === undefined) return error;
  try {
    const { recorder } = trace(engine, work, inputs), caller = recorder.caller(operation);
    recorder.discard();
    if (caller) extend(error, `\n${operation} was called at ${caller}`);
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

async function run(engine: TensorFlow, work: Work, recording: Recording, args: TensorMetadata[]) {
  const { binding, backend } = engine;
  const inputs = recording.sources.map((source) => {
    if ("argument" in source) return args[source.argument]!.id;
    if ("captured" in source) return source.captured;
    if (source.variable.isDisposed) {
      throw new TypeError(`compiled function "${work.label}": variable ${source.variable.name} was disposed`);
    }
    return backend.getInputTensorIds([source.variable])[0]!;
  });
  const before = recording.assigned.map(({ dataId }) => dataId);
  const handles = await engine.execute(recording.name, work, inputs, recording.outputs);
  const tensors = handles.map((handle) => backend.createOutputTensor(binding.metadata(handle)));
  recording.assigned.forEach((variable, i) => {
    // A value that it was given meanwhile is the later one.
    if (!variable.isDisposed && variable.dataId === before[i]) variable.assign(tensors[i]!);
    tensors[i]!.dispose();
  });
  return recording.rebuild(tensors.slice(recording.assigned.length));
}

/** Makes a function of what `fn` calls; nothing of it may differ from one run of `fn` to the next. */
function record(engine: TensorFlow, work: Work, inputs: Inputs): Recording {
  const traced = trace(engine, work, inputs), { recorder, ends, assigned, result: { rebuild } } = traced;
  try {
    refuseChanges(engine, work, inputs, traced);
    const name = engine.functionName(work.label), { graph, placeholders, sources, captured } = recorder;
    let release = () => {};
    if (work.clustered) release = engine.clusters.toFunction(recorder, ends, name);
    else engine.lib.c.TF_DeleteFunction(graph.toFunction(name, placeholders, ends));
    graph.dispose();
    return { name, sources, captured, assigned, release, outputs: ends.length, ran: false, rebuild };
  } catch (error) {
    recorder.discard();
    throw error;
  }
}

/** Records once more, at another time and with other random numbers, and refuses what is not the same. */
function refuseChanges(engine: TensorFlow, work: Work, inputs: Inputs, first: Trace, end: 0 | 1 = 0): void {
  const { result: second, drew } = elsewhere(() => trace(engine, work, inputs, first.recorder.uploaded), end);
  const difference = firstDifference(second, first);
  second.recorder.discard();
  if (difference) {
    const { caller } = difference;
    throw new TypeError(
      `compile("${work.label}"): two recordings of the function differ: what JavaScript computes (Math.random(), a ` +
        "counter, a flag, the time) would be frozen into the compiled function. Compute it outside and pass it as an " +
        `argument, a tensor${caller ? `\ncalled at ${caller}` : ""}`,
    );
  }
  if (drew && end === 0) refuseChanges(engine, work, inputs, first, 1);
}
