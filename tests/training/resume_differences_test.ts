import { assert, assertEquals, assertNotEquals, assertRejects, assertStringIncludes } from "@std/assert";
import {
  arrayDataset,
  type Dataset,
  type FinetuneOptions,
  horizontalFlip,
  Mlp,
  Nepa,
  nepaLoss,
  type Objective,
  pretrain,
  type PretrainOptions,
  randomResizedCrop,
  type Run,
  RunFolderError,
  tf,
  type Transform,
  useEngine,
} from "nepa";
import { openSafetensors } from "../../lib/files/tensor_files.ts";
import { withFolder } from "../support/folder.ts";
import { nepaAnd, still } from "../support/objectives.ts";
import { noise, tinyTuning } from "../support/tiny.ts";

await useEngine("wasm");

const images = Uint8Array.from({ length: noise.length * 64 }, (_, i) => i * 37 % 251);
const labels = Uint8Array.from({ length: noise.length }, (_, i) => i % 2);
const set = (change: { images?: Uint8Array; classes?: string[] } = {}): Dataset =>
  arrayDataset({
    name: "set",
    shape: [noise.length, 8, 8, 1],
    labels,
    images,
    classes: ["a", "b"],
    ...change,
  });

const swapped = images.slice();
swapped.set(images.subarray(64, 128), 0);
swapped.set(images.subarray(0, 64), 64);

const projected = (mlp: Mlp, more: Partial<Objective> = {}): Objective => ({
  name: "projected",
  config: { width: 16 },
  parameters: mlp.parameters,
  loss: ({ embeddings, predictions }) => nepaLoss({ embeddings, predictions: mlp.apply(predictions) }),
  ...more,
});

const rate = (k: number) => 1e-3 / (k + 1);
const standard: PretrainOptions = {
  ...{
    steps: 200,
    batchSize: 8,
    learningRate: rate,
    weightDecay: (k) => 0.01 * k,
    augment: horizontalFlip(0.5),
  },
  groups: (name) => name.endsWith("bias") ? { rate: 2 } : {},
};

function start(
  folder: string,
  change: PretrainOptions = {},
  more: Partial<Objective> = {},
  data: Dataset = set(),
  model = new Nepa(still, { seed: 1 }),
): Run<Nepa> {
  const objective = projected(new Mlp([16, 16]), more), checkpoint = { folder, resume: "auto" as const };
  return pretrain(model, data, { ...standard, objective, ...change, checkpoint });
}

/** All files of a folder. */
async function files(folder: string, prefix = ""): Promise<Record<string, Uint8Array>> {
  const found: Record<string, Uint8Array> = {};
  for await (const { name, isDirectory } of Deno.readDir(`${folder}/${prefix}`)) {
    if (isDirectory) Object.assign(found, await files(folder, `${prefix}${name}/`));
    else found[prefix + name] = await Deno.readFile(`${folder}/${prefix}${name}`);
  }
  return found;
}

const frozen = (name: string) => {
  const model = new Nepa(still, { seed: 1 });
  model.parameters.get(name)!.trainable = false;
  return model;
};

type Change = [options: PretrainOptions, objective: Partial<Objective>, data?: Dataset, model?: Nepa];
const CHANGES: Record<string, [change: () => Change, says: string]> = {
  "a wider projector": [
    () => [{}, { parameters: new Mlp([16, 8, 16]).parameters }],
    "shapes.mlp.0.weight: [16,16] then, [16,8] now; shapes.mlp.0.bias: [16] then, [8] now",
  ],
  "another parameter": [
    () => [{}, { parameters: new Mlp([16, 16], { name: "head" }).parameters }],
    "shapes.mlp.0.weight: [16,16] then, undefined now",
  ],
  "a queue": [
    () => [{}, { state: new Map([["queue", tf.variable(tf.zeros([4]))]]) }],
    "shapes.queue: undefined then",
  ],
  "another name": [() => [{}, { name: "mine" }], 'objective.name: "projected" then, "mine" now'],
  "another config": [() => [{}, { config: { width: 8 } }], "objective.config.width: 16 then, 8 now"],
  "another loss": [
    () => [{}, {
      loss: ({ embeddings, predictions }) => nepaLoss({ embeddings, predictions }, { shift: false }),
    }],
    "objective.loss: ",
  ],
  "no objective": [
    () => [{ objective: nepaAnd({}) }, {}],
    'objective.name: "projected" then, "nepa and more" now',
  ],
  "NEPA's own": [() => [{ objective: undefined! }, {}], 'objective.name: "projected" then, "nepa" now'],
  "two views": [() => [{}, { views: 2 }], "views: 1 then, 2 now"],
  "other groups": [
    () => [{ groups: (name) => name.endsWith("weight") ? { rate: 2 } : {} }, {}],
    "options.groups.",
  ],
  "another learning rate at one update": [
    () => [{ learningRate: (k) => k === 77 ? 0 : rate(k) }, {}],
    "options.learningRate: ",
  ],
  "another weight decay": [
    () => [{ weightDecay: (k) => 0.01 * Math.min(k, 150) }, {}],
    "options.weightDecay: ",
  ],
  "another augmentation": [() => [{ augment: randomResizedCrop({ size: 8 }) }, {}], "options.augment: "],
  "the same with other options": [() => [{ augment: horizontalFlip(0.4) }, {}], "options.augment: "],
  "none": [() => [{ augment: null }, {}], "options.augment: "],
  "another image": [() => [{}, {}, set({ images: images.with(7, 9) })], "data.contents: "],
  "another order": [() => [{}, {}, set({ images: swapped })], "data.contents: "],
  "other class names": [
    () => [{}, {}, set({ classes: ["a", "c"] })],
    'data.classes: ["a","b"] then, ["a","c"] now',
  ],
  "held-out images": [() => [{ validation: set({ images: swapped }) }, {}], "validation: undefined then, "],
  "a frozen parameter": [
    () => [{}, {}, set(), frozen("vit_nepa.layernorm.bias")],
    'frozen: [] then, ["vit_nepa.layernorm.bias"] now',
  ],
};

