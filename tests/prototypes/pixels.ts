/** The next patch's pixels as targets, through a linear head: a loss that does not compare embeddings. @module */
import { Mlp, type Nepa, type Objective, tf } from "nepa";

/** The patches of images [B, H, W, C], row by row: [B, N, p·p·C], from −1 to 1. */
export function patches(images: tf.Tensor4D, p: number): tf.Tensor3D {
  const [batch, height, width, channels] = images.shape, [rows, columns] = [height / p, width / p];
  const cut = images.reshape([batch * rows, p, columns, p * channels])
    .transpose([0, 2, 1, 3]) // [B·rows, columns, p, p·C]
    .reshape([batch, rows * columns, p * p * channels]);
  return tf.sub(tf.div(cut.cast("float32"), 127.5), 1) as tf.Tensor3D;
}

/** A linear map from a prediction to the pixels of a patch. */
export function pixelHead({ config: { hiddenSize, patchSize, numChannels } }: Nepa): Mlp {
  return new Mlp([hiddenSize, patchSize ** 2 * numChannels], { name: "pixels", seed: 0 });
}

/** The mean squared error of the next patch's pixels; with `normalised`, each patch has mean 0 and deviation 1 (as MAE's). */
export function pixelTargets(head: Mlp, normalised = false): Objective {
  return {
    name: "pixels",
    config: { normalised },
    parameters: head.parameters,
    loss({ model, images, predictions }) {
      const raw = patches(images, model.config.patchSize), count = raw.shape[1];
      const { mean, variance } = tf.moments(raw, -1, true); // [B, N, 1]
      const targets = normalised ? tf.div(tf.sub(raw, mean), tf.sqrt(tf.add(variance, 1e-6))) : raw;
      const guesses = head.apply(tf.slice(predictions, [0, 0, 0], [-1, count, -1])); // of patch 1 to N
      const loss = tf.mean(tf.squaredDifference(guesses, targets)) as tf.Scalar;
      return { loss, "share explained": tf.sub(1, tf.div(loss, tf.mean(tf.square(targets)))) as tf.Scalar };
    },
  };
}
