// %% [markdown]
// # Masks and collapse
//
// A network that predicts its own embeddings can cheat. It can look at the answer. It can be asked for what it has
// just read. It can make all embeddings alike, so that any answer is right. Each time the loss is perfect, and
// nothing has been learned. Three parts of the method stand in the way: the causal mask, the shift by one, the
// stopped gradient.
//
// In this notebook you see what each of them does, take them away one by one, and train the four networks side by
// side. The one with the perfect loss turns out the worst. You also see a linear probe that does not notice, and why.
//
// It helps to have read `01_pretraining`.
//
// **Cost.** Five minutes on two cores, most of them 2,400 steps of training with a small network, 600 for each of four, then
// four linear probes; under 1 GB of memory. The first run fetches TensorFlow, 274 MB.

// %%
import { budget, claim, learned } from "lesson";
import { fashionMnist, useEngine } from "nepa";

const engine = await useEngine();
const { train, test } = await fashionMnist();
engine;

// %% [markdown]
// ## The causal mask
//
// The transformer reads an image as 17 tokens: CLS, then 16 patches row by row. A row of the mask is a token that
// looks, a column a token that may be seen. Position $t$ is to predict patch $t + 1$, so it may see the patches up to
// its own and none after.

// %%
import { causalMask, plotMask } from "nepa";

await plotMask(causalMask(17));

// %% [markdown]
// Does the mask hold? Turn one patch of an image into its negative and see which of the 17 predictions move. Do that
// for each of the 16 patches, with the mask and without. (`layerscaleValue: null` lets the blocks speak at full
// strength from the start; by default they begin at a whisper, a factor of 0.00001.)

// %%
import { heatMaps, Nepa, normalize, tf } from "nepa";

const fresh = new Nepa({ preset: "mini", layerscaleValue: null }, { seed: 0 });
const image = test.get(1).image; // a pullover

function toTensor(...images: Uint8Array[]): tf.Tensor4D {
  const joined = new Uint8Array(images.flatMap((pixels) => [...pixels]));
  const shape: [number, number, number, number] = [images.length, 28, 28, 1];
  return tf.tensor4d(normalize(joined, shape, fresh.preprocessor), shape);
}

/** The image with one patch, 1 to 16, as its negative. */
function withNegative(patch: number): Uint8Array {
  const pixels = image.slice(), top = 7 * Math.floor((patch - 1) / 4), left = 7 * ((patch - 1) % 4);
  for (let y = top; y < top + 7; y++) {
    for (let x = left; x < left + 7; x++) pixels[28 * y + x] = 255 - pixels[28 * y + x]!;
  }
  return pixels;
}

/** By how much each of the 17 predictions moves at most: a row for each patch that is changed. */
function moves(causal: boolean): number[][] {
  return tf.tidy(() => {
    const predict = (pixels: Uint8Array) => fresh.forward(toTensor(pixels), { causal }).predictions; // [1, 17, 128]
    const before = predict(image);
    return Array.from({ length: 16 }, (_, row) => {
      const moved = tf.abs(tf.sub(predict(withNegative(row + 1)), before));
      return [...tf.max(moved, [0, 2]).dataSync()];
    });
  });
}

const masked = moves(true), unmasked = moves(false);
for (const [row, moved] of masked.entries()) { // patch row + 1 is changed, which is token row + 1
  const earlier = moved.slice(0, row + 1), later = moved.slice(row + 1);
  claim(Math.max(...earlier) === 0, "an earlier position moved"); // not by a single bit
  claim(Math.min(...later) > 0, "a position that sees the patch did not move");
}
claim(Math.min(...unmasked.flat()) > 0, "without the mask, each position sees each patch");

const logs = (rows: number[][]) => rows.map((row) => row.map((x) => x > 0 ? Math.log10(x) : null));
heatMaps({ "with the mask": logs(masked), "without the mask": logs(unmasked) }, {
  title: "Which predictions move when a patch is changed",
  subtitle: "white: not at all, not by a single bit",
  xTitle: "position (0: CLS)",
  yTitle: "patch that is changed, from 0",
  colorTitle: "log₁₀ of the largest change",
  range: [-2, 1],
});

