/** A service of the C library, where it is glibc. @module */

const I = "i32";

const libc = {
  open: { parameters: ["buffer", I], result: I },
  close: { parameters: [I], result: I },
  dup: { parameters: [I], result: I },
  dup2: { parameters: [I, I], result: I },
} as const;

/** The C library's functions; undefined where it is not glibc. */
function openLibc(): Deno.DynamicLibrary<typeof libc>["symbols"] | undefined {
  try {
    return Deno.build.os === "linux" ? Deno.dlopen("libc.so.6", libc).symbols : undefined;
  } catch {
    return undefined;
  }
}

/** Runs `work` without what TensorFlow prints as it is opened, whatever the log level; errors come by its status. */
export function silently<T>(work: () => T): T {
  const c = Deno.env.get("TF_CPP_MIN_LOG_LEVEL") === "3" ? openLibc() : undefined,
    writing = 1,
    standardError = 2;
  if (!c) return work();
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
