/**
 * Training written a second time, to check trainings by: op by op in plain tfjs, with clipping, AdamW and averages in double
 * precision on plain arrays. Nothing of the library's training is used.
 *
 * @module
 */
import { assert, assertAlmostEquals } from "@std/assert";
import { type Method, Nepa, type Objective, type PretrainOptions, Random, type Step, tf } from "nepa";
import { type TrainingBatch, trainingBatches, updateRandom, useEngine } from "nepa";
import { noise } from "./tiny.ts";

type Variables = ReadonlyMap<string, tf.Variable>;

/** Engines and ways to run a step: what every prototype is checked on. */
export const ways = (["tensorflow", "wasm"] as const).flatMap((engine) =>
  [true, false].map((compile) => ({ engine, compile }))
);

/** A test of every way, or of some; it fails where tensors are left behind. */
export function everyWay(
  what: string,
  check: (way: { compile: boolean }) => Promise<void>,
  some: readonly (typeof ways[number])[] = ways,
): void {
  for (const { engine, compile } of some) {
    Deno.test(`${what}, on ${engine}, ${compile ? "compiled" : "op by op"}`, async () => {
      await useEngine(engine);
      const before = tf.memory().numTensors;
      await check({ compile });
      const left = tf.memory().numTensors - before;
      assert(left === 0, `${left} tensors are left behind`);
    });
  }
}

/** A network in which attention and every block count from the first step on. */
export const plainConfig = {
  ...{ imageSize: 8, patchSize: 4, numChannels: 1, hiddenSize: 16, intermediateSize: 16 },
  ...{
    numHiddenLayers: 2,
    numAttentionHeads: 2,
    qkvBias: false,
    initializerRange: 0.2,
    layerscaleValue: 0.5,
  },
  ...{ dropPathProb: 0.2, posEmbedShift: 0.1 },
} as const;

/** The same network at each call. */
export const plainModel = (seed = 1): Nepa => new Nepa(plainConfig, { seed });

/** What trainings here have in common. */
export const setting = {
  ...{ steps: 4, batchSize: 8, seed: 3, learningRate: 0.01, clipNorm: 1, augment: null },
} satisfies PretrainOptions;

/** What a loss of {@linkcode trainPlainly} is given. */
export interface PlainContext {
  k: number;
  batch: TrainingBatch;
  draws: Record<string, tf.Tensor>;
  /** The current values of an objective's own random numbers. */
  own: Record<string, tf.Tensor>;
}

/** What {@linkcode trainPlainly} is told. */
export interface PlainOptions {
  model: Method;
  parameters: Variables;
  loss(context: PlainContext): tf.Scalar;
  /** An objective's draws. */
  draws?: Objective["draws"];
  after?(k: number): void;
  views?: number;
  rate?(k: number, name: string): number;
  /** Weight decay. Default: 0.05 of matrices. */
  decay?(k: number, name: string): number;
  /** Of the averages. */
  ema?: number;
  augment?: PretrainOptions["augment"];
  steps?: number;
}

/** The losses, and the averages by name, of a training that is computed here. */
export async function trainPlainly(
  options: PlainOptions,
): Promise<{ losses: number[]; norms: number[]; averages: Map<string, Float64Array> }> {
  const { model, parameters, loss, draws, after, views = 1, augment = null, ema = 0 } = options;
  const { batchSize, seed, clipNorm, learningRate } = setting, { steps = setting.steps } = options;
  const rate = options.rate ?? ((k) => warmup(learningRate, k, steps));
  const batches = trainingBatches(noise, { batchSize, seed, augment, views });
  const moments = new Map([...parameters].map(([name, { size }]) => [name, new Moments(size)]));
  const averages = new Map<string, Float64Array>(), losses: number[] = [], norms: number[] = [];
  for (let k = 0; k < steps; k++) {
    const batch = await batches.next(), given = model.draws({ batchSize, random: updateRandom(seed, k) });
    const own = draws?.({ batchSize, random: new Random(seed, "objective", k) }) ?? {};
    const { value, gradients } = gradientsOf(() => loss({ k, batch, draws: given, own }), parameters);
    tf.dispose([given, own]);
    losses.push(value);
    const norm = Math.sqrt([...gradients.values()].flatMap((g) => [...g]).reduce((sum, g) => sum + g * g, 0));
    norms.push(norm);
    for (const [name, gradient] of gradients) {
      const variable = parameters.get(name)!,
        decay = options.decay?.(k, name) ?? (variable.rank > 1 ? 0.05 : 0);
      const clipped = Float64Array.from(gradient, (g) => g * Math.min(1, clipNorm / (norm + 1e-6)));
      const now = moments.get(name)!.step(variable.dataSync(), clipped, k, rate(k, name), decay);
      tf.tidy(() => variable.assign(tf.tensor(Float32Array.from(now), variable.shape)));
    }
    after?.(k);
    for (const [name, variable] of parameters) {
      const now = variable.dataSync(), before = averages.get(name) ?? now;
      averages.set(name, Float64Array.from(now, (w, i) => ema * before[i]! + (1 - ema) * w));
    }
  }
  batches.dispose();
  return { losses, norms, averages };
}