// %% [markdown]
// With the mask, a change is felt from its own position on and never before: the left picture is the mask itself. The
// last patch moves the last position alone, which predicts nothing. So no answer leaks into the question.
//
// ## The shift
//
// | position | CLS | 1 | 2 | … | 15 | 16 |
// | --- | --- | --- | --- | --- | --- | --- |
// | sees patches | none | 1 | 1, 2 | … | 1 … 15 | 1 … 16 |
// | is compared with patch | 1 | 2 | 3 | … | 16 | nothing |
// | without the shift | CLS | 1 | 2 | … | 15 | 16 |
//
// In the last row each position is asked for what it has just read. To answer, a network need do nothing at all. Take
// one that does: untrained, with its blocks still at a whisper, it hands on what comes in, normed.

// %%
import { nepaLoss } from "nepa";

const idle = new Nepa({ preset: "mini" }, { seed: 0 });
const [asNext, asSame] = tf.tidy(() => {
  const outputs = idle.forward(toTensor(...[0, 1, 2, 3].map((i) => test.get(i).image)));
  return [true, false].map((shift) => nepaLoss(outputs, { shift }).dataSync()[0]!) as [number, number];
});
claim(asSame < -0.98 && asNext > -0.6, `${asSame}, ${asNext}`);
({ "the next embedding": asNext, "the same embedding": asSame });

// %% [markdown]
// ## The loss, by hand
//
// Now the loss in plain numbers, without the library and without tensors. For each of $B$ images and each position
// $t$ from 0 (CLS) to 15, take the cosine of the angle between the prediction $\hat z_t$ and the embedding $z_{t+1}$;
// the loss is minus their mean.

// %%
const outputs = tf.tidy(() => {
  const { embeddings, predictions } = fresh.forward(toTensor(...[0, 1, 2, 3].map((i) => test.get(i).image)));
  return { embeddings, predictions }; // both [4, 17, 128]
});
const z = await outputs.embeddings.array(), predicted = await outputs.predictions.array();

const dot = (a: number[], b: number[]) => a.reduce((sum, x, i) => sum + x * b[i]!, 0);
const unit = (a: number[]) => a.map((x) => x / Math.sqrt(dot(a, a)));

const cosines = z.flatMap((tokens, b) =>
  Array.from({ length: 16 }, (_, t) => dot(unit(predicted[b]![t]!), unit(tokens[t + 1]!)))
);
const byHand = -cosines.reduce((a, b) => a + b) / cosines.length;
const fromLibrary = tf.tidy(() => nepaLoss(outputs).dataSync()[0]!);
claim(Math.abs(byHand - fromLibrary) < 1e-6, "the two differ");
({ byHand, fromLibrary });

// %% [markdown]
// ## The stopped gradient
//
// What does the loss pull at? With $u = a/|a|$ and $v = b/|b|$, the cosine of $a$ and $b$ has the gradient
//
// $$\frac{\partial\, u\cdot v}{\partial a} = \frac{v - (u \cdot v)\,u}{|a|}$$
//
// which turns $a$ toward $b$. The cosine does not care which of its two arguments is the prediction: it would turn
// the embedding toward the prediction just as well. The stopped gradient takes that half away. Predictions get their
// gradient, the targets get zero.

// %%
import { Table } from "nepa";

/** The gradients of the loss by the predictions and by the embeddings, [4][17][128] both. */
async function gradients(stopGradient: boolean): Promise<number[][][][]> {
  const found = tf.tidy(() =>
    tf.grads((predictions, embeddings) =>
      nepaLoss({ predictions: predictions as tf.Tensor3D, embeddings: embeddings as tf.Tensor3D }, {
        stopGradient,
      })
    )([outputs.predictions, outputs.embeddings])
  );
  return await Promise.all(found.map((gradient) => gradient.array() as Promise<number[][][]>));
}

