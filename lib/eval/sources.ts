/** What probes and neighbours read: a network, a function from images to features, or numbers from elsewhere. @module */
import * as tf from "@tensorflow/tfjs";
import { any, checkOptions, count, expect, expectKinds, expectNamed } from "../base/check.ts";
import { network as isNetwork, type Rule, shown } from "../base/check.ts";
import { type Dataset, refuseMisfit, refuseMislabelled, refuseUnfit } from "../data/dataset.ts";
import { type Labelled, type Matched, matched, type OverlapOption, refuseShared } from "../data/matching.ts";
import { shapeOf } from "../data/preprocessor.ts";
import { progress } from "../display/progress.ts";
import { uncompiled } from "@nepa/engine";
import type { Encoder, Layer } from "../model/method.ts";
import { type Reading, readOne, readSets } from "./features.ts";
import { prepared } from "../data/encoded.ts";
import type { Features } from "./logistic.ts";

/** Features of one's own, and the classes of what they were made of. */
export interface FeatureSet {
  /** N rows one after the other, of `size` numbers each; N rows; or [N, D], which is not disposed of. */
  features: Float32Array | readonly ArrayLike<number>[] | tf.Tensor2D;
  /** D, of a Float32Array. */
  size?: number;
  /** [N] class numbers. */
  labels: ArrayLike<number>;
  /** The classes' names, or how many there are. */
  classes?: readonly string[] | number;
}

/** Features of one's own: what is fitted to, and what is scored. The classes are those of `train`. */
export interface FeatureSets {
  train: FeatureSet & Required<Pick<FeatureSet, "classes">>;
  test: FeatureSet;
}

/**
 * Makes features [B, D] of images [B, H, W, C], int32 from 0 to 255 as `Nepa.forward` takes them; called op by op inside
 * `tf.tidy`. The last of the images may be black ones, whose features are not used.
 */
export type FeatureFunction = (images: tf.Tensor4D) => tf.Tensor2D;

/** What was read: a layer, or features of one's own. */
export type Read = Layer | "given";

/** What a probe was asked. */
export interface Asked<O> {
  readonly sets: readonly [train: Labelled, test: Matched];
  readonly options: O;
  /** Where a network is asked about. */
  readonly network?: { model: Encoder; images: readonly [train: Dataset, test: Dataset] };
  /** Features [N, D] of both sets, by what was read. */
  read(what: readonly Read[], signal: AbortSignal): Promise<Map<Read, Float32Array>[]>;
}

/** What probes read features from. */
export type Source = Encoder | FeatureFunction | FeatureSets;

/** Options that only a network has an answer to. */
const READING = ["layer", "layers", "references", "pool", "causal", "prepare"];

/** Takes a probe's arguments apart, and refuses those that cannot be. */
export async function asked<O extends OverlapOption & Reading>(
  where: string,
  rules: Readonly<Record<string, Rule>>,
  [source, ...rest]: readonly [Source, ...unknown[]],
): Promise<Asked<O>> {
  const given = isSets(source), options = ((given ? rest[0] : rest[2]) ?? {}) as O;
  const check = (of: string, others: readonly string[]) => {
    const known = Object.entries(rules).filter(([name]) => !others.includes(name));
    checkOptions(where + of, options, Object.fromEntries(known));
  };
  if (given) {
    check(" of features", [...READING, "overlap"]); // no images, which could be in both
    return { options, ...await readGiven(source) };
  }
  if (typeof source === "function") {
    check(" of a function", READING);
    const images = imagesIn(where, rest), sets = checkLabels(...images, options);
    const read = (_: readonly Read[], signal: AbortSignal) =>
      Array.fromAsync(images, (set) => computed(source, set, signal));
    return { sets, options, read };
  }
  const expected = "a network, a function from images to features, or { train, test } of features";
  expectKinds(where, { model: [source, [expected, isNetwork[1], isNetwork[2]]] });
  check("", []);
  const { images, sets } = setsFor(source, ...imagesIn(where, rest), options);
  const read = (what: readonly Read[], signal: AbortSignal) =>
    readSets(source, images, what as readonly Layer[], { ...options, signal });
  return { sets, options, network: { model: source, images }, read };
}

const isSets = (source: Source): source is FeatureSets =>
  typeof source === "object" && source !== null && "train" in source;

function imagesIn(where: string, [train, test]: readonly unknown[]): [Dataset, Dataset] {
  expectNamed(where, { train, test });
  return [train, test] as [Dataset, Dataset];
}

