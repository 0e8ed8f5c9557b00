/**
 * Boards of line charts that are drawn twice: as light SVG by hand, a fraction of a millisecond, while the numbers come
 * in; and as a figure at the end, everything in the same place.
 *
 * @module
 */
import { Figure, type FigureLayout, fontFamily, ink, plotText, type Trace } from "./figure.ts";
import { escapeHtml } from "./jupyter.ts";
import { formatNumber } from "./table.ts";

/** A line of a {@linkcode LineChart}. */
export interface Line {
  name: string;
  x: readonly number[];
  y: readonly number[];
  color: string;
  /** Pixels. Default 2. */
  width?: number;
  dash?: boolean;
}

/** Pixels from the board's left and top to the edges of a chart's plotting area. */
export type Edges = Record<"left" | "top" | "right" | "bottom", number>;

/** One chart of a board. */
export interface LineChart extends Edges {
  title: string;
  lines: readonly Line[];
  /** Numbers that the vertical axis must show, whatever the lines do. */
  include?: readonly number[];
  /** Whether the lines' names stand above it. Default: if there is more than one line. */
  legend?: boolean;
}

/** Charts over one common horizontal axis. */
export interface LineBoard {
  title: string;
  subtitle: string;
  /** Something to be warned of, below the subtitle. */
  notice?: string | undefined;
  /** The horizontal axis. */
  xTitle: string;
  width: number;
  height: number;
  charts: readonly LineChart[];
  /** Share done, 0 to 1: a bar along the upper edge of the light drawing. */
  done?: number;
}

/** At most `most` of a line's points: the least and the greatest of each stretch, and both ends; what is not finite is left out. */
function thin({ x, y }: Line, most: number): [number, number][] {
  const points = x.map((at, i): [number, number] => [at, y[i]!]).filter((point) => Number.isFinite(point[1]));
  if (points.length <= most) return points;
  const stretches = most / 2 - 1, kept = new Set([points[0], points.at(-1)]);
  const from = (stretch: number) => Math.floor(stretch * points.length / stretches);
  for (let i = 0; i < stretches; i++) {
    const sorted = points.slice(from(i), from(i + 1)).sort((a, b) => a[1] - b[1]);
    kept.add(sorted[0]).add(sorted.at(-1));
  }
  return points.filter((point) => kept.has(point));
}

/** The least and greatest of some numbers, a little apart where they are equal. */
function extent(values: readonly number[], margin = 0): [number, number] {
  let low = Infinity, high = -Infinity;
  for (const v of values) {
    low = Math.min(low, v);
    high = Math.max(high, v);
  }
  if (low > high) [low, high] = [0, 1];
  if (low === high) [low, high] = [low - (Math.abs(low) / 10 || 1), high + (Math.abs(high) / 10 || 1)];
  const more = margin * (high - low);
  return [low - more, high + more];
}

/**
 * What both drawings of a chart have in common: the axes' ranges, how many numbers at most stand along them, and whether it is
 * the lowest, whose numbers along the horizontal axis are those of the charts above, too.
 */
function axesOf({ charts }: LineBoard, { lines, include = [], left, top, right, bottom }: LineChart) {
  const drawn = charts.flatMap((chart) => chart.lines).filter(({ x }) => x.length > 0);
  const values = lines.flatMap(({ y }) => extent(y.filter(Number.isFinite)));
  const most = (pixels: number, each: number) => Math.max(3, Math.round(pixels / each));
  return {
    x: extent(drawn.flatMap(({ x }) => [x[0]!, x.at(-1)!]), 0.012),
    y: extent([...values, ...include], 0.05),
    xTicks: most(right - left, 80),
    yTicks: most(bottom - top, 30),
    isLowest: charts.every((chart) => chart.bottom <= bottom),
  };
}

