/** Watches a network's embeddings while it is trained: collapse, and the guesses that need no network. @module */
import * as tf from "@tensorflow/tfjs";
import type { Dataset } from "../data/dataset.ts";
import { resize } from "../data/transforms.ts";
import { type Compiled, currentEngine, uncompiled } from "@nepa/engine";
import { collapse } from "../eval/collapse.ts";
import { trivialPredictors } from "../eval/trivial.ts";
import type { Nepa } from "../model/nepa.ts";
import { standardized } from "../model/objective.ts";
import { Random } from "../base/random.ts";
import type { Measured } from "./trainer.ts";

/** Images read by the meter; fewer where they have more than 64 patches. */
const IMAGES = 512, PATCHES = 32_768;

/** What a {@linkcode Meter} reads and how. */
export interface MeterOptions {
  dataset: Dataset;
  /** The training's. */
  loss: (outputs: { embeddings: tf.Tensor3D; predictions: tf.Tensor3D }) => tf.Scalar;
  /** Whether the data set was held out from training, so that its loss says something. */
  heldOut: boolean;
  /** Whether the loss compares with standardised targets; so do the trivial guesses then. */
  standardizeTargets: boolean;
  batchSize: number;
  causal: boolean;
  seed: number;
  compile: boolean;
}

/** The patches' embeddings standardised as targets are, behind CLS. */
function withStandardized(z: tf.Tensor3D): tf.Tensor3D {
  const patches: tf.Tensor3D = tf.slice(z, [0, 1, 0]); // [images, N, D]
  return tf.concat([tf.slice(z, 0, [-1, 1, -1]), standardized(patches)], 1);
}

/** Measures the patch embeddings z of a fixed set of images. */
export class Meter {
  readonly #model: Nepa;
  readonly #options: MeterOptions;
  readonly #indices: Int32Array;
  readonly #pass: Compiled<[tf.Tensor4D], { embeddings: tf.Tensor; loss: tf.Tensor }>;

  constructor(model: Nepa, options: MeterOptions) {
    const { dataset, seed, causal, compile, heldOut, loss } = options;
    this.#model = model;
    this.#options = options;
    const patches = (model.config.imageSize / model.config.patchSize) ** 2;
    const count = Math.min(dataset.length, IMAGES, Math.max(2, Math.floor(PATCHES / patches)));
    this.#indices = new Random(seed, "meter").permutation(dataset.length).slice(0, count);
    const pass = (images: tf.Tensor4D) => {
      const outputs = model.forward(images, { causal });
      return { embeddings: outputs.embeddings, loss: heldOut ? loss(outputs) : tf.scalar(0) };
    };
    this.#pass = compile ? currentEngine().compile(pass, { name: "collapse meter" }) : uncompiled(pass);
  }

  /** How many images it reads. */
  get size(): number {
    return this.#indices.length;
  }

  /** Reads them. */
  async read(): Promise<Measured> {
    const { batchSize, heldOut, standardizeTargets, dataset } = this.#options, parts: tf.Tensor[] = [];
    let loss = 0;
    for (let i = 0; i < this.size; i += batchSize) {
      const indices = this.#indices.subarray(i, i + batchSize), images = await this.#images(dataset, indices);
      const outputs = await this.#pass(images);
      parts.push(outputs.embeddings);
      loss += (await outputs.loss.data())[0]! * indices.length / this.size;
      tf.dispose([images, outputs.loss]);
    }
    const z = tf.tidy(() => tf.concat(parts, 0)) as tf.Tensor3D; // [images, T, D]
    const targets = tf.tidy(() => standardizeTargets ? withStandardized(z) : tf.clone(z)); // [images, T, D]
    const patches = tf.tidy(() => tf.slice(z, [0, 1, 0]).reshape([-1, z.shape[2]])); // [images · N, D]
    try {
      const metrics = { ...await collapse(patches), ...await trivialPredictors(targets) };
      return { metrics, ...(heldOut && { validation: { loss } }) };
    } finally {
      tf.dispose([z, targets, patches, ...parts]);
    }
  }

  async #images(dataset: Dataset, indices: Int32Array): Promise<tf.Tensor4D> {
    const { height, width, channels } = dataset, { imageSize } = this.#model.config;
    const fit = resize({ height: imageSize, width: imageSize }), size = imageSize * imageSize * channels;
    const pixels = new Uint8Array(indices.length * size), random = new Random(0);
    const examples = await Promise.all(Array.from(indices, (index) => dataset.get(index)));
    examples.forEach(({ image: data }, i) => {
      pixels.set(fit({ data, height, width, channels }, random).data, i * size);
    });
    const shape: [number, number, number, number] = [indices.length, imageSize, imageSize, channels];
    return tf.tensor4d(pixels, shape, "int32");
  }

  dispose(): void {
    this.#pass.dispose();
  }
}
