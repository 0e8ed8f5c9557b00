/** The official PyTorch code as a process that runs training steps when it is asked to. */
import { type NepaConfig, toOfficialConfig } from "nepa";

const PACKAGES = ["torch==2.13.0", "transformers==4.56.2", "numpy"];

/** A Python with PyTorch and the transformers library: the one given, or one in a virtual environment made for it. */
export async function python(given: string | undefined): Promise<string> {
  if (given) return given;
  const cache = Deno.env.get("XDG_CACHE_HOME") || `${Deno.env.get("HOME")}/.cache`;
  const folder = `${cache}/nepa/bench-venv`, python = `${folder}/bin/python`, done = `${folder}/installed`;
  const wanted = PACKAGES.join(" ");
  if (await Deno.readTextFile(done).catch(() => "") !== wanted) {
    console.error(`installing ${wanted} into ${folder}`);
    for (
      const [command, ...args] of [["python3", "-m", "venv", folder], [
        python,
        "-m",
        "pip",
        "install",
        "-q",
        ...PACKAGES,
      ]]
    ) {
      const { success } = await new Deno.Command(command!, { args, stdout: "null" }).output();
      if (!success) throw new Error(`${command} ${args.join(" ")} failed; see above`);
    }
    await Deno.writeTextFile(done, wanted);
  }
  return python;
}

/** The process. */
export class TorchPeer {
  readonly #child: Deno.ChildProcess;
  readonly #lines: AsyncIterator<string>;
  readonly #input: WritableStreamDefaultWriter<Uint8Array>;

  private constructor(child: Deno.ChildProcess) {
    this.#child = child;
    this.#input = child.stdin.getWriter();
    this.#lines = lines(child.stdout)[Symbol.asyncIterator]();
  }

  /** @param checkout A checkout of the official code. */
  static async start(checkout: string, given?: string): Promise<TorchPeer> {
    const script = new URL("torch_peer.py", import.meta.url).pathname;
    const command = new Deno.Command(await python(given), {
      args: ["-W", "ignore", script, checkout],
      stdin: "piped",
      stdout: "piped",
      stderr: Deno.env.has("VERBOSE") ? "inherit" : "null",
    });
    return new TorchPeer(command.spawn());
  }

  async #ask(request: unknown): Promise<number[]> {
    await this.#input.write(new TextEncoder().encode(JSON.stringify(request) + "\n"));
    const { value, done } = await this.#lines.next();
    if (done) throw new Error("the PyTorch process ended; VERBOSE=1 shows what it says");
    return JSON.parse(value).seconds;
  }

  /** Makes a model. */
  async prepare(config: NepaConfig, batch: number, mode: string): Promise<void> {
    const { model_type: _, dtype: __, ...official } = toOfficialConfig(config);
    await this.#ask({ config: official, batch, mode });
  }

  /** Seconds of each of `n` steps. */
  steps(n: number): Promise<number[]> {
    return this.#ask({ steps: n });
  }

  async stop(): Promise<void> {
    await this.#input.close();
    await this.#child.status;
  }
}

async function* lines(stream: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  let rest = "";
  for await (
    const chunk of stream.pipeThrough(new TextDecoderStream() as TransformStream<Uint8Array, string>)
  ) {
    const parts = (rest + chunk).split("\n");
    rest = parts.pop()!;
    yield* parts;
  }
}
