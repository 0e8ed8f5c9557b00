import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import { type Nepa, pretrain, type PretrainOptions, tf, useEngine } from "nepa";
import { type Gridded, KINDS, makeGridPlan, WITHOUT } from "../../bench/learning/grid.ts";
import { type Kind, type Made, makeKind } from "../../bench/learning/grid_methods.ts";
import type { Features } from "../../bench/learning/grid_read.ts";
import { gridSection } from "../../bench/learning/grid_section.ts";
import type { Book } from "../../bench/learning/page.ts";
import { cellsOf, makePlan, TRIAL, WHOLE } from "../../bench/learning/plan.ts";
import type { Cell } from "../../bench/learning/run.ts";
import { makeJepa, makeSearchPlan } from "../../bench/learning/search.ts";
import { searchSection } from "../../bench/learning/search_section.ts";
import { still } from "../support/objectives.ts";
import { noise } from "../support/tiny.ts";

await useEngine("cpu");

/** Both patterns' networks, of 4 by 4 patches. */
const sizes = { ...still, patchSize: 2 };
const { dropPathProb: _, posEmbedShift: _shift, posEmbedRescale: _rescale, ...encoder } = sizes;
const predictor = { predictorHiddenSize: 8, predictorNumHiddenLayers: 1, minKeep: 0 };
const networks = { causal: sizes, blocks: { network: { ...encoder, ...predictor }, patches: 0.5 } };
const made = (kind: Kind): Made => makeKind(kind, networks, 1);

/** What two updates leave as it was, the losses, and the meter's last reading. */
async function trained(kind: Kind): Promise<{ still: string[]; moved: boolean; losses: number[] }> {
  const one = made(kind), { model, objective, switches, encoder } = one;
  const before = new Map(
    [...model.parameters, ...encoder.parameters].map(([name, x]) => [name, x.dataSync().slice()]),
  );
  const same = ([name, x]: readonly [string, tf.Variable]) =>
    String(x.dataSync()) === String(before.get(name));
  const run = pretrain(model as Nepa, noise.subset(0.2), {
    ...{ steps: 2, batchSize: 8, compile: false, warmupRatio: 0, learningRate: 1e-2, ...switches },
    ...objective && { objective },
    groups: (name) => one.unused(name) ? { frozen: true } : {},
  } as PretrainOptions);
  await run.finish();
  const still = [...model.parameters].filter(same).map(([name]) => name);
  const moved = [...encoder.parameters].some((entry) => !same(entry));
  const losses = run.history.map(({ loss }) => loss);
  one.dispose();
  return { still: still.filter((name) => !name.endsWith("position_embeddings")), moved, losses };
}

Deno.test("every kind of the grid trains all that it has and leaves no tensors; without what prevents collapse it goes elsewhere", async () => {
  const tensors = tf.memory().numTensors, losses = new Map<string, number[]>();
  for (const [title, kind] of Object.entries({ ...KINDS, ...WITHOUT })) {
    const found = await trained(kind), lone = kind.without === "predictor";
    assertEquals(found.still.filter((name) => !(lone && name.startsWith("predictor."))), [], title);
    assertEquals(found.still.length > 0, lone, title);
    assert(found.moved && found.losses.every(Number.isFinite), title);
    losses.set(title, found.losses);
  }
  assertEquals(tf.memory().numTensors, tensors);
  for (
    const [whole, less] of [
      ["NEPA: causal, embeddings", "causal, embeddings, no stop-gradient"],
      ["causal, averaged encoder", "causal, encoder not averaged"],
      ["blocks, embeddings", "blocks, embeddings, no stop-gradient"],
      ["I-JEPA: blocks, averaged encoder", "blocks, encoder not averaged"],
    ]
  ) {
    const [first, second] = [0, 1].map((i) => losses.get(whole!)![i]! - losses.get(less!)![i]!);
    assertAlmostEquals(first!, 0, 1e-6, less);
    assert(Math.abs(second!) > 1e-6, less);
  }
});

Deno.test("the target's pass counts where there is one", () => {
  const flops = (pattern: Kind["pattern"], target: Kind["target"], without?: "predictor") => {
    const one = made({ pattern, target, ...without && { without } }), found = one.flops(8), { model } = one;
    const own = model.flops(8);
    one.dispose();
    return { found, own };
  };
  const nepa = flops("causal", "embeddings"), jepa = flops("blocks", "average");
  assertEquals(nepa.found, nepa.own);
  assertAlmostEquals(flops("causal", "average").found, nepa.own * 4 / 3, 1);
  assertEquals(jepa.found, jepa.own);
  const head = (tokens: number) => 3 * 2 * tokens * 16 * 4; // D 16, patches of 4 pixels
  assertEquals(flops("causal", "pixels").found, nepa.own + head(8 * 16));
  const whole = jepa.own - flops("blocks", "embeddings").found; // of 16 tokens through one block
  assertEquals(whole, 8 * (2 * 16 * 4 * 16 + 8 * 16 * 16 ** 2 + 4 * 16 * 16 * 16 + 4 * 16 ** 2 * 16));
  assert(flops("blocks", "average", "predictor").found > whole);
});

