/** A method that is no NEPA: a denoising autoencoder, trained, probed and kept by what trains, probes and keeps `Nepa`. @module */
import { defaultPreprocessor, type DrawContext, type Draws, type Encoder, type LossContext } from "nepa";
import { type Method, Mlp, perImage, tf } from "nepa";

/** Pixels [B, H, W, 1] as rows of numbers from −1 to 1: [B, H · W]. */
const rowsOf = (images: tf.Tensor4D) =>
  tf.sub(tf.div(images.reshape([images.shape[0], -1]).cast("float32"), 127.5), 1) as tf.Tensor2D;

/** What probes read: 16 numbers of an image as its only token, [B, 1, 16]. */
function encoderOf(side: number, seed: number, mlp = new Mlp([side * side, 64, 16], { seed })): Encoder {
  return {
    ...{ preprocessor: defaultPreprocessor(side, 1), layers: ["final"], prefix: 0, depthOf: () => 0 },
    ...{ parameters: mlp.parameters, grid: () => [1, 1], untrained: (seed) => encoderOf(side, seed) },
    tokens: (images) => [mlp.apply(rowsOf(images)).expandDims(1)],
  };
}

/** Grey images of one size, made from themselves with noise on top, through 16 numbers. */
export class Denoiser implements Method {
  readonly name = "denoising autoencoder";
  readonly parameters: ReadonlyMap<string, tf.Variable>;
  readonly encoder: Encoder;
  readonly decoder: Mlp;

  constructor(readonly config: { side: number; noise: number }, { seed = 0 } = {}) {
    this.encoder = encoderOf(config.side, seed);
    this.decoder = new Mlp([16, 64, config.side ** 2], { name: "decoder", seed });
    this.parameters = new Map([...this.encoder.parameters, ...this.decoder.parameters]);
  }
  draws({ batchSize, random }: DrawContext): Draws {
    return { noise: perImage(random.normal([batchSize, this.config.side, this.config.side, 1])) };
  }
  loss({ images, draws, training }: LossContext<never>): tf.Scalar {
    const noise = tf.mul(draws.noise!, training ? 127.5 * this.config.noise : 0);
    const [code] = this.encoder.tokens(tf.add(images, noise) as tf.Tensor4D, ["final"]); // [B, 1, 16]
    return tf.mean(tf.squaredDifference(this.decoder.apply(tf.squeeze(code!, [1])), rowsOf(images)));
  }
  flops = (batchSize: number): number => 6 * batchSize * 2 * 64 * (this.config.side ** 2 + 16);
}
