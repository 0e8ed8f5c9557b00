/** Multinomial logistic regression on fixed features, fitted until the optimum is known to be near. @module */
import * as tf from "@tensorflow/tfjs";
import { type Compiled, currentEngine, inStreams, rowsOf } from "@nepa/engine";
import { minimise, type Minimum } from "./lbfgs.ts";
import { cholesky, solveLower, solveLowerTransposed } from "./linalg.ts";

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
  /** Leave the held-out images out. */
  selecting: boolean;
  /** Where to begin. Default: at zero. */
  from?: Fit | undefined;
  /** Enough is a bound this low on what the objective lacks. */
  excess: number;
  maxIterations: number;
}

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
    const mean = this.#mean,
      size = mean.length,
      rows = Array.from({ length: point.length / (size + 1) }, (_, k) => k * (size + 1));
    const weight = rows.map((at) => Array.from(this.#scale, (scale, j) => scale * point[at + j]!));
    const bias = rows.map((at, k) =>
      point[at + size]! - mean.reduce((sum, m, j) => sum + m * weight[k]![j]!, 0)
    );
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
  labels: Int32Array; // [rows]
  heldOut: boolean;
}

/** The regression of labels on features; it holds them on the engine until {@linkcode LogisticRegression.dispose}. */
export class LogisticRegression {
  readonly standardiser: Standardiser;
  readonly #blocks: Block[] = [];
  readonly #size: number; // D
  readonly #classes: number; // K
  readonly #residuals: Compiled<[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor>;
  readonly #best: Compiled<[tf.Tensor, tf.Tensor], tf.Tensor>;
  #covariance: Float64Array | undefined;
  #factored: { lambda: number; factor: Float64Array } | undefined;

  /**
   * @param features [n, D], not standardised.
   * @param labels [n], 0 to K − 1.
   * @param options K; the images in random order; how many at its end are left out while λ is chosen.
   */
  constructor(
    features: Features,
    labels: Int32Array,
    { classes, order, heldOut }: { classes: number; order: Int32Array; heldOut: number },
  ) {
    this.standardiser = new Standardiser(features);
    [this.#size, this.#classes] = [features.size, classes];
    const selected = order.length - heldOut;
    this.#add(features, labels, order.subarray(0, selected), false);
    this.#add(features, labels, order.subarray(selected), true);
    // Not by XLA: these are products of a tall matrix with a narrow one, and the library's kernels are twice as fast.
    this.#residuals = currentEngine().compile(residuals, { xla: false, name: "probe gradient" });
    const best = (x: tf.Tensor, w: tf.Tensor) => tf.argMax(logits(x, w), 1);
    this.#best = currentEngine().compile(best, { xla: false, name: "probe scores" });
  }

  #add(features: Features, all: Int32Array, order: Int32Array, heldOut: boolean): void {
    for (const rows of slices(order, this.#size)) {
      const labels = rows.map((row) => all[row]!), x = this.standardiser.tensor(features, rows);
      const y = tf.tidy(() => tf.cast(tf.oneHot(tf.tensor1d(labels, "int32"), this.#classes), "float32"));
      this.#blocks.push({ x, y: y as tf.Tensor2D, labels, heldOut });
    }
  }

  #used(selecting: boolean): { blocks: Block[]; rows: number } {
    const blocks = this.#blocks.filter(({ heldOut }) => !(selecting && heldOut));
    return { blocks, rows: blocks.reduce((sum, { x }) => sum + x.shape[0], 0) };
  }

  /** Fits weights and biases: mean cross-entropy + λ/2·‖W‖², the biases free. */
  async fit({ lambda, selecting, from, excess, maxIterations }: FitOptions): Promise<Fit> {
    const size = this.#size, factor = await this.#factor(lambda);
    const lengths = (gradient: Float64Array) => { // squared, of the weights' part and of all
      let all = 0, biases = 0;
      gradient.forEach((g, i) => (all += g * g, biases += i % (size + 1) === size ? g * g : 0));
      return { weights: all - biases, all };
    };
    const start = from?.point ?? new Float64Array(this.#classes * (size + 1));
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
    const size = this.#size, { blocks, rows } = this.#used(selecting);
    const w = tf.tensor2d(Float32Array.from(point), [this.#classes, size + 1]);
    const gradient = point.map((x, i) => i % (size + 1) === size ? 0 : lambda * Math.fround(x));
    for (const { x, y } of blocks) {
      const part = await this.#residuals(x, y, w), values = await part.data();
      part.dispose();
      for (let i = 0; i < gradient.length; i++) gradient[i]! += values[i]! / rows;
    }
    w.dispose();
    return gradient;
  }

  /** The factor L of L Lᵀ = c·XᵀX/n + λ·I, near the Hessian of each class's weights. */
  async #factor(lambda: number): Promise<Float64Array> {
    if (this.#factored?.lambda === lambda) return this.#factored.factor;
    const size = this.#size, { blocks, rows } = this.#used(false);
    if (!this.#covariance) {
      this.#covariance = new Float64Array(size * size);
      for (const { x } of blocks) {
        const gram = tf.matMul(x, x, true), values = await gram.data();
        gram.dispose();
        for (let i = 0; i < values.length; i++) this.#covariance[i]! += values[i]! / rows;
      }
    }
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
    const size = this.#size, out = vector.slice();
    const row = (k: number) => out.subarray(k * (size + 1), (k + 1) * (size + 1));
    const rows = Array.from({ length: this.#classes }, (_, k) => row(k));
    solveLower(factor, rows, size);
    solveLowerTransposed(factor, rows, size);
    for (const row of rows) row[size]! /= CURVATURE;
    return out;
  }

  /** The most likely class of each row of features [m, D]. */
  async predict({ data, size }: Features, fit: Fit): Promise<Int32Array> {
    const all = Int32Array.from({ length: data.length / size }, (_, i) => i), guesses = all.slice();
    for (const rows of slices(all, size)) {
      const x = this.standardiser.tensor({ data, size }, rows);
      guesses.set(await this.#guess(x, fit), rows[0]!);
      x.dispose();
    }
    return guesses;
  }

  /** The share of the held-out images whose class is predicted right. */
  async heldOutAccuracy(fit: Fit): Promise<number> {
    let right = 0, count = 0;
    for (const { x, labels } of this.#blocks.filter(({ heldOut }) => heldOut)) {
      const guesses = await this.#guess(x, fit);
      right += labels.filter((label, i) => label === guesses[i]).length;
      count += labels.length;
    }
    return right / count;
  }

  async #guess(x: tf.Tensor2D, fit: Fit): Promise<Int32Array> {
    const w = tf.tensor2d(Float32Array.from(fit.point), [this.#classes, this.#size + 1]);
    const best = await this.#best(x, w), guesses = await best.data();
    tf.dispose([w, best]);
    return guesses as Int32Array;
  }

  dispose(): void {
    for (const { x, y } of this.#blocks) tf.dispose([x, y]);
    this.#residuals.dispose();
    this.#best.dispose();
  }
}

/** Fits once to all rows, and gives what `use` makes of that. */
export async function fitted<T>(
  features: Features,
  labels: Int32Array,
  { classes, ...options }: Omit<FitOptions, "selecting"> & { classes: number },
  use: (fit: Fit, regression: LogisticRegression) => T | Promise<T>,
): Promise<T> {
  const order = labels.map((_, i) => i);
  const regression = new LogisticRegression(features, labels, { classes, order, heldOut: 0 });
  try {
    return await use(await regression.fit({ ...options, selecting: false }), regression);
  } finally {
    regression.dispose();
  }
}

/** Rows in parts of at most `BLOCK` numbers. */
function slices(order: Int32Array, size: number): Int32Array[] {
  const rows = Math.max(1, Math.floor(BLOCK / size));
  const part = (i: number) => order.subarray(i * rows, (i + 1) * rows);
  return Array.from({ length: Math.ceil(order.length / rows) }, (_, i) => part(i));
}

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
