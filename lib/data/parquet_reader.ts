/** Reads Parquet files in a worker, which is ended where a file keeps it too long. @module */
import { DataError, type DataErrorKind } from "./idx.ts";
import type { Work } from "./parquet_worker.ts";

/** Seconds that one question to a file may take, unless `NEPA_PARSE_SECONDS` says another number. */
const SECONDS = { open: 5, column: 60, spans: 5, values: 60 };

/** Milliseconds after which a worker that nobody asks goes. */
const IDLE = 300;

/** What is expected of a file, for the error where it is not so. */
interface Expected {
  kind: DataErrorKind;
  what: string;
}

/** What the worker says: that it has begun, then what came out. */
type Said = { begun: true } | { value: never } | { failed: string; kind?: DataErrorKind };

let worker: Worker | undefined,
  turn: Promise<unknown> = Promise.resolve(),
  idle: ReturnType<typeof setTimeout> | undefined;
let giveUp: ((reason: unknown) => void) | undefined;

function end(): void {
  worker?.terminate();
  worker = undefined;
}

/**
 * Ends what the worker does once `signal` is aborted.
 *
 * @throws {unknown} The signal's reason, then.
 */
export async function unlessAborted<T>(signal: AbortSignal, work: Promise<T>): Promise<T> {
  const { promise, reject } = Promise.withResolvers<never>();
  const abort = () => {
    end();
    giveUp?.(signal.reason);
    reject(signal.reason);
  };
  signal.addEventListener("abort", abort);
  try {
    return await Promise.race([work, promise]);
  } finally {
    signal.removeEventListener("abort", abort);
  }
}

/**
 * What the worker finds in a file; one question after the other.
 *
 * @param name Which of its functions.
 * @param args The file, and what else that takes.
 * @param expected Said where it is not so.
 * @throws {DataError} If the file is missing, broken, or takes too long.
 */
export function aside<K extends keyof Work>(
  name: K,
  args: Parameters<Work[K]>,
  expected: Expected = { kind: "magic", what: "a Parquet file" },
): ReturnType<Work[K]> {
  const answer = turn.then(() => ask(name, args, expected)) as ReturnType<Work[K]>;
  turn = answer.catch(() => {});
  return answer;
}

async function ask(name: keyof Work, args: readonly unknown[], { kind, what }: Expected): Promise<unknown> {
  const { promise, resolve, reject } = Promise.withResolvers<unknown>(), file = String(args[0]);
  const given = Number(Deno.env.get("NEPA_PARSE_SECONDS")), seconds = given > 0 ? given : SECONDS[name];
  const fail = (but: string) => reject(new DataError(kind, file, `expected ${what}, but ${but}`));
  const own = worker ??= new Worker(new URL("./parquet_worker.ts", import.meta.url), { type: "module" });
  let limit: typeof idle;
  giveUp = reject;
  clearTimeout(idle);
  own.onmessage = ({ data }: MessageEvent<Said>) => {
    if ("value" in data) return resolve(data.value);
    if ("failed" in data) {
      return data.kind
        ? reject(new DataError(data.kind, file, data.failed))
        : fail(`${data.failed}; fetch it again`);
    }
    limit = setTimeout(() => {
      end();
      fail(
        `reading it took more than ${seconds} seconds: it is damaged, or made for that. For a large file on a slow ` +
          "disk set NEPA_PARSE_SECONDS",
      );
    }, 1000 * seconds);
  };
  own.onerror = (event) => {
    event.preventDefault();
    end();
    fail(`its reader ended: ${event.message}`);
  };
  try {
    own.postMessage([name, args]);
    return await promise;
  } finally {
    clearTimeout(limit);
    idle = setTimeout(end, IDLE);
    Deno.unrefTimer(Number(idle));
  }
}
