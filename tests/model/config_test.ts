import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import {
  fromOfficialConfig,
  nepaConfig,
  type NepaOptions,
  presets,
  toOfficialConfig,
  trainingFlops,
} from "../../lib/model/config.ts";
import {
  defaultPreprocessor,
  fromOfficialPreprocessor,
  toOfficialPreprocessor,
} from "../../lib/data/preprocessor.ts";

const fixture = (name: string) => new URL(`../fixtures/${name}/config.json`, import.meta.url);

Deno.test("without options every field has the official default", () => {
  const { hiddenSize, patchSize, qkNorm, layerscaleValue, posEmbedRescale, posEmbedShift, isCausal } =
    nepaConfig();
  assertEquals([hiddenSize, patchSize, qkNorm, layerscaleValue], [768, 16, false, 1e-5]);
  assertEquals([posEmbedRescale, posEmbedShift, isCausal], [2, null, true]);
  const { joinTokens, ...official } = nepaConfig();
  assertEquals([Object.keys(official).length, joinTokens], [25, false]);
});

Deno.test("options go over the preset, the preset over the defaults, and the result cannot be changed", () => {
  const config = nepaConfig({ preset: "large", numHiddenLayers: 2, layerscaleValue: null });
  assertEquals([config.hiddenSize, config.numHiddenLayers, config.layerscaleValue], [1024, 2, null]);
  assertEquals([config.qkNormAffine, nepaConfig({ preset: "base" }).qkNormAffine], [true, false]);
  assertThrows(() => Object.assign(config, { hiddenSize: 1 }), TypeError);
  assert(Object.isFrozen(presets.mini));
});

Deno.test("an option set to undefined counts as left out", () => {
  const options = { preset: "mini", patchSize: undefined } as unknown as NepaOptions;
  assertEquals(nepaConfig(options).patchSize, 7);
});

Deno.test("a value that cannot be is refused by its field's name", () => {
  const cases: [Record<string, unknown>, string][] = [
    [{ hiddenSize: 0 }, "hiddenSize: expected an integer from 1, got 0"],
    [{ hiddenSize: 770 }, "hiddenSize: expected a multiple of 4 · numAttentionHeads = 48, got 770"],
    [{ imageSize: 30, patchSize: 7 }, "imageSize: expected a multiple of patchSize = 7, got 30"],
    [
      { hiddenAct: "tanh" },
      'hiddenAct: expected one of "gelu", "gelu_new", "silu", "swish", "relu", "selu", got "tanh"',
    ],
    [{ dropPathProb: 1 }, "dropPathProb: expected a number from 0 to below 1, got 1"],
    [{ layerscaleValue: NaN }, "layerscaleValue: expected a number, or null, got NaN"],
    [{ posEmbedRescale: 0.5 }, "posEmbedRescale: expected a number from 1, or null, got 0.5"],
    [{ qkvBias: 1 }, "qkvBias: expected true or false, got 1"],
    [
      { preset: "huge" },
      'preset: expected one of "mini", "nano", "tiny", "small", "base", "large", got "huge"',
    ],
  ];
  for (const [options, message] of cases) {
    assertThrows(() => nepaConfig(options as NepaOptions), RangeError, message);
  }
  assertThrows(
    () => nepaConfig({ layers: 3 } as NepaOptions),
    TypeError,
    "configuration: unknown option layers; ",
  );
});

Deno.test("official config files are read and written back with the same values", async () => {
  for (
    const name of ["pretrain-a", "pretrain-b", "pretrain-c", "pretrain-d", "classify-pool", "classify-last"]
  ) {
    const json = JSON.parse(await Deno.readTextFile(fixture(name)));
    const { id2label, label2id, architectures } = json;
    const more = { architectures, ...(id2label && { id2label, label2id }) };
    const { transformers_version: _, ...expected } = json;
    assertEquals(toOfficialConfig(fromOfficialConfig(json), more), expected, name);
  }
});

Deno.test("another model's config file is refused", () => {
  assertThrows(
    () => fromOfficialConfig({ model_type: "vit" }),
    RangeError,
    'expected model_type "vit_nepa", got "vit"',
  );
});

Deno.test("the cost of a step follows from the shapes", () => {
  assertAlmostEquals(trainingFlops(nepaConfig({ preset: "nano" }), 64) / 1e9, 16, 0.5);
  assertAlmostEquals(trainingFlops(nepaConfig({ preset: "mini" }), 64) / 1e9, 5.3, 0.1);
  const gated = nepaConfig({ preset: "mini", useGatedMlp: true }),
    { intermediateSize: I, hiddenSize: D } = gated;
  const more = trainingFlops(gated, 1) - trainingFlops(nepaConfig({ preset: "mini" }), 1);
  assertEquals(more, 3 * gated.numHiddenLayers * 2 * 17 * D * I);
  const config = nepaConfig({ preset: "mini" });
  assertEquals(trainingFlops(config, 3, 14, 56), 3 * trainingFlops(config, 1, 28, 28)); // 16 patches both
});

Deno.test("preprocessing files are read and written; a size may be a number or a shortest edge", () => {
  const plain = defaultPreprocessor(28, 3);
  const json = {
    ...toOfficialPreprocessor(plain),
    image_mean: [0.4, 0.5, 0.6],
    resample: 3,
    size: { shortest_edge: 30 },
  };
  const read = fromOfficialPreprocessor(json, plain);
  assertEquals([read.imageMean, read.resample, read.size], [[0.4, 0.5, 0.6], 3, { height: 30, width: 30 }]);
  assertEquals(fromOfficialPreprocessor(toOfficialPreprocessor(read), plain), read);
  assertEquals(fromOfficialPreprocessor({ size: 32 }, plain).size, { height: 32, width: 32 });
  assertEquals(fromOfficialPreprocessor({}, plain), plain);
  const raw = fromOfficialPreprocessor({ ...json, do_normalize: false, do_rescale: false }, plain);
  assertEquals([raw.imageMean, raw.imageStd, raw.rescaleFactor], [[0, 0, 0], [1, 1, 1], 1]);
});

Deno.test("a preprocessing file with the wrong number of channels is refused", () => {
  assertThrows(
    () => fromOfficialPreprocessor({ image_mean: [0.5] }, defaultPreprocessor(28, 3)),
    RangeError,
    "image_mean: expected 3 numbers from -1000000 to 1000000, got [0.5]",
  );
});
