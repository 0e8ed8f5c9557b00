/** What the learning bench's page says, in the reference's order. @module */
import { formatNumber } from "nepa";
import type { Probed } from "./cells.ts";
import { ablationFigure, bestBlock, labelsFigure, lossFigure, probeFigure } from "./figures.ts";
import type { Measured } from "./measure.ts";
import { type Book, type Row, rowOf, type Section } from "./page.ts";
import { type Budget, cellsOf, FINETUNING, type Frozens, type Plan, PRETRAINING } from "./plan.ts";
import { ABLATION, MINI, NANO, PIXELS, type Reference } from "./reference.ts";
import { LAYERS, lossRows, percent, probeRows, spreadRows, tunedRows } from "./rows.ts";
import type { Cell } from "./run.ts";

function recipe({ steps }: Budget): Section {
  const { batchSize, learningRate, weightDecay, betas, clipNorm } = PRETRAINING;
  return {
    title: "1. Recipe",
    cells: [],
    write: () => [
      "Images of 28×28 pixels, mirrored half of the time. `nano`: patches of 4×4 pixels; `mini`: 7×7. Both have 128 numbers a " +
      "token, 4 blocks of 4 heads, layer scale 1e-5. " +
      `AdamW (${
        betas.join(", ")
      }), weight decay ${weightDecay}, gradients clipped at norm ${clipNorm}, batches of ${batchSize}, ` +
      `learning rate up to ${learningRate} over a tenth of the steps, then down to 0 along a cosine. nano has ` +
      `${formatNumber(steps.nano)} steps, mini ${formatNumber(steps.mini)}.`,
      "Where the official code has more seeds than the reference's two or three, it was trained with them for this page " +
      "(`--peer torch`), and its weights are read as ours are.",
      "Features are the mean of the patch tokens. Linear probes: logistic regression on standardised features, fitted until the " +
      "objective is within 1e-4 nats of its minimum, the penalty chosen among 1e-3 … 1e-7 on training images held out for " +
      "that. Nearest neighbours: 20, weighted by exp(cosine / 0.07), not centred. Collapse: of patch embeddings z, outputs of the last " +
      "norm h and their means over an image, on 512 images.",
    ],
  };
}

function pretraining(plan: Plan): Section {
  const { nano, averaged, official } = plan, theirs = official.nano.map(({ measure }) => measure);
  const measures = nano.trained.map(({ measure }) => measure),
    fresh = plan.fresh.map(({ measure }) => measure);
  const spreads = (
    book: Book,
    cells: readonly Cell<Measured>[],
    reference: Record<"z" | "h" | "pooled", readonly Reference[]>,
    further: readonly Cell<Measured>[] = [],
  ) =>
    (["z", "h", "pooled"] as const).flatMap((part) =>
      spreadRows(part, book, cells, (m) => m[part], reference[part], further)
    );
  const trivial = [
    ["previousPatch", "the previous patch's z"],
    ["meanDirection", "the mean direction of all z"],
    ["meanDirectionPerPosition", "the mean direction at each position"],
  ] as const;
  return {
    title: "2. Pretraining: nano",
    cells: [
      ...[...nano.trained, ...official.nano].flatMap(({ pretrain, measure }) => [pretrain, measure]),
      ...fresh,
      averaged.measure,
    ],
    write: (book) => {
      const scales = measures.flatMap((cell) => book(cell)?.layerScale ?? []);
      return [
        [
          ...lossRows(book, nano, NANO.trained, official.nano),
          rowOf(
            book,
            "held-out loss of weights averaged with 0.99, seed 0",
            [averaged.measure],
            ({ loss }) => loss,
            {
              reference: NANO.averagedHeldOut,
              digits: 4,
              better: "less",
            },
          ),
          ...spreads(book, measures, NANO.trained, theirs),
        ],
        "Untrained:",
        [
          rowOf(
            book,
            "loss of the first step",
            nano.trained.map(({ pretrain }) => pretrain),
            (of) => of.lossFirst,
            {
              reference: NANO.untrained.lossFirst,
              digits: 3,
              better: "neither",
            },
          ),
          rowOf(book, "held-out loss, untrained", fresh, ({ loss }) => loss, {
            reference: NANO.untrained.heldOut,
            digits: 4,
            better: "neither",
          }),
          ...spreads(book, fresh, NANO.untrained).map((row) => ({ ...row, what: `${row.what}, untrained` })),
        ],
        "Mean cosine of trivial guesses with z, which the network's (the held-out loss without its sign) has to beat:",
        trivial.map(([key, what]) =>
          rowOf(book, what, measures, (m) => m.trivial[key], {
            reference: NANO.trivial[key],
            further: theirs,
            digits: 3,
            better: "neither",
          })
        ),
        scales.length > 0
          ? `The mean |layer scale| of a block lies between ${Math.min(...scales).toFixed(3)} and ${
            Math.max(...scales).toFixed(3)
          } after training (official code: 0.030 to 0.116), from 1e-5.`
          : "The layer scale after training: not run.",
        { name: "loss", alt: "Training loss of nano and mini", figure: lossFigure(book, plan) },
      ];
    },
  };
}