Deno.test("the patch embedding starts with the deviation that a try names, the rest as ever", () => {
  const [model, other] = [0.5, 0.02].map((patches) => makeJepa({ network: { preset: "nano" }, patches }, 0));
  const of = (from: typeof model, name: string) =>
    from!.context.parameters.get(`ijepa.${name}`)!.dataSync<"float32">();
  const name = "embeddings.patch_embeddings.projection.weight",
    block = "encoder.layer.0.intermediate.dense.weight";
  const values = of(model, name), square = values.reduce((sum, x) => sum + x * x, 0) / values.length;
  assertAlmostEquals(Math.sqrt(square), 0.5, 0.02);
  assertEquals(of(model, block), of(other, block));
  for (const one of [model, other]) one!.dispose();
});

/** Features whose block 2 does best on the images that choose, and block 3 on the test images. */
function features(probe: number, knn: number): Features {
  const by = (best: string, value: number) => ({
    "1": 0.1,
    "2": 0.2,
    "3": 0.2,
    "4": 0.1,
    final: 0.1,
    [best]: value,
  });
  const read = (best: string) => ({ probe: by(best, 0.9), knn: by(best, 0.9) });
  const mean = { probe: { ...by("3", 0.95), "2": probe }, knn: { ...by("3", 0.95), "2": knn } };
  const spread = { featureStd: 1, effectiveRank: 9, meanCosine: 0, collapsed: false };
  return { chosen: read("2"), mean, joined: { final: 0.5 }, tuned: 0.6, tokens: spread, pooled: spread };
}

Deno.test("the grid's section reads the block that held-out images choose, and says whether the bar is taken", () => {
  const grid = makeGridPlan(WHOLE), all = makePlan(WHOLE, 1), { kinds, untrained } = grid.nano;
  const results = new Map<Cell, Features>();
  for (const cell of untrained.blocks) results.set(cell, features(0.8, 0.5));
  const trained = (probe: number, knn: number): Gridded => ({
    ...{ ...features(probe, knn), steps: 5600, seconds: 900, flops: 7e13, lossFirst: 0.4, lossLast: 0.1 },
    ...{ curve: { step: [], loss: [] }, targets: { featureStd: 0.5, effectiveRank: 4, meanCosine: 0.3 } },
  });
  const jepa = kinds["I-JEPA: blocks, averaged encoder"]!;
  jepa.forEach((cell, seed) => results.set(cell, trained(0.84 + seed / 100, 0.52)));
  const book: Book = <T>(cell: Cell<T> | undefined) => cell && results.get(cell) as T | undefined;
  const page = gridSection("9", "nano", grid, all, WHOLE).write(book).join("\n");
  assert(page.includes("- Linear probe: 5.00 points; aimed at: 5. Reached."), page);
  assert(page.includes("- k-NN, not centred: 2.00 points; aimed at: 3. Not reached."), page);
  assert(page.includes("| I-JEPA: blocks, averaged encoder | 85.00 ± 1.00 (3) | 52.00 ± 0.00 (3) |"), page);
  assert(page.includes("no conclusion yet"), page);
  for (const cell of [...Object.values(kinds).flat(), ...untrained.causal]) {
    if (!results.has(cell)) results.set(cell, trained(0.82, 0.51));
  }
  const whole = gridSection("9", "nano", grid, all, WHOLE).write(book).join("\n");
  assert(
    whole.includes("ahead of pixels as targets by +0.0 (causal) and +3.0 points (blocks) under the probe"),
    whole,
  );
});

Deno.test("every cell of search and grid has a name of its own and a section, and a search of at most 24 tries", () => {
  for (const budget of [WHOLE, TRIAL]) {
    const search = makeSearchPlan(budget), grid = makeGridPlan(budget), all = makePlan(budget, 1);
    const sections = [
      searchSection(search, budget),
      gridSection("", "nano", grid, all, budget),
      gridSection("", "mini", grid, all, budget),
    ];
    const cells = cellsOf({ search, grid }), told = new Set(sections.flatMap(({ cells }) => cells));
    assertEquals(cells.filter((cell) => !told.has(cell)).map(({ name }) => name), []);
    assertEquals(new Set(cells.map(({ name }) => name)).size, cells.length);
    assert(Object.keys(search.tried).length <= 24);
    assertEquals(
      sections.flatMap(({ write }) => write(() => undefined)).filter((part) => typeof part !== "string"),
      [],
    );
  }
});
