/** Rows of the learning bench's page that several sections have. @module */
import { type Collapse, formatNumber } from "nepa";
import type { Probed } from "./learning_cells.ts";
import { tunedPoints } from "./learning_figures.ts";
import type { Measured } from "./learning_measure.ts";
import { type Book, found, type Row } from "./learning_page.ts";
import type { SizePlan } from "./learning_plan.ts";
import type { Reference } from "./learning_reference.ts";
import type { Cell } from "./learning_run.ts";

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
): Row[] {
  return layers.map((layer) => ({
    what: `${what}, ${layerName(layer)}`,
    found: found(book, cells, ({ accuracy }) => percent(accuracy[layer])),
    reference: references[layer],
  }));
}

/** Training and held-out loss. */
export function lossRows(
  book: Book,
  { trained }: SizePlan,
  reference: { lossLast: Reference; heldOut: Reference },
): Row[] {
  const pretrains = trained.map(({ pretrain }) => pretrain), measures = trained.map(({ measure }) => measure);
  return [
    {
      what: "training loss, mean of the last 50 steps",
      found: found(book, pretrains, ({ lossLast }) => lossLast),
      reference: reference.lossLast,
      digits: 4,
      better: "less",
    },
    {
      what: "held-out loss, 10,000 test images",
      found: found(book, measures, ({ loss }) => loss),
      reference: reference.heldOut,
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
