/** Linear probes: how well classes can be read off frozen features by one linear map. @module */
import type { Dataset } from "../data/dataset.ts";
import { PREPARE } from "../data/encoded.ts";
import type { Normalisation } from "../data/transforms.ts";
import { barChart } from "../display/charts.ts";
import type { Figure } from "../display/figure.ts";
import { progress } from "../display/progress.ts";
import type { Table } from "../display/table.ts";
import { currentEngine, stoppable } from "@nepa/engine";
import { any, expect, flag, index, type Rule } from "../base/check.ts";
import { owned } from "../base/owned.ts";
import { Random } from "../base/random.ts";
import { fingerprintOf } from "../data/fingerprint.ts";
import { hashOf, remembered } from "../data/kept.ts";
import { type Layer, type Reading, readPixels, readSets } from "./features.ts";
import { accuracyTable, chance, formatInterval, judge, type Judged, Judgement, ordered } from "./scores.ts";
import { type Fit, LogisticRegression } from "./logistic.ts";
import type { Encoder } from "../model/method.ts";
import { type Labelled, type Matched, matched, OVERLAP, type OverlapOption } from "../data/matching.ts";
import { type Asked, asked, type Read, type Source } from "./sources.ts";

/** Options of {@linkcode linearProbe}. */
export interface ProbeOptions extends Reading, OverlapOption {
  /** Whose output is read: "embedding", block 1 to L, or "final", after the last norm. Default "final". */
  layer?: Layer;
  /** Probe every layer too, into `perLayer`. Default false. */
  layers?: boolean;
  /**
   * Probe raw pixels, and the same network untrained with layer scale null, too. The pixels' result is kept in the user's
   * cache folder, by everything that it depends on. Default false.
   */
  references?: boolean;
  /**
   * Penalties to choose among, from the largest; one alone is taken. Long features such as all tokens joined need larger
   * ones. Default 1e-3 … 1e-7.
   */
  lambdas?: readonly number[];
  /** Of the held-out choice, and of the untrained network. Default 0. */
  seed?: number;
}

/** One probe: how it did on the test images, and its fit. */
export interface Probe extends Judged {
  /** Weight of the penalty: the one that did best on held-out training images, or that was given alone. */
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
  /** Accuracy on the held-out training images for each λ that was tried; none where one was given alone. */
  selection: readonly { lambda: number; accuracy: number }[];
}

/** The penalties tried, from the largest. */
const LAMBDAS = [1e-3, 1e-4, 1e-5, 1e-6, 1e-7];

/** Images of the training set that choose among them, at most a fifth of all. */
const HELD_OUT = 5000;

const RULES: Record<keyof ProbeOptions, Rule> = {
  ...{ layer: any, pool: any, causal: flag, prepare: PREPARE, layers: flag, references: flag },
  lambdas: ["positive numbers, each below the one before it", isFalling],
  ...{ seed: index, overlap: OVERLAP, signal: any },
};

function isFalling(list: unknown): boolean {
  const numbers = Array.isArray(list) ? list : [];
  return numbers.length > 0 && numbers.every((x, i) => x > 0 && x < (numbers[i - 1] ?? Infinity));
}

/** How near the optimum a fit ends (see {@linkcode Probe.excess}) while λ is chosen, and at last; most iterations. */
const SELECTING = { excess: 1e-3, maxIterations: 150 }, FINAL = { excess: 1e-4, maxIterations: 1000 };

/** Raised when fits change, so that results kept from before are not taken. */
const VERSION = 3;

/** The fit that a {@linkcode ProbeResult} has. */
export interface ProbeResult extends Probe {}

/** What {@linkcode linearProbe} found; shows itself as a table, in a notebook with plots. */
export class ProbeResult extends Judgement {
  /** Which layer was read. */
  readonly layer: Read;
  /** Of the held-out choice, and of the untrained network. */
  readonly seed: number;
  /** Accuracy of each layer, by name, from below: "embedding", "1" to "L", "final". */
  readonly perLayer?: Readonly<Record<string, number>>;
  /** Accuracy of raw pixels. */
  readonly rawPixels?: number;
  /** Accuracy of the same layer of the same network with fresh weights, layer scale null. */
  readonly untrained?: number;
  /** Each fit, by what was probed. */
  readonly probes: ReadonlyMap<string, Probe>;

  /** @param probes By layer name, "raw pixels" and "untrained". */
  constructor(
    layer: Read,
    seed: number,
    probes: ReadonlyMap<string, Probe>,
    layers: readonly Read[] | undefined,
  ) {
    const raw = probes.get("raw pixels"), untrained = probes.get("untrained");
    super(probes.get(String(layer))!);
    [this.layer, this.seed, this.probes] = [layer, seed, probes];
    if (layers) this.perLayer = ordered(layers.map((l) => [String(l), probes.get(String(l))!.accuracy]));
    if (raw) this.rawPixels = raw.accuracy;
    if (untrained) this.untrained = untrained.accuracy;
  }

