/** A process that makes training steps when it is asked to, of I-JEPA or NEPA, so that its memory is its own: `step_ijepa.ts`. @module */
import { IJepa, type IJepaOptions, Nepa, type NepaOptions, useEngine } from "nepa";
import { endlessRun, timeEach } from "./common.ts";
import { lines } from "./process.ts";

/** What is trained. */
export interface Opening {
  method: "ijepa" | "nepa";
  network: IJepaOptions & NepaOptions;
  batch: number;
}

/** What is answered when it is ready. */
export interface Opened {
  engine: string;
  flops: number;
}

let steps: AsyncIterator<unknown> | undefined;

async function open({ method, network, batch }: Opening): Promise<Opened> {
  const engine = await useEngine();
  const model = method === "ijepa" ? new IJepa(network, { seed: 0 }) : new Nepa(network, { seed: 0 });
  steps = endlessRun<Nepa | IJepa>(model, batch)[Symbol.asyncIterator]();
  await steps.next(); // compiles
  return { engine: String(engine), flops: model.flops(batch) };
}

for await (const line of lines(Deno.stdin.readable)) {
  const { opening, rounds = 0 } = JSON.parse(line) as { opening?: Opening; rounds?: number };
  const answer = opening ? await open(opening) : { seconds: await timeEach(rounds, () => steps!.next()) };
  console.log(JSON.stringify(answer));
}
Deno.exit(0); // a kernel thread may still wait for work
