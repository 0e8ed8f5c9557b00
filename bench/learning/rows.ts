/** Rows of the learning bench's page that several sections have. @module */
import { type Collapse, formatNumber } from "nepa";
import type { Probed } from "./cells.ts";
import { tunedPoints } from "./figures.ts";
import type { Measured } from "./measure.ts";
import { type Book, type Row, rowOf } from "./page.ts";
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
  further: readonly Cell<Measured>[] = [],
): Row[] {
  const parts = [
    ["feature std", "featureStd", 3],
    ["effective rank", "effectiveRank", 2],
    ["mean cosine", "meanCosine", 3],
  ] as const;
  return parts.map(([name, key, digits], i) =>
    rowOf(book, `${what}: ${name}`, cells, (measured) => pick(measured)[key], {
      reference: reference[i],
      further,
      digits,
      better: "neither",
    })
  );
}

/** Accuracies of probes by layer. */
export function probeRows(
  what: string,
  book: Book,
  cells: readonly Cell<Probed>[],
  references: Readonly<Record<string, Reference>>,
  layers = LAYERS,
  further: readonly Cell<Probed>[] = [],
): Row[] {
  return layers.map((layer) =>
    rowOf(book, `${what}, ${layerName(layer)}`, cells, ({ accuracy }) => percent(accuracy[layer]), {
      reference: references[layer],
      further,
    })
  );
}

/** Training and held-out loss. */
export function lossRows(
  book: Book,
  { trained }: SizePlan,
  reference: { lossLast: Reference; heldOut: Reference },
  official: readonly Pick<Trained, "pretrain" | "measure">[],
): Row[] {
  const pretrain = (some: typeof official) => some.map(({ pretrain }) => pretrain);
  const measure = (some: typeof official) => some.map(({ measure }) => measure);
  return [
    rowOf(book, "training loss, mean of the last 50 steps", pretrain(trained), ({ lossLast }) => lossLast, {
      reference: reference.lossLast,
      further: pretrain(official),
      digits: 4,
      better: "less",
    }),
    rowOf(book, "held-out loss, 10,000 test images", measure(trained), ({ loss }) => loss, {
      reference: reference.heldOut,
      further: measure(official),
      digits: 4,
      better: "less",
    }),
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
