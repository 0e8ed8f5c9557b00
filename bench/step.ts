/**
 * Seconds for one training step, forward to new weights, on each engine, and of others that compute the same in turn
 * with it: the official PyTorch code, and jax-js.
 *
 *     deno task bench step [--case mini,nano,base] [--engine compiled,eager] [--precision float32,bfloat16]
 *       [--peer torch --official CHECKOUT [--peer-mode eager,compile,bf16] [--python PYTHON]] [--peer jaxjs]
 *       [--steps 10] [--warmup 2] [--json]
 *     deno task bench step --method ijepa [--case nano,base] [--peer torch --ijepa CHECKOUT --official CHECKOUT] …
 *         I-JEPA's beside the public code's, NEPA's beside the official code's, and each process's peak memory
 *     deno task bench step --against WORKTREE …   the same step in another checkout: see against.ts
 *
 * Engines: compiled, graph and eager (op by op) are TensorFlow's; wasm, webgpu, cpu. One process cannot hold both
 * webgpu and TensorFlow. `base` with all its peers needs 16 GB.
 */
import { type Engine, type EngineName, Nepa, nepaConfig, type Run, trainingFlops, useEngine } from "nepa";
import { benchAgainst } from "./against.ts";
import {
  BATCH,
  type Case,
  choices,
  type Contender,
  count,
  endlessRun,
  type Precision,
  race,
  readOptions,
  show,
  showJson,
  timeEach,
} from "./common.ts";
import { benchStepIJepa } from "./step_ijepa.ts";
import { TORCH_MODES, type TorchMode, TorchPeer } from "./peer.ts";

/** Ways to run our step, and tfjs' backend of each. */
const BACKENDS = {
  compiled: "tensorflow",
  graph: "tensorflow",
  eager: "tensorflow",
  wasm: "wasm",
  webgpu: "webgpu",
  cpu: "cpu",
} as const satisfies Record<string, EngineName>;

export type Way = keyof typeof BACKENDS;
export const WAYS = Object.keys(BACKENDS) as Way[];

interface Ours extends Contender {
  engine: EngineName;
  precision: Precision;
  mode: "compiled" | "graph" | "eager";
}

interface Peer extends Contender {
  peer: "torch" | "jaxjs";
  peerMode: TorchMode | "jit";
}

/** What `make` gives while the engine runs recorded functions as TensorFlow graphs, without XLA. */
function asGraphs<T>(engine: Engine, make: () => T): T {
  const { compile } = engine;
  const graphs: Engine["compile"] = (fn, options) => compile(fn, { ...options, xla: false });
  Object.assign(engine, { compile: graphs });
  try {
    return make();
  } finally {
    Object.assign(engine, { compile });
  }
}

/** Our own step: `pretrain` itself. */
async function ours(preset: Case, way: Way, precision: Precision): Promise<Ours> {
  const backend = BACKENDS[way], engine = await useEngine(backend), model = new Nepa({ preset }, { seed: 0 });
  const start = () => endlessRun(model, BATCH[preset], { compile: way !== "eager", precision });
  let run: Run<Nepa> | undefined;
  try {
    run = way === "graph" ? asGraphs(engine, start) : start();
    const steps = run[Symbol.asyncIterator]();
    await steps.next(); // compiles, or refuses
    return {
      name: String(engine),
      engine: backend,
      precision,
      mode: way === "compiled" || way === "graph" ? way : "eager",
      async steps(n) {
        await useEngine(backend);
        return await timeEach(n, () => steps.next());
      },
      async stop() {
        await useEngine(backend);
        await steps.return();
        run!.dispose();
        model.dispose();
      },
    };
  } catch (error) {
    run?.dispose();
    model.dispose();
    throw error;
  }
}

/** Every way in every precision that can be had; why not, of the others. */
async function allOurs(preset: Case, ways: Way[], precisions: Precision[]): Promise<Ours[]> {
  const found: Ours[] = [];
  for (const precision of precisions) {
    for (const way of ways) {
      try {
        found.push(await ours(preset, way, precision));
      } catch (error) {
        if (precision === "float32") throw error;
        console.error(`${preset}, ${way}, ${precision}: ${(error as Error).message}`);
      }
    }
  }
  return found;
}

