/** Multinomial logistic regression on fixed features, fitted until little can be left to gain. @module */
import * as tf from "@tensorflow/tfjs";
import { type Compiled, currentEngine } from "../engine/mod.ts";
import { cholesky, solveTriangular } from "./linalg.ts";

/** A fitted classifier and how far it may be from the best. */
export interface Fit {
  /** [D + 1, K] row-major, the biases last. */
  weights: Float64Array;
  lambda: number;
  iterations: number;
  /** Passes over the data. */
  evaluations: number;
  /** Euclidean norm of the objective's gradient. */
  gradientNorm: number;
  /** What the next steps can still take off the objective, in nats, by the curvature seen so far. */
  leftToGain: number;
  /** Whether that fell below the tolerance. */
  converged: boolean;
}

/** Steps kept to learn the curvature from, the most iterations, and what may be left to gain, in nats. */
const MEMORY = 30, ITERATIONS = 400, TOLERANCE = 1e-6;

/** Scale of the Hessian, in units of the features' covariance, that a first step assumes. */
const CURVATURE = 0.05;

interface Pair {
  s: Float64Array;
  y: Float64Array;
  rho: number;
}

/**
 * Mean cross-entropy + lambda / 2 · |W|², biases free, over features [N, D].
 *
 * Minimised by L-BFGS in the metric of the features' covariance, which is as good as whitening them. The engine computes
 * the gradients; a step's length is found from slopes alone, which float32 gives more digits of than of the loss.
 */
export class LogisticRegression {
  readonly #x: tf.Tensor2D;
  readonly #y: tf.Tensor2D;
  readonly #gradient: Compiled<tf.Tensor[], tf.Tensor>;
  readonly #size: [n: number, d: number, k: number];
  #covariance: Float32Array | undefined;

