// %% [markdown]
// # Predicting the next embedding
//
// NEPA (Next-Embedding Predictive Autoregression, [arXiv 2512.16922](https://arxiv.org/abs/2512.16922)) learns from
// images without labels, much as a language model learns from text: it reads an image patch by patch and, at each patch,
// predicts the next one. It does not predict pixels. It predicts the next patch's *embedding*, the vector that the
// network itself makes of that patch.
//
// In this notebook a small network learns from 60,000 pictures of clothes. You will see what it reads, what it is allowed
// to look at, how it trains, what it expects, and what its features are good for.
//
// **Cost.** On two cores that were busy with much other work it took 32 minutes; quiet ones need a few. Training shows the time
// left. Memory: 1.7 GB. The first run fetches TensorFlow, 274 MB.

// %%
import { budget, claim, learned } from "lesson";
import { useEngine } from "nepa";

const engine = await useEngine(); // what computes
await engine.describe();

// %% [markdown]
// ## The data
//
// Fashion-MNIST: grey pictures of 28 × 28 pixels in ten classes, 60,000 to train on and 10,000 to test with. Pretraining
// never looks at the classes.

// %%
import { fashionMnist } from "nepa";

const { train, test } = await fashionMnist();
claim(train.length === 60_000 && test.length === 10_000, "images are missing");
train;

// %% [markdown]
// ## Patches
//
// The network reads an image as a sequence. It is cut into squares of 7 × 7 pixels, taken row by row: 16 patches. One
// linear map turns the 49 numbers of a patch into its embedding $z_t$, a vector of 128 numbers. In front of the
// patches stands a learned vector, CLS, so that there is something from which to predict the first patch. That makes
// 17 tokens.

// %%
import { plotPatches } from "nepa";

const picture = { data: test.get(1).image, height: 28, width: 28, channels: 1 };
plotPatches(picture, 7);

// %% [markdown]
// ## The causal mask
//
// A transformer mixes the tokens. To make predicting the next patch a task and not a look-up, each position may see
// only itself and what came before. The mask says so: it is added to the attention scores, 0 where looking is allowed,
// −∞ where it is not.

// %%
import { causalMask, plotMask } from "nepa";

const mask = causalMask(17);
await plotMask(mask);

// %% [markdown]
// ## The model
//
// `mini` is the smallest preset: 4 blocks, 4 heads, 128 numbers a token. The table lists the layers under the names that
// the official checkpoints use.

// %%
import { Nepa } from "nepa";

const model = new Nepa({ preset: "mini", numHiddenLayers: budget(4, 1) }, { seed: 0 });
model;

// %% [markdown]
// Does the mask hold? Change the last patch of an image, and compare the predictions. Position $t$ predicts patch $t + 1$,
// so only the last position, which has read patch 16, may notice.

// %%
import { normalize, tf } from "nepa";

function toTensor(...images: Uint8Array[]): tf.Tensor4D {
  const joined = new Uint8Array(images.flatMap((image) => [...image]));
  const shape: [number, number, number, number] = [images.length, 28, 28, 1];
  return tf.tensor4d(normalize(joined, shape, model.preprocessor), shape);
}

const changed = picture.data.slice();
for (let y = 21; y < 28; y++) changed.fill(255, y * 28 + 21, y * 28 + 28); // the patch at the lower right, white
const differences = tf.tidy(() => {
  const [before, after] = tf.split(model.forward(toTensor(picture.data, changed)).predictions, 2);
  return [...tf.max(tf.abs(tf.sub(before!, after!)), [0, 2]).dataSync()]; // one number for each of 17 positions
});
claim(Math.max(...differences.slice(0, 16)) < 1e-4, "an earlier position saw the change"); // 0 but for rounding
claim(differences[16]! > 1e-2, "the last position did not see the change");
differences.map((difference) => difference.toFixed(3)).join(" ");

// %% [markdown]
// ## The loss
//
// The prediction $\hat z_t$ at each position is compared with the embedding of the next patch by the cosine of the angle
// between the two:
//
// $$L = -\frac{1}{T-1} \sum_t \cos(\hat z_t,\ \mathrm{sg}(z_{t+1}))$$
//
// −1 is a perfect prediction. The target's gradient is stopped (sg): the network is to move its predictions toward the
// embeddings, not the embeddings toward what is easy to predict. Written out, it is a few lines.

