/** Grids of pictures, with captions, outlined parts and numbers laid over them as colours. @module */
import type { Annotations, Image, Shape } from "plotly-types";
import { Figure, ink, palette, type Trace } from "./figure.ts";
import { checkPixels, enlarge, type Pixels, pngUrl } from "./png.ts";

/** A part of a picture, in its pixels. */
export interface Mark {
  left: number;
  top: number;
  width: number;
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
  /** A line below it; `<br>` begins another. */
  caption?: string;
  marks?: readonly Mark[];
  /** Numbers on a grid over the picture, row by row from the top: little shows the picture, much is dark red. */
  heat?: { values: ArrayLike<number>; rows: number; columns: number };
}

/** Options of {@linkcode imageGrid}. */
export interface ImageGridOptions {
  title?: string;
  subtitle?: string;
  /** Pictures in a row. Default: as many as fit into 800 pixels. */
  columns?: number;
  /** Height of a picture in pixels. Default 80. */
  size?: number;
  /** Pixels between pictures. Default 10. */
  gap?: number;
  /** What the numbers laid over the pictures are; stands beside their colour bar. */
  heatTitle?: string;
}

/** From see-through over amber to dark red. */
const embers: [number, string][] = [
  [0, "rgba(255,214,102,0)"],
  [0.35, "rgba(255,170,51,0.45)"],
  [0.7, "rgba(222,66,23,0.72)"],
  [1, "rgba(122,4,34,0.88)"],
];

/** A box of the figure, in its pixels. */
interface Place {
  left: number;
  top: number;
  width: number;
  height: number;
}

function imageAt(picture: Picture, { left, top, width, height }: Place): Partial<Image> {
  const times = Math.max(1, Math.ceil(2 * height / picture.height)); // large square pixels where there are few
  return {
    source: pngUrl(enlarge(picture, times)),
    xref: "x",
    yref: "y",
    x: left,
    y: top,
    sizex: width,
    sizey: height,
    sizing: "stretch",
    layer: "below",
    opacity: picture.heat ? 0.4 : 1, // pale, so that the colours on it are what the colour bar says
  };
}

/** Where a mark of a picture stands in the figure. */
function markPlace(mark: Mark, picture: Picture, { left, top, width, height }: Place): Place {
  const x = width / picture.width, y = height / picture.height;
  return {
    left: left + mark.left * x,
    top: top + mark.top * y,
    width: mark.width * x,
    height: mark.height * y,
  };
}

function markShape(mark: Mark, { left, top, width, height }: Place): Partial<Shape> {
  const line = { color: mark.color ?? palette[1], width: 2 };
  const fillcolor = mark.fill ?? "rgba(0,0,0,0)";
  return { type: "rect", x0: left, y0: top, x1: left + width, y1: top + height, line, fillcolor };
}

function textAt(text: string, x: number, y: number, anchor: "top" | "middle"): Partial<Annotations> {
  return { text, x, y, xref: "x", yref: "y", xanchor: "center", yanchor: anchor, showarrow: false };
}

function heatTrace({ values, rows, columns }: NonNullable<Picture["heat"]>, place: Place): Trace {
  const dx = place.width / columns, dy = place.height / rows;
  return {
    type: "heatmap",
    name: "heat",
    z: Array.from(
      { length: rows },
      (_, r) => Array.from({ length: columns }, (_, c) => values[r * columns + c]!),
    ),
    x0: place.left + dx / 2,
    dx,
    y0: place.top + dy / 2,
    dy,
    coloraxis: "coloraxis",
    hovertemplate: "%{z:.4f}<extra></extra>",
  } as Trace;
}

function checkPicture(picture: Picture, i: number): void {
  checkPixels(picture);
  const { heat } = picture;
  if (heat && heat.values.length !== heat.rows * heat.columns) {
    throw new RangeError(
      `picture ${i}: expected ${heat.rows} x ${heat.columns} numbers to lay over it, got ${heat.values.length}`,
    );
  }
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
  if (pictures.length === 0) throw new RangeError("imageGrid: expected at least one picture, got none");
  pictures.forEach(checkPicture);
  const { size = 80, gap = 10 } = options, edge = 20, hasHeat = pictures.some(({ heat }) => heat);
  const captionLines = Math.max(...pictures.map(({ caption }) => caption ? caption.split("<br>").length : 0));
  const cell = Math.max(...pictures.map(({ width, height }) => size * width / height)) + gap;
  const row = size + gap + 15 * captionLines, top = (options.title ? 44 : 12) + (options.subtitle ? 22 : 0);
  const columns = Math.min(pictures.length, options.columns ?? Math.max(1, Math.floor((760 + gap) / cell)));
  const width = Math.max(2 * edge + columns * cell - gap, options.title || options.subtitle ? 420 : 0);
  const height = top + Math.ceil(pictures.length / columns) * row + 8;
  const places = pictures.map((p, i) => ({
    left: edge + (i % columns) * cell,
    top: top + Math.floor(i / columns) * row,
    width: size * p.width / p.height,
    height: size,
  }));
  const marks = pictures.flatMap((picture, i) =>
    (picture.marks ?? []).map((mark) => ({ mark, place: markPlace(mark, picture, places[i]!) }))
  );
  const axis = { visible: false, fixedrange: true, automargin: false }, bar = hasHeat ? 90 : 0;
  const subtitle = options.subtitle ? { subtitle: { text: options.subtitle } } : {};
  return new Figure(
    pictures.flatMap(({ heat }, i) => heat ? [heatTrace(heat, places[i]!)] : []),
    {
      width: width + bar,
      height,
      margin: { l: 0, r: bar, t: 0, b: 0 },
      title: {
        text: options.title ?? "",
        x: edge / width,
        yref: "container",
        y: 1 - 18 / height,
        yanchor: "middle",
        ...subtitle,
      },
      xaxis: { ...axis, range: [0, width] },
      yaxis: { ...axis, range: [height, 0] },
      images: pictures.map((picture, i) => imageAt(picture, places[i]!)),
      shapes: marks.map(({ mark, place }) => markShape(mark, place)),
      annotations: [
        ...pictures.flatMap(({ caption }, i) => {
          const { left, top, width } = places[i]!;
          if (!caption) return [];
          return [{
            ...textAt(caption, left + width / 2, top + size, "top"),
            font: { size: 11, color: ink.soft },
          }];
        }),
        ...marks.filter(({ mark }) => mark.label).map(({ mark, place: p }) => ({
          ...textAt(mark.label!, p.left + p.width / 2, p.top + p.height / 2, "middle"),
          font: { size: 11, color: "#fff" },
          bgcolor: "rgba(20,26,36,0.6)",
        })),
      ],
      ...(hasHeat ? { coloraxis: heatColors(options.heatTitle, 1 - top / height, height - top - 8) } : {}),
    },
  );
}

function heatColors(title = "", y: number, length: number): object {
  const bar = {
    thickness: 12,
    len: Math.min(length, 260),
    lenmode: "pixels",
    x: 1.01,
    y,
    yanchor: "top",
    ypad: 0,
  };
  const font = { size: 11, color: ink.soft };
  return {
    colorscale: embers,
    colorbar: { ...bar, title: { text: title, side: "right", font }, tickfont: font, outlinewidth: 0 },
  };
}
