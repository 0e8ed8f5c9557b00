/** Tables that show themselves, in a notebook and in a terminal. @module */
import { any, checkOptions, LONG, visible } from "../base/check.ts";
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
    checkOptions("Table", options, { title: any, note: any, format: any });
    this.columns = [...new Set(rows.flatMap((row) => Object.keys(row)))];
  }

  #text(row: Readonly<Record<string, Cell>>, column: string): string {
    const value = row[column];
    const { format = {} } = this.options, own = Object.hasOwn(format, column) ? format[column] : undefined;
    if (typeof value === "number") return (own ?? formatNumber)(value);
    return value === undefined || value === null ? "" : visible(String(value));
  }

  /** Whether a column holds numbers, and so stands to the right. */
  #numeric(column: string): boolean {
    return this.rows.some((row) => typeof row[column] === "number");
  }

  /** The table as lines of text. */
  toString(): string {
    const { title, note } = this.options;
    const body = [Object.fromEntries(this.columns.map((c) => [c, c])), ...this.rows];
    const widths = this.columns.map((c) => Math.max(...body.map((row) => this.#text(row, c).length)));
    const lines = body.map((row) =>
      this.columns.map((c, i) => {
        const text = this.#text(row, c);
        return this.#numeric(c) ? text.padStart(widths[i]!) : text.padEnd(widths[i]!);
      }).join("  ").trimEnd()
    );
    const above = title ? [visible(title)] : [], below = note ? [visible(note, LONG)] : [];
    return [...above, ...lines, ...below].join("\n");
  }

  /** The table as an HTML element, all text escaped. */
  toHtml(): string {
    const { title, note } = this.options;
    const line = (row: Readonly<Record<string, Cell>>, tag: string) => {
      const cells = this.columns.map((c) => {
        const style = `text-align:${this.#numeric(c) ? "right" : "left"}`;
        return `<${tag} style="${style}">${escapeHtml(this.#text(row, c))}</${tag}>`;
      });
      return `<tr>${cells.join("")}</tr>`;
    };
    const head = line(Object.fromEntries(this.columns.map((c) => [c, c])), "th");
    const caption = title ? `<caption>${escapeHtml(title)}</caption>` : "";
    const body = this.rows.map((row) => line(row, "td")).join("");
    return `<table>${caption}<thead>${head}</thead><tbody>${body}</tbody></table>` +
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