type Options = ReturnType<typeof options>;

function options(args: readonly string[]) {
  const jaxjs = args.includes("jaxjs");
  return readOptions(args, {
    case: jaxjs ? "mini,nano" : "mini,nano,base",
    engine: jaxjs ? "wasm" : "compiled,eager",
    precision: jaxjs ? "float32" : "float32,bfloat16",
    peer: "",
    method: "nepa",
    ijepa: "",
    "peer-mode": "eager,compile,bf16",
    official: "",
    python: "",
    steps: "10",
    warmup: "2",
    json: false,
  });
}

async function allPeers(preset: Case, given: Options): Promise<Peer[]> {
  const kinds = given.peer ? choices("peer", given.peer, ["torch", "jaxjs"]) : [], found: Peer[] = [];
  for (const mode of kinds.includes("torch") ? choices("peer-mode", given["peer-mode"], TORCH_MODES) : []) {
    const peer = await TorchPeer.start(`torch, ${mode}`, given);
    await peer.train(nepaConfig({ preset }), BATCH[preset], mode);
    found.push(Object.assign(peer, { peer: "torch", peerMode: mode } as const));
  }
  if (kinds.includes("jaxjs")) {
    const { jaxjsPeer } = await import("./jaxjs.ts");
    found.push({ ...await jaxjsPeer(preset), peer: "jaxjs", peerMode: "jit" });
  }
  return found;
}

/** `deno task bench step`. */
export async function benchStep(args: readonly string[]): Promise<void> {
  if (args.some((arg) => arg.startsWith("--against"))) return await benchAgainst(args);
  const given = options(args), steps = count("steps", given.steps), warmup = count("warmup", given.warmup, 0);
  if (choices("method", given.method, ["nepa", "ijepa"])[0] === "ijepa") {
    return await benchStepIJepa(given, steps, warmup);
  }
  const ways = choices("engine", given.engine, WAYS);
  const precisions = choices("precision", given.precision, ["float32", "bfloat16"]);
  for (const preset of choices("case", given.case, Object.keys(BATCH) as Case[])) {
    const own = await allOurs(preset, ways, precisions), peers = await allPeers(preset, given);
    const seconds = await race<Contender>([...own, ...peers], steps, warmup);
    if (given.json) showJson(records(preset, own, peers, seconds));
    else {
      show(rows(preset, own, peers, seconds), {
        title: `Training step, ${preset}, ${BATCH[preset]} images: median of ${steps}, by turns`,
        ...(peers.length > 0 && { note: "Last columns: how many times as fast as that peer." }),
      });
    }
    for (const contender of [...own, ...peers]) await contender.stop();
  }
}

function rows(preset: Case, own: Ours[], peers: Peer[], all: ReadonlyMap<Contender, number>) {
  const flops = trainingFlops(nepaConfig({ preset }), BATCH[preset]);
  const row = (contender: Contender, engine: string, mode: string, precision: string) => {
    const seconds = all.get(contender)!;
    const ratios = peers.map((peer) =>
      [`/ ${peer.peer} ${peer.peerMode}`, all.get(peer)! / seconds] as const
    );
    return {
      engine,
      mode,
      precision,
      seconds,
      "GFLOP/s": Math.round(flops / seconds / 1e9),
      ...Object.fromEntries(ratios.map(([column, ratio]) => [column, ratio.toFixed(2)])),
    };
  };
  return [
    ...own.map((one) => row(one, one.engine, one.mode === "eager" ? "op by op" : one.mode, one.precision)),
    ...peers.map((p) => row(p, p.peer, p.peerMode, p.peerMode === "bf16" ? "bfloat16" : "float32")),
  ];
}

function records(preset: Case, own: Ours[], peers: Peer[], all: ReadonlyMap<Contender, number>) {
  return own.flatMap((contender) => {
    const { engine, precision, mode } = contender, seconds = all.get(contender)!;
    const record = { case: preset, engine, precision, mode, seconds };
    if (peers.length === 0) return [record];
    return peers.map((other) => {
      const { peer, peerMode } = other, peerSeconds = all.get(other)!;
      return { ...record, peer, peerMode, peerSeconds, ratio: peerSeconds / seconds };
    });
  });
}
