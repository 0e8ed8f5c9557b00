/** What the grid reads of a network that was trained, or was not. @module */
import {
  type Collapse,
  collapse,
  type Encoder,
  evaluate,
  finetune,
  type Layer,
  NepaClassifier,
  tf,
} from "nepa";
import { augmented, type ByLayer, ended, putAside, setsOf } from "./cells.ts";
import json from "./grid.json" with { type: "json" };
import type { Made } from "./grid_methods.ts";
import { judgedBy, probed, type Read, readJoined, readMeans } from "./layers.ts";
import { type Budget, FINETUNING } from "./plan.ts";
import type { Place } from "./run.ts";

/** What an encoder's features came to. */
export interface Features {
  /** Of the mean of the patches, fitted to some training images and judged by others: what chooses a block. */
  chosen: Read;
  /** Of the mean of the patches, on the test images. */
  mean: Read;
  /** Of all tokens joined, fitted to fewer images, on the test images. */
  joined: ByLayer;
  /** With few labels the whole network fine-tuned, on the test images. */
  tuned: number;
  /** Of 512 test images: the last norm's outputs of all patches, and their means. */
  tokens: Collapse;
  pooled: Collapse;
}

/** Reads what an encoder has learned. */
export async function readFeatures(
  encoder: Made["encoder"],
  place: Place,
  budget: Budget,
  { seed, layerDecay }: { seed: number; layerDecay: number },
): Promise<Features> {
  const choosing = setsOf(place, budget.split), sets = setsOf(place, "all");
  const chosen = await judgedBy(choosing, await readMeans(encoder, choosing));
  const mean = await judgedBy(sets, await readMeans(encoder, sets)), joined: ByLayer = {};
  const fewer = { fit: choosing.fit, judged: sets.judged };
  for (const layer of budget.joined) {
    const key: Layer = layer === "final" ? layer : Number(layer);
    const [rows] = (await readJoined(encoder, fewer, key)).values();
    joined[layer] = await probed(fewer, rows!, [json.lambda]);
  }
  const tuned = await tune(encoder, place, budget, { seed, layerDecay });
  return { chosen, mean, joined, tuned, ...await readCollapse(encoder, place) };
}

/** The accuracy on the test images with few labels. */
async function tune(
  encoder: Made["encoder"],
  { train, test }: Place,
  { aside, tunings: [tuning] }: Budget,
  { seed, layerDecay }: { seed: number; layerDecay: number },
): Promise<number> {
  const { rest } = putAside(train, aside),
    [labels, steps] = tuning!,
    training = { ...FINETUNING, steps, layerDecay };
  const classifier = NepaClassifier.from(encoder, { classes: train.classes, seed });
  try {
    await ended(
      finetune(classifier, rest.balanced(labels / train.classes.length, seed), {
        ...augmented(training),
        seed,
      }),
    );
    return (await evaluate(classifier, test)).accuracy;
  } finally {
    classifier.dispose();
  }
}

/** The meter's numbers of the last norm's outputs. */
async function readCollapse(encoder: Encoder, { test }: Place): Promise<Pick<Features, "tokens" | "pooled">> {
  const first = test.subset(Array.from({ length: Math.min(512, test.length) }, (_, i) => i)),
    read: tf.Tensor3D[] = [];
  for await (const { images, shape } of first.batches({ size: 64, shuffle: false, dropLast: false })) {
    read.push(tf.tidy(() => {
      const [x] = encoder.tokens(tf.tensor4d(images, shape, "int32"), ["final"]);
      return tf.slice(x!, [0, encoder.prefix, 0]); // [B, N, D]
    }));
  }
  const [tokens, pooled] = tf.tidy(() => {
    const x = tf.concat(read, 0); // [n, N, D]
    return [x.reshape([-1, x.shape[2]]), tf.mean(x, 1)]; // [n · N, D] and [n, D]
  }) as [tf.Tensor, tf.Tensor];
  try {
    return { tokens: await collapse(tokens), pooled: await collapse(pooled) };
  } finally {
    tf.dispose([...read, tokens, pooled]);
  }
}
