/** Results that take long, kept in the user's cache folder from one process to the next. @module */
import { createHash } from "node:crypto";
import { cacheRoot, granted, rename } from "@nepa/engine";
import { ahead } from "./ahead.ts";

/** A hash of a text and of numbers. */
export function hashOf(text: string, numbers: Int32Array = new Int32Array()): string {
  const bytes = new Uint8Array(numbers.buffer, numbers.byteOffset, numbers.byteLength);
  return createHash("sha256").update(text).update(bytes).digest("hex");
}

/** What `compute` gives, or gave in an earlier process under this name. Where no file can be kept, it is computed. */
export async function remembered<T>(name: string, compute: () => Promise<T>): Promise<T> {
  const root = cacheRoot(Deno.env.toObject());
  if (!root) return await compute();
  const folder = `${root}/results`, file = `${folder}/${name}.json`;
  const kept = await Deno.readTextFile(file).then((text): T => JSON.parse(text)).catch(() => undefined);
  if (kept !== undefined) return kept; // else it is not there, or not whole
  const value = await compute(), part = `${file}.${crypto.randomUUID()}`;
  if (!granted({ name: "write", path: folder })) return value;
  try {
    await Deno.mkdir(folder, { recursive: true });
    await Deno.writeTextFile(part, JSON.stringify(value));
    await rename(part, file);
  } catch { /* a folder that cannot be written */ }
  return value;
}

/** Files of more bytes together are known by their sizes and times. */
const LARGE = 2 ** 32;

/** A file that was changed so many milliseconds ago may be changed again without another time. */
const SETTLED = 2000;

async function digestOf(file: string): Promise<string> {
  const hash = createHash("sha256"), { readable } = await Deno.open(file);
  for await (const chunk of readable) hash.update(chunk);
  return hash.digest("hex");
}

/**
 * A hash of what files hold, one after another. It is kept for as long as they have the same names, sizes and times of change;
 * above 4 GiB together, where reading them all would take too long, it is one of sizes and times.
 */
export async function contentsOf(files: readonly string[]): Promise<string> {
  const stats = await Array.fromAsync(ahead(files.length, async (i) => {
    const { size, mtime } = await Deno.stat(files[i]!);
    return { size, time: mtime?.getTime() ?? 0 };
  }));
  const sum = (value: unknown) => hashOf(JSON.stringify(value));
  if (stats.reduce((total, { size }) => total + size, 0) > LARGE) return sum(stats);
  const read = async () => sum(await Array.fromAsync(ahead(files.length, (i) => digestOf(files[i]!))));
  const newest = stats.reduce((latest, { time }) => Math.max(latest, time), 0);
  if (Date.now() - newest < SETTLED) return await read();
  return await remembered(`contents-${sum([files, stats])}`, read);
}
