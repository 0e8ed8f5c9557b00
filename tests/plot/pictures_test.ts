import { assert, assertAlmostEquals, assertEquals, assertRejects, assertThrows } from "@std/assert";
import {
  arrayDataset,
  attentionMap,
  type AttentionMapOptions,
  barChart,
  causalMask,
  type Figure,
  imageGrid,
  KnnResult,
  LowShotResult,
  Nepa,
  plotAttention,
  plotClassMap,
  plotExpectation,
  plotImagination,
  plotMask,
  plotPatchColors,
  plotPatches,
  plotRuns,
  predictionMap,
  Random,
  Run,
  runFigure,
  Table,
  tf,
  useEngine,
} from "nepa";
import { judge } from "../../lib/eval/scores.ts";
import { components } from "../../lib/plot/components.ts";
import { LineFit } from "../support/line_fit.ts";
import { colorAt, decodePng } from "../support/pixels.ts";

await useEngine("cpu");
const model = new Nepa({
  imageSize: 12,
  patchSize: 4,
  hiddenSize: 16,
  intermediateSize: 32,
  numHiddenLayers: 2,
  numAttentionHeads: 2,
  numChannels: 1,
  layerscaleValue: null,
}, { seed: 3 });

/** Images of 3 × 3 patches, each patch of one grey. */
const greys = (images: number[][], labels = images.map(() => 0)) =>
  arrayDataset({
    name: "greys",
    images: Uint8Array.from(images.flatMap((patches) =>
      Array.from({ length: 144 }, (_, i) => patches[3 * Math.floor(i / 48) + Math.floor(i % 12 / 4)]!)
    )),
    shape: [images.length, 12, 12, 1],
    labels,
    classes: ["first", "second"],
  });
const stairs = greys([[0, 25, 50, 75, 100, 125, 150, 175, 200]]);
const normalised = (set: typeof stairs) =>
  tf.tensor4d(Float32Array.from(set.get(0).image, (x) => x / 127.5 - 1), [1, 12, 12, 1]);

/** The colours in the middle of each of the 3 × 3 parts of a figure's picture. */
function parts(figure: Figure, picture: number): string[] {
  const { source } = (figure.toJSON().layout.images as { source: string }[])[picture]!;
  const png = decodePng(Uint8Array.fromBase64(source.split(",")[1]!));
  return Array.from(
    { length: 9 },
    (_, i) =>
      colorAt(
        png,
        Math.floor((i % 3 + 0.5) * png.width / 3),
        Math.floor((Math.floor(i / 3) + 0.5) * png.height / 3),
      ),
  );
}

const hex = (grey: number) => `#${grey.toString(16).padStart(2, "0").repeat(3)}`;

Deno.test("components are the directions of the largest variances, the largest first", async () => {
  const n = 200, random = new Random(1), axes = [[3, 4, 0], [4, -3, 0], [0, 0, 5]], spreads = [3, 1, 0.2];
  const along = Array.from({ length: n }, () => spreads.map((s) => s * random.normal()));
  const row = (values: number[]) =>
    [0, 1, 2].map((j) => 7 + values.reduce((x, v, i) => x + v * axes[i]![j]! / 5, 0));
  const { values, shares } = await components(Float32Array.from(along.flatMap(row)), 3, 2);
  const expected = spreads.map((_, i) => {
    const mean = along.reduce((sum, values) => sum + values[i]!, 0) / n;
    return along.map((values) => values[i]! - mean);
  });
  const squares = expected.map((list) => list.reduce((sum, x) => sum + x * x, 0)),
    all = squares[0]! + squares[1]! + squares[2]!;
  for (const c of [0, 1]) {
    assertAlmostEquals(shares[c]!, squares[c]! / all, 1e-2);
    const product = expected[c]!.reduce((sum, x, i) => sum + x * values[2 * i + c]!, 0);
    assertAlmostEquals(Math.abs(product) / squares[c]!, 1, 1e-2);
  }
  const flat = await components(new Float32Array(8).fill(3), 2, 3);
  assertEquals([...flat.values, ...flat.shares].every((x) => x === 0), true);
});

