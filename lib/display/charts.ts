/** Bars, lines and heat maps of numbers of one's own. @module */
import type { Shape } from "plotly-types";
import { any, checkOptions, expectKinds, flag, optional, type Rule } from "../base/check.ts";
import { categoryText, Figure, ink, palette, plotText, sequential, titled, type Trace } from "./figure.ts";

/** What stands above a chart. */
interface Title {
  /** Above, in bold. */
  title?: string;
  /** Below the title. */
  subtitle?: string;
}

/** Words of a chart with two axes. */
interface Words extends Title {
  /** What stands below the horizontal axis. */
  xTitle?: string;
  /** What stands beside the vertical axis. */
  yTitle?: string;
}

/** Options of {@linkcode barChart}. */
export interface BarChartOptions extends Title {
  /** What the categories are; stands below them. */
  categoryTitle?: string;
  /** What the values are. Default "accuracy, %". */
  valueTitle?: string;
  /** Values to compare with, by name: dashed lines across. */
  references?: Readonly<Record<string, number>>;
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

const TITLE: Record<keyof Title, Rule> = { title: any, subtitle: any };
const WORDS: Record<keyof Words, Rule> = { ...TITLE, xTitle: any, yTitle: any };

const words = (text: string) => ({ text: plotText(text) });

/** Values by name. */
export type Named<T> = Readonly<Record<string, T>> | ReadonlyMap<string, T>;

/** Names and values, in order. */
export const entriesOf = <T>(named: Named<T>): [string, T][] =>
  named instanceof Map ? [...named] : Object.entries(named);

/** Mean and sample standard deviation; of one number, the number and NaN. */
export function spread(values: readonly number[]): { mean: number; std: number } {
  const mean = values.reduce((a, b) => a + b, 0) / values.length;
  return { mean, std: Math.sqrt(values.reduce((sum, v) => sum + (v - mean) ** 2, 0) / (values.length - 1)) };
}

function barTrace(
  name: string,
  bars: readonly (readonly [string, number | readonly number[]])[],
  color: string,
): Trace {
  const stats = bars.map(([, v]) => spread(typeof v === "number" ? [v] : v));
  const percent = (share: number) => (100 * share).toFixed(1), array = stats.map(({ std }) => 100 * std || 0);
  const visible = stats.some(({ std }) => std > 0);
  return {
    type: "bar",
    name: plotText(name),
    x: bars.map(([category]) => categoryText(category)),
    y: stats.map(({ mean }) => 100 * mean),
    text: stats.map(({ mean, std }) => percent(mean) + (Number.isNaN(std) ? "" : ` ± ${percent(std)}`)),
    textposition: "inside", // at the foot, where no line of reference runs through
    insidetextanchor: "start",
    constraintext: "none",
    textangle: 0,
    textfont: { size: 11, color: "#fff" },
    marker: { color },
    error_y: { visible, type: "data", array, thickness: 1.4, width: 4, color: ink.text },
  };
}

function referenceLine(name: string, value: number, i: number): Partial<Shape> {
  const y = 100 * value, across = { xref: "paper", x0: 0, x1: 1, y0: y, y1: y } as const;
  const line = { color: palette[(3 + i) % palette.length]!, width: 2, dash: "dash" } as const;
  return { type: "line", name: plotText(`${name} ${y.toFixed(1)}`), showlegend: true, ...across, line };
}

/**
 * Shares (accuracies) as bars from zero, in percent, one colour for each series.
 *
 * @param series By name of the series, then of the category: a share from 0 to 1, or several, one for each seed, drawn as
 * their mean with the sample standard deviation. Of an object JavaScript puts names such as "10" first; a Map keeps its order.
 *
 * @example
 * ```ts
 * import { barChart } from "nepa";
 *
 * const chart = barChart(
 *   { pretrained: { "600 labels": 0.779, "6,000 labels": 0.841 }, scratch: { "600 labels": [0.727, 0.729, 0.74] } },
 *   { title: "Fine-tuning", references: { "always the same class": 0.1 } },
 * );
 * await chart.svg();
 * ```
 */
export function barChart(
  series: Named<Named<number | readonly number[]>>,
  options: BarChartOptions = {},
): Figure {
  expectKinds("barChart", { series: [series, optional] });
  checkOptions("barChart", options, { ...TITLE, categoryTitle: any, valueTitle: any, references: any });
  const { categoryTitle = "", valueTitle = "accuracy, %", references = {} } = options;
  const all = entriesOf(series).map(([name, values]) => [name, entriesOf(values)] as const);
  const categories = new Set(all.flatMap(([, bars]) => bars.map(([category]) => category)));
  const bars = all.map(([name, values], i) => barTrace(name, values, palette[i % palette.length]!));
  const several = all.some(([, bars]) => bars.some(([, v]) => typeof v !== "number"));
  const longest = Math.max(...[...categories].map((name) => name.length));
  const slot = Math.max(7.5 * longest + 16, bars.length * (several ? 100 : 50) + 16);
  const width = Math.min(820, Math.max(480, 240 + slot * categories.size));
  return new Figure(bars, {
    width,
    height: 400,
    title: titled(options),
    barmode: "group",
    showlegend: bars.length > 1 || Object.keys(references).length > 0,
    shapes: Object.entries(references).map(([name, value], i) => referenceLine(name, value, i)),
    xaxis: {
      type: "category",
      title: words(categoryTitle),
      showgrid: false,
      categoryarray: [...categories].map(categoryText),
    },
    yaxis: { title: words(valueTitle), rangemode: "tozero" },
  });
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
  expectKinds("lineChart", { series: [series, optional] });
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
    title: titled(options),
    xaxis: { ...log, title: words(xTitle) },
    yaxis: { title: words(yTitle) },
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
  expectKinds("heatMaps", { maps: [maps, optional] });
  const rules = { colorTitle: any, range: any, diverging: flag, columns: any };
  checkOptions("heatMaps", options, { ...WORDS, ...rules });
  const { xTitle = "", yTitle = "", colorTitle = "", diverging = false, columns = 2 } = options;
  const entries = Object.entries(maps), rows = Math.ceil(entries.length / columns);
  const ids = entries.map((_, i) => i === 0 ? "" : String(i + 1)), bare = { showgrid: false, ticks: "" };
  const axes = entries.map(([name], i) => ({
    [`xaxis${ids[i]}`]: {
      ...bare,
      title: words(i >= (rows - 1) * columns && xTitle ? `${name}: ${xTitle}` : name),
    },
    [`yaxis${ids[i]}`]: { ...bare, title: words(i % columns === 0 ? yTitle : ""), autorange: "reversed" },
  }));
  const traces = entries.map(([name, z], i) => {
    const at = { xaxis: `x${ids[i]}`, yaxis: `y${ids[i]}`, coloraxis: "coloraxis" };
    return { type: "heatmap", name: plotText(name), z, ...at };
  });
  const colorscale = diverging ? [[0, "#0c3566"], [0.5, "#ffffff"], [1, "#8c3a0b"]] : sequential;
  const [cmin, cmax] = options.range ?? [];
  const layout = {
    title: titled(options),
    ...Object.assign({}, ...axes),
    grid: { rows, columns, pattern: "independent", xgap: 0.12, ygap: 0.15 },
    coloraxis: { cmin, cmax, colorscale, colorbar: { title: words(colorTitle) } },
  };
  return new Figure(traces as never[], { ...layout, width: 820, height: 120 + 320 * rows });
}
