/** Does an engine compute the right numbers, and how fast? @module */
import * as tf from "@tensorflow/tfjs";

const wave = (shape: number[], of: (i: number) => number) =>
  tf.tensor(Float32Array.from({ length: tf.util.sizeFromShape(shape) }, (_, i) => of(i)), shape);

/** Attention over normalised rows, GELU, and the mean square of that: x [B,T,D], w [D,D]. */
function tiny(x: tf.Tensor, w: tf.Tensor): tf.Scalar {
  const [batch, tokens, width] = x.shape as [number, number, number];
  const centred = x.sub(x.mean(-1, true));
  const u = centred.mul(centred.square().mean(-1, true).add(1e-6).rsqrt());
  const q = tf.matMul(u.reshape([batch * tokens, width]), w).reshape([batch, tokens, width]); // [B*T,D] -> [B,T,D]
  const o = tf.matMul(tf.softmax(tf.matMul(q, u, false, true)), u); // [B,T,T] x [B,T,D]
  return o.mul(tf.erf(o.mul(Math.SQRT1_2)).add(1).mul(0.5)).square().mean();
}

/** The function's value, and its gradients by x and w, each weighted with fixed numbers and added up. */
async function passes(batch: number, tokens: number, width: number): Promise<Float32Array> {
  const out = tf.tidy(() => {
    const x = wave([batch, tokens, width], (i) => Math.sin(i + 1)),
      w = wave([width, width], (i) => Math.cos(i + 1));
    const { value, grads } = tf.valueAndGrads((x: tf.Tensor, w: tf.Tensor) => tiny(x, w))([x, w]);
    return tf.stack([value, ...grads.map((g) => g.mul(wave(g.shape, (i) => Math.cos(i * i))).sum())]);
  });
  const numbers = await out.data<"float32">();
  out.dispose();
  return numbers;
}

/** `passes(2, 3, 4)` in float64, the gradients by finite differences (NumPy). */
const EXPECTED = [0.2759114694599342, -0.08288500129227754, 0.11421697953828358];

/**
 * Compares a forward and a backward pass on tfjs' current backend with stored numbers.
 *
 * @throws {Error} If they differ by more than 1e-4.
 */
export async function selfCheck(): Promise<void> {
  const actual = await passes(2, 3, 4);
  for (const [i, expected] of EXPECTED.entries()) {
    // Not `>`: NaN must fail too.
    if (!(Math.abs(actual[i]! - expected) <= 1e-4)) {
      throw new Error(`self-check: expected ${EXPECTED.join(", ")}, got ${actual.join(", ")}`);
    }
  }
}

/** Seconds for one [n, n] x [n, n], until its last element can be read. */
async function productSeconds(n: number): Promise<number> {
  const a = tf.fill([n, n], 0.5), start = performance.now();
  const last = tf.tidy(() => tf.matMul(a, a).slice([n - 1, n - 1], [1, 1]));
  await last.data();
  const seconds = (performance.now() - start) / 1000;
  tf.dispose([a, last]);
  return seconds;
}

/** Square float32 products on tfjs' current backend, 10^9 operations a second: the best of five at a size that fills it. */
export async function measureGflops(): Promise<number> {
  let n = 64;
  await productSeconds(n);
  while (n < 4096 && await productSeconds(n) < 0.02) n *= 2;
  let best = Infinity;
  for (let i = 0; i < 5; i++) best = Math.min(best, await productSeconds(n));
  return 2 * n ** 3 / best / 1e9;
}
