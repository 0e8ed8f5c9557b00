// %% [markdown]
// # Your own images
//
// A folder of pictures, a folder in it for each class: that is all a training needs. This notebook goes the whole way with
// one: from files to a configuration, to what the training will cost *before* it is run, to a pretrained model, a saved one,
// a fine-tuned one, and to PyTorch, which reads what was saved.
//
// So that nothing has to be downloaded, the folder is made here, from Fashion-MNIST, as JPEG and PNG files. For your own
// pictures, leave that cell out and put their path in its place; the rest stays, but for the size.
//
// **Cost.** All of it took 47 seconds on two quiet cores, 14 of them pretraining (200 steps; the time left is shown), and 1.1 GB
// of memory; on two that were busy with much other work, 10 minutes. The first run fetches TensorFlow, 274 MB, and the decoder, 20 MB.

// %%
import sharp from "sharp";
import { budget, claim, learned } from "lesson";
import { useEngine } from "nepa";

const engine = await useEngine(); // what computes
await engine.describe();

// %% [markdown]
// ## A folder of images
//
// `train` and `test`, each with a folder for each class, hold JPEG files and, every fourth, a PNG file. In a project of your
// own this cell is one line: `const root = "path/to/my/pictures";`

// %%
import { fashionMnist, type MemoryDataset } from "nepa";

const root = await Deno.makeTempDir();

async function writeFiles(name: string, images: MemoryDataset): Promise<void> {
  await Promise.all(
    images.classes.map((kind) =>
      Deno.mkdir(`${root}/${name}/${kind.replace("/", " or ")}`, { recursive: true })
    ),
  );
  await Promise.all(Array.from({ length: images.length }, (_, i) => {
    const { image, label } = images.get(i), kind = images.classes[label]!.replace("/", " or ");
    const file = `${root}/${name}/${kind}/${i}.${i % 4 === 0 ? "png" : "jpg"}`;
    return sharp(image, { raw: { height: 28, width: 28, channels: 1 } }).jpeg({ quality: 95, force: false })
      .png({ force: false }).toFile(file);
  }));
}

const { train: clothes, test: others } = await fashionMnist();
await writeFiles("train", clothes.balanced(budget(600, 20), 0));
await writeFiles("test", others.balanced(budget(100, 10), 0));

// %% [markdown]
// `imageFolder` looks at names and sizes only. Files are read and decoded when a step needs them, several at a time, while
// the step before is being computed; a folder may be larger than the memory. `channels: 1` asks for grey. Without it, images
// are red, green and blue, whatever the files hold.

// %%
import { imageFolder } from "nepa";

const train = await imageFolder(`${root}/train`, { size: 28, channels: 1 });
const test = await imageFolder(`${root}/test`, { size: 28, channels: 1 });
claim(train.length === budget(6000, 200), "images are missing");
claim(String(train.classes) === String(train.classes.toSorted()), "unsorted"); // a label is the place of its folder's name
train;

// %% [markdown]
// ## What is wrong with files
//
// In any large folder there is a broken file. By default the run stops and names it. With `broken: "skip"` every file is
// tried once when the folder is opened, and `skipped` says what was left out and why.

// %%
const [first] = Deno.readDirSync(`${root}/test/Bag`);
const bytes = await Deno.readFile(`${root}/test/Bag/${first!.name}`), half = `${root}/test/Bag/!half.jpg`;
await Deno.writeFile(half, bytes.subarray(0, bytes.length / 2));

const withHalf = await imageFolder(`${root}/test`, { size: 28, channels: 1 });
const firstBag = withHalf.labels.indexOf(withHalf.classes.indexOf("Bag")); // files are sorted, and ! comes first
const refusal = await Promise.resolve(withHalf.get(firstBag)).catch((error: Error) => error.message);
claim(String(refusal).includes("half.jpg"), "half an image was taken for one");
const { skipped, length } = await imageFolder(`${root}/test`, { size: 28, channels: 1, broken: "skip" });
claim(skipped.length === 1 && length === test.length, "more was left out");
await Deno.remove(half);
skipped[0]!.message.replace(root, "…");

// %% [markdown]
// ## A configuration
//
// Three numbers follow from the pictures: their size, their channels, and the side of a patch, which divides the size. 16 to
// 200 patches are usual: too few, and there is nothing to predict; with twice as many on a side, attention costs up to
// sixteen times as much. The rest is the size of the network. For small pictures begin with the widths of `mini`, for
// photographs of 64 × 64 with `tiny`.

