/**
 * Prints how far this toolkit's numbers lie from the official PyTorch code's, as a Markdown table: the worst difference
 * of each quantity over all fixtures, for each engine.
 *
 *     deno task bench parity [--way wasm] [--json] [--peer torch --official CHECKOUT [--python PYTHON]]
 *     deno task bench parity --fixture FOLDER [--engine tensorflow] [--way "tensorflow, compiled"] [--json]
 *
 * With a fixture that folder alone is measured, as the `kind` in its `expect.json` says, with how many tensors were compared:
 * on tensorflow compiled and op by op. A kind that is not known ends with 2.
 *
 * With a peer the official code trains beside `pretrain` instead, from the same weights on the same images with the same random
 * numbers: what is printed is how far the two drift apart in 20 updates, from the first of a schedule to its last.
 */
import { resolve } from "node:path";
import type { Engine } from "nepa";
import { follow } from "./follow.ts";
import { choices, readOptions, show, showJson } from "./common.ts";
import { OptionError } from "./options.ts";
import { fixtures, kinds, type Measure, ways } from "../tests/support/parity.ts";

/** `deno task bench parity`. */
export async function benchParity(args: readonly string[]): Promise<void> {
  const given = readOptions(args, {
    way: "",
    fixture: "",
    engine: "",
    json: false,
    peer: "",
    official: "",
    python: "",
  });
  if (given.peer) {
    choices("peer", given.peer, ["torch"]);
    const rows = await follow(given);
    return given.json ? showJson(rows) : show(rows, {
      title: "mini, 64 images an update: drift over 20 updates beside the official code",
      format: {
        "loss apart": (value) => value.toExponential(1),
        "weights apart": (value) => value.toExponential(1),
      },
    });
  }
  const names = ways.map(({ name }) => name),
    measured = given.fixture ? await ofFolder(given.fixture) : [...fixtures.values()];
  if (given.engine) choices("engine", given.engine, [...new Set(names.map((name) => name.split(",")[0]!))]);
  const chosen = ways.filter(({ name }) =>
    (!given.way || name === given.way) && name.startsWith(given.engine) &&
    (given.way || !given.fixture || name !== "tensorflow, graph")
  );
  if (chosen.length === 0) {
    throw new OptionError(`--way: expected one of ${names.join("; ")}, of the engine, got "${given.way}"`);
  }
  const columns: { name: string; measures: Measure[] }[] = [];
  for (const { name, open, missing } of chosen) {
    if (missing) {
      console.error(`${name} is left out: ${missing}`);
      continue;
    }
    const compile = await open();
    const measures: Measure[] = [];
    for (const measure of measured) measures.push(...await measure(compile));
    columns.push({ name, measures });
  }
  if (given.json) {
    showJson(columns.flatMap(({ name, measures }) => measures.map((m) => ({ way: name, ...m }))));
  } else showTable(columns);
  if (given.fixture && !given.json) {
    for (const { name, measures } of columns) console.log(`${name}: ${measures.length} tensors compared`);
  }
  if (columns.some(({ measures }) => measures.some((m) => !(m.difference <= m.tolerance)))) Deno.exit(1);
}

/** What measures a folder in the fixtures' format. */
async function ofFolder(fixture: string): Promise<((compile: Engine["compile"]) => Promise<Measure[]>)[]> {
  const folder = resolve(fixture), file = `${folder}/expect.json`;
  const text = await Deno.readTextFile(file).catch(() => undefined);
  if (text === undefined) {
    throw new OptionError(`--fixture: expected a folder with expect.json, got "${fixture}"`);
  }
  const { kind } = JSON.parse(text) as { kind?: string }, known = Object.keys(kinds);
  const measure = kind !== undefined && Object.hasOwn(kinds, kind) ? kinds[kind] : undefined;
  if (!measure) {
    throw new OptionError(
      `--fixture: ${file}: expected a kind of ${known.join(", ")}, got ${JSON.stringify(kind)}`,
    );
  }
  return [(compile) => measure(folder, compile)];
}

function showTable(columns: readonly { name: string; measures: readonly Measure[] }[]): void {
  const quantities = [
    ...new Set(columns.flatMap(({ measures }) => measures.map(({ quantity }) => quantity))),
  ];
  console.log(`| quantity | tolerance | ${columns.map(({ name }) => name).join(" | ")} |`);
  console.log(`| --- | --- |${" --- |".repeat(columns.length)}`);
  for (const quantity of quantities) {
    const cells = columns.map(({ measures }) => {
      const { difference, tolerance, fixture } = measures.filter((m) => m.quantity === quantity)
        .reduce((a, b) => (b.difference <= a.difference ? a : b));
      return `${difference.toExponential(1)} (${fixture})${difference <= tolerance ? "" : " **too far**"}`;
    });
    const tolerance = columns[0]!.measures.filter((m) => m.quantity === quantity).map((m) => m.tolerance);
    console.log(`| ${quantity} | ${Math.max(...tolerance).toExponential(0)} | ${cells.join(" | ")} |`);
  }
}