  /** All probes as a table. */
  table(): Table {
    const rows = [...this.probes].map(([name, { accuracy, interval, lambda, excess, converged }]) => ({
      features: layerTitle(name),
      accuracy,
      "95 %": formatInterval(interval),
      λ: lambda.toExponential(0),
      "above the optimum, at most": excess.toExponential(0) + (converged ? "" : " (not converged)"),
    }));
    return accuracyTable("Linear probe, accuracy on the test images", rows, this.notes);
  }

  /** Accuracies by layer, where there are several probes, and the confusion matrix. */
  override plots(): Figure[] {
    if (this.probes.size === 1) return super.plots();
    const all = [...this.probes].map(([name, { accuracy }]) => [layerTitle(name), accuracy] as const);
    const isReference = ([name]: readonly [string, number]) => ["untrained", "raw pixels"].includes(name);
    const accuracy = Object.fromEntries(all.filter((probe) => !isReference(probe)));
    const references = Object.fromEntries(all.filter(isReference));
    const title = "Linear probe, by the layer that is read";
    return [barChart({ accuracy }, { title, references }), ...super.plots()];
  }
}

/** A layer's name for readers: "block 2". */
export function layerTitle(layer: Read | string): string {
  return /^\d+$/.test(String(layer)) ? `block ${layer}` : String(layer);
}

/**
 * Fits multinomial logistic regression to a frozen network's features, and reads the test images with it.
 *
 * Features are standardised by the training images. The objective is the mean cross-entropy + λ/2·|W|²; λ of 1e-3 … 1e-7,
 * or of `lambdas`, is the one that does best on 5,000 training images held out for that, then all are used. From large to
 * small, each fit starts from the one before; once a smaller λ has lost more on the held-out images than chance explains, two
 * standard errors, those below it are not tried.
 *
 * @param model A network, which is not changed; a function from images to features; or features of your own and their labels,
 * `{ train: { features, labels, classes }, test: { features, labels } }`, with the options as the second argument.
 * @param train Labelled images to fit to, at least 10.
 * @param test Labelled images to be scored by, none of which are fitted to; looked at once. Its classes are those of `train`, or
 * some of them, by their names.
 * @param options Which layer, how it is pooled, what else to probe: of a network. Features and functions take `lambdas` and `seed`.
 * @returns Accuracies from 0 to 1; shows itself as a table.
 * @throws {TypeError} If there is no such option, or a network, images or features are expected and are not there.
 * @throws {RangeError} If the images do not fit the network, the classes or a label do not, there are too few images, or a number
 * is not finite.
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
 *
 * // Of numbers that come from elsewhere: ten points of each of two classes.
 * const labels = Array.from({ length: 20 }, (_, i) => i % 2), features = labels.map((label, i) => [label - 0.5, i / 20]);
 * const classes = ["left", "right"];
 * const probe = await linearProbe({ train: { features, labels, classes }, test: { features, labels } });
 * assert(probe.accuracy === 1);
 * ```
 */
export async function linearProbe(
  model: Source,
  train?: Dataset | ProbeOptions,
  test?: Dataset,
  options?: ProbeOptions,
): Promise<ProbeResult> {
  const given = await asked<ProbeOptions>("linearProbe", RULES, [model, train, test, options]),
    [fit] = given.sets;
  expect(fit.length >= 10, fit.name, "at least 10 rows", fit.length);
  return await stoppable("linearProbe", given.options.signal, (signal) => probed(given, signal));
}

/** What is asked, done. */
async function probed(
  { sets, options: chosen, network, read }: Asked<ProbeOptions>,
  signal: AbortSignal,
): Promise<ProbeResult> {
  const { layers = false, references = false, lambdas = LAMBDAS, seed = 0 } = chosen;
  const how = { seed, lambdas, signal }, [fit, judged] = sets;
  const layer: Read = network ? chosen.layer ?? "final" : "given";
  const wanted: readonly Read[] = network && layers ? network.model.layers : [layer];
  const probes = new Map<string, Probe>();
  const probe = async (features: Map<Read, Float32Array>[], read: Read, name: string) => {
    const [fitting, tested] = features.map((found) => found.get(read)!);
    return toProbe(await fitAndGuess(fitting!, tested!, fit, how, `probe, ${name}`), judged);
  };
  const found = await read(wanted, signal);
  for (const name of wanted) {
    probes.set(String(name), await probe(found, name, layerTitle(name)));
    found[0]!.delete(name);
  }
  if (network && references) {
    const { model, images } = network, fresh = model.untrained(seed);
    using _own = owned(...fresh.parameters.values());
    const found = await readSets(fresh, images, [layer as Layer], { ...chosen, signal });
    probes.set("untrained", await probe(found as Map<Read, Float32Array>[], layer, "untrained"));
    probes.set("raw pixels", toProbe(await fitPixels(...images, model.preprocessor, how), judged));
  }
  return new ProbeResult(layer, seed, probes, layers ? wanted : undefined);
}

