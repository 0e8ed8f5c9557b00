/** Keeps a training in a folder: checkpoints that it can go on from exactly, the log, what it was run with. @module */
import * as tf from "@tensorflow/tfjs";
import { cpus, hostname, totalmem } from "node:os";
import type { SaveOptions } from "../files/card.ts";
import type { Readable } from "../files/model_folder.ts";
import type { Dataset } from "../data/dataset.ts";
import { say } from "../display/jupyter.ts";
import { currentEngine } from "@nepa/engine";
import type { Keeping } from "./checkpoint_options.ts";
import { Log } from "./log.ts";
import type { Plan } from "./options.ts";
import type { Validation } from "../eval/evaluate.ts";
import type { NonFiniteError } from "../base/finite.ts";
import type { Step } from "./history.ts";
import type { Keeper } from "./run.ts";
import { type Found, naming, RunFolder, RunFolderError, type RunFolderErrorKind } from "./run_folder.ts";
import { isObject, writeSafetensors } from "../files/safetensors.ts";
import { FileError, readJson, writeWhole } from "../files/plain.ts";
import type { Trainer } from "./trainer.ts";
import { VERSION } from "../base/version.ts";
import type { Trained } from "./objective.ts";
import { copyOf, fill, type Part, saveTo, whole } from "./checkpoint_files.ts";
import { comparable, decided, differences, FORMAT, UNNAMED } from "./described.ts";

/** What is trained and kept: a network that writes model folders, or any with parameters. */
export interface Savable {
  readonly parameters: ReadonlyMap<string, tf.Variable>;
  readonly state?: ReadonlyMap<string, tf.Variable>;
  readonly config?: object;
  /** Which of them `save` writes where, by the files' names. Default: all to `model.safetensors`. */
  readonly files?: Readonly<Record<string, ReadonlyMap<string, tf.Variable>>>;
  save?(folder: string, options?: SaveOptions, parameters?: ReadonlyMap<string, Readable>): Promise<void>;
}

/** When held-out images were read, and what they said. */
export interface Best {
  step: number;
  reading: Validation & { readonly accuracy: number };
}

/** What is kept. */
export interface Kept {
  /** "pretrain" or "finetune". */
  kind: string;
  model: Savable;
  /** What an objective has beside the model, and what a resumed run has to have the same. */
  subject?: Pick<Trained, "own" | "about" | "parameters">;
  averages:
    | { readonly model: Savable | undefined; readonly own: ReadonlyMap<string, tf.Variable> }
    | undefined;
  trainer: Trainer;
  plan: Plan;
  /** Of a run that ends with the weights that did best: what knows these so far, and takes them up again. */
  referee?: {
    readonly best: Best & { network: Savable } | undefined;
    recall(best: Best | undefined): Savable | undefined;
  };
  /** What else decides about the result; JSON. */
  options: Record<string, unknown>;
  data: Dataset;
  /** Held-out images, which the log and the best weights are told by. */
  validation?: Dataset | undefined;
}

/** Batches that are skipped at one update before a run is given up. */
const MOST_SKIPPED = 3;

/** Whether a checkpoint says what a {@linkcode FolderKeeper} goes on from. */
function isState({ about, skipped, best }: Found["state"]): boolean {
  if (!isObject(about) || !isObject(about.options) || !isObject(about.data)) return false;
  if (!Array.isArray(skipped) || !skipped.every(Number.isSafeInteger)) return false;
  return best === undefined || isObject(best) && isObject(best.reading);
}

/** A {@linkcode Keeper} with a folder. */
export class FolderKeeper implements Keeper {
  readonly #options: Keeping;
  readonly #kept: Kept;
  readonly #log: Log;
  #folder: RunFolder | undefined;
  #begun = false;
  /** Updates of the newest checkpoint. */
  #saved = -1;
  /** The checkpoint that is being written; failures are kept in `#failure`. */
  #writing: Promise<void> | undefined;
  #failure: unknown;
  #skips = { step: -1, count: 0 };
  #described: Promise<Record<string, unknown>> | undefined;

  /** Nothing is read or written before the run begins. */
  constructor(options: Keeping, kept: Kept) {
    this.#options = options;
    this.#kept = kept;
    this.#log = new Log(options.folder);
  }

