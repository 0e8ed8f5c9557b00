/** Files that are files: no link, pipe, device or folder in their place, none longer than it may be, and written whole. @module */
import { rename } from "@nepa/engine";
import { ForeignError } from "../base/check.ts";
import { isObject } from "./safetensors.ts";

/** Thrown for what stands where a file belongs, and for a file that is too long. */
export class FileError extends ForeignError {
  /** What it is, for those who cannot ask for the class. */
  override name = "FileError";
}

/** Bytes that a file of JSON may have. */
export const JSON_LIMIT = 2 ** 26;

/**
 * Refuses what is there and is no file.
 *
 * @param path Where a file belongs.
 * @param most Bytes that it may have.
 * @param look `Deno.lstat` to refuse links too.
 * @returns Whether there is a file.
 * @throws {FileError} If there is something else, or it is too long.
 */
export async function isPlain(path: string, most = Infinity, look = Deno.stat): Promise<boolean> {
  const found = await look(path).catch((error) => {
    if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory) return undefined;
    throw error;
  });
  if (!found) return false;
  const { isFile, isDirectory, isSymlink, size } = found;
  const got = isDirectory ? "a folder" : isSymlink ? "a link" : "a pipe or a device";
  if (!isFile) throw new FileError(`${path}: expected a file, got ${got}; take it away`);
  if (size > most) throw new FileError(`${path}: expected at most ${most} bytes, got ${size}`);
  return true;
}

/** A file's bytes; undefined where there is none. */
export async function readIfThere(path: string, most?: number): Promise<Uint8Array<ArrayBuffer> | undefined> {
  return await isPlain(path, most) ? await Deno.readFile(path) : undefined;
}

/**
 * The object that a JSON file holds; undefined where there is no file.
 *
 * @throws {FileError} If it is too long, or holds anything else.
 */
export async function readJson(path: string): Promise<Record<string, unknown> | undefined> {
  const bytes = await readIfThere(path, JSON_LIMIT);
  if (!bytes) return undefined;
  let json: unknown;
  try {
    json = JSON.parse(new TextDecoder().decode(bytes));
  } catch { /* refused below */ }
  if (isObject(json)) return json;
  throw new FileError(`${path}: expected a JSON object, got something else`);
}

/** Asks the disk to hold what was written to a file; or, of a folder, its names. */
export async function sync(path: string): Promise<void> {
  if (Deno.build.os === "windows" && (await Deno.stat(path)).isDirectory) return; // cannot be opened there
  using file = await Deno.open(path, { read: true, write: Deno.build.os === "windows" }); // where reading is not enough
  await file.sync();
}

/**
 * Writes files, each beside its place, then moves them there: all of them, or none. Links are not followed.
 *
 * @param files Paths and contents.
 * @throws {FileError} If something else stands there.
 */
export async function writeWhole(
  ...files: readonly (readonly [path: string, content: string | Uint8Array])[]
): Promise<void> {
  const parts: string[] = [];
  try {
    for (const [path, content] of files) {
      const part = `${path}.part`;
      for (const place of [path, part]) await isPlain(place);
      await Deno.remove(part).catch(() => {});
      parts.push(part);
      const bytes = typeof content === "string" ? new TextEncoder().encode(content) : content;
      await Deno.writeFile(part, bytes, { createNew: true });
      await sync(part);
    }
  } catch (error) {
    for (const part of parts) await Deno.remove(part).catch(() => {});
    throw error;
  }
  for (const [path] of files) await rename(`${path}.part`, path);
}
