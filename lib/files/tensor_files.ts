/** Safetensors files that are read tensor by tensor, one or several with an index. @module */
import { type FileHandle, open } from "node:fs/promises";
import { dirname, join } from "node:path";
import { decode, HEADER_LIMIT, headerLength, isObject, parseHeader, parseStrictly } from "./safetensors.ts";
import { type Header, type HostTensor, refuse, SafetensorsError, type TensorInfo } from "./safetensors.ts";

/** A file, or several with an index, of which only the headers have been read. */
export interface OpenSafetensors extends AsyncDisposable {
  /** By name; a file's in the order of their bytes. */
  readonly infos: ReadonlyMap<string, TensorInfo>;
  /** Texts by name, of all files. */
  readonly metadata: Readonly<Record<string, string>>;
  /**
   * Reads one tensor.
   *
   * @param name One of `infos`.
   * @throws {SafetensorsError} If there is no such tensor, or the file has become shorter.
   */
  read(name: string): Promise<HostTensor>;
}

/**
 * Opens a safetensors file and reads its header, or those of all files that an index (`….index.json`) names.
 *
 * @param path The file or the index, beside which its files lie.
 * @returns What is in there, and how to read it; dispose of it, with `await using`, to close the files.
 * @throws {SafetensorsError} If a file is broken, or an index names files elsewhere or tensors that are not in them.
 *
 * @example
 * ```ts
 * import { openSafetensors, writeSafetensors } from "nepa";
 * import { assertEquals } from "@std/assert";
 *
 * const path = await Deno.makeTempFile();
 * await Deno.writeFile(path, writeSafetensors(new Map([["a", { shape: [1, 2], data: new Int32Array(2) }]])));
 * {
 *   await using file = await openSafetensors(path);
 *   assertEquals(file.infos.get("a"), { dtype: "I32", shape: [1, 2], byteLength: 8 });
 *   assertEquals([...(await file.read("a")).data], [0, 0]);
 * }
 * await Deno.remove(path);
 * ```
 */
export async function openSafetensors(path: string): Promise<OpenSafetensors> {
  if (!path.endsWith(".json")) return await openOne(path);
  await using opened = new AsyncDisposableStack();
  const files = new Map<string, OpenSafetensors>(), holders = new Map<string, OpenSafetensors>();
  for (const [name, file] of await naming(path, () => readIndex(path))) {
    if (!files.has(file)) files.set(file, opened.use(await openShard(path, file)));
    if (!files.get(file)!.infos.has(name)) refuse(`${path}: ${name}: expected in ${file}, which lacks it`);
    holders.set(name, files.get(file)!);
  }
  const held = opened.move();
  return {
    infos: new Map([...holders].map(([name, file]) => [name, file.infos.get(name)!])),
    metadata: Object.fromEntries([...files.values()].flatMap(({ metadata }) => Object.entries(metadata))),
    read: async (name) =>
      await (holders.get(name) ?? refuse(`${path}: there is no tensor ${name}`)).read(name),
    [Symbol.asyncDispose]: () => held.disposeAsync(),
  };
}

async function openShard(index: string, file: string): Promise<OpenSafetensors> {
  return await openOne(join(dirname(index), file)).catch((error) => {
    if (error instanceof Deno.errors.NotFound) refuse(`${index}: expected ${file} beside it`, error);
    throw error;
  });
}

/** What `work` gives; an error of it says of which file. */
async function naming<T>(path: string, work: () => Promise<T>): Promise<T> {
  return await work().catch((cause) => {
    throw cause instanceof SafetensorsError
      ? new SafetensorsError(`${path}: ${cause.message}`, { cause })
      : cause;
  });
}

async function openOne(path: string): Promise<OpenSafetensors> {
  const { size, isFile } = await Deno.stat(path);
  if (!isFile) refuse(`${path}: expected a file`);
  await using opened = new AsyncDisposableStack();
  const handle = opened.adopt(await open(path), (handle) => handle.close());
  const { entries, metadata, start } = await naming(path, () => readHeader(handle, size));
  const held = opened.move();
  return {
    infos: new Map([...entries].map(([name, { from: _, ...info }]) => [name, info])),
    metadata,
    read: (name) =>
      naming(path, async () => {
        const entry = entries.get(name) ?? refuse(`there is no tensor ${name}`);
        return decode(await readBytes(handle, start + entry.from, entry.byteLength), entry);
      }),
    [Symbol.asyncDispose]: () => held.disposeAsync(),
  };
}

async function readHeader(handle: FileHandle, size: number): Promise<Header & { start: number }> {
  const length = headerLength(await readBytes(handle, 0, Math.min(8, size)), size), start = 8 + length;
  return { ...parseHeader(await readBytes(handle, 8, length), size - start), start };
}

async function readBytes(handle: FileHandle, from: number, length: number): Promise<Uint8Array<ArrayBuffer>> {
  const bytes = new Uint8Array(length);
  for (let done = 0; done < length;) {
    const { bytesRead } = await handle.read(bytes, done, Math.min(length - done, 1 << 30), from + done);
    if (bytesRead === 0) refuse(`cut off: expected ${length} bytes at ${from}, got ${done}`);
    done += bytesRead;
  }
  return bytes;
}

/**
 * Which files an index names, each beside it or in a folder there.
 *
 * @throws {SafetensorsError} If it is not an index, or names files elsewhere.
 */
export async function indexedFiles(path: string): Promise<Set<string>> {
  return new Set((await naming(path, () => readIndex(path))).map(([, file]) => file));
}

/** Which file beside an index holds each tensor. */
async function readIndex(path: string): Promise<[name: string, file: string][]> {
  const { size, isFile } = await Deno.stat(path);
  if (!isFile) refuse("expected a file");
  if (size > HEADER_LIMIT) refuse(`expected at most ${HEADER_LIMIT} bytes, got ${size}`);
  const { weight_map: files } = parseStrictly(await Deno.readFile(path), "any");
  if (!isObject(files)) return refuse("expected a weight_map, files by tensor name");
  return Object.entries(files).map(([name, file]) => {
    if (typeof file !== "string" || /[\\:\0]/.test(file) || /(^|\/)\.{0,2}(\/|$)/.test(file)) {
      return refuse(`${name}: expected a file beside the index, got ${JSON.stringify(file)}`);
    }
    return [name, file];
  });
}
