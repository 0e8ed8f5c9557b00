/** SIGReg beside the loss (arXiv 2511.08544): embeddings are held normal along random directions, fresh at every update. @module */
import { nepaLoss, type Objective, tf } from "nepa";

/** Where characteristic functions are compared, and the weights of the trapezoid rule times a normal window. */
const knots = Array.from({ length: 17 }, (_, i) => -4 + i / 2);
const weights = knots.map((t, i) => (i % 16 === 0 ? 0.25 : 0.5) * Math.exp(-t * t / 2));

/** How far rows [n, D] are from normal with variance 1 along directions [D, M]: Epps and Pulley's statistic, mean over them. */
export function sigreg(rows: tf.Tensor2D, directions: tf.Tensor2D): tf.Scalar {
  const lengths = tf.sqrt(tf.sum(tf.square(directions), 0, true)); // [1, M]
  const along = tf.matMul(rows, tf.div(directions, lengths) as tf.Tensor2D); // [n, M]
  const angles = tf.mul(along.expandDims(-1), tf.tensor1d(knots)); // [n, M, 17]
  const real = tf.sub(tf.mean(tf.cos(angles), 0), tf.exp(tf.mul(tf.square(tf.tensor1d(knots)), -0.5)));
  const apart = tf.add(tf.square(real), tf.square(tf.mean(tf.sin(angles), 0))); // [M, 17]
  return tf.mean(tf.sum(tf.mul(apart, tf.tensor1d(weights)), -1));
}

/** `nepaLoss` and SIGReg of the embeddings. The directions are the same for all images of an update: batch statistics. */
export function withSigreg(size: number, weight = 0.1, directions = 64): Objective {
  return {
    name: "nepa + SIGReg",
    config: { weight, directions },
    draws: ({ random }) => ({ directions: random.normal([size, directions]) }),
    loss({ embeddings, predictions, draws }) {
      const rows = embeddings.reshape([-1, size]) as tf.Tensor2D; // [B, T, D] to [B · T, D]
      const normal = sigreg(rows, draws.directions as tf.Tensor2D),
        nepa = nepaLoss({ embeddings, predictions });
      return { loss: tf.add(nepa, tf.mul(normal, weight)) as tf.Scalar, nepa, "not normal": normal };
    },
  };
}
