/** Two augmented views of each image, told from those of all others in the batch: InfoNCE, as SimCLR's (arXiv 2002.05709). @module */
import { crossEntropy, type Draws, Mlp, type Nepa, type Objective, tf, unit } from "nepa";

/** What is compared: a projection of the pooled tokens. */
export function projectorOf(model: Nepa): Mlp {
  const size = model.config.hiddenSize;
  return new Mlp([size, size, size], { name: "projector", seed: 0, activation: "relu" });
}

/** How often the view of the same image is the nearest of all in the batch, made likely. Batch statistics: no `accumulate`. */
export function infoNce(projector: Mlp, temperature = 0.2): Objective {
  const project = (model: Nepa, images: tf.Tensor4D, draws: Draws): tf.Tensor2D => {
    const { predictions } = model.forward(images, { draws, causal: false });
    return unit(projector.apply(tf.mean(predictions, 1))); // [B, D]
  };
  return {
    name: "InfoNCE",
    config: { temperature },
    views: 2,
    parameters: projector.parameters,
    loss({ model, views, draws }) {
      const [one, two] = views.map((view) => project(model, view, draws)) as [tf.Tensor2D, tf.Tensor2D];
      const logits = tf.div(tf.matMul(one, two, false, true), temperature) as tf.Tensor2D; // [B, B]
      const own = tf.range(0, logits.shape[0], 1, "int32"); // row i belongs to column i
      const loss = tf.div(tf.add(crossEntropy(logits, own), crossEntropy(tf.transpose(logits), own)), 2);
      const found = tf.mean(tf.equal(tf.argMax(logits, 1), own).cast("float32"));
      return { loss: loss as tf.Scalar, "own view found": found as tf.Scalar };
    },
  };
}
