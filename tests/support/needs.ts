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
  /** Rights of a folder that `chmod` takes. */
  rights: () => !WINDOWS,
  proc: () => Deno.build.os === "linux",
  script: () => works("script", "--version"),
  unshare: () => works("unshare", "-rm", "true"),
};

const known = new Map<string, boolean>();

/** A test's options: it is skipped, and that is told, where any of these is missing. */
export function needs(...what: (keyof typeof HERE)[]): { ignore: boolean } {
  for (const name of what.filter((name) => !known.has(name))) {
    known.set(name, HERE[name]());
    if (!known.get(name)) console.log(`skipped where "ignored" stands: there is no ${name}`);
  }
  return { ignore: !what.every((name) => known.get(name)) };
}
