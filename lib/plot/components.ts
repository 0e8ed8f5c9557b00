/** Features by their principal components: patches as colours, images as points. @module */
import * as tf from "@tensorflow/tfjs";
import { type Dataset, picturesOf } from "../data/dataset.ts";
import { Figure, ink, palette, plotText, titled, type Trace } from "../display/figure.ts";
import { imageGrid, type Picture } from "../display/pictures.ts";
import { formatNumber } from "../display/table.ts";
import { type Layer, readFeatures, type Reading } from "../eval/features.ts";
import { any, checkOptions, expectNamed, flag, positive } from "../base/check.ts";
import { Random } from "../base/random.ts";
import type { Encoder } from "../model/method.ts";

/** Options of {@linkcode plotPatchColors}. */
export interface PatchColorOptions extends Pick<Reading, "causal"> {
  /** Whose output: "embedding", block 1 to L, or "final". Default "final". */
  layer?: Layer;
  /** Height of each picture in pixels. Default 90. */
  size?: number;
}

/**
 * Rows [n, D] along their `count` principal directions, the largest first: [n, count], and the share of the variance of each.
 * Fewer where D is smaller. The directions are found by orthogonal iteration.
 */
export async function components(
  rows: Float32Array,
  size: number,
  count: number,
): Promise<{ values: Float32Array; shares: Float32Array }> {
  const found = tf.tidy(() => {
    const x = tf.tensor2d(rows, [rows.length / size, size]),
      centred = tf.sub<tf.Tensor2D>(x, tf.mean(x, 0, true));
    const total = tf.add(tf.sum(tf.square(centred)), 1e-12);
    const covariance = tf.add(tf.div(tf.matMul(centred, centred, true), total), tf.mul(tf.eye(size), 1e-6)); // [D, D]
    let basis = new Random(0, "components").normal([Math.min(size, count), size]);
    for (let round = 0; round < 100; round++) {
      basis = tf.tidy(() => tf.linalg.gramSchmidt(tf.matMul(basis, covariance)) as tf.Tensor);
    }
    const values = tf.matMul(centred, basis as tf.Tensor2D, false, true); // [n, count]
    return [values, tf.div(tf.sum(tf.square(values), 0), total)];
  });
  const [values, shares] = await Promise.all(found.map((tensor) => tensor.data() as Promise<Float32Array>));
  tf.dispose(found);
  return { values: values!, shares: shares! };
}

/** Numbers as bytes, from the 2nd to the 98th percentile. */
function toBytes(values: Float32Array): Uint8Array {
  const sorted = values.slice().sort(), at = (q: number) => sorted[Math.round(q * (sorted.length - 1))]!;
  const low = at(0.02), range = at(0.98) - low || 1;
  return Uint8Array.from(values, (v) => Math.round(255 * Math.min(1, Math.max(0, (v - low) / range))));
}

/**
 * Images above the patches' tokens as colours: the first three principal components over all patches shown are red, green
 * and blue. Patches of like colours have like tokens, as far as three components tell.
 *
 * @param images A handful; their size is the network's.
 * @throws {RangeError} If they do not fit the network, or there is no such layer.
 *
 * @example
 * ```ts
 * import { fashionMnist, Nepa, plotPatchColors, useEngine } from "nepa";
 *
 * await useEngine();
 * const { test } = await fashionMnist();
 * const model = new Nepa({ preset: "mini" }, { seed: 0 });
 * console.log(await plotPatchColors(model, test.balanced(1), { layer: 2 }));
 * model.dispose();
 * ```
 */
export async function plotPatchColors(
  model: Encoder,
  images: Dataset,
  options: PatchColorOptions = {},
): Promise<Figure> {
  expectNamed("plotPatchColors", { model, images });
  checkOptions("plotPatchColors", options, { layer: any, size: positive, causal: flag });
  const { layer = "final", size = 90, causal } = options, { length, height, width, channels } = images;
  const all = (await readFeatures(model, images, [layer], { pool: "all", causal })).get(layer)!; // [images, T·D]
  const [rows, columns] = model.grid({ shape: [1, height, width, channels] });
  const N = rows * columns, { prefix } = model;
  const own = all.length / length, D = own / (N + prefix), patches = new Float32Array(length * N * D);
  for (let i = 0; i < length; i++) patches.set(all.subarray(i * own + prefix * D, (i + 1) * own), i * N * D); // without CLS
  const { values, shares } = await components(patches, D, 3), count = shares.length;
  const channelsOf = Array.from(shares, (_, c) => toBytes(values.filter((_, i) => i % count === c)));
  const byteAt = (i: number) => channelsOf[Math.min(i % 3, count - 1)]![Math.floor(i / 3)]!;
  const pixels = Uint8Array.from({ length: 3 * length * N }, (_, i) => byteAt(i));
  const colored = Array.from({ length }, (_, i): Picture => {
    return { data: pixels.subarray(3 * i * N, 3 * (i + 1) * N), height: rows, width: columns, channels: 3 };
  });
  const pictures = await picturesOf(images, colored.keys());
  const percent = Math.round(100 * shares.reduce((a, b) => a + b, 0));
  return imageGrid([...pictures, ...colored], {
    title: "Patches by what the network makes of them",
    subtitle: `first three components: ${percent} % of the variance`,
    columns: length,
    size,
  });
}

/**
 * Images as points on the first two principal components of their features, a colour for each class.
 *
 * @param dataset Some hundreds of images or a few thousand; their size is the network's.
 * @param options Layer and pooling, as for `linearProbe`.
 * @throws {RangeError} If they do not fit the network, or there is no such layer.
 *
 * @example
 * ```ts
 * import { fashionMnist, Nepa, plotClassMap, useEngine } from "nepa";
 *
 * await useEngine();
 * const { test } = await fashionMnist();
 * const model = new Nepa({ preset: "mini" }, { seed: 0 });
 * console.log(await plotClassMap(model, test.balanced(20), { layer: 2 }));
 * model.dispose();
 * ```
 */
export async function plotClassMap(
  model: Encoder,
  dataset: Dataset,
  options: Reading & { layer?: Layer } = {},
): Promise<Figure> {
  expectNamed("plotClassMap", { model, dataset });
  checkOptions("plotClassMap", options, { layer: any, pool: any, causal: flag, signal: any });
  const { layer = "final", ...reading } = options;
  const features = (await readFeatures(model, dataset, [layer], reading)).get(layer)!;
  const { values, shares } = await components(features, features.length / dataset.length, 2);
  const { classes, labels } = dataset, bare = classes.length === 0 ? [0] : labels.includes(-1) ? [-1] : [];
  const traces = [...classes.keys(), ...bare].map((label): Trace => {
    const mine = [...labels.keys()].filter((i) => labels[i] === label), named = label in classes;
    return {
      type: "scatter",
      mode: "markers",
      name: plotText(classes[label] ?? "no label"),
      x: mine.map((i) => values[2 * i]!),
      y: mine.map((i) => values[2 * i + 1]!),
      marker: { size: 5, opacity: 0.75, color: named ? palette[label % palette.length]! : ink.soft },
    };
  });
  const axis = (i: number) => ({
    title: { text: `component ${i + 1}, ${(100 * shares[i]!).toFixed(0)} % of the variance` },
  });
  const subtitle = `${formatNumber(dataset.length)} of ${dataset.name}`;
  return new Figure(traces, {
    width: 760,
    height: 560,
    title: titled({ title: "Images by their features", subtitle }),
    xaxis: axis(0),
    yaxis: axis(1),
  });
}
