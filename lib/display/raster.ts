/**
 * Figures as SVG and PNG without a browser: plotly draws into jsdom's document, resvg makes pixels of it. jsdom knows
 * nothing of the size of texts and has no canvas, so the little that plotly asks for is answered here.
 *
 * @module
 */
import { createRequire } from "node:module";
import { escapeHtml } from "./jupyter.ts";
import { pngUrl } from "./png.ts";

type Point = readonly [x: number, y: number];

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

/** resvg, with DejaVu Sans as npm ships it: with it a figure looks the same on every machine. */
async function openResvg() {
  await import("dejavu-fonts-ttf/package.json", { with: { type: "json" } }); // brings the package into the cache
  const { Resvg } = await import("@resvg/resvg-js"), { resolve } = createRequire(Deno.execPath());
  const fontFiles = ["", "-Bold"].map((kind) => resolve(`dejavu-fonts-ttf/ttf/DejaVuSans${kind}.ttf`));
  const font = { fontFiles, loadSystemFonts: false, defaultFontFamily: "DejaVu Sans" };
  return (svg: string, options: object = {}) => new Resvg(svg, { font, ...options });
}

/** Measures texts as resvg draws them, letter by letter. It tells how wide the ink is, so bars stand on both sides. */
export async function textMeasure(): Promise<Measure> {
  const draw = await openResvg(), known = new Map<string, number>();
  const ink = (text: string, weight: string) => {
    const style = `font-size="1000" font-weight="${weight}" xml:space="preserve"`;
    const svg = `<svg xmlns="http://www.w3.org/2000/svg"><text ${style}>|${escapeHtml(text)}|</text></svg>`;
    return draw(svg).getBBox()!.width / 1000;
  };
  const bars = { normal: ink("", "normal"), bold: ink("", "bold") };
  const width = (letter: string, weight: keyof typeof bars) => {
    const key = weight + letter;
    if (!known.has(key)) known.set(key, ink(letter, weight) - bars[weight]);
    return known.get(key)!;
  };
  return (text, bold) => [...text].reduce((sum, letter) => sum + width(letter, bold ? "bold" : "normal"), 0);
}

/** Where a transform such as "translate(1,2) rotate(90)" puts a point. */
function moved(point: Point, transform: string | null): Point {
  const steps = [...(transform ?? "").matchAll(/(\w+)\(([^)]*)\)/g)];
  return steps.reduceRight<Point>(([x, y], [, name, list]) => {
    const [p = 0, q, r = 0] = list!.split(/[ ,]+/).map(Number);
    if (name === "translate") return [x + p, y + (q ?? 0)];
    if (name === "scale") return [p * x, (q ?? p) * y];
    if (name !== "rotate") return [x, y];
    const cos = Math.cos(p * Math.PI / 180), sin = Math.sin(p * Math.PI / 180), u = x - (q ?? 0), v = y - r;
    return [cos * u - sin * v + (q ?? 0), sin * u + cos * v + r];
  }, point);
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

/** The corners of one text in its own coordinates; its lines are elements of class "line". */
function cornersOf(text: Element, width: Measure): Point[] {
  const size = parseFloat(inherited(text, "font-size", "fontSize")) || 12,
    lines = [...text.querySelectorAll("tspan.line")];
  const anchor = inherited(text, "text-anchor", "textAnchor");
  const w = Math.max(...(lines.length > 0 ? lines : [text]).map((line) => advance(line, width) * size));
  const x = Number(text.getAttribute!("x") ?? 0), y = Number(text.getAttribute!("y") ?? 0);
  const left = x - (anchor === "middle" ? w / 2 : anchor === "end" ? w : 0), top = y - 0.93 * size;
  const bottom = top + size * (1.17 + 1.3 * Math.max(0, lines.length - 1));
  return [[left, top], [left + w, top], [left, bottom], [left + w, bottom]];
}

/** The box around all texts in an element: of its boxes, that is all that plotly's layout depends on. */
function textBox(root: Element, ownTransform: boolean, width: Measure): object {
  const all = [...root.matches("text, tspan") ? [root] : root.querySelectorAll("text")].flatMap((text) => {
    let corners = text.textContent ? cornersOf(text, width) : [];
    for (let e: Element | null = text; e?.getAttribute; e = e.parentNode) {
      const transform = e !== root || ownTransform ? e.getAttribute("transform") : null;
      corners = corners.map((corner) => moved(corner, transform));
      if (e === root) break;
    }
    return corners;
  });
  const [xs, ys] = all.length > 0 ? [all.map(([x]) => x), all.map(([, y]) => y)] : [[0], [0]];
  const left = Math.min(...xs), top = Math.min(...ys), right = Math.max(...xs), bottom = Math.max(...ys);
  return { left, top, right, bottom, x: left, y: top, width: right - left, height: bottom - top };
}

/** The four calls that heat maps and images make on a canvas. */
function canvasContext(canvas: { width: number; height: number; toDataURL(): string }): object {
  const createImageData = (width: number, height: number) => {
    return { width, height, data: new Uint8ClampedArray(width * height * 4) };
  };
  const { width, height } = canvas, { data } = createImageData(width, height);
  canvas.toDataURL = () => pngUrl({ data, width, height, channels: 4 });
  return {
    fillStyle: "",
    createImageData,
    putImageData(image: ReturnType<typeof createImageData>, x: number, y: number) {
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
  const { JSDOM, VirtualConsole } = await import("jsdom"), width = await textMeasure();
  const window = new JSDOM("<!doctype html>", {
    runScripts: "outside-only",
    pretendToBeVisual: true,
    virtualConsole: new VirtualConsole(), // jsdom's "not implemented" goes nowhere
  }).window as unknown as Window;
  Object.assign(window.SVGElement.prototype, {
    getBoundingClientRect(this: Element) {
      return textBox(this, true, width);
    },
    getBBox(this: Element) {
      return textBox(this, false, width);
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

/** A figure in plotly's terms as an SVG document. The first call loads plotly, about a second. */
export async function drawSvg(figure: { layout: { width: number; height: number } }): Promise<string> {
  const window = await (opened ??= openPlotly()), { width, height } = figure.layout;
  const inside = window.JSON.parse(JSON.stringify(figure)) as object; // objects of that window, as in a browser
  const svg = await window.Plotly.toImage(inside, { format: "svg", width, height, imageDataOnly: true });
  return svg.replaceAll(/url\('(#[^']+)'\)/g, "url($1)"); // resvg takes no quotes there
}

/** An SVG document as a PNG file, `scale` pixels for each of its own. */
export async function rasterize(svg: string, scale = 1): Promise<Uint8Array> {
  const draw = await openResvg();
  const sharp = svg.replaceAll("image-rendering: pixelated", "image-rendering: optimizeSpeed"); // resvg's word for it
  return new Uint8Array(draw(sharp, { fitTo: { mode: "zoom", value: scale } }).render().asPng());
}
