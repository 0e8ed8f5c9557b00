/**
 * Where the time of a compiled training step goes, by kind of work, and the share of JavaScript between two steps.
 *
 *     deno task bench profile [--case nano] [--rounds 10] [--pieces] [--json]
 *
 * TensorFlow does not tell how long the parts of a compiled function take. So each piece is compiled alone, at the step's
 * shapes, timed, and multiplied by how often a step does it; two at once, as the parts of a batch are in a step. Alone, a
 * piece reads and writes memory that the whole step may save by joining pieces: the sum can be above the step. All are run
 * by turns; the fastest of each is taken.
 */
import { AdamW, type Compiled, type Engine, Nepa, type Run, tf, trainingFlops, useEngine } from "nepa";
import { findTensorFlow } from "../lib/engine/install.ts";
import { openTensorFlow } from "../lib/engine/tensorflow.ts";
import {
  BATCH,
  type Case,
  choices,
  count,
  endlessRun,
  median,
  readOptions,
  show,
  showJson,
} from "./common.ts";
import { KINDS, optimizerPiece, type Piece, piecesOf } from "./pieces.ts";

/** A stopwatch on TensorFlow's execution of compiled functions: seconds since it was last read. */
type Stopwatch = () => number;

async function watchTensorFlow(): Promise<Stopwatch> {
  const found = await findTensorFlow();
  if ("missing" in found) throw new Error(`TensorFlow: ${found.missing}`);
  const { lib } = await openTensorFlow(found.library), { c } = lib;
  let inside = 0;
  const timed: typeof c.TFE_ExecuteOffThread = async (...args) => {
    const start = performance.now();
    await c.TFE_ExecuteOffThread(...args);
    inside += (performance.now() - start) / 1000;
  };
  Object.assign(lib, { c: { ...c, TFE_ExecuteOffThread: timed } });
  return () => {
    const seconds = inside;
    inside = 0;
    return seconds;
  };
}

/** What shows how long the way into a compiled function and out of it is. */
const NOTHING: Piece = {
  kind: "loss",
  name: "nothing",
  times: 1,
  shapes: [[1]],
  run: (x) => [tf.add(x!, 1)],
};

/** What the machine's products reach at best, compiled by XLA or as a graph. */
const SQUARE: Piece = {
  kind: "linear maps, forward",
  name: "square product",
  times: 1,
  flops: 2 * 1024 ** 3,
  shapes: [[1024, 1024], [1024, 1024]],
  run: (x, y) => [tf.matMul(x!, y!)],
};

/** How often a piece is computed at once: parts of a batch run side by side in a step. */
const COPIES = Math.min(2, navigator.hardwareConcurrency);

/** A piece, compiled, with its inputs; several at once, each with its own. */
interface Prepared {
  piece: Piece;
  copies: number;
  run: Compiled<tf.Tensor[], tf.Tensor[]>;
  inputs: tf.Tensor[];
  seconds: number[];
}

function prepare(engine: Engine, piece: Piece, { copies = COPIES, xla = true } = {}): Prepared {
  const { shapes, name } = piece,
    each = shapes.length,
    all = Array.from({ length: copies }, () => shapes).flat();
  const inputs = all.map((shape) =>
    tf.tidy(() => tf.linspace(-1, 1, tf.util.sizeFromShape(shape)).reshape(shape))
  );
  const pieces = (...args: tf.Tensor[]) =>
    Array.from({ length: copies }, (_, i) => piece.run(...args.slice(i * each, (i + 1) * each))).flat();
  const run = engine.compile(pieces, { name, xla });
  return { piece, copies, run, inputs, seconds: [] };
}

async function timeOnce(
  { run, inputs, seconds }: Prepared,
  stopwatch: Stopwatch,
  keep: boolean,
): Promise<void> {
  stopwatch();
  const outputs = await run(...inputs), taken = stopwatch();
  tf.dispose(outputs);
  if (keep) seconds.push(taken);
}

/** What a step takes as a run does it, and how much of that is not TensorFlow's. */
interface Whole {
  seconds: number[];
  outside: number[];
}

async function timeSteps(
  steps: AsyncIterator<unknown>,
  n: number,
  stopwatch: Stopwatch,
  whole: Whole,
): Promise<void> {
  for (let i = 0; i < n; i++) {
    stopwatch();
    const start = performance.now();
    await steps.next();
    const seconds = (performance.now() - start) / 1000;
    whole.seconds.push(seconds);
    whole.outside.push(seconds - stopwatch());
  }
}

/** `deno task bench profile`. */
export async function benchProfile(args: readonly string[]): Promise<void> {
  const given = readOptions(args, { case: "nano", rounds: "10", pieces: false, json: false });
  const rounds = count("rounds", given.rounds), engine = await useEngine("tensorflow");
  const stopwatch = await watchTensorFlow();
  for (const preset of choices("case", given.case, Object.keys(BATCH) as Case[])) {
    const result = await profile(engine, stopwatch, preset, rounds);
    if (given.json) showJson(result.records());
    else result.show(given.pieces);
  }
}