// %%
import { nepaLoss } from "nepa";

const [byHand, fromLibrary] = tf.tidy(() => {
  const outputs = model.forward(toTensor(picture.data));
  const unit = (x: tf.Tensor) => tf.div(x, tf.norm(x, 2, -1, true));
  const predicted = unit(tf.slice(outputs.predictions, [0, 0, 0], [-1, 16, -1])); // positions 0 to 15
  const next = unit(tf.slice(outputs.embeddings, [0, 1, 0])); // positions 1 to 16
  const cosines = tf.sum(tf.mul(predicted, next), -1); // [1, 16]
  return [tf.neg(tf.mean(cosines)).dataSync()[0]!, nepaLoss(outputs).dataSync()[0]!];
});
claim(Math.abs(byHand - fromLibrary) < 1e-5, "the two differ");
fromLibrary;

// %% [markdown]
// ## One training step, by hand
//
// A training step is short. Here it is, whole, in the library's own pieces, on a second network with the same first
// weights. The four lines inside `engine.compile` are the step:
//
// 1. `lossAndGradients` runs the network on a batch, computes the loss, and gives its gradient by each weight.
// 2. `clipByGlobalNorm` takes all gradients as one long vector. If that is longer than 1, it is shortened to 1, so that no
//    single batch can throw the network far. (`join` puts the gradients end to end, which makes the step faster.)
// 3. `optimizer.update` is **AdamW**. For each weight it keeps two running means, of the gradient and of its square, and
//    moves the weight by their ratio times the learning rate. Matrices also shrink a little at each step: that is the weight
//    decay.
// 4. The loss is returned. The weights are variables, and have changed in place.
//
// `engine.compile` turns the function into one TensorFlow function. It runs the JavaScript once, to record it; an engine that
// does not compile, such as `wasm`, runs it at each call. So everything that changes from step to step is an argument:
//
// - `images`: 64 pictures, half of them mirrored. `trainingBatches` shuffles and mirrors by the seed.
// - `draws`: the random numbers of this step. Here they shift and stretch the angles by which the network knows where a
//   patch is. `updateRandom(seed, k)` makes those of step `k`: the same seed and `k`, the same numbers.
// - `rates`: the learning rate. It rises to 0.003 over the first tenth of the training and falls to 0 along a cosine.
//
// Tensors that JavaScript holds are freed by hand: `tf.dispose`.

// %%
import { AdamW, clipByGlobalNorm, type Draws, lossAndGradients, trainingBatches, updateRandom } from "nepa";
import { warmupCosine } from "nepa";

const steps = budget(2000, 20), batchSize = 64, seed = 0, byHandSteps = budget(50, 3);
const twin = new Nepa({ preset: "mini", numHiddenLayers: budget(4, 1) }, { seed });
const batches = trainingBatches(train, { batchSize, seed });
const optimizer = new AdamW(twin.parameters, { weightDecay: 0.05 });
const rate = warmupCosine({ peak: 3e-3, steps, warmupSteps: steps / 10 });

type Inputs = { images: tf.Tensor4D; draws: Draws; rates: tf.Tensor1D };
const step = engine.compile(({ images, draws, rates }: Inputs) => {
  const lossOf = () => nepaLoss(twin.forward(images, { draws }));
  const { loss, gradients } = lossAndGradients(lossOf, twin.parameters);
  const { clipped } = clipByGlobalNorm(optimizer.join(gradients), 1);
  optimizer.update(clipped, rates);
  return loss;
});

const losses: number[] = [];
for (let k = 0; k < byHandSteps; k++) {
  const { images } = await batches.next();
  const draws = twin.draws(batchSize, updateRandom(seed, k)), rates = optimizer.rates(k, [rate(k)]);
  const loss = await step({ images, draws, rates });
  losses.push((await loss.data())[0]!);
  tf.dispose([loss, draws, rates]);
}

// %%
for (const made of [twin, batches, optimizer, step]) made.dispose();
({ "first loss": losses[0], [`loss ${byHandSteps}`]: losses.at(-1) });

