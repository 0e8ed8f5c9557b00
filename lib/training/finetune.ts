/** Fine-tuning: the whole network learns to classify, images or pixels. The step is in `step.ts`, the recipes in `recipes.ts`. @module */
import { callSite, checkOptions } from "../base/check.ts";
import * as is from "../base/check.ts";
import type { Dataset, SegmentationSet } from "../data/dataset.ts";
import type { NepaClassifier } from "../model/classifier.ts";
import { NepaSegmenter } from "../model/segmenter.ts";
import { Referee, type Tuned } from "./best.ts";
import { FolderKeeper } from "./checkpoints.ts";
import { classification, type FinetuneOptions } from "./classification.ts";
import { groupsOf, makePlan, type Plan, type TrainOptions } from "./options.ts";
import { Run } from "./run.ts";
import { segmentation, type SegmentationOptions } from "./segmentation.ts";
import { type Task, Trainer } from "./trainer.ts";
import type { HeldOut, Kind, Tuning } from "./tuning.ts";

/**
 * Trains a classifier, backbone and head. Nothing is computed before the run is iterated; see {@linkcode Run}.
 *
 * Without options: 300 updates of 64 images with AdamW (0.9, 0.999), weight decay 0.05, gradients clipped at norm 1, label
 * smoothing 0.1, images mirrored half of the time; the learning rate rises to 3e-3 over a fifth of the updates, falls to 0
 * along a cosine, and is multiplied by 0.75 from each block to the one below it. `recipe: "official-base"` and
 * `"official-large"` are the authors' for the published sizes: 100 epochs, batches of 1,024, RandAugment, bicubic crops,
 * random erasing, mixup and cutmix, drop path, warm-up by layer, averaged weights, and the patch embedding left as it is.
 *
 * Validation and test images are read with the averaged weights if `emaDecay` is set, which then are also those that end as
 * the best; else with the classifier's own.
 *
 * @param classifier Its weights change in place: `NepaClassifier.from(model, …)`, or a new one to learn from scratch.
 * @param dataset Labelled images, with the classifier's classes.
 * @param options What differs from the recipe.
 * @returns A run; `run.ema` is a second classifier, the caller's to dispose of, if `emaDecay` is set.
 * @throws {RangeError | TypeError} If an option cannot be, or the images or the classes do not fit the classifier.
 *
 * @example
 * ```ts
 * import { fashionMnist, finetune, Nepa, NepaClassifier, useEngine } from "nepa";
 * import { assertEquals } from "@std/assert";
 *
 * await useEngine();
 * const { train } = await fashionMnist();
 * const model = new Nepa({ preset: "mini" }, { seed: 0 });
 * const classifier = NepaClassifier.from(model, { classes: train.classes });
 * const result = await finetune(classifier, train.balanced(10), { steps: 3, batchSize: 16 }).finish();
 * assertEquals(result.steps, 3);
 * classifier.dispose();
 * model.dispose();
 * ```
 */
export function finetune(
  classifier: NepaClassifier,
  dataset: Dataset,
  options?: FinetuneOptions,
): Run<NepaClassifier>;
/**
 * Trains a segmenter, the network and its heads, or the heads alone; see {@linkcode SegmentationOptions}.
 *
 * `recipe: "linear"`, a linear head's default, is DINOv3's protocol: the network is frozen, AdamW 1e-3, weight decay 1e-2,
 * 40,000 updates of 16 images. `"mae-upernet"`, UPerNet's, is what mmsegmentation publishes for MAE: AdamW 1e-4, weight decay
 * 0.05, rates by layer 0.65, 1,500 of 160,000 updates to warm up, then a line to 0, drop path and dropout 0.1. It is inferred:
 * NEPA's paper does not tell its own.
 *
 * @param segmenter Its weights change in place: `NepaSegmenter.from(model, …)`.
 * @param dataset Images with masks, with the segmenter's classes.
 * @param options What differs from the recipe.
 * @returns A run, as of a classifier.
 *
 * @example
 * ```ts
 * import { fashionScenes, finetune, Nepa, NepaSegmenter, useEngine } from "nepa";
 * import { assertEquals } from "@std/assert";
 *
 * await useEngine();
 * const { train, validation } = await fashionScenes({ size: 32, train: 40, validation: 8 });
 * const model = new Nepa({ preset: "mini", imageSize: 32, patchSize: 8, numHiddenLayers: 1 }, { seed: 0 });
 * const segmenter = NepaSegmenter.from(model, { classes: train.classes });
 * const { best } = await finetune(segmenter, train, { validation, steps: 2, batchSize: 8 }).finish();
 * assertEquals(best, 2);
 * segmenter.dispose();
 * model.dispose();
 * ```
 */
