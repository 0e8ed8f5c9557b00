/** Where TensorFlow's C library comes from: the user's own path, the user's Python, our cache, or a download. @module */
import { basename, dirname } from "node:path";
import {
  DownloadError,
  type Environment,
  fetchTensorFlow,
  FRAMEWORK,
  LIBRARY,
  run,
  VERSION,
  type Wheel,
  WHEELS,
} from "./download.ts";
import { askPython, findPython, PYTHONS } from "./windows.ts";

/** A TensorFlow library that is there. */
export interface FoundTensorFlow {
  /** Path of `libtensorflow_cc.so.2`; on Windows, of `_pywrap_tensorflow_common.dll`. */
  library: string;
  /** On Windows: path of the DLL of the Python that it is made for, where that does not lie beside it. */
  python?: string;
  /** "2.21.0"; undefined if only the library itself knows. */
  version: string | undefined;
  /** Where it was found, in words. */
  source: string;
  /** What was passed over on the way, and why. */
  notes: string[];
}

/** Options of {@linkcode findTensorFlow} and {@linkcode installTensorFlow}. */
export interface FindOptions {
  /** Default: this process' own. */
  environment?: Environment;
  /** The build to download, instead of the one pinned for this platform. */
  wheel?: Wheel;
}

const WINDOWS = Deno.build.os === "windows";
const PLATFORM = `${Deno.build.os}-${Deno.build.arch}`;
type Kind = "cpu" | "gpu";
/** The series whose C library the engine is written for. */
const SERIES = VERSION.slice(0, VERSION.lastIndexOf(".") + 1);

/** The library in a folder, with the other one beside it. */
async function libraryIn(folder: string, library: string = LIBRARY): Promise<string | undefined> {
  const there = [library, FRAMEWORK].map((name) => Deno.stat(`${folder}/${name}`));
  const complete = await Promise.all(there).then((all) => all.every(({ isFile }) => isFile), () => false);
  return complete ? `${folder}/${library}` : undefined;
}

async function explicit(path: string): Promise<FoundTensorFlow> {
  const within = ["", "/tensorflow", "/python", "/tensorflow/python"].map((part) => libraryIn(path + part));
  const library = (await Promise.all(within)).find(Boolean) ?? await libraryIn(dirname(path), basename(path));
  if (library) return { library, version: undefined, source: "NEPA_TENSORFLOW", notes: [] };
  throw new Error(
    `NEPA_TENSORFLOW: expected the path of ${LIBRARY}, or of its folder, with ${FRAMEWORK} beside it, got "${path}". ` +
      "Correct it, or unset it to let the library be found or downloaded",
  );
}

/** Finds the package without importing it: that would take seconds. */
const ASK_PYTHON = `
import importlib.metadata as metadata, importlib.util as util, json, sys
sys.path = [p for p in sys.path if p]
spec = util.find_spec("tensorflow")
if spec and spec.submodule_search_locations:
    for name in ("tensorflow", "tensorflow-cpu", "tensorflow-cpu-aws", "tensorflow-macos"):
        try:
            print(json.dumps([list(spec.submodule_search_locations)[0], metadata.version(name)]))
            break
        except metadata.PackageNotFoundError:
            pass
`;

async function inPython(env: Environment, notes: string[]): Promise<FoundTensorFlow | undefined> {
  for (const python of ["python3", "python"]) {
    const answer = (await run([python, "-c", ASK_PYTHON], env))?.stdout.trim().split("\n").at(-1);
    if (!answer?.startsWith("[")) continue;
    const [folder, version] = JSON.parse(answer) as [string, string];
    const library = await libraryIn(WINDOWS ? `${folder}/python` : folder);
    const asked = WINDOWS ? await askPython([python], env) : undefined;
    if (version.startsWith(SERIES) && library && typeof asked !== "string") {
      const beside = asked ? { python: asked.dll } : {};
      return { library, version, source: `${python}'s own`, notes, ...beside };
    }
    const reason = asked && typeof asked === "string"
      ? asked
      : library
      ? `${SERIES}x is needed`
      : `${LIBRARY} is not in it`;
    const note = `TensorFlow ${version} of ${python} (${folder}) was passed over: ${reason}`;
    if (!notes.includes(note)) notes.push(note);
  }
  return undefined;
}

