/** Watches a network's embeddings while it is trained: collapse, and the guesses that need no network. @module */
import * as tf from "@tensorflow/tfjs";
import { type Compiled, currentEngine, watch } from "@nepa/engine";
import { lossAndMetrics } from "../base/gradient.ts";
import { partOf, Random } from "../base/random.ts";
import type { Dataset } from "../data/dataset.ts";
import { resize } from "../data/transforms.ts";
import { collapse, trivialPredictors } from "../eval/collapse.ts";
import { standardized } from "../model/ops.ts";
import type { BatchInputs } from "./compiled_step.ts";
import type { Trained } from "./objective.ts";
import type { Metrics } from "./history.ts";
import type { Measured } from "./trainer.ts";
import { imageSizeOf } from "../data/preprocessor.ts";
import { refuseAssign } from "./step.ts";

/** Images read by the meter; fewer where they have more than 64 patches. */
const IMAGES = 512, PATCHES = 32_768;

/** What a {@linkcode Meter} reads and how. */
export interface MeterOptions {
  dataset: Dataset;
  /** Whether the data set was held out from training, so that its loss says something. */
  heldOut: boolean;
  /** Whether the loss compares with standardised targets; so do the trivial guesses then. */
  standardizeTargets: boolean;
  /** The training's numbers of the classes, by the data set's. Default: those. */
  classNumbers?: Int32Array | undefined;
  batchSize: number;
  seed: number;
  compile: boolean;
  /** Updates of the training. */
  steps: number;
}

/** The patches' embeddings standardised as targets are, behind CLS. */
function withStandardized(z: tf.Tensor3D): tf.Tensor3D {
  const patches: tf.Tensor3D = tf.slice(z, [0, 1, 0]); // [images, N, D]
  return tf.concat([tf.slice(z, 0, [-1, 1, -1]), standardized(patches)], 1);
}

/** Measures the embeddings that a method's loss has for targets, of a fixed set of images. Nothing is trained or assigned. */
export class Meter {
  readonly #subject: Trained;
  readonly #options: MeterOptions;
  readonly #indices: Int32Array;
  readonly #pass: Compiled<[BatchInputs], { embeddings: tf.Tensor; loss: tf.Tensor }>;

  constructor(subject: Trained, options: MeterOptions) {
    const { dataset, seed, compile, heldOut } = options, { encoder } = subject.model;
    this.#subject = subject;
    this.#options = options;
    const { height, width } = imageSizeOf(encoder), { channels } = dataset;
    const [rows, columns] = encoder.grid({ shape: [1, height, width, channels] });
    const count = Math.min(dataset.length, IMAGES, Math.max(2, Math.floor(PATCHES / (rows * columns))));
    this.#indices = new Random(seed, "meter").permutation(dataset.length).slice(0, count);
    const pass = ({ batch, draws, numbers }: BatchInputs) => {
      const { result: { targets, loss } } = watch(() => subject.read(batch, draws, numbers), {
        refuseAssign,
      });
      return { embeddings: targets, loss: heldOut ? lossAndMetrics(loss).loss : tf.scalar(0) };
    };
    this.#pass = currentEngine().compile(pass, { name: "collapse meter", compile });
  }

  /** How many images it reads. */
  get size(): number {
    return this.#indices.length;
  }

  /** Reads them, after `step` updates. */
  async read(step: number): Promise<Measured> {
    const { batchSize, heldOut, standardizeTargets } = this.#options,
      { prefix } = this.#subject.model.encoder;
    const made: tf.Tensor[] = [];
    let loss = 0;
    try {
      for (let i = 0; i < this.size; i += batchSize) {
        const indices = this.#indices.subarray(i, i + batchSize), some = await this.#readSome(indices, step);
        made.push(some.embeddings);
        loss += some.loss * indices.length / this.size;
      }
      const z = tf.tidy(() => tf.concat(made, 0)) as tf.Tensor3D; // [images, T, D]
      const targets = tf.tidy(() => standardizeTargets ? withStandardized(z) : tf.clone(z)); // [images, T, D]
      const patches = tf.tidy(() => tf.slice(z, [0, prefix, 0]).reshape([-1, z.shape[2]])); // [images · N, D]
      made.push(z, targets, patches);
      const several = z.shape[1] >= prefix + 2; // one token alone has nothing beside it to be guessed from
      const metrics = { ...await collapse(patches), ...several && await trivialPredictors(targets, prefix) };
      return { metrics: metrics as Metrics, ...(heldOut && { validation: { loss } }) };
    } finally {
      tf.dispose(made);
    }
  }

  async #readSome(indices: Int32Array, step: number): Promise<{ embeddings: tf.Tensor; loss: number }> {
    const inputs = await this.#inputs(indices, step);
    try {
      const { embeddings, loss } = await this.#pass(inputs), [value] = await loss.data();
      loss.dispose();
      return { embeddings, loss: value! };
    } finally {
      tf.dispose({ ...inputs });
    }
  }

  /** Some images, and what a loss reads besides: the same draws at every reading. */
  async #inputs(indices: Int32Array, step: number): Promise<BatchInputs> {
    const { dataset, seed, batchSize, steps, classNumbers: numbers } = this.#options, subject = this.#subject;
    const { height, width, channels } = dataset, size = imageSizeOf(subject.model.encoder);
    const fit = resize(size),
      bytes = size.height * size.width * channels;
    const pixels = new Uint8Array(indices.length * bytes), random = new Random(0);
    const examples = await Promise.all(Array.from(indices, (index) => dataset.get(index)));
    examples.forEach(({ image: data }, i) => {
      pixels.set(fit({ data, height, width, channels }, random).data, i * bytes);
    });
    const shape: [number, number, number, number] = [indices.length, size.height, size.width, channels];
    const make = (): BatchInputs => ({
      batch: {
        images: tf.tensor4d(pixels, shape, "int32"),
        labels: tf.tensor1d(examples.map(({ label }) => numbers?.[label] ?? label), "int32"),
      },
      draws: partOf(subject.draws(batchSize, seed, 0), 0, indices.length),
      numbers: Object.fromEntries(
        Object.entries(subject.numbers(step - 1, steps)).map(([name, x]) => [name, tf.scalar(x)]),
      ),
    });
    return tf.tidy(make as () => tf.TensorContainerObject) as unknown as BatchInputs;
  }

  dispose(): void {
    this.#pass.dispose();
  }
}
