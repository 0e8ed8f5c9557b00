/** What fine-tuning asks of a kind of network: all else is the same for classifiers and segmenters. @module */
import type { Rule } from "../base/check.ts";
import type { Dataset } from "../data/dataset.ts";
import { type OverlapOption, refuseShared } from "../data/matching.ts";
import type { Reader, Tuned } from "./best.ts";
import type { Plan, Recipe } from "./options.ts";
import type { Task } from "./trainer.ts";

/** Options on held-out images. */
export interface HeldOut extends OverlapOption {
  /**
   * Labelled images held out from training, with the network's classes or some of them, by their names. The run ends with the
   * weights that did best on them: by accuracy, or, where pixels have classes, by the mean intersection over union.
   */
  validation?: Dataset;
  /** Labelled images that decide nothing: they are read once, after the last update. */
  test?: Dataset;
  /** How many updates lie between two readings of the validation images; they are read at the end too. Default: at the end. */
  every?: { validation?: number };
}

/** A network that is being fine-tuned: its loss, its layers, what judges it. */
export interface Tuning<N extends Tuned> extends
  Pick<
    Task,
    | "parameters"
    | "state"
    | "preprocessor"
    | "size"
    | "loss"
    | "draws"
    | "flops"
    | "finish"
    | "classNumbers"
  > {
  /** Of the averaged network, where there is one, and of the one that is trained: what comes after an update. */
  after?(ema: N | undefined): Task["after"];
  /** How many layers lie above a parameter, or that it is of a head with a rate of its own. */
  above(name: string): number | "head";
  /** The rate of those, by the update. */
  rateOf(above: number | "head"): (k: number) => number;
  /** Parameters that are left as they are. */
  frozen(name: string): boolean;
  /** What reads held-out images by a network like this. */
  reader(network: N): Reader;
  /** Takes note that networks are fitted to the images. */
  fitted?(...networks: readonly (N | undefined)[]): void;
  /** What a run that goes on has to have the same, as JSON. */
  readonly about: Record<string, unknown>;
}

/** A kind of network that can be fine-tuned, with the settings `S` besides all training's options. */
export interface Kind<N extends Tuned, S extends object> {
  /** What each option besides all training's may be. */
  readonly rules: Readonly<Record<string, Rule>>;
  /** Those of them that a recipe sets. */
  readonly settings: readonly (keyof S & string)[];
  /** What a recipe sets where the options leave it open. */
  recipe(network: N, name: string, images: number, batchSize: number | undefined): Recipe & S;
  /** Checks the sets, to train by and held out, and puts it together. */
  tuning(
    network: N,
    sets: readonly [Dataset, ...Dataset[]],
    settings: S & OverlapOption,
    plan: Plan,
  ): Tuning<N>;
}

/** Refuses held-out images that are trained on, or given twice. */
export function heldOutOf(
  [dataset, ...heldOut]: readonly [Dataset, ...Dataset[]],
  overlap: OverlapOption["overlap"],
): void {
  if (new Set([dataset, ...heldOut]).size <= heldOut.length && overlap !== "allow") {
    throw new RangeError(
      "validation, test: expected images held out from training and from one another, got one set twice",
    );
  }
  for (const set of heldOut) refuseShared(dataset, set, overlap);
}
