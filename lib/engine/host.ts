/** What the engine says, and how it shows a download's progress: handed in by the program that uses it. @module */
import { refuseUnknown } from "./options.ts";

/** The progress of a download, shown. */
export interface HostProgress {
  /** Says how much is done, and anything else worth reading. */
  update(done: number, text?: string): void;
  /** Shows the last state. */
  end(): Promise<void>;
}

/** Where the engine's words go. */
export interface Host {
  /** Says what the engine is and what was passed over. Default: `console.error`. */
  say(text: string): void;
  /** Shows a download's progress. Default: nothing. */
  progress(options: { title: string; total: number; unit: string }): HostProgress;
  /** Whether this is a notebook's kernel, which the Stop button must not end. Default: no. */
  inNotebook(): boolean;
}

/** As it is configured now. */
export const host: Host = {
  say: (text) => console.error(text),
  progress: () => ({ update() {}, end: () => Promise.resolve() }),
  inNotebook: () => false,
};

/**
 * Says where the engine's words and its progress go. What is left out stays as it is.
 *
 * @throws {TypeError} If there is an option of another name.
 *
 * @example
 * ```ts
 * import { configureEngine } from "@nepa/engine";
 *
 * configureEngine({ say: (text) => console.log(text) });
 * ```
 */
export function configureEngine(options: Partial<Host>): void {
  refuseUnknown("configureEngine", options, Object.keys(host));
  Object.assign(host, options);
}
