/** Results that take long, kept in the user's cache folder from one process to the next. @module */
import { createHash } from "node:crypto";
import type { Dataset } from "../data/dataset.ts";
import { cacheRoot } from "@nepa/engine";

/** A name for all that a result depends on: every pixel and label of the data sets (of files, their fingerprint), and `settings`. */
export async function fingerprint(sets: readonly Dataset[], settings: unknown): Promise<string> {
  const hash = createHash("sha256").update(JSON.stringify(settings));
  for (const set of sets) {
    hash.update(JSON.stringify([set.length, set.height, set.width, set.channels, set.classes]));
    if (set.fingerprint !== undefined) {
      hash.update(set.fingerprint);
      continue;
    }
    for await (const { images, labels } of set.batches({ size: 1000, shuffle: false, dropLast: false })) {
      hash.update(images).update(new Uint8Array(labels.buffer, labels.byteOffset, labels.byteLength));
    }
  }
  return hash.digest("hex").slice(0, 32);
}

/** What `compute` gives, or gave in an earlier process under this name. Where no file can be kept, it is computed. */
export async function remembered<T>(name: string, compute: () => Promise<T>): Promise<T> {
  const root = cacheRoot(Deno.env.toObject());
  if (!root) return await compute();
  const folder = `${root}/results`, file = `${folder}/${name}.json`;
  try {
    return JSON.parse(await Deno.readTextFile(file)) as T;
  } catch { /* not there, or not whole */ }
  const value = await compute(), part = `${file}.${crypto.randomUUID()}`;
  try {
    await Deno.mkdir(folder, { recursive: true });
    await Deno.writeTextFile(part, JSON.stringify(value));
    await Deno.rename(part, file);
  } catch { /* a folder that cannot be written */ }
  return value;
}
