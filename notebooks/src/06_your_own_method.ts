// %% [markdown]
// # Your own method
//
// Research on self-supervised learning mostly changes one part of a method and asks what that does. In this notebook you
// make five such changes to NEPA, each in 5 to 20 lines:
//
// 1. a small network between prediction and target;
// 2. other orders of reading, and another mask;
// 3. targets that an averaged copy of the network makes;
// 4. two augmented views of each image, told from those of other images;
// 5. no stopped gradient, and a regulariser against the collapse that follows.
//
// All of them are trained by `pretrain`, measured by the same probes, and drawn by the same plots. What you write is an
// **objective**: an object with a name, a loss, and whatever else the loss needs.
//
// Read [01_pretraining](01_pretraining.ipynb) and [04_masks_and_collapse](04_masks_and_collapse.ipynb) first.
//
// **Cost.** Nine minutes on two cores that others used too: eight small networks, 300 updates each. Training shows the time
// left. Memory: 1.5 GB. The first run fetches TensorFlow, 274 MB.

// %%
import { budget, claim, learned } from "lesson";
import { fashionMnist, useEngine } from "nepa";

const engine = await useEngine();
const { train, test } = await fashionMnist();
engine;

// %% [markdown]
// ## The baseline
//
// A change is worth what it brings over the same training without it. So every network below starts from the same weights,
// sees the same images in the same order, and is trained for as many updates. The first is NEPA as it is.
//
// Each run is kept in a folder: its log, `metrics.csv`, is what `compareRuns` reads in the end.

// %%
import { Nepa, plotRun, pretrain, type PretrainOptions, type Run } from "nepa";

const steps = budget(300, 12), folder = await Deno.makeTempDir();
const runs: Record<string, Run<Nepa>> = {};

/** The network that each run begins with. */
const newNetwork = () => new Nepa({ preset: "mini", numHiddenLayers: budget(4, 1) }, { seed: 0 });

/** Trains a network, drawn while it runs; the same each time but for `options`. */
function trained(name: string, options: PretrainOptions = {}, model = newNetwork()) {
  const checkpoint = { folder: `${folder}/${name}`, every: steps };
  const every = { collapse: budget(50, 6) };
  const common = { steps, batchSize: budget(64, 16), seed: 0, every, checkpoint };
  runs[name] = pretrain(model, train, { ...common, ...options });
  return plotRun(runs[name]);
}

/** A number of a run's own at the last update. */
const atEnd = (name: string, metric: string) => Number(runs[name]!.history.at(-1)!.metrics![metric]);

await trained("nepa");

// %% [markdown]
// ## 1. A predictor
//
// In NEPA the transformer's output *is* the prediction. So the last block has to speak the language of the patch
// embeddings, which are linear in the pixels. That need not be a good language for other tasks: in notebook 01 the last layer
// was not the best for a probe. Many methods put a small network, a **predictor**, between output and target. It does the
// translating, and is thrown away after training.
//
// `Mlp` is such a network: here from 128 numbers to 256 and back. What makes it part of the training is one line,
// `parameters`: these are trained, averaged, saved and resumed with the model's. Leave that line out, and `pretrain`
// refuses to begin, since the loss reads weights that nothing trains. Try it below.
//
// A loss may give other numbers beside itself, by names of your own. Each becomes a chart in the plot and a column of the log.
// Here: how far the predictor turns what it is given, as a cosine. 1 would mean that it does nothing.

// %%
import { Mlp, nepaLoss, type Objective, tf, unit } from "nepa";

const cosine = (a: tf.Tensor3D, b: tf.Tensor3D) => tf.mean(tf.sum(tf.mul(unit(a), unit(b)), -1)) as tf.Scalar;

const predictor = new Mlp([128, 256, 128], { name: "predictor", seed: 0 });
const withPredictor: Objective = {
  name: "nepa + predictor",
  parameters: predictor.parameters,
  loss({ embeddings, predictions }) { // z and ẑ, both [B, 17, 128]
    const answers = predictor.apply(predictions);
    return {
      loss: nepaLoss({ embeddings, predictions: answers }),
      "predictor turns by": cosine(answers, predictions),
    };
  },
};
const before = predictor.parameters.get("predictor.0.weight")!.dataSync().slice();
await trained("predictor", { objective: withPredictor });

