/** How the model sees an image: cut into patches, and which may see which. @module */
import type * as tf from "@tensorflow/tfjs";
import type { Image } from "../data/dataset.ts";
import { Figure, palette } from "../display/figure.ts";
import { imageGrid } from "../display/pictures.ts";
import { expect, expectKinds, expectNamed, image as isImage } from "../base/check.ts";
import { copyPatch, outline } from "./grid.ts";

/** Rows and columns of patches; refuses a size that does not divide the image's. */
function gridOf(where: string, { height, width }: Image, patchSize: number) {
  const rows = height / patchSize, columns = width / patchSize;
  const divides = Number.isInteger(rows) && Number.isInteger(columns) && patchSize >= 1;
  expect(divides, where, `a patch size that divides ${height} x ${width} pixels`, patchSize);
  return { columns, count: rows * columns };
}

/** The patches moved apart by `gap` white pixels. */
function apart(image: Image, patch: number, gap: number): Image {
  const { channels } = image, rows = image.height / patch, columns = image.width / patch;
  const height = image.height + (rows - 1) * gap, width = image.width + (columns - 1) * gap;
  const data = new Uint8Array(height * width * channels).fill(255);
  for (let y = 0; y < image.height; y++) {
    for (let x = 0; x < image.width; x += patch) { // a patch's row of pixels at once
      const from = (y * image.width + x) * channels;
      const to = ((y + Math.floor(y / patch) * gap) * width + x + x / patch * gap) * channels;
      data.set(image.data.subarray(from, from + patch * channels), to);
    }
  }
  return { data, height, width, channels };
}

/**
 * An image beside its patches, numbered in the order in which the model reads them: row by row from the top.
 *
 * @param patchSize Height and width of a patch in pixels; must divide the image's.
 * @throws {RangeError} If it does not.
 *
 * @example
 * ```ts
 * import { plotPatches } from "nepa";
 *
 * const ramp = { data: Uint8Array.from({ length: 64 }, (_, i) => 4 * i), height: 8, width: 8, channels: 1 };
 * await plotPatches(ramp, 4).svg(); // four patches
 * ```
 */
export function plotPatches(image: Image, patchSize: number): Figure {
  expectNamed("plotPatches", { image });
  const { columns, count } = gridOf("plotPatches", image, patchSize);
  const { height, width } = image, gap = Math.max(1, Math.round(patchSize / 5));
  const marks = Array.from({ length: count }, (_, i) => ({
    ...outline(i, columns, patchSize + gap),
    width: patchSize,
    height: patchSize,
    color: "rgba(0,0,0,0)",
    ...count <= 64 && { label: String(i + 1) },
  }));
  const patches = { ...apart(image, patchSize, gap), marks, caption: `${count} patches` };
  return imageGrid([{ ...image, caption: "image" }, patches], {
    title: "What the model reads",
    subtitle:
      `${height} × ${width} pixels in patches of ${patchSize} × ${patchSize}, row by row from the top`,
    size: 260,
    gap: 28,
  });
}

/** What I-JEPA sees of an image, and the blocks that it predicts, drawn on it. */
function blocksOf(image: Image, { context, targets }: ImageMasks, patchSize: number): Figure {
  const { count } = gridOf("plotMask", image, patchSize), known = [...Array(count).keys()];
  const wrong = [...context, ...targets.flat()].find((p) => !known.includes(p));
  expect(wrong === undefined, "plotMask", `patches from 0 to ${count - 1}`, wrong);
  const only = (patches: readonly number[]): Image => {
    const data = new Uint8Array(image.data.length).fill(236);
    for (const at of patches) copyPatch({ to: data, at, from: image.data, index: at }, image, patchSize);
    return { ...image, data };
  };
  const pictures = [
    { ...image, caption: "image" },
    { ...only(context), caption: `context: ${context.length} of ${count} patches` },
    ...targets.map((at, i) => ({ ...only(at), caption: `target ${i + 1}: ${at.length} patches` })),
  ];
  return imageGrid(pictures, { title: "What is seen, and what is predicted from it", size: 120 });
}

/** The masks of one image: numbers of patches, row by row. */
export interface ImageMasks {
  readonly context: readonly number[];
  readonly targets: readonly (readonly number[])[];
}

/**
 * A mask as a picture: which token (row) sees which (column). Or I-JEPA's masks on an image: what the context encoder sees, and
 * the blocks that are predicted.
 *
 * @param mask [T, T], 0 where the row's token sees the column's, −Infinity where not; not disposed of. Or the image.
 * @param masks Of the image, from `model.masks.draw`.
 * @param patchSize Height and width of a patch in pixels.
 * @throws {RangeError} If it has another shape, or there is no such patch.
 *
 * @example
 * ```ts
 * import { causalMask, plotMask, useEngine } from "nepa";
 *
 * await useEngine("cpu");
 * const mask = causalMask(5);
 * await (await plotMask(mask)).svg();
 * mask.dispose();
 * ```
 *
 * @example
 * ```ts
 * import { fashionMnist, IJepa, plotMask, Random, useEngine } from "nepa";
 *
 * await useEngine("cpu");
 * const { test } = await fashionMnist(), model = new IJepa({ preset: "nano", numHiddenLayers: 1 });
 * const image = { data: test.get(0).image, height: 28, width: 28, channels: 1 };
 * const { context, targets } = model.masks.draw(1, new Random(0));
 * await (await plotMask(image, { context: context[0]!, targets: targets[0]! }, 4)).svg();
 * model.dispose();
 * ```
 */
export async function plotMask(mask: tf.Tensor2D): Promise<Figure>;
export async function plotMask(image: Image, masks: ImageMasks, patchSize: number): Promise<Figure>;
export async function plotMask(
  mask: tf.Tensor2D | Image,
  masks?: ImageMasks,
  patchSize = 1,
): Promise<Figure> {
  const isEither = (value: unknown) => "rank" in Object(value) || isImage[1](value);
  const kind = ["a mask [T, T] or an image", isEither, "such as causalMask(17)"] as const;
  expectKinds("plotMask", { mask: [mask, kind] });
  if ("channels" in mask) return blocksOf(mask, masks!, patchSize);
  const [tokens, columns] = mask.shape;
  expect(mask.rank === 2 && tokens === columns, "plotMask", "a mask [T, T]", `[${mask.shape}]`);
  const sees = (await mask.array()).map((row) => row.map((value) => value === 0 ? 1 : 0));
  const gap = tokens <= 40 ? 2 : 0, every = Math.ceil(tokens / 18), side = 380;
  const tickvals = [...sees.keys()].filter((i) => i % every === 0);
  const ticktext = tickvals.map((i) => i === 0 ? "CLS" : `${i}`);
  const axis = { tickvals, ticktext, showgrid: false, ticks: "" } as const;
  return new Figure([{
    type: "heatmap",
    name: "sees",
    z: sees,
    colorscale: [[0, "#e3e7ec"], [1, palette[0]]],
    zmin: 0,
    zmax: 1,
    showscale: false,
    xgap: gap,
    ygap: gap,
    hovertemplate: "row %{y}, column %{x}<extra></extra>",
  }], {
    width: side + 90,
    height: side + 140,
    margin: { l: 62, r: 28, t: 84, b: 56 },
    title: {
      text: "Which token sees which",
      subtitle: { text: "blue: the row's token sees the column's; grey: it does not" },
    },
    xaxis: { ...axis, title: { text: "token seen (patch)" } },
    yaxis: { ...axis, title: { text: "token that looks (patch)" }, autorange: "reversed" },
  });
}
