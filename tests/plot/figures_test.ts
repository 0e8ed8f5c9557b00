import * as tf from "@tensorflow/tfjs";
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { report } from "../../bench/report.ts";
import { Figure } from "../../lib/display/figure.ts";
import { Table } from "../../lib/display/table.ts";
import { useEngine } from "../../lib/engine/mod.ts";
import { causalMask } from "../../lib/model/masks.ts";
import { Nepa } from "../../lib/model/nepa.ts";
import { plotExpectation } from "../../lib/plot/attention.ts";
import { plotMask, plotPatches } from "../../lib/plot/patches.ts";
import { colorAt, decodePng } from "../support/pixels.ts";

/** An image whose every patch of 4 × 4 has a grey of its own. */
const stairs = (() => {
  const data = Uint8Array.from(
    { length: 144 },
    (_, i) => 25 * (3 * Math.floor(i / 48) + Math.floor(i % 12 / 4)),
  );
  return { data, height: 12, width: 12, channels: 1 };
})();

Deno.test("a mask is drawn as it is: the row's token sees the columns up to its own", async () => {
  await useEngine("cpu");
  const mask = causalMask(3), before = tf.memory().numTensors;
  const { data, layout } = (await plotMask(mask)).toJSON();
  assertEquals(data[0]!.z, [[1, 0, 0], [1, 1, 0], [1, 1, 1]]);
  assertEquals((layout.xaxis as { ticktext: string[] }).ticktext, ["CLS", "1", "2"]);
  assertEquals((layout.yaxis as { autorange: string }).autorange, "reversed");
  assertEquals(tf.memory().numTensors, before);
  const oblong = tf.zeros([2, 3]) as tf.Tensor2D;
  await assertRejects(() => plotMask(oblong), RangeError, "expected a mask [T, T], got [2,3]");
  tf.dispose([mask, oblong]);
});

Deno.test("patches are moved apart, whole, in raster order", async () => {
  const figure = plotPatches(stairs, 4), png = decodePng(await figure.png()), svg = await figure.svg();
  // 3 patches of 4 pixels with gaps of 1 make 14 pixels of 260 / 14; the second picture begins at 20 + 260 + 28.
  const at = (pixel: number) => Math.round((pixel + 0.2) * 260 / 14), top = 66;
  for (let patch = 0; patch < 9; patch++) {
    const x = 308 + at(5 * (patch % 3)),
      y = top + at(5 * Math.floor(patch / 3)),
      grey = (25 * patch).toString(16).padStart(2, "0");
    assertEquals(colorAt(png, x, y), `#${grey}${grey}${grey}`, `patch ${patch}`);
    assert(svg.includes(`>${patch + 1}<`));
  }
  assertEquals(colorAt(png, 308 + at(4.3), top + at(1)), "#ffffff");
  assertThrows(() => plotPatches(stairs, 5), RangeError, "divides 12 x 12 pixels, got 5");
});

Deno.test("the expectation drawn over an image is what the model's numbers say, and no tensor stays", async () => {
  await useEngine("cpu");
  const size = {
    imageSize: 12,
    patchSize: 4,
    hiddenSize: 16,
    intermediateSize: 32,
    numHiddenLayers: 1,
    numAttentionHeads: 2,
  };
  const model = new Nepa({ ...size, numChannels: 1 }, { seed: 3 }), before = tf.memory().numTensors;
  const figure = await plotExpectation(model, stairs, { patches: [0, 5] });
  assertEquals(tf.memory().numTensors, before);
  const { embeddings, predictions } = model.forward(
    tf.tensor4d(Float32Array.from(stairs.data, (x) => x / 127.5 - 1), [1, 12, 12, 1]),
  );
  const [z, y] = [await embeddings.array(), await predictions.array()].map((t) => t[0]!);
  const cosine = (a: number[], b: number[]) => {
    const dot = (u: number[], v: number[]) => u.reduce((sum, x, i) => sum + x * v[i]!, 0);
    return dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b));
  };
  const { data, layout } = figure.toJSON();
  const plain = (await plotExpectation(model, stairs, { patches: [5], scale: "cosine" })).toJSON().data[0]!;
  (plain.z as number[][]).flat().forEach((drawn, j) =>
    assert(Math.abs(drawn - cosine(y![5]!, z![j + 1]!)) < 1e-5, `cosine ${j}: ${drawn}`)
  );
  for (const [i, patch] of [0, 5].entries()) {
    const cosines = z!.slice(1).map((patchEmbedding) => cosine(y![patch]!, patchEmbedding));
    const sum = cosines.reduce((total, c) => total + Math.exp(c), 0),
      drawn = (data[i]!.z as number[][]).flat();
    cosines.forEach((c, j) =>
      assert(Math.abs(drawn[j]! - Math.exp(c) / sum) < 1e-5, `patch ${patch}: ${drawn[j]}`)
    );
    const caption = `cosine ${cosines[patch]!.toFixed(2).replace("-", "−")}`;
    assert((layout.annotations as { text: string }[]).some(({ text }) => text === caption), caption);
  }
  await assertRejects(
    () => plotExpectation(model, stairs, { patches: [9] }),
    RangeError,
    "from 0 to 8, got 9",
  );
  tf.dispose([embeddings, predictions]);
  model.dispose();
});

Deno.test("a report holds everything it shows, and escapes what it is told", async () => {
  const html = await report({
    title: "Results & <b>more</b>",
    lead: "One.",
    highlights: { accuracy: "83.2 %" },
    sections: [
      {
        title: "Course",
        text: "First.\n\nSecond <script>alert(1)</script>",
        shows: [new Figure([{ name: '"<i>"', y: [1, 2] }])],
      },
      { title: "Table", shows: [new Table([{ "<u>": 0.5 }]), `{ "a": "</pre>" }`] },
    ],
    facts: { steps: 5000 },
    commands: ["deno task demo"],
  });
  assert(html.startsWith("<!doctype html>"));
  assertEquals(html.match(/<(script|b|i|u|link|iframe|object)\b/g), null);
  assertEquals(html.match(/(?:src|href)="(?!data:)[^"]*"/g), null, "nothing is loaded");
  assertEquals(html.match(/https?:\/\//g), null);
  assertEquals(html.match(/<p>/g)!.length, 2);
  for (const text of ["5,000", "deno task demo", "&#60;/pre&#62;"]) assert(html.includes(text), text);
  const svg = new TextDecoder().decode(
    Uint8Array.fromBase64(html.match(/data:image\/svg\+xml;base64,([^"]*)/)![1]!),
  );
  assert(svg.startsWith("<svg") && svg.includes("</svg>"));
  const tags = [
    ...html.replace(/<style>.*?<\/style>/s, "").matchAll(
      /<(\/?)(section|table|figure|pre|dl|div|main|header)\b/g,
    ),
  ];
  const open: string[] = [];
  for (const [, close, tag] of tags) close ? assertEquals(open.pop(), tag) : open.push(tag!);
  assertEquals(open, [], "every element is closed");
});
