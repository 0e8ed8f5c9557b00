/**
 * Whether a step takes as long as in another checkout: processes of both take turns, a block of steps each.
 *
 *     deno task bench step --against WORKTREE [--case mini,nano] [--engine tensorflow] [--turns 30] [--block 0.5] [--json]
 *
 * Each turn lets two processes of the other checkout and one of this make as many steps, in an order that changes from turn
 * to turn. Printed are medians over the turns: seconds for a step here and there; how many times as long it takes here, which
 * passes up to 1.02; and, as a control, the same of the other checkout's two processes. `--block` is how many seconds of
 * steps a turn has, about.
 *
 * @module
 */
import { Checkout, HERE } from "./checkout.ts";
import type { Opening } from "./checkout_child.ts";
import { choices, count, median, readOptions, show, showJson } from "./common.ts";

/** Largest ratio that passes. */
const PASSES = 1.02;

/** Seconds for a step, a value for each turn. */
export interface Turns {
  here: number[];
  there: [number[], number[]];
}

/** Medians over the turns. */
export interface Ratios {
  here: number;
  there: number;
  /** How many times as long as there; of the two there. */
  ratio: number;
  control: number;
}

/** The ratio of each turn is to the mean of the two beside it. */
export function ratiosOf({ here, there: [one, other] }: Turns): Ratios {
  const mean = one.map((seconds, i) => (seconds + other[i]!) / 2);
  return {
    here: median(here),
    there: median(mean),
    ratio: median(here.map((seconds, i) => seconds / mean[i]!)),
    control: median(one.map((seconds, i) => seconds / other[i]!)),
  };
}

/** Something that makes steps. */
export type Stepper = Pick<Checkout, "seconds">;

/**
 * Lets three of them take turns.
 *
 * @param steppers This checkout's, and two of the other.
 * @param turns How often each.
 * @param block Seconds of steps in a turn, about.
 * @param rest Milliseconds between two: threads of the one before spin for a while.
 */
export async function takeTurns(
  steppers: readonly [Stepper, Stepper, Stepper],
  turns: number,
  block: number,
  rest = 300,
): Promise<Turns> {
  const steps = Math.max(2, Math.round(block / await steppers[1].seconds(1)));
  const seconds: [number[], number[], number[]] = [[], [], []];
  for (let turn = 0; turn < turns; turn++) {
    for (let place = 0; place < 3; place++) {
      const i = (turn % 2 ? 2 * turn - place : turn + place) % 3; // each comes first, second and last as often
      await new Promise((resolve) => setTimeout(resolve, rest));
      await steppers[i]!.seconds(1); // to wake up
      seconds[i]!.push(await steppers[i]!.seconds(steps) / steps);
    }
  }
  const [here, one, other] = seconds;
  return { here, there: [one, other] };
}

/** `deno task bench step --against`. */
export async function benchAgainst(args: readonly string[]): Promise<void> {
  const given = readOptions(args, {
    against: "",
    case: "mini,nano",
    engine: "tensorflow",
    turns: "30",
    block: "0.5",
    json: false,
  });
  const turns = count("turns", given.turns), block = Number(given.block), rows = [];
  const [engine] = choices("engine", given.engine, ["tensorflow", "wasm", "cpu"]) as [Opening["engine"]];
  for (const preset of choices("case", given.case, ["mini", "nano"])) {
    const place = await Deno.makeTempDir({ prefix: "nepa-step-" }), started: Checkout[] = [];
    try {
      for (const folder of [HERE, given.against, given.against]) {
        started.push(await Checkout.start(folder, place));
        await started.at(-1)!.open({ engine, preset });
      }
      const result = ratiosOf(await takeTurns(started as [Checkout, Checkout, Checkout], turns, block));
      rows.push({ case: preset, engine, turns, ...result, passed: result.ratio <= PASSES });
    } finally {
      for (const checkout of started) await checkout.stop();
      await Deno.remove(place, { recursive: true });
    }
  }
  const failed = rows.filter(({ passed }) => !passed).length;
  if (given.json) showJson(rows);
  else showTable(rows);
  console.log(`${rows.length - failed} passed, ${failed} failed`);
  if (failed > 0) Deno.exit(1);
}

function showTable(rows: readonly (Ratios & { case: string; turns: number; passed: boolean })[]): void {
  show(
    rows.map(({ case: preset, here, there, ratio, control }) => ({
      case: preset,
      "ms here": (1000 * here).toFixed(1),
      "ms there": (1000 * there).toFixed(1),
      "here / there": ratio.toFixed(3),
      "there / there": control.toFixed(3),
    })),
    { title: `Training step, medians of ${rows[0]?.turns} turns`, note: `Passes up to ${PASSES}.` },
  );
}
