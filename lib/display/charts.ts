/** Lines and heat maps of numbers of one's own. @module */
import { any, checkOptions, flag, type Rule } from "../base/check.ts";
import * as is from "../base/check.ts";
import { Figure, type FigureLayout, plotText, sequential } from "./figure.ts";

/** Words of a chart. */
interface Words {
  /** Above, in bold. */
  title?: string;
  /** Below the title. */
  subtitle?: string;
  /** What stands below the horizontal axis. */
  xTitle?: string;
  /** What stands beside the vertical axis. */
  yTitle?: string;
}

/** Options of {@linkcode lineChart}. */
export interface LineChartOptions extends Words {
  /** Whether the horizontal axis is logarithmic. Default false. */
  logarithmic?: boolean;
}

/** Options of {@linkcode heatMaps}. */
export interface HeatMapsOptions extends Words {
  /** What the colour means. */
  colorTitle?: string;
  /** The numbers of the first and the last colour. Default: the least and the greatest of all maps. */
  range?: readonly [low: number, high: number];
  /** From one colour through white to another, for numbers on both sides of 0. Default false. */
  diverging?: boolean;
  /** Maps in a row. Default 2. */
  columns?: number;
}

const WORDS: Record<keyof Words, Rule> = { title: any, subtitle: any, xTitle: any, yTitle: any };

/** The title, with what stands below it. */
function head({ title = "", subtitle = "" }: Words): FigureLayout {
  return { title: { text: plotText(title), subtitle: { text: plotText(subtitle) } } };
}

/**
 * Numbers as lines.
 *
 * @param series By name: the numbers, at 0, 1, 2 and so on; or points [x, y].
 *
 * @example
 * ```ts
 * import { lineChart } from "nepa";
 *
 * const chart = lineChart({ squares: [0, 1, 4], halves: [[0, 0], [2, 1]] }, { title: "Two lines" });
 * await chart.svg();
 * ```
 */
export function lineChart(
  series: Readonly<Record<string, readonly (number | readonly [x: number, y: number])[]>>,
  options: LineChartOptions = {},
): Figure {
  is.expectKinds("lineChart", { series: [series, is.optional] });
  checkOptions("lineChart", options, { ...WORDS, logarithmic: flag });
  const { xTitle = "", yTitle = "", logarithmic = false } = options;
  const traces = Object.entries(series).map(([name, values]) => {
    const points = values.map((value, i) => typeof value === "number" ? [i, value] as const : value);
    const mode = points.length > 30 ? "lines" as const : "lines+markers" as const;
    const [x, y] = [points.map(([x]) => x), points.map(([, y]) => y)];
    return { type: "scatter" as const, mode, name: plotText(name), x, y };
  });
  const log = logarithmic ? { type: "log" as const, dtick: 1 } : {};
  return new Figure(traces, {
    ...head(options),
    xaxis: { ...log, title: { text: plotText(xTitle) } },
    yaxis: { title: { text: plotText(yTitle) } },
  });
}

/**
 * Tables of numbers as colours, side by side, in one scale. What is null stays white.
 *
 * @param maps Rows from the top, by what stands below the map.
 *
 * @example
 * ```ts
 * import { heatMaps } from "nepa";
 *
 * const maps = heatMaps({ one: [[0, 1], [2, 3]], other: [[3, null], [1, 0]] }, { title: "Two maps" });
 * await maps.svg();
 * ```
 */
export function heatMaps(
  maps: Readonly<Record<string, readonly (readonly (number | null)[])[]>>,
  options: HeatMapsOptions = {},
): Figure {
  const rules = { ...WORDS, colorTitle: any, range: any, diverging: flag, columns: any };
  is.expectKinds("heatMaps", { maps: [maps, is.optional] });
  checkOptions("heatMaps", options, rules);
  const { xTitle = "", yTitle = "", colorTitle = "", diverging = false, columns = 2 } = options;
  const entries = Object.entries(maps), rows = Math.ceil(entries.length / columns);
  const all = entries.flatMap(([, map]) => map.flat()).filter((value) => value !== null);
  const [zmin, zmax] = options.range ??
    all.reduce(([low, high], v) => [Math.min(low, v), Math.max(high, v)], [Infinity, -Infinity]);
  const colorscale = diverging ? [[0, "#0c3566"], [0.5, "#ffffff"], [1, "#8c3a0b"]] : sequential;
  const layout: Record<string, unknown> = {};
  const traces = entries.map(([name, map], i) => {
    const id = i === 0 ? "" : String(i + 1), column = i % columns, row = Math.floor(i / columns);
    const part = (k: number, n: number) => [k / n + 0.03, (k + 1) / n - 0.03];
    const below = row === rows - 1 && xTitle ? `${name}: ${xTitle}` : name,
      beside = column === 0 ? yTitle : "";
    const [low, high] = part(rows - 1 - row, rows), axis = { showgrid: false, ticks: "" };
    layout[`xaxis${id}`] = {
      ...axis,
      domain: part(column, columns),
      anchor: `y${id}`,
      title: { text: plotText(below) },
    };
    const y = { ...axis, domain: [low, high], anchor: `x${id}`, autorange: "reversed" };
    layout[`yaxis${id}`] = { ...y, title: { text: plotText(beside) } };
    const colorbar = { title: { text: plotText(colorTitle) } }, scale = { zmin, zmax, colorscale, colorbar };
    const axes = { xaxis: `x${id}`, yaxis: `y${id}`, showscale: i === 0 };
    return { type: "heatmap", name: plotText(name), z: map, ...scale, ...axes };
  });
  return new Figure(traces as never[], { ...head(options), ...layout, width: 820, height: 120 + 320 * rows });
}
