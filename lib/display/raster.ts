/**
 * Figures as SVG and PNG without a browser: plotly draws into jsdom's document, resvg makes pixels of it. jsdom knows
 * nothing of the size of texts and has no canvas, so the little that plotly asks for is answered here.
 *
 * @module
 */
import { createRequire } from "node:module";
import { fontFiles, textMeasure } from "./font.ts";
import { encodePng } from "./png.ts";

/** What plotly draws. */
export interface Drawing {
  data: unknown;
  layout: unknown;
  width: number;
  height: number;
}

/** x' = a x + c y + e, y' = b x + d y + f. */
type Matrix = readonly [a: number, b: number, c: number, d: number, e: number, f: number];

interface Box {
  left: number;
  top: number;
  right: number;
  bottom: number;
}

/** The width of a text in ems. */
type Measure = (text: string, bold: boolean) => number;

/** The part of a document's nodes used here. */
interface Element {
  nodeType: number;
  textContent: string;
  childNodes: Iterable<Element>;
  parentNode: Element | null;
  style?: Partial<Record<string, string>>;
  matches(selector: string): boolean;
  getAttribute?(name: string): string | null;
  querySelectorAll(selector: string): Iterable<Element>;
}

/** What jsdom and plotly, which bring no types, are asked for. */
interface Window {
  eval(code: string): unknown;
  JSON: typeof JSON;
  SVGElement: { prototype: object };
  HTMLCanvasElement: { prototype: object };
  Plotly: { toImage(figure: object, options: object): Promise<string> };
}

const identity: Matrix = [1, 0, 0, 1, 0, 0];

function times(m: Matrix, n: Matrix): Matrix {
  const [a, b, c, d, e, f] = m, [A, B, C, D, E, F] = n;
  return [a * A + c * B, b * A + d * B, a * C + c * D, b * C + d * D, a * E + c * F + e, b * E + d * F + f];
}

function parseTransform(transform: string | null | undefined): Matrix {
  let m = identity;
  for (const [, name, list] of (transform ?? "").matchAll(/(\w+)\(([^)]*)\)/g)) {
    const [p = 0, q, r = 0] = list!.split(/[ ,]+/).map(Number);
    if (name === "translate") m = times(m, [1, 0, 0, 1, p, q ?? 0]);
    if (name === "scale") m = times(m, [p, 0, 0, q ?? p, 0, 0]);
    if (name === "rotate") {
      const cos = Math.cos(p * Math.PI / 180), sin = Math.sin(p * Math.PI / 180), x = q ?? 0;
      m = times(times(times(m, [1, 0, 0, 1, x, r]), [cos, sin, -sin, cos, 0, 0]), [1, 0, 0, 1, -x, -r]);
    }
  }
  return m;
}

/** A style or attribute of an element, or of the nearest around it that has one. */
function inherited(element: Element, name: string, style: string): string {
  for (let e: Element | null = element; e?.getAttribute; e = e.parentNode) {
    const said = e.style?.[style] || e.getAttribute(name);
    if (said) return said;
  }
  return "";
}

/** How wide a text's letters stand, in ems. */
function advance(element: Element, width: Measure): number {
  const bold = /bold|[6-9]00/.test(inherited(element, "font-weight", "fontWeight"));
  return [...element.childNodes].reduce(
    (sum, node) => sum + (node.nodeType === 3 ? width(node.textContent, bold) : advance(node, width)),
    0,
  );
}

/** The box of one text in its own coordinates; its lines are elements of class "line". */
function ownBox(text: Element, width: Measure): Box {
  const size = parseFloat(inherited(text, "font-size", "fontSize")) || 12,
    lines = [...text.querySelectorAll("tspan.line")];
  const anchor = inherited(text, "text-anchor", "textAnchor");
  const w = Math.max(...(lines.length > 0 ? lines : [text]).map((line) => advance(line, width) * size));
  const x = Number(text.getAttribute!("x") ?? 0), y = Number(text.getAttribute!("y") ?? 0);
  const left = x - (anchor === "middle" ? w / 2 : anchor === "end" ? w : 0), top = y - 0.93 * size;
  return { left, top, right: left + w, bottom: top + size * (1.17 + 1.3 * Math.max(0, lines.length - 1)) };
}