/** Our own folder, by the XDG convention; on Windows, where programs keep what belongs to one machine. */
export function cacheRoot(env: Environment): string | undefined {
  const own = WINDOWS ? env.LOCALAPPDATA?.replaceAll("\\", "/") : env.HOME && `${env.HOME}/.cache`;
  const root = env.XDG_CACHE_HOME || own;
  return root ? `${root}/nepa` : undefined;
}

function cacheFolder(kind: Kind, env: Environment, python?: string): string {
  const root = cacheRoot(env);
  if (!root) {
    throw new DownloadError(
      `neither XDG_CACHE_HOME nor ${WINDOWS ? "LOCALAPPDATA" : "HOME"} is set: set one`,
    );
  }
  return `${root}/tensorflow-${VERSION}-${kind}-${PLATFORM}${python ? `-python${python}` : ""}`;
}

async function inCache(kind: Kind, env: Environment, notes: string[]): Promise<FoundTensorFlow | undefined> {
  for (const python of WINDOWS ? PYTHONS : [undefined]) {
    const folder = cacheFolder(kind, env, python);
    const library = await libraryIn(kind === "gpu" ? `${folder}/tensorflow` : folder);
    const source = env.HOME && folder.startsWith(env.HOME) ? folder.replace(env.HOME, "~") : folder;
    if (library) return { library, version: VERSION, source, notes };
  }
  return undefined;
}

async function downloaded(kind: Kind, wheel: Wheel | undefined, env: Environment, notes: string[]) {
  if (env.NEPA_OFFLINE === "1") {
    throw new DownloadError("NEPA_OFFLINE=1 forbids the download: unset it, or set NEPA_TENSORFLOW");
  }
  const builds = Object.keys(WHEELS).filter((name) => name.startsWith(PLATFORM));
  if (builds.length === 0) throw new DownloadError(`TensorFlow ${VERSION} has no build for ${PLATFORM}`);
  const python = WINDOWS ? await findPython(env) : undefined;
  if (typeof python === "string") throw new DownloadError(`Windows: ${python}`);
  const name = python ? `${PLATFORM}-${python.version}` : PLATFORM,
    folder = cacheFolder(kind, env, python?.version);
  await fetchTensorFlow(kind === "gpu" ? kind : wheel ?? WHEELS[name]!, folder, env, python);
  const found = await inCache(kind, env, notes);
  if (found) return found;
  throw new DownloadError(`${folder}: expected ${LIBRARY} in it; remove the folder and try again`);
}

/**
 * Finds TensorFlow's C library: `NEPA_TENSORFLOW`; the GPU build, where {@linkcode installTensorFlow} has fetched it; a
 * TensorFlow 2.21 of the user's Python; our cache, which is filled by `pip download` unless `NEPA_OFFLINE=1`.
 *
 * @returns Where it is, or what is missing and what helps.
 * @throws {Error} If `NEPA_TENSORFLOW` is set and leads nowhere.
 */
export async function findTensorFlow(
  options: FindOptions = {},
): Promise<FoundTensorFlow | { missing: string; notes: string[] }> {
  const env = options.environment ?? Deno.env.toObject(), notes: string[] = [];
  if (env.NEPA_TENSORFLOW) return await explicit(env.NEPA_TENSORFLOW);
  try {
    return await inCache("gpu", env, notes) ?? await inPython(env, notes) ??
      await inCache("cpu", env, notes) ?? await downloaded("cpu", options.wheel, env, notes);
  } catch (error) {
    if (!(error instanceof DownloadError)) throw error;
    return { missing: error.message, notes };
  }
}

/**
 * Fetches TensorFlow into our cache now, where it is not there yet: what `deno task setup` does.
 *
 * @param options `gpu`: the CUDA build, Linux x86_64 with an NVIDIA driver (about 3.5 GB to download, 7.5 GB on disk).
 * @returns What {@linkcode useEngine} takes from now on.
 * @throws {DownloadError} With what helps.
 *
 * @example
 * ```ts
 * import { installTensorFlow } from "nepa";
 *
 * const { library, source } = await installTensorFlow();
 * console.log(library, source);
 * ```
 */
export async function installTensorFlow(
  options: FindOptions & { gpu?: boolean } = {},
): Promise<FoundTensorFlow> {
  if (options.gpu && Deno.build.os !== "linux") {
    throw new DownloadError("TensorFlow's GPU build is for Linux");
  }
  if (options.gpu) return await downloaded("gpu", undefined, options.environment ?? Deno.env.toObject(), []);
  const found = await findTensorFlow(options);
  if ("missing" in found) throw new DownloadError(found.missing);
  return found;
}
