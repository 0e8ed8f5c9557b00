import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { DownloadError, fetchTensorFlow, FRAMEWORK, LIBRARY, WHEELS } from "../../lib/engine/download.ts";
import { setVariable } from "../../lib/engine/libc.ts";
import { damageOf } from "../../lib/engine/sums.ts";
import {
  dllIn,
  findPython,
  openNeeded,
  rename,
  versionOf,
  type WindowsPython,
} from "../../lib/engine/windows.ts";
import { withFolder } from "../support/folder.ts";
import { workingPip, type World, world } from "../support/install_world.ts";
import { needs } from "../support/needs.ts";

/** What stands for a Python: it answers the question who it is, and nothing else. */
interface Answer {
  kind?: string;
  platform?: string;
  version?: string;
  free?: boolean;
  base?: string;
}

const NOWHERE = "/nowhere";

/** A script for a command that prints so. */
function answering(
  { kind = "cpython", platform = "win-amd64", version = "3.12", free = false, base }: Answer,
) {
  const [major, minor] = version.split(".").map(Number);
  return `echo '${JSON.stringify([kind, platform, major, minor, free, base ?? NOWHERE])}'`;
}

/** A machine with these commands, and what is found there. */
async function found(commands: Record<string, string>, dlls: string[] = []): Promise<WindowsPython | string> {
  await using w = await world();
  for (const name of dlls) await Deno.writeTextFile(`${w.folder}/${name}`, "");
  for (const [name, script] of Object.entries(commands)) {
    await w.command(name, script.replaceAll(NOWHERE, w.folder));
  }
  const result = await findPython(w.environment);
  return typeof result === "string" ? result : { ...result, dll: result.dll.replace(`${w.folder}/`, "") };
}

Deno.test(
  "CPython 3.10 to 3.13 is taken with the DLL of its version, 3.9 and 3.14 are not",
  needs("sh"),
  async () => {
    for (const version of ["3.10", "3.11", "3.12", "3.13"]) {
      const dll = `python${version.replace(".", "")}.dll`;
      assertEquals(await found({ python: answering({ version }) }, [dll]), {
        command: ["python"],
        version,
        dll,
      });
      assert(WHEELS[`windows-x86_64-${version}`]);
    }
    for (const version of ["3.9", "3.14"]) {
      const why = await found({ python: answering({ version }) }, [`python${version.replace(".", "")}.dll`]);
      assertEquals(
        why,
        `expected python.org's Python 3.10 to 3.13 for x86_64, got python is ${version}: ` +
          "`winget install Python.Python.3.12` brings one; begin anew in a new terminal then",
      );
    }
  },
);

Deno.test("other Pythons are passed over, each with its reason", needs("sh"), async () => {
  for (
    const [answer, reason] of [
      [{ free: true, version: "3.13" }, "python3 is 3.13 without the GIL"],
      [{ platform: "win-arm64" }, "python3 is for ARM"],
      [{ platform: "win32" }, "python3 is of 32 bits"],
      [{ platform: "mingw_x86_64_ucrt_gnu" }, "python3 is MSYS2's"],
      [{ platform: "linux-x86_64" }, "python3 is for linux-x86_64"],
      [{ kind: "pypy" }, "python3 is pypy"],
      [{}, "python3 has no "],
    ] as const
  ) assertStringIncludes(await found({ python3: answering(answer) }) as string, `got ${reason}`);
  const store = await found({ python3: "echo 'Python was not found' >&2; exit 9009", python: "exit 9009" });
  for (const name of ["python3", "python"]) {
    assertStringIncludes(store as string, `${name} gives no answer, as the Microsoft Store's placeholder`);
  }
  assertStringIncludes(await found({}) as string, "got none: `winget install");
});

Deno.test(
  "where python is too new, the launcher is asked for others, the newest first",
  needs("sh"),
  async () => {
    const py = `case $1 in
    -3.12) ${answering({ version: "3.12" })};; -3.10) ${answering({ version: "3.10" })};;
    *) echo "No suitable Python runtime found" >&2; exit 103;; esac`;
    const commands = { python: answering({ version: "3.14" }), py };
    const expected = { command: ["py", "-3.12"], version: "3.12", dll: "python312.dll" };
    assertEquals(await found(commands, ["python310.dll", "python312.dll"]), expected);
    assertEquals(await found({ py: "exit 103" }), await found({})); // no versions are no reasons
  },
);

const DLL = "python312.dll";

/** Fetches a wheel as on Windows, by a launcher. */
async function fetched(w: World): Promise<string> {
  const folder = `${w.cache}/fetched`,
    python = { command: ["py", "-3.12"], version: "3.12", dll: `${w.folder}/${DLL}` };
  await Deno.writeTextFile(python.dll, "Python's");
  await fetchTensorFlow({ ...w.wheel, python: "3.12" }, folder, w.environment, python);
  return folder;
}

