import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { IJepa, ijepaConfig, Nepa, NepaClassifier, Random, tf, useEngine } from "nepa";
import { openSafetensors } from "../../lib/files/tensor_files.ts";
import { buildIJepa, fromPublic } from "../../lib/model/ijepa_files.ts";
import { readSafetensors } from "../../lib/files/safetensors.ts";
import { withFolder } from "../support/folder.ts";
import { folder as fixtures } from "../support/measures.ts";
import { free, numbersOf } from "../support/plain.ts";
import { config, noise, tinyJepa } from "../support/tiny.ts";

await useEngine("wasm");

const all = (model: IJepa) => numbersOf(new Map([...model.parameters, ...model.state]));
const images = tf.randomUniform<tf.Rank.R4>([2, 8, 8, 1], -1, 1, "float32", 3);
const tokens = (model: { forward(images: tf.Tensor4D): { predictions: tf.Tensor } }) =>
  tf.tidy(() => [...model.forward(images).predictions.dataSync()]);

/** A model whose three networks differ. */
function moved(): IJepa {
  const model = tinyJepa(1, { masks: "published", momentum: [0.9, 0.95] }), random = new Random(5);
  for (const x of model.state.values()) {
    if (x.trainable) tf.tidy(() => x.assign(tf.add(x, random.normal(x.shape, 0, 0.1))));
  }
  return model;
}

Deno.test("a model is saved in Hugging Face's layout and read again, masks and momentum included", async () => {
  await withFolder(async (folder) => {
    const before = tf.memory().numTensors, model = moved();
    await model.save(folder);
    const loaded = await IJepa.load(folder);
    assertEquals(all(loaded), all(model));
    assertEquals(loaded.config, model.config);
    const json = JSON.parse(await Deno.readTextFile(`${folder}/config.json`));
    assertEquals([json.model_type, json.architectures, json.layer_norm_eps], ["ijepa", ["IJepaModel"], 1e-6]);
    await using file = await openSafetensors(`${folder}/model.safetensors`);
    const shape = (name: string) => file.infos.get(name)!.shape;
    assertEquals(shape("embeddings.position_embeddings"), [1, 16, 16]);
    assertEquals(shape("embeddings.patch_embeddings.projection.weight"), [16, 1, 2, 2]);
    assertEquals(shape("encoder.layer.1.intermediate.dense.weight"), [16, 16]);
    assert(!file.infos.has("embeddings.cls_token"));
    free(model, loaded);
    assertEquals(tf.memory().numTensors, before);
  });
});

Deno.test("a folder of the target encoder alone is read; what is drawn anew follows the seed", async () => {
  await withFolder(async (folder) => {
    const model = moved();
    await model.save(folder);
    await Deno.remove(`${folder}/ijepa.safetensors`);
    const [a, b, c] = [
      await IJepa.load(folder),
      await IJepa.load(folder),
      await IJepa.load(folder, { seed: 9 }),
    ];
    for (const one of [a, b, c]) {
      assertEquals(numbersOf(one.state), numbersOf(model.state));
      assertEquals(tokens(one.context), tokens(model.encoder));
    }
    assertEquals(all(a), all(b));
    assert(String(Object.values(all(c))) !== String(Object.values(all(a))));
    free(model, a, b, c);
  });
});

Deno.test("a classifier on it is saved and read as IJepaForImageClassification, without a norm of its own", async () => {
  await withFolder(async (folder) => {
    const before = tf.memory().numTensors, model = moved();
    const classifier = NepaClassifier.from(model, { classes: noise.classes });
    assertEquals(tokens(classifier), tokens(model.encoder));
    assert(!classifier.parameters.has("fc_norm.weight"));
    await classifier.save(folder);
    const json = JSON.parse(await Deno.readTextFile(`${folder}/config.json`));
    assertEquals([json.model_type, json.architectures], ["ijepa", ["IJepaForImageClassification"]]);
    await using file = await openSafetensors(`${folder}/model.safetensors`);
    assert(["ijepa.layernorm.weight", "classifier.bias"].every((name) => file.infos.has(name)));
    const loaded = await NepaClassifier.load(folder), copy = loaded.clone();
    assertEquals(numbersOf(loaded.parameters), numbersOf(classifier.parameters));
    assertEquals(tokens(copy), tokens(classifier));
    free(model, classifier, loaded, copy);
    assertEquals(tf.memory().numTensors, before);
  });
});

