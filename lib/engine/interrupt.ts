/**
 * Ctrl-C and the notebook's Stop button, which both arrive as SIGINT: they stop what runs, not the process.
 *
 * In a Jupyter kernel the signal would end the kernel, so it is caught for good once {@linkcode watchInterrupts} was
 * called. In a terminal it is caught only while something listens, and a second one ends the process.
 *
 * @module
 */

const listeners = new Set<() => void>();
let permanent = false, caught = 0, installed = false;

function onSignal(): void {
  caught++;
  if (caught > 1 && !permanent) Deno.exit(130);
  for (const listener of [...listeners]) listener();
}

function update(): void {
  const wanted = permanent || listeners.size > 0;
  if (wanted === installed) return;
  hangupIgnored();
  if (wanted) Deno.addSignalListener("SIGINT", onSignal);
  else Deno.removeSignalListener("SIGINT", onSignal);
  installed = wanted;
}

/** Keeps SIGINT from ending this process from now on. For Jupyter kernels. */
export function watchInterrupts(): void {
  permanent = true;
  update();
  watchEvent();
}

let watching = false;

/** On Windows Jupyter sets an event, whose handle its kernels inherit, where it would send SIGINT elsewhere. */
async function watchEvent(): Promise<void> {
  const handle = Deno.build.os === "windows" ? Deno.env.get("JPY_INTERRUPT_EVENT") : undefined;
  if (!handle || watching) return;
  watching = true;
  const { symbols } = Deno.dlopen("kernel32.dll", {
    WaitForSingleObject: { parameters: ["usize", "u32"], result: "u32", nonblocking: true },
  });
  const set = 0, late = 258, milliseconds = 1000;
  for (let state = late; state === set || state === late;) {
    state = await symbols.WaitForSingleObject(BigInt(handle), milliseconds);
    if (state === set) onSignal();
  }
}

/**
 * Calls `listener` at each SIGINT until the result is called.
 *
 * @param listener Asks whatever runs to stop; must not throw.
 * @returns Ends the listening.
 */
export function onInterrupt(listener: () => void): () => void {
  if (listeners.size === 0) caught = 0;
  listeners.add(listener);
  update();
  return () => {
    listeners.delete(listener);
    update();
  };
}

let uncaught = false;

/**
 * Thrown where Ctrl-C ended a training in a script, and where Ctrl-C or the Stop button ended work that has no half a
 * result. Where nobody catches it, the process ends with code 130.
 */
export class RunInterrupted extends Error {
  /** "RunInterrupted". */
  override name = "RunInterrupted";

  /** @param message What was interrupted, and what is left of it. */
  constructor(message: string) {
    super(message);
    if (uncaught || permanent) return;
    uncaught = true;
    globalThis.addEventListener("unhandledrejection", (event) => {
      if (!(event.reason instanceof RunInterrupted)) return;
      event.preventDefault();
      console.error(String(event.reason));
      Deno.exit(130);
    });
  }
}

/**
 * Does work that Ctrl-C, the Stop button and a signal of the caller's end.
 *
 * @param what In a word or two: "linear probe".
 * @param given The caller's signal, if there is one.
 * @param work Looks at its signal now and then, by `throwIfAborted`.
 * @throws {RunInterrupted} After Ctrl-C or Stop; after the caller's signal, its reason.
 */
export async function stoppable<T>(
  what: string,
  given: AbortSignal | undefined,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const stop = new AbortController();
  const unlisten = onInterrupt(() => stop.abort(new RunInterrupted(`${what}: interrupted`)));
  try {
    const signal = given ? AbortSignal.any([given, stop.signal]) : stop.signal;
    signal.throwIfAborted();
    return await work(signal);
  } finally {
    unlisten();
  }
}

/** What a process ends with after each signal. */
const ENDINGS = { SIGTERM: 143, SIGHUP: 129 } as const;

/**
 * Calls `listener` at each SIGTERM, and at each SIGHUP unless it is ignored, as under `nohup`; they do not end the process
 * then, until the result is called. On Windows SIGHUP is the closing of the window, some seconds after which the system ends
 * the process; there is no SIGTERM.
 *
 * @param listener Asks whatever runs to stop and the process to end, with that code; must not throw.
 * @returns Ends the listening.
 */
export function onTerminate(listener: (code: number) => void): () => void {
  const all = Deno.build.os === "windows" ? ["SIGHUP" as const] : ["SIGTERM" as const, "SIGHUP" as const];
  const signals = hangupIgnored() ? all.filter((name) => name !== "SIGHUP") : all;
  const added = signals.map((name) => [name, () => listener(ENDINGS[name])] as const);
  for (const [name, call] of added) Deno.addSignalListener(name, call);
  return () => {
    for (const [name, call] of added) Deno.removeSignalListener(name, call);
  };
}

let ignored: boolean | undefined;

/** Whether SIGHUP is ignored, as under `nohup`. Deno's first listener of any signal undoes that; this one does it anew. */
function hangupIgnored(): boolean {
  if (ignored !== undefined || Deno.build.os === "windows") return ignored ?? false;
  ignored = ignoresHangup();
  if (ignored) Deno.addSignalListener("SIGHUP", () => {});
  return ignored;
}

/** What the system says; where it does not, whether nothing is shown in a terminal. */
function ignoresHangup(): boolean {
  const status = "/proc/self/status";
  try {
    if (Deno.permissions.querySync({ name: "read", path: status }).state !== "granted") throw status; // no prompt
    const [, mask] = /^SigIgn:\s*(\w+)/m.exec(Deno.readTextFileSync(status))!;
    return Number(`0x${mask}`) % 2 === 1;
  } catch {
    return !Deno.stdout.isTerminal() && !Deno.stderr.isTerminal();
  }
}
