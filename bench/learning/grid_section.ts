/** What the learning bench's page says of the grid between NEPA and I-JEPA. @module */
import { formatNumber } from "nepa";
import type { ByLayer } from "./cells.ts";
import { type Gridded, type GridPlan, type GridSize, KINDS } from "./grid.ts";
import type { Features } from "./grid_read.ts";
import { bestLayer } from "./layers.ts";
import { type Book, found, meanOf, type Part, type Section, stdOf, table } from "./page.ts";
import { type Budget, cellsOf, type Plan, type Size } from "./plan.ts";
import { layerName, percent } from "./rows.ts";
import type { Cell } from "./run.ts";
import { STEPS } from "./search.ts";

/** "82.58 ± 0.24 (3)". */
function spread(values: readonly number[], digits = 2): string {
  if (values.length === 0) return "not run";
  const deviation = values.length > 1 ? ` ± ${stdOf(values).toFixed(digits)}` : "";
  return `${meanOf(values).toFixed(digits)}${deviation} (${values.length})`.replaceAll("-", "−");
}

/** The mean alone. */
const mean = (values: readonly number[], digits: number) =>
  values.length === 0 ? "" : meanOf(values).toFixed(digits).replaceAll("-", "−");

/** On the test images in percent, the block that does best on the training images that choose. */
export const chosen = (kind: "probe" | "knn") => ({ chosen, mean }: Features): number =>
  percent(mean[kind][bestLayer(chosen[kind])])!;

/** Those with a seed that was run. */
const run = <T extends Features>(book: Book, cells: Readonly<Record<string, readonly Cell<T>[]>>) =>
  Object.entries(cells).filter(([, seeds]) => seeds.some((cell) => book(cell)));

/** The rows of a table: every network that was read, trained or not. */
function rowsOf<T>(
  book: Book,
  { kinds, without, untrained }: GridSize,
  row: (title: string, cells: readonly Cell<Features>[]) => T,
): T[] {
  const fresh = {
    "untrained, NEPA's network without layer scale": untrained.causal,
    "untrained, I-JEPA's network": untrained.blocks,
  };
  return run<Features>(book, { ...fresh, ...kinds, ...without }).map(([title, cells]) => row(title, cells));
}

function trainingTable(book: Book, { kinds, without }: GridSize): string {
  const header = ["", "updates", "10¹² products", "seconds", "loss, first", "last", "targets: std", "rank"];
  return table(
    [...header, "cosine", "outputs: std", "rank", "pooled: std", "rank"],
    run(book, { ...kinds, ...without }).map(([title, cells]) => {
      const of = (pick: (result: Gridded) => number, digits: number) =>
        mean(found(book, cells, pick), digits);
      const [updates] = found(book, cells, ({ steps }) => steps);
      return [
        ...[title, formatNumber(updates!), of(({ flops }) => flops / 1e12, 1)],
        ...[of(({ seconds }) => seconds, 0), of((r) => r.lossFirst, 4)],
        spread(found(book, cells, ({ lossLast }) => lossLast), 4),
        ...[
          of((r) => r.targets.featureStd, 3),
          of((r) => r.targets.effectiveRank, 1),
          of((r) => r.targets.meanCosine, 3),
        ],
        ...[of((r) => r.tokens.featureStd, 3), of((r) => r.tokens.effectiveRank, 1)],
        ...[of((r) => r.pooled.featureStd, 3), of((r) => r.pooled.effectiveRank, 1)],
      ];
    }),
  );
}

const LAYERS = ["1", "2", "3", "4", "final"];

/** A row for each network of one kind of accuracy by layer. */
function layersTable(
  book: Book,
  grid: GridSize,
  layers: readonly string[],
  of: (result: Features) => ByLayer,
): string {
  return table(
    ["", ...layers.map(layerName)],
    rowsOf(book, grid, (title, cells) => [
      title,
      ...layers.map((layer) => spread(found(book, cells, (result) => percent(of(result)[layer])))),
    ]),
  );
}

function chosenTable(
  book: Book,
  grid: GridSize,
  pixels: readonly [number | undefined, number | undefined],
): string {
  const [probe, knn] = pixels.map((value) => value === undefined ? "not run" : value.toFixed(2));
  return table(["best block; 600 labels", "probe", "k-NN", "fine-tuned"], [
    ["raw pixels", probe!, knn!, ""],
    ...rowsOf(book, grid, (title, cells) => [
      ...[title, spread(found(book, cells, chosen("probe"))), spread(found(book, cells, chosen("knn")))],
      spread(found(book, cells, ({ tuned }) => percent(tuned))),
    ]),
  ]);
}

/** How far a kind's mean lies above its network's untrained, in points. */
function above(book: Book, grid: GridSize, title: string, kind: "probe" | "knn"): number | undefined {
  const below = found(book, grid.untrained[KINDS[title]!.pattern], chosen(kind));
  const values = found(book, grid.kinds[title]!, chosen(kind));
  return values.length && below.length ? meanOf(values) - meanOf(below) : undefined;
}

