/**
 * Where a model or a data set is: in a folder here, or on the Hugging Face hub, from which it is fetched once into the cache folder
 * that Python's huggingface_hub keeps, in the same layout, so that either finds what the other has fetched.
 *
 * @module
 */
import { homedir } from "node:os";
import { basename, dirname, join, relative } from "node:path";
import { say } from "../display/jupyter.ts";
import { progress } from "../display/progress.ts";
import { type Environment, stoppable } from "@nepa/engine";
import { didYouMean, expect, shown } from "../base/check.ts";
import { COMMIT, fetchBlob, HubError, listFilesOf, PassingError } from "./hub_files.ts";
import type { Hub, HubFile } from "./hub_files.ts";
import { readIfThere } from "./plain.ts";
import { indexedFiles } from "./tensor_files.ts";
import { AVERAGED } from "./torch_file.ts";

/** Options of `Nepa.load` and `NepaClassifier.load`. */
export interface LoadOptions {
  /** Of a model on the hub: a branch, a tag or a commit. Default "main". */
  revision?: string;
  /** Take the averaged weights that the official trainer left in `pytorch_model_ema.bin`. Default false. */
  ema?: boolean;
}

/** For {@linkcode modelFolder}: variables (default: this process's), and how long to wait before the second try, in ms. */
export type SourceOptions = LoadOptions & { environment?: Environment; pause?: number };

const HUB_NAME = /^(?!.*(--|\.\.))[A-Za-z0-9][\w.-]*\/[A-Za-z0-9][\w.-]*$/;
const REVISION = /^(?!.*(\.\.|\/\/|\/$))\w[\w.+\/-]*$/;
const CONFIG = "config.json", PREPROCESSOR = "preprocessor_config.json";
const WEIGHTS = "model.safetensors", INDEX = "model.safetensors.index.json";

const isFile = (path: string) => Deno.stat(path).then(({ isFile }) => isFile, () => false);
const isOn = (value = "") => ["1", "ON", "YES", "TRUE"].includes(value.toUpperCase());
const textOf = (path: string) =>
  readIfThere(path, 2 ** 16).then((bytes) => new TextDecoder().decode(bytes), () => undefined);

/** Where the cache is, whom to ask and as whom: the variables of Python's huggingface_hub. */
async function settings(env: Environment) {
  const path = (text: string) =>
    text.replace(/^~(?=[\\/]|$)/, (Deno.build.os === "windows" ? env.USERPROFILE : env.HOME) || homedir())
      .replace(/\$(?:(\w+)|\{(\w+)\})/g, (all, a, b) => env[a ?? b] ?? all);
  const home = path(env.HF_HOME || join(env.XDG_CACHE_HOME || "~/.cache", "huggingface"));
  const cache = path(env.HF_HUB_CACHE || env.HUGGINGFACE_HUB_CACHE || join(home, "hub"));
  const endpoint = (env.HF_ENDPOINT || "https://huggingface.co").replace(/\/+$/, "");
  const url = URL.parse(endpoint);
  if (!url || !/^https?:$/.test(url.protocol) || url.username || url.password || url.search) {
    throw new HubError("HF_ENDPOINT: expected an address such as https://huggingface.co, got something else");
  }
  const file = path(env.HF_TOKEN_PATH || join(home, "token"));
  const token = (env.HF_TOKEN || env.HUGGING_FACE_HUB_TOKEN || await textOf(file) || "").trim();
  if (!/^[\x21-\x7e]*$/.test(token)) {
    throw new HubError(`HF_TOKEN, or ${file}: expected one word of plain characters, got something else`);
  }
  return { cache, endpoint, token: token || undefined, patience: Number(env.HF_HUB_DOWNLOAD_TIMEOUT) || 30 };
}

/** The files that are wanted, by their paths, where `has` says which there are and `fetched` brings one to this disk. */
type Wanted = (tools: {
  has: (path: string) => boolean | Promise<boolean>;
  fetched: (path: string) => string | Promise<string>;
}) => Promise<string[]>;

const modelFiles = (weights: string): Wanted => async ({ has, fetched }) => {
  const parted = weights === WEIGHTS && !await has(WEIGHTS) && await has(INDEX);
  const files = parted ? await indexedFiles(await fetched(INDEX)) : [weights];
  const others = [PREPROCESSOR, "ijepa.safetensors", "heads.safetensors"],
    there = await Promise.all(others.map(has));
  return [CONFIG, ...others.filter((_, i) => there[i]), ...files];
};

