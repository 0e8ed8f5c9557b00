import { assert, assertEquals, assertInstanceOf, assertMatch } from "@std/assert";
import * as nepa from "nepa";
import { Nepa, NepaClassifier, NepaSegmenter, pretrain, tf, useEngine } from "nepa";
import { withFolder } from "../support/folder.ts";
import { config, noise } from "../support/tiny.ts";

await useEngine("cpu");
const model = new Nepa(config, { seed: 0 }),
  classifier = NepaClassifier.from(model, { classes: noise.classes });

// deno-lint-ignore no-explicit-any
type Any = any;

/** What a call throws or rejects with; undefined if it does not. */
async function refusal(call: () => unknown): Promise<Error | undefined> {
  try {
    await call();
    return undefined;
  } catch (error) {
    return error as Error;
  }
}

/** Values of other kinds than those wanted. */
const OTHERS: Record<string, unknown> = {
  null: null,
  text: "runs/a",
  "a promise": Promise.resolve(model),
  "a NepaClassifier": classifier,
  "a network": model,
  "a data set": noise,
  number: 3,
  "an object {}": {},
  list: [],
  "a Map": new Map(),
  "a Uint8Array": new Uint8Array(4),
  "a tensor": tf.zeros([2]),
};

/** Calls whose arguments are networks and data sets: what may stand at each place. */
const CALLS: Record<string, [call: (...args: Any[]) => unknown, ...kinds: string[]]> = {
  pretrain: [nepa.pretrain, "a network", "a data set"],
  finetune: [nepa.finetune, "a NepaClassifier", "a data set"],
  evaluate: [nepa.evaluate, "a NepaClassifier", "a data set"],
  linearProbe: [nepa.linearProbe, "a network", "a data set", "a data set"],
  knn: [nepa.knn, "a network", "a data set", "a data set"],
  attentiveProbe: [nepa.attentiveProbe, "a network", "a data set", "a data set"],
  lowShot: [nepa.lowShot, "a network", "a data set", "a data set"],
  readFeatures: [nepa.readFeatures, "a network", "a data set"],
  plotClassMap: [nepa.plotClassMap, "a network", "a data set"],
  plotPatchColors: [nepa.plotPatchColors, "a network", "a data set"],
  plotImagination: [nepa.plotImagination, "a network", "a data set", "a data set"],
  plotAttention: [nepa.plotAttention, "a network", "an image"],
  plotExpectation: [nepa.plotExpectation, "a network", "an image"],
  plotPatches: [nepa.plotPatches, "an image"],
  segmentationScores: [nepa.segmentationScores, "a NepaSegmenter or a function", "images with masks"],
  plotRun: [nepa.plotRun, "a run"],
  runFigure: [nepa.runFigure, "a run"],
  "NepaSegmenter.from": [(...args) => NepaSegmenter.from(...args as [Nepa, Any]), "a network"],
  "NepaClassifier.from": [(...args) => NepaClassifier.from(...args as [Nepa, Any]), "a network"],
};
const image = { data: new Uint8Array(64), height: 8, width: 8, channels: 1 };
const EXAMPLES = {
  "an image": image,
  "a network": model,
  "a data set": noise,
  "a NepaClassifier": classifier,
  "a NepaSegmenter or a function": (images: tf.Tensor4D) => images,
  "images with masks": nepa.generatedImages({
    ...{ length: 1, height: 8, width: 8, channels: 1, masks: true, classes: ["a"] },
    get: () => ({ ...image, mask: new Uint8Array(64) }),
  }),
} as Record<string, unknown>;

for (const [name, [call, ...kinds]] of Object.entries(CALLS)) {
  Deno.test(`${name} refuses arguments of another kind, and says what came`, async () => {
    for (const [place, kind] of kinds.entries()) {
      for (const [other, value] of Object.entries(OTHERS)) {
        if (other === kind) continue;
        const args = kinds.map((kind) => EXAMPLES[kind]);
        args[place] = value;
        const error = await refusal(() => call(...args));
        const words = `${name}, place ${place}, ${other}: ${error}`;
        assertInstanceOf(error, TypeError, words);
        const { message } = error as TypeError;
        assertMatch(message, new RegExp(`^${name}\\b.*: expected (?!undefined)`), words);
        if (/^an? /.test(other) && other !== "a tensor") {
          assert(message.includes(`got ${other}`), words);
        }
        if (other === "a promise") assertMatch(message, /await/, words);
      }
    }
  });
}