Deno.test("attention is drawn as the model's numbers say, head by head or as their mean", async () => {
  const image = { data: stairs.get(0).image, height: 12, width: 12, channels: 1 };
  const before = tf.memory().numTensors;
  const each = await plotAttention(model, image, { patch: 4, heads: "each" });
  const mean = await plotAttention(model, image, { patch: 4, layers: [2] });
  assertEquals(tf.memory().numTensors, before);
  const drawn = (figure: Figure) => figure.toJSON().data.map(({ z }) => (z as number[][]).flat());
  const expected = tf.tidy(() => {
    const { attentions } = model.forward(normalised(stairs), { attentions: true });
    return [1, 2].flatMap((layer) =>
      [0, 1].map((heads) => [...attentionMap(attentions!, 5, { blocks: [layer], heads }).dataSync()])
    );
  });
  const [maps, [average]] = [drawn(each), drawn(mean)];
  assertEquals(maps.length, 4);
  maps.forEach((map, i) => map.forEach((x, j) => assertAlmostEquals(x, expected[i]![j]!, 1e-5)));
  average!.forEach((x, j) => assertAlmostEquals(x, (maps[2]![j]! + maps[3]![j]!) / 2, 1e-5));
  assert(average!.slice(5).every((x) => x === 0), "what comes later is not seen");
  await assertRejects(
    () => plotAttention(model, image, { layers: [3] }),
    RangeError,
    "blocks from 1 to 2, got 3",
  );
  await assertRejects(() => plotAttention(model, image, { patch: 9 }), RangeError, "token");
});

Deno.test("blocks of an attention map count from 1; the old `layers`, from 0, is the same one elsewhere, and told of", () => {
  const said: unknown[] = [], print = console.error;
  console.error = (...words) => said.push(...words);
  try {
    tf.tidy(() => {
      const { attentions } = model.forward(normalised(stairs), { attentions: true });
      const read = (options: AttentionMapOptions) => [...attentionMap(attentions!, 5, options).dataSync()];
      assertEquals(said, []);
      for (const [blocks, layers] of [[[1], [0]], [[2], [1]], [[2], [-1]], [[1, 2], [0, 1]]]) {
        assertEquals(read({ blocks: blocks! }), read({ layers: layers! }));
      }
      assertEquals(read({}), read({ blocks: [1, 2] }));
      assert(String(read({ blocks: [1] })) !== String(read({ blocks: [2] })));
      for (const block of [0, 3, -1, 1.5]) {
        assertThrows(() => read({ blocks: [block] }), RangeError, `from 1 to 2, got ${block}`);
      }
      assertThrows(() => read({ layers: [2] }), RangeError, "from -2 to 1, got 2");
    });
  } finally {
    console.error = print;
  }
  assertEquals(said.length, 1);
  assert(String(said[0]).includes("write `blocks`"), String(said[0]));
});

Deno.test("a plot's and a table's options are checked, names too", async () => {
  const image = { data: stairs.get(0).image, height: 12, width: 12, channels: 1 },
    odd = { colour: 1 } as object;
  const calls: [name: string, call: () => unknown][] = [
    ["plotAttention", () => plotAttention(model, image, odd)],
    ["plotExpectation", () => plotExpectation(model, image, odd)],
    ["plotImagination", () => plotImagination(model, stairs, stairs, odd)],
    ["plotPatchColors", () => plotPatchColors(model, stairs, odd)],
    ["plotClassMap", () => plotClassMap(model, stairs, odd)],
    ["imageGrid", () => imageGrid([image], odd)],
    ["barChart", () => barChart({}, odd)],
    ["Table", () => new Table([], odd)],
    ["png", () => imageGrid([image]).png(odd)],
  ];
  const before = tf.memory().numTensors;
  for (const [name, call] of calls) {
    await assertRejects(async () => await call(), TypeError, `${name}: unknown option colour`);
  }
  await assertRejects(
    () => plotAttention(model, image, { head: "max" } as object),
    TypeError,
    "did you mean heads?",
  );
  await assertRejects(
    () => plotAttention(model, image, { heads: "min" as "max" }),
    RangeError,
    '"each", got "min"',
  );
  assertThrows(() => imageGrid([image], { size: 0 }), RangeError, "size: expected a number above 0, got 0");
  assertEquals(tf.memory().numTensors, before);
});

Deno.test("patches that are alike get one colour, those that differ another", async () => {
  const set = greys([[0, 255, 0, 255, 0, 255, 0, 255, 0], [255, 255, 255, 0, 0, 0, 0, 0, 0]]);
  const before = tf.memory().numTensors;
  const figure = await plotPatchColors(model, set, { layer: "embedding" });
  assertEquals(tf.memory().numTensors, before);
  const colors = [...parts(figure, 2), ...parts(figure, 3)],
    kinds = [...parts(figure, 0), ...parts(figure, 1)];
  const black = colors[kinds.indexOf("#000000")]!, white = colors[kinds.indexOf("#ffffff")]!;
  assert(black !== white);
  colors.forEach((color, i) => {
    // The second and third component of two points are rounding: only red counts.
    assertEquals(color.slice(0, 3), (kinds[i] === "#000000" ? black : white).slice(0, 3));
  });
});