// %%
import { Nepa, plotPatches } from "nepa";

const model = new Nepa({ preset: "mini", imageSize: 28, numChannels: 1, patchSize: 7 }, { seed: 0 });
const example = { data: (await train.get(0)).image, height: 28, width: 28, channels: 1 };
plotPatches(example, 7);

// %% [markdown]
// ## What it will cost
//
// Do not guess: run ten steps. The first of them compiles the step, and is looked at apart. `break` leaves a run, and the
// next loop over it goes on where it was.

// %%
import { pretrain, Table, trainingFlops } from "nepa";

const steps = budget(200, 16);
const run = pretrain(model, train, { steps, batchSize: 64, seed: 0 });
for await (const { step } of run) if (step === 10) break;

const compiled = run.history[0]!.compileSeconds ?? 0;
const later = run.history.slice(2).map(({ imagesPerSecond }) => 64 / imagesPerSecond).sort((a, b) => a - b);
const perStep = later[later.length >> 1]!; // the median
const estimate = { minutes: (steps - 10) * perStep / 60, megabytes: Deno.memoryUsage().rss / 1e6 };
new Table([
  { what: "compiling, once", value: `${compiled.toFixed(1)} s` },
  { what: "a step of 64 images", value: `${(1000 * perStep).toFixed(0)} ms` },
  { what: "arithmetic in it", value: `${(trainingFlops(model.config, 64) / 1e9).toFixed(1)} GFLOP` },
  { what: `the ${steps - 10} steps to come`, value: `${estimate.minutes.toFixed(1)} min` },
  { what: "a whole pass over the folder", value: `${(train.length / 64 * perStep / 60).toFixed(1)} min` },
  { what: "memory of this process", value: `${estimate.megabytes.toFixed(0)} MB` },
]);

// %% [markdown]
// The memory will hardly grow: decoded images are not kept, but for small ones, up to 256 MB. If the minutes are too many,
// this is the moment to take fewer steps, a smaller network or larger patches.
//
// ## Pretraining
//
// The same run goes on. The bar shows the time that is left, measured as it goes.

// %%
import { plotRun } from "nepa";

const started = performance.now();
await plotRun(run);

// %%
const minutes = (performance.now() - started) / 60_000, result = run.result();
learned(result.lossLast < result.lossFirst, "the loss did not fall");
claim(!run.history.at(-1)!.metrics?.collapsed, "the embeddings collapsed");
const megabytes = Deno.memoryUsage().rss / 1e6;
claim(minutes < 5 * estimate.minutes + 1, `${minutes} minutes, ${estimate.minutes} were expected`);
claim(megabytes < 2 * estimate.megabytes, `${megabytes} MB, ${estimate.megabytes} were expected`);
new Table([
  { what: "minutes", estimated: estimate.minutes, took: minutes },
  { what: "megabytes", estimated: estimate.megabytes, took: megabytes },
]);

// %% [markdown]
// ## Save it
//
// A folder with three files, and a model card made from the run.

// %%
const saved = `${root}/model`;
await model.save(saved, { run: result });
const names = [...Deno.readDirSync(saved)].map(({ name }) => name).sort();
claim(String(names) === "README.md,config.json,model.safetensors,preprocessor_config.json", "other files");
names.join(", ");

// %% [markdown]
// ## Fine-tune it
//
// The names of the folders are the classes. `test` decides nothing; it is read once, at the end.

// %%
import { finetune, NepaClassifier } from "nepa";

const classifier = NepaClassifier.from(model, { classes: train.classes });
await plotRun(finetune(classifier, train, { steps: budget(60, 6), batchSize: 64, seed: 0, test }));

// %%
import { evaluate } from "nepa";

const { accuracy } = await evaluate(classifier, test);
learned(accuracy > 0.5, `accuracy ${accuracy}`);
`${(100 * accuracy).toFixed(1)} % of ${test.length} test files; chance is 10 %`;

// %% [markdown]
// ## Load it in PyTorch
//
// The files are those of the official code: `ViTNepaForPreTraining.from_pretrained("…/model")` reads them. Here PyTorch alone
// is asked for one thing that shows that the weights arrive in the right order: the patches' embeddings of an image. If
// there is no Python with torch and safetensors here, the library's own reading of the file does the same.

// %%
import { normalize, openSafetensors, tf } from "nepa";

