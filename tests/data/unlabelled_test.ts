import { assert, assertEquals, assertRejects, assertStringIncludes, assertThrows } from "@std/assert";
import {
  arrayDataset,
  attentiveProbe,
  type Dataset,
  evaluate,
  finetune,
  fingerprintOf,
  fitHead,
  generatedImages,
  knn,
  linearProbe,
  lowShot,
  Nepa,
  NepaClassifier,
  parquetImages,
  plotClassMap,
  plotPatchColors,
  pretrain,
  readFeatures,
  tf,
  trainingBatches,
  useEngine,
} from "nepa";
import { shown } from "../../lib/base/check.ts";
import { parquetFile } from "../support/parquet.ts";
import { config, noise } from "../support/tiny.ts";

await useEngine("wasm");

const few = noise.subset([...Array(24).keys()]), { classes } = few;
const size = { height: 8, width: 8, channels: 1 }, get = (i: number) => few.get(i).image;

const folder = await Deno.makeTempDir();
addEventListener("unload", () => Deno.removeSync(folder, { recursive: true }));

/** 24 images as every kind of data set, with these labels. */
async function everyKind(labels: (number | null)[]): Promise<Record<string, Dataset>> {
  const images = Uint8Array.from(labels.flatMap((_, i) => [...get(i)])), found: Record<string, Dataset> = {};
  found.array = arrayDataset({ name: "array", images, shape: [24, 8, 8, 1], labels, classes });
  found.generated = generatedImages({ ...size, name: "generated", length: 24, get, labels, classes });
  found.computed = generatedImages({
    ...size,
    name: "computed",
    length: 24,
    get,
    labels: (i) => labels[i]!,
    classes,
  });
  const file = `${folder}/${labels.filter((label) => label === -1).length}.parquet`;
  await Deno.writeFile(file, parquetFile(few, labels));
  found.parquet = await parquetImages(file, { channels: 1 });
  return found;
}

const partly = [...few.labels].map((label, i) => i === 3 ? null : i === 5 ? -1 : label);
const sets = await everyKind(partly), bare = await everyKind(partly.map(() => -1));
type Shown = Record<symbol, () => Promise<Record<string, unknown>>>;

Deno.test("an image whose label is null or -1 has none, and is shown and printed as such", async () => {
  for (const [kind, set] of Object.entries(sets)) {
    assertEquals([...set.labels].flatMap((label, i) => label === -1 ? [i] : []), [3, 5], kind);
    assertEquals([(await set.get(3)).label, (await set.get(4)).label], [-1, 0]);
    assertStringIncludes(String(set), "2 classes, 2 without a label\n(even 12, odd 10)");
    const { "application/vnd.plotly.v1+json": figure, "text/plain": plain } =
      await (set as unknown as Shown)[Symbol.for("Jupyter.display")]!();
    const { layout } = figure as { layout: { annotations: { text: string }[] } };
    assertEquals(layout.annotations.map(({ text }) => text), [
      "even",
      "odd",
      "no label",
      "even",
      "odd",
      "no label",
    ]);
    assertEquals(plain, String(set));
    const some = set.subset([3, 5]);
    assert("text/plain" in await (some as unknown as Shown)[Symbol.for("Jupyter.display")]!());
    assertStringIncludes(String(some), "2 without a label");
  }
  const late = arrayDataset({
    name: "late",
    images: new Uint8Array(64),
    shape: [1, 8, 8, 1],
    labels: [14],
    classes: [..."abcdefghijklmno"],
  });
  const { layout } = (await (late as unknown as Shown)[Symbol.for("Jupyter.display")]!())[
    "application/vnd.plotly.v1+json"
  ] as { layout: { annotations: { text: string }[] } };
  assertEquals(layout.annotations.map(({ text }) => text), ["o"]); // the first ten classes have no image
});