Deno.test("another method's folder is refused with how to read it, and leaves no tensors", async () => {
  await withFolder(async (folder) => {
    const before = tf.memory().numTensors, nepa = new Nepa(config, { seed: 1 }), model = moved();
    await nepa.save(`${folder}/nepa`);
    await model.save(`${folder}/ijepa`);
    await assertRejects(() => IJepa.load(`${folder}/nepa`), Error, "Nepa.load or IJepa.load");
    await assertRejects(() => Nepa.load(`${folder}/ijepa`), Error, "Nepa.load or IJepa.load");
    await assertRejects(() => NepaClassifier.load(`${folder}/ijepa`), Error, "another task's model");
    for (const name of ["nepa", "ijepa"]) {
      const file = `${folder}/${name}/config.json`,
        { architectures: _, ...json } = JSON.parse(await Deno.readTextFile(file));
      await Deno.writeTextFile(file, JSON.stringify(json));
    }
    await assertRejects(() => IJepa.load(`${folder}/nepa`), Error, 'model_type "ijepa", got "vit_nepa"');
    await assertRejects(() => Nepa.load(`${folder}/ijepa`), Error, 'model_type "vit_nepa", got "ijepa"');
    await Deno.truncate(`${folder}/ijepa/ijepa.safetensors`, 100);
    await assertRejects(() => IJepa.load(`${folder}/ijepa`), Error, "ijepa.safetensors");
    free(nepa, model);
    assertEquals(tf.memory().numTensors, before);
  });
});

Deno.test("tensors of the public code need their heads, and all have to be there", async () => {
  const bytes = await Deno.readFile(`${fixtures}ijepa/model.safetensors`), before = tf.memory().numTensors;
  const tensors = fromPublic(readSafetensors(bytes).tensors as Map<string, never>);
  const build = (given: object, some = tensors) => () => buildIJepa("a.pth", some, given);
  assertThrows(build({}), Error, "expected numAttentionHeads");
  assertThrows(build({}), Error, "hiddenSize 32");
  assertThrows(build({ numAttentionHeads: 5 }), RangeError, "hiddenSize: expected a multiple of 4 and of 5");
  const model = build({ numAttentionHeads: 4 })();
  assertEquals([model.config.imageSize, model.config.patchSize, model.config.predictorNumHiddenLayers], [
    24,
    4,
    2,
  ]);
  assertEquals(model.preprocessor.imageMean, [0.485, 0.456, 0.406]);
  const without = (pattern: RegExp) => new Map([...tensors].filter(([name]) => !pattern.test(name)));
  assertThrows(build({ numAttentionHeads: 4 }, without(/^ijepa\./)), Error, "got no target_encoder");
  assertThrows(
    build({ numAttentionHeads: 4 }, without(/^predictor\.projection\.bias/)),
    Error,
    "predictor.projection.bias",
  );
  model.dispose();
  assertEquals(tf.memory().numTensors, before);
});

Deno.test("a checkpoint that PyTorch wrote is read; none of its code is run, and it needs its heads", async () => {
  const file = (name: string) => `${fixtures}torch/${name}`, before = tf.memory().numTensors;
  const tensors = readSafetensors(await Deno.readFile(`${fixtures}ijepa/model.safetensors`)).tensors;
  const expected = buildIJepa("fixture", fromPublic(tensors as Map<string, never>), { numAttentionHeads: 4 });
  const loaded = await IJepa.load(file("ijepa.pth.tar"), { config: { numAttentionHeads: 4 } });
  assertEquals(all(loaded), all(expected));
  await assertRejects(
    () => IJepa.load(file("ijepa.pth.tar")),
    Error,
    "expected numAttentionHeads, which such a file does not hold",
  );
  await assertRejects(
    () => IJepa.load(file("ijepa.pth.tar"), { preset: "huge" }),
    Error,
    "hiddenSize: expected 32, got 1280",
  );
  await assertRejects(() => IJepa.load(file("code.pth")), Error, "which is not run");
  await assertRejects(() => IJepa.load(file("every.bin").replace("every.bin", "none.pth")), Error);
  free(expected, loaded);
  assertEquals(tf.memory().numTensors, before);
});

Deno.test("a configuration's fields are checked, each by its name", () => {
  const refuse = (options: object, text: string) => assertThrows(() => ijepaConfig(options), Error, text);
  refuse({ preset: "tiny2" }, 'preset: expected one of "mini", "nano"');
  refuse({ qkNorm: true }, "unknown option qkNorm");
  refuse({ predictorHidenSize: 8 }, "did you mean predictorHiddenSize?");
  refuse({ predictorHiddenSize: 10 }, "predictorHiddenSize: expected a multiple of 4 and of 12");
  refuse({ masks: "other" }, 'masks: expected one of "corrected", "published"');
  refuse({ targetScale: [0.2, 0.1] }, "targetScale: expected two numbers");
  refuse({ momentum: [0.9, 1.1] }, "momentum: expected two numbers from 0 to 1");
  refuse({ minKeep: -1 }, "minKeep");
  refuse({ hiddenSize: 100 }, "hiddenSize: expected a multiple of 4 and of 12");
  for (
    const preset of ["mini", "nano", "tiny", "small", "base", "large", "huge", "huge-448", "giant"] as const
  ) {
    assertEquals(ijepaConfig({ preset }).momentum, [0.996, 1]);
  }
});
