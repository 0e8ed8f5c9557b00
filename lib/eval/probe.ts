/** Linear probes: how well classes can be read off frozen features by one linear map. @module */
import type { Dataset } from "../data/dataset.ts";
import { consoleDisplay, jupyterDisplay, type MediaBundle } from "../display/jupyter.ts";
import { progress } from "../display/progress.ts";
import { formatPercent, Table } from "../display/table.ts";
import { Nepa } from "../nepa.ts";
import { refuseMisfit } from "../plan.ts";
import { Random } from "../random.ts";
import { allLayers, type Layer, type Reading, readPixels, readSets } from "./features.ts";
import { type Fit, LogisticRegression } from "./logistic.ts";

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
  /** Whether {@linkcode Probe.excess} is at most 1e-4. */
  converged: boolean;
  /**
   * How much the objective, in nats, can at most lie above its minimum over the weights: |∇W|² / 2λ, as λ bounds its
   * curvature from below.
   */
  excess: number;
  /** Length of the objective's gradient, biases included. */
  gradientNorm: number;
  /** Steps of the last fit, on all images. */
  iterations: number;
  /** Accuracy on the held-out training images for each λ that was tried. */
  selection: readonly { lambda: number; accuracy: number }[];
}

/** The penalties tried, from the largest. */
const LAMBDAS = [1e-3, 1e-4, 1e-5, 1e-6, 1e-7];

/** Images of the training set that choose among them, at most a fifth of all. */
const HELD_OUT = 5000;

/** How near the optimum a fit ends (see {@linkcode Probe.excess}) while λ is chosen, and at last; most iterations. */
const SELECTING = { excess: 1e-3, maxIterations: 150 }, FINAL = { excess: 1e-4, maxIterations: 1000 };

/** What {@linkcode linearProbe} found; shows itself as a table. */
export class ProbeResult implements Probe {
  readonly accuracy: number;
  readonly lambda: number;
  readonly converged: boolean;
  readonly excess: number;
  readonly gradientNorm: number;
  readonly iterations: number;
  readonly selection: Probe["selection"];
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
    this.excess = main.excess;
    this.gradientNorm = main.gradientNorm;
    this.iterations = main.iterations;
    this.selection = main.selection;
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
    const rows = [...this.probes].map(([name, { accuracy, lambda, excess, converged }]) => ({
      features: /^\d+$/.test(name) ? `block ${name}` : name,
      accuracy,
      λ: lambda.toExponential(0),
      "above the optimum, at most": excess.toExponential(0) + (converged ? "" : " (not converged)"),
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
  const [fitted, judged] = await readSets(model, [train, test], wanted, options);
  for (const name of wanted) {
    probes.set(String(name), await probe(fitted!.get(name)!, judged!.get(name)!, judge, `probe, ${name}`));
    fitted!.delete(name);
  }
  if (references) {
    const fresh = new Nepa({ ...model.config, layerscaleValue: null }, {
      seed,
      preprocessor: model.preprocessor,
    });
    try {
      const [fitted, judged] = await readSets(fresh, [train, test], [layer], options);
      const found = await probe(fitted!.get(layer)!, judged!.get(layer)!, judge, "probe, untrained");
      probes.set("untrained", found);
    } finally {
      fresh.dispose();
    }
    const pixels = (set: Dataset) => readPixels(set, model.preprocessor);
    probes.set("raw pixels", await probe(pixels(train), pixels(test), judge, "probe, raw pixels"));
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
  const size = features.length / train.length;
  const bar = progress({ title, total: LAMBDAS.length + 1, unit: "fits" });
  const regression = new LogisticRegression({ data: features, size }, train.labels, {
    classes: train.classes.length,
    order: new Random(seed, "probe").permutation(train.length),
    heldOut: Math.min(HELD_OUT, Math.floor(train.length / 5)),
  });
  try {
    const tried: { fit: Fit; accuracy: number }[] = [];
    let best: typeof tried[number] | undefined;
    for (const lambda of LAMBDAS) {
      const fit = await regression.fit({ lambda, selecting: true, from: tried.at(-1)?.fit, ...SELECTING });
      const accuracy = await regression.heldOutAccuracy(fit);
      tried.push({ fit, accuracy });
      bar.update(tried.length);
      if (!best || accuracy > best.accuracy) best = tried.at(-1)!;
      else if (accuracy < best.accuracy - 0.01) break;
    }
    const from = best!.fit, { lambda } = from;
    const fit = await regression.fit({ lambda, selecting: false, from, ...FINAL });
    return {
      accuracy: share(await regression.predict({ data: judged, size }, fit), test.labels),
      lambda,
      converged: fit.excess <= FINAL.excess,
      excess: fit.excess,
      gradientNorm: fit.gradientNorm,
      iterations: fit.iterations,
      selection: tried.map(({ fit, accuracy }) => ({ lambda: fit.lambda, accuracy })),
    };
  } finally {
    regression.dispose();
    bar.update(LAMBDAS.length + 1);
    await bar.end();
  }
}

/** Share of the guesses that are right. */
export function share(guesses: Int32Array, labels: Int32Array): number {
  return guesses.reduce((right, guess, i) => right + (guess === labels[i] ? 1 : 0), 0) / labels.length;
}
