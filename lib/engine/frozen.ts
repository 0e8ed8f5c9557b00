/** What a recording would freeze, refused; and which variables a piece of work reads and assigns. @module */
import * as tf from "@tensorflow/tfjs";

/** The operations that draw random numbers, by the names of tfjs' scopes. */
const RANDOM = /^(rand|random\w+|truncatedNormal|multinomial)__op$/;

let recording = 0;

/** Whether a function that is to be compiled is being recorded, or run in place of that. */
export function isRecording(): boolean {
  return recording > 0;
}

/**
 * Refuses what a compiled function must not do, on engines that do not compile too.
 *
 * @param what Draws the random numbers: "tf.randomNormal".
 * @throws {TypeError} While a function is recorded, or run by an engine that does not compile.
 */
export function refuseWhileRecording(what: string): void {
  if (!isRecording()) return;
  throw new TypeError(
    `${what}: its random numbers would be drawn once, and frozen into the compiled function. Draw them outside and pass ` +
      "them as an argument; in an objective, by `draws`",
  );
}

/** Runs `work` with another method in the place of an object's own, which `make` gets to build upon. */
function withMethod<T extends object, K extends keyof T, R>(
  object: T,
  name: K,
  make: (own: T[K]) => T[K],
  work: () => R,
): R {
  const before = Object.getOwnPropertyDescriptor(object, name);
  object[name] = make(object[name]);
  try {
    return work();
  } finally {
    if (before) Object.defineProperty(object, name, before);
    else delete object[name];
  }
}

/** Runs a function that is to be compiled: random draws in it are refused. */
export function whileRecording<R>(work: () => R): R {
  const engine = tf.engine();
  const refusing = (own: typeof engine.startScope) => (name?: string) => {
    if (name && RANDOM.test(name)) {
      const inDropout = engine.state.scopeStack.some((scope) => scope.name === "dropout__op");
      refuseWhileRecording(`tf.${inDropout ? "dropout" : name.slice(0, -"__op".length)}`);
    }
    own.call(engine, name);
  };
  recording++;
  try {
    return withMethod(engine, "startScope", refusing, work);
  } finally {
    recording--;
  }
}

/**
 * Runs `work` as if it were another time, an odd number of seconds away, with random numbers near one end of their range: a
 * coin falls to one side.
 *
 * @returns What it gives, and whether it drew random numbers.
 */
export function elsewhere<R>(work: () => R, end: 0 | 1): { result: R; drew: boolean } {
  const later = 97_531_357_001, { Date: Now, performance } = globalThis; // about three years
  const now = () => Now.now() + later;
  const made = new Proxy(Now, {
    construct: (_, args) => new Now(...(args.length > 0 ? args : [now()]) as [number]),
    get: (_, name) => name === "now" ? now : Reflect.get(Now, name),
  });
  let draws = 0;
  // Who draws until a number fits gets others in the end.
  const drawn = (own: typeof Math.random) => () => draws++ < 1000 ? end * 0.999 + own() / 1000 : own();
  const shifted = (own: typeof performance.now) => () => own.call(performance) + later;
  const result = withMethod(globalThis, "Date", () => made, () => {
    return withMethod(performance, "now", shifted, () => withMethod(Math, "random", drawn, work));
  });
  return { result, drew: draws > 0 };
}

/** What {@linkcode watch} saw. */
export interface Watched<R> {
  /** What the work gave. */
  result: R;
  /** The variables whose values an operation took. */
  read: Set<tf.Variable>;
  /** The variables that were given values. */
  assigned: Set<tf.Variable>;
}

/**
 * Runs `work` and tells which variables it reads and assigns, inside of gradients too, recorded or op by op.
 *
 * @param work Not async: what comes after its first `await` is not seen.
 * @param options `refuseAssign` makes the error that assigning a variable of that name is to throw, before it changes.
 *
 * @example
 * ```ts
 * import { tf, useEngine, watch } from "@nepa/engine";
 * import { assertEquals } from "@std/assert";
 *
 * await useEngine("cpu");
 * const slope = tf.variable(tf.scalar(2), true, "slope");
 * const { result, read } = watch(() => tf.mul(slope, 3));
 * assertEquals([...read].map(({ name }) => name), ["slope"]);
 * tf.dispose([slope, result]);
 * ```
 */
export function watch<R>(
  work: () => R,
  { refuseAssign }: { refuseAssign?: (name: string) => Error } = {},
): Watched<R> {
  const read = new Set<tf.Variable>(), assigned = new Set<tf.Variable>();
  const note = (input: unknown): void => {
    if (input instanceof tf.Variable) read.add(input);
    else if (Array.isArray(input)) input.forEach(note);
  };
  const engine = tf.engine() as unknown as { runKernelFunc(call: { inputs: object }): unknown };
  const noting = (own: typeof engine.runKernelFunc): typeof own => (call) => {
    note(Object.values(call.inputs));
    return own.call(engine, call);
  };
  const assigning = (own: tf.Variable["assign"]): typeof own =>
    function (this: tf.Variable, value) {
      if (refuseAssign) throw refuseAssign(this.name);
      assigned.add(this);
      own.call(this, value);
    };
  const result = withMethod(engine, "runKernelFunc", noting, () => {
    return withMethod(tf.Variable.prototype, "assign", assigning, work);
  });
  return { result, read, assigned };
}
