/** Requests to the Hugging Face hub: retries, refusals in plain words, downloads that are resumed and checked. @module */
import { rename } from "@nepa/engine";
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { ForeignError } from "../base/check.ts";
import { say } from "../display/jupyter.ts";

/** Thrown when a model cannot be had from the Hugging Face hub, with what helps; it never holds a token. */
export class HubError extends ForeignError {
  /** "HubError". */
  override name = "HubError";
}

/** One that the next try may not meet with: after `again` milliseconds; `progress`: more of a file is here than before. */
export class PassingError extends HubError {
  constructor(message: string, readonly again = 0, readonly progress = false) {
    super(message);
  }
}

/** A model or a data set on a hub, and who asks for it: the token goes to the endpoint ("https://huggingface.co") alone. */
export interface Hub {
  readonly endpoint: string;
  readonly token: string | undefined;
  readonly type: "model" | "dataset";
  /** "organisation/name". */
  readonly repo: string;
  readonly revision: string;
  /** Milliseconds before the second try of a request; each further one waits twice as long. */
  readonly pause: number;
  /** Seconds in which something has to come. */
  readonly patience: number;
  /** Ends all requests. */
  readonly signal: AbortSignal;
}

/** One file of a model; its hash in hexadecimal: SHA-256 of a large one (64 digits), git's SHA-1 of a small one (40). */
export interface HubFile {
  readonly path: string;
  readonly size: number;
  readonly hash: string;
}

/** What git calls a commit. */
export const COMMIT = /^[0-9a-f]{40}$/;

/** Where it is to be seen, and its files begin. */
const pageOf = ({ endpoint, type, repo }: Hub) => `${endpoint}/${type === "model" ? "" : "datasets/"}${repo}`;

const TRIES = 5, LONGEST_PAUSE = 60_000, PASSING = [408, 429, 500, 502, 503, 504];

/** A list of files comes in at most so many answers of at most so many bytes. */
const MOST_ANSWERS = 1000, MOST_BYTES = 2 ** 25;

async function retrying<T>({ pause, signal }: Hub, work: () => Promise<T>): Promise<T> {
  for (let tries = 1;; tries++) {
    signal.throwIfAborted();
    try {
      return await work();
    } catch (error) {
      if (!(error instanceof PassingError)) throw error;
      if (error.progress) tries = 1;
      if (tries === TRIES) throw error;
      const wait = Math.max(pause * 2 ** (tries - 1), error.again);
      if (wait > LONGEST_PAUSE) throw error;
      if (wait >= 5000) say(`${error.message}; trying again in ${Math.round(wait / 1000)} s`);
      await sleep(wait, undefined, { signal }).catch(() => {});
    }
  }
}

/** An error of the network without the address, which may be a signed one; errors of the disk stay what they are. */
function unreached({ endpoint, repo }: Hub, error: unknown, before = "", progress = false): unknown {
  if (!(error instanceof TypeError)) return error;
  const { message } = error.cause instanceof Error ? error.cause : error;
  const reason = before + message.replace(/( for url)? ?\(?https?:\/\/[^\s)]*\)?/g, "");
  const help = "check the network, HTTPS_PROXY and HF_ENDPOINT", kept = "what has come is kept";
  const text = `${repo}: expected an answer from ${endpoint}, got: ${reason}; ${help}`;
  return new PassingError(`${text}; ${kept}, the next try goes on from there`, 0, progress);
}

/** Why the hub said no, and what helps. */
function refused(hub: Hub, { status, headers }: Response): HubError {
  const { endpoint, repo, revision, token } = hub;
  if (PASSING.includes(status)) {
    const seconds = Number(headers.get("retry-after")) || 0;
    const text = `${repo}: ${endpoint} could not answer (HTTP ${status}): try again`;
    return new PassingError(`${text} ${seconds > 0 ? `in ${seconds} seconds` : "later"}`, 1000 * seconds);
  }
  const code = headers.get("x-error-code"), page = pageOf(hub);
  const login = token === undefined
    ? "log in with `hf auth login` or set HF_TOKEN"
    : "the token from HF_TOKEN or `hf auth login` may have expired or may not read it: renew it";
  const why = code === "GatedRepo"
    ? `its owner asks for conditions to be accepted: do so on ${page}, then ${login}`
    : code === "RevisionNotFound"
    ? `there is no revision ${JSON.stringify(revision)}: see ${page}/tree/main`
    : [401, 403, 404].includes(status)
    ? "there is no such folder here, and no such model there that may be read: check the name; if it is private, " +
      login
    : "this was not expected: check HF_ENDPOINT";
  return new HubError(`${repo}: ${endpoint} refused (HTTP ${status}): ${why}`);
}

/** What is done with an answer; it calls `alive` whenever something has come. */
type Read<T> = (response: Response, alive: () => void) => Promise<T>;

/** One request, from a byte on, which ends where nothing comes for too long. `fetch` drops the token where it goes to another host. */
async function request<T>(hub: Hub, url: string, read: Read<T>, start = 0): Promise<T> {
  const { patience, endpoint, token, signal } = hub, stop = new AbortController();
  const stall = () => stop.abort(new TypeError(`nothing for ${patience} seconds`));
  let timer = setTimeout(stall, 1000 * patience);
  const alive = () => {
    clearTimeout(timer);
    timer = setTimeout(stall, 1000 * patience);
  };
  const headers = new Headers({ "accept-encoding": "identity" });
  if (start > 0) headers.set("range", `bytes=${start}-`);
  const own = new URL(url).origin === new URL(endpoint).origin;
  if (own && token) headers.set("authorization", `Bearer ${token}`);
  try {
    const response = await fetch(url, { headers, signal: AbortSignal.any([stop.signal, signal]) });
    if (response.ok) return await read(response, alive);
    await response.body?.cancel();
    if (response.status !== 416 || start === 0) throw refused(hub, response);
  } catch (error) {
    throw unreached(hub, error);
  } finally {
    clearTimeout(timer);
  }
  return await request(hub, url, read); // what is here already is of another file: from the beginning
}