export function finetune(
  segmenter: NepaSegmenter,
  dataset: SegmentationSet,
  options?: SegmentationOptions,
): Run<NepaSegmenter>;
export function finetune(
  network: NepaClassifier | NepaSegmenter,
  dataset: Dataset,
  options: FinetuneOptions | SegmentationOptions = {},
): Run<NepaClassifier> | Run<NepaSegmenter> {
  const kinds = { dataset: [dataset, is.images], options: [options, is.optional] } as const;
  if (network instanceof NepaSegmenter) {
    is.expectKinds("finetune", kinds);
    return tuned(network, dataset, options, segmentation);
  }
  is.expectKinds("finetune", { classifier: [network, is.classifier], ...kinds });
  return tuned(network, dataset, options, classification);
}

/** Puts a run together, of whatever kind of network. */
function tuned<N extends Tuned, S extends object>(
  network: N,
  dataset: Dataset,
  options: TrainOptions & HeldOut & { recipe?: string } & Partial<S>,
  kind: Kind<N, S>,
): Run<N> {
  const { recipe: name = "default", validation, test, every = {} } = options;
  const recipe = kind.recipe(network, name, dataset.length, options.batchSize);
  const plan = makePlan("finetune", options, recipe, dataset, kind.rules);
  checkOptions("every", every, { validation: is.count }, "every.");
  const settings = Object.fromEntries(
    kind.settings.map((key) => [key, options[key] === undefined ? recipe[key] : options[key]]),
  );
  const heldOut = [validation, test].filter((set) => set !== undefined);
  const tuning = kind.tuning(
    network,
    [dataset, ...heldOut],
    { ...settings as S, overlap: options.overlap },
    plan,
  );
  const interval = every.validation ?? plan.steps, { steps } = plan;
  const ema = plan.emaDecay === null ? undefined : network.clone() as N;
  const averages = ema && { model: ema, own: new Map(), all: ema.parameters };
  const judged = ema ?? network,
    referee = new Referee(judged, tuning.reader(judged), { validation, test, interval, steps });
  const { after, above: _, rateOf: __, frozen: ___, reader: ____, fitted, about, ...task } = tuning;
  const trainer = new Trainer(dataset, plan, {
    ...{ ...task, ...learningRates(tuning, plan), after: after?.call(tuning, ema), averages: averages?.all },
    read: () => referee.read(),
    measure: (step) => {
      fitted?.(network, ema);
      return referee.measure(step);
    },
    dispose: () => {
      if (plan.checkpoint) fitted?.(network, ema); // one that was read whole from its folder
      referee.dispose();
    },
    from: callSite(new Error()),
  });
  const keeper = plan.checkpoint && new FolderKeeper(plan.checkpoint, {
    ...{ kind: "finetune", model: network, averages, trainer, referee, plan, data: dataset, validation },
    options: { ...about, every: { validation: interval } },
  });
  return new Run(network, trainer, { averages, signal: plan.signal, keeper, notices: plan.notices });
}

/** A schedule for each layer and one for the head; which is whose; which parameters are left as they are. */
export function learningRates(
  { parameters, above, rateOf, frozen }: Pick<Tuning<Tuned>, "parameters" | "above" | "rateOf" | "frozen">,
  { groups }: Pick<Plan, "groups">,
): Pick<Task, "rates" | "optimizer" | "frozen"> {
  const own = groupsOf(groups, parameters), factorOf = (name: string) => own.factors[own.group(name)]!;
  const key = (name: string) => `${above(name)} ${factorOf(name)}`;
  const members = new Map([...parameters.keys()].map((name) => [key(name), name]));
  const schedules = [...members.values()].map((name) => {
    const rate = rateOf(above(name)), factor = factorOf(name);
    return factor === 1 ? rate : (k: number) => factor * rate(k);
  });
  const names = [...members.keys()];
  return {
    rates: (k) => schedules.map((rate) => rate(k)),
    optimizer: { group: (name) => names.indexOf(key(name)), decay: own.decay },
    frozen: (name) => own.frozen(name) || frozen(name),
  };
}