/** The bar that I-JEPA has to take. */
function bar(book: Book, grid: GridSize): string {
  const title = Object.keys(KINDS).find((title) => title.startsWith("I-JEPA"))!;
  const line = (what: string, kind: "probe" | "knn", aim: number) => {
    const points = above(book, grid, title, kind);
    if (points === undefined) return `- ${what}: not run.`;
    return `- ${what}: ${points.toFixed(2)} points; aimed at: ${aim}. ${
      points >= aim ? "Reached." : "Not reached."
    }`;
  };
  return [line("Linear probe", "probe", 5), line("k-NN, not centred", "knn", 3)].join("\n");
}

/** What the figures say of the claim that predicting embeddings is the key, not the pattern; nothing before all have one. */
function claim(book: Book, grid: GridSize): string {
  const value = (pattern: string, target: string, kind: "probe" | "knn") => {
    const [title] = Object.entries(KINDS).find(([, k]) => k.pattern === pattern && k.target === target)!;
    return above(book, grid, title, kind);
  };
  const gains = (kind: "probe" | "knn") =>
    ["causal", "blocks"].map((pattern) =>
      ["embeddings", "average", "pixels"].map((target) => value(pattern, target, kind))
    );
  const [probes, neighbours] = [gains("probe"), gains("knn")] as [number[][], number[][]];
  if ([...probes, ...neighbours].flat().some((x) => x === undefined)) {
    return "The grid is not complete: no conclusion yet.";
  }
  const sign = (x: number) => `${x < 0 ? "−" : "+"}${Math.abs(x).toFixed(1)}`;
  const toPixels = (of: number[][]) =>
    of.map((row) => sign(Math.max(row[0]!, row[1]!) - row[2]!)).join(" (causal) and ");
  const toBlocks = (of: number[][]) => [0, 1, 2].map((i) => sign(of[1]![i]! - of[0]![i]!)).join(", ");
  return `Above the same network untrained, the better of the two kinds of embeddings is ahead of pixels as targets by ` +
    `${toPixels(probes)} points (blocks) under the probe, and by ${
      toPixels(neighbours)
    } among neighbours. At the same targets ` +
    `(embeddings, averaged encoder, pixels), blocks are ahead of the causal pattern by ${
      toBlocks(probes)
    } points under the probe, ` +
    `${
      toBlocks(neighbours)
    } among neighbours. All this is of grey pictures of 28 × 28 pixels, networks of four blocks, minutes of ` +
    "training, and a recipe that was searched for in two of the six cells; what holds for photographs, it does not say.";
}

/** The grid of one size as a section. */
export function gridSection(
  title: string,
  size: Size,
  plan: GridPlan,
  all: Plan,
  { split, joined }: Budget,
): Section {
  const grid = plan[size];
  return {
    title,
    cells: cellsOf(grid),
    write(book): Part[] {
      if (!cellsOf(grid).some((cell) => book(cell))) {
        return ["Not run yet: `deno task bench learning --method grid`."];
      }
      const pixels = [book(all.fresh[0]!.probe)?.accuracy["raw pixels"], book(all.pixels)?.pixels] as const;
      const parts = [
        trainingTable(book, grid),
        `Linear probes and neighbours of the mean of the patches, on the test images, of the block that does best where ` +
        `${formatNumber(split.judged)} training images judge and ${
          formatNumber(split.fit)
        } are fitted to; the whole network fine-tuned on 600 labels:`,
        chosenTable(book, grid, [percent(pixels[0]), percent(pixels[1])]),
        "Linear probe, mean of the patches:",
        layersTable(book, grid, LAYERS, ({ mean }) => mean.probe),
        "k-NN, mean of the patches, not centred:",
        layersTable(book, grid, LAYERS, ({ mean }) => mean.knn),
        `Linear probe, all tokens joined, fitted to ${formatNumber(split.fit)} training images:`,
        layersTable(
          book,
          grid,
          joined,
          (result) => result.joined,
        ),
      ];
      if (size === "mini") return parts;
      return [
        "Both columns of the grid, each patch from those before it and blocks from a context, by three kinds of targets. Each " +
        `training has the floating-point operations of ${
          formatNumber(STEPS)
        } updates of NEPA, the pass that makes the targets counted. ` +
        "Causal: NEPA's network, by its default recipe. Blocks: I-JEPA's, by the recipe that the search found. Embeddings: of the " +
        "patch, without its position, no gradient into them, minus the cosine; averaged encoder: its last norm's output, normed, " +
        "smooth L1, causal with the same shift, and that encoder is what is read; pixels: a linear map, the patch's with mean 0 and " +
        "deviation 1, squared. Without predictor: the encoder is given a token for each patch of a block that it cannot see, each " +
        "block apart. Not averaged: the encoder's own output, no gradient into it.",
        ...parts,
        "I-JEPA above the same network untrained:",
        bar(book, grid),
        claim(book, grid),
      ];
    },
  };
}
