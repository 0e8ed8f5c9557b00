import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import * as tf from "@tensorflow/tfjs";
import { CARD_MARK, modelCard } from "../../lib/files/card.ts";
import { useEngine } from "../../lib/engine/mod.ts";
import { NepaClassifier } from "../../lib/model/classifier.ts";
import { toOfficialConfig } from "../../lib/model/config.ts";
import { Nepa } from "../../lib/model/nepa.ts";
import type { Step } from "../../lib/training/history.ts";
import type { RunResult } from "../../lib/training/run.ts";

await useEngine("cpu");

const step: Step = { step: 3, epoch: 0, loss: -0.5, lr: 1, gradNorm: 1, imagesPerSecond: 1, gflops: 1 };
const run: RunResult = {
  steps: 3,
  lossFirst: -0.125,
  lossLast: -0.5,
  history: [{ ...step, validation: { loss: 0.25, accuracy: 0.75 } }, step],
  stopped: true,
};

Deno.test("a saved model has a card, which the next save replaces, but not one of the user's", async () => {
  const folder = `${await Deno.makeTempDir()}/my-model`, { numTensors } = tf.memory();
  const model = new Nepa({ preset: "mini", numHiddenLayers: 1 }, { seed: 5 });
  const classifier = NepaClassifier.from(model, { classes: ["shoe", "bag"] });
  const read = () => Deno.readTextFile(`${folder}/README.md`);
  await model.save(folder, { run, license: "mit", datasets: ["zalando-datasets/fashion_mnist"] });
  const card = await read();
  assert(
    card.startsWith(
      '---\nlibrary_name: nepa\npipeline_tag: image-feature-extraction\nlicense: "mit"\ndatasets:\n' +
        '- "zalando-datasets/fashion_mnist"\ntags:\n- nepa\n- vision\n---\n\n',
    ),
    card,
  );
  for (
    const part of [
      "# my-model\n",
      "- Images: 28 × 28 × 1, in patches of ",
      `- Parameters: ${model.parameterCount.toLocaleString("en-US")}\n`,
      "- Updates of the weights: 3, stopped before the end\n",
      "- Mean loss: -0.1250 at first, -0.5000 at last\n",
      "- Loss on held-out images: 0.2500\n- Accuracy on held-out images: 0.7500\n",
    ]
  ) assertStringIncludes(card, part);
  await classifier.save(folder);
  assertStringIncludes(await read(), "pipeline_tag: image-classification\n");
  assertStringIncludes(await read(), "- Classes: 2: shoe, bag\n");
  assert(!(await read()).includes("Training"));
  const mine = (await read()).replace(CARD_MARK, "Mine.");
  await Deno.writeTextFile(`${folder}/README.md`, mine);
  await model.save(folder);
  assertEquals(await read(), mine);
  for (const owner of [model, classifier]) owner.dispose();
  await Deno.remove(folder, { recursive: true });
  assertEquals(tf.memory().numTensors, numTensors, "tensors left over");
});

Deno.test("hostile names stay text in a card", () => {
  const model = new Nepa({ preset: "mini", numHiddenLayers: 1 }, { seed: 5 });
  const { config, parameterCount } = model;
  const hostile = [
    "<script>alert(1)</script>",
    '"onload=x',
    "a\n---\nlicense: evil\n# Title",
    "[click](javascript:alert(1))",
    "![i](http://x/y.png)",
    "`code` | cell | *b* _i_ ~~s~~ $x$ @user",
    "&lt;b&gt;",
    "\u202eabc\u0000\u2028",
  ];
  const card = modelCard(hostile.join(" "), {
    config: toOfficialConfig(config),
    parameterCount,
    classes: hostile,
  });
  const clean = modelCard("t", {
    config: toOfficialConfig(config),
    parameterCount,
    classes: hostile.map(() => "c"),
  });
  assertEquals(card.split("\n").length, clean.split("\n").length);
  const shown = card.slice(card.indexOf("# ")).replace(/```[^]*/, "").replaceAll(/&#\d+;/g, "");
  assert(!/[<>"`|*_~$@&\\]|\]\(javascript|!\[/.test(shown), shown);
  for (const hidden of ["\u202e", "\u0000", "\u2028"]) assert(!card.includes(hidden));
  assertStringIncludes(card, "&#60;script&#62;alert(1)&#60;/script&#62;");
  model.dispose();
});

Deno.test("a licence or a data set that is no name on the hub is refused before anything is written", async () => {
  const folder = await Deno.makeTempDir(), model = new Nepa({ preset: "mini", numHiddenLayers: 1 });
  for (const license of ["", 'mit"\nevil: true', "a b", "a/b/c", "../x/.."]) {
    await assertRejects(
      () => model.save(`${folder}/a`, { license }),
      RangeError,
      "license: expected the hub's name",
    );
    await assertRejects(
      () => model.save(`${folder}/a`, { datasets: [license] }),
      RangeError,
      "datasets: expected",
    );
  }
  assertEquals([...Deno.readDirSync(folder)], []);
  model.dispose();
  await Deno.remove(folder, { recursive: true });
});