function frozen(plan: Plan): Section {
  const { nano, fresh, averaged, bidirectional, pixels } = plan,
    theirs = plan.official.nano,
    probes = nano.trained.map(({ probe }) => probe);
  const final = (what: string, book: Book, cells: readonly Cell<Probed>[], reference: Reference) =>
    rowOf(book, what, cells, ({ accuracy }) => percent(accuracy.final), { reference });
  type Near = typeof pixels;
  const near = (
    what: string,
    book: Book,
    cells: readonly Near[],
    reference: Reference,
    { layer = "final", further = [] }: { layer?: string; further?: readonly Near[] } = {},
  ) => rowOf(book, what, cells, (accuracy) => percent(accuracy[layer]), { reference, further });
  return {
    title: "3. Frozen features: nano",
    cells: [
      ...[...nano.trained, ...fresh, nano.untrained, averaged, ...bidirectional, ...theirs].flatMap((
        { probe, knn },
      ) => [probe, knn]),
      pixels,
    ],
    write: (book) => [
      "Linear probes, fitted to 60,000 images:",
      [
        ...probeRows("trained", book, probes, NANO.probe),
        ...probeRows(
          "bidirectional",
          book,
          bidirectional.map(({ probe }) => probe),
          NANO.bidirectional.probe,
          LAYERS,
          theirs.map(({ probe }) => probe),
        ),
        final("averaged weights, seed 0, final", book, [averaged.probe], NANO.averaged.probe),
        final(
          "untrained, layer scale 1e-5, final",
          book,
          fresh.map(({ probe }) => probe),
          NANO.untrainedFrozen.probe,
        ),
        final(
          "untrained, without layer scale, final",
          book,
          [nano.untrained.probe],
          NANO.untrainedNull.probe,
        ),
        rowOf(book, "raw pixels", [fresh[0]!.probe], ({ accuracy }) => percent(accuracy["raw pixels"]), {
          reference: PIXELS.probe,
        }),
      ],
      "Nearest neighbours, final features:",
      [
        near("trained", book, nano.trained.map(({ knn }) => knn), NANO.knn),
        near("bidirectional", book, bidirectional.map(({ knn }) => knn), NANO.bidirectional.knn, {
          further: theirs.map(({ knn }) => knn),
        }),
        near("averaged weights, seed 0", book, [averaged.knn], NANO.averaged.knn),
        near("untrained, layer scale 1e-5", book, fresh.map(({ knn }) => knn), NANO.untrainedFrozen.knn),
        near("untrained, without layer scale", book, [nano.untrained.knn], NANO.untrainedNull.knn),
        near("raw pixels", book, [pixels], PIXELS.knn, { layer: "pixels" }),
      ],
      "The network that is not trained is nearly the identity with layer scale 1e-5; the one without layer scale is the fairer line of " +
      "random features. The mean of the tokens loses where things are in the image, which pixels keep.",
      { name: "probe", alt: "Linear probe by layer", figure: probeFigure(book, plan) },
    ],
  };
}

