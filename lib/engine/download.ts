/** Fetches TensorFlow's C library with the user's own pip, into our own cache. @module */
import { statfs } from "node:fs/promises";
import { basename, dirname } from "node:path";
import { host } from "./host.ts";
import { onInterrupt, onTerminate } from "./interrupt.ts";
import { seal } from "./sums.ts";
import { sha256, unpack } from "./wheel.ts";
import wheels from "./wheels.json" with { type: "json" };
import { dllIn, rename, type WindowsPython } from "./windows.ts";

/** Environment variables. */
export type Environment = Record<string, string>;

/** Bytes to download, and those kept on disk. */
export interface Size {
  /** To download. */
  bytes: number;
  /** Kept on disk. */
  kept: number;
}

/** A build of TensorFlow on the Python Package Index. */
export interface Wheel extends Size {
  /** The package: "tensorflow-cpu". */
  name: string;
  /** pip's tag of the platform: "manylinux_2_27_x86_64". */
  platform: string;
  /** Of the file. */
  sha256: string;
  /** The Python that it is made for, "3.11" by default; except on Windows, the libraries in it need none. */
  python?: string;
}

/** The version that the engine is written for. */
export const VERSION = "2.21.0";

/** The library's file name, and that of the one which must lie beside it. */
export const [LIBRARY, FRAMEWORK] = Deno.build.os === "darwin"
  ? ["libtensorflow_cc.2.dylib", "libtensorflow_framework.2.dylib"] as const
  : Deno.build.os === "windows"
  ? ["_pywrap_tensorflow_common.dll", "_pywrap_tensorflow_common.dll"] as const // all in one
  : ["libtensorflow_cc.so.2", "libtensorflow_framework.so.2"] as const;

/** By operating system and processor, on Windows by Python too. Linux on x86_64 is tested; Windows under Wine; macOS is not. */
export const WHEELS: Readonly<Record<string, Wheel>> = wheels;

/** What `tensorflow[and-cuda]` comes to on Linux x86_64: wheels, and what is kept. */
export const GPU_BYTES = { bytes: 3_500_000_000, kept: 7_500_000_000 };

/** Why TensorFlow could not be fetched, and what helps. */
export class DownloadError extends Error {
  /** "DownloadError". */
  override name = "DownloadError";
}

/** Says something that must not be missed, whether anyone watches or not. */
const say = (line: string) => console.error(`TensorFlow ${VERSION}: ${line}`);
const mega = (bytes: number) => `${Math.round(bytes / 1e6)} MB`;

const QUIET = "--no-cache-dir --disable-pip-version-check --no-input --progress-bar=off";
const GPU_INSTALL =
  `install tensorflow[and-cuda]==${VERSION} --only-binary=:all: --no-compile ${QUIET} --target`;
const KEPT =
  /^tensorflow\/(libtensorflow_(cc|framework)\.[^/]+|python\/_pywrap_tensorflow_common\.dll|THIRD_PARTY_NOTICES\.txt|include\/LICENSE)$/;
const PIPS = [["python3", "-m", "pip"], ["python", "-m", "pip"], ["pip3"], ["pip"]] as const;

/** Whether something is permitted already: what can be done without is not asked for. */
export function granted(what: Deno.PermissionDescriptor): boolean {
  return Deno.permissions.querySync(what).state === "granted";
}

/** Runs a command to its end, in a group of its own, which ends with this process or by `signal`. Undefined if it cannot. */
export async function run(
  [command, ...args]: readonly string[],
  env: Environment,
  signal = AbortSignal.timeout(20_000),
): Promise<{ success: boolean; stdout: string; stderr: string } | undefined> {
  const streams = { stdin: "null", stdout: "piped", stderr: "piped" } as const;
  const detached = Deno.build.os !== "windows"; // there it would have a window of its own
  let child: Deno.ChildProcess;
  if (!granted({ name: "run", command: command! })) return undefined;
  try {
    child = new Deno.Command(command!, { args, env, clearEnv: true, detached, ...streams }).spawn();
  } catch {
    return undefined;
  }
  const end = () => {
    try {
      Deno.kill(-child.pid, "SIGKILL");
    } catch {
      child.kill("SIGKILL"); // who may run some commands alone cannot end the others of a group
    }
  };
  const unlisten = [onInterrupt(() => host.inNotebook() ? end() : Deno.exit(130)), onTerminate(Deno.exit)];
  globalThis.addEventListener("unload", end);
  signal.addEventListener("abort", end);
  try {
    const { success, stdout, stderr } = await child.output(), decoder = new TextDecoder();
    return { success, stdout: decoder.decode(stdout), stderr: decoder.decode(stderr) };
  } finally {
    signal.removeEventListener("abort", end);
    globalThis.removeEventListener("unload", end);
    unlisten.forEach((stop) => stop());
  }
}

