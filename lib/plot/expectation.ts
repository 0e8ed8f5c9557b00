/** What the model expects next, drawn over the image. @module */
import * as tf from "@tensorflow/tfjs";
import type { Image } from "../data/dataset.ts";
import type { Figure } from "../display/figure.ts";
import { imageGrid, type Picture } from "../display/pictures.ts";
import { any, checkOptions, expect, oneOf, positive } from "../base/check.ts";
import * as is from "../base/check.ts";
import { predictionMap } from "./maps.ts";
import type { Nepa } from "../model/nepa.ts";
import { asInput, copyPatch, outline } from "./grid.ts";

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

/** For each patch to be expected: every patch's share, and its cosine with what was predicted. */
async function expectations(model: Nepa, image: Image, patches: readonly number[]) {
  const maps = tf.tidy(() => {
    const outputs = model.forward(asInput(image)); // token t (0 is CLS) predicts patch t, counted from 0
    return (["softmax", "cosine"] as const).map((scale) =>
      tf.stack(patches.map((patch) => predictionMap(outputs, patch, { scale }))) as tf.Tensor2D // [patches, N]
    );
  });
  const [shares, cosines] = await Promise.all(maps.map((map) => map.array()));
  tf.dispose(maps);
  return patches.map((_, i) => ({ shares: shares![i]!, cosines: cosines![i]! }));
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
  is.expectKinds("plotExpectation", { model: [model, is.network], image: [image, is.image] });
  const side = model.config.patchSize, rows = image.height / side, columns = image.width / side;
  const count = rows * columns, several = Math.min(4, count);
  const spread = Array.from({ length: several }, (_, i) => Math.round((i + 1) * count / (several + 1)));
  const scales = oneOf("softmax", "cosine");
  checkOptions("plotExpectation", options, { patches: any, scale: scales, size: positive });
  const { patches = spread, scale = "softmax" } = options, known = [...Array(count).keys()];
  const odd = patches.findIndex((p) => !known.includes(p));
  const fits = patches.length > 0 && odd < 0, got = patches[odd] ?? "none";
  expect(fits, "plotExpectation", `patches from 0 to ${count - 1}`, got);
  const found = await expectations(model, image, patches);
  const seen = patches.map((p): Picture => {
    const caption = p === 0 ? "sees nothing" : `sees ${p} of ${count} patches`;
    return { ...upTo(p, image, side), marks: [outline(p, columns, side)], caption };
  });
  const expected = found.map(({ shares, cosines }, i): Picture => ({
    ...image,
    heat: { values: scale === "cosine" ? cosines : shares, rows, columns },
    marks: [outline(patches[i]!, columns, side)],
    caption: `cosine ${cosines[patches[i]!]!.toFixed(2).replace("-", "−")}`,
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
