/** What the learning bench's page says of the search for I-JEPA's default recipe. @module */
import { formatNumber } from "nepa";
import { bestLayer, type Read } from "./layers.ts";
import { type Section, table } from "./page.ts";
import { type Budget, cellsOf } from "./plan.ts";
import { layerName, percent } from "./rows.ts";
import { CHOSEN_TITLE, jepaOf, type SearchPlan, STEPS, type Tried } from "./search.ts";

const shown = (share: number | undefined) => percent(share)?.toFixed(2) ?? "not run";

/** A number that early results do not have. */
const fixed = (value: number | undefined, digits: number) => value?.toFixed(digits) ?? "";

/** The layer whose probe does best, that probe, and the best neighbours of a layer. */
function readRow(read: Read | undefined): string[] {
  if (!read) return ["not run", "", ""];
  const [probe, knn] = [bestLayer(read.probe), bestLayer(read.knn)];
  const of = (layer: string, value: number | undefined) =>
    layer === "pixels" ? shown(value) : `${shown(value)} (${layerName(layer)})`;
  return [of(probe, read.probe[probe]), of(knn, read.knn[knn]), shown(read.knn.final)];
}

function triedRow(title: string, result: Tried | undefined): string[] {
  const name = title === CHOSEN_TITLE ? `**${title}**` : title;
  if (!result) return [name, ...Array(6).fill(""), "not run", "", ""];
  const { steps, seconds, lossLast, featureStd, effectiveRank, place } = result;
  return [
    ...[name, formatNumber(steps), seconds === undefined ? "" : seconds.toFixed(0), fixed(lossLast, 4)],
    ...[
      fixed(featureStd, 3),
      fixed(effectiveRank, 1),
      place ? place.map((x) => x.toFixed(3)).join(" → ") : "",
    ],
    ...readRow(result),
  ];
}

/** The section on what was tried. */
export function searchSection(plan: SearchPlan, { split }: Budget): Section {
  const { pixels, untrained, tried } = plan,
    fit = formatNumber(split.fit),
    judged = formatNumber(split.judged);
  const none = Array(6).fill("");
  return {
    title: "8. I-JEPA with nano: what was tried",
    cells: cellsOf(plan),
    write: (book) => [
      `The recipe for small data was searched for as NEPA's was: each long try has a third, each short one a twelfth, of the floating-point operations of ` +
      `${
        formatNumber(STEPS)
      } updates of NEPA's nano, the target encoder's pass counted, seed 0; ${judged} training images judge, ` +
      `${fit} others are fitted to, so that the test images decide nothing. Features: the mean of the patches, from the target ` +
      "encoder. Successive: short tries change one thing or two of what did best, long ones try what is better there; all tries are here. `deno task bench " +
      "learning --method search` runs what is missing. In brackets the layer that does best. Std and rank: of the targets, as " +
      "the collapse meter has them. Place: the mean cosine between a target and the mean of those at its place in other images, " +
      "at first and at the end: near 1, the position alone says what is asked for, and nothing is learned from the image. So it " +
      `is where the patch embedding starts with the deviation ${
        jepaOf(Object.keys(tried)[0]!).patches
      } of the public code, whose ` +
      "patches have 768 numbers: 16 of them add up to little beside the table of positions. Wide: all weights start as far from 0 as " +
      "the public ones do, by how many numbers they add up.",
      table(
        ["tried", "updates", "seconds", "loss", "std", "rank", "place", "probe", "k-NN", "k-NN, final"],
        [
          ["raw pixels", ...none, ...readRow(book(pixels))],
          ...Object.entries(untrained).map(([patches, cell]) => [
            ...[`untrained, patch embedding drawn with ${patches}`, ...none],
            ...readRow(book(cell)),
          ]),
          ...Object.entries(tried).map(([title, cell]) => triedRow(title, book(cell))),
        ],
      ),
      "Bold: what the grid trains by for now; the search is not decided.",
    ],
  };
}
