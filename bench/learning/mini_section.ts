/** What the learning bench's page says of mini. @module */
import { bestBlock } from "./figures.ts";
import { type Book, found, type Row, type Section } from "./page.ts";
import { cellsOf, type Frozens, type Plan } from "./plan.ts";
import { MINI } from "./reference.ts";
import { LAYERS, lossRows, percent, probeRows, spreadRows, tunedRows } from "./rows.ts";

/** Accuracies of frozen features, as rows of their own are shown. */
const READ = {
  best: ["probe, best block", ({ probe }: Frozens, book: Book) => {
    const accuracy = book(probe)?.accuracy;
    return accuracy && bestBlock(accuracy);
  }],
  knn: [
    "nearest neighbours, final",
    ({ knn }: Frozens, book: Book) => percent(book(knn)?.final),
  ],
  bestKnn: ["nearest neighbours, best block", ({ knn }: Frozens, book: Book) => {
    const accuracy = book(knn);
    return accuracy && bestBlock(accuracy);
  }],
} as const;

const valuesOf = (cells: readonly Frozens[], book: Book, key: keyof typeof READ) =>
  cells.flatMap((cell) => READ[key][1](cell, book) ?? []);

/** The section on mini. */
export function miniSection({ mini, official }: Plan): Section {
  const { trained, untrained } = mini, theirs = official.mini;
  const measures = (cells: typeof theirs) => cells.map(({ measure }) => measure);
  const probes = (cells: typeof theirs) => cells.map(({ probe }) => probe);
  const reads = Object.keys(READ) as (keyof typeof READ)[], fresh = "untrained, without layer scale: ";
  return {
    title: "6. mini",
    cells: cellsOf([mini, theirs]),
    write: (book) => [
      [
        ...lossRows(book, mini, MINI, theirs),
        ...spreadRows("z", book, measures(trained), ({ z }) => z, MINI.z, measures(theirs)),
        ...[
          ...probeRows("probe", book, probes(trained), MINI.probe, LAYERS.slice(1), probes(theirs)),
          ...reads.map((key) => ({
            what: READ[key][0],
            found: valuesOf(trained, book, key),
            reference: MINI[key],
            further: valuesOf(theirs, book, key),
          })),
          ...tunedRows(book, mini, MINI),
          {
            what: `${fresh}probe, final`,
            found: found(book, [untrained.probe], ({ accuracy }) => percent(accuracy.final)),
            reference: MINI.untrainedNull.probe,
          },
          ...(["best", "knn"] as const).map((key) => ({
            what: fresh + READ[key][0],
            found: valuesOf([untrained], book, key),
            reference: MINI.untrainedNull[key],
          })),
        ].map((row): Row => ({ ...row, digits: 1 })),
      ],
      "The best block is the one that does best on the test images, as in the reference.",
    ],
  };
}