Deno.test(
  "a Python's own pip fetches the wheel of its version, and its DLL is laid beside, sealed",
  needs("sh"),
  async () => {
    await using w = await world();
    await w.command("py", `shift\n${workingPip()(`${w.folder}/served.whl`, `${w.folder}/pip.log`)}`);
    const folder = await fetched(w);
    assertStringIncludes(
      w.pipCalls()[0]!,
      "--python-version 3.12 --implementation cp --abi cp312 --platform any",
    );
    assertEquals(dllIn(folder), `${folder}/${DLL}`);
    for (const name of [LIBRARY, FRAMEWORK, DLL]) assertEquals(damageOf(`${folder}/${name}`), undefined);
    await Deno.writeTextFile(`${folder}/${DLL}`, "Python'z");
    assertEquals(damageOf(`${folder}/${DLL}`), "it is not what was unpacked");
  },
);

Deno.test("a disk without room for the library is refused before the download", needs("sh"), async () => {
  await using w = await world(workingPip());
  w.wheel.kept = 1e18;
  const error = await fetchTensorFlow(w.wheel, `${w.cache}/fetched`, w.environment).catch((error) => error);
  assert(error instanceof DownloadError);
  assertStringIncludes(error.message, `${w.cache}: expected 1000000000000 MB free on its disk, got `);
  assertEquals(w.cached(), ["fetched.lock"]);
});

Deno.test("what cannot be opened beside the library is named, with the remedy", async () => {
  await withFolder((folder) => {
    const library = `${folder}/${LIBRARY}`;
    assertThrows(() => openNeeded(library), Error, "expected the DLL of its Python beside it");
    Deno.writeTextFileSync(`${folder}/python3.dll`, "");
    assertThrows(() => openNeeded(library), Error, "expected the DLL of its Python beside it"); // of no version
    Deno.writeTextFileSync(`${folder}/${DLL}`, "no code");
    const [file, remedy] = Deno.build.os === "windows"
      ? [`${folder}/${DLL}`, "remove its folder"]
      : ["vcruntime140.dll", "install Microsoft's Visual C++ runtime, `winget install"];
    const { message } = assertThrows(() => openNeeded(library), Error);
    assertStringIncludes(message, `${file}: `);
    assertStringIncludes(message, remedy!);
    return Promise.resolve();
  });
});

Deno.test("a DLL's resources tell its version", () => {
  const dll = new Uint8Array(400), view = new DataView(dll.buffer);
  dll[7] = 0xbd;
  assertEquals(versionOf(dll), undefined);
  view.setUint32(101, 0xfeef04bd, true);
  view.setUint32(109, 14 << 16 | 51, true);
  assertEquals(versionOf(dll), [14, 51]);
  assertEquals(versionOf(dll.subarray(0, 110)), undefined);
});

Deno.test("a rename that a scanner holds up is tried again; one that is refused is not", async () => {
  await withFolder(async (folder) => {
    const [from, to] = [`${folder}/from`, `${folder}/to`], calls: (string | URL)[] = [];
    await Deno.writeTextFile(from, "held");
    const held = (...errors: Error[]) => async (from: string | URL, to: string | URL) => {
      calls.push(from);
      const error = errors.shift();
      if (error) throw error;
      await Deno.rename(from, to);
    };
    const [denied, sharing] = [5, 32].map((code) => new Error(`(os error ${code})`)) as [Error, Error];
    await rename(from, to, held(denied, sharing));
    assertEquals([calls.length, await Deno.readTextFile(to)], [3, "held"]);
    const full = new Error("(os error 112)");
    assertEquals(await rename(to, from, held(full)).catch((error) => error), full);
    assertEquals(calls.length, 4);
  });
});

Deno.test(
  "on Windows, Jupyter's Stop button sets an event, which is heard each time",
  needs("windows"),
  async () => {
    const engine = new URL("../../lib/engine/", import.meta.url).href;
    const code = `
    import { onInterrupt, watchInterrupts } from "${engine}interrupt.ts";
    const { symbols: windows } = Deno.dlopen("kernel32.dll", {
      CreateEventA: { parameters: ["pointer", "i32", "i32", "pointer"], result: "usize" },
      SetEvent: { parameters: ["usize"], result: "i32" },
    });
    const event = windows.CreateEventA(null, 0, 0, null);
    Deno.env.set("JPY_INTERRUPT_EVENT", String(event));
    watchInterrupts();
    let heard = 0;
    onInterrupt(() => {
      console.log(++heard);
      if (heard === 3) Deno.exit(0);
      windows.SetEvent(event);
    });
    windows.SetEvent(event);`;
    const { stdout } = await new Deno.Command(Deno.execPath(), { args: ["eval", "--ext=ts", code] }).output();
    assertEquals(new TextDecoder().decode(stdout).trim().split("\n"), ["1", "2", "3"]);
  },
);

Deno.test(
  "on Windows, settings reach the library, which reads a copy of the environment",
  needs("windows"),
  () => {
    const { symbols } = Deno.dlopen("ucrtbase.dll", {
      getenv: { parameters: ["buffer"], result: "pointer" },
    });
    const bytes = (text: string) => new TextEncoder().encode(text + "\0");
    const read = () => {
      const found = symbols.getenv(bytes("XLA_TEST"));
      return found && Deno.UnsafePointerView.getCString(found);
    };
    setVariable("XLA_TEST", "1");
    assertEquals([Deno.env.get("XLA_TEST"), read()], ["1", "1"]);
    setVariable("XLA_TEST", undefined);
    assertEquals([Deno.env.get("XLA_TEST"), read()], [undefined, null]);
  },
);
