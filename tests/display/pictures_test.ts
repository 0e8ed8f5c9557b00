import { assert, assertEquals, assertThrows } from "@std/assert";
import { barChart } from "../../lib/display/charts.ts";
import { palette } from "../../lib/display/figure.ts";
import { boardFigure, lightSvg, type LineBoard } from "../../lib/display/lines.ts";
import { imageGrid } from "../../lib/display/pictures.ts";
import type { Pixels } from "../../lib/display/png.ts";
import { rasterize } from "../../lib/display/raster.ts";
import { colorAt, decodePng } from "../support/pixels.ts";

/** A picture of two halves. */
const halves = (left: [number, number, number], right: [number, number, number]) => ({
  data: Uint8Array.of(...left, ...right, ...left, ...right),
  height: 2,
  width: 2,
  channels: 3,
});

Deno.test("a grid shows its pictures in rows, each pixel a square, with their captions", async () => {
  const red = halves([255, 0, 0], [0, 0, 255]), green = halves([0, 255, 0], [0, 0, 0]);
  const grid = imageGrid([{ ...red, caption: "first" }, { ...green, caption: "second" }, red], {
    columns: 2,
    size: 40,
    gap: 10,
  });
  assertEquals(grid.toString(), "Figure: 3 pictures");
  const svg = await grid.svg(), png = decodePng(await grid.png());
  assert(svg.includes("first") && svg.includes("second"));
  assertEquals([png.width, png.height], [130, 150]); // 20 + 40 + 10 + 40 + 20; 12 + 2 (40 + 10 + 15) + 8
  const seen = [[30, 32], [50, 32], [80, 32], [100, 32], [30, 97], [50, 97], [80, 97]].map(([x, y]) =>
    colorAt(png, x!, y!)
  );
  assertEquals(seen, ["#ff0000", "#0000ff", "#00ff00", "#000000", "#ff0000", "#0000ff", "#ffffff"]);
});

Deno.test("marks outline and cover parts of a picture, numbers lie over it as colours", async () => {
  const white = { data: new Uint8Array(16).fill(255), height: 4, width: 4, channels: 1 };
  const heat = { values: [0, 0, 0, 1], rows: 2, columns: 2 };
  const marks = [{ left: 0, top: 0, width: 2, height: 2, color: "#00f", fill: "#0f0" }];
  const png = decodePng(
    await imageGrid([{ ...white, marks }, { ...white, heat }], { size: 80, gap: 10 }).png(),
  );
  assertEquals([colorAt(png, 40, 32), colorAt(png, 20, 32), colorAt(png, 80, 72)], [
    "#00ff00",
    "#0000ff",
    "#ffffff",
  ]);
  assertEquals(colorAt(png, 130, 32), "#ffffff");
  assert(/^#8[0-9a-f]2[0-9a-f]3/.test(colorAt(png, 170, 72)), colorAt(png, 170, 72)); // dark red
});

Deno.test("a grid refuses what it cannot draw", () => {
  const one = { data: [0], height: 1, width: 1, channels: 1 };
  assertThrows(() => imageGrid([]), RangeError, "at least one picture");
  assertThrows(() => imageGrid([{ ...one, width: 2 }]), RangeError, "expected 2 values");
  assertThrows(
    () => imageGrid([{ ...one, heat: { values: [1, 2], rows: 1, columns: 1 } }]),
    RangeError,
    "picture 0",
  );
});

/** Height of the topmost pixel of a colour in a column, or -1. */
function topOf(pixels: Pixels, x: number, color: string): number {
  for (let y = 0; y < pixels.height; y++) if (colorAt(pixels, x, y) === color) return y;
  return -1;
}

Deno.test("bars begin at zero and are as high as their values, several values are a mean with its spread", async () => {
  const chart = barChart({ a: { x: 0.4, y: 0.8 } }, { references: { chance: 0.1 } });
  const png = decodePng(await chart.png()), tops: number[] = [];
  for (let x = 0; x < 300; x++) {
    const top = topOf(png, x, palette[0]);
    if (top >= 0 && !tops.includes(top)) tops.push(top);
  }
  const svg = await chart.svg(), bottom = 400 - 52;
  const heights = tops.map((top) => bottom - top).sort((a, b) => a - b);
  assert(
    heights.some((low) => heights.some((high) => Math.abs(high / low - 2) < 0.05)),
    `heights ${heights}`,
  );
  assert(svg.includes("chance 10.0") && svg.includes(">40.0<") && svg.includes(">80.0<"));
  const seeds = await barChart({ a: { x: [0.7, 0.72, 0.74] }, b: { x: 0.5 } }).svg();
  assert(seeds.includes("72.0 ± 2.0") && seeds.includes(">50.0<"));
});

Deno.test("a spike of one step is in a board's light frame and in its figure, whatever the line's length", () => {
  const x = Array.from({ length: 4801 }, (_, i) => i + 1);
  for (const at of [0, 1, 2, 777, 2400, 4799, 4800]) {
    for (const spike of [50, -50]) {
      const y = x.map((i) => i === x[at] ? spike : i === 3000 ? NaN : Math.sin(i));
      const chart = { title: "Loss", left: 60, top: 90, right: 380, bottom: 240 };
      const lines = [{ name: "each step", x, y, color: "#ff0000" }];
      const words = { title: "", subtitle: "", xTitle: "", width: 400, height: 300 };
      const board: LineBoard = { ...words, charts: [{ ...chart, lines }] };
      const [trace] = boardFigure(board).toJSON().data as { x: number[]; y: number[] }[];
      assertEquals(trace!.x[trace!.y.indexOf(spike)], x[at]);
      assert(trace!.x.length <= 1001 && trace!.x.every((v, i) => i === 0 || v > trace!.x[i - 1]!));
      assertEquals(trace!.x.at(-1), 4801);
      const heights = /<path d="M([^h]*)h0"/.exec(lightSvg(board))![1]!.split("L").map((p) =>
        +p.split(" ")[1]!
      );
      const edge = spike > 0 ? Math.min(...heights) : Math.max(...heights);
      assert(
        heights.length <= 301 && heights.filter((h) => h === edge).length === 1 && edge > 90 && edge < 240,
      );
    }
  }
});

Deno.test("light frames and the figure of a board draw the same line in the same place", async () => {
  const x = Array.from({ length: 400 }, (_, i) => i + 1), y = x.map((i) => Math.exp(-i / 100));
  const line = { name: "fall", x, y, color: "#ff0000", width: 3 };
  const chart = { title: "Falling", lines: [line], left: 60, top: 90, right: 380, bottom: 240 };
  const board: LineBoard = {
    title: "<Board>",
    subtitle: "a & b",
    xTitle: "step",
    width: 400,
    height: 300,
    charts: [chart],
  };
  const light = decodePng(await rasterize(lightSvg(board))), full = decodePng(await boardFigure(board).png());
  assertEquals([light.width, light.height], [full.width, full.height]);
  for (const at of [70, 120, 220, 370]) {
    const [a, b] = [topOf(light, at, "#ff0000"), topOf(full, at, "#ff0000")];
    assert(a > 90 && Math.abs(a - b) <= 2, `column ${at}: ${a}, ${b}`);
  }
  assert(topOf(light, 70, "#ff0000") < 120 && topOf(light, 370, "#ff0000") > 220);
});
