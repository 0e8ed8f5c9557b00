/** A training run: an async iterable of steps that can be left, stopped and taken up again. @module */
import type * as tf from "@tensorflow/tfjs";
import { callSite } from "../base/check.ts";
import { NonFiniteError } from "../base/finite.ts";
import { onInterrupt, onTerminate, RunInterrupted } from "@nepa/engine";
import { consoleDisplay, inNotebook, jupyterDisplay, type MediaBundle, showAs } from "../display/jupyter.ts";
import { progress } from "../display/progress.ts";
import { Table } from "../display/table.ts";
import { waits, waitsNoMore } from "../model/unbegun.ts";
import { LOSS_WINDOW, meanLoss, type Step } from "./history.ts";

export { NonFiniteError } from "../base/finite.ts";

/** What {@linkcode Run.finish} gives. */
export interface RunResult extends Pick<Step, "best" | "test"> {
  /** Updates done. */
  steps: number;
  /** Mean loss of the first 50 updates, or of the first half where there are fewer than 100. */
  lossFirst: number;
  /** Mean loss of as many at the end. */
  lossLast: number;
  history: readonly Step[];
  /** Whether it ended before its last step. */
  stopped: boolean;
}

/** Averaged weights: of the model, and of what an objective has besides. */
interface RunAverages {
  readonly model: unknown;
  readonly own: ReadonlyMap<string, tf.Variable>;
}

/** What a run drives: the state of a training and how to move it on by one update. */
export interface Training {
  /** Updates in all. */
  readonly steps: number;
  /** Gets the data of update `step` (from 0) ready, without tensors. Called while the update before it runs. */
  prepare(step: number): Promise<void>;
  /** Update `step`. */
  update(step: number): Promise<Step>;
  /** Measures after update `step` what is measured at the last one, for a run that stops there; changes nothing. */
  read?(step: number): Promise<Partial<Step>>;
  /** Whether the loss is minus a cosine, to be compared with what trivial guesses reach. Default: yes. */
  readonly cosine?: boolean;
  /** Lets go of what only further updates need. */
  dispose(): void;
}

/** What keeps a run on disk, so that another process can go on with it. */
export interface Keeper {
  /** Takes hold of the disk before updates are made. The first time it gives what was done before, if anything. */
  begin(done: number): Promise<{ done: number; history: Step[] } | undefined>;
  /** Called after each update, the last of the history. */
  after(history: readonly Step[]): Promise<void>;
  /** After update `failed`, from 0, failed: goes back to what was kept, and gives how many updates are done then. Or throws. */
  rollBack(error: NonFiniteError, failed: number): Promise<number>;
  /** Called when no updates follow for now: keeps the state, where it is sound, and lets go of the disk. */
  end(done: number, history: readonly Step[], reason: string | undefined, sound: boolean): Promise<void>;
}

/**
 * A training run over a model `M`. It does nothing until iterated; each iteration goes on where the last one ended.
 *
 * @example
 * ```ts
 * import { fashionMnist, Nepa, pretrain, useEngine } from "nepa";
 *
 * await useEngine();
 * const { train } = await fashionMnist();
 * const run = pretrain(new Nepa({ preset: "mini" }, { seed: 0 }), train, { steps: 4, batchSize: 8, seed: 0 });
 * for await (const { step, loss } of run) {
 *   console.log(step, loss);
 *   if (step === 2) break; // the two steps left are done by another loop, or by run.finish()
 * }
 * await run.finish();
 * ```
 */
export class Run<M> implements AsyncIterable<Step, void, void> {
  /** How a run shows itself in a notebook; the plots set it, since this file knows nothing of them. */
  static show: ((run: Run<unknown>) => Promise<MediaBundle>) | undefined;

  /** The model with averaged weights, where that was asked for. */
  readonly ema: M | undefined;
  /** The averages of an objective's own parameters, by name, where there are such. */
  readonly averages: ReadonlyMap<string, tf.Variable> | undefined;
  /** Updates in all. */
  readonly steps: number;
  /** Every step so far. */
  readonly history: Step[] = [];
  /** What had to be said so far, in plain words. */
  readonly notices: string[] = [];
  /** Why the last iteration ended early: "break", "aborted", "interrupted", "terminated"; undefined while running or done. */
  reason: string | undefined;
  /** How long its loops took so far, in this process. */
  seconds = 0;
  readonly #training: Training;
  readonly #signal: AbortSignal | undefined;
  readonly #keeper: Keeper | undefined;
  #done = 0;
  #active = false;
  #prepared: { step: number; ready: Promise<void> } | undefined;
  /** The last step as it was made, while the history has it with a reading at a stop. */
  #unread: Step | undefined;