/** What the cosine of a and b, one of the 4 · 16 in the mean, gives to a. */
function pull(a: number[], b: number[]): number[] {
  const [u, v] = [unit(a), unit(b)], cosine = dot(u, v);
  return u.map((x, i) => -(v[i]! - cosine * x) / Math.sqrt(dot(a, a)) / cosines.length);
}

/** The largest difference between two lists of numbers, as a share of the largest number. */
function apart(a: number[], b: number[]): number {
  const most = (x: number[]) => Math.max(...x.map(Math.abs));
  return most(a.map((x, i) => x - b[i]!)) / most(b);
}

const nothing = Array<number>(128).fill(0);
const onPredictions = predicted.map((tokens, b) =>
  tokens.map((a, t) => t < 16 ? pull(a, z[b]![t + 1]!) : nothing) // the last prediction is compared with nothing
);
const onEmbeddings = z.map((tokens, b) =>
  tokens.map((a, t) => t > 0 ? pull(a, predicted[b]![t - 1]!) : nothing) // CLS is never a target
);
const stopped = await gradients(true), flowing = await gradients(false);
claim(apart(stopped[0]!.flat(2), onPredictions.flat(2)) < 1e-4, "the library's gradient is another");
claim(stopped[1]!.flat(2).every((x) => x === 0), "a gradient goes into the targets"); // exactly nothing does
claim(apart(flowing[0]!.flat(2), onPredictions.flat(2)) < 1e-4, "the library's gradient is another");
claim(apart(flowing[1]!.flat(2), onEmbeddings.flat(2)) < 1e-4, "the library's gradient is another");

const size = (gradient: number[][][]) => Math.sqrt(dot(gradient.flat(2), gradient.flat(2)));
claim(size(flowing[1]!) > size(flowing[0]!), "predictions are pulled at more");
new Table([
  { gradient: "stopped", "on the predictions": size(stopped[0]!), "on the targets": size(stopped[1]!) },
  { gradient: "flowing", "on the predictions": size(flowing[0]!), "on the targets": size(flowing[1]!) },
], { title: "Length of the gradient" });

// %% [markdown]
// An unstopped gradient pulls at the targets more than at the predictions, for they are shorter vectors. (Embeddings
// still learn under the method: they are also what the transformer reads, and gradient comes to them that way.)
//
// Why is that pull fatal? Where a network cannot tell what comes next, the best that it can say is the mean direction
// of all that might come. Here is that case in the plane: eight embeddings, one prediction for all of them. Descend
// along the gradient of `nepaLoss`, once with the targets' gradient stopped, once not. The lines are directions, as
// angles; they go round, so that one which leaves below at −50° comes in above at 310°.

// %%
import { lineChart } from "nepa";

const degrees = [-20, 10, 35, 60, 90, 115, 150, 200], toRadians = Math.PI / 180;
const starts = degrees.map((angle) => [Math.cos(angle * toRadians), Math.sin(angle * toRadians)]);

/** The directions of the prediction and of the eight embeddings through 200 steps of descent, and the last loss. */
function descend(stopGradient: boolean): { angles: number[][]; loss: number } {
  const lossOf = (said: tf.Tensor, points: tf.Tensor) => {
    const predictions = tf.tile(said, [1, 9, 1]) as tf.Tensor3D; // [1, 9, 2]
    return nepaLoss({ predictions, embeddings: points as tf.Tensor3D }, { stopGradient });
  };
  return tf.tidy(() => {
    let said: tf.Tensor = tf.tensor3d([[[-0.6, -0.8]]]); // [1, 1, 2]
    let points: tf.Tensor = tf.tensor3d([[[1, 0], ...starts]]); // [1, 9, 2]; CLS comes first and is no target
    const angles: number[][] = [];
    for (let step = 0; step <= 200; step++) {
      const [x, y] = tf.split(tf.concat([said, tf.slice(points, [0, 1, 0])], 1), 2, 2); // [1, 9, 1] both
      angles.push(
        [...tf.div(tf.atan2(y!, x!), toRadians).dataSync()].map((angle) => (angle + 410) % 360 - 50),
      );
      const [ofSaid, ofPoints] = tf.grads(lossOf)([said, points]);
      [said, points] = [tf.sub(said, tf.mul(0.4, ofSaid!)), tf.sub(points, tf.mul(0.4, ofPoints!))];
    }
    return { angles, loss: lossOf(said, points).dataSync()[0]! };
  });
}

