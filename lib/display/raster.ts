/**
 * Figures as SVG and PNG without a browser: plotly draws into jsdom's document, resvg makes pixels of it. jsdom knows
 * nothing of the size of texts and has no canvas, so the little that plotly asks for is answered here.
 *
 * @module
 */
import { createRequire } from "node:module";
import { pngUrl } from "./png.ts";

/** The part of a document's nodes used here. */
interface Element {
  textContent: string;
  cloneNode(deep: boolean): Element;
  closest(selector: string): Element | null;
  querySelectorAll(selector: string): ArrayLike<Element> & Iterable<Element>;
  removeAttribute(name: string): void;
  append(child: Element): void;
  after(next: Element): void;
}

/** What jsdom and plotly, which bring no types, are asked for. */
interface Window {
  eval(code: string): unknown;
  JSON: typeof JSON;
  XMLSerializer: new () => { serializeToString(element: Element): string };
  document: { createElementNS(space: string, name: string): Element };
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

/**
 * Gives the box around all texts in an element, as resvg draws them: of its boxes, that is all that plotly's layout depends on.
 * A bar, as high as a line of text, stands beside each, so that lines are alike whatever their letters.
 */
function textBoxes({ document, XMLSerializer }: Window, draw: Awaited<ReturnType<typeof openResvg>>) {
  return (element: Element, ownTransform: boolean) => {
    const picture = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    const copy = (element.closest("text") ?? element).cloneNode(true);
    if (!ownTransform) copy.removeAttribute("transform");
    picture.append(copy);
    for (const text of [...picture.querySelectorAll("text")].filter(({ textContent }) => textContent)) {
      const bars = text.cloneNode(true), lines = bars.querySelectorAll("tspan.line");
      for (const line of lines.length > 0 ? lines : [bars]) line.textContent = "│";
      text.after(bars);
    }
    const { x = 0, y = 0, width = 0, height = 0 } =
      draw(new XMLSerializer().serializeToString(picture)).getBBox() ?? {};
    return { x, y, left: x, top: y, right: x + width, bottom: y + height, width, height };
  };
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

/** A document with plotly in it. */
export async function openPlotly(): Promise<Window> {
  await import("plotly.js-cartesian-dist-min/package.json", { with: { type: "json" } });
  const { JSDOM, VirtualConsole } = await import("jsdom");
  const window = new JSDOM("<!doctype html>", {
    runScripts: "outside-only",
    pretendToBeVisual: true,
    virtualConsole: new VirtualConsole(), // jsdom's "not implemented" goes nowhere
  }).window as unknown as Window;
  const box = textBoxes(window, await openResvg());
  Object.assign(window.SVGElement.prototype, {
    getBoundingClientRect(this: Element) {
      return box(this, true);
    },
    getBBox(this: Element) {
      return box(this, false);
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
