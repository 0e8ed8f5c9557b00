/** Bars to compare shares, with lines to compare them to. @module */
import type { Shape } from "plotly-types";
import { any, checkOptions, type Rule } from "../base/check.ts";
import * as is from "../base/check.ts";
import { categoryText, Figure, ink, palette, plotText, type Trace } from "./figure.ts";

/** Options of {@linkcode barChart}. */
export interface BarChartOptions {
  /** Above, in bold. */
  title?: string;
  /** Below the title. */
  subtitle?: string;
  /** What the categories are; stands below them. */
  categoryTitle?: string;
  /** What the values are. Default "accuracy, %". */
  valueTitle?: string;
  /** Values to compare with, by name: dashed lines across. */
  references?: Readonly<Record<string, number>>;
}

const RULES: Record<keyof BarChartOptions, Rule> = {
  ...{ title: any, subtitle: any, categoryTitle: any, valueTitle: any, references: any },
};

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
  is.expectKinds("barChart", { series: [series, is.optional] });
  checkOptions("barChart", options, RULES);
  const { title = "", subtitle, categoryTitle = "", valueTitle = "accuracy, %", references = {} } = options;
  const all = entriesOf(series).map(([name, values]) => [name, entriesOf(values)] as const);
  const categories = new Set(all.flatMap(([, bars]) => bars.map(([category]) => category)));
  const bars = all.map(([name, values], i) => barTrace(name, values, palette[i % palette.length]!));
  const several = all.some(([, bars]) => bars.some(([, v]) => typeof v !== "number"));
  const longest = Math.max(...[...categories].map((name) => name.length));
  const slot = Math.max(7.5 * longest + 16, bars.length * (several ? 100 : 50) + 16);
  const width = Math.min(820, Math.max(480, 240 + slot * categories.size));
  const below = { text: plotText(categoryTitle) };
  return new Figure(bars, {
    width,
    height: 400,
    title: { text: plotText(title), ...(subtitle ? { subtitle: { text: plotText(subtitle) } } : {}) },
    barmode: "group",
    showlegend: bars.length > 1 || Object.keys(references).length > 0,
    shapes: Object.entries(references).map(([name, value], i) => referenceLine(name, value, i)),
    xaxis: {
      type: "category",
      title: below,
      showgrid: false,
      categoryarray: [...categories].map(categoryText),
    },
    yaxis: { title: { text: plotText(valueTitle) }, rangemode: "tozero" },
  });
}
