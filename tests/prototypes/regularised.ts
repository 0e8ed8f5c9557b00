/** Against collapse, beside the loss: SIGReg (arXiv 2511.08544) along random directions, and VICReg (arXiv 2105.04906). @module */
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

/** Each dimension's deviation at least 1, and no two of them alike: the variance and covariance terms. */
export function vicreg(rows: tf.Tensor2D): tf.Scalar {
  const [n, size] = rows.shape, centred = tf.sub(rows, tf.mean(rows, 0, true)) as tf.Tensor2D;
  const covariance = tf.div(tf.matMul(centred, centred, true), n - 1); // [D, D]
  const variances = tf.div(tf.sum(tf.square(centred), 0), n - 1); // [D]
  const spread = tf.mean(tf.relu(tf.sub(1, tf.sqrt(tf.add(variances, 1e-4)))));
  const alike = tf.sub(tf.sum(tf.square(covariance)), tf.sum(tf.square(variances)));
  return tf.add(spread, tf.div(alike, size)) as tf.Scalar;
}

/** `nepaLoss` and a regulariser of the embeddings, whose directions are fresh at every update and the same for all images. */
export function regularised(
  kind: "sigreg" | "vicreg",
  size: number,
  weight = 0.1,
  directions = 64,
): Objective {
  return {
    name: `nepa + ${kind}`,
    config: { weight, directions },
    draws: ({ random }) => kind === "sigreg" ? { directions: random.normal([size, directions]) } : {},
    loss({ embeddings, predictions, draws }) {
      const rows = embeddings.reshape([-1, size]) as tf.Tensor2D; // [B, T, D] to [B · T, D]
      const spread = kind === "sigreg" ? sigreg(rows, draws.directions as tf.Tensor2D) : vicreg(rows);
      const nepa = nepaLoss({ embeddings, predictions });
      return { loss: tf.add(nepa, tf.mul(spread, weight)) as tf.Scalar, nepa, [kind]: spread };
    },
  };
}
