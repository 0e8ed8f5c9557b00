/** What the learning bench's page says of `recipe: "standardized"`. @module */
import { bestOf, type Book, found, meanOf, noiseOf, type Section, stdOf, table } from "./page.ts";
import { type Budget, cellsOf, PRETRAINING } from "./plan.ts";
import type { Cell } from "./run.ts";
import {
  type Arm,
  CROPPED,
  type Frozen,
  MEAN_READ,
  MEAN_TUNED,
  type SmallPlan,
  type Tuned,
  TUNINGS,
  WAYS,
  WHOLE,
} from "./small.ts";

const percent = (values: readonly number[]) =>
  values.length === 0
    ? "not run"
    : `${(100 * meanOf(values)).toFixed(2)}${
      values.length > 1 ? ` ± ${(100 * stdOf(values)).toFixed(2)}` : ""
    } (${values.length})`;

/** For each seed the way, with crops or without, that did best on the images put aside, where all were run. */
function bestScratch(book: Book, { scratch }: SmallPlan, crops: boolean): Tuned[] {
  const ways = Object.entries(scratch).filter(([title]) => title.includes("crops") === crops).map((
    [, cells],
  ) => cells);
  return ways[0]!.flatMap((_, seed) => bestOf(book, ways.map((cells) => cells[seed])) ?? []);
}

function frozenRow(book: Book, title: string, cells: readonly Cell<Frozen>[]): string[] {
  const of = (pick: (result: Frozen) => number) => percent(found(book, cells, pick));
  return [title, of(({ probe }) => probe), of(({ knn }) => knn), of(({ centred }) => centred)];
}

function frozenTable(book: Book, plan: SmallPlan): string {
  const row = (title: string, cells: readonly Cell<Frozen>[]) => frozenRow(book, title, cells);
  const arm = (name: string, { frozen }: Arm) =>
    Object.entries(frozen).map(([title, cells]) => row(`${name}: ${title}`, cells));
  return table(["frozen features", "linear probe", "k-NN", "k-NN, centred"], [
    row("raw pixels", [plan.pixels]),
    row("untrained, layer scale null: block 3, all tokens", [plan.untrained]),
    ...arm("recipe standardized", plan.small),
    ...arm("recipe standardized, peak 6e-3", plan.higher),
    ...arm("recipe default", plan.plain),
  ]);
}

/** A tuning's title with the recipe's name of today. */
const shown = (title: string) => title.replace("recipe small", "recipe fitted-head");

function tunedTable(book: Book, plan: SmallPlan): string {
  const row = (title: string, results: readonly Tuned[], before: boolean) => [
    title,
    before ? percent(results.map(({ before }) => before)) : "",
    percent(results.map(({ accuracy }) => accuracy)),
  ];
  const of = (cells: readonly Cell<Tuned>[]) => cells.flatMap((cell) => book(cell) ?? []);
  const arm = (name: string, { tuned }: Arm) =>
    Object.entries(tuned).map(([title, cells]) =>
      row(`${name}: ${shown(title)}`, of(cells), TUNINGS[title]!.fitted)
    );
  return table(["600 labels", "fitted head alone", "fine-tuned"], [
    ...arm("pretrained, recipe standardized", plan.small),
    ...arm("pretrained, recipe standardized, peak 6e-3", plan.higher),
    ...arm("pretrained, recipe default", plan.plain),
    ...Object.entries(plan.scratch).map(([title, cells]) =>
      row(`from scratch: ${title}`, of(cells), WAYS[title]!.tuning.fitted)
    ),
    row(
      "from scratch, without crops: for each seed the best on the images put aside",
      bestScratch(book, plan, false),
      false,
    ),
  ]);
}

/** How far one mean lies above another, in points, beside what was aimed at. */
function gain(what: string, above: readonly number[], below: readonly number[], aim: number): string {
  if (above.length === 0 || below.length === 0) return `- ${what}: not run.`;
  const points = 100 * (meanOf(above) - meanOf(below));
  return `- ${what}: ${points.toFixed(2)} points; aimed at: ${aim}. ${
    points >= aim ? "Reached." : "Not reached."
  }`;
}

