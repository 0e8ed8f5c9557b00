/** Figures: one value that a notebook, a file and a terminal each show in their own way. @module */
import type { Layout, PlotData, Template } from "plotly-types";
import { checkOptions, expectKinds, list, LONG, optional, positive, visible } from "../base/check.ts";
import { consoleDisplay, jupyterDisplay, type MediaBundle } from "./jupyter.ts";
import { drawSvg, rasterize } from "./raster.ts";
import { formatNumber } from "./table.ts";

/** One line, set of bars, heat map or the like, in plotly's terms; arrays may be typed ones. */
export type Trace = Partial<PlotData>;

/** Size, titles, axes, legend in plotly's terms. What is left out comes from the theme. */
export type FigureLayout = Partial<Layout>;

/** The theme's colours, easy to tell apart, also for most colour-blind eyes. */
export const palette = [
  "#2b6cb0", // blue
  "#e07b29", // orange
  "#2a9d76", // green
  "#c0396b", // crimson
  "#7a5bbf", // violet
  "#8d6e4c", // brown
  "#d99ac5", // rose
  "#6b7785", // slate
  "#b5b12c", // olive
  "#2aa9c9", // cyan
] as const;

/** The theme's colours of text and lines; alarm is for what went wrong. */
export const ink = {
  text: "#1f2733",
  soft: "#5b6675",
  line: "#c3cad4",
  grid: "#e8ebf0",
  alarm: "#b3261e",
} as const;

/** From little (near white) to much (dark blue); its lightness falls evenly. */
export const sequential: [number, string][] = [
  [0, "#f5f9fc"],
  [0.2, "#cfe1f0"],
  [0.4, "#94c0dd"],
  [0.6, "#5296c5"],
  [0.8, "#2467a5"],
  [1, "#0c3566"],
];

/** The fonts of figures: the first is the one that pictures are drawn with, the others are as wide. */
export const fontFamily = "DejaVu Sans, Verdana, Geneva, sans-serif";

const small = { size: 11, color: ink.soft } as const, label = { size: 12, color: ink.soft } as const;

const axis = {
  automargin: true,
  gridcolor: ink.grid,
  linecolor: ink.line,
  tickcolor: ink.line,
  tickfont: small,
  separatethousands: true,
  exponentformat: "e",
  title: { font: label, standoff: 10 },
  ticks: "outside",
  ticklen: 4,
  showline: true,
  zeroline: false,
} as const;

const beside = { side: "right", font: label } as const;
const colorbar = { outlinewidth: 0, thickness: 14, tickfont: small, title: beside } as const;

const theme: Template = {
  data: { heatmap: [{ type: "heatmap", colorscale: sequential, colorbar }] },
  layout: {
    ...{ coloraxis: { colorbar } }, // which the types do not know
    font: { family: fontFamily, size: 12, color: ink.text },
    title: {
      x: 0,
      xref: "paper",
      xanchor: "left",
      font: { size: 16, weight: 700 },
      subtitle: { text: "", font: label },
    },
    paper_bgcolor: "#ffffff",
    plot_bgcolor: "#ffffff",
    colorway: [...palette],
    margin: { l: 60, r: 28, t: 64, b: 52 },
    xaxis: axis,
    yaxis: axis,
    legend: { font: { size: 12 }, bgcolor: "rgba(255,255,255,0.7)" },
    bargap: 0.3,
    bargroupgap: 0.08,
    hoverlabel: { font: { family: fontFamily } },
  },
};

/** Plain JSON of a figure: typed arrays as arrays, fractions with six digits. */
function plain(value: object): Record<string, unknown> {
  return JSON.parse(JSON.stringify(value, (_, v: unknown) => {
    if (ArrayBuffer.isView(v)) return Array.from(v as Float32Array);
    return typeof v === "number" && !Number.isInteger(v) && Number.isFinite(v) ? Number(v.toPrecision(6)) : v;
  }));
}

/** Words that plotly shows as they are; of itself it takes `<` for the beginning of a tag. Line breaks stay. */
export function plotText(words: string): string {
  return visible(words, LONG).replace(/[&<>]/g, (c) => `&#${c.charCodeAt(0)};`).replace(/\n/g, "<br>");
}

/** A title in plotly's terms, with what stands below it. */
export function titled({ title = "", subtitle = "" }: { title?: string; subtitle?: string }) {
  return { text: plotText(title), subtitle: { text: plotText(subtitle) } };
}

/** A name as a category of plotly's, which takes names that every object has, such as "constructor", for known ones. */
export function categoryText(name: string): string {
  return plotText(name) + (name in {} ? "\u200b" : "");
}

