/** Multinomial logistic regression on fixed features, fitted until the optimum is known to be near. @module */
import * as tf from "@tensorflow/tfjs";
import { type Compiled, currentEngine, inStreams, rowsOf } from "@nepa/engine";
import { owned } from "../base/owned.ts";
import { minimise, type Minimum } from "./lbfgs.ts";
import { cholesky, solveLower, solveLowerTransposed } from "./linalg.ts";
import { guessed } from "./scores.ts";

/** Feature vectors one after the other, [n, size]. */
export interface Features {
  data: Float32Array;
  size: number;
}

/** A fitted classifier, in standardised features. */
export interface Fit extends Minimum {
  /** Weight of the penalty λ/2·‖W‖². */
  lambda: number;
  /** Length of the objective's gradient at the end. */
  gradientNorm: number;
  /** The objective is at most this much above its minimum over W: ‖∇W‖² / 2λ, since λ bounds its curvature from below. */
  excess: number;
}

/** What {@linkcode LogisticRegression.fit} is asked for. */
export interface FitOptions {
  lambda: number;
  /** Leave the held-out images out. Default false. */
  selecting?: boolean;
  /** Where to begin. Default: at zero. */
  from?: Fit | undefined;
  /** Enough is a bound this low on what the objective lacks. */
  excess: number;
  maxIterations: number;
}

const rowsIn = (values: Float64Array, width: number) =>
  Array.from({ length: values.length / width }, (_, k) => values.subarray(k * width, (k + 1) * width));

/** Numbers in one tensor of features: 64 MB, which every engine can hold. */
const BLOCK = 2 ** 24;

/** Curvature p(1 − p) of a class that the preconditioner reckons with: about that of a fitted classifier. */
const CURVATURE = 0.05;

/** A row's chosen features, with mean 0 and standard deviation 1 over the training images. */
export class Standardiser {
  readonly #mean: Float64Array;
  readonly #scale: Float64Array;

  constructor({ data, size }: Features) {
    const n = data.length / size, mean = new Float64Array(size), square = new Float64Array(size);
    for (let i = 0; i < n; i++) for (let j = 0; j < size; j++) mean[j]! += data[i * size + j]!;
    for (let j = 0; j < size; j++) mean[j]! /= n;
    for (let i = 0; i < n; i++) {
      for (let j = 0; j < size; j++) square[j]! += (data[i * size + j]! - mean[j]!) ** 2;
    }
    this.#mean = mean;
    // A constant feature says nothing; what float32 leaves of it is no spread.
    this.#scale = square.map((s, j) => Math.sqrt(s / n) > 1e-9 * Math.abs(mean[j]!) ? Math.sqrt(n / s) : 0);
  }

