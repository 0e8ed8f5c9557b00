/** Grids of pictures, with captions, outlined parts and numbers laid over them as colours. @module */
import type { Annotations, Image, Shape } from "plotly-types";
import { Figure, ink, palette, plotText, titled, type Trace } from "./figure.ts";
import { any, checkOptions, count, expect, expectKinds, list, notNegative, positive } from "../base/check.ts";
import { checkPixels, enlarge, type Pixels, pngUrl } from "./png.ts";

/** A part of a picture, in its pixels. */
export interface Mark {
  /** From the left edge. */
  left: number;
  /** From the upper edge. */
  top: number;
  /** Of the part. */
  width: number;
  /** Of the part. */
  height: number;
  /** Of the outline. Default orange. */
  color?: string;
  /** Covers the part. */
  fill?: string;
  /** Stands in the part. */
  label?: string;
}

/** One picture of a grid. */
export interface Picture extends Pixels {
  /** What stands below it; a line break begins another line. */
  caption?: string;
  /** Parts outlined or covered, the last on top. */
  marks?: readonly Mark[];
  /** Numbers on a grid over the picture, row by row from the top: little shows the picture, much is dark red. */
  heat?: { values: ArrayLike<number>; rows: number; columns: number };
}

/** What a colour in the pictures means. */
export interface LegendEntry {
  name: string;
  /** As CSS writes it. */
  color: string;
}

/** Options of {@linkcode imageGrid}. */
export interface ImageGridOptions {
  /** Above, in bold. */
  title?: string;
  /** Below the title. */
  subtitle?: string;
  /** Pictures in a row. Default: as many as fit into 800 pixels. */
  columns?: number;
  /** Height of a picture in pixels. Default 80. */
  size?: number;
  /** Pixels between pictures. Default 10. */
  gap?: number;
  /** What the numbers laid over the pictures are; stands beside their colour bar. */
  heatTitle?: string;
  /** What colours in the pictures mean; stands beside them. */
  legend?: readonly LegendEntry[];
}

/** From see-through over amber to dark red. */
const embers: [number, string][] = [
  [0, "rgba(255,214,102,0)"],
  [0.35, "rgba(255,170,51,0.45)"],
  [0.7, "rgba(222,66,23,0.72)"],
  [1, "rgba(122,4,34,0.88)"],
];

/** A box of the figure, in its pixels. */
type Place = Pick<Mark, "left" | "top" | "width" | "height">;

function imageAt(picture: Picture, { left, top, width, height }: Place): Partial<Image> {
  const times = Math.max(1, Math.ceil(2 * height / picture.height)); // large square pixels where there are few
  const opacity = picture.heat ? 0.4 : 1; // pale, so that the colours on it are what the colour bar says
  const where = { xref: "x", yref: "y", x: left, y: top, sizex: width, sizey: height } as const;
  return { ...where, source: pngUrl(enlarge(picture, times)), sizing: "stretch", layer: "below", opacity };
}

/** The marks of a picture as shapes and their labels. */
function marksAt(picture: Picture, place: Place) {
  const x = (pixel: number) => place.left + pixel * place.width / picture.width;
  const y = (pixel: number) => place.top + pixel * place.height / picture.height;
  const { marks = [] } = picture;
  return {
    shapes: marks.map((mark): Partial<Shape> => {
      const { left, top, width, height, color = palette[1], fill = "rgba(0,0,0,0)" } = mark;
      const corners = { x0: x(left), y0: y(top), x1: x(left + width), y1: y(top + height) };
      return { type: "rect", ...corners, line: { color, width: 2 }, fillcolor: fill };
    }),
    labels: marks.filter(({ label }) => label).map((mark): Partial<Annotations> => {
      const across = x(mark.left + mark.width / 2), down = y(mark.top + mark.height / 2);
      return { ...textAt(mark.label!, across, down, "middle", "#fff"), bgcolor: "rgba(20,26,36,0.6)" };
    }),
  };
}

function textAt(text: string, x: number, y: number, yanchor: "top" | "middle", color: string) {
  const where = { xref: "x", yref: "y", xanchor: "center", yanchor, x, y } as const;
  return { ...where, text: plotText(text), showarrow: false, font: { size: 11, color } };
}

function heatAt(heat: NonNullable<Picture["heat"]>, { left, top, width, height }: Place): Trace {
  const { values, rows, columns } = heat;
  const dx = width / columns, dy = height / rows, list = Array.from(values);
  const z = Array.from({ length: rows }, (_, r) => list.slice(r * columns, (r + 1) * columns));
  const grid = { x0: left + dx / 2, dx, y0: top + dy / 2, dy, coloraxis: "coloraxis" };
  return { type: "heatmap", name: "heat", z, ...grid, hovertemplate: "%{z:.4f}<extra></extra>" } as Trace;
}

