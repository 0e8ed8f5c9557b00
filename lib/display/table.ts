/** Tables that show themselves, in a notebook and in a terminal. @module */
import { any, checkOptions, expectKinds, list, LONG, visible } from "../base/check.ts";
import { consoleDisplay, escapeHtml, jupyterDisplay, type MediaBundle } from "./jupyter.ts";

/** What a table's cell holds. */
export type Cell = string | number | boolean | null | undefined;

/** Options of {@linkcode Table}. */
export interface TableOptions {
  /** A line above. */
  title?: string;
  /** A line below. */
  note?: string;
  /** How the numbers of a column are written, by the column's name. Default: at most four significant digits. */
  format?: Record<string, (value: number) => string>;
}

/** A number with at most four significant digits, whole numbers with their thousands apart. */
export function formatNumber(value: number): string {
  if (!Number.isFinite(value)) return String(value);
  if (Number.isInteger(value)) return value.toLocaleString("en-US");
  const size = Math.abs(value);
  if (size < 1e-4 || size >= 1e7) return value.toExponential(2);
  return size >= 1000 ? value.toFixed(0) : String(Number(value.toPrecision(4)));
}

/** A share from 0 to 1 as percent with one decimal: 0.8251 is "82.5 %". */
export function formatPercent(share: number): string {
  return `${(100 * share).toFixed(1)} %`;
}

/**
 * Rows of named cells. Numbers stand to the right.
 *
 * @example
 * ```ts
 * import { formatPercent, Table } from "nepa";
 * import { assertEquals } from "@std/assert";
 *
 * const table = new Table([{ digit: "one", share: 0.25 }, { digit: "two", share: 0.75 }], {
 *   format: { share: formatPercent },
 * });
 * assertEquals(table.toString(), "digit   share\none    25.0 %\ntwo    75.0 %");
 * ```
 */
export class Table {
  /** Column names, in the order in which the rows first have them. */
  readonly columns: readonly string[];

  /**
   * Nothing is computed before the table is shown.
   *
   * @param rows One record for each row; a column that a row lacks stays empty.
   */
  constructor(readonly rows: readonly Readonly<Record<string, Cell>>[], readonly options: TableOptions = {}) {
    expectKinds("Table", { rows: [rows, list] });
    checkOptions("Table", options, { title: any, note: any, format: any });
    this.columns = [...new Set(rows.flatMap((row) => Object.keys(row)))];
  }

  /** The texts of all rows, the columns' names first, each made `as` its place asks for; numbers' columns stand to the right. */
  #lines(as: (text: string, right: boolean, column: number, row: number) => string): string[][] {
    const { format = {} } = this.options;
    const textOf = (value: Cell, column: string) => {
      const own = Object.hasOwn(format, column) ? format[column]! : formatNumber;
      return typeof value === "number" ? own(value) : visible(String(value ?? ""));
    };
    const right = this.columns.map((column) => this.rows.some((row) => typeof row[column] === "number"));
    const rows = this.rows.map((row) => this.columns.map((column) => textOf(row[column], column)));
    const head = this.columns.map((column) => visible(column));
    return [head, ...rows].map((texts, row) => texts.map((text, i) => as(text, right[i]!, i, row)));
  }

  /** The table as lines of text. */
  toString(): string {
    const { title, note } = this.options, plain = this.#lines((text) => text);
    const widths = this.columns.map((_, i) => Math.max(...plain.map((row) => row[i]!.length)));
    const lines = this.#lines((text, right, i) =>
      right ? text.padStart(widths[i]!) : text.padEnd(widths[i]!)
    );
    const above = title ? [visible(title)] : [], below = note ? [visible(note, LONG)] : [];
    return [...above, ...lines.map((row) => row.join("  ").trimEnd()), ...below].join("\n");
  }

  /** The table as an HTML element, all text escaped. */
  toHtml(): string {
    const { title, note } = this.options;
    const [head, ...body] = this.#lines((text, right, _, row) => {
      const tag = row === 0 ? "th" : "td";
      return `<${tag} style="text-align:${right ? "right" : "left"}">${escapeHtml(text)}</${tag}>`;
    }).map((cells) => `<tr>${cells.join("")}</tr>`);
    const caption = title ? `<caption>${escapeHtml(title)}</caption>` : "";
    return `<table>${caption}<thead>${head}</thead><tbody>${body.join("")}</tbody></table>` +
      (note ? `<p>${escapeHtml(note)}</p>` : "");
  }

  /** How it shows itself in a notebook. */
  [jupyterDisplay](): MediaBundle {
    return { "text/html": this.toHtml(), "text/plain": this.toString() };
  }

  /** How it prints in a terminal. */
  [consoleDisplay](): string {
    return this.toString();
  }
}
