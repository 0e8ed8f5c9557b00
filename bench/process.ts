/** A process that answers each line of JSON with another. @module */

/** What a process prints, line by line. */
export async function* lines(stream: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  let rest = "";
  for await (
    const chunk of stream.pipeThrough(new TextDecoderStream() as TransformStream<Uint8Array, string>)
  ) {
    const parts = (rest + chunk).split("\n");
    rest = parts.pop()!;
    yield* parts;
  }
}

/** The process. */
export class Answering {
  readonly #child: Deno.ChildProcess;
  readonly #lines: AsyncIterator<string>;
  readonly #input: WritableStreamDefaultWriter<Uint8Array>;

  /**
   * @param name What it is called.
   * @param stderr What becomes of what it says beside its answers; `VERBOSE` in the environment shows it.
   */
  constructor(
    readonly name: string,
    command: string,
    options: Pick<Deno.CommandOptions, "args" | "cwd" | "env">,
  ) {
    const stderr = Deno.env.has("VERBOSE") ? "inherit" : "null";
    this.#child = new Deno.Command(command, { ...options, stdin: "piped", stdout: "piped", stderr }).spawn();
    this.#input = this.#child.stdin.getWriter();
    this.#lines = lines(this.#child.stdout)[Symbol.asyncIterator]();
  }

  /** @throws {Error} If it ended. */
  async ask<T>(request: unknown): Promise<T> {
    await this.#input.write(new TextEncoder().encode(JSON.stringify(request) + "\n")).catch(() => {});
    const { value: line, done } = await this.#lines.next();
    if (done) throw new Error(`${this.name}: the process ended; VERBOSE=1 shows what it says`);
    return JSON.parse(line);
  }

  /** The most memory that it has had, in MB; undefined where the system does not tell. */
  async peak(): Promise<number | undefined> {
    const status = await Deno.readTextFile(`/proc/${this.#child.pid}/status`).catch(() => "");
    const kilobytes = /^VmHWM:\s+(\d+) kB$/m.exec(status)?.[1];
    return kilobytes === undefined ? undefined : Math.round(Number(kilobytes) / 1024);
  }

  /** Ends it: there are no more questions. */
  async stop(): Promise<void> {
    await this.#input.close().catch(() => {});
    await this.#child.status;
  }
}