async function fitPixels(
  train: Dataset,
  test: Dataset,
  { imageMean, imageStd }: Normalisation,
  how: Choosing,
): Promise<FitAndGuesses> {
  const { name, version } = currentEngine(), search = [how.lambdas, HELD_OUT, SELECTING, FINAL];
  const settings = [VERSION, name, version, imageMean, imageStd, how.seed, search];
  const pixels = (set: Dataset) => readPixels(set, { imageMean, imageStd }, how.signal);
  const sets = await Promise.all([train, test].map((set) => fingerprintOf(set, Infinity)));
  return await remembered(
    `raw-pixels-${hashOf(JSON.stringify([sets, settings]))}`,
    async () => fitAndGuess(await pixels(train), await pixels(test), train, how, "probe, raw pixels"),
  );
}

/**
 * Accuracy of one quick fit, for a line beside a training: `final` features, λ 1e-4, near its optimum by 1e-3.
 *
 * @param train At most a few thousand images.
 */
export async function quickProbe(
  model: Encoder,
  train: Dataset,
  test: Dataset,
  causal: boolean | undefined,
): Promise<number> {
  const sets = await readSets(model, [train, test], ["final"], { causal, quiet: true });
  const [data, tested] = sets.map((found) => found.get("final")!), size = data!.length / train.length;
  const { labels, classes: { length: classes } } = train;
  const regression = new LogisticRegression({ data: data!, size }, labels, { classes });
  using _own = owned(regression);
  const fit = await regression.fit({ lambda: 1e-4, ...SELECTING });
  return judge(await regression.predict({ data: tested!, size }, fit), matched(train, test)).accuracy;
}

/** How λ is chosen. */
type Choosing = Required<Pick<ProbeOptions, "seed" | "lambdas">> & { signal: AbortSignal };

/** A fit, and the class predicted for each test image. */
type FitAndGuesses = Omit<Probe, keyof Judged> & { guesses: number[] };

function toProbe({ guesses, ...fit }: FitAndGuesses, test: Matched): Probe {
  return { ...judge(guesses, test), ...fit };
}

/** Whether an accuracy on so many images lies below another by more than chance explains. */
export function hasLost(accuracy: number, best: number, images: number): boolean {
  return best - accuracy > chance(best, best, images);
}

/** Chooses λ, refits on all, reads the test images. */
async function fitAndGuess(
  features: Float32Array,
  tested: Float32Array,
  train: Labelled,
  { seed, lambdas, signal }: Choosing,
  title: string,
): Promise<FitAndGuesses> {
  const size = features.length / train.length, heldOut = Math.min(HELD_OUT, Math.floor(train.length / 5));
  await using bar = progress({ title, total: lambdas.length + 1, unit: "fits", text: "" });
  const regression = new LogisticRegression({ data: features, size }, train.labels, {
    classes: train.classes.length,
    order: new Random(seed, "probe").permutation(train.length),
    ...{ heldOut, signal },
  });
  using _own = owned(regression);
  const tried: { fit: Fit; accuracy: number }[] = [];
  let best: typeof tried[number] | undefined;
  for (const lambda of lambdas.length > 1 ? lambdas : []) {
    const fit = await regression.fit({ lambda, selecting: true, from: tried.at(-1)?.fit, ...SELECTING });
    const accuracy = await regression.heldOutAccuracy(fit);
    tried.push({ fit, accuracy });
    bar.update(tried.length);
    if (!best || accuracy > best.accuracy) best = tried.at(-1)!;
    else if (hasLost(accuracy, best.accuracy, heldOut)) break;
  }
  const from = best?.fit, lambda = from?.lambda ?? lambdas[0]!;
  const fit = await regression.fit({ lambda, from, ...FINAL });
  const { excess, gradientNorm, iterations } = fit, converged = excess <= FINAL.excess;
  const guesses = [...await regression.predict({ data: tested, size }, fit)];
  bar.update(lambdas.length + 1);
  const selection = tried.map(({ fit, accuracy }) => ({ lambda: fit.lambda, accuracy }));
  return { guesses, lambda, converged, excess, gradientNorm, iterations, selection };
}
