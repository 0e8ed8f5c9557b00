// %% [markdown]
// # Fine-tuning
//
// A probe leaves the network as it is. **Fine-tuning** trains all of it to classify, starting from the pretrained
// weights. In this notebook you see what turns a pretrained network into a classifier, train one on 600 labels,
// compare it fairly with a network that starts from nothing, and look at what the official recipe does to images,
// learning rates and electricity bills.
//
// Read [01_pretraining](01_pretraining.ipynb) and [02_linear_probes](02_linear_probes.ipynb) first.
//
// **Cost.** Six minutes on two cores that others used too, after two of pretraining unless the notebook before has done it;
// each fine-tuning takes about 20 seconds. Whatever takes long shows its time.

// %%
import { budget, claim, learned } from "lesson";
import { fashionMnist, useEngine } from "nepa";

const engine = await useEngine();
const { train, test } = await fashionMnist();
const classes = train.classes;

// %% [markdown]
// ## The pretrained network
//
// It is the one of the notebook before: from the folder `runs/mini-standardized`, or trained here, which takes two minutes.

// %%
import { Nepa, plotRun, pretrain, type PretrainOptions } from "nepa";

const model = new Nepa({ preset: "mini" }, { seed: 0 });
const settings = { recipe: "standardized", steps: budget(2000, 10), batchSize: 64, seed: 0 } as const;
const checkpoint = { folder: "../runs/mini-standardized", resume: "auto" } as const;
await plotRun(pretrain(model, train, budget<PretrainOptions>({ ...settings, checkpoint }, settings)));

// %% [markdown]
// ## From predicting to classifying
//
// `NepaClassifier.from` copies the weights and changes three things: every token may now see all others; the patch
// tokens are averaged, and normed; a linear map reads ten numbers from that, one for each class.

// %%
import { NepaClassifier, Table } from "nepa";

const pretrained = NepaClassifier.from(model, { classes });
const differing = Object.entries(pretrained.config).filter(([name, value]) =>
  value !== model.config[name as keyof typeof model.config]
);
claim(String(differing) === "isCausal,false", `more differs: ${differing}`);
new Table(
  [...pretrained.parameters].filter(([name]) => !model.parameters.has(name)).map(([name, { shape }]) => ({
    "new parameter": name,
    shape: shape.join(" × "),
  })),
);

// %% [markdown]
// The linear map starts at zero. So all ten numbers are 0, each class has probability 1/10, and the first loss is
// $\ln 10$, whatever the image.

// %%
import { crossEntropy, normalize, tf } from "nepa";

const few = train.subset([...Array(32).keys()]);
const [batch] = few.batches({ size: 32, shuffle: false });
const pixels = tf.tensor4d(normalize(batch!.images, batch!.shape, model.preprocessor), batch!.shape);
const labels = tf.tensor1d(batch!.labels, "int32");

const firstLoss = tf.tidy(() => crossEntropy(pretrained.forward(pixels).logits, labels).dataSync()[0]!);
claim(Math.abs(firstLoss - Math.log(10)) < 1e-6, `the first loss is ${firstLoss}`);
firstLoss;

// %% [markdown]
// A map of zeros passes nothing back, either: in the first update only the map itself learns. The pretrained weights
// are not shaken by a head that knows nothing yet.

// %%
import { lossAndGradients } from "nepa";

const norms = tf.tidy(() => {
  const { gradients } = lossAndGradients(
    () => crossEntropy(pretrained.forward(pixels).logits, labels),
    pretrained.parameters,
  );
  return Object.fromEntries(Object.entries(gradients).map(([name, g]) => [name, tf.norm(g).dataSync()[0]!]));
});
const moved = Object.keys(norms).filter((name) => norms[name]! > 0);
claim(moved.every((name) => name.startsWith("classifier.")), `more moved: ${moved}`);
moved;