// %%
const after = predictor.parameters.get("predictor.0.weight")!.dataSync();
claim(after.some((weight, i) => weight !== before[i]), "the predictor was not trained");

const forgotten = pretrain(newNetwork(), train, {
  objective: { name: "forgotten", loss: withPredictor.loss },
});
const refusal = await forgotten.finish().catch((error: Error) => error.message.split(". ")[0]);
claim(String(refusal).includes("variables that nothing trains"), "it was not refused");
forgotten.dispose();
forgotten.model.dispose();
refusal;

// %% [markdown]
// ## 2. Another order, another mask
//
// Row by row is one way to read an image. What if each image is read in an order of its own, drawn anew at every update?
// `forward` takes `order`, [B, 16]: row b lists the patches of image b as they are read. Each patch keeps its own place in the
// image (RoPE's angles follow the patch), and embeddings and predictions come in the order that was given, so `nepaLoss`
// stays as it is: position t is compared with the patch that is read next.
//
// The orders are random numbers, and these are special. A compiled step is recorded once. A random number that was drawn
// inside it would be recorded too, and be the same at every update. So an objective draws its numbers in `draws`, outside
// of the step; they come into the loss by name. `random` is seeded by the run's seed and the update, which is why a resumed run
// draws the same. `perImage` says that a draw belongs to the images one by one, so that it is cut with the batch where a
// batch is computed in parts.
//
// Before you run it: will the loss be better or worse than row by row? What does position t know about the patch that is next?

// %%
import { perImage } from "nepa";

await trained("any order", {
  objective: {
    name: "any order",
    draws({ batchSize, random }) {
      const orders = Array.from({ length: batchSize }, () => [...random.permutation(16)]);
      return { order: perImage(tf.tensor2d(orders, [batchSize, 16], "int32")) };
    },
    loss: ({ model, images, draws }) =>
      nepaLoss(model.forward(images, { draws, order: draws.order as tf.Tensor2D })),
  },
});

// %% [markdown]
// Worse: nobody tells position t *where* the next patch lies. All it can do is predict the mean of the patches that are left.
//
// The other change: let the network see the upper half of the image as a whole, in both directions, and predict the lower half
// patch by patch. That is a **prefix-causal** mask. Row t of a mask says what position t sees: 0 where it may look, −∞ where
// not. Inside the prefix, a position sees the patch that it would have to predict, so there the loss must not look: `where`
// weighs the positions, 0 or 1.

// %%
import { plotMask } from "nepa";

const prefix = 9; // CLS and the eight patches of the two upper rows
const rows = Array.from(
  { length: 17 },
  (_, t) => Array.from({ length: 17 }, (_, seen) => seen <= t || seen < prefix ? 0 : -Infinity),
);
const counted = Array.from({ length: 17 }, (_, t) => t >= prefix - 1 ? 1 : 0);
await plotMask(tf.tensor2d(rows));

// %%
await trained("prefix", {
  objective: {
    name: "prefix-causal",
    loss: ({ model, images, draws }) =>
      nepaLoss(model.forward(images, { draws, mask: tf.tensor2d(rows) }), { where: tf.tensor1d(counted) }),
  },
});

// %% [markdown]
// (These constants may be made inside the loss: they are the same at every update.)
//
// ## 3. Targets from an averaged copy
//
// NEPA's targets are patch embeddings: each knows its own 49 pixels and nothing of the rest of the image. A **teacher** can give
// richer ones. It is a copy of the network that is not trained; after each update it moves a little toward the network, the
// *student*, so that it is an average of the student's past. It may see the whole image. The student, behind its mask, has to
// predict what the teacher's last layer says of the next patch. BYOL, data2vec and I-JEPA work this way.
//
// Three new lines in the objective:
//
// - `state`: variables that the loss may read though no gradient trains them. They are saved and resumed too.
// - `after`: called once after each update, inside the compiled step. It moves the state, and it alone may.
// - `numbers`: what changes by a schedule. Here the momentum, the share of itself that the teacher keeps: it rises from 0.9 to 1.
//   As with random numbers, a plain JavaScript number would be frozen at its first value.
//
// And `targets` tells the collapse meter what the targets are now. It has to be watched: a student and a teacher that both
// give every patch the same vector agree perfectly. What keeps them from it is not proved, but the predictor and the slow
// teacher do, mostly.

// %%
import { Ema } from "nepa";

