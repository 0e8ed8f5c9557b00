/** What some tests need and not every machine has. @module */

const WINDOWS = Deno.build.os === "windows";

function works(command: string, ...args: string[]): boolean {
  try {
    return new Deno.Command(command, { args, stdout: "null", stderr: "null" }).outputSync().success;
  } catch {
    return false;
  }
}

/** Whether it is here. */
const HERE = {
  windows: () => WINDOWS,
  /** A shell, and programs that are scripts for it. */
  sh: () => !WINDOWS,
  /** Signals that one process sends to another, or to itself, and that can be caught. */
  signals: () => !WINDOWS,
  /** Pipes and devices that have names among files. */
  pipes: () => !WINDOWS,
  /** Links that anybody may make, and that lead to files that open. */
  links: () => !WINDOWS,
  /** File names with any characters, and ones that differ in case alone. */
  names: () => !WINDOWS,
  /** What the system says of its processes as files. */
  proc: () => Deno.build.os === "linux",
  script: () => works("script", "--version"),
  unshare: () => works("unshare", "-rm", "true"),
};

type Need = keyof typeof HERE;

const known = new Map<Need, boolean>();

/** Whether it is here; where it is not, that is told once, with what is left out. */
export function has(need: Need, left = 'what is "ignored"'): boolean {
  if (!known.has(need)) {
    known.set(need, HERE[need]());
    if (!known.get(need)) console.log(`no ${need} on this machine: ${left} is skipped`);
  }
  return known.get(need)!;
}

/** A test's options: it is skipped where any of these is missing. */
export function needs(...what: Need[]): { ignore: boolean } {
  return { ignore: !what.every((need) => has(need)) };
}