async function findPip(env: Environment, python?: WindowsPython): Promise<readonly string[]> {
  const first = python ? [[...python.command, "-m", "pip"]] : [];
  for (const pip of [...first, ...PIPS]) if ((await run([...pip, "--version"], env))?.success) return pip;
  throw new DownloadError(
    "no Python with pip is on PATH: install one (Debian and Ubuntu: `apt install python3-pip`; macOS: `brew install " +
      "python`; Windows: `winget install Python.Python.3.12`), or set NEPA_TENSORFLOW to a folder that holds " +
      LIBRARY,
  );
}

/** Bytes of the files below a folder, while others write and move them. */
function bytesIn(folder: string): number {
  let bytes = 0;
  try {
    for (const { name, isDirectory } of Deno.readDirSync(folder)) {
      const path = `${folder}/${name}`;
      bytes += isDirectory ? bytesIn(path) : Deno.statSync(path).size;
    }
  } catch {
    // It was moved.
  }
  return bytes;
}

/** Draws what has come below a folder, says when nothing comes, and stops what came to nothing, or to too much. */
function follow(
  folder: string,
  { bytes, kept }: Size,
  patience: number,
  stop: AbortController,
): () => Promise<void> {
  const total = Math.round(bytes / 1e6), bar = host.progress({ title: "TensorFlow", total, unit: "MB" });
  const silence = Math.min(30, patience / 2), limit = 2 * (bytes + kept);
  let last = 0, since = performance.now(), said = false;
  const timer = setInterval(() => {
    const now = bytesIn(folder), done = Math.min(total, Math.round(now / 1e6));
    bar.update(done, done === total ? "unpacking" : "");
    if (now !== last) [last, since, said] = [now, performance.now(), false];
    const still = (performance.now() - since) / 1000;
    if (still > silence && !said) {
      say(`nothing came for ${silence} s; after ${patience} (NEPA_PIP_SECONDS) pip is ended`);
    }
    said ||= still > silence;
    if (still > patience) stop.abort(`nothing came for ${patience} s (NEPA_PIP_SECONDS)`);
    if (now > limit) stop.abort(`more than ${mega(limit)} came`);
  }, 200);
  return () => {
    clearInterval(timer);
    return bar.end();
  };
}

/** Runs pip, its temporary files in the folder that it is to fill. */
async function runPip(
  command: string,
  folder: string,
  size: Size,
  env: Environment,
  python?: WindowsPython,
): Promise<void> {
  const pip = await findPip(env, python), args = [...pip, ...command.split(" "), folder];
  const temporary = `${folder}/tmp`, stop = new AbortController();
  await Deno.mkdir(temporary);
  const end = follow(folder, size, Number(env.NEPA_PIP_SECONDS || 300), stop);
  const result = await run(args, { ...env, TMPDIR: temporary }, stop.signal);
  await end();
  await Deno.remove(temporary, { recursive: true });
  if (result?.success) return;
  const lines = (result?.stderr ?? "").trim().split("\n").filter((line) => !line.startsWith("WARNING"));
  const reason = stop.signal.reason ?? (lines.slice(-3).join(" / ") || "it was interrupted");
  const remedy = "Try again when the network is up; `pip config list` shows the index that pip uses";
  throw new DownloadError(`\`${pip.join(" ")} ${command.split(" ")[0]}\`: ${reason}. ${remedy}`);
}