/** The words of a text of plotly's. */
function wordsOf(text: string): string {
  const bare = text.replace(/<br>/g, " ").replace(/<[^>]*>/g, "");
  return bare.replace(/&#(\d+);/g, (_, code) => String.fromCodePoint(Number(code)));
}

/** Numbers as a row of little bars, at most `width` of them; each stands for the mean of its share. */
export function sparkline(values: readonly number[], width = 24): string {
  const finite = values.filter(Number.isFinite), count = Math.min(width, finite.length);
  const at = (i: number) => Math.floor(i * finite.length / count);
  const means = Array.from({ length: count }, (_, i) => {
    const part = finite.slice(at(i), at(i + 1));
    return part.reduce((a, b) => a + b, 0) / part.length;
  });
  const low = Math.min(...means), span = Math.max(...means) - low || 1;
  return means.map((m) => "▁▂▃▄▅▆▇█"[Math.round(7 * (m - low) / span)]).join("");
}

function describeTrace({ name, type, y, z, x, orientation, legendgroup }: Trace): string {
  const label = wordsOf([legendgroup, name ?? type ?? "line"].filter((word) => word).join(", "));
  if (Array.isArray(z)) return `${label}: ${z.length} × ${(z[0] as unknown[] | undefined)?.length ?? 0}`;
  const values = Array.from((orientation === "h" ? x : y) as ArrayLike<unknown> ?? [], Number);
  if (values.length === 0) return label;
  const [first, last] = [values[0]!, values.at(-1)!].map(formatNumber);
  if (values.length <= 12) return `${label}: ${values.map(formatNumber).join(", ")}`;
  return `${label}: ${first} ${sparkline(values)} ${last} (${values.length})`;
}

/**
 * A figure: plotly's data and layout, drawn in one theme. As the value of a notebook's cell it is a live plotly graph
 * where the front end has one, and a PNG picture elsewhere; in a terminal it is a few lines of text.
 *
 * @example
 * ```ts
 * import { Figure } from "nepa";
 * import { assertEquals } from "@std/assert";
 *
 * const figure = new Figure([{ y: [1, 4, 9] }], { title: { text: "Squares" } });
 * assertEquals((await figure.png()).subarray(1, 4), new TextEncoder().encode("PNG"));
 * ```
 */
export class Figure {
  /** Pixels. */
  readonly width: number;
  /** Pixels. */
  readonly height: number;
  readonly #data: readonly Trace[];
  readonly #layout: FigureLayout;
  #svg: Promise<string> | undefined;

  /**
   * Nothing is drawn before the figure is shown or saved.
   *
   * @param data Traces; not changed, and read when the figure is shown.
   * @param layout Width 720 and height 440 pixels where it says nothing else.
   */
  constructor(data: readonly Trace[], layout: FigureLayout = {}) {
    expectKinds("Figure", { data: [data, list], layout: [layout, optional] });
    this.width = layout.width ?? 720;
    this.height = layout.height ?? 440;
    this.#data = data;
    this.#layout = layout;
  }

  /** The figure as plotly.js takes it: `Plotly.newPlot(element, figure)`. */
  toJSON(): {
    data: Record<string, unknown>[];
    layout: Record<string, unknown> & { width: number; height: number };
  } {
    const { width, height } = this;
    const layout = { template: theme, ...this.#layout, width, height, autosize: false };
    return plain({ data: this.#data, layout }) as ReturnType<Figure["toJSON"]>;
  }

  /** The figure as an SVG document. */
  svg(): Promise<string> {
    return this.#svg ??= drawSvg(this.toJSON());
  }

  /**
   * The figure as a PNG file.
   *
   * @param options scale: pixels of the file for each of the figure's, default 1.
   */
  async png(options: { scale?: number } = {}): Promise<Uint8Array> {
    checkOptions("png", options, { scale: positive });
    return rasterize(await this.svg(), options.scale);
  }

  /**
   * Writes the figure to a file: `.svg`, or `.png` at twice its size.
   *
   * @throws {TypeError} If the name ends otherwise.
   */
  async save(path: string): Promise<void> {
    if (path.endsWith(".svg")) return await Deno.writeTextFile(path, await this.svg());
    if (path.endsWith(".png")) return await Deno.writeFile(path, await this.png({ scale: 2 }));
    throw new TypeError(`save: expected a name that ends in .png or .svg, got "${path}"`);
  }

  /** The title, and a line for each trace: its name and numbers. */
  toString(): string {
    const { title = {}, images = [] } = this.#layout;
    const { text, subtitle } = Object(typeof title === "string" ? { text: title } : title);
    const count = images.length > 1 ? `${images.length} pictures` : "";
    const lines: (string | undefined)[] = [text, subtitle?.text, count];
    const [head, ...below] = lines.flatMap((line) => line ? [wordsOf(line)] : []);
    return [head ? `Figure: ${head}` : "Figure", ...below, ...this.#data.map(describeTrace)].join("\n  ");
  }

  /** How it shows itself in a notebook. No HTML and no SVG: front ends would prefer them, and GitHub cuts them up. */
  async [jupyterDisplay](): Promise<MediaBundle> {
    return {
      "application/vnd.plotly.v1+json": { ...this.toJSON(), config: { displaylogo: false } },
      "image/png": (await this.png()).toBase64(),
      "text/plain": this.toString(),
    };
  }

  /** How it prints in a terminal. */
  [consoleDisplay](): string {
    return this.toString();
  }
}
