import { fileURLToPath } from "node:url";
import { assert, assertEquals } from "@std/assert";
import { segmentationFolder } from "nepa";
import { palette } from "../../lib/display/figure.ts";
import { classColor, legendOf, overlaid } from "../../lib/display/masks.ts";
import { imageGrid } from "../../lib/display/pictures.ts";
import { decodePng } from "../../lib/display/png.ts";
import { colorAt } from "../support/pixels.ts";

const grey = { data: Uint8Array.of(0, 100, 200, 255), height: 2, width: 2, channels: 1 };

Deno.test("a mask lies over its picture in its classes' colours; where it has none the picture stays", () => {
  const over = overlaid(grey, Uint8Array.of(0, 1, 255, 255), 1);
  assertEquals([0, 1].map((x) => colorAt(over, x, 0)), [palette[0], palette[1]]);
  assertEquals([0, 1].map((x) => colorAt(over, x, 1)), ["#c8c8c8", "#ffffff"]);
  const half = overlaid({ ...grey, data: new Uint8Array(12).fill(200), channels: 3 }, new Uint8Array(4), 0.5);
  assertEquals([...half.data as Uint8Array].slice(0, 3), classColor(0).map((c) => Math.round(0.5 * c + 100)));
});

Deno.test("150 classes have 150 colours", () => {
  const colors = Array.from({ length: 150 }, (_, k) => classColor(k));
  assertEquals(new Set(colors.map(String)).size, 150);
  assert(colors.flat().every((x) => Number.isInteger(x) && x >= 0 && x <= 255));
});

Deno.test("a legend names the most frequent classes, in their order, and stands beside the pictures", async () => {
  const classes = Array.from({ length: 30 }, (_, k) => `class ${k}`);
  const mask = Uint8Array.from([...classes.keys(), 29, 255, 255]), legend = legendOf(classes, [mask]);
  assertEquals(legend.length, 16);
  assertEquals([legend[0]!.name, legend.at(-1)!.name], ["class 0", "class 29"]);
  const plain = imageGrid([grey, grey]), named = imageGrid([grey, grey], { legend });
  assert(named.width > plain.width && named.height >= 16 * 20);
  assert(String(named).includes("class 29") && (await named.svg()).includes("class 29"));
  assertEquals(imageGrid([grey], { legend: [] }).width, imageGrid([grey]).width);
});

Deno.test("a set with masks shows images with their masks over them, and what the colours mean", async () => {
  const root = fileURLToPath(new URL("../fixtures/segmentation", import.meta.url));
  const set = await segmentationFolder(root, { classes: ["sky", "land", "sea"], size: 16 });
  const text = "segmentation: 4 images 16×16×3, with masks of 3 classes\n(sky, land, sea)";
  const bundle = await (set as unknown as Record<symbol, () => Promise<Record<string, string>>>)[
    Symbol.for("Jupyter.display")
  ]!();
  assertEquals([String(set), bundle["text/plain"]], [text, text]);
  const png = decodePng(Uint8Array.fromBase64(bundle["image/png"]!)), colors = new Set<string>();
  for (let x = 0; x < png.width; x++) for (let y = 0; y < png.height; y++) colors.add(colorAt(png, x, y));
  for (const k of [0, 1, 2]) assert(colors.has(palette[k]!), palette[k]);
});