// %% [markdown]
// ## Layer scale
//
// Each branch of a block ends in a factor for each of its 128 numbers, layer scale. It started at 0.00001, so that
// the untrained network did hardly anything; training has raised it. Where it is wanted no longer, it can be
// multiplied into the weights before it: `foldLayerScale`. The network computes the same with fewer tensors.

// %%
const folded = NepaClassifier.from(model, { classes, foldLayerScale: true });
const apart = tf.tidy(() =>
  tf.max(tf.abs(tf.sub(folded.forward(pixels).pooled, pretrained.forward(pixels).pooled))).dataSync()[0]!
);
claim(apart < 1e-4, `${apart} apart`);
claim(folded.parameters.size === pretrained.parameters.size - 2 * model.config.numHiddenLayers, "not folded");
folded.dispose();
const scales = [...model.parameters].filter(([name]) => name.endsWith("lambda1"));
new Table(scales.map(([name, factors]) => ({
  factors: name.replace("vit_nepa.encoder.", ""),
  "mean size": tf.tidy(() => tf.mean(tf.abs(factors)).dataSync()[0]!),
})));

// %% [markdown]
// ## Learning rates by layer
//
// What the lower blocks have learned holds for many tasks; what the upper ones do was for predicting embeddings. So
// the lower ones should change less. **Layer-wise decay** multiplies the learning rate by 0.75 from each block to the
// one below it. All rise over the first fifth of the updates, then fall to 0.

// %%
import { layerCosine, layersAbove, lineChart } from "nepa";

const parts = {
  "head and block 4": "classifier.weight",
  "block 3": "vit_nepa.encoder.layer.2.output.dense.weight",
  "block 2": "vit_nepa.encoder.layer.1.output.dense.weight",
  "block 1": "vit_nepa.encoder.layer.0.output.dense.weight",
  "embedding": "vit_nepa.embeddings.cls_token",
};
const shape = { peak: 3e-3, steps: 300, warmupSteps: 60, decay: 0.75 };

/** The learning rates of all parts through 300 updates. */
function rates(layerWarmup: boolean): Record<string, number[]> {
  return Object.fromEntries(
    Object.entries(parts).map(([part, name]) => {
      const rate = layerCosine({
        ...shape,
        above: layersAbove(name, model.config.numHiddenLayers),
        layerWarmup,
      });
      return [part, Array.from({ length: 300 }, (_, k) => rate(k))];
    }),
  );
}
const plotRates = (all: Record<string, number[]>, title: string) =>
  lineChart(all, { title, xTitle: "update", yTitle: "learning rate" });
const together = rates(false);
const factors = together.embedding!.slice(1).map((rate, k) => rate / together["head and block 4"]![k + 1]!);
claim(factors.every((factor) => Math.abs(factor - 0.75 ** 4) < 1e-9), "the factor changes");
plotRates(together, "All parts warm up together");

// %% [markdown]
// The official recipe adds a turn: a part with a smaller rate warms up for longer, and the head, whose factor is 1,
// for a single update.

// %%
const apiece = rates(true);
const warmups = Object.fromEntries(
  Object.entries(apiece).map(([part, y]) => [part, y.indexOf(Math.max(...y))]),
);
claim(
  warmups["head and block 4"] === 1 && warmups.embedding === 60 - Math.round(60 * 0.75 ** 4),
  "other warm-ups",
);
plotRates(apiece, "Each part warms up by its factor");

// %% [markdown]
// That is meant for a head at zero on a network that is good already. A network from scratch would start at the full
// rate at once. A fair comparison must not do that to it.
//
// ## Few labels
//
// 60 labels of each class are what we have, 600 in all. 2,000 other training images are for validation: on them
// choices are made. The test images wait.

// %%
const from = (start: number, count: number) => Int32Array.from({ length: count }, (_, i) => start + i);
const pool = train.subset(from(0, 50_000)), labelled = pool.balanced(budget(60, 10), 0);
const validation = train.subset(from(50_000, budget(2000, 100)));
labelled;