  /** Weights [K, D] and biases [K] for features as they are, from those for standardised ones [K, D + 1], a bias last. */
  undone(point: Float64Array): { weight: number[][]; bias: number[] } {
    const mean = this.#mean, size = mean.length, rows = rowsIn(point, size + 1);
    const weight = rows.map((row) => Array.from(this.#scale, (scale, j) => scale * row[j]!));
    const bias = rows.map((row, k) => row[size]! - mean.reduce((sum, m, j) => sum + m * weight[k]![j]!, 0));
    return { weight, bias };
  }

  /** The rows that `order` names, as a tensor [rows, size]. */
  tensor({ data, size }: Features, order: Int32Array): tf.Tensor2D {
    const out = new Float32Array(order.length * size), mean = this.#mean, scale = this.#scale;
    order.forEach((row, i) => {
      for (let j = 0; j < size; j++) out[i * size + j] = (data[row * size + j]! - mean[j]!) * scale[j]!;
    });
    return tf.tensor2d(out, [order.length, size]);
  }
}

interface Block {
  x: tf.Tensor2D; // [rows, D]
  y: tf.Tensor2D; // [rows, K], one-hot
  heldOut: boolean;
}

/** What a {@linkcode LogisticRegression} is of. */
interface Sample {
  /** K. */
  classes: number;
  /** The images, in random order. Default: all, in theirs. */
  order?: Int32Array;
  /** How many at the end of that are left out while λ is chosen. Default 0. */
  heldOut?: number;
  /** Ends the work. */
  signal?: AbortSignal | undefined;
}

/** The regression of labels on features; it holds them on the engine until {@linkcode LogisticRegression.dispose}. */
export class LogisticRegression {
  readonly standardiser: Standardiser;
  readonly #blocks: Block[] = [];
  readonly #heldOut: Int32Array;
  readonly #residuals: Compiled<[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor>;
  readonly #best: Compiled<[tf.Tensor, tf.Tensor], tf.Tensor>;
  #covariance: Float64Array | undefined;
  #factored: { lambda: number; factor: Float64Array } | undefined;

  /** @param features [n, D], not standardised. @param labels [n], 0 to K − 1. */
  constructor(readonly features: Features, readonly labels: Int32Array, readonly sample: Sample) {
    this.standardiser = new Standardiser(features);
    const { classes, order = labels.map((_, i) => i), heldOut = 0 } = sample, most = blockOf(features);
    const selected = order.length - heldOut;
    this.#heldOut = order.subarray(selected);
    for (let from = 0, to = 0; from < order.length; from = to) {
      to = Math.min(from + most, from < selected ? selected : order.length);
      const rows = order.subarray(from, to), said = rows.map((row) => labels[row]!);
      const y = tf.tidy(() => tf.oneHot(tf.tensor1d(said, "int32"), classes).cast("float32")) as tf.Tensor2D;
      this.#blocks.push({ x: this.standardiser.tensor(features, rows), y, heldOut: from >= selected });
    }
    // Not by XLA: these are products of a tall matrix with a narrow one, and the library's kernels are twice as fast.
    this.#residuals = currentEngine().compile(residuals, { xla: false, name: "probe gradient" });
    const best = (x: tf.Tensor, w: tf.Tensor) => tf.argMax(logits(x, w), 1);
    this.#best = currentEngine().compile(best, { xla: false, name: "probe scores" });
  }

  /** The sum over the images, but those held out while λ is chosen, of what `part` gives for some, divided by their number. */
  async #mean(
    size: number,
    selecting: boolean,
    part: (block: Block) => tf.Tensor | Promise<tf.Tensor>,
  ): Promise<Float64Array> {
    const blocks = this.#blocks.filter(({ heldOut }) => !(selecting && heldOut));
    const mean = new Float64Array(size), rows = blocks.reduce((sum, { x }) => sum + x.shape[0], 0);
    for (const block of blocks) {
      this.sample.signal?.throwIfAborted();
      const summed = await part(block), values = await summed.data();
      summed.dispose();
      for (let i = 0; i < size; i++) mean[i]! += values[i]! / rows;
    }
    return mean;
  }

  /** Fits weights and biases: mean cross-entropy + λ/2·‖W‖², the biases free. */
  async fit({ lambda, selecting = false, from, excess, maxIterations }: FitOptions): Promise<Fit> {
    const { features: { size }, sample: { classes } } = this, factor = await this.#factor(lambda);
    const lengths = (gradient: Float64Array) => { // squared, of the weights' part and of all
      let all = 0, biases = 0;
      gradient.forEach((g, i) => (all += g * g, biases += i % (size + 1) === size ? g * g : 0));
      return { weights: all - biases, all };
    };
    const start = from?.point ?? new Float64Array(classes * (size + 1));
    const minimum = await minimise(start, {
      gradient: (point) => this.#gradient(point, lambda, selecting),
      precondition: (vector) => this.#precondition(vector, factor),
      done: (gradient) => lengths(gradient).weights <= 2 * lambda * excess,
      maxIterations,
    }, from && shifted(from, lambda, size));
    const { weights, all } = lengths(minimum.gradient);
    return { ...minimum, lambda, gradientNorm: Math.sqrt(all), excess: weights / (2 * lambda) };
  }

  /** [K, D + 1], the bias last in each row. */
  async #gradient(point: Float64Array, lambda: number, selecting: boolean): Promise<Float64Array> {
    const { features: { size }, sample: { classes } } = this;
    const w = tf.tensor2d(Float32Array.from(point), [classes, size + 1]);
    using _own = owned(w);
    const gradient = await this.#mean(point.length, selecting, ({ x, y }) => this.#residuals(x, y, w));
    return gradient.map((g, i) => i % (size + 1) === size ? g : g + lambda * Math.fround(point[i]!));
  }

