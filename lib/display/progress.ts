/** Progress of long work: a bar in a terminal, a live cell in a notebook, now and then a line elsewhere. @module */
import { any, checkOptions, notNegative, visible } from "../base/check.ts";
import { escapeHtml, inNotebook, liveDisplay, type MediaBundle } from "./jupyter.ts";

/** What {@linkcode progress} is told at the start. */
export interface ProgressOptions {
  /** What is being done, in a word or two. */
  title: string;
  /** How much there is to do, in `unit`s. */
  total: number;
  /** What is counted: "steps", "MB". Default: nothing is said. */
  unit?: string;
  /** What to read beside it from the beginning: "compiling". Default: nothing is shown before the first update. */
  text?: string;
}

/** Progress being shown; `await using` ends it. */
export interface Progress extends AsyncDisposable {
  /** Says how much is done, and anything else worth reading; drawn at most ten times a second. */
  update(done: number, text?: string): void;
  /**
   * Draws the last state, which stays with this text, and goes without one. Await it in a notebook, and it is drawn for sure.
   */
  end(text?: string): Promise<void>;
}

interface State extends ProgressOptions {
  done: number;
  text: string;
  /** Seconds since the first update. */
  seconds: number;
  /** Seconds still to go, when known. */
  left?: number | undefined;
}

/** Seconds as people read them: "0:07", "12:03", "1:02:03". */
export function formatDuration(seconds: number): string {
  const s = Math.round(seconds), two = (n: number) => String(Math.floor(n)).padStart(2, "0");
  const minutes = s < 3600 ? Math.floor(s / 60) : `${Math.floor(s / 3600)}:${two(s / 60 % 60)}`;
  return `${minutes}:${two(s % 60)}`;
}

/** The seconds left by the pace so far. The clock starts at the first call: what comes before is preparation. */
export function pace(total: number): (done: number) => number | undefined {
  let first: { done: number; time: number } | undefined;
  return (done) => {
    const now = performance.now();
    first ??= { done, time: now };
    const rate = (done - first.done) / (now - first.time) * 1000;
    return rate > 0 ? (total - done) / rate : undefined;
  };
}

/** An amount: whole numbers stay whole, others get one decimal. */
const amount = (n: number) => Number.isInteger(n) ? String(n) : n.toFixed(1);

function words({ done, total, unit, text, seconds, left }: State): string {
  const goesOn = done < total && left !== undefined, of = unit ? ` ${unit}` : "";
  const time = goesOn ? `${formatDuration(left)} left` : done > 0 && `in ${formatDuration(seconds)}`;
  return [`${amount(done)}/${amount(total)}${of}`, time, text].filter((s) => s).join("  ");
}

/** One line of at most `width` characters, the bar in its middle. */
export function progressLine(state: State, width: number, [full, half, empty] = ["━", "╸", "·"]): string {
  const after = words(state), length = Math.min(30, width - state.title.length - after.length - 4);
  const halves = Math.round(2 * length * Math.min(1, state.total > 0 ? state.done / state.total : 1));
  const bar = full!.repeat(Math.max(0, halves >> 1)) + (halves & 1 ? half : "");
  const line = length < 6
    ? `${state.title}  ${after}`
    : `${state.title}  ${bar.padEnd(length, empty)}  ${after}`;
  return visible(line.length <= width ? line : line.slice(0, width - 1) + "…", width);
}

/** The same for a notebook: a browser's own bar, the words beside it so that they stay where the bar is dropped. */
function progressBundle(state: State): MediaBundle {
  const { title, done, total } = state;
  const bar = `<progress max="${total}" value="${Math.min(done, total)}" style="width:16em"></progress>`;
  return {
    "text/html": `<div>${escapeHtml(title)} ${bar} ${escapeHtml(words(state))}</div>`,
    "text/plain": progressLine(state, 100, ["#", "#", "."]),
  };
}

/** How the state is shown; in the end it stays, or goes. */
type Show = (state: State, end?: "stays" | "goes") => void | Promise<void>;

function inCell(): Show {
  const draw = liveDisplay();
  let shown = false;
  return (state, end) => {
    if (end === "goes" && !shown) return;
    shown = true;
    return draw(end === "goes" ? { "text/plain": "" } : progressBundle(state));
  };
}

const inTerminal: Show = (state, end) => {
  try {
    const width = Deno.consoleSize().columns || 80; // 0 where a terminal does not tell
    const line = end === "goes" ? "" : progressLine(state, width - 1);
    Deno.stderr.writeSync(new TextEncoder().encode(`\r${line}\x1b[K${end === "stays" ? "\n" : ""}`));
  } catch { /* the terminal was closed */ }
};

/** Seconds from the beginning to the first plain line, and from each to the next. */
const FIRST = 10, NEXT = 30;

/** A line by the clock, whether anything is heard of the work or not. */
function inLines(state: State): Show {
  let next = performance.now() + 1000 * FIRST;
  const draw = () => {
    const now = performance.now();
    if (now < next) return;
    next = now + 1000 * NEXT;
    console.error(`${state.title}  ${words(state)}`);
  };
  const timer = setInterval(draw, 500);
  Deno.unrefTimer(timer);
  return (_, end) => end ? clearInterval(timer) : draw();
}

/** Whether `NEPA_QUIET=1`, without a question where the environment may not be read. */
function isQuiet(): boolean {
  const { state } = Deno.permissions.querySync({ name: "env", variable: "NEPA_QUIET" });
  return state === "granted" && Deno.env.get("NEPA_QUIET") === "1";
}

/**
 * Shows the progress of long work: a bar with the time left on standard error where that is a terminal, a live cell in a
 * notebook. Elsewhere there is a line on standard error after 10 seconds, and then every 30. `NEPA_QUIET=1` has neither bar
 * nor lines.
 *
 * @example
 * ```ts
 * import { progress } from "nepa";
 *
 * const bar = progress({ title: "counting", total: 1000, unit: "sheep" });
 * for (let i = 1; i <= 1000; i++) bar.update(i);
 * await bar.end("asleep");
 * ```
 */
export function progress(options: ProgressOptions): Progress {
  checkOptions("progress", options, { title: any, total: notNegative, unit: any, text: any });
  const started = performance.now(), state: State = { text: "", ...options, done: 0, seconds: 0 };
  const show: Show = inNotebook()
    ? inCell()
    : isQuiet()
    ? () => {}
    : Deno.stderr.isTerminal()
    ? inTerminal
    : inLines(state);
  const timeLeft = pace(options.total);
  let drawn = -Infinity, over = false;
  const tick = (done: number, text = state.text) => {
    const now = performance.now();
    Object.assign(state, { done, text, seconds: (now - started) / 1000, left: timeLeft(done) });
    return now;
  };
  const update = (done: number, text?: string) => {
    const now = tick(done, text);
    if (over || now - drawn < 100) return;
    drawn = now;
    show(state);
  };
  const end = async (text?: string) => {
    if (over) return;
    over = true;
    tick(state.done, text);
    delete state.left;
    await show(state, text === undefined ? "goes" : "stays");
  };
  if (options.text !== undefined) show(state);
  return { update, end, [Symbol.asyncDispose]: () => end() };
}