Deno.test("a run that differs from the one in the folder is refused by name, and no byte of the folder changes", async () => {
  await withFolder(async (folder) => {
    for await (const { step } of start(folder)) if (step === 2) break;
    const before = await files(folder);
    for (const [what, [change, says]] of Object.entries(CHANGES)) {
      const [options, objective, data, model] = change(),
        run = start(folder, options, objective, data, model);
      const first = [...run.model.parameters.values()][0]!.dataSync().slice();
      const error = await assertRejects(() => run.finish(), RunFolderError, undefined, what);
      assertEquals(error.kind, "different", what);
      assertStringIncludes(error.message, says, what);
      assert(error.message.length < 1500, `${what}: ${error.message}`);
      assertEquals([...run.model.parameters.values()][0]!.dataSync(), first, what);
      assertEquals(await files(folder), before, what);
    }
    const run = start(folder, { groups: (name) => name.includes("bias") ? { rate: 2 } : {} }); // the same groups, written otherwise
    for await (const { step } of run) if (step === 4) break;
    assertEquals(run.history.length, 4);
  });
});

Deno.test("a fine-tuning with other held-out images, groups or frozen parameters is refused", async () => {
  await withFolder(async (folder) => {
    const tune = (options: FinetuneOptions, freeze = false) => {
      const run = tinyTuning({ steps: 4, checkpoint: { folder, resume: "auto" }, ...options });
      run.model.parameters.get("classifier.bias")!.trainable = !freeze;
      return run;
    };
    for await (const { step } of tune({})) if (step === 2) break;
    const before = await files(folder);
    for (
      const [run, says] of [
        [tune({ validation: noise.subset([1, 2, 3, 4]) }), "validation: "],
        [tune({ groups: (name) => name.includes("bias") ? { frozen: true } : {} }), "options.groups"],
        [tune({}, true), 'frozen: [] then, ["classifier.bias"] now'],
      ] as const
    ) {
      const error = await assertRejects(() => run.finish(), RunFolderError, says);
      assertEquals([error.kind, await files(folder)], ["different", before]);
    }
    assertEquals((await tune({}).finish()).steps, 4);
  });
});

Deno.test("of a function without a name it is said that it cannot be told; with a name it is compared by it", async () => {
  await withFolder(async (place) => {
    const functions: [Transform, Transform, says: string | undefined][] = [
      [(image) => image, (image) => ({ ...image }), undefined],
      [function mirrored(image) {
        return image;
      }, function turned(image) {
        return image;
      }, "options.augment: "],
    ];
    // Variables and properties name functions; these have none.
    for (const [i, [then, now, says]] of functions.entries()) {
      const folder = `${place}/${i}`, before = console.error, printed: string[] = [];
      for await (const { step } of start(folder, { augment: then })) if (step === 1) break;
      console.error = (line: string) => printed.push(line);
      try {
        const run = start(folder, { augment: now });
        if (says) {
          assertStringIncludes((await assertRejects(() => run.finish(), RunFolderError)).message, says);
        } else for await (const { step } of run) if (step === 2) break;
      } finally {
        console.error = before;
      }
      assertEquals(
        printed.some((line) => line.includes("cannot be told")),
        says === undefined,
        printed.join(),
      );
    }
  });
});

Deno.test("moments are kept by parameter name, and are zeros where the loss does not reach", async () => {
  await withFolder(async (folder) => {
    const mlp = new Mlp([16, 16]),
      loss: Objective["loss"] = ({ embeddings }) => tf.mean(tf.square(mlp.apply(embeddings))) as tf.Scalar;
    const run = start(folder, { weightDecay: 0.5 }, { parameters: mlp.parameters, loss });
    for await (const { step } of run) if (step === 2) break;
    await using file = await openSafetensors(`${folder}/step-00000002/optimizer.safetensors`);
    const names = [...run.model.parameters, ...mlp.parameters].map(([name]) => name);
    const expected = ["exp_avg", "exp_avg_sq"].flatMap((moment) => names.map((name) => `${moment}.${name}`));
    assertEquals([...file.infos.keys()].sort(), expected.sort());
    const largest = async (name: string) =>
      Math.max(...((await file.read(`exp_avg_sq.${name}`)).data as Float32Array).map(Math.abs));
    assertEquals(await largest("vit_nepa.layernorm.weight"), 0);
    assertNotEquals(await largest("mlp.0.weight"), 0);
    assertNotEquals(await largest("vit_nepa.embeddings.cls_token"), 0);
  });
});