/** Images as a network reads them, and their labels; refuses what cannot be used together with it. */
export function setsFor(model: Encoder, train: Dataset, test: Dataset, options: OverlapOption & Reading) {
  const as = (set: Dataset) => prepared(set, model.preprocessor, options.prepare);
  const images = [as(train), as(test)] as const;
  for (const set of images) refuseMislabelled(set);
  for (const set of images) refuseMisfit(set, shapeOf(model), true);
  return { images, sets: checkLabels(...images, options) };
}

/** Refuses labels that cannot be fitted to and judged by; gives both sets', those of `test` by the names of `train`. */
function checkLabels(train: Dataset, test: Dataset, options: OverlapOption): Asked<unknown>["sets"] {
  refuseUnfit(train);
  refuseMislabelled(test);
  expect(train.length >= 10, train.name, "at least 10 images", train.length);
  const judged = matched(train, test);
  refuseShared(train, test, options.overlap);
  return [train, judged];
}

/** Features that are given. */
async function readGiven(source: FeatureSets): Promise<Pick<Asked<unknown>, "sets" | "read">> {
  const train = await rowsOf("train", source.train), test = await rowsOf("test", source.test, train.classes);
  expect(train.size === test.size, "test", `rows of ${train.size} numbers, as train`, test.size);
  refuseUnfit(train);
  const read = () => Promise.resolve([train, test].map(({ data }) => new Map([["given" as const, data]])));
  return { sets: [train, matched(train, test)], read };
}

/** What `make` gives for all images. */
async function computed(
  make: FeatureFunction,
  images: Dataset,
  signal: AbortSignal,
): Promise<Map<Read, Float32Array>> {
  const { name, length, height, width } = images;
  const pass = uncompiled((batch: tf.Tensor4D) => {
    const made: unknown = make(batch), rows = batch.shape[0];
    const fits = made instanceof tf.Tensor && made.rank === 2 && made.shape[0] === rows;
    const got = made instanceof tf.Tensor ? `[${made.shape}]` : shown(made);
    expect(fits, `features of ${name}`, `a tensor [${rows}, D]`, got);
    return [made as tf.Tensor2D];
  });
  await using bar = progress({ title: "features", total: length, unit: "images" });
  const how = { signal, tell: (done: number) => bar.update(done) };
  const found = await readOne<Read>(pass, images, Math.max(32, height * width / 256), ["given"], how);
  checkNumbers(name, found.get("given")!, length);
  return found;
}

const SET: Record<keyof FeatureSet, Rule> = { features: any, size: count, labels: any, classes: any };

/** Features as they are given, with their labels; `known` are the other set's classes. */
async function rowsOf(
  name: string,
  set: FeatureSet,
  known?: readonly string[],
): Promise<Labelled & Features> {
  checkOptions(name, set, SET);
  const { data, size } = await numbersIn(name, set), length = data.length / size;
  const { labels, classes: given = known ?? [] } = set;
  const classes = typeof given === "number" ? Array.from({ length: given }, (_, i) => `${i}`) : given;
  refuseMislabelled({ name, length, labels: labels ?? [], classes });
  checkNumbers(name, data, length);
  return { name, length, labels: Int32Array.from(labels), classes, data, size };
}

async function numbersIn(name: string, { features, size }: FeatureSet): Promise<Features> {
  if (features instanceof tf.Tensor) {
    expect(features.rank === 2, `${name}: features`, "a tensor [N, D]", `[${features.shape}]`);
    return { data: Float32Array.from(await features.data()), size: features.shape[1] };
  }
  if (features instanceof Float32Array) {
    const holds = size !== undefined && features.length % size === 0;
    expect(holds, `${name}: size`, `numbers in a row, a divisor of ${features.length}`, size);
    return { data: features, size };
  }
  expect(Array.isArray(features), `${name}: features`, "a Float32Array, rows or a tensor", shown(features));
  const width = features[0]?.length ?? 0, odd = features.findIndex((row) => !(row?.length === width));
  expect(odd < 0, `${name}: row ${odd}`, `${width} numbers, as row 0`, features[odd]?.length);
  expect(width > 0, `${name}: features`, "rows of numbers", "none");
  return { data: Float32Array.from(features.flatMap((row) => Array.from(row))), size: width };
}

function checkNumbers(name: string, data: Float32Array, rows: number): void {
  const at = data.findIndex((x) => !Number.isFinite(x)), row = Math.floor(at / (data.length / rows));
  expect(at < 0, `${name}: row ${row}`, "finite numbers", data[at]);
}
