/** A report: one HTML file that holds everything it shows. @module */
import { escapeHtml } from "../lib/display/jupyter.ts";
import { type Figure, formatNumber, Table } from "nepa";

/** A part of a {@linkcode report}. */
export interface ReportSection {
  /** Its heading. */
  title: string;
  /** What there is to see, in plain text; a blank line begins a new paragraph. */
  text?: string;
  /** Figures, tables, and text to be set as code, such as a configuration. */
  shows?: readonly (Figure | Table | string)[];
}

/** What a {@linkcode report} says. */
export interface ReportOptions {
  /** The heading, and the name of the page. */
  title: string;
  /** What was done and found, in a sentence or two. */
  lead: string;
  /** The numbers to see first, by what they are. */
  highlights?: Readonly<Record<string, string | number>>;
  /** The parts, in the order in which they are read. */
  sections: readonly ReportSection[];
  /** Engine, seed, time and the like, by name. */
  facts?: Readonly<Record<string, string | number>>;
  /** The commands that make it again. */
  commands?: readonly string[];
}

const style = `
:root { color-scheme: light; --ink: #1f2733; --soft: #5b6675; --line: #dfe4ea; --accent: #2b6cb0; }
* { box-sizing: border-box; }
body { margin: 0; background: #f4f6f9; color: var(--ink); line-height: 1.55;
  font: 1rem/1.55 system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 64rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }
h1 { font-size: clamp(1.6rem, 4vw, 2.3rem); line-height: 1.2; margin: 0 0 .6rem; letter-spacing: -.01em; }
h2 { font-size: 1.2rem; margin: 0 0 .5rem; }
p { margin: 0 0 .8rem; max-width: 46rem; }
.lead { font-size: 1.1rem; color: var(--soft); margin-bottom: 1.6rem; }
.highlights { display: grid; grid-template-columns: repeat(auto-fit, minmax(10.5rem, 1fr)); gap: .9rem; margin: 0 0 1.4rem; }
.highlights div { background: #fff; border: 1px solid var(--line); border-top: 3px solid var(--accent);
  border-radius: .5rem; padding: .8rem 1rem; display: flex; flex-direction: column-reverse; justify-content: flex-end; }
.highlights dd { margin: 0; font-size: 1.65rem; font-weight: 650; font-variant-numeric: tabular-nums; }
.highlights dt { color: var(--soft); font-size: .88rem; line-height: 1.35; }
section { background: #fff; border: 1px solid var(--line); border-radius: .6rem; padding: 1.4rem 1.5rem; margin: 0 0 1.4rem; }
figure { margin: .8rem 0 0; overflow-x: auto; }
img { display: block; max-width: 100%; height: auto; }
.table { overflow-x: auto; margin-top: .8rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--soft); padding-bottom: .4rem; }
th { color: var(--soft); font-weight: 600; font-size: .88rem; border-bottom: 2px solid var(--line); }
th, td { padding: .42rem 1.4rem .42rem 0; vertical-align: top; }
td { border-bottom: 1px solid var(--line); }
tr:last-child td { border-bottom: 0; }
.table p { color: var(--soft); font-size: .9rem; margin: .6rem 0 0; }
pre { background: #f4f6f9; border: 1px solid var(--line); border-radius: .4rem; padding: .8rem 1rem; overflow: auto;
  max-height: 26rem; font: .86rem/1.5 ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; margin: .8rem 0 0; }
.facts { display: grid; grid-template-columns: max-content 1fr; gap: .3rem 1.4rem; margin: 0; }
.facts dt { color: var(--soft); }
.facts dd { margin: 0; overflow-wrap: anywhere; }
@media (max-width: 34rem) { img { max-width: none; } section { padding: 1rem; } .facts { grid-template-columns: 1fr; gap: 0; } .facts dd { margin-bottom: .5rem; } }
@media print { body { background: #fff; } section, .highlights div { break-inside: avoid; } }
`;

async function shown(content: Figure | Table | string): Promise<string> {
  if (typeof content === "string") return `<pre>${escapeHtml(content)}</pre>`;
  if (content instanceof Table) return `<div class="table">${content.toHtml()}</div>`;
  const url = `data:image/svg+xml;base64,${new TextEncoder().encode(await content.svg()).toBase64()}`;
  const size = `width="${content.width}" height="${content.height}"`;
  return `<figure><img src="${url}" ${size} alt="${escapeHtml(content.toString())}"></figure>`;
}

/** A list of names and what they are. */
function list(className: string, entries: Readonly<Record<string, string | number>> = {}): string {
  const items = Object.entries(entries).map(([name, value]) => {
    const pair = `<dt>${escapeHtml(name)}</dt><dd>${
      escapeHtml(typeof value === "number" ? formatNumber(value) : value)
    }</dd>`;
    return className === "highlights" ? `<div>${pair}</div>` : pair;
  });
  return items.length > 0 ? `<dl class="${className}">${items.join("")}</dl>` : "";
}

async function section({ title, text = "", shows = [] }: ReportSection): Promise<string> {
  const paragraphs = text.split(/\n\s*\n/).filter((p) => p.trim()).map((p) =>
    `<p>${escapeHtml(p.trim())}</p>`
  );
  const parts = await Promise.all(shows.map(shown));
  return `<section><h2>${escapeHtml(title)}</h2>${paragraphs.join("")}${parts.join("")}</section>`;
}

/**
 * A report as one HTML file: it opens offline, loads nothing and runs nothing, and reads on a telephone and on paper.
 *
 * @returns The file's text.
 */
export async function report(options: ReportOptions): Promise<string> {
  const { title, lead, highlights, facts, commands = [] } = options;
  const sections = await Promise.all(options.sections.map(section));
  const again = commands.length > 0 ? `<pre>${escapeHtml(commands.join("\n"))}</pre>` : "";
  const how = facts || again
    ? `<section><h2>How it was made</h2>${list("facts", facts)}${again}</section>`
    : "";
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<title>${escapeHtml(title)}</title>
<style>${style}</style>
</head>
<body>
<main>
<header><h1>${escapeHtml(title)}</h1><p class="lead">${escapeHtml(lead)}</p>${
    list("highlights", highlights)
  }</header>
${sections.join("\n")}
${how}
</main>
</body>
</html>
`;
}
