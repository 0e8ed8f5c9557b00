/** Linear probes: how well classes can be read off frozen features by one linear map. @module */
import type { Dataset } from "../data/dataset.ts";
import { consoleDisplay, jupyterDisplay, type MediaBundle } from "../display/jupyter.ts";
import { progress } from "../display/progress.ts";
import { formatPercent, Table } from "../display/table.ts";
import { Nepa } from "../nepa.ts";
import { refuseMisfit } from "../plan.ts";
import { Random } from "../random.ts";
import { allLayers, type Layer, readFeatures, type Reading, readPixels, standardize } from "./features.ts";
import { classify, type Fit, LogisticRegression } from "./logistic.ts";

/** Options of {@linkcode linearProbe}. */
export interface ProbeOptions extends Reading {
  /** Whose output is read: "embedding", block 1 to L, or "final", after the last norm. Default "final". */
  layer?: Layer;
  /** Probe every layer too, into `perLayer`. Default false. */
  layers?: boolean;
  /** Probe raw pixels, and the same network untrained with layer scale null, too. Default false. */
  references?: boolean;
  /** Of the held-out choice, and of the untrained network. Default 0. */
  seed?: number;
}

/** One probe. */
export interface Probe {
  /** Share of the test images whose class was read right, 0 to 1. */
  accuracy: number;
  /** Weight of the penalty that did best on held-out training images. */
  lambda: number;
  /** Whether the fit came as near to its optimum as {@linkcode Probe.leftToGain} says. */
  converged: boolean;
  /** What more iterations could take off the objective, in nats, estimated from its curvature. */
  leftToGain: number;
  iterations: number;
}

/** The penalties tried, from the largest. */
const LAMBDAS = [1e-3, 1e-4, 1e-5, 1e-6, 1e-7];

/** Images of the training set that choose among them, at most a fifth of all. */
const HELD_OUT = 5000;

/** What {@linkcode linearProbe} found; shows itself as a table. */
export class ProbeResult implements Probe {
  readonly accuracy: number;
  readonly lambda: number;
  readonly converged: boolean;
  readonly leftToGain: number;
  readonly iterations: number;
  /** Which layer was read. */
  readonly layer: Layer;
  /** Accuracy of each layer, by name, from below: "embedding", "1" to "L", "final". */
  readonly perLayer?: Readonly<Record<string, number>>;
  /** Accuracy of raw pixels. */
  readonly rawPixels?: number;
  /** Accuracy of the same layer of the same network with fresh weights, layer scale null. */
  readonly untrained?: number;
  /** Each fit, by what was probed. */
  readonly probes: ReadonlyMap<string, Probe>;

  /** @param probes By layer name, "raw pixels" and "untrained". */
  constructor(layer: Layer, probes: ReadonlyMap<string, Probe>, layers: readonly Layer[] | undefined) {
    const main = probes.get(String(layer))!,
      raw = probes.get("raw pixels"),
      untrained = probes.get("untrained");
    this.layer = layer;
    this.probes = probes;
    this.accuracy = main.accuracy;
    this.lambda = main.lambda;
    this.converged = main.converged;
    this.leftToGain = main.leftToGain;
    this.iterations = main.iterations;
    if (layers) {
      this.perLayer = Object.fromEntries(
        layers.map((name) => [String(name), probes.get(String(name))!.accuracy]),
      );
    }
    if (raw) this.rawPixels = raw.accuracy;
    if (untrained) this.untrained = untrained.accuracy;
  }

  /** All probes as a table. */
  table(): Table {
    const rows = [...this.probes].map(([name, { accuracy, lambda, converged }]) => ({
      features: /^\d+$/.test(name) ? `block ${name}` : name,
      accuracy,
      lambda: lambda.toExponential(0),
      converged,
    }));
    return new Table(rows, {
      title: "Linear probe, accuracy on the test images",
      format: { accuracy: formatPercent },
    });
  }

  [consoleDisplay](): string {
    return this.table().toString();
  }

  [jupyterDisplay](): MediaBundle {
    return this.table()[jupyterDisplay]();
  }
}

/**
 * Fits multinomial logistic regression to a frozen network's features, and reads the test images with it.
 *
 * Features are standardised by the training images. The objective is the mean cross-entropy + λ/2·|W|²; λ of 1e-3 … 1e-7
 * is the one that does best on 5,000 training images held out for that, then all are used. From large to small, each fit
 * starts from the one before; once a smaller λ has lost a full point on the held-out images, those below it are not tried.
 *
 * @param model Not changed.
 * @param train Images with labels to fit to.
 * @param test Images with labels to be judged by; looked at once.
 * @param options Which layer, how it is pooled, what else to probe.
 * @returns Accuracies from 0 to 1; shows itself as a table.
 * @throws {RangeError} If the images do not fit the network, the classes differ, or there are too few images.
 *
 * @example
 * ```ts
 * import { fashionMnist, linearProbe, Nepa, useEngine } from "nepa";
 * import { assert } from "@std/assert";
 *
 * await useEngine();
 * const { train, test } = await fashionMnist();
 * const model = new Nepa({ preset: "mini" }, { seed: 0 });
 * const { accuracy } = await linearProbe(model, train.subset(0.01), test.subset(0.02));
 * assert(accuracy > 0.2);
 * model.dispose();
 * ```
 */