/** Up to `count` round numbers from low to high. */
function roundTicks(low: number, high: number, count: number): number[] {
  const least = (high - low) / count, power = 10 ** Math.floor(Math.log10(least));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= least * (1 - 1e-9))!;
  const first = Math.ceil(low / step - 1e-9);
  return Array.from({ length: Math.floor(high / step + 1e-9) - first + 1 }, (_, i) => (first + i) * step);
}

const tickText = (value: number) => formatNumber(Number(value.toPrecision(6))).replace("-", "−");

/** What stands above a chart: its title, and the names of its lines in their colours. */
function heading({ title, lines, legend = lines.length > 1 }: LineChart, tag: "span" | "tspan"): string {
  const names = lines.map(({ name, color, dash }) => {
    const style = tag === "span" ? `style="color:${color}"` : `fill="${color}"`;
    return `<${tag} ${style}>${dash ? "╌" : "━"} ${escapeHtml(name)}</${tag}>`;
  });
  const text = escapeHtml(title), bold = `<tspan font-weight="bold">${text}</tspan>`;
  return [tag === "span" ? `<b>${text}</b>` : bold, ...(legend ? names : [])].join(" \u00a0");
}

function chartSvg(board: LineBoard, chart: LineChart): string {
  const { left, top, right, bottom, lines } = chart;
  const { x: [x0, x1], y: [y0, y1], xTicks, yTicks, isLowest } = axesOf(board, chart);
  const px = (x: number) => (left + (x - x0) / (x1 - x0) * (right - left)).toFixed(1);
  const py = (y: number) => (bottom - (y - y0) / (y1 - y0) * (bottom - top)).toFixed(1);
  const label = (x: string | number, y: number, anchor: string, text: string) =>
    `<text x="${x}" y="${y}" text-anchor="${anchor}" font-size="11" fill="${ink.soft}">${text}</text>`;
  const axis = (path: string, color: string = ink.grid) => `<path d="${path}" stroke="${color}"/>`;
  const rows = roundTicks(y0, y1, yTicks).map((v) => {
    return axis(`M${left} ${py(v)}H${right}`) + label(left - 8, Number(py(v)) + 4, "end", tickText(v));
  });
  const columns = roundTicks(x0, x1, xTicks).map((v) => {
    const below = isLowest ? label(px(v), bottom + 17, "middle", tickText(v)) : "";
    return axis(`M${px(v)} ${top}V${bottom}`) + below;
  });
  const paths = lines.map((line) => {
    const points = thin(line, 300).map(([x, y]) => `${px(x)} ${py(y)}`), dash = line.dash ? "5 4" : "none";
    if (points.length === 0) return "";
    const style = `stroke="${line.color}" stroke-width="${points.length > 1 ? line.width ?? 2 : 5}"`;
    return `<path d="M${points.join("L")}h0" ${style} stroke-dasharray="${dash}"/>`;
  });
  const title = heading(chart, "tspan");
  const above = `<text x="${left}" y="${top - 9}" font-size="12" fill="${ink.text}">${title}</text>`;
  const below = isLowest ? label((left + right) / 2, bottom + 34, "middle", escapeHtml(board.xTitle)) : "";
  return [...rows, ...columns, axis(`M${left} ${top}V${bottom}H${right}`, ink.line), ...paths, above, below]
    .join("");
}

/** What is to be warned of, in lines: letters of 12 pixels are some 6.6 wide. */
export function warningLines({ notice = "", width }: Pick<LineBoard, "notice" | "width">): string[] {
  const line = new RegExp(`(.{1,${Math.floor((width - 80) / 6.6)}})(?: |$)`, "g");
  return notice.match(line)?.map((words) => words.trim()) ?? [];
}

