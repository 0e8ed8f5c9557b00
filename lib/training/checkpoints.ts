/** Keeps a training in a folder: checkpoints that it can go on from exactly, the log, what it was run with. @module */
import * as tf from "@tensorflow/tfjs";
import { cpus, hostname, totalmem } from "node:os";
import type { SaveOptions } from "../files/card.ts";
import { fromOfficial, type Readable } from "../files/model_folder.ts";
import type { Dataset } from "../data/dataset.ts";
import { say } from "../display/jupyter.ts";
import { currentEngine } from "@nepa/engine";
import type { Keeping } from "./checkpoint_options.ts";
import { Log } from "./log.ts";
import type { Plan } from "./options.ts";
import type { Validation } from "../eval/evaluate.ts";
import type { NonFiniteError } from "../base/finite.ts";
import type { Keeper, Step } from "./run.ts";
import { type Found, naming, RunFolder, RunFolderError, type RunFolderErrorKind } from "./run_folder.ts";
import { type HostTensor, isObject, writeSafetensors } from "../files/safetensors.ts";
import { openSafetensors } from "../files/tensor_files.ts";
import { FileError, readJson, writeWhole } from "../files/plain.ts";
import type { Trainer } from "./trainer.ts";
import { VERSION } from "../base/version.ts";
import { type AdamW, MOMENTS } from "../optim/adamw.ts";
import type { Trained } from "./objective.ts";
import { OBJECTIVE, readVariables, refuseOthers, type Source } from "../files/variables.ts";
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
  reading: Required<Validation>;
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

/** The values of variables in the machine's memory. */
async function copyOf(variables: ReadonlyMap<string, tf.Variable>): Promise<Map<string, HostTensor>> {
  const copies = [...variables].map(async ([name, variable]) =>
    [name, { shape: variable.shape, data: await variable.data() as Float32Array }] as const
  );
  return new Map(await Promise.all(copies));
}

/** Milliseconds for which the writing of a checkpoint may keep the training from its next step. */
const SLICE = 10;

/** Copies to be written, which lets the training go on between one and the next. */
function patient(copies: ReadonlyMap<string, HostTensor>): Map<string, Readable> {
  let since = performance.now();
  const waited = async (data: unknown) => {
    if (performance.now() - since > SLICE) await new Promise((resolve) => setTimeout(resolve));
    since = performance.now();
    return data;
  };
  return new Map([...copies].map(([name, { shape, data }]) => [name, { shape, data: () => waited(data) }]));
}

/** A network in a checkpoint: the folder within it, and what lies beside the network's own file. */
type Part = readonly [at: string, network: Savable, beside: ReadonlyMap<string, tf.Variable>];

/** A model's parameters and state. */
const whole = ({ parameters, state }: Savable) => new Map([...parameters, ...state ?? []]);

/** Writes the values of a network's folder, and what lies beside them. */
async function saveTo(
  folder: string,
  model: Savable,
  values: ReadonlyMap<string, HostTensor>,
  beside: ReadonlyMap<string, HostTensor>,
): Promise<void> {
  await Deno.mkdir(folder, { recursive: true });
  if (model.save) await model.save(folder, {}, patient(values));
  else await Deno.writeFile(`${folder}/model.safetensors`, writeSafetensors(values));
  if (beside.size > 0) await Deno.writeFile(`${folder}/${OBJECTIVE}`, writeSafetensors(beside));
}

