/** What the learning bench's page says of mini. @module */
import { bestBlock } from "./learning_figures.ts";
import { type Book, found, type Row, type Section } from "./learning_page.ts";
import { cellsOf, type Frozens, type Plan } from "./learning_plan.ts";
import { MINI, type Reference, withSeeds } from "./learning_reference.ts";
import { LAYERS, lossRows, percent, probeRows, spreadRows, tunedRows } from "./learning_rows.ts";

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

/** The reference with the seeds that the official code was trained with for this page. */
function reference(book: Book, official: Plan["official"]): typeof MINI {
  const measures = official.map(({ measure }) => measure), probes = official.map(({ probe }) => probe);
  const spread = ["featureStd", "effectiveRank", "meanCosine"] as const;
  const layers = Object.entries(MINI.probe).map(([layer, figure]): [string, Reference] => [
    layer,
    withSeeds(figure, found(book, probes, ({ accuracy }) => percent(accuracy[layer]))),
  ]);
  const read = (key: keyof typeof READ) => withSeeds(MINI[key], valuesOf(official, book, key));
  return {
    ...MINI,
    lossLast: withSeeds(
      MINI.lossLast,
      found(book, official.map(({ pretrain }) => pretrain), ({ lossLast }) => lossLast),
    ),
    heldOut: withSeeds(MINI.heldOut, found(book, measures, ({ loss }) => loss)),
    z: spread.map((key, i) => withSeeds(MINI.z[i]!, found(book, measures, ({ z }) => z[key]))),
    probe: Object.fromEntries(layers),
    best: read("best"),
    knn: read("knn"),
    bestKnn: read("bestKnn"),
  };
}

/** The section on mini. */
export function miniSection({ mini, official }: Plan): Section {
  const { trained, untrained } = mini, probes = trained.map(({ probe }) => probe);
  return {
    title: "6. mini",
    cells: cellsOf([mini, official]),
    write: (book) => {
      const theirs = reference(book, official), reads = Object.keys(READ) as (keyof typeof READ)[];
      const row = (
        key: keyof typeof READ,
        cells: readonly Frozens[],
        what: string,
        figure: Reference,
      ) => ({
        what: what + READ[key][0],
        found: valuesOf(cells, book, key),
        reference: figure,
      });
      const fresh = "untrained, without layer scale: ";
      return [
        [
          ...lossRows(book, mini, theirs),
          ...spreadRows("z", book, trained.map(({ measure }) => measure), ({ z }) => z, theirs.z),
          ...[
            ...probeRows("probe", book, probes, theirs.probe, LAYERS.slice(1)),
            ...reads.map((key) => row(key, trained, "", theirs[key])),
            ...tunedRows(book, mini, theirs),
            {
              what: `${fresh}probe, final`,
              found: found(book, [untrained.probe], ({ accuracy }) => percent(accuracy.final)),
              reference: MINI.untrainedNull.probe,
            },
            row("best", [untrained], fresh, MINI.untrainedNull.best),
            row("knn", [untrained], fresh, MINI.untrainedNull.knn),
          ].map((row): Row => ({ ...row, digits: 1 })),
        ],
        "The best block is the one that does best on the test images, as in the reference. To the reference's two seeds of frozen " +
        "features and losses come those that the official code was trained with for this page (`--peer torch`); they are " +
        "read as ours are.",
      ];
    },
  };
}