// %% [markdown]
// ## Training
//
// `pretrain` is that loop with what a long training needs besides: it prepares the next batch while a step is computed,
// measures, can be stopped and resumed, and refuses a loss that is not a number. Its losses are those of the loop, to the
// last bit; the next cells check it. Watch three things:
//
// - **The loss** falls toward −1.
// - **The lines to beat**: what trivial answers would reach against the same targets. Repeat the previous patch's embedding;
//   always say the mean direction; say the mean direction for each position. A network below them has learned something
//   about *this* image.
// - **The collapse meter**: a network could make its own task easy by giving all patches the same embedding. Then the loss
//   is a perfect −1 and the features are worthless. The spread of the embeddings would fall to 0, their effective rank
//   to 1.
//
// `pretrain` computes nothing yet; what it gives is run by iterating it, which `plotRun` does.

// %%
import { pretrain } from "nepa";

const run = pretrain(model, train, { steps, batchSize, seed });

// %% [markdown]
// The Stop button ends the training after the current step. Run this cell again, and it goes on from there.

// %%
import { plotRun } from "nepa";

await plotRun(run);

// %%
claim(losses.every((loss, k) => loss === run.history[k]!.loss), "the loop by hand has other losses"); // bit for bit
const { lossFirst, lossLast } = run.result();
const { metrics } = run.history.at(-1)!;
learned(lossLast < lossFirst, "the loss did not fall");
claim(!metrics!.collapsed, "the embeddings collapsed");
const toBeat = Math.max(metrics!.previousPatch, metrics!.meanDirection, metrics!.meanDirectionPerPosition);
learned(-lossLast > toBeat, "a trivial answer is as good");
({ lossFirst, lossLast, toBeat: -toBeat });

// %% [markdown]
// ## What it expects next
//
// At each position the model holds an expectation: a vector. Which patches of the image are like it? Above, what the
// model has seen so far; below, how like its expectation the embedding of each patch is, as a softmax over the cosines.
// The outlined patch is the one that really comes next.

// %%
import { plotExpectation } from "nepa";

await plotExpectation(model, picture, { patches: [2, 5, 8, 11, 14] });

// %% [markdown]
// An expectation is no picture, but the nearest real patch is one. Below, each patch is painted by that patch of 200 other
// images whose embedding is nearest to what the network expects. **Second row**: it has read the real patches before. **Third
// row**: it has read the first 8, and from there on only what it painted itself. Compare each picture with the one above it.
// Trousers go on as trousers. Where an image begins is a guess, the same for all: nothing has been read yet.

// %%
import { plotImagination } from "nepa";

await plotImagination(model, test.subset([1, 2, 5, 8, 9, 18]), train.balanced(budget(20, 2)));

// %% [markdown]
// Where did it look for that? The outlined patch is the eleventh of 16. It reads from itself and from the ten before it, and is
// to predict the one to its right. The deeper the colour, the more of the attention a patch gets; a row for each block, a
// column for each head. Look at the last column of patches: several heads read there, and one of block 4 reads almost only the
// patch right above the one that comes next. That is a good place to look.

// %%
import { plotAttention } from "nepa";

await plotAttention(model, picture, { patch: 10, heads: "each", size: 90 });

// %% [markdown]
// ## What the features are good for: a linear probe
//
// What do patches mean to the network? After block 3 each is a vector of 128 numbers. Draw the three directions in which
// they vary most, over all patches shown, as red, green and blue. Patches of one colour are alike in these three directions,
// though their pixels may differ. Much of the colour says *where* a patch is, since what comes next depends on that. The rest
// says what is there: compare the same place in two images. Trousers look like trousers, shoes like shoes.

// %%
import { plotPatchColors } from "nepa";

await plotPatchColors(model, test.subset([1, 2, 4, 5, 8, 9, 18, 19]), { layer: budget(3, 1) });

// %% [markdown]
// Now the whole image. Freeze the network, take the mean of its patch tokens as 128 features of an image, and let a linear
// classifier read them. If the classes can be told apart by a linear map, the network has laid them out well, though it never saw a label.
// Two references say what that is worth: the same network before training, and the 784 raw pixels.

// %%
import { linearProbe } from "nepa";

const some = (dataset: typeof train, count: number) =>
  budget(dataset, dataset.subset(count / dataset.length));
const held = some(test, 200);
const probe = await linearProbe(model, some(train, 300), held, {
  layers: true,
  references: true,
  seed: 0,
});
learned(probe.accuracy > 0.8, `accuracy ${probe.accuracy}`);
learned(probe.accuracy > probe.untrained!, "training did not help");
probe;

