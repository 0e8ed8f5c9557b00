/** Fine-tuning for classes of pixels: what differs from other kinds. @module */
import * as tf from "@tensorflow/tfjs";
import { currentEngine } from "@nepa/engine";
import { expect, type Rule } from "../base/check.ts";
import * as is from "../base/check.ts";
import { LEFT } from "../base/gradient.ts";
import { Random } from "../base/random.ts";
import { type Dataset, IGNORED, type SegmentationSet } from "../data/dataset.ts";
import { inOrder, refuseTransform } from "../data/loader.ts";
import { classNumbers, OVERLAP, type OverlapOption } from "../data/matching.ts";
import { imageSizeOf } from "../data/preprocessor.ts";
import { checkedSize, sides } from "../data/transforms.ts";
import { Counts } from "../eval/mask_scores.ts";
import { moved } from "../model/maps.ts";
import { pixelCrossEntropy } from "../model/ops.ts";
import { type NepaSegmenter, segmentationLoss } from "../model/segmenter.ts";
import { layerCosine, warmupPoly } from "../optim/schedule.ts";
import type { Reader } from "./best.ts";
import type { Plan, TrainOptions } from "./options.ts";
import { type SegmentationRecipe, segmentationRecipe, type SegmentationSettings } from "./recipes.ts";
import { type HeldOut, heldOutOf, type Kind, type Tuning } from "./tuning.ts";

/** Options of {@linkcode finetune} for a segmenter. */
export interface SegmentationOptions extends TrainOptions, Partial<SegmentationSettings>, HeldOut {
  /** Where the defaults come from. Default: "linear" for a linear head, "mae-upernet" for UPerNet. */
  recipe?: SegmentationRecipe;
  /** Images with masks, as the training set. */
  validation?: SegmentationSet;
  /** The same. */
  test?: SegmentationSet;
}

const RULES: Record<Exclude<keyof SegmentationOptions, keyof TrainOptions>, Rule> = {
  recipe: is.oneOf("linear", "mae-upernet"),
  ...{ validation: is.any, test: is.any, every: is.any, overlap: OVERLAP },
  ...{ size: is.any, freeze: is.flag, freezeStatistics: is.flag, auxiliaryWeight: is.notNegative },
  ...{ dropPath: is.orNull(is.belowOne), dropout: is.belowOne, schedule: is.oneOf("poly", "cosine") },
  layerDecay: is.numberThat("a number above 0, at most 1", (x) => x > 0 && x <= 1),
};

/** How a segmenter is fine-tuned. */
export const segmentation: Kind<NepaSegmenter, SegmentationSettings> = {
  rules: RULES,
  settings: [
    "size",
    "freeze",
    "freezeStatistics",
    "auxiliaryWeight",
    "dropPath",
    "dropout",
    "schedule",
    "layerDecay",
  ],
  recipe: (segmenter, name) => {
    const own = segmenter.config.head === "linear" ? "linear" : "mae-upernet";
    return segmentationRecipe(name === "default" ? own : name as SegmentationRecipe);
  },
  tuning,
};

function tuning(
  segmenter: NepaSegmenter,
  sets: readonly [Dataset, ...Dataset[]],
  settings: SegmentationSettings & OverlapOption,
  plan: Plan,
): Tuning<NepaSegmenter> {
  const { encoder, parameters, state, preprocessor, config } = segmenter;
  const { size: given, freeze, freezeStatistics, auxiliaryWeight, dropPath, dropout, layerDecay } = settings;
  const size = given === null ? imageSizeOf(encoder) : sides(checkedSize("size", given));
  const L = encoder.layers.filter((layer) => typeof layer === "number").length;
  const below = (name: string) => encoder.parameters.has(name);
  checkSets(segmenter, sets, size, plan, settings);
  const { accumulate } = plan,
    help = "expected 1, since batch norm takes the statistics of a whole batch, got";
  if (accumulate > 1 && !freezeStatistics) {
    throw new RangeError(
      `accumulate: ${help} ${accumulate}; or leave them as they are by freezeStatistics: true`,
    );
  }
  return {
    ...{ parameters, state, preprocessor, size },
    loss({ images, masks }, draws) {
      const { statistics, ...outputs } = segmenter.forward(images, { training: !freezeStatistics, draws });
      return {
        loss: segmentationLoss(outputs, masks!, { auxiliaryWeight }),
        ...statistics && { [LEFT]: statistics },
      };
    },
    after: (ema) => (_batch, _draws, _numbers, left) => {
      for (const [name, batch] of Object.entries(left)) {
        const next = moved(state.get(name)!, batch);
        for (const one of [segmenter, ema]) one?.state.get(name)?.assign(next); // an average has the same, not their average
      }
    },
    draws: (batchSize, seed, batch) => {
      const options = { ...size, dropout, dropPath: dropPath ?? undefined };
      return segmenter.draws(batchSize, new Random(seed, "draws", batch), options);
    },
    flops: (batchSize) => segmenter.flops(batchSize, size, freeze),
    above: (name) => below(name) ? L + 1 - encoder.depthOf(name) : 0,
    rateOf: (above) => rateOf(above as number, plan, settings),
    frozen: (name) => below(name) && (freeze || config.head === "upernet" && encoder.depthOf(name) > L), // no head reads the last norm
    reader: (network) => new MaskReader(network, plan.compile),
    about: { ...settings, size, encoder: encoder.config, layerDecay },
  };
}