const still = descend(true), pulled = descend(false);
const mean = [0, 1].map((axis) => starts.reduce((sum, point) => sum + point[axis]!, 0) / 8);
const [prediction, ...targets] = still.angles.at(-1)!, together = pulled.angles.at(-1)!;
claim(targets.every((angle, i) => Math.abs(angle - degrees[i]!) < 0.01), "a target moved");
claim(Math.abs(prediction! - Math.atan2(mean[1]!, mean[0]!) / toRadians) < 1, "it is not the mean direction");
claim(Math.abs(still.loss + Math.sqrt(dot(mean, mean))) < 1e-3, "it is not the best"); // no answer does better
claim(
  pulled.loss < -0.999 && Math.max(...together) - Math.min(...together) < 5,
  "they do not all point one way",
);

/** A line for each direction. */
function directions({ angles, loss }: typeof still, title: string) {
  const names = ["prediction", ...degrees.map((angle) => `embedding at ${angle}°`)];
  const lines = names.map((name, i) => [name, angles.map((all) => all[i]!)] as const);
  const words = { title, subtitle: `loss ${loss.toFixed(3)}`, xTitle: "step", yTitle: "direction, degrees" };
  return lineChart(Object.fromEntries(lines), words);
}
directions(still, "Gradient stopped");

// %%
directions(pulled, "Gradient flowing");

// %% [markdown]
// Above, the prediction has to live with the spread of the embeddings. Below, the embeddings have given in, and the loss
// is perfect: no two of them can be told apart. That is collapse.
//
// ## Four networks, side by side
//
// The same network four times, from the same weights, with the same images in the same order: one by the method, each
// of the others without one of its three parts. Before you run the cell: which loss will be the best?
//
// Watch **spread** (the standard deviation of the embeddings at length one, times $\sqrt{128}$) and **effective
// rank** (in how many directions they spread, about). The run without the stopped gradient says so itself when it has
// collapsed.

// %%
import { pretrain, type Run } from "nepa";

const ways = {
  "the method": {},
  "no shift": { shift: false },
  "no causal mask": { causal: false },
  "no stop-gradient": { stopGradient: false },
} as const;
type Way = keyof typeof ways;
const names = Object.keys(ways) as Way[];

/** The same for each of the four. */
function forEach<T>(make: (way: Way) => T): Record<Way, T> {
  return Object.fromEntries(names.map((way) => [way, make(way)])) as Record<Way, T>;
}

const runs: Record<Way, Run<Nepa>> = forEach((way) =>
  pretrain(new Nepa({ preset: "mini", numHiddenLayers: budget(4, 1) }, { seed: 0 }), train, {
    steps: budget(600, 16),
    batchSize: 64,
    seed: 0,
    every: { collapse: budget(25, 8) },
    ...ways[way],
  })
);

// %% [markdown]
// The Stop button ends all four after the current step. Run this cell again, and they go on from there.

// %%
import { plotRuns } from "nepa";

await plotRuns(runs);

