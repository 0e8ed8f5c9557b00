/** A run's folder on disk: its lock, and its checkpoints, each of which is whole or not there. @module */
import { createReadStream } from "node:fs";
import { readdir, rm } from "node:fs/promises";
import { hostname } from "node:os";
import { sep } from "node:path";
import process from "node:process";
import { crc32 } from "node:zlib";
import { rename } from "@nepa/engine";
import { ForeignError, visible } from "../base/check.ts";
import { FileError, isPlain, readIfThere, readJson, sync, writeWhole } from "../files/plain.ts";
import { isObject } from "../files/safetensors.ts";

/** What was wrong with a run's folder: first those of its contents, then those of the disk. */
export type RunFolderErrorKind =
  | ("locked" | "occupied" | "empty" | "torn" | "different")
  | ("full" | "read-only" | "vanished" | "unwritable");

/** A run's folder that cannot be used, read or written. The message says what to do. */
export class RunFolderError extends ForeignError {
  /** What it is, for those who cannot ask for the class. */
  override name = "RunFolderError";

  /**
   * @param kind What was wrong.
   * @param folder As it was named.
   * @param message What stands after the folder's name.
   * @param options The cause.
   */
  constructor(
    readonly kind: RunFolderErrorKind,
    readonly folder: string,
    message: string,
    options?: ErrorOptions,
  ) {
    super(`${folder}: ${message}`, options);
  }
}

/** A checkpoint that is whole. */
export interface Found {
  readonly step: number;
  readonly folder: string;
  /** What {@linkcode RunFolder.write} was given. */
  readonly state: Readonly<Record<string, unknown>>;
}

const STATE = "state.json", NAME = /^step-(\d{8,})$/;
const nameOf = (step: number): string => `step-${String(step).padStart(8, "0")}`;

/** The operating system's refusals by their codes. */
const REFUSALS: Record<string, [RunFolderErrorKind, string]> = {
  ENOSPC: ["full", "the disk is full; free some space"],
  EDQUOT: ["full", "the disk quota is used up; free some space"],
  EROFS: ["read-only", "cannot be written, its file system is read-only; give another folder"],
  EACCES: ["read-only", "cannot be written with this user's rights; give another folder"],
  EPERM: ["read-only", "cannot be written with this user's rights; give another folder"],
  ENOENT: ["vanished", "has vanished; put it back"],
};

/** What `work` gives; errors of the file system get a name. */
export async function naming<T>(folder: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    const { code = "", message: text } = error as { code?: string; message: string };
    if (error instanceof RunFolderError || !code && !(error instanceof FileError)) throw error;
    const [kind, message] = REFUSALS[code] ?? ["unwritable", text];
    throw new RunFolderError(kind, folder, message, { cause: error });
  }
}

async function checksumOf(path: string): Promise<{ size: number; crc32: number }> {
  let sum = 0;
  for await (const part of createReadStream(path, { highWaterMark: 1 << 20 })) sum = crc32(part, sum);
  return { size: (await Deno.stat(path)).size, crc32: sum };
}

/** Paths of all that is in a folder, however deep, as any system reads them. */
async function contents(folder: string): Promise<string[]> {
  return (await readdir(folder, { recursive: true })).map((path) => path.split(sep).join("/"));
}

/** What a checkpoint says of itself. @throws {FileError} Or another error, if it is not whole or not the one of that step. */
async function examine(folder: string, step: number): Promise<Found["state"]> {
  const refuse = (text: string): never => {
    throw new FileError(text);
  };
  const { crc32: sum, ...all } = await readJson(`${folder}/${STATE}`) ?? refuse(`there is no ${STATE}`);
  if (sum !== undefined && sum !== crc32(JSON.stringify(all))) refuse(`${STATE} is damaged`);
  const { files, ...state } = all;
  if (!isObject(files)) return refuse(`${STATE}: files: expected checksums by name`);
  const stranger = (await contents(folder)).find((name) => name.endsWith(".safetensors") && !(name in files));
  if (stranger) refuse(`${STATE} does not know ${stranger}`);
  if (state.step !== step) refuse(`${STATE} is of step ${String(state.step)}: was the folder renamed?`);
  for (const [name, expected] of Object.entries(files)) {
    const path = `${folder}/${name}`, { size, crc32 } = isObject(expected) ? expected : {};
    if (!await isPlain(path)) refuse(`${name} is missing`);
    const whole = (await Deno.stat(path)).size === size && (await checksumOf(path)).crc32 === crc32;
    if (!whole) refuse(`${name} is damaged`);
  }
  return state;
}

const remove = (path: string): Promise<void> => rm(path, { recursive: true, force: true });

/** A folder that this process alone writes, until {@linkcode RunFolder.close}. */
export class RunFolder {
  private constructor(readonly path: string, private readonly lock: Deno.FsFile) {}