// %% [markdown]
// 300 updates with 64 images each. Every 50 updates the validation images are read, and the weights that did best on
// them are those that the classifier has in the end.

// %%
import { finetune } from "nepa";

const tuning = {
  steps: budget(300, 6),
  learningRate: 3e-3,
  seed: 0,
  validation,
  every: { validation: budget(50, 3) },
};
const tuned = finetune(pretrained, labelled, { ...tuning, layerDecay: 0.75 });

// %%
await plotRun(tuned);

// %%
const bestOf = ({ history }: typeof tuned) =>
  Math.max(...history.map(({ validation }) => validation?.accuracy ?? 0));
const { best, lossLast } = tuned.result();
const kept = tuned.history.find(({ step }) => step === best)!.validation!.accuracy!;
claim(kept === bestOf(tuned), "the best weights were not kept");
claim(Math.abs(tuned.history[0]!.loss - Math.log(10)) < 1e-5, "the head did not start at zero");
({ best, kept, lossLast });

// %% [markdown]
// Why does the loss not come near 0? The labels are *smoothed*: a tenth of each is spread over all classes, so the
// right one has 0.91 and each other 0.01. To be sure is punished. The best possible answer says just these shares,
// and its loss is their entropy. (The held-out loss is taken without smoothing.)

// %%
const entropy = (shares: number[]) => -shares.reduce((sum, p) => sum + (p > 0 ? p * Math.log(p) : 0), 0);
const floor = entropy([0.91, ...Array(9).fill(0.01)]);
claim(Math.abs(floor - 0.5003) < 1e-4 && lossLast > floor, "the loss fell below its floor");
floor;

// %% [markdown]
// ## From scratch
//
// The same network with random weights, on the same labels for as many updates. It deserves its own best settings: no
// layer-wise decay, since all of it has to move; and because nobody knows its best warm-up and layer scale
// beforehand, it gets three tries. The one that does best on the validation images counts.

// %%
import { evaluate, formatPercent } from "nepa";

const ways = [
  { layerscaleValue: 0.1, warmupRatio: 0.2 },
  { layerscaleValue: 0.1, warmupRatio: 0.05 },
  { layerscaleValue: 1e-5, warmupRatio: 0.2 },
];
const tries = [];
for (const { layerscaleValue, warmupRatio } of budget(ways, ways.slice(0, 1))) {
  const fresh = new Nepa({ preset: "mini", layerscaleValue }, { seed: 0 });
  const classifier = NepaClassifier.from(fresh, { classes });
  const run = finetune(classifier, labelled, { ...tuning, warmupRatio, layerDecay: 1 });
  await run.finish();
  tries.push({ layerscaleValue, warmupRatio, accuracy: bestOf(run), classifier });
  fresh.dispose();
}
const scratch = tries.toSorted((a, b) => b.accuracy - a.accuracy)[0]!;
claim(
  scratch.accuracy === (await evaluate(scratch.classifier, validation)).accuracy,
  "other weights were kept",
);
new Table(tries.map(({ classifier: _, ...row }) => row), {
  title: "From scratch, validation images",
  format: { accuracy: formatPercent },
});

// %% [markdown]
// ## The test
//
// Now, and once, the test images. (`finetune` does the same by itself where it is given `test`: it reads them after
// the last update, with the weights that the validation images have chosen.)

// %%
import { barChart } from "nepa";

const held = budget(test, test.subset(0.02));
const accuracies = {
  pretrained: (await evaluate(pretrained, held)).accuracy,
  "from scratch, its best": (await evaluate(scratch.classifier, held)).accuracy,
};
learned(accuracies.pretrained > 0.7, `pretrained: ${accuracies.pretrained}`);
learned(accuracies.pretrained > accuracies["from scratch, its best"], "pretraining did not help");
barChart({ accuracy: accuracies }, {
  title: `Fine-tuned on ${labelled.length} labels`,
  subtitle: `${held.length.toLocaleString("en-US")} test images; chance is 10 %`,
});