/** An objective whose targets come from `teacher`, which follows `student`. */
function taught(student: Nepa, teacher: Nepa, predictor: Mlp): Objective {
  const average = new Ema(student.parameters, teacher.parameters);
  const targets = (images: tf.Tensor4D) => teacher.tokens(images, ["final"], { causal: false })[0]!;
  return {
    name: "taught",
    parameters: predictor.parameters,
    state: new Map([...teacher.parameters].map(([name, variable]) => [`teacher.${name}`, variable])),
    numbers: (k) => ({ momentum: 1 - 0.05 * (1 + Math.cos(Math.PI * k / steps)) }),
    loss: ({ images, predictions }) =>
      nepaLoss({ embeddings: targets(images), predictions: predictor.apply(predictions) }),
    targets: ({ images }) => targets(images),
    after: ({ numbers }) => average.update(numbers.momentum!),
  };
}

const student = newNetwork(), teacher = student.clone();
const translator = new Mlp([128, 256, 128], { name: "predictor", seed: 0 });
await trained("teacher", { objective: taught(student, teacher, translator) }, student);

// %% [markdown]
// The loss of this run cannot be held beside the others: its targets are other targets. Look at the spread and the effective
// rank instead: the spread falls at first, then holds. And has the teacher moved? Here is how far one of its matrices lies
// from where it began, as a share of the length that it had then:

// %%
const apart = tf.tidy(() => {
  const name = "vit_nepa.encoder.layer.0.output.dense.weight", first = newNetwork();
  const begin = first.parameters.get(name)!, now = teacher.parameters.get(name)!;
  const distance = tf.norm(tf.sub(now, begin)).dataSync()[0]! / tf.norm(begin).dataSync()[0]!;
  first.dispose();
  return distance;
});
claim(apart > 0, "the teacher stands still");
learned(!runs.teacher!.history.at(-1)!.metrics!.collapsed, "student and teacher agreed on nothing");
apart;

// %% [markdown]
// ## 4. Two views of each image
//
// A different idea altogether. Take two augmented versions of each image, its **views**: crops, mirrored or not. Their features
// should be alike, and unlike those of all other images in the batch. That is InfoNCE, the loss of SimCLR. For each of the 64
// images, the other view of the same image is to be picked among all 64 by its cosine, as in a classification with 64 classes:
//
// $$L = -\frac{1}{B}\sum_i \log \frac{\exp(\cos(a_i, b_i)/\tau)}{\sum_j \exp(\cos(a_i, b_j)/\tau)}$$
//
// The temperature $\tau$ decides how much the hardest of the others count. `views: 2` gives the loss `views`, two batches of the same
// images, each augmented by its own chance. The features compared are the mean of the tokens, through a **projector** that is
// thrown away later. Nothing is predicted from left to right any more, so each position may see the whole image: `causal: false`.
//
// The metric is how often the right one of the 64 is the nearest. Guessing would find it in 1 of 64. (The dashed lines of the plot
// are the trivial answers to NEPA's question. This loss asks another one.)

// %%
import { compose, crossEntropy, horizontalFlip, randomResizedCrop } from "nepa";

const projector = new Mlp([128, 128, 64], { name: "projector", seed: 0 }), temperature = 0.2;
const augment = compose(randomResizedCrop({ size: 28, scale: [0.4, 1] }), horizontalFlip(0.5));
const contrastive: Objective = {
  name: "InfoNCE",
  config: { temperature },
  views: 2,
  parameters: projector.parameters,
  loss({ model, views, draws }) {
    const [a, b] = views.map((images) => {
      const tokens = model.forward(images, { draws, causal: false }).predictions; // [B, 17, 128]
      return unit(projector.apply(tf.mean(tokens, 1) as tf.Tensor2D)); // [B, 64]
    });
    const scores = tf.div(tf.matMul(a!, b!, false, true), temperature) as tf.Tensor2D; // [B, B]
    const right = tf.range(0, scores.shape[0], 1, "int32"); // row i belongs to column i
    const found = tf.mean(tf.equal(tf.argMax(scores, 1), right).cast("float32")) as tf.Scalar;
    const loss = tf.add(crossEntropy(scores, right), crossEntropy(tf.transpose(scores), right));
    return { loss: tf.div(loss, 2) as tf.Scalar, "own view found": found };
  },
};
await trained("two views", { objective: contrastive, augment });

