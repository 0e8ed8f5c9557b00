/** Runs that were made and never begun, as by `await pretrain(…)` without a loop: nothing is trained. @module */
import { inNotebook, say } from "../display/jupyter.ts";

/** Where the run was made, by the model that waits for it. */
const waiting = new Map<object, string>();
let watched = false;

const text = (place: string) =>
  `the run made at ${place} was never begun, so nothing was trained: \`await run.finish()\`, \`await plotRun(run)\` or a loop ` +
  "over it trains";

/** Takes note of a run that was made of a model; the end of the process tells of it, if it is never begun. */
export function waits(model: object, place: string): void {
  waiting.set(model, place);
  if (watched || inNotebook()) return;
  watched = true;
  globalThis.addEventListener("unload", () => {
    if (Deno.exitCode === 0) new Set(waiting.values()).forEach((place) => say(text(place)));
  });
}

/** A run of the model was begun, or given up. */
export function waitsNoMore(model: object): void {
  waiting.delete(model);
}

/** Says so if a run was made of a model that is saved, and not begun. */
export function sayIfWaiting(model: object): void {
  const place = waiting.get(model);
  if (place !== undefined) say(`save: ${text(place)}`);
}
