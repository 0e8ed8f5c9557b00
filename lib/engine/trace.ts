/** Names the line of the caller's code that an error comes from. @module */

/** Frames of tfjs, of this folder and of the runtime: whoever called into those is the caller. */
const INNER = [
  /\/@tensorflow\//,
  /^(?:ext|node):/,
  new RegExp(`^${RegExp.escape(import.meta.resolve("./"))}`),
];

/** The places on a stack, innermost first, such as "file:///home/me/model.ts:12:20". */
function places({ stack = "" }: Error): string[] {
  const frames = stack.matchAll(/^ {4}at (?:.* \()?([^()\s]+:\d+:\d+)\)?$/gm);
  return [...frames].map(([, place]) => place!);
}

/** The innermost place outside. Undefined if it is where the error was made: that one speaks for itself. */
export function callerOf(error: Error): string | undefined {
  const all = places(error), found = all.findIndex((place) => !INNER.some((inner) => inner.test(place)));
  return found > 0 ? all[found] : undefined;
}

/** Runs `work` with stacks that reach from a kernel to the code that called tfjs. */
export function withDeepStacks<T>(work: () => T): T {
  const { stackTraceLimit } = Error;
  Error.stackTraceLimit = 100;
  try {
    return work();
  } finally {
    Error.stackTraceLimit = stackTraceLimit;
  }
}

/** Adds text to an error's message, and to its stack, which repeats that. */
export function extend(error: Error, text: string): void {
  const { message, stack } = error;
  error.message = message + text;
  if (stack !== undefined) error.stack = stack.replace(message, () => error.message);
}