// %%
const found = atEnd("two views", "own view found");
learned(found > 0.3, `its own view is found in ${found} of the cases`);
found;

// %% [markdown]
// ## 5. No stopped gradient, and a regulariser
//
// Notebook 04 took the stopped gradient away, and the embeddings collapsed: all alike, and the loss a perfect −1. Must the gradient
// be stopped? Another way is to forbid the collapse itself. **SIGReg** (arXiv 2511.08544) asks that the embeddings be spread
// like a normal distribution with variance 1 in all directions. To test 128 dimensions at once is hard; to test one is easy. So
// draw 64 random directions, and look along each: are these numbers normally distributed? The test compares their
// characteristic function, the mean of $e^{itx}$, with that of the normal distribution, $e^{-t^2/2}$, at some $t$:
//
// $$\sum_t \Big( \big(\overline{\cos tx} - e^{-t^2/2}\big)^2 + \overline{\sin tx}^{\,2} \Big)\, e^{-t^2/2}$$
//
// The directions have to be fresh at each update. With the same 64 all along, the network would have 64 others in which to collapse.
// They are shared by all images, so there is no `perImage`.
//
// Both runs below let the gradient flow. One has the regulariser, one does not.

// %%
const knots = Array.from({ length: 17 }, (_, i) => -4 + i / 2); // where the functions are compared
const normal = knots.map((t) => Math.exp(-t * t / 2));

/** How far rows [n, D] are from normal along directions [D, M]. */
function sigreg(rows: tf.Tensor2D, directions: tf.Tensor2D): tf.Scalar {
  const along = tf.matMul(rows, tf.transpose(unit(tf.transpose(directions)))); // [n, M]
  const angles = tf.mul(along.expandDims(-1), tf.tensor1d(knots)); // [n, M, 17]
  const real = tf.sub(tf.mean(tf.cos(angles), 0), tf.tensor1d(normal)),
    imaginary = tf.mean(tf.sin(angles), 0);
  const apart = tf.add(tf.square(real), tf.square(imaginary)); // [M, 17]
  return tf.mean(tf.sum(tf.mul(apart, tf.tensor1d(normal)), -1)) as tf.Scalar;
}

const weight = 1;
await trained("flowing", { stopGradient: false });

// %%
await trained("SIGReg", {
  objective: {
    name: "nepa + SIGReg",
    config: { weight },
    draws: ({ random }) => ({ directions: random.normal([128, 64]) }),
    loss({ embeddings, predictions, draws }) {
      const rows = tf.slice(embeddings, [0, 1, 0]).reshape([-1, 128]) as tf.Tensor2D; // [B · 16, 128], without CLS
      const nepa = nepaLoss({ embeddings, predictions }, { stopGradient: false });
      const far = sigreg(rows, draws.directions as tf.Tensor2D);
      return { loss: tf.add(nepa, tf.mul(weight, far)) as tf.Scalar, nepa, "not normal by": far };
    },
  },
});

// %%
import { Table } from "nepa";

const spread = (name: string) => atEnd(name, "featureStd"),
  rank = (name: string) => atEnd(name, "effectiveRank");
learned(runs.flowing!.history.at(-1)!.metrics!.collapsed, "without the regulariser nothing collapsed");
learned(!runs.SIGReg!.history.at(-1)!.metrics!.collapsed, "the regulariser does not hold");
new Table(["nepa", "flowing", "SIGReg"].map((run) => ({
  run,
  spread: spread(run),
  "effective rank": rank(run),
})));

// %% [markdown]
// ## All of them
//
// The runs over each other. Do not compare the losses: each run has a loss of its own, and a perfect one may be a collapse.
// Compare what all have in common, the spread and the effective rank. A metric of one run's own has a chart too.

// %%
import { compareRuns } from "nepa";

const names = Object.keys(runs);
await compareRuns(names.map((name) => `${folder}/${name}`));

// %% [markdown]
// What are the features good for? A linear probe and k-NN of the last layer, as in notebook 02, on the same images for all.
// Predictors, projector and teacher are gone: what is read is the network alone. It is read as it was trained, which for "two
// views" is without the causal mask.

// %%
import { formatPercent, knn, linearProbe } from "nepa";

const labelled = train.balanced(budget(500, 10)), held = test.balanced(budget(200, 5));
const results: Record<
  string,
  { "linear probe": number; "k-NN": number; spread: number; "effective rank": number }