export async function linearProbe(
  model: Nepa,
  train: Dataset,
  test: Dataset,
  options: ProbeOptions = {},
): Promise<ProbeResult> {
  const { layer = "final", layers = false, references = false, seed = 0 } = options;
  checkSets(model, train, test);
  const wanted = layers ? allLayers(model) : [layer];
  const probes = new Map<string, Probe>(), judge = { train, test, seed };
  const [fitted, judged] = [
    await readFeatures(model, train, wanted, options),
    await readFeatures(model, test, wanted, options),
  ];
  for (const name of wanted) {
    probes.set(String(name), await probe(fitted.get(name)!, judged.get(name)!, judge, `probe, ${name}`));
    fitted.delete(name);
  }
  if (references) {
    const fresh = new Nepa({ ...model.config, layerscaleValue: null }, {
      seed,
      preprocessor: model.preprocessor,
    });
    try {
      const [a, b] = [
        await readFeatures(fresh, train, [layer], options),
        await readFeatures(fresh, test, [layer], options),
      ];
      probes.set("untrained", await probe(a.get(layer)!, b.get(layer)!, judge, "probe, untrained"));
    } finally {
      fresh.dispose();
    }
    probes.set("raw pixels", await probe(readPixels(train), readPixels(test), judge, "probe, raw pixels"));
  }
  return new ProbeResult(layer, probes, layers ? wanted : undefined);
}

/** Refuses data sets that cannot be used together with the network. */
export function checkSets(model: Nepa, train: Dataset, test: Dataset): void {
  for (const set of [train, test]) refuseMisfit(set, model.config, true);
  if (train.classes.length !== test.classes.length) {
    throw new RangeError(
      `${test.name}: expected the ${train.classes.length} classes of ${train.name}, got ${test.classes.length}`,
    );
  }
  if (train.length < 10) {
    throw new RangeError(`${train.name}: expected at least 10 images, got ${train.length}`);
  }
}

/** Chooses λ, refits on all, judges. */
async function probe(
  features: Float32Array,
  judged: Float32Array,
  { train, test, seed }: { train: Dataset; test: Dataset; seed: number },
  title: string,
): Promise<Probe> {
  const columns = features.length / train.length, classes = train.classes.length;
  standardize(features, [judged], columns);
  const bar = progress({ title, total: LAMBDAS.length + 1, unit: "fits" });
  const order = new Random(seed, "probe").permutation(train.length);
  const held = Math.min(HELD_OUT, Math.floor(train.length / 5));
  const pick = (rows: Int32Array) => {
    const picked = new Float32Array(rows.length * columns);
    rows.forEach((row, i) => picked.set(features.subarray(row * columns, (row + 1) * columns), i * columns));
    return { x: picked, y: Int32Array.from(rows, (row) => train.labels[row]!) };
  };
  const validation = pick(order.slice(0, held)), rest = pick(order.slice(held));
  let best: { fit: Fit; accuracy: number } | undefined, start: Float64Array | undefined;
  await using(new LogisticRegression(rest.x, rest.y, classes), async (regression) => {
    for (const [i, lambda] of LAMBDAS.entries()) {
      const fit = await regression.fit(lambda, start),
        right = share(classify(validation.x, fit, classes), validation.y);
      start = fit.weights;
      bar.update(i + 1);
      if (!best || right > best.accuracy) best = { fit, accuracy: right };
      else if (right < best.accuracy - 0.01) break;
    }
  });
  const { lambda, weights } = best!.fit;
  const fit = await using(
    new LogisticRegression(features, train.labels, classes),
    (regression) => regression.fit(lambda, weights),
  );
  await bar.end();
  const { converged, leftToGain, iterations } = fit;
  return {
    accuracy: share(classify(judged, fit, classes), test.labels),
    lambda,
    converged,
    leftToGain,
    iterations,
  };
}

async function using<T extends { dispose(): void }, R>(
  resource: T,
  work: (resource: T) => Promise<R>,
): Promise<R> {
  try {
    return await work(resource);
  } finally {
    resource.dispose();
  }
}

/** Share of the guesses that are right. */
export function share(guesses: Int32Array, labels: Int32Array): number {
  return guesses.reduce((right, guess, i) => right + (guess === labels[i] ? 1 : 0), 0) / labels.length;
}