async function fetchWheel(
  wheel: Wheel,
  folder: string,
  env: Environment,
  python?: WindowsPython,
): Promise<void> {
  const what = `${wheel.name}==${VERSION} --no-deps --only-binary=:all:`;
  const { python: version = "3.11", platform } = wheel, abi = `cp${version.replace(".", "")}`;
  const tags = `--python-version ${version} --implementation cp --abi ${abi} --platform ${platform}`;
  await runPip(`download ${what} ${tags} ${QUIET} --dest`, folder, wheel, env, python);
  const name = [...Deno.readDirSync(folder)].map(({ name }) => name).find((name) => name.endsWith(".whl"));
  if (!name) throw new DownloadError(`pip left no wheel of ${wheel.name} in ${folder}`);
  const path = `${folder}/${name}`, archive = await Deno.readFile(path), found = sha256(archive);
  if (found !== wheel.sha256) {
    throw new DownloadError(
      `${name}: expected sha256 ${wheel.sha256}, got ${found}; what pip's index serves is not the official wheel. ` +
        "`pip config list` shows which index that is",
    );
  }
  await unpack(archive, folder, KEPT);
  if (python) await Deno.copyFile(python.dll, `${folder}/${basename(python.dll)}`);
  await Deno.remove(path);
}

/** Keeps the libraries' checksums, and sees to it that they outlast a loss of power. */
function secure(folder: string): void {
  const libraries = new Set([LIBRARY, FRAMEWORK].map((name) => `${folder}/${name}`)), python = dllIn(folder);
  if (python) libraries.add(python);
  for (const path of libraries) {
    seal(path);
    for (const each of [path, `${path}.sum`]) {
      using file = Deno.openSync(each, { read: true, write: true }); // without the latter Windows refuses

      file.syncSync();
    }
  }
}

/** @throws {DownloadError} If the disk has no room for so many bytes. */
async function checkRoom(folder: string, bytes: number): Promise<void> {
  const disk = granted({ name: "sys", kind: "statfs" }) ? await statfs(folder) : undefined;
  const free = disk ? disk.bavail * disk.bsize : Infinity;
  if (free >= bytes) return;
  throw new DownloadError(
    `${folder}: expected ${mega(bytes)} free on its disk, got ${
      mega(free)
    }: make room, or set XDG_CACHE_HOME to ` +
      "a folder on another disk",
  );
}

/** Removes what interrupted downloads left, downloads beside `folder`, and renames. */
async function fill(
  folder: string,
  what: Wheel | "gpu",
  env: Environment,
  python?: WindowsPython,
): Promise<void> {
  const around = dirname(folder), prefix = `${basename(folder)}.partial-`;
  for (const { name } of Deno.readDirSync(around)) {
    if (name.startsWith(prefix)) await Deno.remove(`${around}/${name}`, { recursive: true });
  }
  const { bytes, kept } = what === "gpu" ? GPU_BYTES : what;
  await checkRoom(around, bytes + kept);
  say(`downloading ${mega(bytes)} with pip, once; ${mega(kept)} are kept in ${folder}`);
  const partial = `${around}/${prefix}${crypto.randomUUID()}`;
  await Deno.mkdir(partial);
  try {
    if (what === "gpu") await runPip(GPU_INSTALL, partial, GPU_BYTES, env);
    else await fetchWheel(what, partial, env, python);
    secure(what === "gpu" ? `${partial}/tensorflow` : partial);
    await rename(partial, folder);
  } catch (error) {
    await Deno.remove(partial, { recursive: true });
    throw error;
  }
}

/**
 * Fetches TensorFlow into `folder`, unless another process just did: the system lets go of the lock when a process dies. The
 * folder appears when it is complete, by a rename; what an interrupted download left beside it is removed by the next one.
 *
 * @param what A wheel of which the libraries and licences are kept, or "gpu": all of `tensorflow[and-cuda]`.
 * @param python On Windows: whose pip is asked first, and whose DLL is laid beside the library.
 * @throws {DownloadError} With what helps.
 */
export async function fetchTensorFlow(
  what: Wheel | "gpu",
  folder: string,
  env: Environment,
  python?: WindowsPython,
): Promise<void> {
  const seconds = env.NEPA_PIP_SECONDS || "300";
  if (!(Number(seconds) > 0)) {
    throw new DownloadError(`NEPA_PIP_SECONDS: expected a number above 0, got "${seconds}"`);
  }
  try {
    await Deno.mkdir(dirname(folder), { recursive: true });
    using file = await Deno.open(`${folder}.lock`, { create: true, write: true });
    const waiting = setTimeout(() => say("another process is fetching it; waiting for that"), 1000);
    await file.lock(true).finally(() => clearTimeout(waiting));
    if (!await Deno.stat(folder).catch(() => undefined)) await fill(folder, what, env, python);
  } catch (error) {
    if (error instanceof DownloadError) throw error;
    throw new DownloadError(`${folder} could not be filled: ${(error as Error).message}`, { cause: error });
  }
}