  /**
   * @param features [N, D], standardised.
   * @param labels [N], 0 to K - 1.
   * @param classes K.
   */
  constructor(features: Float32Array, labels: Int32Array, classes: number) {
    const n = labels.length, d = features.length / n, k = classes;
    this.#size = [n, d, k];
    this.#x = tf.tensor2d(features, [n, d]);
    this.#y = tf.tidy(() => tf.oneHot(tf.tensor1d(labels, "int32"), k).cast("float32")) as tf.Tensor2D;
    this.#gradient = currentEngine().compile((x, y, w) => {
      const weights = tf.slice(w as tf.Tensor2D, [0, 0], [d, k]),
        bias = tf.slice(w as tf.Tensor2D, [d, 0], [1, k]);
      const logits = tf.add(tf.matMul(x as tf.Tensor2D, weights), bias); // [N, K]
      const residual = tf.sub(tf.softmax(logits), y!) as tf.Tensor2D;
      const slopes = tf.matMul(x as tf.Tensor2D, residual, true); // [D, K]
      return tf.div(tf.concat([slopes, tf.sum(residual, 0, true)], 0), n) as tf.Tensor;
    }, { name: "logistic regression" });
  }

  /** The gradient at `w`. */
  async #at(w: Float64Array, lambda: number): Promise<Float64Array> {
    const [, d, k] = this.#size, point = tf.tensor2d(Float32Array.from(w), [d + 1, k]);
    const result = await this.#gradient(this.#x, this.#y, point);
    const g = Float64Array.from(result.dataSync());
    tf.dispose([point, result]);
    for (let i = 0; i < d * k; i++) g[i] = g[i]! + lambda * w[i]!;
    return g;
  }

  /** v ↦ M⁻¹ v, M the features' covariance times a constant plus lambda. */
  #preconditioner(lambda: number): (v: Float64Array) => Float64Array {
    const [n, d, k] = this.#size;
    const covariance = this.#covariance ??= tf.tidy(() => {
      const products = tf.div(tf.matMul(this.#x, this.#x, true), n); // [D, D]
      return products.dataSync().slice() as Float32Array;
    });
    const m = Float64Array.from(covariance, (value) => CURVATURE * value);
    for (let i = 0; i < d; i++) m[i * d + i] = m[i * d + i]! + lambda + 1e-6 * CURVATURE;
    const root = cholesky(m, d);
    return (v) => {
      const out = v.slice(), head = out.subarray(0, d * k);
      solveTriangular(root, head, d);
      solveTriangular(root, head, d, true);
      for (let i = d * k; i < out.length; i++) out[i] = out[i]! / CURVATURE;
      return out;
    };
  }

  /**
   * Fits.
   *
   * @param lambda Above 0.
   * @param start Where to begin, such as the fit for a neighbouring lambda. Default: zeros.
   */
  async fit(lambda: number, start?: Float64Array): Promise<Fit> {
    const [, d, k] = this.#size, precondition = this.#preconditioner(lambda), pairs: Pair[] = [];
    let w: Float64Array = start?.slice() ?? new Float64Array((d + 1) * k), g = await this.#at(w, lambda);
    let evaluations = 1, iterations = 0, leftToGain = Infinity;
    for (; iterations < ITERATIONS; iterations++) {
      const direction = descent(g, pairs, precondition), slope = dot(direction, g);
      leftToGain = -slope / 2;
      if (!(leftToGain > TOLERANCE)) break;
      const next = await this.#search(w, direction, slope, lambda);
      evaluations += next.evaluations;
      const s = direction.map((x) => next.length * x), y = next.gradient.map((x, i) => x - g[i]!);
      const sy = dot(s, y);
      if (!(sy > 0)) break; // float32 has no more to say
      if (pairs.push({ s, y, rho: 1 / sy }) > MEMORY) pairs.shift();
      w = w.map((x, i) => x + s[i]!);
      g = next.gradient;
    }
    const converged = leftToGain <= TOLERANCE, gradientNorm = Math.sqrt(dot(g, g));
    return { weights: w, lambda, iterations, evaluations, gradientNorm, leftToGain, converged };
  }

  /** Goes along a direction until the slope has become less steep by at least a tenth, and not much uphill. */
  async #search(
    w: Float64Array,
    direction: Float64Array,
    slope: number,
    lambda: number,
  ): Promise<{ length: number; gradient: Float64Array; evaluations: number }> {
    let low = 0, high = Infinity, lowSlope = slope, length = 1;
    for (let evaluations = 1;; evaluations++) {
      const gradient = await this.#at(w.map((x, i) => x + length * direction[i]!), lambda);
      const here = dot(gradient, direction);
      const short = here < 0.9 * slope, long = here > -0.5 * slope;
      if (!short && !long || evaluations === 12) return { length, gradient, evaluations };
      if (short) {
        [low, lowSlope] = [length, here];
        length = high === Infinity ? 2 * length : (low + high) / 2;
      } else {
        high = length;
        length = low + (length - low) * Math.min(0.9, Math.max(0.1, lowSlope / (lowSlope - here)));
      }
    }
  }

  dispose(): void {
    tf.dispose([this.#x, this.#y]);
    this.#gradient.dispose();
  }
}

/** The L-BFGS direction: minus the inverse Hessian, as the pairs show it, times the gradient. */
function descent(
  g: Float64Array,
  pairs: readonly Pair[],
  precondition: (v: Float64Array) => Float64Array,
): Float64Array {
  const q = g.slice(), shares: number[] = [];
  for (const { s, y, rho } of pairs.toReversed()) {
    const share = rho * dot(s, q);
    shares.push(share);
    for (let i = 0; i < q.length; i++) q[i] = q[i]! - share * y[i]!;
  }
  const z = precondition(q), last = pairs.at(-1);
  const scale = last ? 1 / (last.rho * dot(last.y, precondition(last.y))) : 1;
  for (let i = 0; i < z.length; i++) z[i] = z[i]! * scale;
  for (const { s, y, rho } of pairs) {
    const change = shares.pop()! - rho * dot(y, z);
    for (let i = 0; i < z.length; i++) z[i] = z[i]! + change * s[i]!;
  }
  return z.map((x) => -x);
}

function dot(a: Float64Array, b: Float64Array): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i]! * b[i]!;
  return sum;
}

/** The class with the largest logit for each row of features [N, D]. */
export function classify(features: Float32Array, { weights }: Fit, classes: number): Int32Array {
  const d = weights.length / classes - 1, n = features.length / d;
  const best = tf.tidy(() => {
    const w = tf.tensor2d(Float32Array.from(weights), [d + 1, classes]), x = tf.tensor2d(features, [n, d]);
    const logits = tf.add(tf.matMul(x, tf.slice(w, [0, 0], [d, classes])), tf.slice(w, [d, 0]));
    return tf.argMax(logits, 1);
  });
  const result = Int32Array.from(best.dataSync());
  best.dispose();
  return result;
}
