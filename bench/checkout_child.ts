/**
 * Trains when it is asked to, with the library of the checkout whose `deno.json` it is run with, and by public names alone:
 * `checkout.ts` runs a copy of it. Each line of JSON that comes in is answered by one.
 *
 * @module
 */
import { fashionMnist, finetune, Nepa, NepaClassifier, pretrain, type Run, useEngine } from "nepa";

/** A training from start to end. */
export interface Training {
  engine: "tensorflow" | "wasm" | "cpu";
  task: "pretrain" | "finetune";
  compile: boolean;
  steps: number;
  /** The file for the weights' bytes, one tensor after the other. */
  weights: string;
}

/** What it came to. */
export interface Trained {
  /** Of every step. */
  losses: number[];
  /** Where each tensor ends in the file, by its name; those of the averaged weights begin with "ema". */
  ends: Record<string, number>;
}

/** A pretraining that goes on as long as it is asked to. */
export interface Opening {
  engine: Training["engine"];
  preset: "mini" | "nano";
}

const { train } = await fashionMnist();

/** Does it all, and keeps what can be compared. */
async function whole({ engine, task, compile, steps, weights }: Training): Promise<Trained> {
  await useEngine(engine);
  const options = { steps, seed: 0, compile, emaDecay: 0.99 };
  const model = new Nepa({ preset: "mini", dropPathProb: 0.1 }, { seed: 0 });
  const run: Run<Nepa | NepaClassifier> = task === "pretrain" ? pretrain(model, train, options) : finetune(
    NepaClassifier.from(model, { classes: train.classes, seed: 0 }),
    train.balanced(60, 0),
    options,
  );
  const { history } = await run.finish(), parts: Uint8Array<ArrayBuffer>[] = [], ends: Trained["ends"] = {};
  let end = 0;
  for (const [prefix, network] of [["", run.model], ["ema ", run.ema!]] as const) {
    for (const [name, variable] of network.parameters) {
      const { buffer } = new Float32Array(await variable.data<"float32">());
      parts.push(new Uint8Array(buffer));
      ends[prefix + name] = end += buffer.byteLength;
    }
  }
  await Deno.writeFile(weights, new Blob(parts).stream());
  return { losses: history.map(({ loss }) => loss), ends };
}

let steps: AsyncIterator<unknown> | undefined;

async function answer(
  { training, opening, count = 0 }: { training?: Training; opening?: Opening; count?: number },
): Promise<Trained | { seconds: number }> {
  if (training) return await whole(training);
  if (opening) {
    await useEngine(opening.engine);
    const model = new Nepa({ preset: opening.preset }, { seed: 0 }), never = 1_000_000;
    const run = pretrain(model, train, { steps: never, learningRate: 1e-4, every: { collapse: never } });
    steps = run[Symbol.asyncIterator]();
    for (let i = 0; i < 3; i++) await steps.next(); // records, compiles, fills the caches
  }
  const start = performance.now();
  for (let i = 0; i < count; i++) await steps!.next();
  return { seconds: (performance.now() - start) / 1000 };
}

let rest = "";
for await (const chunk of Deno.stdin.readable.pipeThrough(new TextDecoderStream())) {
  const lines = (rest + chunk).split("\n");
  rest = lines.pop()!;
  for (const line of lines) console.log(JSON.stringify(await answer(JSON.parse(line))));
}
Deno.exit(0); // a kernel thread may still wait for work