/** The board as an SVG element for a web page, drawn by hand. */
export function lightSvg(board: LineBoard): string {
  const { width, height, charts, done } = board, left = charts[0]?.left ?? 0;
  const text = (y: number, style: string, words = "") =>
    `<text x="${left}" y="${y}" ${style}>${escapeHtml(words)}</text>`;
  const bar = `<path d="M0 1.5H${(width * (done ?? 0)).toFixed(1)}" stroke="#2a9d76" stroke-width="3"/>`;
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" ` +
    `fill="none" stroke-linejoin="round" stroke-linecap="round" font-family="${fontFamily}" ` +
    `style="background:#fff;display:block">` +
    text(29, `font-size="16" font-weight="bold" fill="${ink.text}"`, board.title) +
    text(49, `font-size="12" fill="${ink.soft}"`, board.subtitle) +
    warningLines(board).map((words, i) => text(67 + 15 * i, `font-size="12" fill="${ink.alarm}"`, words))
      .join("") +
    charts.map((chart) => chartSvg(board, chart)).join("") + (done === undefined ? "" : bar) + "</svg>";
}

function chartAxes(board: LineBoard, chart: LineChart, id: string): Record<string, object> {
  const { width, height } = board, { left, top, right, bottom } = chart;
  const { x: across, y: up, xTicks, yTicks, isLowest } = axesOf(board, chart);
  const x = { domain: [left / width, right / width], range: across, nticks: xTicks };
  const y = { domain: [1 - bottom / height, 1 - top / height], range: up, nticks: yTicks };
  const labels = { showticklabels: isLowest, title: { text: isLowest ? board.xTitle : "", standoff: 6 } };
  const shared = id ? { matches: "x" } : {}, automargin = false;
  return {
    [`xaxis${id}`]: { ...x, ...labels, ...shared, anchor: `y${id}`, automargin },
    [`yaxis${id}`]: { ...y, anchor: `x${id}`, automargin },
  };
}

function lineTrace(line: Line, id: string, { title }: LineChart): Trace {
  const points = thin(line, 1000), { name, color } = line;
  return {
    type: "scatter",
    legendgroup: plotText(title), // its name alone does not say what it shows
    mode: points.length < 30 ? "lines+markers" : "lines",
    name: plotText(name),
    x: points.map(([x]) => x),
    y: points.map(([, y]) => y),
    xaxis: `x${id}`,
    yaxis: `y${id}`,
    line: { color, width: line.width ?? 2, dash: line.dash ? "dash" : "solid" },
    marker: { color, size: 4 },
  };
}

/** The board as a figure. */
export function boardFigure(board: LineBoard): Figure {
  const { width, height, charts } = board, left = charts[0]?.left ?? 0;
  const x = (px: number) => px / width, y = (px: number) => 1 - px / height;
  const where = { xref: "paper", yref: "paper", xanchor: "left", yanchor: "bottom" } as const;
  const bare = { ...where, showarrow: false, borderpad: 0, borderwidth: 0 };
  const note = (px: number, baseline: number, text: string, color: string = ink.text) => {
    return { ...bare, x: x(px), y: y(baseline + 5), text, font: { size: 12, color } };
  };
  const inside = { xref: "container", x: x(left), yref: "container", y: y(23), yanchor: "middle" } as const;
  const layout: FigureLayout = {
    width,
    height,
    margin: { l: 0, r: 0, t: 0, b: 0 },
    showlegend: false,
    hovermode: "closest",
    title: { text: board.title, subtitle: { text: board.subtitle }, ...inside },
    annotations: [
      ...warningLines(board).map((words, i) => note(left, 68 + 15 * i, escapeHtml(words), ink.alarm)),
      ...charts.map((chart) => note(chart.left, chart.top - 9, heading(chart, "span"))),
    ],
  };
  const ids = charts.map((_, i) => i === 0 ? "" : String(i + 1));
  for (const [i, chart] of charts.entries()) Object.assign(layout, chartAxes(board, chart, ids[i]!));
  const traces = charts.flatMap((chart, i) => chart.lines.map((line) => lineTrace(line, ids[i]!, chart)));
  return new Figure(traces, layout);
}
