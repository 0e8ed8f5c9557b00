/** What the model expects next, drawn over the image. @module */
import * as tf from "@tensorflow/tfjs";
import type { Image } from "../data/dataset.ts";
import { type Figure, palette } from "../display/figure.ts";
import { imageGrid, type Mark, type Picture } from "../display/pictures.ts";
import { predictionMap } from "../maps.ts";
import type { Nepa } from "../nepa.ts";

/** Options of {@linkcode plotExpectation}. */
export interface ExpectationOptions {
  /** Which patches are to be expected, from 0 in raster order. Default: four or fewer, evenly spread. */
  patches?: readonly number[];
  /** What is drawn: cosines, or their softmax at temperature 1. Default "softmax". */
  scale?: "softmax" | "cosine";
  /** Height of each picture in pixels. Default: 150, or less where there are more than four patches. */
  size?: number;
}

/** The rows and columns of patches. */
interface Grid {
  rows: number;
  columns: number;
  patch: number;
}

/** A patch's outline. */
function outline(index: number, { columns, patch }: Grid): Mark {
  const left = (index % columns) * patch, top = Math.floor(index / columns) * patch;
  return { left, top, width: patch, height: patch, color: palette[9] };
}

/** Covers patch `from` and all that follow. */
function cover(from: number, { rows, columns, patch }: Grid): Mark[] {
  const { left, top } = outline(from, { rows, columns, patch }),
    hidden = { color: "rgba(0,0,0,0)", fill: "#e3e7ec" };
  if (left === 0) return [{ left, top, width: columns * patch, height: rows * patch - top, ...hidden }];
  const rest = {
    left: 0,
    top: top + patch,
    width: columns * patch,
    height: rows * patch - top - patch,
    ...hidden,
  };
  return [
    { left, top, width: columns * patch - left, height: patch, ...hidden },
    ...(rest.height > 0 ? [rest] : []),
  ];
}

/** For each patch to be expected: every patch's share, and its cosine with what was predicted. */
async function expectations(
  model: Nepa,
  image: Image,
  patches: readonly number[],
): Promise<{ shares: Float32Array; cosines: Float32Array }[]> {
  const shape = [1, image.height, image.width, image.channels] as [number, number, number, number];
  const maps = tf.tidy(() => {
    const outputs = model.forward(tf.tensor4d(image.data, shape, "int32"));
    return patches.map((patch) => [ // token t (0 is CLS) predicts patch t, counted from 0
      predictionMap(outputs, patch),
      predictionMap(outputs, patch, { scale: "cosine" }),
    ]);
  });
  try {
    const read = (map: tf.Tensor) => map.data() as Promise<Float32Array>;
    return await Promise.all(maps.map(async ([shares, cosines]) => ({
      shares: await read(shares!),
      cosines: await read(cosines!),
    })));
  } finally {
    tf.dispose(maps);
  }
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
  const patch = model.config.patchSize,
    grid = { rows: image.height / patch, columns: image.width / patch, patch };
  const count = grid.rows * grid.columns, several = Math.min(4, count);
  const spread = Array.from({ length: several }, (_, i) => Math.round((i + 1) * count / (several + 1)));
  const { patches = spread, scale = "softmax" } = options;
  for (const p of patches) {
    if (!Number.isInteger(p) || p < 0 || p >= count) {
      throw new RangeError(`plotExpectation: expected patches from 0 to ${count - 1}, got ${p}`);
    }
  }
  const found = await expectations(model, image, patches);
  const seen = patches.map((p): Picture => ({
    ...image,
    marks: [...cover(p, grid), outline(p, grid)],
    caption: p === 0 ? "sees nothing" : `sees ${p} of ${count} patches`,
  }));
  const expected = found.map(({ shares, cosines }, i): Picture => ({
    ...image,
    heat: { values: scale === "cosine" ? cosines : shares, rows: grid.rows, columns: grid.columns },
    marks: [outline(patches[i]!, grid)],
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