/** The learning rate of parameters so many layers below the top. */
function rateOf(
  above: number,
  { learningRate: peak, steps, warmupSteps }: Plan,
  { layerDecay: decay, schedule }: SegmentationSettings,
): (k: number) => number {
  if (typeof peak === "function") return (k) => decay ** above * peak(k);
  if (schedule === "cosine") return layerCosine({ peak, above, decay, steps, warmupSteps });
  const rate = warmupPoly({ peak, steps, warmupSteps });
  return (k) => decay ** above * rate(k);
}

/** Refuses sets that the segmenter cannot be trained or judged by. */
function checkSets(
  { classes, encoder }: NepaSegmenter,
  sets: readonly [Dataset, ...Dataset[]],
  size: { height: number; width: number },
  { augment }: Plan,
  { overlap }: OverlapOption,
): void {
  const channels = encoder.preprocessor.imageMean.length;
  for (const set of sets) {
    expect(set.masked === true, set.name, "images with masks", "images without");
    expect(
      set.channels === channels,
      set.name,
      `images with ${channels} channels, as the network has`,
      set.channels,
    );
    const fits = set.classes.length === classes.length,
      got = `${set.classes.length}; NepaSegmenter.from makes others`;
    expect(fits, set.name, `${classes.length} classes, as the segmenter has`, got);
    const numbers = classNumbers({ name: "the segmenter", classes }, set),
      same = numbers.every((x, i) => x === i);
    expect(same, set.name, `the classes ${classes.join(", ")} in this order`, set.classes.join(", "));
  }
  const [{ name, height, width }] = sets, { height: H, width: W } = size;
  if (augment) refuseTransform(sets[0], augment, size);
  else {expect(
      height === H && width === W,
      name,
      `images of ${H}x${W}, since augment is null`,
      `${height}x${width}`,
    );}
  heldOutOf(sets, overlap);
}

/** Reads masks by a segmenter as it is: areas summed over all images. */
class MaskReader implements Reader {
  readonly #segmenter: NepaSegmenter;
  readonly #pass;

  constructor(segmenter: NepaSegmenter, compile: boolean) {
    this.#segmenter = segmenter;
    this.#pass = currentEngine().compile(({ images, masks }: { images: tf.Tensor4D; masks: tf.Tensor3D }) => {
      const { logits } = segmenter.forward(images);
      return { guesses: tf.argMax(logits, 3), loss: pixelCrossEntropy(logits, masks, IGNORED) };
    }, { name: "segmentation", compile });
  }

  async read(set: Dataset): Promise<{ loss: number; accuracy: number; meanIoU: number }> {
    const { encoder, classes } = this.#segmenter, { height, width, channels } = set;
    const [rows, columns] = encoder.grid({ shape: [1, ...Object.values(imageSizeOf(encoder)), channels] });
    const counts = new Counts(classes);
    let loss = 0;
    for await (const { images, batch } of inOrder(set, 4 * rows * columns)) {
      const all = new Uint8Array(images.shape[0] * height * width).fill(IGNORED), before = counts.total;
      all.set(batch.masks!);
      const masks = tf.tensor3d(all, [images.shape[0], height, width], "int32");
      const found = await this.#pass({ images, masks });
      counts.add(all, await found.guesses.data());
      loss += (await found.loss.data())[0]! * (counts.total - before);
      tf.dispose([found, masks]);
    }
    const { meanIoU, pixelAccuracy: accuracy } = counts.result();
    return { loss: loss / counts.total, accuracy, meanIoU };
  }

  dispose(): void {
    this.#pass.dispose();
  }
}