// %% [markdown]
// ## What was taken for what
//
// `evaluate` gives one number. For a closer look, collect the guesses and count them: a row for each class, a column
// for each guess.

// %%
const classify = engine.compile((pixels: tf.Tensor4D) => tf.argMax(pretrained.forward(pixels).logits, 1));
const guessed: number[] = [];
for (const { images, shape } of held.batches({ size: 500, shuffle: false, dropLast: false })) {
  const pixels = tf.tensor4d(normalize(images, shape, pretrained.preprocessor), shape);
  const guesses = await classify(pixels);
  guessed.push(...await guesses.data());
  tf.dispose([pixels, guesses]);
}
const confusion = classes.map(() => classes.map(() => 0));
guessed.forEach((guess, i) => confusion[held.labels[i]!]![guess]!++);

// %% [markdown]
// Results of the library that judge guesses are all a `Judgement`, which draws the matrix; ours can be one too. The
// interval says what another choice of as many test images would leave open.

// %%
import { Judgement } from "nepa";

class Counted extends Judgement {
  override table(): Table {
    return new Table(Object.entries(this.perClass).map(([name, accuracy]) => ({ class: name, accuracy })), {
      format: { accuracy: formatPercent },
    });
  }
}
const right = guessed.filter((guess, i) => guess === held.labels[i]).length / held.length;
const half = 1.96 * Math.sqrt(right * (1 - right) / held.length);
const counted = new Counted({
  accuracy: right,
  interval: [right - half, right + half],
  perClass: Object.fromEntries(
    confusion.map((row, i) => [classes[i]!, row[i]! / row.reduce((a, b) => a + b, 0)]),
  ),
  confusion,
});
claim(Math.abs(right - accuracies.pretrained) < 1e-9, "the two counts differ");
counted;

// %% [markdown]
// Some that it gets wrong:

// %%
import { imageGrid, type Picture } from "nepa";

const wrong = [...guessed.keys()].filter((i) => guessed[i] !== held.labels[i]).slice(0, 16);
imageGrid(
  wrong.map((i): Picture => ({
    data: held.get(i).image,
    height: 28,
    width: 28,
    channels: 1,
    caption: `${classes[held.labels[i]!]}\nnot ${classes[guessed[i]!]}`,
  })),
  {
    columns: 8,
    size: 72,
    gap: 24,
    title: "Wrong guesses",
    subtitle: "what it is, and what it was taken for",
  },
);

// %% [markdown]
// ## How many labels?
//
// `lowShot` does the whole comparison for several numbers of labels: fine-tuned, from scratch, and a linear probe of
// the frozen features. Here with 100 updates each, which keeps it short, and one way from scratch. What it calls test
// images are our validation images: the real ones have been read.

// %%
import { lowShot } from "nepa";

const shots = await lowShot(model, pool, validation, {
  labels: budget([60, 600, 6000], [20]),
  heldOut: budget(2000, 50),
  steps: () => budget(100, 3),
  probe: { layer: 3 },
  finetune: { learningRate: 3e-3, layerDecay: 0.75 },
  scratch: [{ warmupRatio: 0.2 }],
});

// %%
const at = (arm: string) => shots.runs.filter((run) => run.arm === arm).map(({ accuracy }) => accuracy);
const gains = at("fine-tuned").map((accuracy, i) => accuracy - at("from scratch")[i]!);
learned(at("fine-tuned").at(-1)! > at("fine-tuned")[0]!, "more labels did not help");
learned(gains.reduce((a, b) => a + b, 0) > 0, `gains: ${gains}`);
shots;