> = {};
for (const name of names) {
  const { model } = runs[name]!, causal = name !== "two views";
  const probe = await linearProbe(model, labelled, held, { causal, seed: 0 });
  const nearest = await knn(model, labelled, held, { causal });
  results[name] = {
    "linear probe": probe.accuracy,
    "k-NN": nearest.accuracy,
    spread: spread(name),
    "effective rank": rank(name),
  };
}
new Table(names.map((name) => ({ run: name, ...results[name]! })), {
  title: `Frozen features of the last layer, ${labelled.length} labels`,
  format: { "linear probe": formatPercent, "k-NN": formatPercent },
});

// %%
const nearestOf = (name: string) => results[name]!["k-NN"],
  lossOf = (name: string) => runs[name]!.result().lossLast;
learned(lossOf("any order") > lossOf("nepa") + 0.2, "any order is as easy to predict");
learned(nearestOf("any order") < nearestOf("nepa") - 0.05, "any order teaches as much");
learned(
  nearestOf("predictor") > nearestOf("nepa") + 0.04,
  "the predictor made no difference to the neighbours",
);
learned(
  names.every((name) => name === "flowing" || nearestOf(name) > nearestOf("flowing")),
  "collapse cost nothing",
);
learned(nearestOf("SIGReg") > nearestOf("flowing") + 0.1, "the regulariser did not help");
learned(
  nearestOf("two views") > nearestOf("nepa"),
  "two views are not better than NEPA after so few updates",
);

// %% [markdown]
// With 2,000 test images each accuracy is certain to about two points either way, and a single seed says little. Still, some
// differences are larger than that:
//
// - **A predictor** makes the features of the last layer better neighbours, by 8 points. They no longer have to be an
//   embedding of pixels. A linear probe sees no difference: it can weigh each of the 128 numbers as it likes.
// - **Any order** is the worst that has not collapsed. A question that cannot be answered teaches little.
// - **The teacher** and **two views** give better neighbours than NEPA too, after so few updates, and no better probe.
// - **Without the stopped gradient** the embeddings collapse: spread 0, rank 1. With the regulariser they do not, and the
//   features are about as good as NEPA's. Once more the probe hardly notices a collapse that k-NN notices at once.

// %%
for (const { model } of Object.values(runs)) model.dispose();
for (const made of [predictor, teacher, translator, projector]) made.dispose();
await Deno.remove(folder, { recursive: true });

// %% [markdown]
// ## Summary
//
// - An objective is an object with a name and a loss, given to `pretrain`. Its `parameters` are trained, averaged, saved and
//   resumed with the model's.
// - What changes from update to update comes into the loss by name: random numbers by `draws`, what follows a schedule by
//   `numbers`. Made inside the loss, it would be recorded once and stay; `pretrain` refuses that.
// - Variables that no gradient moves are `state`; `after` moves them, once an update.
// - `views: 2` gives two augmented versions of each image. `order` and `mask` change what `forward` reads and sees, `where` which
//   positions count.
// - A loss may give metrics of its own. They stand in the log, in the plot of the run, and in `compareRuns`.
// - Losses of two objectives cannot be compared. Probes, neighbours, spread and rank can.
//
// ## Exercises
//
// 1. Give the predictor no hidden layer, then two. What happens to "predictor turns by", and to the probe? Read other layers too:
//    `linearProbe(model, labelled, held, { layers: true })`.
// 2. Read the patches along a snake: the second row from right to left, and so on. The order is the same for all images, so make
//    it inside the loss. Is the loss better than row by row? Why?
// 3. Draw the length of the prefix anew for each image. The mask is then [B, 1, 17, 17], a draw marked with `perImage`.
// 4. Let the teacher follow at once: momentum 0. Then never: momentum 1. Which collapses? Take the predictor away as well.
// 5. Two views without crops, mirrored only: how often is the own view found, and what do the features lose?
// 6. Draw the 64 directions once: `new Random(0, "directions")` for all updates. Does the effective rank notice?
// 7. Write VICReg (arXiv 2105.04906) in place of SIGReg: each dimension's standard deviation at least 1, covariances of two
//    dimensions 0.
// 8. Is what you see more than chance? Train with seeds 0 to 4 and compare the differences with the spread between seeds.
