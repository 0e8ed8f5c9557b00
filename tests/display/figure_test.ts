import { assert, assertAlmostEquals, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { Figure, sequential, sparkline } from "../../lib/display/figure.ts";
import { jupyterDisplay } from "../../lib/display/jupyter.ts";
import { encodePng, enlarge } from "../../lib/display/png.ts";
import { openPlotly } from "../../lib/display/raster.ts";
import { colorAt, decodePng, inkIn } from "../support/pixels.ts";

Deno.test("a PNG holds the pixels it was made from", () => {
  for (const channels of [1, 3, 4]) {
    const data = Uint8Array.from({ length: 5 * 7 * channels }, (_, i) => i * 37 % 256);
    const pixels = { data, height: 5, width: 7, channels };
    assertEquals(decodePng(encodePng(pixels)), pixels);
  }
  const wrong = { data: [1, 2, 3], height: 1, width: 1, channels: 1 };
  assertThrows(() => encodePng(wrong), RangeError, "expected 1 values for [1, 1, 1], got 3");
  assertThrows(() => encodePng({ ...wrong, channels: 2 }), RangeError, "expected 1, 3 or 4 channels, got 2");
});

Deno.test("enlarging repeats pixels", () => {
  const twice = enlarge({ data: [1, 2], height: 1, width: 2, channels: 1 }, 2);
  assertEquals([...Array.from(twice.data)], [1, 1, 2, 2, 1, 1, 2, 2]);
});

interface SvgText {
  textContent: string;
  setAttribute(name: string, value: string): void;
  getBBox(): Record<"x" | "y" | "width" | "height", number>;
  getBoundingClientRect(): Record<"left" | "top", number>;
}

Deno.test("texts are measured as they are drawn: by DejaVu Sans, a line as high as any other, where they stand", async () => {
  const { document } = await openPlotly();
  const text = (letters: string, attributes: Record<string, string> = {}) => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", "text") as unknown as SvgText;
    for (const [name, value] of Object.entries({ style: "font-size: 100px", ...attributes })) {
      element.setAttribute(name, value);
    }
    element.textContent = letters;
    return element;
  };
  const width = (letters: string, weight = "400") => text(letters, { "font-weight": weight }).getBBox().width;
  assertAlmostEquals(width("mmmm") - width("mm"), 2 * 97.412, 0.1); // the file's advance widths, over 2048
  assertAlmostEquals(width("mmm", "700") - width("mm", "700"), 104.199, 0.1);
  assertAlmostEquals(width("m<m") - width("mm"), 83.789, 0.1);
  assertAlmostEquals(text("ax").getBBox().height, text("Ägy").getBBox().height, 1e-3);
  const moved = text("mm", { x: "10", "text-anchor": "middle", transform: "translate(5,7)" });
  const [own, seen] = [moved.getBBox(), moved.getBoundingClientRect()];
  assertAlmostEquals(own.x + own.width / 2, 10, 1);
  assertAlmostEquals(seen.left - own.x, 5, 1e-3);
  assertAlmostEquals(seen.top - own.y, 7, 1e-3);
  assertEquals(text("").getBBox().width, 0);
});

Deno.test("a figure is plotly JSON, a PNG of the same size and text, nothing else", async () => {
  const figure = new Figure([{ name: "loss", y: Float32Array.of(0.1, NaN, 0.3) }], {
    title: { text: "Losses" },
    width: 300,
    height: 200,
  });
  const bundle = await figure[jupyterDisplay]();
  assertEquals(Object.keys(bundle), ["application/vnd.plotly.v1+json", "image/png", "text/plain"]);
  const { data, layout } = bundle["application/vnd.plotly.v1+json"] as ReturnType<Figure["toJSON"]>;
  assertEquals(data, [{ name: "loss", y: [0.1, null, 0.3] }]);
  assertEquals([layout.width, layout.height], [300, 200]);
  const png = decodePng(Uint8Array.fromBase64(bundle["image/png"] as string));
  assertEquals([png.width, png.height], [300, 200]);
  assertEquals(bundle["text/plain"], "Figure: Losses\n  loss: 0.1, NaN, 0.3");
  assertEquals(Deno.inspect(figure), bundle["text/plain"]);
});

Deno.test("texts are drawn with the fonts that npm ships, and none is cut off at the edges", async () => {
  const lines = ["a name that takes its place", "another"].map((name, i) => ({ name, y: [i, 2, 3 - i] }));
  const axes = { xaxis: { title: { text: "step" } }, yaxis: { title: { text: "loss" } } };
  const draw = async (title: string) =>
    decodePng(await new Figure(lines, { title: { text: title }, ...axes, width: 600, height: 300 }).png());
  const [without, titled] = [await draw(""), await draw("A title in bold")];
  assertEquals(inkIn(without, 0, 0, 600, 40), 0);
  assert(inkIn(titled, 60, 10, 220, 40) > 0.1);
  for (
    const [l, t, r, b] of [[0, 0, 2, 300], [598, 0, 600, 300], [0, 0, 600, 2], [0, 298, 600, 300]] as const
  ) {
    assertEquals(inkIn(titled, l, t, r, b), 0, `edge ${l}, ${t}`);
  }
  assert(inkIn(titled, 400, 64, 596, 110) > 0.03, "the legend is drawn");
});

Deno.test("heat maps, their colour bars and bars with texts have the colours of the theme", async () => {
  const heat = decodePng(
    await new Figure([{ type: "heatmap", z: [[0, 1], [1, 0]] }], {
      width: 400,
      height: 300,
      margin: { l: 0, r: 100, t: 0, b: 0 },
      xaxis: { visible: false },
      yaxis: { visible: false },
    }).png(),
  );
  const [low, high] = [sequential[0]![1], sequential.at(-1)![1]];
  assertEquals([colorAt(heat, 75, 225), colorAt(heat, 225, 225), colorAt(heat, 75, 75)], [low, high, high]);
  const bar = Array.from({ length: 300 }, (_, y) => colorAt(heat, 318, y));
  assert(new Set(bar).size > 50, "the colour bar is a gradient");
  const svg = await new Figure([{ type: "bar", y: [1, 2], text: ["first text", "second text"] }]).svg();
  assert(svg.includes("first text") && svg.includes("second text"));
});

Deno.test("a figure saves to PNG at twice its size and to SVG, and to nothing else", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const figure = new Figure([{ y: [1, 2] }], { width: 200, height: 100 });
    await figure.save(`${folder}/a.png`);
    await figure.save(`${folder}/a.svg`);
    const png = decodePng(await Deno.readFile(`${folder}/a.png`));
    assertEquals([png.width, png.height], [400, 200]);
    assert((await Deno.readTextFile(`${folder}/a.svg`)).startsWith("<svg"));
    await assertRejects(() => figure.save(`${folder}/a.jpg`), TypeError, "ends in .png or .svg");
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("a sparkline shows the course of many numbers in few letters", () => {
  assertEquals(sparkline(Array.from({ length: 80 }, (_, i) => i), 8), "▁▂▃▄▅▆▇█");
  assertEquals(sparkline([5, 5, NaN]), "▁▁");
});