/** The folder of a revision in the cache, if all that is needed of it is there. */
async function cached(storage: string, revision: string, wanted: Wanted): Promise<string | undefined> {
  const noted = COMMIT.test(revision) ? revision : await textOf(join(storage, "refs", revision));
  const commit = noted?.trim() ?? "", folder = join(storage, "snapshots", commit);
  if (!COMMIT.test(commit)) return undefined;
  const path = (file: string) => join(folder, file), has = (file: string) => isFile(path(file));
  const there = await Promise.all((await wanted({ has, fetched: path })).map(has));
  return there.every(Boolean) ? folder : undefined;
}

/** Sees that a file is in its commit's folder. Processes, Python's too, wait for each other. */
async function fetchFile(hub: Hub, folder: string, file: HubFile, show = (_bytes: number) => {}) {
  if (
    await Deno.lstat(join(folder, file.path)).then((own) => own.isFile && own.size === file.size, () => false)
  ) {
    return; // where there are no links, Python moves or copies the file itself
  }
  const storage = join(folder, "../.."), link = join(folder, file.path);
  const blob = join(storage, "blobs", file.hash);
  const lock = join(storage, "../.locks", basename(storage), `${file.hash}.lock`);
  for (const path of [blob, link, lock]) await Deno.mkdir(dirname(path), { recursive: true });
  using held = await Deno.open(lock, { create: true, write: true });
  await held.lock(true);
  const size = await Deno.stat(blob).then(({ size }) => size, () => -1);
  if (size !== file.size) await fetchBlob(hub, basename(folder), file, blob, show);
  const target = relative(dirname(link), blob);
  if (await Deno.readLink(link).catch(() => undefined) === target) return;
  await Deno.remove(link).catch(() => {});
  const linked = Deno.build.os === "windows" // which lets few users make the other kind
    ? Deno.link(blob, link)
    : Deno.symlink(target, link).catch(() => Deno.link(blob, link));
  await linked.catch(() => Deno.copyFile(blob, link));
}

/** Fetches files one after another, shown as one bar. */
async function fetchFiles(hub: Hub, folder: string, files: readonly HubFile[]): Promise<void> {
  const { repo, revision, endpoint } = hub, mega = (bytes: number) => Math.round(bytes / 1e5) / 10;
  const total = mega(files.reduce((sum, { size }) => sum + size, 0));
  say(`${repo}, ${revision}: ${total} MB, kept in ${folder}, fetched from ${endpoint} where missing`);
  await using bar = progress({ title: repo, total, unit: "MB" });
  let before = 0;
  for (const file of files) {
    await fetchFile(hub, folder, file, (bytes) => bar.update(mega(before + bytes), file.path));
    bar.update(mega(before += file.size));
  }
}

/** Fetches what is wanted, then notes which commit the revision is. */
async function fetchAll(hub: Hub, storage: string, wanted: Wanted): Promise<string> {
  const { commit, files } = await listFilesOf(hub), { repo, revision } = hub;
  const folder = join(storage, "snapshots", commit), ref = join(storage, "refs", revision);
  const need = (path: string) => {
    const file = files.get(path), found = [...files.keys()].slice(0, 20).map((name) => JSON.stringify(name));
    if (file) return file;
    throw new HubError(`${repo}: expected ${path} at ${revision}, got ${found.join(", ") || "no files"}`);
  };
  const fetched = async (path: string) => {
    await fetchFile(hub, folder, need(path));
    return join(folder, path);
  };
  const paths = await wanted({ has: (path) => files.has(path), fetched });
  await fetchFiles(hub, folder, paths.map(need));
  if (revision !== commit) {
    await Deno.mkdir(dirname(ref), { recursive: true });
    await Deno.writeTextFile(ref, commit);
  }
  return folder;
}