/** Fills networks and the optimizer's moments, once all their files are known to fit. */
async function fill(folder: string, parts: readonly Part[], optimizer: AdamW): Promise<void> {
  const file = `${folder}/optimizer.safetensors`, sources: Source[] = [];
  for (const [at, network, beside] of parts) {
    for (const [file, some] of Object.entries(network.files ?? { "model.safetensors": whole(network) })) {
      sources.push([some, `${folder}/${at}/${file}`, network.save && fromOfficial]);
    }
    if (beside.size > 0) sources.push([beside, `${folder}/${at}/${OBJECTIVE}`]);
  }
  await using moments = await openSafetensors(file);
  const byBlock = [...optimizer.state.keys()].every((name) => moments.infos.has(name)); // as they were written before
  if (byBlock) return await readVariables(...sources, [optimizer.state, file]);
  const expected = [...optimizer.parameters].flatMap(([name, variable]) =>
    MOMENTS.map((moment) => [`${moment}.${name}`, variable] as const)
  );
  refuseOthers(moments, file, new Map(expected));
  await readVariables(...sources);
  await optimizer.restore(async (name) => (await moments.read(name)).data as Float32Array);
}

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
    const system = `${Deno.build.os} ${Deno.build.arch}`, processor = cpu[0]?.model, memory = totalmem();
    const machine = { host: hostname(), system, processor, processors: cpu.length, memory, device };
    return { engine: String(engine), versions, machine };
  }

  async begin(done: number): Promise<{ done: number; history: Step[] } | undefined> {
    const path = this.#options.folder, folder = this.#folder = await RunFolder.open(path);
    const found = await folder.newest(say);
    if (this.#begun) {
      if (found?.step === this.#saved) {
        return await naming(path, () => this.#log.look()).then(() => undefined);
      }
      const text = `of step ${this.#saved}, as this run left it, got ${found?.step ?? "none"}`;
      const help = "another run has used the folder since. Begin a new run to go on from there";
      throw new RunFolderError("different", path, `expected a newest checkpoint ${text}; ${help}`);
    }
    this.#refuse(found, await this.#about());
    const history = await naming(path, async () => {
      const sessions = await this.#sessions();
      const history = found ? await this.#restore(found) : await this.#log.goOn(0);
      await this.#describe(found ? sessions : []);
      return history;
    });
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
    const { model, averages, subject } = this.#kept, none = new Map<string, tf.Variable>();
    const own = subject ? new Map([...subject.own.parameters, ...subject.own.state]) : none;
    const all = [[".", model, own], ["ema", averages?.model, averages?.own ?? none], [
      "best",
      champion,
      none,
    ]];
    return all.filter(([, network]) => network) as unknown as Part[];
  }

  async #restore({ step, folder, state }: Found): Promise<Step[]> {
    const { trainer, referee } = this.#kept, path = this.#options.folder, { best, skipped } = state;
    const parts = this.#parts(referee?.recall(best as Best | undefined));
    await fill(folder, parts, trainer.optimizer).catch((cause) => {
      throw new RunFolderError("torn", path, `expected files of this training; ${cause.message}`, { cause });
    });
    trainer.skipped = skipped as number[];
    this.#saved = step;
    return trainer.recall(await naming(path, () => this.#log.goOn(step)));
  }

  /** The sessions in `run.json`. */
  async #sessions(): Promise<unknown[]> {
    const file = `${this.#options.folder}/run.json`, { sessions } = await readJson(file) ?? { sessions: [] };
    if (Array.isArray(sessions)) return sessions;
    throw new FileError(`${file}: expected a run's, with sessions, got another file; take it away`);
  }

  /** Writes `run.json`, with a session for each time the run was begun. */
  async #describe(sessions: readonly unknown[]): Promise<void> {
    const now = { started: new Date().toISOString(), after: Math.max(0, this.#saved), ...this.#session() };
    const text = JSON.stringify({ ...await this.#about(), sessions: [...sessions, now] }, null, 2) + "\n";
    await writeWhole([`${this.#options.folder}/run.json`, text]);
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
    let found: { step: number; value: number } | undefined;
    for (const { step, validation } of best ? history : []) {
      const value = best === "accuracy" ? -(validation?.accuracy ?? NaN) : validation?.loss ?? NaN;
      if (value < (found?.value ?? Infinity)) found = { step, value };
    }
    return found?.step;
  }

  /** Copies the state, which is all that the training waits for once the last write is over, and begins to write it. */
  async #save(step: number, history: readonly Step[]): Promise<void> {
    const { trainer, referee } = this.#kept, folder = this.#folder!, best = this.#best(history);
    await this.#writing;
    try {
      await naming(folder.path, () => this.#log.mend(history));
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
      const newest = (await folder.steps()).slice(-this.#options.keep);
      await naming(folder.path, () => folder.prune(new Set(best === undefined ? newest : [...newest, best])));
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
          const error = this.#unsaved(done);
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

  /** What is thrown when the last state is not on disk. */
  #unsaved(done: number): RunFolderError {
    const { message, kind } = this.#failure as RunFolderError, { folder } = this.#options;
    const text =
      `step ${done} could not be saved: ${message}. The last good checkpoint is of step ${this.#saved}; ` +
      `the model in memory is that of step ${done}: \`save\` it elsewhere, or iterate the run again`;
    return new RunFolderError(kind ?? "unwritable", folder, text, { cause: this.#failure });
  }
}
