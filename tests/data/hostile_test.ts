import { assert, assertEquals, assertRejects } from "@std/assert";
import { JSDOM } from "jsdom";
import {
  arrayDataset,
  barChart,
  compareRuns,
  DataError,
  type Figure,
  idxImages,
  imageGrid,
  Nepa,
  NepaClassifier,
  Table,
} from "nepa";
import { plotClassMap, plotPatchColors, Random, readLog, useEngine } from "nepa";
import { visible } from "../../lib/base/check.ts";
import { jupyterDisplay } from "../../lib/display/jupyter.ts";
import { report } from "../../bench/report.ts";
import { tinyRun } from "../support/tiny.ts";

await useEngine("wasm");

const names = [
  "<script>alert(1)</script>",
  '"><img src=x onerror=alert(1)>',
  "__proto__",
  "constructor",
  '<a href="javascript:alert(1)">a</a>',
  "two\nlines",
  "&lt;b&gt; & <b>bold</b>",
  "'); alert(1); ('",
];

/** Refuses HTML or SVG that holds what could run or load, or whose text lacks one of the names. */
function assertHarmless(
  markup: string,
  kind: "text/html" | "image/svg+xml",
  texts: readonly string[] = names,
): void {
  const { document } = new JSDOM("").window;
  const root = kind === "text/html"
    ? document.createElement("div")
    : document.createElementNS("http://x", "x");
  root.innerHTML = markup;
  for (const element of root.querySelectorAll("*")) {
    assert(
      !/^(script|iframe|object|embed|a|link|foreignobject|set|animate)$/i.test(element.localName),
      element.outerHTML,
    );
    for (const { name, value } of element.attributes) {
      assert(!/^on/i.test(name) && !/^\s*javascript:/i.test(value), element.outerHTML);
      if (/href|src/i.test(name)) {
        assert(/^(data:image\/(png|svg\+xml);base64,|#)/.test(value), element.outerHTML);
      }
    }
  }
  const plain = (text: string) => text.replace(/\s+/g, "");
  const shown = plain(root.textContent!);
  for (const text of texts) assert(shown.includes(plain(text)), `${text} is missing in ${root.textContent}`);
}

const random = new Random(0), length = 16;
const dataset = arrayDataset({
  name: names[0]!,
  images: Uint8Array.from({ length: length * 64 }, () => random.integer(256)),
  shape: [length, 8, 8, 1],
  labels: Array.from({ length }, (_, i) => i % names.length),
  classes: names,
});
const config = {
  imageSize: 8,
  patchSize: 4,
  numChannels: 1,
  hiddenSize: 16,
  numHiddenLayers: 1,
  numAttentionHeads: 2,
};

Deno.test("hostile names stay text in the HTML of tables and reports", async () => {
  const rows = names.map((name, i) => ({ name, [name]: i }));
  const table = new Table(rows, { title: names[0]!, note: names[1]!, format: { name: () => "" } });
  assertHarmless(table.toHtml(), "text/html");
  const each = Object.fromEntries(names.map((name) => [name, name]));
  const html = await report({
    title: names[0]!,
    lead: names[1]!,
    highlights: each,
    sections: names.map((name) => ({ title: name, text: name, shows: [name, table] })),
    facts: each,
    commands: names,
  });
  assertEquals(html.match(/<(script|img|a|b)\b/g), null);
  assertHarmless(html.slice(html.indexOf("<body>") + 6, html.indexOf("</body>")), "text/html");
});

Deno.test("hostile names stay text in figures: in their SVG, in a terminal and in what a notebook gets", async () => {
  const model = new Nepa(config), image = { data: new Uint8Array(64), height: 8, width: 8, channels: 1 };
  const each = (value: number) => Object.fromEntries(names.map((name) => [name, value]));
  const figures: Figure[] = [
    barChart(Object.fromEntries(names.map((name) => [name, each(0.5)])), {
      title: names.join(" "),
      subtitle: names.join(" "),
      categoryTitle: names.join(" "),
      references: each(0.2),
    }),
    imageGrid(names.map((name) => ({ ...image, caption: name })), { title: names[0]!, subtitle: names[1]! }),
    await plotClassMap(model, dataset),
    await plotPatchColors(model, dataset),
  ];
  for (const figure of figures) {
    assertHarmless(await figure.svg(), "image/svg+xml");
    assertHarmless(
      (await report({ title: "", lead: "", sections: [{ title: "", shows: [figure] }] })).split("<body>")[1]!,
      "text/html",
      [],
    );
    const { data, layout } = figure.toJSON();
    assert(!/<(?!br>)/.test(JSON.stringify([data, { ...layout, template: 0 }])), "no tag reaches plotly");
  }
  const printed = figures[0]!.toString();
  for (const name of names) assert(printed.includes(name.replace("\n", " ")), printed);
  const bundle = await (dataset as unknown as { [jupyterDisplay](): Promise<Record<string, unknown>> })
    [jupyterDisplay]();
  assert(!/<(?!br>)/.test(JSON.stringify(bundle["application/vnd.plotly.v1+json"] ?? "")));
  if (typeof bundle["text/html"] === "string") assertHarmless(bundle["text/html"], "text/html", []);
  model.dispose();
});

Deno.test("hostile folders and classes stay text: in runs drawn over each other and in a saved classifier", async () => {
  const place = await Deno.makeTempDir(), folders = ["<script>x", '"><img src=x onerror=y>', "__proto__"];
  for (const name of folders) {
    const run = tinyRun({ steps: 2, compile: false, checkpoint: { folder: `${place}/${name}` } });
    await run.finish();
    run.ema!.dispose();
    run.model.dispose();
  }
  assertEquals((await readLog(`${place}/__proto__`)).length, 2);
  assertHarmless(
    await (await compareRuns(folders.map((name) => `${place}/${name}`))).svg(),
    "image/svg+xml",
    folders,
  );
  const classifier = new NepaClassifier(config, { classes: names });
  await classifier.save(`${place}/<b>`);
  const loaded = await NepaClassifier.load(`${place}/<b>`);
  assertEquals(loaded.classes, names);
  const { id2label, label2id } = JSON.parse(await Deno.readTextFile(`${place}/<b>/config.json`));
  assertEquals([id2label[2], Object.entries(label2id).length], ["__proto__", names.length]);
  const card = await Deno.readTextFile(`${place}/<b>/README.md`);
  assertEquals(card.match(/<(?!!-- nepa wrote)/g), null, card);
  for (const owner of [classifier, loaded]) owner.dispose();
  await Deno.remove(place, { recursive: true });
});

Deno.test("control characters and turned writing in names of classes, files and notes reach no terminal and no figure", async () => {
  const odd = "a\x1b]0;title\x07b\u202ec\x00d\x9b2J",
    plain = (text: string) => assertEquals(text, visible(text, Infinity));
  const images = {
    images: new Uint8Array(2 * 16),
    shape: [2, 4, 4, 1] as const,
    labels: [0, 1],
    classes: [odd, "b"],
  };
  const set = arrayDataset({ ...images, name: odd });
  const table = new Table([{ [odd]: odd }], { title: odd, note: odd });
  const figures = [
    barChart({ [odd]: { [odd]: 0.5 } }, { title: odd, subtitle: odd, references: { [odd]: 0.1 } }),
    imageGrid([{ data: new Uint8Array(16), height: 4, width: 4, channels: 1, caption: odd }], { title: odd }),
  ];
  for (const text of [String(set), String(table), table.toHtml(), ...figures.map(String)]) plain(text);
  for (const figure of figures) plain(await figure.svg());
  const path = odd.replace("\x00", "");
  plain((await assertRejects(() => Nepa.load(`/no/${path}`), Error)).message);
  plain((await assertRejects(() => idxImages({ images: path, labels: path }), DataError)).message);
});
