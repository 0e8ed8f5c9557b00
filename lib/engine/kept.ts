/** XLA's compiled functions, kept on disk: the next process that records the same ones need not compile them. @module */
import { createHash, randomUUID } from "node:crypto";
import { statfs } from "node:fs/promises";
import { cpus, hostname } from "node:os";
import { type Environment, granted } from "./download.ts";
import { host } from "./host.ts";
import { cacheRoot } from "./install.ts";
import { setVariable } from "./libc.ts";
import { isAsSealed, seal, sealedAt } from "./sums.ts";

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
  const rest = [size, mtime?.getTime(), ...threads, XLA_FLAGS, TF_XLA_FLAGS, "sealed"];
  return createHash("sha256").update([...processor, ...rest].join("\n")).digest("hex").slice(0, 16);
}

const pathsIn = (folder: string): string[] =>
  [...Deno.readDirSync(folder)].map(({ name }) => `${folder}/${name}`);
/** Other names are of checksums, and of files that are being written. */
const codeIn = (folder: string): string[] =>
  pathsIn(folder).filter((path) => path.endsWith(".pb") && Deno.lstatSync(path).isFile);

function remove(path: string): void {
  for (const each of [path, `${path}.sum`]) {
    try {
      Deno.removeSync(each);
    } catch {
      // Another process did, or nothing sealed it.
    }
  }
}

/** Removes, of all machines' folders, the oldest files beyond the limit. */
function tidy(root: string): void {
  const files = pathsIn(root).filter((path) => Deno.statSync(path).isDirectory).flatMap(pathsIn)
    .filter((path) => !path.endsWith(".sum"))
    .map((path) => ({ path, ...Deno.statSync(path) }));
  files.sort((a, b) => b.mtime!.getTime() - a.mtime!.getTime());
  let bytes = 0;
  for (const { path, size } of files) {
    bytes += Math.max(size, LEAST_BYTES);
    if (bytes > MAX_BYTES) remove(path);
  }
}

/** Removes code that is not as it was compiled, or was never sealed. */
function removeDamaged(folder: string): void {
  for (const path of codeIn(folder)) {
    const whole = isAsSealed(path);
    if (whole === false) host.say(`${path}: compiled code that was damaged; removed, and compiled anew`);
    if (!whole) remove(path);
  }
}

/** Seals what was compiled since, in the place of what another process had compiled too. */
export function sealCompiled(folder: string): void {
  const made = (path: string) => Deno.statSync(path).birthtime?.getTime() ?? 0;
  try {
    for (const path of codeIn(folder)) if (!(made(path) <= sealedAt(path))) seal(path);
  } catch {
    // What is not sealed is compiled anew.
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
  if (!root || Deno.build.os === "darwin" || flags.includes("persistent_cache_directory")) return undefined;
  const all = `${root}/compiled`;
  if (!granted({ name: "write", path: all })) return undefined;
  try {
    const known = `model name: ${cpus()[0]?.model.split("\0")[0]} in ${hostname()}`; // Deno shows /proc only with all permissions
    cpuinfo ??= await Deno.readTextFile("/proc/cpuinfo").catch(() => known);
    const folder = `${all}/${await machine(library, env, cpuinfo)}`, probe = `${folder}/${randomUUID()}`;
    if (Deno.build.os === "windows" && /[^ -~]/.test(folder)) return undefined; // TensorFlow does not find such a folder
    await Deno.mkdir(folder, { recursive: true, mode: 0o700 });
    await Deno.writeTextFile(probe, "");
    await Deno.remove(probe);
    tidy(all);
    removeDamaged(folder);
    const { bavail, bsize } = await statfs(folder);
    if (bavail * bsize < 2 * MAX_BYTES) return undefined;
    const quoted = `"${folder.replaceAll(/["\\]/g, "\\$&")}"`; // there may be spaces in it
    const kept = `--tf_xla_persistent_cache_directory=${quoted} --tf_xla_persistent_cache_device_types=CPU`;
    setVariable("TF_XLA_FLAGS", `${flags} ${kept}`.trim());
    return folder;
  } catch {
    return undefined; // it only saves time
  }
}