Deno.test("images of two kinds lie apart on the map, each point at its components", async () => {
  const random = new Random(2),
    noise = (base: number) => Array.from({ length: 9 }, () => base + random.integer(40));
  const labels = Array.from({ length: 20 }, (_, i) => i % 2);
  const set = greys(labels.map((label) => noise(label ? 200 : 10)), labels);
  const before = tf.memory().numTensors, figure = await plotClassMap(model, set, { layer: "embedding" });
  assertEquals(tf.memory().numTensors, before);
  const [first, second] = figure.toJSON().data.map(({ x }) => x as number[]);
  assertEquals([first!.length, second!.length], [10, 10]);
  assert(Math.max(...first!) < Math.min(...second!) || Math.max(...second!) < Math.min(...first!));
  assertAlmostEquals([...first!, ...second!].reduce((a, b) => a + b), 0, 1e-3);
});

Deno.test("the imagined patches are the bank's nearest to what is expected, from real or from painted ones", async () => {
  const random = new Random(5);
  const image = (pixels: Uint8Array) =>
    arrayDataset({ name: "noise", images: pixels, shape: [1, 12, 12, 1], labels: [0], classes: ["noise"] });
  const real = Uint8Array.from({ length: 144 }, () => random.integer(256)), set = image(real);
  const before = tf.memory().numTensors, figure = await plotImagination(model, set, set, { given: 2 });
  assertEquals(tf.memory().numTensors, before);
  /** The patch of `set` nearest to what comes after the first `seen` patches of an image. */
  const nearest = (seen: number, from: typeof set) =>
    tf.tidy(() => {
      const { predictions } = model.forward(normalised(from)),
        { embeddings } = model.forward(normalised(set));
      const cosines = predictionMap({ embeddings, predictions }, seen, { scale: "cosine" }).dataSync();
      return cosines.indexOf(Math.max(...cosines));
    });
  /** Where a pixel of a patch lies. */
  const at = (patch: number, pixel: number) =>
    (4 * Math.floor(patch / 3) + (pixel >> 2)) * 12 + 4 * (patch % 3) + (pixel & 3);
  const put = (to: Uint8Array, place: number, patch: number) => {
    for (let i = 0; i < 16; i++) to[at(place, i)] = real[at(patch, i)]!;
  };
  const guided = real.slice(), alone = real.slice();
  for (let i = 0; i < 9; i++) put(guided, i, nearest(i, set));
  for (let i = 2; i < 9; i++) put(alone, i, nearest(i, image(alone)));
  for (const [picture, pixels] of [real, guided, alone].entries()) {
    assertEquals(parts(figure, picture), Array.from({ length: 9 }, (_, i) => hex(pixels[at(i, 10)]!)));
  }
  assert(guided.join() !== real.join() && alone.join() !== guided.join());
  await assertRejects(
    () => plotImagination(model, set, set, { given: 10 }),
    RangeError,
    "from 0 to 9, got 10",
  );
});

Deno.test("every picture saves to PNG, at twice its size, and to SVG", async () => {
  const greyscale = Array.from({ length: 9 }, (_, i) => 28 * i),
    set = greys([greyscale, greyscale.toReversed()], [0, 1]);
  const image = { data: set.get(0).image, height: 12, width: 12, channels: 1 }, mask = causalMask(4);
  const asked = { k: 1, temperature: 0.07, centred: false, layer: "final" } as const;
  const arms = ["fine-tuned", "linear probe", "from scratch"] as const, folder = await Deno.makeTempDir();
  const few = new LowShotResult(
    arms.map((arm, i) => ({ arm, labels: 60, seed: 0, accuracy: 0.3 + 0.1 * i })),
  );
  const run = () => new Run({}, new LineFit({ steps: 8, every: 4 }));
  const figures: Record<string, Figure | Promise<Figure>> = {
    attention: plotAttention(model, image, { heads: "each" }),
    bars: barChart({ a: { x: 0.5 } }),
    confusion: new KnnResult(judge([0, 1], set), asked).confusionPlot(),
    expectation: plotExpectation(model, image),
    grid: imageGrid([image]),
    imagination: plotImagination(model, set, set),
    labels: few.plot(),
    map: plotClassMap(model, set),
    mask: plotMask(mask),
    patches: plotPatches(image, 4),
    patchColors: plotPatchColors(model, set),
    run: runFigure(run()),
    runs: plotRuns({ one: run(), two: run() }),
  };
  try {
    for (const [name, made] of Object.entries(figures)) {
      const figure = await made, path = `${folder}/${name}`;
      await figure.save(`${path}.png`);
      await figure.save(`${path}.svg`);
      const png = new DataView((await Deno.readFile(`${path}.png`)).buffer); // its header: width and height from byte 16
      const size = [png.getUint32(16), png.getUint32(20)];
      assertEquals(size, [2 * figure.width, 2 * figure.height], name);
      const svg = await Deno.readTextFile(`${path}.svg`);
      assert(svg.startsWith("<svg") && svg.trimEnd().endsWith("</svg>"), name);
    }
  } finally {
    mask.dispose();
    await Deno.remove(folder, { recursive: true });
  }
});
