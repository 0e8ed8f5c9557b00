/** Which patches a position looks at, drawn over the image. @module */
import * as tf from "@tensorflow/tfjs";
import type { Image } from "../data/dataset.ts";
import type { Figure } from "../display/figure.ts";
import { imageGrid, type Picture } from "../display/pictures.ts";
import { any, checkOptions, expect, flag, isCount, oneOf, positive } from "../base/check.ts";
import * as is from "../base/check.ts";
import { attentionMap } from "./maps.ts";
import type { IJepaEncoder } from "../model/ijepa_encoder.ts";
import type { Nepa } from "../model/nepa.ts";
import { asInput, outline } from "./grid.ts";

/** Options of {@linkcode plotAttention}. */
export interface AttentionOptions {
  /** The patch that looks, from 0 in raster order; "cls": the CLS token. Default: the last patch, which sees all. */
  patch?: number | "cls";
  /** Blocks drawn, from 1. Default: all. */
  layers?: readonly number[];
  /** All heads by their mean or their largest value, or each in a column of its own. Default "mean". */
  heads?: "mean" | "max" | "each";
  /** As for `forward`. Default: the model's. */
  causal?: boolean;
  /** Height of each picture in pixels. Default 120. */
  size?: number;
}

/**
 * How much one patch reads from every patch, by block and head, as colours over the image; what goes to CLS is left out.
 *
 * @param image 8 bits a channel; normalised as the model's preprocessor says, not resized.
 * @throws {RangeError} If there is no such patch or block, or the image does not fit the model.
 *
 * @example
 * ```ts
 * import { fashionMnist, Nepa, plotAttention, useEngine } from "nepa";
 *
 * await useEngine();
 * const { test } = await fashionMnist();
 * const model = new Nepa({ preset: "mini" }, { seed: 0 });
 * const image = { data: test.get(0).image, height: 28, width: 28, channels: 1 };
 * console.log(await plotAttention(model, image, { patch: 10, heads: "each" }));
 * model.dispose();
 * ```
 */
export async function plotAttention(
  model: Nepa | IJepaEncoder,
  image: Image,
  options: AttentionOptions = {},
): Promise<Figure> {
  is.expectKinds("plotAttention", { model: [model, is.network], image: [image, is.image] });
  checkOptions("plotAttention", options, {
    ...{ patch: any, layers: any, causal: flag, size: positive },
    heads: oneOf("mean", "max", "each"),
  });
  const { patchSize: p, numHiddenLayers: L, numAttentionHeads: A, isCausal } = model.config;
  const { layers = Array.from({ length: L }, (_, i) => i + 1), heads = "mean", causal = isCausal } = options;
  const rows = image.height / p, columns = image.width / p;
  const { patch = rows * columns - 1, size = 120 } = options;
  for (const layer of layers) expect(isCount(layer) && layer <= L, "layers", `blocks from 1 to ${L}`, layer);
  const { prefix } = model, token = patch === "cls" ? 0 : patch + prefix;
  expect(patch !== "cls" || prefix === 1, "patch", "a patch, of a network without CLS", "cls");
  const ways = heads === "each" ? Array.from({ length: A }, (_, head) => head) : [heads];
  const shown = layers.flatMap((layer) => ways.map((way) => ({ layer, way })));
  const maps = tf.tidy(() => {
    const { attentions } = model.forward(asInput(image), { attentions: true, causal });
    return tf.stack(
      shown.map(({ layer, way }) =>
        attentionMap(attentions!, token, { blocks: [layer], heads: way, prefix })
      ),
    ); // [pictures, patches]
  });
  const values = await maps.data(), count = rows * columns;
  maps.dispose();
  const pictures = shown.map(({ layer, way }, i): Picture => ({
    ...image,
    heat: { values: values.slice(i * count, (i + 1) * count), rows, columns },
    marks: patch === "cls" ? [] : [outline(patch, columns, p)],
    caption: `block ${layer}${typeof way === "number" ? `, head ${way + 1}` : ""}`,
  }));
  return imageGrid(pictures, {
    title: patch === "cls" ? "What CLS looks at" : "What the outlined patch looks at",
    subtitle: heads === "each" ? "a row for each block, a column for each head" : `${heads} of the heads`,
    ...(heads === "each" ? { columns: A } : {}),
    size,
    heatTitle: "share of the attention",
  });
}