  /**
   * Makes the folder if it is not there, locks it and clears away what a killed process left half written. The lock is
   * the operating system's, on the file `lock`: it ends with the process, whatever ends that. Who has it stands in `holder`,
   * since what is locked cannot be read on Windows.
   *
   * @throws {RunFolderError} If another run has it, or it cannot be written.
   */
  static async open(path: string): Promise<RunFolder> {
    return await naming(path, async () => {
      await Deno.mkdir(path, { recursive: true });
      const name = `${path}/lock`, holder = `${path}/holder`;
      await isPlain(name, Infinity, Deno.lstat);
      const lock = await Deno.open(name, { read: true, write: true, create: true });
      try {
        if (!await lock.tryLock(true)) {
          const who = new TextDecoder().decode(await readIfThere(holder, 1000));
          const help = "wait for it, stop it, or give another folder";
          throw new RunFolderError("locked", path, `another run writes here (${who}); ${help}`);
        }
        await writeWhole([holder, `process ${process.pid} on ${hostname()}`]);
        for await (const { name, isDirectory } of Deno.readDir(path)) {
          if (isDirectory && /^step-\d+\.(part|old)$/.test(name)) await remove(`${path}/${name}`);
        }
        return new RunFolder(path, lock);
      } catch (error) {
        lock.close();
        throw error;
      }
    });
  }

  /** The updates after which there is a checkpoint, rising. */
  async steps(): Promise<number[]> {
    const entries = await Array.fromAsync(Deno.readDir(this.path));
    const steps = entries.flatMap(({ name }) => NAME.exec(name)?.slice(1) ?? []).map(Number);
    return steps.sort((a, b) => a - b);
  }

  /**
   * The newest whole checkpoint. Newer ones that are torn are renamed to `….torn` and told to `say`.
   *
   * @returns undefined if there is no checkpoint.
   * @throws {RunFolderError} If there are some, and none is whole.
   */
  async newest(say: (text: string) => void): Promise<Found | undefined> {
    return await naming(this.path, async () => {
      const steps = await this.steps();
      for (const step of steps.toReversed()) {
        const folder = `${this.path}/${nameOf(step)}`;
        try {
          return { step, folder, state: await examine(folder, step) };
        } catch (error) {
          const { message, code = "" } = error as { message: string; code?: string };
          if (REFUSALS[code]?.[0] === "read-only") throw error;
          await remove(`${folder}.torn`);
          await rename(folder, `${folder}.torn`);
          say(`${folder} is torn (${visible(message)}); it is set aside as ${nameOf(step)}.torn`);
        }
      }
      if (steps.length === 0) return undefined;
      const text = `none of its ${steps.length} checkpoints is whole; they are set aside`;
      throw new RunFolderError("torn", this.path, `${text}. Begin anew in another folder`);
    });
  }

  /**
   * Writes a checkpoint: beside its place, onto the disk, then moved there in one go. One that is there already stays.
   *
   * @param step Updates done.
   * @param fill Writes the files into a folder.
   * @param state JSON to find again.
   * @throws {RunFolderError} If it cannot; nothing of it stays.
   */
  async write(step: number, fill: (folder: string) => Promise<void>, state: object): Promise<void> {
    const folder = `${this.path}/${nameOf(step)}`, part = `${folder}.part`;
    await naming(this.path, async () => {
      if ((await this.steps()).includes(step)) return;
      try {
        await remove(part);
        await Deno.mkdir(part);
        await fill(part);
        const names = await contents(part), files: Record<string, object> = {};
        for (const name of names) {
          if (await isPlain(`${part}/${name}`).catch(() => false)) {
            files[name] = await checksumOf(`${part}/${name}`);
          }
        }
        const all = { ...state, files };
        const text = JSON.stringify({ ...all, crc32: crc32(JSON.stringify(all)) }, null, 2);
        await Deno.writeTextFile(`${part}/${STATE}`, text + "\n");
        await Promise.all([...names, STATE, "."].map((name) => sync(`${part}/${name}`)));
        await rename(part, folder);
        await sync(this.path);
      } catch (error) {
        await remove(part).catch(() => {});
        throw error;
      }
    });
  }

  /** Removes checkpoints, but for the newest ones and that of one step. */
  async prune(newest: number, step: number | undefined): Promise<void> {
    await naming(this.path, async () => {
      for (const old of (await this.steps()).slice(0, -newest)) {
        const folder = `${this.path}/${nameOf(old)}`;
        if (old === step) continue;
        await rename(folder, `${folder}.old`); // a kill in the middle leaves no half checkpoint
        await remove(`${folder}.old`);
      }
    });
  }

  /** Lets others have the folder. */
  close(): void {
    this.lock.close();
  }
}
