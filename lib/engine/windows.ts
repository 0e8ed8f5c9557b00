/**
 * What TensorFlow needs on Windows beside its library: the DLL of the very Python that its wheel is made for, which it names
 * and never calls, and Microsoft's C++ runtime.
 *
 * @module
 */
import { dirname } from "node:path";
import { type Environment, run } from "./download.ts";
import { damageOf } from "./sums.ts";

/** A Python whose wheel of TensorFlow can be used. */
export interface WindowsPython {
  /** How it is called. */
  command: readonly string[];
  /** "3.12". */
  version: string;
  /** Path of `python312.dll`. */
  dll: string;
}

/** The versions that there are wheels for, the newest first. */
export const PYTHONS = ["3.13", "3.12", "3.11", "3.10"] as const;

const COMMANDS = [["python3"], ["python"], ...PYTHONS.map((version) => ["py", `-${version}`])];

const ASK = `
import json, sys, sysconfig
free = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
print(json.dumps([sys.implementation.name, sysconfig.get_platform(), *sys.version_info[:2], free, sys.base_prefix]))
`;

/** Python's words for platforms. */
const OTHERS: Record<string, string> = { "win32": "is of 32 bits", "win-arm64": "is for ARM" };

/** What a Python is, or why it cannot be used. */
export async function askPython(
  command: readonly string[],
  env: Environment,
): Promise<WindowsPython | string | undefined> {
  const result = await run([...command, "-c", ASK], env);
  if (!result || command[0] === "py" && !result.success) return undefined; // no such command, no such version
  const name = command.join(" "), answer = result.stdout.trim().split("\n").at(-1)!;
  if (!result.success || !answer.startsWith("[")) {
    return `${name} gives no answer, as the Microsoft Store's placeholder does not`;
  }
  const [kind, platform, major, minor, free, base] = JSON.parse(answer) as
    & [string, string, number, number]
    & { 4: boolean; 5: string };
  const version = `${major}.${minor}`, dll = `${base}/python${major}${minor}.dll`;
  if (kind !== "cpython") return `${name} is ${kind}`;
  if (platform.startsWith("mingw") || platform.startsWith("msys")) return `${name} is MSYS2's`;
  if (platform !== "win-amd64") return `${name} ${OTHERS[platform] ?? `is for ${platform}`}`;
  if (!(PYTHONS as readonly string[]).includes(version)) return `${name} is ${version}`;
  if (free) return `${name} is ${version} without the GIL`;
  const there = await Deno.stat(dll).then(({ isFile }) => isFile, () => false);
  return there ? { command, version, dll } : `${name} has no ${dll}`;
}

/** The first Python on this machine that fits, or why none does, and what helps. */
export async function findPython(env: Environment): Promise<WindowsPython | string> {
  const reasons: string[] = [];
  for (const command of COMMANDS) {
    const found = await askPython(command, env);
    if (typeof found === "object") return found;
    if (found) reasons.push(found);
  }
  return `expected python.org's Python 3.10 to 3.13 for x86_64, got ${reasons.join("; ") || "none"}: ` +
    "`winget install Python.Python.3.12` brings one; begin anew in a new terminal then";
}

/**
 * Renames. Where a scanner has a file open for a moment, as it does on Windows, it is tried again for some seconds.
 *
 * @param attempt What renames.
 */
export async function rename(from: string, to: string, attempt = Deno.rename): Promise<void> {
  for (let wait = 10;; wait *= 2) {
    try {
      return await attempt(from, to);
    } catch (error) {
      const held = /\(os error (5|32|33)\)/.test((error as Error).message) && wait < 2000; // Windows' numbers
      if (!held || Deno.build.os !== "windows" && attempt === Deno.rename) throw error;
      await new Promise((resolve) => setTimeout(resolve, wait));
    }
  }
}

/** The DLL of a Python that lies in a folder. */
export function dllIn(folder: string): string | undefined {
  const found = [...Deno.readDirSync(folder)].find(({ name }) => /^python3\d+\.dll$/i.test(name));
  return found && `${folder}/${found.name}`;
}

/** The file version that a DLL's resources tell: [14, 40]; undefined if they tell none. */
export function versionOf(dll: Uint8Array): [major: number, minor: number] | undefined {
  const view = new DataView(dll.buffer, dll.byteOffset, dll.byteLength);
  for (let at = dll.indexOf(0xbd); at >= 0 && at + 12 <= dll.length; at = dll.indexOf(0xbd, at + 1)) {
    if (view.getUint32(at, true) === 0xfeef04bd) {
      return [view.getUint16(at + 10, true), view.getUint16(at + 8, true)];
    }
  }
  return undefined;
}

const RUNTIME = ["vcruntime140.dll", "vcruntime140_1.dll", "msvcp140.dll"];
const REMEDY = "install Microsoft's Visual C++ runtime, `winget install Microsoft.VCRedist.2015+.x64`";

/** A runtime from before this one would end the process: the library's locks are made as it knows them. */
function refuseOld(file: string): void {
  const path = `${Deno.env.get("SystemRoot") || "C:/Windows"}/System32/${file}`;
  let found: ReturnType<typeof versionOf>;
  try {
    found = versionOf(Deno.readFileSync(path));
  } catch {
    return; // it is elsewhere, or not there
  }
  if (!found || found[0] > 14 || found[0] === 14 && found[1] >= 40) return;
  throw new Error(`${path}: expected version 14.40 or later, got ${found.join(".")}: ${REMEDY}`);
}

/**
 * Opens what the library needs. Windows looks for that beside `deno.exe` and on PATH, not beside the library; what is open is
 * found by its name.
 *
 * @param python Path of Python's DLL. Default: the one beside the library.
 * @throws {Error} That names the file which cannot be opened, and what helps.
 */
export function openNeeded(library: string, python = dllIn(dirname(library))): void {
  if (!python) {
    throw new Error("expected the DLL of its Python beside it, python312.dll for 3.12: copy that there");
  }
  refuseOld(RUNTIME[2]!);
  for (const path of [...RUNTIME, python]) {
    try {
      const damage = path === python ? damageOf(path) : undefined; // its code would end the process
      if (damage) throw new Error(damage);
      Deno.dlopen(path, {});
    } catch (error) {
      const remedy = path === python ? "remove its folder, and the next start fetches it anew" : REMEDY;
      throw new Error(`${path}: ${(error as Error).message}: ${remedy}`);
    }
  }
}
