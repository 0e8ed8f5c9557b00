/** Services of the C library that TensorFlow uses: quiet, and settings. @module */

const I = "i32";

const LIBC = {
  open: { parameters: ["buffer", I], result: I },
  close: { parameters: [I], result: I },
  dup: { parameters: [I], result: I },
  dup2: { parameters: [I, I], result: I },
} as const;

/** By Windows' names. */
const UCRT = {
  open: { name: "_open", ...LIBC.open },
  close: { name: "_close", ...LIBC.close },
  dup: { name: "_dup", ...LIBC.dup },
  dup2: { name: "_dup2", ...LIBC.dup2 },
} as const;

const PUTENV = { _putenv_s: { parameters: ["buffer", "buffer"], result: I } } as const;

const WINDOWS = Deno.build.os === "windows";

/** A text as C has it: ended by a zero. */
export const bytes = (text: string): Uint8Array<ArrayBuffer> => new TextEncoder().encode(text + "\0");

/** Runs `work` without what TensorFlow prints as it is opened, whatever the log level; errors come by its status. */
export function silently<T>(work: () => T): T {
  if (Deno.build.os === "darwin" || Deno.env.get("TF_CPP_MIN_LOG_LEVEL") !== "3") return work();
  const { symbols: c } = WINDOWS ? Deno.dlopen("ucrtbase.dll", UCRT) : Deno.dlopen("libc.so.6", LIBC);
  const writing = 1, standardError = 2;
  const saved = c.dup(standardError), nowhere = c.open(bytes(WINDOWS ? "NUL" : "/dev/null"), writing);
  c.dup2(nowhere, standardError);
  try {
    return work();
  } finally {
    c.dup2(saved, standardError);
    c.close(saved);
    c.close(nowhere);
  }
}

/**
 * Sets or removes a variable for this process and the libraries that it opens. On Windows these read a copy of the
 * environment that the C library made when the process began.
 */
export function setVariable(name: string, value: string | undefined): void {
  if (value === undefined) Deno.env.delete(name);
  else Deno.env.set(name, value);
  if (WINDOWS) Deno.dlopen("ucrtbase.dll", PUTENV).symbols._putenv_s(bytes(name), bytes(value ?? ""));
}