/** The folder of what is wanted from the hub: as it is there now, or as it was last where the hub is out of reach. */
async function hubFolder(type: Hub["type"], repo: string, wanted: Wanted, options: SourceOptions) {
  const { environment = Deno.env.toObject(), pause = 500, revision = "main" } = options;
  expect(REVISION.test(revision), "revision", "a branch, a tag or a commit", JSON.stringify(revision));
  const { cache, ...from } = await settings(environment);
  const storage = join(cache, `${type}s--${repo.replace("/", "--")}`);
  const switches = ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "NEPA_OFFLINE"];
  const off = switches.find((name) => isOn(environment[name]));
  try {
    if (!off) {
      return await stoppable(repo, undefined, (signal) => {
        return fetchAll({ ...from, type, repo, revision, pause, signal }, storage, wanted);
      });
    }
    const help = `unset ${off}, or give the path of its folder`;
    throw new PassingError(`${repo}, ${revision}: expected it in ${storage}, since ${off} is set: ${help}`);
  } catch (error) {
    const folder = error instanceof PassingError ? await cached(storage, revision, wanted) : undefined;
    if (!folder) throw error;
    const why = off ? `${off} is set` : (error as Error).message;
    const whole = type === "dataset" || await isFile(join(folder, PREPROCESSOR));
    say(`${repo}, ${revision}: ${why}; taking ${folder}${whole ? "" : `, which has no ${PREPROCESSOR}`}`);
    return folder;
  }
}

/**
 * The folder that holds some files of a data set on the Hugging Face hub, which are fetched where they are missing.
 *
 * @param repo "organisation/name".
 * @param paths Paths in the data set's repository.
 * @param options As for {@linkcode modelFolder}.
 * @returns A folder with the files at these paths.
 * @throws {HubError} If they cannot be had.
 */
export async function dataSetFolder(
  repo: string,
  paths: readonly string[],
  options: SourceOptions = {},
): Promise<string> {
  return await hubFolder("dataset", repo, () => Promise.resolve([...paths]), options);
}

/**
 * The folder of a model, given that folder or the model's name on the Hugging Face hub; says which it is where a name
 * could be either.
 *
 * @param source A path, or "organisation/name". A folder of that name here is taken rather than the hub's model.
 * @param options The revision on the hub; variables such as HF_HOME, HF_TOKEN, HF_ENDPOINT and HF_HUB_OFFLINE.
 * @returns A folder in the official layout; the path itself, if it is none and no name on the hub.
 * @throws {HubError} If the hub's model cannot be had.
 * @throws {TypeError | RangeError} If the revision cannot be one, or the source is a folder.
 */
export async function modelFolder(source: string, options: SourceOptions = {}): Promise<string> {
  if (typeof source !== "string") {
    throw new TypeError(`source: expected a folder or a name, got ${shown(source)}`);
  }
  const isFolder = await Deno.stat(source).then(({ isDirectory }) => isDirectory, () => false);
  const { revision } = options, isName = HUB_NAME.test(source);
  const wanted = modelFiles(options.ema ? AVERAGED : WEIGHTS);
  const meant = isFolder
    ? undefined
    : await isFile(source)
    ? JSON.stringify(dirname(source))
    : isName
    ? undefined
    : address(source);
  if (meant) {
    const expected = 'expected a folder or a name on the hub, "organisation/name"';
    throw new TypeError(`source: ${expected}, got ${shown(source)}; write ${meant}`);
  }
  if (isName && !isFolder) {
    return await hubFolder("model", source, wanted, options).catch(async (error) => {
      if (!(error instanceof HubError)) throw error;
      const there = await Array.fromAsync(Deno.readDir(dirname(source))).catch(() => []);
      const near = there.length > 0
        ? didYouMean(basename(source), there.map(({ name }) => name).slice(0, 20))
        : "";
      throw new HubError(`${error.message}. There is no folder ${source} here either${near}`, {
        cause: error,
      });
    });
  }
  if (revision !== undefined) {
    const what = isFolder ? "a folder here: leave the revision out, or move the folder" : "another path";
    throw new TypeError(`revision: expected a name on the hub, "organisation/name", got ${source}, ${what}`);
  }
  if (isName) say(`${source}: loading the folder here, not a model on the Hugging Face hub`);
  return source;
}

/** What to write for the address of a model on the hub, or for its name with a revision; undefined if it is neither. */
function address(source: string): string | undefined {
  const parts =
    /^(https?:\/\/[^/]+\/|hf:\/\/|(?:huggingface|hf)\.co\/)?([\w.-]+\/[\w.-]+)(?:@([\w./-]+)|\/(?:tree|blob|resolve)\/([\w.-]+))?/;
  const [, host, name, ...revisions] = parts.exec(source) ?? [], branch = revisions.find(Boolean);
  if (!name || !host && !branch) return undefined;
  return branch
    ? `${JSON.stringify(name)} with { revision: ${JSON.stringify(branch)} }`
    : JSON.stringify(name);
}
