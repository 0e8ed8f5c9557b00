/**
 * Whether this checkout trains as another one does: mini by `pretrain` and by `finetune`, averaged weights and drop path
 * included, compiled and op by op, with the same seed; every loss and every byte of the weights are compared.
 *
 *     deno task bench same --against WORKTREE [--engine tensorflow,wasm] [--steps 200] [--finetune-steps 100] [--quick] [--json]
 *
 * The other is a folder with this repository, an older commit perhaps: `git worktree add ../before COMMIT`. wasm makes a
 * tenth of the steps; `--quick` makes a tenth of all.
 *
 * @module
 */
import { Checkout, HERE } from "./checkout.ts";
import type { Training } from "./checkout_child.ts";
import { choices, count, readOptions, show, showJson } from "./common.ts";

type Trained = Awaited<ReturnType<Checkout["train"]>>;

/** How far two trainings lie apart. */
export interface Apart {
  /** Losses that are not the same number, and the largest difference. */
  losses: number;
  loss: number;
  /** Tensors that are not the same bytes, or are in one training only, and the largest difference of two numbers. */
  tensors: number;
  weight: number;
}

const largest = (values: Iterable<number>) => {
  let max = 0;
  for (const value of values) if (!(value <= max)) max = value;
  return max;
};

/** Compares losses as numbers and weights as bytes. */
export function apart(one: Trained, other: Trained): Apart {
  const steps = Math.max(one.losses.length, other.losses.length);
  const losses = Array.from({ length: steps }, (_, i) => Math.abs(one.losses[i]! - other.losses[i]!));
  const names = [...new Set([...one.weights.keys(), ...other.weights.keys()])];
  const different = names.filter((name) => {
    const [a, b] = [one.weights.get(name), other.weights.get(name)];
    return !a || !b || a.length !== b.length || a.some((byte, i) => byte !== b[i]);
  });
  const weights = different.map((name) => {
    const [a, b] = [one, other].map(({ weights }) => new Float32Array(weights.get(name)?.buffer ?? [NaN]));
    return largest(a!.values().map((value, i) => Math.abs(value - b![i]!)));
  });
  return {
    losses: losses.filter((difference) => difference !== 0).length,
    loss: largest(losses),
    tensors: different.length,
    weight: largest(weights),
  };
}

/** What is trained. */
function trainings(engines: readonly Training["engine"][], pretrain: number, finetune: number) {
  return engines.flatMap((engine) =>
    ([["pretrain", pretrain], ["finetune", finetune]] as const).flatMap(([task, steps]) =>
      (engine === "tensorflow" ? [true, false] : [false]).map((compile) => ({
        engine,
        task,
        compile,
        steps: engine === "tensorflow" ? steps : Math.ceil(steps / 10),
      }))
    )
  );
}

/** `deno task bench same`. */
export async function benchSame(args: readonly string[]): Promise<void> {
  const given = readOptions(args, {
    against: "",
    engine: "tensorflow",
    steps: "200",
    "finetune-steps": "100",
    quick: false,
    json: false,
  });
  const engines = choices("engine", given.engine, ["tensorflow", "wasm", "cpu"]);
  const [pretrain, finetune] = (["steps", "finetune-steps"] as const).map((name) =>
    Math.ceil(count(name, given[name]) / (given.quick ? 10 : 1))
  ) as [number, number];
  const place = await Deno.makeTempDir({ prefix: "nepa-same-" }), rows = [];
  try {
    for (const training of trainings(engines, pretrain, finetune)) {
      const results: Trained[] = [];
      for (const folder of [given.against, HERE]) {
        const checkout = await Checkout.start(folder, place);
        results.push(await checkout.train(training).finally(() => checkout.stop()));
      }
      const [before, now] = results as [Trained, Trained], compared = apart(now, before);
      const tensors = new Set([...before.weights.keys(), ...now.weights.keys()]).size;
      rows.push({ ...training, tensors, lossLast: now.losses.at(-1)!, apart: compared });
      console.error(
        `${training.engine}, ${training.task}, ${training.compile ? "compiled" : "op by op"}: done`,
      );
    }
  } finally {
    await Deno.remove(place, { recursive: true });
  }
  const failed = rows.filter(({ apart }) => apart.losses + apart.tensors > 0).length;
  if (given.json) showJson(rows);
  else showTable(rows);
  console.log(`${rows.length - failed} passed, ${failed} failed`);
  if (failed > 0) Deno.exit(1);
}

function showTable(
  rows: readonly (Omit<Training, "weights"> & { tensors: number; lossLast: number; apart: Apart })[],
): void {
  const differ = (count: number, of: number, by: number) =>
    count === 0 ? `all ${of} the same` : `${count} of ${of} differ, by ${by.toExponential(1)} at most`;
  show(
    rows.map(({ engine, task, compile, steps, tensors, lossLast, apart }) => ({
      engine,
      task,
      step: compile ? "compiled" : "op by op",
      losses: differ(apart.losses, steps, apart.loss),
      tensors: differ(apart.tensors, tensors, apart.weight),
      "last loss": lossLast.toFixed(6),
    })),
    { title: "mini, this checkout and the other" },
  );
}