  /** @param model The one being trained; its weights are the current ones at every step. */
  constructor(
    readonly model: M,
    training: Training,
    options: {
      averages?: RunAverages | undefined;
      signal?: AbortSignal | undefined;
      keeper?: Keeper | undefined;
      notices?: readonly string[];
    } = {},
  ) {
    this.ema = options.averages?.model as M | undefined;
    this.averages = options.averages?.own;
    this.steps = training.steps;
    this.#training = training;
    this.#signal = options.signal;
    this.#keeper = options.keeper;
    this.notices.push(...options.notices ?? []);
    const place = callSite(new Error()) ?? "an unknown place";
    for (const waiting of this.#models()) waits(waiting, place);
  }

  #models(): object[] {
    return [this.model, this.ema].filter((model): model is M & object => model instanceof Object);
  }

  /** Whether it ended before its last step. */
  get stopped(): boolean {
    return this.reason !== undefined;
  }

  /** False where what trivial guesses reach says nothing about the loss. */
  get cosine(): boolean {
    return this.#training.cosine ?? true;
  }

  /**
   * The steps from here on. `break`, the abort signal, Ctrl-C and the notebook's Stop button end it after the current step;
   * the last one of the history gets what is measured at an end. Where checkpoints are kept, each of these saves one, and so do
   * SIGTERM and SIGHUP, which then end the process.
   *
   * @throws {RunInterrupted} After Ctrl-C in a script, saved before; a notebook's Stop button and the signal just end the loop.
   * @throws {NonFiniteError} If a loss or a gradient is not a number.
   * @throws {RunFolderError} If the checkpoints' folder cannot be used, or the last state could not be saved.
   * @throws {TypeError} If the run is being iterated already.
   */
  async *[Symbol.asyncIterator](): AsyncGenerator<Step, void, void> {
    if (this.#active) throw new TypeError("this run is being iterated already; wait for that loop to end");
    this.#active = true;
    this.#models().forEach(waitsNoMore);
    this.reason = this.#done < this.steps ? "break" : undefined;
    if (this.#unread) this.history[this.history.length - 1] = this.#unread;
    this.#unread = undefined;
    const keeper = this.#done < this.steps ? this.#keeper : undefined, started = performance.now();
    let asked: string | undefined, code = 130, sound = false, failed = false;
    const unlisten = [onInterrupt(() => asked ??= "interrupted")];
    if (keeper) unlisten.push(onTerminate((status) => [asked, code] = ["terminated", status]));
    try {
      if (keeper) await this.#begin(keeper);
      sound = true;
      while (this.#done < this.steps) {
        if (asked || this.#signal?.aborted) return void (this.reason = "aborted");
        sound = false;
        const step = await this.#next();
        sound = true;
        if (this.#done === this.steps) this.reason = undefined;
        yield step;
      }
    } catch (error) {
      failed = true;
      throw error;
    } finally {
      if (this.reason !== undefined) this.reason = asked ?? this.reason;
      try {
        await keeper?.end(this.#done, this.history, this.reason, sound);
        if (sound && asked !== "terminated") await this.#readLast();
      } finally {
        for (const end of unlisten) end();
        this.#active = false;
        this.seconds += (performance.now() - started) / 1000;
        if (this.#done === this.steps) this.#training.dispose();
        if (asked === "terminated") Deno.exit(code); // what the signal was for
      }
      if (asked && !failed && !inNotebook()) this.#throwInterrupted();
    }
  }

  /** Measures where the run stopped, if nothing was measured there; going on takes it back, so that logs and weights are the same. */
  async #readLast(): Promise<void> {
    const last = this.history.at(-1), measured = last?.metrics?.featureStd ?? last?.validation;
    if (!this.stopped || !last || measured !== undefined) return;
    const { metrics, ...others } = await this.#training.read?.(last.step).catch(() => undefined) ?? {};
    this.#unread = last;
    this.history[this.history.length - 1] = {
      ...{ ...last, ...others },
      ...(metrics && { metrics: { ...last.metrics, ...metrics } }),
    };
  }

  #throwInterrupted(): never {
    const left = this.#keeper ? "it is saved" : "nothing is saved, since it has no `checkpoint`";
    throw new RunInterrupted(
      `the training was interrupted after step ${this.#done} of ${this.steps}; ${left}`,
    );
  }

  async #begin(keeper: Keeper): Promise<void> {
    const before = await keeper.begin(this.#done);
    if (!before) return;
    this.#done = before.done;
    if (this.#done === this.steps) this.reason = undefined;
    this.history.push(...before.history);
    this.notices.push(...before.history.flatMap(({ notice }) => notice ?? []));
  }

  async #next(): Promise<Step> {
    const k = this.#done;
    await this.#prepare(k);
    const pending = this.#training.update(k);
    if (k + 1 < this.steps) this.#prepare(k + 1).catch(() => {}); // it is thrown when it is waited for
    let step: Step;
    try {
      step = await pending;
    } catch (error) {
      if (!(error instanceof NonFiniteError && this.#keeper)) throw error;
      this.#done = await this.#keeper.rollBack(error, k);
      this.#prepared = undefined;
      while (this.history.at(-1) && this.history.at(-1)!.step > this.#done) this.history.pop();
      return await this.#next();
    }
    this.#done = k + 1;
    this.history.push(step);
    if (step.notice !== undefined) this.notices.push(step.notice);
    await this.#keeper?.after(this.history);
    return step;
  }

  #prepare(step: number): Promise<void> {
    if (this.#prepared?.step !== step) this.#prepared = { step, ready: this.#training.prepare(step) };
    return this.#prepared.ready;
  }

  /** Drives the run to its end, with a progress bar in a terminal and a notebook, and now and then a line elsewhere. */
  async finish(): Promise<RunResult> {
    if (this.#done === this.steps) return this.result();
    await using bar = progress({ title: "training", total: this.steps, unit: "steps", text: "compiling" });
    let compiled = 0, text = "";
    for await (const { step, loss, imagesPerSecond, compileSeconds, notice } of this) {
      if (notice !== undefined) console.warn(notice);
      compiled += compileSeconds ?? 0;
      const more = compiled > 0 ? `, compiled in ${compiled.toFixed(1)} s` : "";
      text = `loss ${loss.toFixed(4)}, ${imagesPerSecond.toFixed(0)} images/s${more}`;
      bar.update(step, text);
    }
    await bar.end(text);
    return this.result();
  }

  /** How it stands. */
  result(): RunResult {
    const { history } = this, { best, test } = history.at(-1) ?? {};
    const some = Math.max(1, Math.min(LOSS_WINDOW, Math.floor(history.length / 2)));
    const result: RunResult = {
      ...(best !== undefined && { best }),
      ...(test && { test }),
      steps: this.#done,
      lossFirst: meanLoss(history.slice(0, some)),
      lossLast: meanLoss(history.slice(-some)),
      history,
      stopped: this.stopped,
    };
    return showAs(result, ({ history, test, ...numbers }) => {
      const tested = Object.entries(test ?? {}).map(([name, value]) => [`test ${name}`, value]);
      return new Table([{ ...numbers, ...Object.fromEntries(tested), history: `${history.length} steps` }]);
    });
  }

  /** Lets go of what only further steps need, for a run that will not be finished. The model stays. */
  dispose(): void {
    this.#models().forEach(waitsNoMore);
    this.#training.dispose();
  }

  [consoleDisplay](): string {
    const { steps, lossFirst, lossLast } = this.result();
    const state = this.reason ?? (steps === 0 && "not begun"), left = state ? `, ${state}` : "";
    const first = steps > 1 ? `${lossFirst.toFixed(4)} → ` : "";
    const loss = steps === 0 ? "" : `, loss ${first}${lossLast.toFixed(4)}`;
    return [`Run: ${steps}/${this.steps} steps${loss}${left}`, ...this.notices].join("\n");
  }

  async [jupyterDisplay](): Promise<MediaBundle> {
    return await Run.show?.(this) ?? { "text/plain": this[consoleDisplay]() };
  }
}