// %% [markdown]
// Which block is read matters, as the bars above say. The first blocks have mixed little yet; the last has to turn toward
// its own task, the next embedding.

// %% [markdown]
// ## Few labels
//
// Labels are what is scarce. Take 60 of each class, 600 in all, and train the whole network to classify, with every
// position now seeing the whole image: once from the pretrained weights, once from random ones. Both get the same 300
// steps and the same learning rate. From random weights the whole network has to move, so its blocks start with a larger
// layer scale and all learn at the full rate; both choices help it.

// %%
import { finetune, NepaClassifier } from "nepa";

const labelled = train.balanced(budget(60, 10), 0);
const settings = { steps: budget(300, 5), learningRate: 3e-3, seed: 0 };

const pretrained = NepaClassifier.from(model, { classes: train.classes });
await plotRun(finetune(pretrained, labelled, { ...settings, layerDecay: 0.75 }));

// %%
const untrained = new Nepa({ ...model.config, layerscaleValue: 0.1 }, { seed: 0 });
const scratch = NepaClassifier.from(untrained, { classes: train.classes });
await plotRun(finetune(scratch, labelled, { ...settings, layerDecay: 1 }));

// %%
import { barChart, evaluate } from "nepa";

const accuracies = {
  pretrained: (await evaluate(pretrained, held)).accuracy,
  "from scratch": (await evaluate(scratch, held)).accuracy,
};
learned(accuracies.pretrained > 0.7, `pretrained: ${accuracies.pretrained}`);
learned(accuracies.pretrained > accuracies["from scratch"], "pretraining did not help");
barChart({ accuracy: accuracies }, {
  title: `Fine-tuned on ${labelled.length} labels`,
  subtitle: `${held.length.toLocaleString("en-US")} test images; chance is 10 %`,
});

// %% [markdown]
// ## Keep it
//
// A model is a folder: `config.json`, `model.safetensors`, `preprocessor_config.json`. The official PyTorch code reads it,
// and its checkpoints are read here.

// %%
const folder = await Deno.makeTempDir(); // a folder of your own, such as "runs/mini"
await model.save(folder);
const again = await Nepa.load(folder);
const apart = tf.tidy(() => {
  const image = toTensor(picture.data);
  return tf.max(tf.abs(tf.sub(model.features(image), again.features(image)))).dataSync()[0]!;
});
claim(apart === 0, `the features are ${apart} apart`);
await Deno.remove(folder, { recursive: true });

// %% [markdown]
// ## Summary
//
// - An image is a sequence of patches. A causal transformer reads it and predicts, at each position, the embedding of the
//   next patch. The loss is a negative cosine; the target's gradient is stopped.
// - One training step: forward, loss, gradients, clipping, AdamW. Written by hand it gives `pretrain`'s losses to the bit.
// - Three things carry the method: the causal mask, the shift by one, the stopped gradient. The loss alone does not tell
//   whether it works, since a collapsed network has a perfect one: watch the lines to beat and the collapse meter.
// - Without a label, the network arranges the images so that a linear classifier reads their classes from 128 numbers,
//   better than before training. At this size the 784 raw pixels, which keep where everything is, do about as well.
// - Where labels are few, starting from the pretrained weights beats starting from scratch.
//
// ## Exercises
//
// 1. In the step by hand, leave out the clipping, or take `tf.neg(…)` of the loss. What happens to the losses? Print the
//    gradient's norm, which `clipByGlobalNorm` gives too.
// 2. `pretrain` takes `stopGradient: false`, `shift: false` and `causal: false`. Train a new model with each, 600 steps, and
//    compare the losses, the collapse meter and `knn(model, train, test)`. Which has the best loss? Which is the best model?
// 3. The prediction at CLS has seen no patch. What does it expect? Draw `plotExpectation` for patch 0 of several images.
// 4. Which block reads best in the probe, and why might it not be the last? Pretrain with 6 blocks
//    (`numHiddenLayers: 6`) and look again.
// 5. Use patches of 4 × 4 pixels (`preset: "nano"`). The loss becomes better and the probe worse: why is a smaller patch
//    easier to predict?
// 6. How many labels must the network from scratch get to catch up? Try 60, 600, 6,000.