/** An answer, read whole. */
const bounded: Read<Response> = async (response, alive) => {
  const chunks: Uint8Array<ArrayBuffer>[] = [];
  let size = 0;
  for await (const chunk of response.body ?? []) {
    alive();
    chunks.push(chunk);
    if ((size += chunk.length) > MOST_BYTES) {
      throw new HubError(`the list of files: expected at most ${MOST_BYTES} bytes, got more`);
    }
  }
  return new Response(new Blob(chunks), response);
};

/**
 * Which commit a revision is, and the files in it by path.
 *
 * @throws {HubError} If it cannot be had, or is not what a hub answers.
 */
export async function listFilesOf(hub: Hub): Promise<{ commit: string; files: Map<string, HubFile> }> {
  const { datasetInfo, listFiles, modelInfo } = await import("@huggingface/hub");
  const { endpoint: hubUrl, type, repo: name, revision } = hub, files = new Map<string, HubFile>();
  const seen = new Set<string>();
  const ask: typeof fetch = (address) => {
    const url = String(address);
    if (seen.has(url) || seen.size === MOST_ANSWERS) throw new TypeError("a list of files without an end");
    seen.add(url);
    return retrying(hub, () => request(hub, url, bounded));
  };
  try {
    const asked = { name, revision, hubUrl, fetch: ask, additionalFields: ["sha"] as ["sha"] };
    const { sha } = await (type === "model" ? modelInfo(asked) : datasetInfo(asked)), repo = { type, name };
    if (!COMMIT.test(sha)) throw new TypeError("no commit");
    for await (const entry of listFiles({ repo, revision: sha, recursive: true, hubUrl, fetch: ask })) {
      const { type, path, size } = entry, hash = entry.lfs?.oid ?? entry.oid ?? "";
      if (type !== "file") continue;
      if (!/^([0-9a-f]{40}|[0-9a-f]{64})$/.test(hash) || !(Number.isSafeInteger(size) && size >= 0)) {
        throw new TypeError(`size or hash of ${JSON.stringify(path)}`);
      }
      files.set(path, { path, size, hash });
    }
    return { commit: sha, files };
  } catch (error) {
    if (!(error instanceof SyntaxError || error instanceof TypeError)) throw error;
    const help = "check HF_ENDPOINT, and whether a proxy or a login page of the network is in the way";
    throw new HubError(`${name}: expected a Hugging Face hub at ${hubUrl}, got: ${error.message}; ${help}`);
  }
}

/** Whether a file holds what its hash is of. */
async function isIntact(path: string, { size, hash }: HubFile): Promise<boolean> {
  const sum = createHash(hash.length === 64 ? "sha256" : "sha1");
  if (hash.length === 40) sum.update(`blob ${size}\0`);
  for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 })) sum.update(chunk);
  return sum.digest("hex") === hash;
}

/**
 * Downloads a file, going on from what an earlier try left in `<blob>.incomplete`.
 *
 * @param blob Where it appears, when all of it is here and its hash is right.
 * @param show Told how many bytes are here.
 * @throws {HubError} If it cannot be had; if its hash is wrong, nothing of it is kept.
 */
export async function fetchBlob(
  hub: Hub,
  commit: string,
  file: HubFile,
  blob: string,
  show: (bytes: number) => void,
): Promise<void> {
  const { path, size } = file, part = `${blob}.incomplete`;
  const url = `${pageOf(hub)}/resolve/${commit}/${path.split("/").map(encodeURIComponent).join("/")}`;
  const { isFile } = await Deno.lstat(part).catch(() => ({ isFile: false }));
  if (!isFile) await Deno.remove(part).catch(() => {}); // a link is not followed
  let furthest = await Deno.stat(part).then(({ size }) => size, () => -1);
  const advance = async () => { // one try, from where the last one stopped
    using out = await Deno.open(part, { write: true, create: true });
    const before = (await out.stat()).size, start = before < size ? before : 0;
    const write: Read<void> = async ({ body, headers }, alive) => {
      let at = headers.get("content-range")?.startsWith(`bytes ${start}-`) ? start : 0;
      await out.truncate(at);
      await out.seek(at, Deno.SeekMode.Start);
      try {
        for await (const chunk of body ?? []) {
          alive();
          const fitting = chunk.subarray(0, size - at);
          for (let done = 0; done < fitting.length;) done += await out.write(fitting.subarray(done));
          show(at += fitting.length);
          if (fitting.length < chunk.length) break;
        }
        if (at < size) throw new TypeError("the end");
      } catch (error) {
        throw unreached(hub, error, `${at} of ${size} bytes of ${path}, then `, at > furthest + size / 1000);
      } finally {
        furthest = Math.max(furthest, at);
      }
    };
    await request(hub, url, write, start);
    await out.syncData();
  };
  if (furthest !== size) await retrying(hub, advance);
  if (!await isIntact(part, file)) {
    await Deno.remove(part);
    const expected = `${hub.repo}: ${path}: expected the hash ${file.hash}`;
    throw new HubError(`${expected}, got other bytes, now removed: try again`);
  }
  await rename(part, blob);
}