  /** The factor L of L Lᵀ = c·XᵀX/n + λ·I, near the Hessian of each class's weights. */
  async #factor(lambda: number): Promise<Float64Array> {
    if (this.#factored?.lambda === lambda) return this.#factored.factor;
    const { size } = this.features;
    this.#covariance ??= await this.#mean(size * size, false, ({ x }) => tf.matMul(x, x, true));
    // What is added to the diagonal is above float32's rounding, which is larger the more the features resemble each other.
    for (let rounding = 1e-6;; rounding *= 10) {
      const matrix = this.#covariance.map((value) => CURVATURE * value);
      for (let i = 0; i < size; i++) matrix[i * size + i]! += lambda + rounding * CURVATURE;
      try {
        this.#factored = { lambda, factor: cholesky(matrix, size) };
        return this.#factored.factor;
      } catch (error) {
        if (rounding > 1) throw error;
      }
    }
  }

  #precondition(vector: Float64Array, factor: Float64Array): Float64Array {
    const { size } = this.features, out = vector.slice(), rows = rowsIn(out, size + 1);
    solveLower(factor, rows, size);
    solveLowerTransposed(factor, rows, size);
    for (const row of rows) row[size]! /= CURVATURE;
    return out;
  }

  /** The most likely class of each row of features [m, D], or of those that `order` names. */
  async predict(features: Features, fit: Fit, order?: Int32Array): Promise<Int32Array> {
    const { data, size } = features, count = order?.length ?? data.length / size;
    const w = tf.tensor2d(Float32Array.from(fit.point), [this.sample.classes, size + 1]);
    using _own = owned(w);
    return await guessed(count, blockOf(features), async (rows) => {
      const x = this.standardiser.tensor(features, order ? rows.map((i) => order[i]!) : rows);
      return await this.#best(x, w).finally(() => x.dispose());
    }, this.sample.signal);
  }

  /** The share of the held-out images whose class is predicted right. */
  async heldOutAccuracy(fit: Fit): Promise<number> {
    const { features, labels } = this, held = this.#heldOut;
    const guesses = await this.predict(features, fit, held);
    return guesses.filter((guess, i) => guess === labels[held[i]!]).length / held.length;
  }

  dispose(): void {
    for (const { x, y } of this.#blocks) tf.dispose([x, y]);
    this.#residuals.dispose();
    this.#best.dispose();
  }
}

/** Rows of at most `BLOCK` numbers. */
const blockOf = ({ size }: Features) => Math.max(1, Math.floor(BLOCK / size));

/** The steps of a fit with another λ: the gradient of its penalty changes by λ times the step. */
function shifted({ pairs, lambda: before }: Fit, lambda: number, size: number): Minimum["pairs"] {
  return pairs.map(({ step, change }) => ({
    step,
    change: change.map((c, i) => i % (size + 1) === size ? c : c + (lambda - before) * step[i]!),
  }));
}

/** Scores of the classes [rows, K] for features x [rows, D], weights and biases w [K, D + 1]. */
function logits(x: tf.Tensor, w: tf.Tensor): tf.Tensor {
  const [classes = 0, width = 1] = w.shape, size = width - 1;
  const biases = tf.transpose(tf.slice(w, [0, size], [classes, 1])); // [1, K]
  return tf.add(tf.matMul(x, tf.slice(w, [0, 0], [classes, size]), false, true), biases);
}

/** The gradient [K, D + 1] of the cross-entropy, summed over the rows. */
function residuals(x: tf.Tensor, y: tf.Tensor, w: tf.Tensor): tf.Tensor {
  const parts = inStreams(x.shape[0]!, (from, count) => {
    const some = rowsOf(x, from, count), r = tf.sub(tf.softmax(logits(some, w)), rowsOf(y, from, count)); // [rows, K]
    const gradient = tf.concat([tf.matMul(r, some, true), tf.expandDims(tf.sum(r, 0), 1)], 1); // [K, D + 1]
    return tf.expandDims(gradient, 0);
  });
  return tf.sum(parts, 0);
}