function heatColors(title = "", y: number, length: number): object {
  const place = { x: 1.01, y, yanchor: "top", ypad: 0, len: Math.min(length, 260), lenmode: "pixels" };
  return { colorscale: embers, colorbar: { ...place, title: { text: plotText(title) } } };
}

function checkPicture(picture: Picture, i: number): void {
  checkPixels(picture);
  const { values, rows, columns } = picture.heat ?? { values: [], rows: 0, columns: 0 }, got = values.length;
  expect(got === rows * columns, `picture ${i}`, `${rows} x ${columns} numbers to lay over it`, got);
}

/** Where the pictures stand, and how large the figure is. */
function arrange(pictures: readonly Picture[], options: ImageGridOptions) {
  const { title, subtitle, size = 80, gap = 10 } = options, edge = 20;
  const lines = Math.max(...pictures.map(({ caption }) => caption ? caption.split("\n").length : 0));
  const cell = Math.max(...pictures.map(({ width, height }) => size * width / height)) + gap;
  const row = size + gap + 15 * lines, top = (title ? 44 : 12) + (subtitle ? 22 : 0);
  const columns = Math.min(pictures.length, options.columns ?? Math.max(1, Math.floor((760 + gap) / cell)));
  const places = pictures.map(({ width, height }, i): Place => ({
    left: edge + (i % columns) * cell,
    top: top + Math.floor(i / columns) * row,
    width: size * width / height,
    height: size,
  }));
  const width = Math.max(2 * edge + columns * cell - gap, title || subtitle ? 420 : 0);
  return { places, edge, top, width, height: top + Math.ceil(pictures.length / columns) * row + 8 };
}

/**
 * Pictures in rows.
 *
 * @param pictures Grey, RGB or RGBA, 8 bits a channel; each as high as `size`, its cell as wide as the widest needs.
 * @throws {RangeError} If there are none, or the data of one does not fit its size.
 *
 * @example
 * ```ts
 * import { imageGrid } from "nepa";
 *
 * const ramp = { data: Uint8Array.from({ length: 64 }, (_, i) => 4 * i), height: 8, width: 8, channels: 1 };
 * const grid = imageGrid([{ ...ramp, caption: "a ramp" }, { ...ramp, marks: [{ left: 0, top: 0, width: 4, height: 4 }] }]);
 * await grid.svg();
 * ```
 */
export function imageGrid(pictures: readonly Picture[], options: ImageGridOptions = {}): Figure {
  expectKinds("imageGrid", { pictures: [pictures, list] });
  const sizes = { columns: count, size: positive, gap: notNegative };
  checkOptions("imageGrid", options, { title: any, subtitle: any, heatTitle: any, legend: any, ...sizes });
  expect(pictures.length > 0, "imageGrid", "at least one picture", "none");
  pictures.forEach(checkPicture);
  const { legend = [] } = options, { places, edge, top, width, height: least } = arrange(pictures, options);
  const height = Math.max(least, legend.length > 0 ? top + 20 * legend.length + 30 : 0);
  const heats = pictures.flatMap(({ heat }, i) => heat ? [heatAt(heat, places[i]!)] : []);
  const letters = Math.max(0, ...legend.map(({ name }) => Math.min(30, name.length)));
  const bar = heats.length > 0 ? 90 : letters > 0 ? 50 + 8 * letters : 0;
  const marks = pictures.map((picture, i) => marksAt(picture, places[i]!));
  const captions = pictures.flatMap(({ caption }, i) => {
    const { left, top, width, height } = places[i]!;
    return caption ? [textAt(caption, left + width / 2, top + height, "top", ink.soft)] : [];
  });
  const axis = { visible: false, fixedrange: true, automargin: false },
    upper = { yref: "container", yanchor: "middle" } as const;
  const meanings = legend.map(({ name, color }): Trace => {
    const marker = { symbol: "square", size: 12, color } as const;
    return { type: "scatter", mode: "markers", name: plotText(name), x: [null], y: [null], marker };
  });
  return new Figure([...heats, ...meanings], {
    width: width + bar,
    height,
    margin: { l: 0, r: bar, t: 0, b: 0 },
    title: { ...titled(options), x: edge / width, y: 1 - 18 / height, ...upper },
    xaxis: { ...axis, range: [0, width] },
    yaxis: { ...axis, range: [height, 0] },
    images: pictures.map((picture, i) => imageAt(picture, places[i]!)),
    shapes: marks.flatMap(({ shapes }) => shapes),
    annotations: [...captions, ...marks.flatMap(({ labels }) => labels)],
    ...meanings.length > 0 && { showlegend: true, legend: { x: 1, y: 1 - top / height, yanchor: "top" } },
    ...heats.length > 0 && { coloraxis: heatColors(options.heatTitle, 1 - top / height, height - top - 8) },
  });
}
