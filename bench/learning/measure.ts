/** Cells of the learning bench that read the loss and the collapse meter on images held out. @module */
import {
  type Collapse,
  collapse,
  currentEngine,
  type Dataset,
  type Nepa,
  nepaLoss,
  tf,
  type Trivial,
  trivialPredictors,
} from "nepa";
import { modelCell, setsOf, type Source, type Split, type Task } from "./cells.ts";
import type { Cell } from "./run.ts";

/** The method, or less of it. */
export interface Method {
  causal?: boolean;
  shift?: boolean;
  stopGradient?: boolean;
}

/** What a network does with images that it was not trained on. */
export interface Measured {
  /** Loss on all the images. */
  loss: number;
  /** Of 512 images: patch embeddings, the last norm's outputs, the means of those. */
  z: Collapse;
  h: Collapse;
  pooled: Collapse;
  /** Guesses at z of the 512. */
  trivial: Trivial;
  /** Mean |layer scale| of each block; nothing where there is none. */
  layerScale: number[];
}

const BATCH = 250, METERED = 512;

async function readLoss(model: Nepa, images: Dataset, method: Method): Promise<number> {
  const { causal = true, ...rest } = method;
  const pass = currentEngine().compile(
    (x: tf.Tensor4D) => nepaLoss(model.forward(x, { causal }), rest),
    { name: "held-out loss" },
  );
  let sum = 0;
  try {
    for await (
      const { images: pixels, shape, size } of images.batches({
        size: BATCH,
        shuffle: false,
        dropLast: false,
      })
    ) {
      const x = tf.tensor4d(pixels, shape, "int32"), loss = await pass(x);
      sum += size * (await loss.data())[0]!;
      tf.dispose([x, loss]);
    }
  } finally {
    pass.dispose();
  }
  return sum / images.length;
}

async function readCollapse(
  model: Nepa,
  images: Dataset,
  causal: boolean,
): Promise<Omit<Measured, "loss" | "layerScale">> {
  const parts: { z: tf.Tensor[]; h: tf.Tensor[] } = { z: [], h: [] };
  for await (
    const { images: pixels, shape } of images.batches({ size: 64, shuffle: false, dropLast: false })
  ) {
    const { embeddings, predictions } = tf.tidy(() =>
      model.forward(tf.tensor4d(pixels, shape, "int32"), { causal })
    );
    parts.z.push(embeddings);
    parts.h.push(predictions);
  }
  const all = tf.tidy(() => {
    const [z, h] = [parts.z, parts.h].map((list) => tf.concat(list, 0)) as [tf.Tensor3D, tf.Tensor3D]; // [n, T, D]
    const rows = (x: tf.Tensor3D) => tf.slice(x, [0, 1, 0]).reshape([-1, x.shape[2]]); // [n · N, D]
    return { whole: z, z: rows(z), h: rows(h), pooled: tf.mean(tf.slice(h, [0, 1, 0]), 1) };
  });
  try {
    return {
      z: await collapse(all.z),
      h: await collapse(all.h),
      pooled: await collapse(all.pooled),
      trivial: await trivialPredictors(all.whole),
    };
  } finally {
    tf.dispose([...parts.z, ...parts.h, ...Object.values(all)]);
  }
}

async function readLayerScale(model: Nepa): Promise<number[]> {
  const found: number[][] = [];
  for (const [name, weight] of model.parameters) {
    const [, layer] = /layer\.(\d+)\..*layer_scale/.exec(name) ?? [];
    if (layer !== undefined) (found[Number(layer)] ??= []).push(...(await weight.data()).map(Math.abs));
  }
  return found.map((values) => values.reduce((a, b) => a + b, 0) / values.length);
}

/** A cell that reads the loss and the collapse meter on images held out. */
export function measureCell(task: Task, source: Source, split: Split, method: Method = {}): Cell<Measured> {
  return modelCell(task, source, { measure: { split, method } }, async (model, place) => {
    const { judged } = setsOf(place, split), count = Math.min(METERED, judged.length);
    const first = judged.subset(Array.from({ length: count }, (_, i) => i));
    return {
      loss: await readLoss(model, judged, method),
      ...await readCollapse(model, first, method.causal ?? true),
      layerScale: await readLayerScale(model),
    };
  });
}
