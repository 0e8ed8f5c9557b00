/** Rows of the learning bench's page that several sections have. @module */
import { type Collapse, formatNumber } from "nepa";
import type { Probed } from "./cells.ts";
import { tunedPoints } from "./figures.ts";
import type { Measured } from "./measure.ts";
import { type Book, found, type Row } from "./page.ts";
import type { SizePlan, Trained } from "./plan.ts";
import type { Reference } from "./reference.ts";
import type { Cell } from "./run.ts";

/** A network's layers from below. */
export const LAYERS = ["embedding", "1", "2", "3", "4", "final"],
  layerName = (layer: string) => /\d/.test(layer) ? `block ${layer}` : layer;

/** A share in percent. */
export const percent = (share: number | undefined) => share === undefined ? undefined : 100 * share;

/** Feature std, rank and cosine of what a measurement holds. */
export function spreadRows(
  what: string,
  book: Book,
  cells: readonly Cell<Measured>[],
  pick: (m: Measured) => Collapse,
  reference: readonly Reference[],
  official: readonly Cell<Measured>[] = [],
): Row[] {
  const parts = [["feature std", "featureStd", 3], ["effective rank", "effectiveRank", 2], [
    "mean cosine",
    "meanCosine",
    3,
  ]] as const;
  return parts.map(([name, key, digits], i) => ({
    what: `${what}: ${name}`,
    found: found(book, cells, (measured) => pick(measured)[key]),
    reference: reference[i],
    further: found(book, official, (measured) => pick(measured)[key]),
    digits,
    better: "neither",
  }));
}

/** Accuracies of probes by layer. */
export function probeRows(
  what: string,
  book: Book,
  cells: readonly Cell<Probed>[],
  references: Readonly<Record<string, Reference>>,
  layers = LAYERS,
  official: readonly Cell<Probed>[] = [],
): Row[] {
  return layers.map((layer) => {
    const of = ({ accuracy }: Probed) => percent(accuracy[layer]);
    return {
      what: `${what}, ${layerName(layer)}`,
      found: found(book, cells, of),
      reference: references[layer],
      further: found(book, official, of),
    };
  });
}

/** Training and held-out loss. */
export function lossRows(
  book: Book,
  { trained }: SizePlan,
  reference: { lossLast: Reference; heldOut: Reference },
  official: readonly Pick<Trained, "pretrain" | "measure">[],
): Row[] {
  const last = (some: typeof official) =>
    found(book, some.map(({ pretrain }) => pretrain), ({ lossLast }) => lossLast);
  const held = (some: typeof official) => found(book, some.map(({ measure }) => measure), ({ loss }) => loss);
  return [
    {
      what: "training loss, mean of the last 50 steps",
      found: last(trained),
      reference: reference.lossLast,
      further: last(official),
      digits: 4,
      better: "less",
    },
    {
      what: "held-out loss, 10,000 test images",
      found: held(trained),
      reference: reference.heldOut,
      further: held(official),
      digits: 4,
      better: "less",
    },
  ];
}

/** Fine-tuned and from scratch, by number of labels. */
export function tunedRows(
  book: Book,
  plan: SizePlan,
  reference: { finetune: Readonly<Record<number, Reference>>; scratch: Readonly<Record<number, Reference>> },
): Row[] {
  return tunedPoints(book, plan).flatMap(({ labels, finetune, scratch }): Row[] => {
    const many = `${formatNumber(labels)} labels`;
    return [
      { what: `${many}: pretrained`, found: finetune, reference: reference.finetune[labels] },
      { what: `${many}: from scratch`, found: scratch, reference: reference.scratch[labels] },
    ];
  });
}