  /** What decides about the training, as JSON. */
  #about(): Promise<Record<string, unknown>> {
    return this.#described ??= decided(this.#kept);
  }

  #session(): Record<string, unknown> {
    const engine = currentEngine(), cpu = cpus(), { name, version, device } = engine;
    const versions = { nepa: VERSION, deno: Deno.version.deno, tfjs: tf.version_core, [name]: version };
    const system = `${Deno.build.os} ${Deno.build.arch}`,
      processor = cpu[0]?.model.split("\0")[0],
      memory = totalmem();
    const machine = { host: hostname(), system, processor, processors: cpu.length, memory, device };
    return { engine: String(engine), versions, machine };
  }

  async begin(done: number): Promise<{ done: number; history: Step[] } | undefined> {
    const path = this.#options.folder, folder = this.#folder = await RunFolder.open(path);
    const found = await folder.newest(say);
    if (this.#begun) {
      if (found?.step === this.#saved) return await this.#log.look();
      const text = `of step ${this.#saved}, as this run left it, got ${found?.step ?? "none"}`;
      const help = "another run has used the folder since. Begin a new run to go on from there";
      throw new RunFolderError("different", path, `expected a newest checkpoint ${text}; ${help}`);
    }
    this.#refuse(found, await this.#about());
    const sessions = await naming(path, () => this.#sessions());
    const history = found ? await this.#restore(found) : await this.#log.goOn(0);
    const now = { started: new Date().toISOString(), after: found?.step ?? 0, ...this.#session() };
    const about = { ...await this.#about(), sessions: found ? [...sessions, now] : [now] };
    await naming(path, () => writeWhole([`${path}/run.json`, JSON.stringify(about, null, 2) + "\n"]));
    if (found) say(`${path}: going on after step ${found.step}`);
    else await this.#save(done, history);
    await this.#writing;
    const failure = this.#failure;
    this.#failure = undefined;
    if (failure) throw failure;
    this.#begun = true;
    return found && { done: found.step, history };
  }

  /** Refuses a folder that is not as `resume` says, or from another training. */
  #refuse(found: Found | undefined, about: Record<string, unknown>): void {
    const { folder, resume } = this.#options, { steps } = this.#kept.plan;
    const refuse = (kind: RunFolderErrorKind, text: string): never => {
      throw new RunFolderError(kind, folder, text);
    };
    if (!found) {
      const help = '`resume: "auto"` would begin one';
      return resume === true ? refuse("empty", `there is no checkpoint to go on from; ${help}`) : undefined;
    }
    const { state, step } = found;
    if (!resume) {
      const help = "go on with it by `resume: true`, or give another folder";
      refuse("occupied", `there is a run here already, saved after step ${step}; ${help}`);
    }
    if (!isState(state)) refuse("torn", `expected what a run says of itself in ${found.folder}/state.json`);
    const now = JSON.parse(JSON.stringify(about)), differ = differences(...comparable(state, now));
    if (step > steps) differ.push(`saved after step ${step}, of ${steps} now`);
    if (differ.length > 0) {
      const help = `or begin another run from the saved weights, which \`load("${found.folder}")\` reads`;
      const few = differ.slice(0, 10).join("; ") +
        (differ.length > 10 ? `; and ${differ.length - 10} more` : "");
      const text = `expected the training that was saved; ${few}`;
      refuse("different", `${text}. Write it as it was; ${help}`);
    }
    if (now.options.augment === UNNAMED) {
      say(`${folder}: augment is a function without a name: whether it is the same as before cannot be told`);
    }
    const engine = String(currentEngine());
    if (state.engine === engine) return;
    say(
      `${folder}: saved with ${state.engine}, going on with ${engine}: the numbers differ in the last digits`,
    );
  }

  /** What has a folder of its own in a checkpoint. */
  #parts(champion: Savable | undefined): Part[] {
    const { model, averages, subject } = this.#kept, none: Part[2] = new Map();
    const own = subject ? whole(subject.own) : none;
    const ema = ["ema", averages?.model, averages?.own ?? none] as const;
    const all = [[".", model, own], ema, ["best", champion, none]] as const;
    return all.filter(([, network]) => network) as readonly unknown[] as Part[];
  }

  async #restore({ step, folder, state }: Found): Promise<Step[]> {
    const { trainer, referee } = this.#kept, path = this.#options.folder, { best, skipped } = state;
    const parts = this.#parts(referee?.recall(best as Best | undefined));
    await fill(folder, parts, trainer.optimizer).catch((cause) => {
      throw new RunFolderError("torn", path, `expected files of this training; ${cause.message}`, { cause });
    });
    trainer.skipped = skipped as number[];
    this.#saved = step;
    return trainer.recall(await this.#log.goOn(step));
  }

  /** The sessions in `run.json`. */
  async #sessions(): Promise<unknown[]> {
    const file = `${this.#options.folder}/run.json`, { sessions } = await readJson(file) ?? { sessions: [] };
    if (Array.isArray(sessions)) return sessions;
    throw new FileError(`${file}: expected a run's, with sessions, got another file; take it away`);
  }

  async after(history: readonly Step[]): Promise<void> {
    const step = history.at(-1)!;
    await this.#log.append(step);
    this.#report();
    const best = step.validation !== undefined && this.#best(history) === step.step;
    if (best || step.step % this.#options.every === 0) await this.#save(step.step, history);
  }

  /** The step with the best held-out value, the first of them. */
  #best(history: readonly Step[]): number | undefined {
    const { best } = this.#options;
    const value = ({ validation: { meanIoU, accuracy = NaN, loss } = { loss: NaN } }: Step) =>
      best === "loss" ? loss : -(best === "meanIoU" ? meanIoU ?? NaN : accuracy);
    const judged = best ? history.filter((step) => !Number.isNaN(value(step))) : [];
    return judged.toSorted((a, b) => value(a) - value(b))[0]?.step;
  }

  /** Copies the state, which is all that the training waits for once the last write is over, and begins to write it. */
  async #save(step: number, history: readonly Step[]): Promise<void> {
    const { trainer, referee } = this.#kept, folder = this.#folder!, best = this.#best(history);
    await this.#writing;
    try {
      await this.#log.mend(history);
    } catch (error) {
      this.#failure = error;
      return;
    }
    const { network: champion, ...reading } = referee?.best ?? {}, about = await this.#about();
    const found = champion && reading, { skipped, optimizer } = trainer;
    const state = { format: FORMAT, step, skipped, best: found, about, ...this.#session() };
    const parts = await Promise.all(
      this.#parts(champion).map(async ([at, network, beside]) =>
        [at, network, await copyOf(whole(network)), await copyOf(beside)] as const
      ),
    );
    const moments = await optimizer.moments();
    const write = async () => {
      await folder.write(step, async (place) => {
        await this.#log.sync();
        for (const [at, ...network] of parts) await saveTo(`${place}/${at}`, ...network);
        await Deno.writeFile(`${place}/optimizer.safetensors`, writeSafetensors(moments));
      }, state);
      this.#saved = step;
      await folder.prune(this.#options.keep, best);
    };
    this.#writing = write().catch((error) => this.#failure = error).finally(() => this.#writing = undefined);
  }

  /** Says that a checkpoint could not be written; the training goes on. */
  #report(): void {
    if (!this.#failure) return;
    const { message } = this.#failure as Error;
    say(`a checkpoint could not be saved; the last good one is of step ${this.#saved}. ${message}`);
    this.#failure = undefined;
  }

  async rollBack(error: NonFiniteError, failed: number): Promise<number> {
    const { trainer } = this.#kept;
    if (this.#options.onNonFinite === "stop") throw error;
    await this.#writing;
    this.#skips = { step: failed, count: this.#skips.step === failed ? this.#skips.count + 1 : 1 };
    const found = this.#skips.count <= MOST_SKIPPED ? await this.#folder!.newest(say) : undefined;
    if (!found) throw error;
    const batch = trainer.batch(failed), skipped = [...trainer.skipped, batch].sort((a, b) => a - b);
    await this.#restore(found);
    trainer.skipped = skipped;
    say(`${error.message}\nGoing on after step ${found.step}, without batch ${batch}.`);
    return found.step;
  }

  async end(
    done: number,
    history: readonly Step[],
    reason: string | undefined,
    sound: boolean,
  ): Promise<void> {
    const { folder } = this.#options;
    try {
      await this.#writing;
      if (!this.#begun || !sound) return this.#report();
      if (this.#saved !== done) {
        this.#failure = undefined;
        await this.#save(done, history);
        await this.#writing;
        if (this.#failure) {
          const { message, kind = "unwritable" } = this.#failure as RunFolderError;
          const text =
            `step ${done} could not be saved: ${message}. The last good checkpoint is of step ${this.#saved}`;
          const help =
            `the model in memory is that of step ${done}: \`save\` it elsewhere, or iterate the run again`;
          const error = new RunFolderError(kind, folder, `${text}; ${help}`, { cause: this.#failure });
          if (reason === "terminated") say(error.message); // the process ends, and the error with it
          throw error;
        }
      }
      if (reason === "interrupted" || reason === "terminated") {
        const how = `checkpoint: { folder: ${JSON.stringify(folder)}, resume: true }`;
        say(`saved after step ${done}; to go on, run the same with ${how}`);
      }
    } finally {
      this.#folder?.close();
      this.#folder = undefined;
    }
  }
}