Deno.test("what needs labels refuses an image without one, by its row, and nothing is read before", async () => {
  const model = new Nepa(config, { seed: 1 }), before = tf.memory().numTensors;
  const classifier = new NepaClassifier(config, { classes, seed: 1 });
  const tune = { batchSize: 8, steps: 1, compile: false },
    other = noise.subset([...Array(40).keys()].map((i) => i + 40));
  for (const [kind, set] of Object.entries(sets)) {
    const message =
      "image 3: expected a label from 0 to 1, got -1, which is none; leave such images out by `subset`";
    const asks: (() => unknown)[] = [
      () => linearProbe(model, set, other),
      () => linearProbe(model, other, set),
      () => knn(model, set, other),
      () => attentiveProbe(model, other, set),
      () => lowShot(model, set, other),
      () => evaluate(classifier, set),
      () => fitHead(classifier, set),
      () => finetune(classifier, set, tune),
      () => finetune(classifier, other, { ...tune, validation: set }),
      () => finetune(classifier, other, { ...tune, test: set }),
      () => pretrain(model, set, { ...tune, every: { probe: 1 } }),
      () => set.balanced(1),
      () => (set as typeof noise).split([0.5, 0.5], { stratified: true }),
    ];
    for (const ask of asks) {
      const error = await assertRejects(async () => await ask(), RangeError);
      assertStringIncludes(error.message, message, `${kind}: ${ask}`);
    }
    const labelled = set.subset([...set.labels.keys()].filter((i) => set.labels[i]! >= 0));
    assertEquals(labelled.balanced(10).length, 20);
  }
  const features = partly.map((_, i) => [i, 1]),
    given = { features, labels: partly as number[], classes: [...classes] };
  await assertRejects(
    () => knn({ train: given, test: given }),
    RangeError,
    "train: image 3: expected a label from 0 to 1, got null",
  );
  classifier.dispose();
  model.dispose();
  assertEquals(tf.memory().numTensors, before - [...model.parameters].length);
});

Deno.test("pretraining, features, batches and pictures take images without labels", async () => {
  for (const all of [sets, bare]) {
    const outcomes = await Promise.all(
      Object.values(all).map(async (set) => {
        const model = new Nepa(config, { seed: 1 });
        const options = { steps: 2, batchSize: 8, seed: 2, compile: false, validation: set };
        const { history } = await pretrain(model, set, options).finish();
        const features = (await readFeatures(model, set, ["final"])).get("final")!;
        const map = (await plotClassMap(model, set)).toJSON().data.map((
          { name, x },
        ) => [name, (x as number[]).length]);
        assertEquals(map.at(-1), ["no label", all === bare ? 24 : 2]);
        const { layout } = (await plotPatchColors(model, set.subset([3, 4]))).toJSON();
        assertEquals((layout.annotations as { text: string }[]).map(({ text }) => text), [
          "no label",
          all === bare ? "no label" : "even",
        ]);
        model.dispose();
        return {
          losses: history.map(({ loss }) => loss),
          features,
          fingerprint: (await fingerprintOf(set)).length,
        };
      }),
    );
    for (const outcome of outcomes) assertEquals(outcome, outcomes[0]);
  }
  const batches = trainingBatches(sets.array!, { batchSize: 24 });
  assertEquals([...(await batches.next()).labels.dataSync()].filter((label) => label === -1).length, 2);
  batches.dispose();
  const images = new Uint8Array(24 * 64), model = new Nepa(config, { seed: 1 });
  for (
    const none of [
      generatedImages({ ...size, length: 24, get }),
      arrayDataset({ name: "bare", images, shape: [24, 8, 8, 1] }),
    ]
  ) {
    assertStringIncludes(String(none), "without labels");
    assertEquals((await plotClassMap(model, none)).toJSON().data.map(({ name }) => name), ["no label"]);
    await assertRejects(
      () => knn(model, none, few),
      RangeError,
      "expected labelled images, got images without classes",
    );
  }
  model.dispose();
});

Deno.test("labels that are neither a class nor none are refused, with the row", () => {
  for (const label of [2, -2, 0.5, NaN, "0", undefined]) {
    const labels = partly.with(9, label as number),
      expected = `image 9: expected a label from 0 to 1, got ${shown(label)}`;
    const images = new Uint8Array(24 * 64);
    assertThrows(
      () => arrayDataset({ name: "mine", images, shape: [24, 8, 8, 1], labels, classes }),
      RangeError,
      expected,
    );
    assertThrows(
      () => arrayDataset({ name: "mine", images, shape: [24, 8, 8, 1], labels }),
      TypeError,
      "expected classes, got none",
    );
    assertThrows(() => generatedImages({ ...size, length: 24, get, labels, classes }), RangeError, expected);
  }
});
