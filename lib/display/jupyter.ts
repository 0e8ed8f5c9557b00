/** The one place that talks to Jupyter: media bundles, and cells that change while they run. @module */

import { LONG, visible } from "../base/check.ts";

/** The method by which a value shows itself when it is the last one of a notebook's cell. */
export const jupyterDisplay: unique symbol = Symbol.for("Jupyter.display");

/** The method by which a value prints itself in a terminal. */
export const consoleDisplay: unique symbol = Symbol.for("Deno.customInspect");

/** One value in several formats, by media type; a front end shows the richest that it knows. PNG is base64. */
export type MediaBundle = Record<string, string | object>;

/** What can show itself in both. */
export interface Shown {
  [jupyterDisplay](): MediaBundle | Promise<MediaBundle>;
  [consoleDisplay](): string;
}

/** Words that show themselves as they are. */
export function plainText(text: string): Shown {
  return { [jupyterDisplay]: () => ({ "text/plain": text }), [consoleDisplay]: () => text };
}

/** Lets an object, or all of a prototype, show itself as something else does. */
export function showAs<T extends object>(target: T, other: (value: T) => Shown): T {
  const by = (name: typeof jupyterDisplay | typeof consoleDisplay) => ({
    configurable: true,
    value(this: T) {
      return other(this)[name]();
    },
  });
  return Object.defineProperties(target, {
    [jupyterDisplay]: by(jupyterDisplay),
    [consoleDisplay]: by(consoleDisplay),
  });
}

/** Whether this code runs in a cell of Deno's Jupyter kernel. */
export function inNotebook(): boolean {
  try {
    return typeof Deno === "object" && "broadcast" in Deno.jupyter;
  } catch { // outside a kernel Deno.jupyter throws when it is read
    return false;
  }
}

/** Says it where people look: standard error looks like trouble in a notebook. */
export function say(text: string): void {
  (inNotebook() ? console.log : console.error)(visible(text, LONG));
}

/**
 * Shows a bundle below the running cell, or in place of what stands under its name, wherever that is.
 *
 * @param id A name by which it can be replaced.
 */
export async function showDisplay(bundle: MediaBundle, id?: string, replace = false): Promise<void> {
  const transient = id === undefined ? {} : { display_id: id };
  const type = replace ? "update_display_data" : "display_data";
  await Deno.jupyter.broadcast(type, { data: bundle, metadata: {}, transient });
}

/**
 * A part of a notebook's cell that is drawn again and again.
 *
 * @returns Draws the next frame soon; resolves when all have been handed over. While one is on its way only the newest of the
 * others is kept.
 */
export function liveDisplay(): (frame: MediaBundle) => Promise<void> {
  const id = crypto.randomUUID();
  let sending: Promise<void> | undefined, next: MediaBundle | undefined, shown = false;
  const send = async () => {
    while (next !== undefined) {
      const bundle = next;
      next = undefined;
      await showDisplay(bundle, id, shown);
      shown = true;
    }
    sending = undefined;
  };
  return (frame) => {
    next = frame;
    return sending ??= send();
  };
}

/** Text made safe to stand in HTML or SVG, attribute values included. */
export function escapeHtml(text: string): string {
  return visible(text, LONG).replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);
}

const noticed = new Set<string>();

/** Says something once in a process. */
export function notice(text: string): void {
  if (noticed.has(text)) return;
  noticed.add(text);
  say(text);
}
