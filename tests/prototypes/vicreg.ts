/** VICReg's variance and covariance terms beside the loss (arXiv 2105.04906): no dimension dies, and no two are alike. @module */
import { nepaLoss, type Objective, tf } from "nepa";

/** Of rows [n, D]: how much each dimension's deviation is below 1, and how much dimensions go together. */
export function vicreg(rows: tf.Tensor2D): { variance: tf.Scalar; covariance: tf.Scalar } {
  const [n, size] = rows.shape, centred = tf.sub(rows, tf.mean(rows, 0, true)) as tf.Tensor2D;
  const products = tf.div(tf.matMul(centred, centred, true), n - 1); // [D, D]
  const variances = tf.div(tf.sum(tf.square(centred), 0), n - 1); // [D]
  const apart = tf.sub(tf.sum(tf.square(products)), tf.sum(tf.square(variances)));
  return {
    variance: tf.mean(tf.relu(tf.sub(1, tf.sqrt(tf.add(variances, 1e-4))))),
    covariance: tf.div(apart, size),
  };
}

/** `nepaLoss` and both terms of the embeddings. Batch statistics: no `accumulate`. */
export function withVicreg(weights = { variance: 1, covariance: 0.04 }): Objective {
  return {
    name: "nepa + VICReg",
    config: weights,
    loss({ embeddings, predictions }) {
      const nepa = nepaLoss({ embeddings, predictions });
      const terms = vicreg(embeddings.reshape([-1, embeddings.shape[2]])); // [B, T, D] to [B · T, D]
      const { variance, covariance } = weights;
      const both = tf.add(tf.mul(terms.variance, variance), tf.mul(terms.covariance, covariance));
      return { loss: tf.add(nepa, both) as tf.Scalar, nepa, ...terms };
    },
  };
}
