/** Two services of the C library, where it is glibc. @module */

const I = "i32";

const libc = {
  mallopt: { parameters: [I, I], result: I },
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

/**
 * Has the C library keep what a step frees for the next one, instead of giving it back to the system and faulting it in
 * again page by page, which took a twentieth of a step.
 */
export function keepFreedMemory(): void {
  const M_TRIM_THRESHOLD = -1, M_TOP_PAD = -2, M_MMAP_THRESHOLD = -3, c = openLibc();
  c?.mallopt(M_MMAP_THRESHOLD, 2 ** 30);
  c?.mallopt(M_TRIM_THRESHOLD, 2 ** 31 - 1);
  c?.mallopt(M_TOP_PAD, 2 ** 27);
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
