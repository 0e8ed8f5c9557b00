import { fileURLToPath } from "node:url";
import { assert, assertEquals, assertRejects } from "@std/assert";
import * as tf from "@tensorflow/tfjs";
import { CheckpointError } from "../../lib/files/model_folder.ts";
import { useEngine } from "../../lib/engine/mod.ts";
import { NepaClassifier } from "../../lib/model/classifier.ts";
import { Nepa } from "../../lib/model/nepa.ts";
import { type HostTensor, readSafetensors, writeSafetensors } from "../../lib/files/safetensors.ts";

await useEngine("cpu");

const fixture = (name: string) => fileURLToPath(new URL(`../fixtures/${name}`, import.meta.url));

const files = (folder: string) => [...Deno.readDirSync(folder)].map(({ name }) => name).sort();

/** Runs a test in a folder of its own. */
function inFolder(name: string, fn: (folder: string) => Promise<void>): void {
  Deno.test(name, async () => {
    const folder = await Deno.makeTempDir(), tensors = tf.memory().numTensors;
    try {
      await fn(folder);
      assertEquals(tf.memory().numTensors, tensors, "tensors left over");
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
  });
}

/** A copy of a fixture's model with other tensors. */
async function changed(
  folder: string,
  name: string,
  change: (tensors: Map<string, HostTensor>) => void,
): Promise<void> {
  await Deno.copyFile(`${fixture(name)}/config.json`, `${folder}/config.json`);
  const { tensors } = readSafetensors(await Deno.readFile(`${fixture(name)}/model.safetensors`));
  change(tensors);
  await Deno.writeFile(`${folder}/model.safetensors`, writeSafetensors(tensors));
}

for (const name of ["pretrain-a", "pretrain-b", "pretrain-c", "pretrain-d"]) {
  inFolder(`${name} is loaded and saved with the same tensors and the same configuration`, async (folder) => {
    const model = await Nepa.load(fixture(name));
    await model.save(`${folder}/deep/down`);
    model.dispose();
    const [before, after] = await Promise.all(
      [fixture(name), `${folder}/deep/down`].map(async (place) =>
        readSafetensors(await Deno.readFile(`${place}/model.safetensors`))
      ),
    );
    assertEquals(after, before);
    const [config, saved] = await Promise.all(
      [fixture(name), `${folder}/deep/down`].map(async (place) =>
        JSON.parse(await Deno.readTextFile(`${place}/config.json`))
      ),
    );
    delete config.transformers_version;
    assertEquals(saved, config);
    assertEquals(files(`${folder}/deep/down`), [
      "README.md",
      "config.json",
      "model.safetensors",
      "preprocessor_config.json",
    ]);
  });
}

inFolder("a classifier keeps its classes and its weights", async (folder) => {
  const model = new Nepa({ preset: "mini", numHiddenLayers: 1 }, { seed: 5 });
  const classifier = NepaClassifier.from(model, { classes: ["shoe", "bag"], config: { dropPathProb: 0.1 } });
  await classifier.save(folder);
  const json = JSON.parse(await Deno.readTextFile(`${folder}/config.json`));
  assertEquals([json.id2label, json.label2id], [{ 0: "shoe", 1: "bag" }, { shoe: 0, bag: 1 }]);
  assertEquals(json.architectures, ["ViTNepaForImageClassification"]);
  const loaded = await NepaClassifier.load(folder);
  assertEquals([loaded.classes, loaded.config], [classifier.classes, classifier.config]);
  for (const [name, variable] of classifier.parameters) {
    assertEquals(loaded.parameters.get(name)!.dataSync(), variable.dataSync(), name);
  }
  for (const owner of [model, classifier, loaded]) owner.dispose();
});

inFolder("the preprocessing is saved with the model, and is one half where there is none", async (folder) => {
  const plain = await Nepa.load(fixture("pretrain-a")), { preprocessor } = plain;
  assertEquals([preprocessor.imageMean, preprocessor.imageStd], [[0.5, 0.5, 0.5], [0.5, 0.5, 0.5]]);
  assertEquals(preprocessor.size, { height: 16, width: 16 });
  const model = new Nepa(plain.config, { preprocessor: { ...preprocessor, imageMean: [0.1, 0.2, 0.3] } });
  await model.save(folder);
  const loaded = await Nepa.load(folder);
  assertEquals(loaded.preprocessor, model.preprocessor);
  for (const owner of [plain, model, loaded]) owner.dispose();
});

inFolder("bfloat16, half and double precision are loaded as float32", async (folder) => {
  await changed(folder, "pretrain-a", (tensors) => {
    const types = ["BF16", "F16", "F64"] as const, names = [...tensors.keys()];
    for (const [i, name] of names.entries()) {
      const { shape, data } = tensors.get(name)!, dtype = types[i % 3]!;
      tensors.set(name, {
        dtype,
        shape,
        data: dtype === "F64" ? Float64Array.from(data as Float32Array) : data,
      });
    }
  });
  const [rounded, exact] = [await Nepa.load(folder), await Nepa.load(fixture("pretrain-a"))];
  for (const [name, variable] of exact.parameters) {
    const got = rounded.parameters.get(name)!.dataSync();
    variable.dataSync().forEach((x, i) =>
      assert(Math.abs(got[i]! - x) <= Math.abs(x) / 256 + 2 ** -25, name)
    );
  }
  rounded.dispose();
  exact.dispose();
});

inFolder("one error lists every missing, unknown and misshapen tensor", async (folder) => {
  await changed(folder, "pretrain-a", (tensors) => {
    tensors.delete("vit_nepa.layernorm.bias");
    tensors.delete("vit_nepa.embeddings.cls_token");
    tensors.set("vit_nepa.pooler.weight", { shape: [1], data: new Float32Array(1) });
    tensors.set("vit_nepa.layernorm.weight", { shape: [31], data: new Float32Array(31) });
    tensors.set("vit_nepa.encoder.layer.0.output.dense.bias", { shape: [32], data: new Int32Array(32) });
  });
  const { message } = await assertRejects(() => Nepa.load(folder), CheckpointError);
  for (
    const part of [
      "2 missing:\n  vit_nepa.embeddings.cls_token\n  vit_nepa.layernorm.bias",
      "1 unknown:\n  vit_nepa.pooler.weight",
      "1 of another shape:\n  vit_nepa.layernorm.weight: expected [32], got [31]",
      "1 not floating-point:\n  vit_nepa.encoder.layer.0.output.dense.bias",
    ]
  ) assert(message.includes(part), message);
});

inFolder("folders without the files, and files that are broken, are refused by name", async (folder) => {
  await assertRejects(
    () => Nepa.load(`${folder}/none`),
    CheckpointError,
    "expected a folder with config.json and model.safetensors",
  );
  await Deno.copyFile(`${fixture("pretrain-a")}/config.json`, `${folder}/config.json`);
  await assertRejects(() => Nepa.load(folder), CheckpointError, "there is no model.safetensors");
  await Deno.writeTextFile(`${folder}/model.safetensors`, "short");
  await assertRejects(() => Nepa.load(folder), CheckpointError, `${folder}/model.safetensors`);
  await Deno.writeTextFile(`${folder}/config.json`, "[1]");
  await assertRejects(() => Nepa.load(folder), CheckpointError, "config.json: expected a JSON object");
});

inFolder("a model in several files with an index is loaded tensor by tensor", async (folder) => {
  const { tensors } = readSafetensors(await Deno.readFile(`${fixture("pretrain-a")}/model.safetensors`));
  await Deno.copyFile(`${fixture("pretrain-a")}/config.json`, `${folder}/config.json`);
  const names = [...tensors.keys()], index: Record<string, string> = {};
  for (const shard of [0, 1, 2]) {
    const part = names.filter((_, i) => i % 3 === shard),
      file = `model-0000${shard + 1}-of-00003.safetensors`;
    for (const name of part) index[name] = file;
    await Deno.writeFile(
      `${folder}/${file}`,
      writeSafetensors(new Map(part.map((name) => [name, tensors.get(name)!]))),
    );
  }
  const write = (weight_map: unknown) =>
    Deno.writeTextFile(
      `${folder}/model.safetensors.index.json`,
      JSON.stringify({ metadata: { total_size: 1.5 }, weight_map }),
    );
  await write(index);
  const [sharded, whole] = [await Nepa.load(folder), await Nepa.load(fixture("pretrain-a"))];
  for (const [name, variable] of whole.parameters) {
    assertEquals(sharded.parameters.get(name)!.dataSync(), variable.dataSync(), name);
  }
  for (const owner of [sharded, whole]) owner.dispose();
  const { [names[0]!]: _, ...less } = index;
  await write(less);
  await assertRejects(() => Nepa.load(folder), CheckpointError, `1 missing:\n  ${names[0]}`);
  await write({ ...index, [names[0]!]: "../model.safetensors" });
  await assertRejects(() => Nepa.load(folder), CheckpointError, "expected a file beside the index");
});

inFolder("a save that fails leaves the model that was there, and nothing beside it", async (folder) => {
  const old = await Nepa.load(fixture("pretrain-a")), model = await Nepa.load(fixture("pretrain-c"));
  await old.save(folder);
  const before = await Promise.all([...files(folder)].map((name) => Deno.readFile(`${folder}/${name}`)));
  await Deno.mkdir(`${folder}/config.json.part/full`, { recursive: true });
  await assertRejects(() => model.save(folder));
  await Deno.remove(`${folder}/config.json.part`, { recursive: true });
  assertEquals(files(folder), ["README.md", "config.json", "model.safetensors", "preprocessor_config.json"]);
  const after = await Promise.all([...files(folder)].map((name) => Deno.readFile(`${folder}/${name}`)));
  assertEquals(after, before);
  for (const owner of [old, model]) owner.dispose();
});

inFolder("a folder with another task's model is refused by what it is", async () => {
  await assertRejects(
    () => Nepa.load(fixture("classify-pool")),
    CheckpointError,
    "expected ViTNepaForPreTraining, got ViTNepaForImageClassification",
  );
  await assertRejects(
    () => NepaClassifier.load(fixture("pretrain-a")),
    CheckpointError,
    "NepaClassifier.from puts a head on it",
  );
});

inFolder("what stands before the names of all tensors is taken off, and said once", async (folder) => {
  const exact = await Nepa.load(fixture("pretrain-a")), said: string[] = [], { error } = console;
  console.error = (text: string) => said.push(text);
  try {
    for (
      const [prefix, more] of [["module."], ["_orig_mod."], ["module._orig_mod."], ["model."], [
        "module.",
        "n_averaged",
      ]] as const
    ) {
      await changed(folder, "pretrain-a", (tensors) => {
        const all = [...tensors];
        tensors.clear();
        for (const [name, tensor] of all) tensors.set(prefix + name, tensor);
        if (more) tensors.set(more, { shape: [], data: new Int32Array(1) });
      });
      const loaded = await Nepa.load(folder);
      for (const [name, x] of exact.parameters) {
        assertEquals(loaded.parameters.get(name)!.dataSync(), x.dataSync(), name);
      }
      loaded.dispose();
      assertEquals(said.splice(0), [
        `${folder}: names of tensors begin with "${prefix}", which is taken off${
          more ? `; others are left out: ${more}` : ""
        }`,
      ]);
    }
  } finally {
    console.error = error;
    exact.dispose();
  }
});

inFolder("of many wrong names ten are listed, and how many more there are", async (folder) => {
  await changed(folder, "pretrain-a", (tensors) => {
    const all = [...tensors];
    tensors.clear();
    all.forEach(([name, tensor], i) => tensors.set(i % 2 ? `module.${name}` : `x${i}`, tensor));
  });
  const { message } = await assertRejects(() => Nepa.load(folder), CheckpointError);
  const { size } =
    (await Nepa.load(fixture("pretrain-a")).then((model) => (model.dispose(), model))).parameters;
  assert(message.includes(`${size} missing:`) && message.includes(`and ${size - 10} more`), message);
  assert(message.length < 3000, `${message.length} characters`);
});

inFolder(
  "a classifier whose file leaves its classes out has two, as the official code writes it",
  async (folder) => {
    const classifier = new NepaClassifier({ preset: "mini", numHiddenLayers: 1 }, { classes: 2 });
    await classifier.save(folder);
    const { id2label: _, label2id: __, ...json } = JSON.parse(
      await Deno.readTextFile(`${folder}/config.json`),
    );
    await Deno.writeTextFile(`${folder}/config.json`, JSON.stringify(json));
    const loaded = await NepaClassifier.load(folder);
    assertEquals(loaded.classes, ["LABEL_0", "LABEL_1"]);
    for (const owner of [classifier, loaded]) owner.dispose();
  },
);