/** The union of all texts in an element: of its boxes, that is all that plotly's layout depends on. */
function textBox(root: Element, ownTransform: boolean, width: Measure): Box {
  const union = { left: Infinity, top: Infinity, right: -Infinity, bottom: -Infinity };
  for (const text of root.matches("text, tspan") ? [root] : root.querySelectorAll("text")) {
    if (!text.textContent) continue;
    let m = identity;
    for (let e: Element | null = text; e?.getAttribute; e = e.parentNode) {
      if (e !== root || ownTransform) m = times(parseTransform(e.getAttribute("transform")), m);
      if (e === root) break;
    }
    const { left, top, right, bottom } = ownBox(text, width);
    for (const [x, y] of [[left, top], [right, top], [left, bottom], [right, bottom]] as const) {
      const u = m[0] * x + m[2] * y + m[4], v = m[1] * x + m[3] * y + m[5];
      union.left = Math.min(union.left, u);
      union.right = Math.max(union.right, u);
      union.top = Math.min(union.top, v);
      union.bottom = Math.max(union.bottom, v);
    }
  }
  return union.left === Infinity ? { left: 0, top: 0, right: 0, bottom: 0 } : union;
}

/** The four calls that heat maps and images make on a canvas. */
function canvasContext(canvas: { width: number; height: number; toDataURL(): string }): object {
  const { width, height } = canvas, data = new Uint8ClampedArray(width * height * 4);
  canvas.toDataURL = () =>
    `data:image/png;base64,${encodePng({ data, width, height, channels: 4 }).toBase64()}`;
  return {
    fillStyle: "",
    createImageData: (w: number, h: number) => ({
      width: w,
      height: h,
      data: new Uint8ClampedArray(w * h * 4),
    }),
    putImageData(image: { width: number; height: number; data: Uint8ClampedArray }, x: number, y: number) {
      for (let r = 0; r < image.height; r++) {
        const row = image.data.subarray(r * image.width * 4, (r + 1) * image.width * 4);
        data.set(row, ((y + r) * width + x) * 4);
      }
    },
    fillRect(this: { fillStyle: string }, left: number, top: number, w: number, h: number) {
      const [r = 0, g = 0, b = 0, a = 1] = (this.fillStyle.match(/[\d.]+/g) ?? []).map(Number);
      for (let y = Math.max(0, top); y < Math.min(height, top + h); y++) {
        for (let x = Math.max(0, left); x < Math.min(width, left + w); x++) {
          data.set([r, g, b, a * 255], (y * width + x) * 4);
        }
      }
    },
  };
}

async function openPlotly(): Promise<Window> {
  await import("plotly.js-cartesian-dist-min/package.json", { with: { type: "json" } });
  const { JSDOM, VirtualConsole } = await import("jsdom");
  const { regular, bold } = await fontFiles();
  const thin = textMeasure(await Deno.readFile(regular)), thick = textMeasure(await Deno.readFile(bold));
  const width: Measure = (text, isBold) => (isBold ? thick : thin)(text);
  const window = new JSDOM("<!doctype html>", {
    runScripts: "outside-only",
    pretendToBeVisual: true,
    virtualConsole: new VirtualConsole(), // jsdom's "not implemented" goes nowhere
  }).window as unknown as Window;
  const rect = (b: Box) => ({ ...b, x: b.left, y: b.top, width: b.right - b.left, height: b.bottom - b.top });
  Object.assign(window.SVGElement.prototype, {
    getBoundingClientRect(this: Element) {
      return rect(textBox(this, true, width));
    },
    getBBox(this: Element) {
      return rect(textBox(this, false, width));
    },
  });
  Object.assign(window.HTMLCanvasElement.prototype, {
    getContext(this: Parameters<typeof canvasContext>[0]) {
      return canvasContext(this);
    },
  });
  window.eval(
    await Deno.readTextFile(createRequire(Deno.execPath()).resolve("plotly.js-cartesian-dist-min")),
  );
  return window;
}

let opened: Promise<Window> | undefined;

/** The figure as an SVG document. The first call loads plotly, about a second. */
export async function drawSvg({ data, layout, width, height }: Drawing): Promise<string> {
  const window = await (opened ??= openPlotly());
  const figure = window.JSON.parse(JSON.stringify({ data, layout })) as object; // objects of that window, as in a browser
  const svg = await window.Plotly.toImage(figure, { format: "svg", width, height, imageDataOnly: true });
  return svg.replaceAll(/url\('(#[^']+)'\)/g, "url($1)"); // resvg takes no quotes there
}

/** An SVG document as a PNG file, `scale` pixels for each of its own. */
export async function rasterize(svg: string, scale = 1): Promise<Uint8Array> {
  const { Resvg } = await import("@resvg/resvg-js");
  const { regular, bold } = await fontFiles();
  const font = { fontFiles: [regular, bold], loadSystemFonts: false, defaultFontFamily: "DejaVu Sans" };
  const sharp = svg.replaceAll("image-rendering: pixelated", "image-rendering: optimizeSpeed"); // resvg's word for it
  return new Uint8Array(new Resvg(sharp, { font, fitTo: { mode: "zoom", value: scale } }).render().asPng());
}
