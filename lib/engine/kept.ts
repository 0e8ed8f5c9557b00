/** XLA's compiled functions, kept on disk: the next process that records the same ones need not compile them. @module */
import { createHash, randomUUID } from "node:crypto";
import { statfs } from "node:fs/promises";
import { cpus, hostname } from "node:os";
import type { Environment } from "./download.ts";
import { cacheRoot } from "./install.ts";

/** Beyond this, the oldest go. A training step takes some megabytes, a small function counts as `LEAST_BYTES`. */
const MAX_BYTES = 200e6, LEAST_BYTES = 4e5;

/** What compiled code fits: this processor, this library, these settings. */
async function machine(library: string, env: Environment, cpuinfo: string): Promise<string> {
  const processor = cpuinfo.split("\n\n")[0]!.split("\n").filter((line) =>
    /^(vendor_id|cpu family|model|model name|stepping|flags|Features|CPU [a-z]+)\s*:/.test(line)
  );
  const { size, mtime } = await Deno.stat(library);
  const { TF_NUM_INTRAOP_THREADS, XLA_FLAGS, TF_XLA_FLAGS } = env;
  const threads = [navigator.hardwareConcurrency, TF_NUM_INTRAOP_THREADS];
  const rest = [size, mtime?.getTime(), ...threads, XLA_FLAGS, TF_XLA_FLAGS];
  return createHash("sha256").update([...processor, ...rest].join("\n")).digest("hex").slice(0, 16);
}

/** Whether a file consists of whole fields of a protocol buffer. A machine that lost power may have left a part. */
function isWhole(path: string, size: number): boolean {
  using file = Deno.openSync(path);
  const head = new Uint8Array(11);
  let at = 0;
  while (at < size) {
    file.seekSync(at, Deno.SeekMode.Start);
    if (file.readSync(head) === null || (head[0]! & 7) !== 2) return false; // 2: a length, then as many bytes
    let length = 0, i = 1;
    do length += (head[i]! & 127) * 2 ** (7 * (i - 1)); while (head[i]! & 128 && ++i < head.length);
    at += 1 + i + length;
  }
  return at === size && size > 0;
}

/** Removes what is damaged and, of all machines' folders, the oldest files beyond the limit. */
function tidy(root: string): void {
  const folders = [...Deno.readDirSync(root)].filter(({ isDirectory }) => isDirectory);
  const paths = folders.flatMap(({ name }) =>
    [...Deno.readDirSync(`${root}/${name}`)].map((file) => `${root}/${name}/${file.name}`)
  );
  const files = paths.map((path) => ({ path, ...Deno.statSync(path) }));
  files.sort((a, b) => b.mtime!.getTime() - a.mtime!.getTime());
  let bytes = 0;
  for (const { path, size } of files) {
    bytes += Math.max(size, LEAST_BYTES);
    // Other names are of files that are being written.
    if (bytes > MAX_BYTES || path.endsWith(".pb") && !isWhole(path, size)) Deno.removeSync(path);
  }
}

/**
 * Tells TensorFlow, before it is opened, to keep what XLA compiles for the processor, and to look there first. Without a
 * folder that can be written, with a disk that is nearly full, or where `TF_XLA_FLAGS` names a folder already, nothing
 * is changed: TensorFlow would let a function fail whose code it cannot keep.
 *
 * @param library Path of the library.
 * @param cpuinfo What the system says of its processors. Default: /proc/cpuinfo.
 * @returns The folder.
 */
export async function keepCompiled(
  library: string,
  env: Environment,
  cpuinfo?: string,
): Promise<string | undefined> {
  const root = cacheRoot(env), flags = env.TF_XLA_FLAGS ?? "";
  if (!root || Deno.build.os !== "linux" || flags.includes("persistent_cache_directory")) return undefined;
  const all = `${root}/compiled`;
  try {
    const known = `model name: ${cpus()[0]?.model} in ${hostname()}`; // Deno shows /proc only with all permissions
    cpuinfo ??= await Deno.readTextFile("/proc/cpuinfo").catch(() => known);
    const folder = `${all}/${await machine(library, env, cpuinfo)}`, probe = `${folder}/${randomUUID()}`;
    await Deno.mkdir(folder, { recursive: true, mode: 0o700 });
    await Deno.writeTextFile(probe, "");
    await Deno.remove(probe);
    tidy(all);
    const { bavail, bsize } = await statfs(folder);
    if (bavail * bsize < 2 * MAX_BYTES || folder.includes(" ")) return undefined; // a space would end the flag
    const kept = `--tf_xla_persistent_cache_directory=${folder} --tf_xla_persistent_cache_device_types=CPU`;
    Deno.env.set("TF_XLA_FLAGS", `${flags} ${kept}`.trim());
    return folder;
  } catch {
    return undefined; // it only saves time
  }
}