// %% [markdown]
// How far a solid line lies above the dashed one is what pretraining buys, by fine-tuning and by a probe that changes
// nothing in the network.
//
// ## Augmentation
//
// Labels are few, but each image can be shown in many ways. Mirrors cost nothing. **Crops** take a part at random and
// enlarge it. **RandAugment** draws two of fifteen changes, of colour or of shape, and makes each with a chance of
// one half.

// %%
import { horizontalFlip, randAugment, Random, randomResizedCrop, type Transform } from "nepa";

const originals = train.balanced(1, 3), show = { height: 28, width: 28, channels: 1 };
function row(name: string, transform: Transform): Picture[] {
  return Array.from({ length: 10 }, (_, i) => ({
    ...transform({ data: originals.get(i).image, ...show }, new Random(0, name, i)),
    ...(i === 0 && { caption: name }),
  }));
}
imageGrid([
  ...row("as it is", (image) => image),
  ...row("mirrored", horizontalFlip(0.5)),
  ...row("cropped", randomResizedCrop({ size: 28, resample: "bicubic" })),
  ...row("RandAugment", randAugment({ mean: model.preprocessor.imageMean })),
], { columns: 10, size: 64, title: "The same ten images" });

// %% [markdown]
// Crops that take down to 8 % of an image suit photographs. Of a shirt of 28 × 28 pixels little is left: what helps
// on one kind of image can harm on another.
//
// **Mixup** blends two images, and their labels by the same shares. **Cutmix** puts a rectangle of one into the
// other; the shares are those of the area. The shares are drawn anew for each batch.

// %%
function mixup(a: Uint8Array, b: Uint8Array, random: Random): { data: Uint8Array; share: number } {
  const share = random.beta(0.8, 0.8);
  return { data: a.map((v, i) => share * v + (1 - share) * b[i]!), share };
}

function cutmix(a: Uint8Array, b: Uint8Array, random: Random): { data: Uint8Array; share: number } {
  const half = 14 * Math.sqrt(1 - random.beta(1, 1)), x = random.uniform(0, 28), y = random.uniform(0, 28);
  const inside = (i: number) =>
    Math.abs(i % 28 + 0.5 - x) < half && Math.abs(Math.floor(i / 28) + 0.5 - y) < half;
  const share = [...a.keys()].filter((i) => !inside(i)).length / a.length; // what is cut off at the edge counts too
  return { data: a.map((v, i) => inside(i) ? b[i]! : v), share };
}

// %%
function pairs(mix: typeof mixup, name: string): (Picture & { targets: number[] })[] {
  return Array.from({ length: 8 }, (_, i) => {
    const a = originals.get(i), b = originals.get((i + 5) % 10);
    const { data, share } = mix(a.image, b.image, new Random(1, name, i));
    const targets = classes.map((_, label) =>
      share * Number(label === a.label) + (1 - share) * Number(label === b.label)
    );
    const percent = (share: number) => (100 * share).toFixed(0);
    const caption = `${percent(share)} % ${classes[a.label]}\n${percent(1 - share)} % ${classes[b.label]}`;
    return { data, ...show, caption, targets };
  });
}
const [blended, cut] = [pairs(mixup, "mixup"), pairs(cutmix, "cutmix")];
const sums = [...blended, ...cut].map(({ targets }) => targets.reduce((a, b) => a + b, 0));
claim(sums.every((sum) => Math.abs(sum - 1) < 1e-9), "shares that are no shares");
imageGrid([...blended, ...cut], { columns: 8, size: 72, gap: 24, title: "Above mixup, below cutmix" });

// %% [markdown]
// `crossEntropy` takes such shares as targets. Its least value is again their entropy: with mixed images the training
// loss is high even for a perfect network, and says little. Watch the validation images.