// %%
const models = forEach((way) => runs[way].model), loss = forEach((way) => runs[way].result().lossLast);
const meter = forEach((way) => runs[way].history.at(-1)!.metrics!);
learned(
  names.slice(1).every((way) => loss[way] < loss["the method"]),
  "an ablation has a worse loss than the method",
);
learned(loss["no stop-gradient"] < -0.999, "without the stop-gradient the loss is not perfect");
learned(meter["no stop-gradient"].collapsed && meter["no stop-gradient"].featureStd < 0.05, "no collapse");
learned(meter["no stop-gradient"].effectiveRank < 1.5, "the rank did not fall to 1");
learned(names.slice(0, 3).every((way) => !meter[way].collapsed), "another network collapsed");
new Table(
  names.map((way) => ({
    network: way,
    "loss (last 50 steps)": loss[way],
    spread: meter[way].featureStd,
    "effective rank": meter[way].effectiveRank,
    "mean cosine": meter[way].meanCosine,
    collapsed: meter[way].collapsed,
  })),
  {
    title: "Loss and embeddings after training",
    format: { "loss (last 50 steps)": (x) => x.toFixed(5).replace("-", "−") },
  },
);

// %% [markdown]
// Whichever part is taken away, the loss becomes better. Judged by it, the method is the worst of the four.
//
// ## What are they good for?
//
// Ask for the classes. **k-NN**: an image gets the class that most of its nearest neighbours have, where nearness is
// the cosine between the networks' features, as they are. **Linear probe**: a linear classifier is fitted to the
// features, each of the 128 numbers *standardised*, that is, brought to mean 0 and standard deviation 1 over the
// training images. (The network without the mask is read without it.)

// %%
import { barChart, knn, linearProbe } from "nepa";

const labelled = train.balanced(budget(500, 20)), held = test.balanced(budget(200, 10));
const reading = (way: Way) => ({ causal: way !== "no causal mask" });
const nearest = {} as Record<Way, number>, probed = {} as Record<Way, number>;
for (const way of names) {
  nearest[way] = (await knn(models[way], labelled, held, reading(way))).accuracy;
  probed[way] = (await linearProbe(models[way], labelled, held, { ...reading(way), seed: 0 })).accuracy;
}
const title = (way: Way) => `${way}\nloss ${loss[way].toFixed(3).replace("-", "−")}`;
const bars = (of: Record<Way, number>) => Object.fromEntries(names.map((way) => [title(way), of[way]]));
barChart({ "k-NN": bars(nearest), "linear probe": bars(probed) }, {
  title: "What their features are good for",
  subtitle: `${labelled.length.toLocaleString("en-US")} labels, ${
    held.length.toLocaleString("en-US")
  } test images`,
  references: { chance: 0.1 },
});

// %%
import { formatPercent } from "nepa";

const others = names.filter((way) => way !== "no stop-gradient");
learned(
  others.every((way) => nearest[way] > nearest["no stop-gradient"]),
  "the collapsed network has good neighbours",
);
learned(nearest["no stop-gradient"] < 0.6 * nearest["the method"], "the collapse cost k-NN little");
learned(nearest["the method"] > nearest["no shift"], "the shift did not help");
learned(probed["no stop-gradient"] > nearest["no stop-gradient"] + 0.2, "the probe is not fooled");
learned(probed["the method"] - probed["no stop-gradient"] < 0.15, "the probe sees the collapse");
new Table(
  names.map((way) => ({ network: way, loss: loss[way], "k-NN": nearest[way], "linear probe": probed[way] })),
  {
    title: "A better loss is no better network",
    format: {
      loss: (x) => x.toFixed(5).replace("-", "−"),
      "k-NN": formatPercent,
      "linear probe": formatPercent,
    },
  },
);

// %% [markdown]
// ## Why the probe is fooled
//
// The collapsed network gives every image the same 128 numbers, and yet a linear classifier reads the classes from
// them, nearly as well as from a healthy network. Look at the numbers: a row for each of 40 images, four of each
// class, a column for each of 60 features. Above as they are, below standardised.

// %%
import { type Dataset, readFeatures } from "nepa";

