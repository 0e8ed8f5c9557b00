import { assert, assertEquals, assertRejects } from "@std/assert";
import * as tf from "@tensorflow/tfjs";
import { CheckpointError } from "../lib/checkpoint.ts";
import { useEngine } from "../lib/engine/mod.ts";
import { NepaClassifier } from "../lib/heads.ts";
import { Nepa } from "../lib/nepa.ts";
import { type HostTensor, readSafetensors, writeSafetensors } from "../lib/safetensors.ts";

await useEngine("cpu");

const fixture = (name: string) => new URL(`fixtures/${name}`, import.meta.url).pathname;

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
    const files = [...Deno.readDirSync(`${folder}/deep/down`)].map((entry) => entry.name).sort();
    assertEquals(files, ["config.json", "model.safetensors", "preprocessor_config.json"]);
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

inFolder("half precision is loaded as float32", async (folder) => {
  await changed(folder, "pretrain-a", () => {});
  const bytes = await Deno.readFile(`${folder}/model.safetensors`), { tensors } = readSafetensors(bytes);
  const header: Record<string, unknown> = {}, halves: number[] = [];
  for (const [name, { shape, data }] of tensors) {
    const bits = new Uint32Array((data as Float32Array).slice().buffer);
    header[name] = {
      dtype: "BF16",
      shape,
      data_offsets: [2 * halves.length, 2 * (halves.length + data.length)],
    };
    for (const word of bits) halves.push(word >>> 16);
  }
  const text = new TextEncoder().encode(JSON.stringify(header)), body = new Uint16Array(halves);
  const size = new Uint8Array(new BigUint64Array([BigInt(text.length)]).buffer);
  await Deno.writeFile(
    `${folder}/model.safetensors`,
    new Uint8Array([...size, ...text, ...new Uint8Array(body.buffer)]),
  );
  const [rounded, exact] = [await Nepa.load(folder), await Nepa.load(fixture("pretrain-a"))];
  for (const [name, variable] of exact.parameters) {
    const got = rounded.parameters.get(name)!.dataSync();
    variable.dataSync().forEach((x, i) => assert(Math.abs(got[i]! - x) <= Math.abs(x) / 128, name));
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

inFolder("a classifier's folder is not taken for a pretraining model", async () => {
  const { message } = await assertRejects(() => Nepa.load(fixture("classify-pool")), CheckpointError);
  assert(message.includes("4 unknown:\n") && message.includes("fc_norm.weight"), message);
});