function fewLabels(plan: Plan, { tunings, aside, allLabels }: Budget): Section {
  const { nano } = plan, { batchSize, learningRate, labelSmoothing } = FINETUNING;
  const steps = tunings.map(([labels, steps]) => `${steps} steps for ${formatNumber(labels)} labels`).join(
    ", ",
  );
  return {
    title: "4. Few labels: nano",
    cells: cellsOf([nano.trained.map(({ finetune }) => finetune), nano.scratch]),
    write: (book) => [
      `The whole network learns to classify, bidirectional: batches of ${batchSize}, learning rate up to ${learningRate} over a ` +
      `fifth of the steps, label smoothing ${labelSmoothing}; ${steps}, and for mini (part 6) ${
        formatNumber(allLabels)
      } ` +
      "for all labels but those put aside. Pretrained: the learning rate times 0.75 from each block to the one below it, for " +
      "nano with the official warm-up by layer. From scratch: layer scale 1e-5 or 0.1, whichever does better on " +
      `${
        formatNumber(aside)
      } training images put aside. Test images are read once. The official code from scratch: layer ` +
      "scale 1e-5; with 6,000 labels and a warm-up of one step it reached 80.39.",
      tunedRows(book, nano, NANO),
      { name: "labels", alt: "Accuracy by number of labels", figure: labelsFigure(book, plan) },
    ],
  };
}

function ablations(plan: Plan, { split, steps }: Budget): Section {
  const rows = (book: Book, name: string): Row[] => {
    const cells = plan.ablations[name]!,
      reference = ABLATION[name as keyof typeof ABLATION],
      spread = (part: "z" | "h", of: readonly Reference[]) =>
        spreadRows(`${name}: ${part}`, book, cells.map(({ measure }) => measure), (m) => m[part], of);
    const probes = cells.map(({ probe }) => probe), near = cells.map(({ knn }) => knn);
    const better = name === "full method" ? "more" : "neither";
    const accuracy = (
      key: "probe" | "best" | "knn",
    ) => ({ reference: reference[key], digits: 1, better } as const);
    return [
      rowOf(
        book,
        `${name}: loss, last 50 steps`,
        cells.map(({ pretrain }) => pretrain),
        ({ lossLast }) => lossLast,
        {
          reference: reference.lossLast,
          digits: 4,
          better: "neither",
        },
      ),
      ...spread("z", reference.z),
      ...spread("h", reference.h),
      rowOf(
        book,
        `${name}: probe, final`,
        probes,
        ({ accuracy }) => percent(accuracy.final),
        accuracy("probe"),
      ),
      rowOf(
        book,
        `${name}: probe, best block`,
        probes,
        ({ accuracy }) => bestBlock(accuracy),
        accuracy("best"),
      ),
      rowOf(book, `${name}: nearest neighbours, final`, near, ({ final }) => percent(final), accuracy("knn")),
    ];
  };
  return {
    title: "5. Ablations: nano",
    cells: cellsOf(plan.ablations),
    write: (book) => [
      `${steps.ablation} steps. Probes and neighbours have ${
        formatNumber(split.fit)
      } training images and are judged by ` +
      `${
        formatNumber(split.judged)
      } other training images, which the collapse meter reads too; the network without the causal mask is read without it.`,
      Object.keys(plan.ablations).flatMap((name) => rows(book, name)),
      {
        name: "ablations",
        alt: "Loss, spread and rank of the ablations",
        figure: ablationFigure(book, plan),
      },
    ],
  };
}

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
function miniSection({ mini, official }: Plan): Section {
  const { trained, untrained } = mini, theirs = official.mini;
  const measures = (cells: typeof theirs) => cells.map(({ measure }) => measure);
  const probes = (cells: typeof theirs) => cells.map(({ probe }) => probe);
  const reads = Object.keys(READ) as (keyof typeof READ)[], fresh = "untrained, without layer scale: ";
  return {
    title: "6. mini",
    cells: cellsOf([mini, theirs]),
    write: (book) => [
      [
        ...lossRows(book, mini, MINI.trained, theirs),
        ...spreadRows("z", book, measures(trained), ({ z }) => z, MINI.trained.z, measures(theirs)),
        ...[
          ...probeRows("probe", book, probes(trained), MINI.probe, LAYERS.slice(1), probes(theirs)),
          ...reads.map((key) => ({
            what: READ[key][0],
            found: valuesOf(trained, book, key),
            reference: MINI[key],
            further: valuesOf(theirs, book, key),
          })),
          ...tunedRows(book, mini, MINI),
          rowOf(book, `${fresh}probe, final`, [untrained.probe], ({ accuracy }) => percent(accuracy.final), {
            reference: MINI.untrainedNull.probe,
          }),
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

/** The page's sections; one more goes to the end. */
export function sectionsOf(plan: Plan, budget: Budget): Section[] {
  return [
    recipe(budget),
    pretraining(plan),
    frozen(plan),
    fewLabels(plan, budget),
    ablations(plan, budget),
    miniSection(plan),
  ];
}
