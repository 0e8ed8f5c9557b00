/** Probes and neighbours of features that no `Nepa` made: of a function of images, of numbers from elsewhere. @module */
import { type Dataset, type FeatureSets, knn, linearProbe, readSafetensors, tf } from "nepa";

/** Features that need no training: how bright each cell of 7 by 7 pixels is, and how much it varies. [B, H, W, C] to [B, D]. */
export function cells(images: tf.Tensor4D): tf.Tensor2D {
  const x = tf.div(images.cast("float32"), 255),
    mean = (x: tf.Tensor) => tf.avgPool(x as tf.Tensor4D, 7, 7, "valid");
  const variance = tf.sub(mean(tf.square(x)), tf.square(mean(x)));
  return tf.concat([mean(x), variance], -1).reshape([images.shape[0], -1]) as tf.Tensor2D;
}

/** What classes can be read off a function's features by a line, and by the nearest images. */
export async function judge(features: typeof cells, train: Dataset, test: Dataset) {
  const probe = await linearProbe(features, train, test, { lambdas: [1e-2] });
  const neighbours = await knn(features, train, test, { k: 5 });
  return { probe, neighbours };
}

/** Numbers that another program wrote: `train` and `test` [N, D], `train_labels` and `test_labels` [N], in a safetensors file. */
export function readNumbers(file: string, classes: readonly string[]): FeatureSets {
  const { tensors } = readSafetensors(Deno.readFileSync(file));
  const read = (name: string) => {
    const { shape, data } = tensors.get(name)!, labels = tensors.get(`${name}_labels`)!;
    return { features: data as Float32Array, size: shape[1]!, labels: labels.data as Int32Array };
  };
  return { train: { ...read("train"), classes }, test: read("test") };
}

/** The same of such numbers. */
export async function judgeNumbers(sets: FeatureSets) {
  return { probe: await linearProbe(sets, { lambdas: [1e-2] }), neighbours: await knn(sets, { k: 5 }) };
}
