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
  if (wanted) Deno.addSignalListener("SIGINT", onSignal);
  else Deno.removeSignalListener("SIGINT", onSignal);
  installed = wanted;
}

/** Keeps SIGINT from ending this process from now on. For Jupyter kernels. */
export function watchInterrupts(): void {
  permanent = true;
  update();
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

/**
 * Calls `listener` at each SIGTERM, which does not end the process then, until the result is called.
 *
 * @param listener Asks whatever runs to stop and the process to end; must not throw.
 * @returns Ends the listening.
 */
export function onTerminate(listener: () => void): () => void {
  if (Deno.build.os === "windows") return () => {}; // there is no such signal
  Deno.addSignalListener("SIGTERM", listener);
  return () => Deno.removeSignalListener("SIGTERM", listener);
}
