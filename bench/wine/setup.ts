/**
 * Deno for Windows under Wine, with what TensorFlow needs there. Two gaps of Wine 8 are filled: a DLL that it lacks, and a
 * function that Deno then does without, by a changed name in a copy of deno.exe. Python's DLL is made from the names that
 * the library imports; whichever of them is called says so and ends the process.
 *
 * @module
 */
import { fileURLToPath } from "node:url";
import { WHEELS } from "../../lib/engine/download.ts";
import { lines } from "../process.ts";
import { sha256, unpack } from "../../lib/engine/wheel.ts";

const WINE = "/usr/lib/wine/wine64", GCC = "x86_64-w64-mingw32-gcc", OBJDUMP = "x86_64-w64-mingw32-objdump";
const PYTHON = "3.12", DLL = "python312.dll";
const here = (name: string) => fileURLToPath(new URL(name, import.meta.url));
const there = (path: string) => Deno.stat(path).then(() => true, () => false);

async function command(name: string, args: string[], options: Deno.CommandOptions = {}): Promise<string> {
  const { success, stdout, stderr } = await new Deno.Command(name, { ...options, args }).output();
  if (success) return new TextDecoder().decode(stdout);
  throw new Error(`${name} ${args.join(" ")}: ${new TextDecoder().decode(stderr)}`);
}

/** The names that a library takes from Python's. What is printed of a library of this size is long, and read in part. */
async function importedNames(library: string): Promise<string[]> {
  const child = new Deno.Command(OBJDUMP, { args: ["-p", library], stdout: "piped", stderr: "null" }).spawn();
  const names: string[] = [];
  let within = false;
  for await (const line of lines(child.stdout)) {
    if (within && line.trim() === "") break;
    const [, name] = /^\s+[0-9a-f]+\s+\d+\s+(\w+)/.exec(line) ?? [];
    if (within && name) names.push(name);
    within ||= line.includes(`DLL Name: ${DLL}`);
  }
  child.kill();
  await child.status;
  return names;
}

/** A path of this machine as programs under Wine know it. */
export const windowsPath = (path: string): string => `Z:${path.replaceAll("/", "\\")}`;

/** Deno for Windows, made ready. */
export class Wine {
  /** @param place A folder of its own: Wine's system disk, Deno, the library, npm's packages. */
  constructor(readonly place: string) {}

  /** The user's folder for programs' data, on this machine. */
  get appData(): string {
    return `${this.place}/prefix/drive_c/users/${Deno.env.get("USER") || "root"}/AppData/Local`;
  }

  /** What programs under Wine find in their environment. */
  variables(): Record<string, string> {
    const keep = ["PATH", "HOME", "USER", "LANG", "PIP_CERT", "PIP_INDEX_URL", "NPM_CONFIG_REGISTRY"];
    const kept = keep.flatMap((name) => Deno.env.has(name) ? [[name, Deno.env.get(name)!]] : []);
    return {
      ...Object.fromEntries(kept),
      WINEPREFIX: `${this.place}/prefix`,
      WINEARCH: "win64",
      WINEDEBUG: "-all",
      WINEDLLOVERRIDES: "msvcp140,vcruntime140,vcruntime140_1,bcryptprimitives=n,b;winemenubuilder=d",
      WINEPATH: windowsPath(`${this.place}/python`),
      UNIX_PREFIX: `${this.place}/prefix`,
      DENO_DIR: windowsPath(`${this.place}/deno-dir`),
      DENO_CERT: windowsPath("/etc/ssl/certs/ca-certificates.crt"),
      DENO_NO_UPDATE_CHECK: "1",
      NO_COLOR: "1",
      NEPA_QUIET: "1",
    };
  }

  /**
   * Runs Deno for Windows to its end, or for some minutes. What it prints goes to a file: Wine's server may hold a pipe open
   * when the process is gone.
   *
   * @returns What it printed, both streams together.
   */
  async deno(
    args: readonly string[],
    log: string,
    minutes = 15,
  ): Promise<{ success: boolean; text: string }> {
    const cwd = fileURLToPath(new URL("../..", import.meta.url)), env = { ...this.variables(), LOG: log };
    const words = ["-c", 'exec "$@" >"$LOG" 2>&1', "sh", WINE, `${this.place}/deno.exe`, ...args];
    const child = new Deno.Command("sh", { args: words, cwd, env, clearEnv: true, stdin: "null" }).spawn();
    const late = setTimeout(() => child.kill("SIGKILL"), minutes * 60_000);
    const { success } = await child.status;
    clearTimeout(late);
    return { success, text: await Deno.readTextFile(log) };
  }