// %%
const mixedLoss = tf.tidy(() => {
  const targets = tf.tensor2d(blended.map(({ targets }) => targets));
  const perfect = tf.log(tf.add(targets, 1e-9)) as tf.Tensor2D; // says just the shares
  return crossEntropy(perfect, targets).dataSync()[0]!;
});
const entropies = blended.map(({ targets }) => entropy(targets));
const least = entropies.reduce((a, b) => a + b, 0) / entropies.length;
claim(Math.abs(mixedLoss - least) < 1e-3, `the loss is ${mixedLoss}, the entropy ${least}`);
mixedLoss;

// %% [markdown]
// **Random erasing** puts noise over a rectangle, after the pixels have been normalised. The network learns not to
// rely on one spot.

// %%
function erase(image: Uint8Array, random: Random): Uint8Array {
  const area = random.uniform(0.02, 1 / 3) * 784,
    aspect = Math.exp(random.uniform(Math.log(0.3), -Math.log(0.3)));
  const [h, w] = [Math.sqrt(area * aspect), Math.sqrt(area / aspect)].map((side) =>
    Math.min(27, Math.round(side))
  );
  const top = random.integer(28 - h! + 1), left = random.integer(28 - w! + 1);
  return image.map((v, i) => {
    const x = i % 28 - left, y = Math.floor(i / 28) - top;
    if (x < 0 || y < 0 || x >= w! || y >= h!) return v;
    return Math.min(255, Math.max(0, 127.5 + 127.5 * random.normal())); // noise of mean 0, deviation 1, as pixels
  });
}
const erased = Array.from(
  { length: 10 },
  (_, i) => ({ data: erase(originals.get(i).image, new Random(2, "erase", i)), ...show }),
);
const same = erased.filter(({ data }, i) => data.every((v, at) => v === originals.get(i).image[at]));
claim(same.length === 0, "nothing was erased");
imageGrid(erased, { columns: 10, size: 64, title: "Random erasing" });

// %% [markdown]
// ## Recipes
//
// A recipe sets all of this at once: `finetune(classifier, images, { recipe: "official-base" })`, and what you give
// besides overrides it. What does each set? A run that is kept in a folder writes it down in `run.json`, so begin
// each, and read that.

// %%
import type { FinetuneRecipe } from "nepa";

const names: FinetuneRecipe[] = ["default", "layer-warmup", "official-base", "official-large"];
const written: Record<string, Record<string, number | boolean | null>> = {};
for (const recipe of names) {
  const folder = await Deno.makeTempDir();
  const options = { recipe, compile: false, checkpoint: { folder }, ...budget({}, { batchSize: 64 }) };
  const run = finetune(NepaClassifier.from(model, { classes }), train, options);
  for await (const _ of run) break; // one update, here to see that it works
  written[recipe] = JSON.parse(await Deno.readTextFile(`${folder}/run.json`)).options;
  run.dispose();
  run.model.dispose();
  run.ema?.dispose();
  await Deno.remove(folder, { recursive: true });
}

// %%
const listed = [
  "steps",
  "batchSize",
  "learningRate",
  "warmupSteps",
  "layerDecay",
  "layerWarmup",
  "headLearningRate",
  "dropPath",
];
const more = ["labelSmoothing", "mixup", "cutmix", "erasing", "emaDecay", "freezePatches", "prepare"];
claim(String(names.map((name) => written[name]!.mixup)) === "0,0,0.8,0.8", "other recipes");
const { batchSize, learningRate } = written["official-base"]!;
claim(learningRate === 1.5e-3 * Number(batchSize) / 256, "another rate"); // the recipe states it for 256 images
new Table(
  [...listed, ...more].map((setting) => ({
    setting,
    ...Object.fromEntries(names.map((name) => [name, String(written[name]![setting] ?? "none")])),
  })),
  { title: `For ${train.length.toLocaleString("en-US")} images` },
);