/** The final features of images, [n, 128]. */
async function read(way: Way, images: Dataset): Promise<tf.Tensor2D> {
  const found = await readFeatures(models[way], images, ["final"], reading(way));
  return tf.tensor2d(found.get("final")!, [images.length, 128]);
}

const fitted = {} as Record<Way, tf.Tensor2D>, tested = {} as Record<Way, tf.Tensor2D>;
for (const way of names) [fitted[way], tested[way]] = [await read(way, labelled), await read(way, held)];

/** Features less the mean of `of`, over its standard deviation. */
function standardised(x: tf.Tensor2D, of: tf.Tensor2D): tf.Tensor2D {
  const { mean, variance } = tf.moments(of, 0);
  return tf.div(tf.sub(x, mean), tf.maximum(tf.sqrt(variance), 1e-12));
}

const fortyByClass = held.classes.flatMap((_, label) =>
  [...held.labels.keys()].filter((i) => held.labels[i] === label).slice(0, 4)
);
const maps: Record<string, number[][]> = {}, compared: Way[] = ["the method", "no stop-gradient"];
for (const as of ["as they are", "standardised"]) {
  for (const way of compared) {
    maps[`${way}: ${as}`] = tf.tidy(() => {
      const x = as === "standardised" ? standardised(tested[way], fitted[way]) : tested[way];
      return tf.slice(tf.gather(x, fortyByClass), [0, 0], [-1, 60]).arraySync() as number[][]; // [40, 60]
    });
  }
}
heatMaps(maps, {
  title: "Forty images, sixty of their features",
  subtitle: "images of a class stand together",
  yTitle: "images",
  colorTitle: "feature",
  range: [-2.5, 2.5],
  diverging: true,
});

// %% [markdown]
// Above on the right there are only stripes: all rows are the same row. But not to the last digit. Standardising
// divides each column by its tiny standard deviation, and so blows up what remains until it fills the picture below.
// What remains is a faint copy of the pixels, carried through by arithmetic in 24 bits. The probe reads that copy.
//
// How faint? What remains is the standard deviation of a feature as a share of its size.

// %%
const remains = forEach((way) =>
  tf.tidy(() => {
    const x = fitted[way], size = tf.sqrt(tf.mean(tf.square(x), 0));
    return tf.mean(tf.div(tf.sqrt(tf.moments(x, 0).variance), size)).dataSync()[0]!;
  })
);
learned(remains["no stop-gradient"] < 0.01, `what remains: ${remains["no stop-gradient"]}`);
new Table(names.map((way) => ({ network: way, "what remains": remains[way] })), {
  title: "How much of a feature differs from image to image",
});

// %% [markdown]
// k-NN takes the features as they are. Between any two images of the collapsed network the cosine is very nearly 1,
// and what tells them apart drowns in the rounding of 24 bits. Subtract the mean first, as `centred: true` does, and
// k-NN is fooled as well.

// %%
const collapsed = models["no stop-gradient"];
const centred = (await knn(collapsed, labelled, held, { centred: true })).accuracy;
const least = tf.tidy(() => {
  const u = tf.div(
    tested["no stop-gradient"],
    tf.norm(tested["no stop-gradient"], 2, 1, true),
  ) as tf.Tensor2D;
  return tf.min(tf.matMul(u, u, false, true)).dataSync()[0]!;
});
learned(least > 0.99, `the least cosine is ${least}`);
learned(centred > nearest["no stop-gradient"] + 0.2, "centring makes no difference");
({ "least cosine": least, "k-NN": nearest["no stop-gradient"], "k-NN, centred": centred });

// %% [markdown]
// ## What would have warned you?
//
// Not the loss. Three things would.
//
// **Trivial answers.** What would the mean direction of all embeddings reach as a prediction? If it is as good as the
// network, the network has learned nothing, however good both are. The collapsed network's loss is perfect, and so is
// that of the trivial answer.
//
// **The same question to all.** The losses above cannot be compared, for each network was asked its own question. Ask
// all four the method's question: with the mask, with the shift, on test images.
//
// **The embeddings themselves**: their spread and their rank.