async function profile(engine: Engine, stopwatch: Stopwatch, preset: Case, rounds: number): Promise<Profile> {
  const model = new Nepa({ preset }, { seed: 0 });
  const other = model.clone(), optimizer = new AdamW(other.parameters); // the run's weights are its own
  const prepared = piecesOf(model.config, BATCH[preset]).map((piece) => prepare(engine, piece));
  prepared.push(prepare(engine, optimizerPiece(other, optimizer), { copies: 1 })); // for the whole batch
  const handOver = prepare(engine, NOTHING, { copies: 1 }),
    squares = [true, false].map((xla) => prepare(engine, SQUARE, { xla }));
  const all = [handOver, ...squares, ...prepared], run: Run<Nepa> = endlessRun(model, BATCH[preset]);
  const steps = run[Symbol.asyncIterator](), whole: Whole = { seconds: [], outside: [] };
  await timeSteps(steps, 2, stopwatch, { seconds: [], outside: [] }); // compiles
  for (const one of all) await timeOnce(one, stopwatch, false);
  for (let i = 0; i < rounds; i++) {
    await timeSteps(steps, 2, stopwatch, whole);
    for (const one of all) {
      for (let k = 0; k < 2; k++) await timeOnce(one, stopwatch, true);
    }
  }
  await steps.return?.();
  run.dispose();
  optimizer.dispose();
  for (const one of all) {
    tf.dispose(one.inputs);
    one.run.dispose();
  }
  model.dispose();
  other.dispose();
  return new Profile(preset, trainingFlops(model.config, BATCH[preset]), whole, handOver, squares, prepared);
}

interface Line {
  piece: Piece;
  /** Milliseconds of all its times in a step. */
  ms: number;
}

/** What was measured, and how it is shown. */
class Profile {
  /** Milliseconds of the fastest step. */
  readonly step: number;
  /** Milliseconds outside TensorFlow in the median step, the way in and out of a compiled function included. */
  readonly outside: number;
  readonly lines: readonly Line[];
  /** Square products, 10^9 operations a second. */
  readonly peak: number;

  constructor(
    readonly preset: Case,
    readonly flops: number,
    readonly whole: Whole,
    handOver: Prepared,
    squares: readonly Prepared[],
    prepared: readonly Prepared[],
  ) {
    const empty = Math.min(...handOver.seconds);
    this.step = Math.min(...whole.seconds) * 1000;
    this.outside = (median(whole.outside) + median(handOver.seconds)) * 1000;
    const each = ({ seconds, copies }: Prepared) => Math.max(0, Math.min(...seconds) - empty) / copies;
    this.peak = Math.max(...squares.map((square) => SQUARE.flops! / each(square) / 1e9));
    this.lines = prepared.map((one) => ({ piece: one.piece, ms: each(one) * one.piece.times * 1000 }));
  }

  /** JavaScript's and the hand-over's share of a step, from 0 to 1. */
  get outsideShare(): number {
    return this.outside / (median(this.whole.seconds) * 1000);
  }

  #row(name: string, ms: number, flops: number) {
    return {
      work: name,
      ms: Number(ms.toFixed(2)),
      "% of the step": Number((100 * ms / this.step).toFixed(1)),
      "% of peak": flops > 0 ? Number((flops / ms / 1e4 / this.peak).toFixed(0)) : "",
    };
  }

  #sum(lines: readonly Line[]): { ms: number; flops: number } {
    const flops = lines.reduce((sum, { piece }) => sum + (piece.flops ?? 0) * piece.times, 0);
    return { ms: lines.reduce((sum, { ms }) => sum + ms, 0), flops };
  }

  records(): unknown[] {
    const shared = { case: this.preset, batch: BATCH[this.preset] };
    const pieces = this.lines.map(({ piece: { kind, name, times, flops = 0 }, ms }) => {
      const gflops = flops > 0 ? flops * times / ms / 1e6 : null;
      return { ...shared, kind, piece: name, times, ms, share: ms / this.step, gflops };
    });
    return [...pieces, {
      ...shared,
      stepMs: this.step,
      stepMedianMs: median(this.whole.seconds) * 1000,
      piecesMs: this.#sum(this.lines).ms,
      peakGflops: this.peak,
      outsideMs: this.outside,
      outsideShare: this.outsideShare,
    }];
  }

  show(pieces: boolean): void {
    const rows = KINDS.flatMap((kind) => {
      const lines = this.lines.filter(({ piece }) => piece.kind === kind), { ms, flops } = this.#sum(lines);
      const each = lines.map(({ piece, ms }) =>
        this.#row(`  ${piece.times} × ${piece.name}`, ms, (piece.flops ?? 0) * piece.times)
      );
      return [this.#row(kind, ms, flops), ...pieces && each.length > 1 ? each : []];
    });
    const { ms } = this.#sum(this.lines);
    rows.push(
      this.#row("rest", this.step - ms, 0),
      this.#row("the step", this.step, this.flops),
    );
    show(rows, {
      title: `Compiled training step, ${this.preset}, ${
        BATCH[this.preset]
      } images: each piece compiled alone`,
      note:
        `Peak: ${
          this.peak.toFixed(0)
        } GFLOP/s, square float32 products in this run. JavaScript and hand-over ` +
        `between steps: ${this.outside.toFixed(2)} ms, ${
          (100 * this.outsideShare).toFixed(1)
        } % of the median step.`,
    });
  }
}
