/** Quiet, by a service of the C library. @module */

const I = "i32";

const LIBC = {
  open: { parameters: ["buffer", I], result: I },
  close: { parameters: [I], result: I },
  dup: { parameters: [I], result: I },
  dup2: { parameters: [I, I], result: I },
} as const;

/** Runs `work` without what TensorFlow prints as it is opened, whatever the log level; errors come by its status. */
export function silently<T>(work: () => T): T {
  if (Deno.build.os !== "linux" || Deno.env.get("TF_CPP_MIN_LOG_LEVEL") !== "3") return work();
  const c = Deno.dlopen("libc.so.6", LIBC).symbols, writing = 1, standardError = 2;
  const saved = c.dup(standardError), nowhere = c.open(new TextEncoder().encode("/dev/null\0"), writing);
  c.dup2(nowhere, standardError);
  try {
    return work();
  } finally {
    c.dup2(saved, standardError);
    c.close(saved);
    c.close(nowhere);
  }
}
