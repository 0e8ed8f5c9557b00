/** What a position looks at and what it expects, drawn over the image. @module */
import * as tf from "@tensorflow/tfjs";
import type { Image } from "../data/dataset.ts";
import type { Figure } from "../display/figure.ts";
import { imageGrid, type Picture } from "../display/pictures.ts";
import { any, checkOptions, expect, expectNamed, flag, isCount, oneOf, positive } from "../base/check.ts";
import { attentionMap, predictionMap } from "./maps.ts";
import type { IJepaEncoder } from "../model/ijepa_encoder.ts";
import type { Nepa } from "../model/nepa.ts";
import { asInput, copyPatch, outline } from "./grid.ts";

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
  expectNamed("plotAttention", { model, image });
  const rules = { patch: any, layers: any, causal: flag, size: positive };
  checkOptions("plotAttention", options, { ...rules, heads: oneOf("mean", "max", "each") });
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
    const map = ({ layer, way }: typeof shown[number]) =>
      attentionMap(attentions!, token, { blocks: [layer], heads: way, prefix });
    return tf.stack(shown.map(map)) as tf.Tensor2D; // [pictures, patches]
  });
  const all = await maps.array();
  maps.dispose();
  const pictures = shown.map(({ layer, way }, i): Picture => ({
    ...image,
    heat: { values: all[i]!, rows, columns },
    marks: patch === "cls" ? [] : [outline(patch, columns, p)],
    caption: `block ${layer}${typeof way === "number" ? `, head ${way + 1}` : ""}`,
  }));
  return imageGrid(pictures, {
    title: patch === "cls" ? "What CLS looks at" : "What the outlined patch looks at",
    subtitle: heads === "each" ? "a row for each block, a column for each head" : `${heads} of the heads`,
    ...heads === "each" && { columns: A },
    size,
    heatTitle: "share of the attention",
  });
}

/** Options of {@linkcode plotExpectation}. */
export interface ExpectationOptions {
  /** Which patches are to be expected, from 0 in raster order. Default: four or fewer, evenly spread. */
  patches?: readonly number[];
  /** What is drawn: cosines, or their softmax at temperature 1. Default "softmax". */
  scale?: "softmax" | "cosine";
  /** Height of each picture in pixels. Default: 150, or less where there are more than four patches. */
  size?: number;
}

/** The image with patch `from` and all that follow in grey. */
function upTo(from: number, image: Image, patch: number): Image {
  const to = Uint8Array.from(image.data), grey = new Uint8Array(to.length).fill(230);
  const count = image.height * image.width / patch ** 2;
  for (let at = from; at < count; at++) copyPatch({ to, at, from: grey, index: at }, image, patch);
  return { ...image, data: to };
}

/**
 * What the model expects next, for one or several patches of an image: above, the patches it has seen; below, over the
 * whole image, how like its prediction each patch's embedding is. The patch
 * that comes next is outlined; below stands the cosine of its embedding with the prediction.
 *
 * @param image 8 bits a channel; normalised as the model's preprocessor says, not resized.
 * @throws {RangeError} If a patch is not in the image, or the image does not fit the model.
 *
 * @example
 * ```ts
 * import { fashionMnist, Nepa, plotExpectation, useEngine } from "nepa";
 *
 * await useEngine();
 * const { test } = await fashionMnist();
 * const model = new Nepa({ preset: "mini" }, { seed: 0 }); // load or train one, or it expects nothing sensible
 * const image = { data: test.get(0).image, height: 28, width: 28, channels: 1 };
 * console.log(await plotExpectation(model, image, { patches: [6, 10] }));
 * model.dispose();
 * ```
 */
export async function plotExpectation(
  model: Nepa,
  image: Image,
  options: ExpectationOptions = {},
): Promise<Figure> {
  expectNamed("plotExpectation", { model, image });
  const side = model.config.patchSize, rows = image.height / side, columns = image.width / side;
  const count = rows * columns, several = Math.min(4, count);
  const spread = Array.from({ length: several }, (_, i) => Math.round((i + 1) * count / (several + 1)));
  const scales = oneOf("softmax", "cosine");
  checkOptions("plotExpectation", options, { patches: any, scale: scales, size: positive });
  const { patches = spread, scale = "softmax" } = options, known = [...Array(count).keys()];
  const odd = patches.findIndex((p) => !known.includes(p));
  const fits = patches.length > 0 && odd < 0, got = patches[odd] ?? "none";
  expect(fits, "plotExpectation", `patches from 0 to ${count - 1}`, got);
  const maps = tf.tidy(() => {
    const outputs = model.forward(asInput(image)); // token t (0 is CLS) predicts patch t, counted from 0
    const drawn = (scale: "softmax" | "cosine") =>
      tf.stack(patches.map((patch) => predictionMap(outputs, patch, { scale }))) as tf.Tensor2D; // [patches, N]
    return { heats: drawn(scale), cosines: drawn("cosine") };
  });
  const [heats, cosines] = await Promise.all([maps.heats.array(), maps.cosines.array()]);
  tf.dispose(maps);
  const seen = patches.map((p): Picture => {
    const caption = p === 0 ? "sees nothing" : `sees ${p} of ${count} patches`;
    return { ...upTo(p, image, side), marks: [outline(p, columns, side)], caption };
  });
  const expected = patches.map((p, i): Picture => ({
    ...image,
    heat: { values: heats[i]!, rows, columns },
    marks: [outline(p, columns, side)],
    caption: `cosine ${cosines[i]![p]!.toFixed(2).replace("-", "−")}`,
  }));
  return imageGrid([...seen, ...expected], {
    title: "What the model expects next",
    subtitle:
      "above: what it has seen; below: how like its prediction each patch is, and the cosine with the one that comes",
    columns: patches.length,
    size: options.size ?? Math.max(64, Math.min(150, Math.floor(700 / patches.length) - 16)),
    gap: 16,
    heatTitle: scale === "cosine" ? "cosine" : "softmax of the cosines",
  });
}