// %%
const question = [...test.batches({ size: budget(512, 64), shuffle: false })][0]!;
const asked = forEach((way) =>
  tf.tidy(() => {
    const images = tf.tensor4d(
      normalize(question.images, question.shape, fresh.preprocessor),
      question.shape,
    );
    return nepaLoss(models[way].forward(images, { causal: true })).dataSync()[0]!;
  })
);
const trivial = forEach((way) => {
  const { previousPatch, meanDirection, meanDirectionPerPosition } = meter[way];
  return -Math.max(previousPatch, meanDirection, meanDirectionPerPosition);
});
learned(asked["the method"] < trivial["the method"] - 0.1, "the method is no better than a trivial answer");
learned(trivial["no stop-gradient"] < -0.999, "the trivial answer to the collapsed network is not perfect");
for (const way of ["no shift", "no causal mask"] as const) {
  learned(asked[way] > asked["the method"] + 0.1, `${way}: has learned to predict`);
}
learned(
  Math.abs(asked["no shift"] + meter["no shift"].previousPatch) < 0.1,
  "without the shift it does not repeat the patch",
);
const digits = (x: number) => x.toFixed(3).replace("-", "−");
new Table(
  names.map((way) => ({
    network: way,
    "its own loss": loss[way],
    "the method's loss": asked[way],
    "best trivial answer": trivial[way],
    spread: meter[way].featureStd,
    "effective rank": meter[way].effectiveRank,
  })),
  {
    title: "The same question to all four",
    format: { "its own loss": digits, "the method's loss": digits, "best trivial answer": digits },
  },
);

// %% [markdown]
// Asked for the next patch, the network without the shift repeats the last one that it has seen: its loss is that of
// the trivial answer "the previous patch". The network without the mask never had to predict, as the answer was in
// sight; with the mask on, it is lost. Neither has collapsed: the spread of its embeddings says nothing against it.
// And the collapsed one passes even this question with full marks. It takes the trivial answers, the spread or the
// rank to find it out.

// %%
for (const model of [fresh, idle, ...Object.values(models)]) model.dispose();
tf.dispose([outputs, fitted, tested]);

// %% [markdown]
// ## Summary
//
// - The causal mask keeps the answer out of the question: a later patch does not move an earlier prediction by a
//   single bit.
// - The shift makes the question one: without it, handing on what comes in is a perfect answer.
// - The stopped gradient keeps the targets from giving in. Without it the embeddings collapse to one direction within
//   a few hundred steps, and the loss is −1.
// - All three ablations reach a better loss than the method. Compare losses only on the same question, and only with
//   those of trivial answers.
// - A linear probe on standardised features does not notice collapse: standardising blows up what is left of the
//   image. k-NN on raw cosines, spread and effective rank notice.
//
// ## Exercises
//
// 1. Take away two parts at once: no mask and no stopped gradient. Which of the two shows in the meter?
// 2. Stop the gradient into the predictions' embeddings instead: what if the targets were frozen random embeddings, a
//    linear map that never learns? Keep the patch projection of an untrained network as the target (`nepaLoss` takes
//    any tensors). Does it collapse? Does it learn?
// 3. Let the collapsed network go on learning with the stopped gradient: `pretrain(models["no stop-gradient"], train,
//    …)`. Does it recover? Look at the gradient norm first.
// 4. Read the classes by `linearProbe` with `layer: "embedding"` from each of the four. The mean patch has 49
//    numbers: how many of the probe's points are owed to them alone?
// 5. Add noise of 0.1 %, 1 %, 10 % to all features, and read the classes again. At which do you lose the collapsed
//    network, at which the method?
// 6. Prove that the loss without the stopped gradient has a global minimum where all embeddings are alike, whatever
//    the images. Has the loss with it one there too? What keeps training from going to it?
