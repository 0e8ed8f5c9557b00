/** Fetches TensorFlow's C library with the user's own pip, into our own cache. @module */
import { host } from "./host.ts";
import { onInterrupt, onTerminate } from "./interrupt.ts";
import { seal } from "./sums.ts";
import { sha256, unpack } from "./wheel.ts";

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
  /** Of the wheel for Python 3.11. The libraries in it need no Python. */
  sha256: string;
}

/** The version that the engine is written for. */
export const VERSION = "2.21.0";

/** The library's file name, and that of the one which must lie beside it. */
export const [LIBRARY, FRAMEWORK] = Deno.build.os === "darwin"
  ? ["libtensorflow_cc.2.dylib", "libtensorflow_framework.2.dylib"] as const
  : ["libtensorflow_cc.so.2", "libtensorflow_framework.so.2"] as const;

/** By operating system and processor. Linux on x86_64 is tested, the others are not. */
export const WHEELS: Readonly<Record<string, Wheel>> = {
  "linux-x86_64": {
    name: "tensorflow-cpu",
    platform: "manylinux_2_27_x86_64",
    sha256: "2b847d217b02ee7731ed91431daf3250daa0196c3c94614d23be27232e6e5b6c",
    bytes: 273_829_956,
    kept: 853_787_275,
  },
  "linux-aarch64": {
    name: "tensorflow",
    platform: "manylinux_2_27_aarch64",
    sha256: "4b24aca16d527a3cf1c37f720c04c484c3d20f4d0fdfa98632ac8b9f3be6eb5c",
    bytes: 281_828_020,
    kept: 883_540_547,
  },
  "darwin-aarch64": {
    name: "tensorflow",
    platform: "macosx_12_0_arm64",
    sha256: "51f46f4806139d01fc7920cc72a4c75876f80649bf40ff083ab6212ceb43ca88",
    bytes: 223_405_849,
    kept: 741_283_963,
  },
};

/** What `tensorflow[and-cuda]` comes to on Linux x86_64: wheels, and what is kept. */
export const GPU_BYTES = { bytes: 3_500_000_000, kept: 7_500_000_000 };

/** Why TensorFlow could not be fetched, and what helps. */
export class DownloadError extends Error {
  /** "DownloadError". */
  override name = "DownloadError";
}

/** Says something that must not be missed, whether anyone watches or not. */
const say = (line: string) => console.error(line);
const mega = (bytes: number) => `${Math.round(bytes / 1e6)} MB`;

const GPU_INSTALL = `install tensorflow[and-cuda]==${VERSION} --only-binary=:all: --no-compile`;
const KEPT = /^tensorflow\/(libtensorflow_(cc|framework)\.[^/]+|THIRD_PARTY_NOTICES\.txt|include\/LICENSE)$/;
const PIPS = [["python3", "-m", "pip"], ["python", "-m", "pip"], ["pip3"], ["pip"]] as const;