/** How far the recipe's mean lies above the default one's, in points, beside twice the standard error of that. */
function above(what: string, one: readonly number[], other: readonly number[]): string {
  if (one.length === 0 || other.length === 0 || one.length + other.length < 3) return `- ${what}: not run.`;
  const of = (values: readonly number[]) => ({ std: stdOf(values), seeds: values.length });
  const points = 100 * (meanOf(one) - meanOf(other)), noise = 100 * noiseOf(of(one), of(other));
  return `- ${what}: ${points.toFixed(2)} points, noise ${noise.toFixed(2)}.`;
}

/** The recipe against the default one. */
function versus(book: Book, { small, plain }: SmallPlan): string {
  const line = (what: string, of: (arm: Arm) => number[]) => above(what, of(small), of(plain));
  const frozen = (title: string, what: string, key: "probe" | "knn") =>
    line(`${what}, ${title}`, (arm) => found(book, arm.frozen[title]!, (result) => result[key]));
  return [
    ...[WHOLE, MEAN_READ].flatMap((title) => [
      frozen(title, "Linear probe", "probe"),
      frozen(title, "k-NN", "knn"),
    ]),
    ...["recipe small", CROPPED, MEAN_TUNED].map((title) =>
      line(`600 labels, ${shown(title)}`, (arm) => found(book, arm.tuned[title]!, ({ accuracy }) => accuracy))
    ),
  ].join("\n");
}

/** What was aimed at. */
function aims(book: Book, plan: SmallPlan): string {
  const { small, pixels } = plan, joined = small.frozen[WHOLE]!;
  const of = (cells: readonly Cell<Frozen>[], key: "probe" | "knn" | "centred") =>
    found(book, cells, (result) => result[key]);
  const tuned = (title: string) => found(book, small.tuned[title]!, ({ accuracy }) => accuracy);
  const scratch = (crops: boolean) => bestScratch(book, plan, crops).map(({ accuracy }) => accuracy);
  return [
    gain("Linear probe above raw pixels under the same probe", of(joined, "probe"), of([pixels], "probe"), 3),
    gain("k-NN, centred, above raw pixels not centred", of(joined, "centred"), of([pixels], "knn"), 0),
    gain("k-NN, centred, above raw pixels centred", of(joined, "centred"), of([pixels], "centred"), 0),
    gain("Fine-tuned above the best from scratch, 600 labels", tuned("recipe small"), scratch(false), 8),
    gain("The same, both with crops", tuned(CROPPED), scratch(true), 8),
  ].join("\n");
}

/** The section on `recipe: "standardized"`. */
export function smallSection(plan: SmallPlan, { aside }: Budget): Section {
  const { tried, triedPixels } = plan;
  return {
    title: '7. Beyond it: recipe "standardized", with mini',
    cells: cellsOf(plan),
    write: (book) => [
      `Pretraining: \`recipe: "standardized"\`, the default with standardised targets and 4,800 steps, five minutes on two quiet cores; beside ` +
      `it the default recipe with ${PRETRAINING.learningRate} and 5,000 steps (part 6). Features: all 17 tokens after block 3 joined, so that ` +
      "position counts as it does in pixels, or the mean of the patches. One penalty for all, chosen among 1e-1 … 1e-4 on " +
      "training images held out; neighbours: 20, cosine / 0.07.",
      frozenTable(book, plan),
      "Fine-tuning with 600 labels: `NepaClassifier.from` reads all tokens after block 3, `fitHead` fits the head, then " +
      '`finetune` with `recipe: "fitted-head"`: the default one with a learning rate up to 1e-3. From scratch, the same network, head and recipe, and the default one, in several ways; ' +
      `${aside.toLocaleString("en-US")} training images put aside choose among them.`,
      tunedTable(book, plan),
      "Pretraining by recipe standardized above that by the default one, read or tuned alike; noise is twice the standard error of the difference:",
      versus(book, plan),
      "What was tried, at equal time, one seed: shorter trainings, judged by 5,000 training images with 10,000 others to fit to, so " +
      "that the test images decide nothing. All tokens of block 3 of 4, 2 of 3 or 4 of 6. The patch below is four positions ahead.",
      table(["tried", "linear probe", "k-NN", "k-NN, centred"], [
        frozenRow(book, "raw pixels", [triedPixels]),
        ...Object.entries(tried).map(([title, cell]) =>
          frozenRow(book, title.replace("recipe small", "recipe standardized"), [cell])
        ),
      ]),
      "What recipe standardized was to reach:",
      aims(book, plan),
    ],
  };
}