const embeddings = tf.tidy(() => {
  const pixels = tf.tensor4d(normalize(example.data, [1, 28, 28, 1], model.preprocessor), [1, 28, 28, 1]);
  return tf.slice(model.forward(pixels).embeddings, [0, 1, 0]).dataSync(); // CLS left out: [16, 128]
});
const pixels = [...normalize(example.data, [1, 28, 28, 1], model.preprocessor)];
const name = "vit_nepa.embeddings.patch_embeddings.projection";
const script = `
import json, sys
import torch
from safetensors.torch import load_file
weights = load_file(sys.argv[1] + "/model.safetensors")
image = torch.tensor(json.load(sys.stdin)).reshape(1, 1, 28, 28)
out = torch.nn.functional.conv2d(image, weights["${name}.weight"], weights["${name}.bias"], stride=7)
print(json.dumps(out.flatten(2).transpose(1, 2).flatten().tolist()))
`;

/** What Python prints; undefined where there is no Python with torch and safetensors. */
async function python(script: string, input: string): Promise<string | undefined> {
  const command = Deno.env.get("NEPA_PYTHON") ?? "python3",
    piped = { stdin: "piped", stdout: "piped" } as const;
  try {
    const child = new Deno.Command(command, { args: ["-c", script, saved], ...piped, stderr: "null" })
      .spawn();
    await new Blob([input]).stream().pipeTo(child.stdin).catch(() => {}); // it may have ended before
    const { success, stdout } = await child.output();
    return success ? new TextDecoder().decode(stdout) : undefined;
  } catch {
    return undefined;
  }
}

/** The same from the file, without a framework. */
async function byHand(): Promise<number[]> {
  await using file = await openSafetensors(`${saved}/model.safetensors`);
  const { data: weight } = await file.read(`${name}.weight`),
    { data: bias } = await file.read(`${name}.bias`); // [128, 1, 7, 7]
  return Array.from({ length: 16 * 128 }, (_, i) => {
    const patch = Math.floor(i / 128), d = i % 128, top = 7 * Math.floor(patch / 4), left = 7 * (patch % 4);
    let sum = Number(bias[d]);
    for (let k = 0; k < 49; k++) {
      sum += Number(weight[49 * d + k]) * pixels[(top + Math.floor(k / 7)) * 28 + left + k % 7]!;
    }
    return sum;
  });
}

const printed = await python(script, JSON.stringify(pixels));
const read: number[] = printed ? JSON.parse(printed) : await byHand();
const largest = read.reduce((most, x, i) => Math.max(most, Math.abs(x - embeddings[i]!)), 0);
claim(read.length === embeddings.length && largest < 1e-4, `the embeddings differ by ${largest}`);
`${printed ? "PyTorch's" : "The file's"} embeddings differ from ours by at most ${largest.toExponential(1)}`;

// %% [markdown]
// With the official code at hand (github.com/SihanXU/nepa), these lines give the whole network's output:
//
// ```python
// from models.vit_nepa import ViTNepaForPreTraining
// model = ViTNepaForPreTraining.from_pretrained("runs/mine")
// ```
//
// `deno task bench interop --official CHECKOUT` compares that with ours, layer by layer.

// %%
classifier.dispose();
model.dispose();
await Deno.remove(root, { recursive: true });

// %% [markdown]
// ## Summary
//
// - A folder for each class is a data set: `imageFolder(path, { size })`. Files are decoded as they are needed, and what is
//   wrong with one has a name.
// - Size, channels and patch size follow from the pictures; the rest of the configuration is the network's size.
// - Ten steps tell what all will cost, in minutes and in memory, before it is spent.
// - What is saved is what the official PyTorch code reads.
//
// ## Exercises
//
// 1. Put a folder of your own photographs in: `imageFolder("photos", { size: 64 })`, `preset: "tiny"`, and
//    `augment: compose(randomResizedCrop({ size: 64, scale: [0.3, 1] }), horizontalFlip())`. The crop is cut from the whole
//    photograph, not from its 64 × 64 version.
// 2. Take patches of 4 × 4 pixels. Predict the minutes, then run ten steps and compare.
// 3. `pretrain` takes `checkpoint: { folder: "runs/mine", every: 100, resume: "auto" }`. Stop the kernel in the middle, start
//    it again, run all cells. Then rename one of the image files, and see what a resumed run says.
// 4. Data sets on the Hugging Face hub are often Parquet files. Download one and open it with `parquetImages`.