/** The default schedule, written again. */
function warmup(peak: number, k: number, steps: number): number {
  const rising = Math.ceil(0.1 * steps);
  if (k < rising) return peak * k / rising;
  return peak * 0.5 * (1 + Math.cos(Math.PI * (k - rising) / (steps - rising)));
}

function gradientsOf(loss: () => tf.Scalar, parameters: Variables) {
  const gradients = new Map<string, Float32Array>();
  let value = NaN;
  tf.tidy(() => {
    const { value: found, grads } = tf.variableGrads(loss, [...parameters.values()]);
    value = found.dataSync()[0]!;
    for (const [name, variable] of parameters) {
      const gradient = grads[variable.name];
      if (gradient) gradients.set(name, Float32Array.from(gradient.dataSync()));
    }
  });
  return { value, gradients };
}

/** AdamW of one parameter. */
class Moments {
  #m: Float64Array;
  #v: Float64Array;

  constructor(size: number) {
    this.#m = new Float64Array(size);
    this.#v = new Float64Array(size);
  }

  step(weights: ArrayLike<number>, gradient: Float64Array, k: number, rate: number, decay: number) {
    return Float64Array.from(weights, (w, i) => {
      const g = gradient[i]!;
      const m = this.#m[i] = 0.9 * this.#m[i]! + 0.1 * g, v = this.#v[i] = 0.95 * this.#v[i]! + 0.05 * g * g;
      const [mean, square] = [m / (1 - 0.9 ** (k + 1)), v / (1 - 0.95 ** (k + 1))];
      return w - rate * decay * w - rate * mean / (Math.sqrt(square) + 1e-8);
    });
  }
}

/** Lets go of networks and variables. */
export function free(...made: ({ dispose(): void } | Variables | undefined)[]): void {
  for (const one of made) {
    if (one instanceof Map) tf.dispose([...one.values()]);
    else (one as { dispose(): void } | undefined)?.dispose();
  }
}

/** The numbers of variables, by name. */
export const numbersOf = (variables: Variables): Record<string, number[]> =>
  Object.fromEntries([...variables].map(([name, x]) => [name, [...x.dataSync()]]));

/** Minus the mean cosine of rows [.., D] with rows that are numbers. */
export function cosineLoss(x: tf.Tensor, targets: tf.Tensor): tf.Scalar {
  const length = (x: tf.Tensor) => tf.sqrt(tf.sum(tf.mul(x, x), -1));
  const cosines = tf.div(tf.sum(tf.mul(x, targets), -1), tf.mul(length(x), length(targets)));
  return tf.neg(tf.mean(cosines));
}

/** The numbers of a tensor as a constant, which no gradient knows. */
export const constant = <T extends tf.Tensor>(x: T): T => tf.tensor(x.dataSync().slice(), x.shape) as T;

/** The positions `from` to before `to` of tokens [B, T, D]. */
export const positions = (x: tf.Tensor3D, from: number, to: number): tf.Tensor3D =>
  tf.slice(x, [0, from, 0], [-1, to - from, -1]);

/** Checks losses of a run against those computed here. */
export function assertLosses(
  run: { readonly history: readonly Step[] },
  losses: readonly number[],
  within = 2e-4,
): void {
  const got = run.history.map(({ loss }) => loss);
  assert(got.length === losses.length && got.length > 0, `${got.length} and ${losses.length} losses`);
  got.forEach((loss, k) =>
    assertAlmostEquals(loss, losses[k]!, within * (1 + Math.abs(losses[k]!)), `loss ${k}`)
  );
}

/** Checks weights against others: apart by a small share of how far they moved from where they began. */
export function assertWeights(
  got: ReadonlyMap<string, tf.Variable>,
  wanted: ReadonlyMap<string, tf.Variable | ArrayLike<number>>,
  start: ReadonlyMap<string, tf.Variable>,
  within = 5e-3,
): void {
  const numbers = (x: tf.Variable | ArrayLike<number>) => x instanceof tf.Variable ? x.dataSync() : x;
  const far = (a: ArrayLike<number>, b: ArrayLike<number>) =>
    Math.hypot(...Array.from(a, (x, i) => x - b[i]!));
  assert(got.size === wanted.size, `${got.size} and ${wanted.size} parameters`);
  for (const [name, variable] of got) {
    const here = variable.dataSync(), there = numbers(wanted.get(name)!), first = start.get(name)!.dataSync();
    const moved = far(there, first), apart = far(here, there);
    assert(apart <= within * moved + 1e-7, `${name}: ${apart} apart after moving by ${moved}`);
  }
}