Deno.test("options that are a promise, a list or a map are refused, not taken for none", async () => {
  for (const options of [Promise.resolve({}), [], new Map(), "fast", null]) {
    for (
      const call of [
        () => nepa.evaluate(classifier, noise, options as Any),
        () => pretrain(model, noise, options as Any),
      ]
    ) {
      assertMatch(String(await refusal(call)), /TypeError: .*expected an object of options, got /);
    }
  }
});

Deno.test("images that are no tensor are refused by forward, with what makes one", async () => {
  for (
    const images of [
      new Uint8Array(64),
      [[1]],
      null,
      undefined,
      noise,
      Promise.resolve(tf.zeros([1, 8, 8, 1])),
    ]
  ) {
    for (const network of [model, classifier]) {
      const error = await refusal(() => tf.tidy(() => network.forward(images as Any)));
      assertMatch(
        String(error),
        /TypeError: forward: images: expected a tensor \[B, H, W, C\], got .*; (tf.tensor4d|write await)/,
      );
    }
  }
});

Deno.test("a classifier without classes, a network of nothing, numbers of nothing: refused in words", async () => {
  const calls: [() => unknown, RegExp][] = [
    [
      () => NepaClassifier.from(model, {} as Any),
      /classes: expected their names or how many there are, got undefined/,
    ],
    [() => NepaClassifier.from(model, null as Any), /expected an object of options, got null/],
    [() => new NepaClassifier(config, {} as Any), /classes: expected their names/],
    [
      () => new NepaClassifier(null as Any, { classes: 2 }),
      /config: expected an object of options, got null/,
    ],
    [() => new Nepa(null as Any), /expected an object of options, got null/],
    [() => nepa.collapse(null as Any), /embeddings: expected a tensor or rows, got null/],
    [() => nepa.trivialPredictors(noise as Any), /z: expected a tensor, got a data set/],
    [() => Nepa.load(model as Any), /source: expected a folder or a name, got a network/],
    [() => nepa.compareRuns("runs/a" as Any), /folders: expected a list, got "runs\/a"/],
    [() => new nepa.AdamW(null as Any), /AdamW: parameters: expected a Map of variables by name, got null/],
    [() => new nepa.Ema(model.parameters, null as Any), /Ema: averages: expected a Map of variables/],
    [() => new nepa.Table("rows" as Any), /Table: rows: expected a list, got "rows"/],
    [() => new nepa.Figure(null as Any), /Figure: data: expected a list, got null/],
    [() => nepa.imageGrid("a" as Any), /imageGrid: pictures: expected a list/],
    [() => nepa.barChart(null as Any), /barChart: series: expected an object/],
    [() => nepa.lineChart(null as Any), /lineChart: series: expected an object/],
    [
      () => nepa.trainingBatches("photos" as Any),
      /trainingBatches: dataset: expected a data set, got "photos"; imageFolder/,
    ],
    [() => nepa.fingerprintOf(model as Any), /fingerprintOf: dataset: expected a data set, got a network/],
    [() => nepa.plotRun(model as Any), /run: expected a run, got a network; /],
  ];
  for (const [call, words] of calls) assertMatch(String(await refusal(call)), words);
});

Deno.test("a flat folder is refused by probes before any features are read", async () => {
  await withFolder(async (folder) => {
    for (let i = 0; i < 12; i++) await Deno.copyFile("tests/fixtures/images/rgb.png", `${folder}/${i}.png`);
    const flat = await nepa.imageFolder(folder, { size: 8, channels: 1 });
    for (
      const probe of [
        nepa.linearProbe,
        nepa.knn,
        nepa.attentiveProbe,
      ] as ((...args: Any[]) => Promise<unknown>)[]
    ) {
      let read = 0;
      const watched = Object.assign(Object.create(flat), { batches: () => read++ });
      const error = await refusal(() => probe(model, watched, flat));
      assertMatch(
        String(error),
        /expected two classes or more, a folder for each, got one/,
      );
      assertEquals(read, 0);
    }
  });
});