  /** Makes what is not there yet. */
  async prepare(): Promise<void> {
    for (const name of [WINE, GCC, OBJDUMP]) {
      await new Deno.Command(name, { args: ["--version"], stdout: "null" }).output().catch((cause) => {
        const packages = "wine64 wine gcc-mingw-w64-x86-64";
        throw new Error(`no ${name}: apt-get install --no-install-recommends ${packages}`, { cause });
      });
    }
    await Deno.mkdir(`${this.place}/python`, { recursive: true });
    const env = this.variables();
    if (!await there(`${this.place}/prefix/system.reg`)) {
      await command(WINE, ["wineboot", "-i"], { env, clearEnv: true });
    }
    const system = `${this.place}/prefix/drive_c/windows/system32`;
    const made = `${system}/bcryptprimitives.dll`;
    await command(GCC, ["-shared", "-O2", "-o", made, here("gaps.c"), "-ladvapi32"]);
    for (const name of ["python.exe", "python3.exe"]) {
      await command(GCC, ["-O2", "-w", "-o", `${this.place}/python/${name}`, here("python.c")]);
    }
    if (!await there(`${this.place}/deno.exe`)) await this.#fetchDeno();
    if (!await there(`${system}/msvcp140_1.dll`)) await this.#fetchRuntime(system);
    if (!await there(`${this.place}/python/${DLL}`)) await this.#makePython();
  }

  async #fetchDeno(): Promise<void> {
    const { place } = this, name = `@deno/win32-x64@${Deno.version.deno}`;
    await command("npm", ["pack", "--silent", "--pack-destination", place, name], { cwd: place });
    const archive = `deno-win32-x64-${Deno.version.deno}.tgz`;
    await command("tar", ["xzf", archive, "--strip-components=1", "package/deno.exe"], { cwd: place });
    await Deno.remove(`${place}/${archive}`);
    const bytes = await Deno.readFile(`${place}/deno.exe`), text = new TextDecoder("latin1").decode(bytes);
    const at = text.indexOf("\0VirtualAlloc2\0");
    if (at < 0) throw new Error("deno.exe: expected it to ask for VirtualAlloc2, got no such name");
    bytes[at + "\0VirtualAlloc".length] = "X".charCodeAt(0);
    await Deno.writeFile(`${place}/deno.exe`, bytes);
  }

  /** Fetches a wheel for Windows with pip and unpacks what is wanted of it, flat. */
  async #wheel(requirement: string, folder: string, wanted: RegExp, expected?: string): Promise<void> {
    const temporary = await Deno.makeTempDir({ dir: this.place });
    const abi = `cp${PYTHON.replace(".", "")}`, platform = ["--platform", "win_amd64", "--abi", abi];
    const python = ["--python-version", PYTHON, "--implementation", "cp", ...platform];
    const options = ["--no-deps", "--only-binary=:all:", ...python, "--quiet", "--no-cache-dir"];
    await command("python3", ["-m", "pip", "download", requirement, ...options, "--dest", temporary]);
    const [{ name }] = await Array.fromAsync(Deno.readDir(temporary)) as [Deno.DirEntry];
    const bytes = await Deno.readFile(`${temporary}/${name}`), got = sha256(bytes);
    if (expected && got !== expected) throw new Error(`${name}: expected sha256 ${expected}, got ${got}`);
    await unpack(bytes, folder, wanted);
    await Deno.remove(temporary, { recursive: true });
  }

  /** Microsoft's C++ runtime, which Wine has in part. */
  async #fetchRuntime(system: string): Promise<void> {
    await this.#wheel("msvc-runtime==14.51.36231", system, /\/Scripts\/(msvcp140|vcruntime140)(_1)?\.dll$/);
  }

  async #makePython(): Promise<void> {
    const library = "_pywrap_tensorflow_common.dll",
      { place } = this,
      wheel = WHEELS[`windows-x86_64-${PYTHON}`]!;
    await this.#wheel(`${wheel.name}==2.21.0`, place, new RegExp(`/${library}$`), wheel.sha256);
    const names = await importedNames(`${place}/${library}`);
    await Deno.remove(`${place}/${library}`);
    if (names.length < 100) {
      throw new Error(`expected the names that ${library} imports, got ${names.length}`);
    }
    const code = names.map((name) => `__declspec(dllexport) void ${name}(void) { refuse("${name}"); }`);
    const refuse =
      'static void refuse(const char *name) { fprintf(stderr, "%s was called\\n", name); _exit(86); }';
    await Deno.writeTextFile(
      `${place}/python.c`,
      ["#include <stdio.h>", "#include <unistd.h>", refuse, ...code].join("\n"),
    );
    await command(GCC, ["-shared", "-O1", "-w", "-o", `${place}/python/${DLL}`, `${place}/python.c`]);
  }
}