/** Runs a command to its end, in a group of its own, which ends with this process or by `signal`. Undefined if there is none. */
export async function run(
  [command, ...args]: readonly string[],
  env: Environment,
  signal = AbortSignal.timeout(20_000),
): Promise<{ success: boolean; stdout: string; stderr: string } | undefined> {
  const options = { args, env, clearEnv: true, detached: true, stdin: "null" } as const;
  let child: Deno.ChildProcess;
  try {
    child = new Deno.Command(command!, { ...options, stdout: "piped", stderr: "piped" }).spawn();
  } catch (error) {
    const { NotFound, PermissionDenied, NotCapable } = Deno.errors;
    if ([NotFound, PermissionDenied, NotCapable].some((kind) => error instanceof kind)) return undefined;
    throw error;
  }
  const end = () => {
    try {
      Deno.kill(-child.pid, "SIGKILL");
    } catch {
      child.kill("SIGKILL"); // with leave to run some commands alone, the others of its group cannot be ended
    }
  };
  const unlisten = [
    onInterrupt(() => host.inNotebook() ? end() : Deno.exit(130)),
    onTerminate(() => Deno.exit(143)),
  ];
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

async function findPip(env: Environment): Promise<readonly string[]> {
  for (const pip of PIPS) if ((await run([...pip, "--version"], env))?.success) return pip;
  throw new DownloadError(
    "no Python with pip is on PATH: install one (Debian and Ubuntu: `apt install python3-pip`; macOS: `brew install " +
      "python`), or set NEPA_TENSORFLOW to a folder that holds " + LIBRARY,
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
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  return bytes;
}

interface Tools {
  pip: readonly string[];
  env: Environment;
}

const seconds = (n: number) => `${n} second${n === 1 ? "" : "s"}`;

/**
 * Draws a download's progress while pip works, says when there is none, and ends pip when there was none for too long, or
 * when more comes than there should be.
 *
 * @returns What ends the watch.
 */
function watch(
  folder: string,
  { bytes, kept }: Size,
  env: Environment,
  stop: AbortController,
): () => Promise<void> {
  const total = Math.round(bytes / 1e6), bar = host.progress({ title: "TensorFlow", total, unit: "MB" });
  const patience = Number(env.NEPA_PIP_SECONDS || 300), says = Math.min(30, patience / 2);
  let last = 0, since = performance.now(), said = false;
  const timer = setInterval(() => {
    const now = bytesIn(folder), done = Math.min(total, Math.round(now / 1e6));
    bar.update(done, done === total ? "unpacking" : "");
    if (now !== last) [last, since, said] = [now, performance.now(), false];
    const still = (performance.now() - since) / 1000;
    if (still > says && !said) {
      said = true;
      say(
        `TensorFlow: nothing has come for ${seconds(says)}; pip is ended after ${
          seconds(patience)
        } (NEPA_PIP_SECONDS)`,
      );
    }
    if (still > patience) stop.abort(`nothing came for ${seconds(patience)} (NEPA_PIP_SECONDS)`);
    if (now > 2 * (bytes + kept)) stop.abort(`more than ${mega(2 * (bytes + kept))} came`);
  }, 200);
  return async () => {
    clearInterval(timer);
    await bar.end();
  };
}

/** Runs pip with its temporary files in `folder`, the download shown as a bar. */
async function runPip(
  command: string,
  target: string,
  folder: string,
  size: Size,
  { pip, env }: Tools,
): Promise<void> {
  const args = `${command} --no-cache-dir --disable-pip-version-check --no-input --progress-bar=off`.split(
    " ",
  );
  await Deno.mkdir(`${folder}/tmp`);
  const stop = new AbortController(), end = watch(folder, size, env, stop);
  const result = await run(
    [...pip, ...args, target, folder],
    { ...env, TMPDIR: `${folder}/tmp` },
    stop.signal,
  );
  await end();
  await Deno.remove(`${folder}/tmp`, { recursive: true });
  if (result?.success) return;
  const lines = (result?.stderr ?? "").trim().split("\n").filter((line) => !line.startsWith("WARNING"));
  const reason = stop.signal.reason ?? (lines.slice(-3).join(" / ") || "it was interrupted");
  throw new DownloadError(
    `\`${
      [...pip, args[0]].join(" ")
    }\`: ${reason}. Try again when the network is up; \`pip config list\` shows the ` +
      "index that pip uses",
  );
}

async function fetchWheel({ name, platform, ...wheel }: Wheel, folder: string, tools: Tools): Promise<void> {
  const python = "--python-version 3.11 --implementation cp --abi cp311", what = `${name}==${VERSION}`;
  const command = `download ${what} --no-deps --only-binary=:all: ${python} --platform ${platform}`;
  await runPip(command, "--dest", folder, wheel, tools);
  const file = [...Deno.readDirSync(folder)].find(({ name }) => name.endsWith(".whl"));
  if (!file) throw new DownloadError(`pip left no wheel of ${what} in ${folder}`);
  const path = `${folder}/${file.name}`, archive = await Deno.readFile(path), found = sha256(archive);
  if (found !== wheel.sha256) {
    throw new DownloadError(
      `${file.name}: expected sha256 ${wheel.sha256}, got ${found}; what pip's index serves is not the official ` +
        "wheel. `pip config list` shows which index that is",
    );
  }
  await unpack(archive, folder, KEPT);
  await Deno.remove(path);
}

/** Runs `work` while no other process does the same. The system lets go of the lock when a process dies. */
async function alone<T>(lock: string, work: () => Promise<T>): Promise<T> {
  using file = await Deno.open(lock, { create: true, write: true });
  const waiting = setTimeout(() => say("TensorFlow: another process is fetching it; waiting for that"), 1000);
  try {
    await file.lock(true);
  } finally {
    clearTimeout(waiting);
  }
  return await work();
}

/** Keeps the libraries' checksums, and sees to it that they outlast a loss of power. */
function secure(folder: string): void {
  for (const path of [LIBRARY, FRAMEWORK].map((name) => `${folder}/${name}`)) {
    seal(path);
    for (const each of [path, `${path}.sum`]) {
      using file = Deno.openSync(each);
      file.syncSync();
    }
  }
}

/** Removes what interrupted downloads left, downloads beside `folder`, and renames. */
async function fill(folder: string, what: Wheel | "gpu", tools: Tools): Promise<void> {
  if (await Deno.stat(folder).catch(() => undefined)) return;
  const slash = folder.lastIndexOf("/"), prefix = `${folder.slice(slash + 1)}.partial-`;
  for (const { name } of Deno.readDirSync(folder.slice(0, slash))) {
    if (name.startsWith(prefix)) await Deno.remove(`${folder.slice(0, slash)}/${name}`, { recursive: true });
  }
  const { bytes, kept } = what === "gpu" ? GPU_BYTES : what;
  say(
    `TensorFlow ${VERSION}: downloading ${mega(bytes)} with pip, once; ${mega(kept)} are kept in ${folder}`,
  );
  const partial = `${folder}.partial-${crypto.randomUUID()}`;
  await Deno.mkdir(partial);
  try {
    if (what === "gpu") await runPip(GPU_INSTALL, "--target", partial, GPU_BYTES, tools);
    else await fetchWheel(what, partial, tools);
    secure(what === "gpu" ? `${partial}/tensorflow` : partial);
    await Deno.rename(partial, folder);
  } catch (error) {
    await Deno.remove(partial, { recursive: true });
    throw error;
  }
}

/**
 * Fetches TensorFlow into `folder`, unless another process just did. The folder appears when it is complete, by a
 * rename; what an interrupted download left beside it is removed by the next one.
 *
 * @param what A wheel of which the libraries and licences are kept, or "gpu": all of `tensorflow[and-cuda]`.
 * @throws {DownloadError} With what helps.
 */
export async function fetchTensorFlow(what: Wheel | "gpu", folder: string, env: Environment): Promise<void> {
  try {
    const pip = await findPip(env);
    await Deno.mkdir(folder.slice(0, folder.lastIndexOf("/")), { recursive: true });
    await alone(`${folder}.lock`, () => fill(folder, what, { pip, env }));
  } catch (error) {
    if (error instanceof DownloadError) throw error;
    throw new DownloadError(`${folder} could not be filled: ${(error as Error).message}`, { cause: error });
  }
}