// %% [markdown]
// `emaDecay`: the average of the weights over the last ten thousand updates or so is kept beside them, and judged
// instead of them. `dropPath`: branches of blocks are left out at random. Both, like mixup and RandAugment, are
// against learning by heart, and pay in long trainings. In 300 updates they cost more than they give.
//
// ## What the official recipe costs
//
// Nearly all computing is multiplying matrices. Forward, each parameter is multiplied and added once for each token,
// 2 operations, and backward twice that: about 6 × parameters × tokens for each image. `trainingFlops` counts
// exactly.

// %%
import { nepaConfig, trainingFlops } from "nepa";

const base = nepaConfig({ preset: "base" }), { hiddenSize, numHiddenLayers, imageSize, patchSize } = base;
const tokens = (imageSize / patchSize) ** 2 + 1, inBlocks = 12 * numHiddenLayers * hiddenSize ** 2;
const perImage = trainingFlops(base, 1);
const ratio = perImage / (6 * inBlocks * tokens);
claim(ratio > 1 && ratio < 1.15, `${ratio}`); // the rest: attention, patches
const images = 1_281_167; // ImageNet-1k
const recent = tuned.history.slice(-100),
  speed = 1e9 * recent.reduce((sum, { gflops }) => sum + gflops, 0) / recent.length;
const days = (epochs: number) => epochs * images * perImage / speed / 86_400;
new Table([
  { what: "fine-tuning, 100 epochs", operations: 100 * images * perImage, "days on this machine": days(100) },
  {
    what: "pretraining, 1,600 epochs",
    operations: 1600 * images * perImage,
    "days on this machine": days(1600),
  },
], { title: "base, ImageNet-1k", format: { operations: (count) => count.toExponential(1) } });

// %% [markdown]
// The speed is that of the training above, on this machine. Graphics cards made for such products are faster by
// orders of magnitude, and the authors used many. So take the published weights,
// `Nepa.load("SixAILab/nepa-base-patch14-224")`, and fine-tune them on few images of your own.
//
// ## Keep it
//
// A classifier is a folder too, and knows the names of its classes. The official code reads it.

// %%
const folder = await Deno.makeTempDir(); // a folder of your own, such as "runs/classifier"
await pretrained.save(folder);
const again = await NepaClassifier.load(folder);
const gap = tf.tidy(() =>
  tf.max(tf.abs(tf.sub(again.forward(pixels).logits, pretrained.forward(pixels).logits))).dataSync()[0]!
);
claim(gap === 0 && String(again.classes) === String(classes), "another classifier came back");
const config = JSON.parse(await Deno.readTextFile(`${folder}/config.json`));
await Deno.remove(folder, { recursive: true });
({ architectures: config.architectures, is_causal: config.is_causal, id2label: config.id2label });

// %% [markdown]
// ## Summary
//
// - A classifier is the pretrained network with attention both ways, a mean of the patches, a norm, and a linear map
//   that starts at zero. Its first loss is the logarithm of the number of classes, and in its first update only the
//   map learns.
// - Lower blocks get smaller learning rates. The official warm-up is longer for them, too; for a network from scratch
//   it is wrong.
// - Compare with a network from scratch that had its own best settings. Choose on validation images, read the test
//   images once.
// - Where labels are few, starting from pretrained weights beats starting from nothing.
// - Smoothed and mixed labels have an entropy, below which no loss can fall.
// - The official recipe is for a hundred epochs of a million images. For a few hundred updates, a plain one does.
//
// ## Exercises
//
// 1. Fine-tune with `layerDecay: 1`, and with 0.5. Which part of the network do 600 labels need to move?
// 2. Give `NepaClassifier.from` `causal: true`, then `pool: "last"` too. What does each cost?
// 3. Switch on `mixup: 0.8`, then `erasing: 0.25`, with 300 updates and with 1,500. When do they begin to pay?
// 4. Fine-tune five times with seeds 0 to 4. Is the difference between pretrained and from scratch larger than that
//    between seeds?
// 5. Keep the averaged weights with `emaDecay: 0.9` and with 0.9999, and evaluate `run.ema`. What is the second still
//    made of after 300 updates?
