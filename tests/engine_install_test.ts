import { createHash } from "node:crypto";
import { crc32, deflateRawSync } from "node:zlib";
import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { DownloadError, type Environment, FRAMEWORK, LIBRARY, type Wheel } from "../lib/engine/download.ts";
import { findTensorFlow, installTensorFlow } from "../lib/engine/install.ts";

const PLATFORM = `${Deno.build.os}-${Deno.build.arch}`;

/** A zip archive, every second entry deflated. */
function zip(files: Record<string, string>): Uint8Array {
  const encoder = new TextEncoder(),
    entries: number[] = [],
    table: number[] = [],
    list = Object.entries(files);
  for (const [i, [path, text]] of list.entries()) {
    const name = encoder.encode(path),
      data = encoder.encode(text),
      packed = i % 2 ? deflateRawSync(data) : data;
    const fields = new DataView(new ArrayBuffer(26)); // what both headers say
    fields.setUint16(0, 20, true);
    fields.setUint16(4, i % 2 ? 8 : 0, true);
    fields.setUint32(10, crc32(data), true);
    fields.setUint32(14, packed.length, true);
    fields.setUint32(18, data.length, true);
    fields.setUint16(22, name.length, true);
    const central = new DataView(new ArrayBuffer(14));
    central.setUint32(10, entries.length, true);
    const common = new Uint8Array(fields.buffer);
    table.push(...encoder.encode("PK\x01\x02"), 20, 0, ...common, ...new Uint8Array(central.buffer), ...name);
    entries.push(...encoder.encode("PK\x03\x04"), ...common, ...name, ...packed);
  }
  const end = new DataView(new ArrayBuffer(22));
  end.setUint32(0, 0x06054b50, true);
  end.setUint16(8, list.length, true);
  end.setUint16(10, list.length, true);
  end.setUint32(12, table.length, true);
  end.setUint32(16, entries.length, true);
  return Uint8Array.from([...entries, ...table, ...new Uint8Array(end.buffer)]);
}

/** An empty home, a PATH with one folder, a wheel, and a pip that hands the wheel out. */
interface World extends AsyncDisposable {
  folder: string;
  environment: Environment;
  wheel: Wheel;
  /** The folder of the cache, and all paths in it. */
  cache: string;
  cached(): string[];
  /** Writes a command of this name: a shell script. */
  command(name: string, script: string): Promise<void>;
  /** The arguments of pip's calls, one call a line. */
  pipCalls(): string[];
}

const WHEEL_FILES = {
  "tensorflow/__init__.py": "raise ImportError",
  "tensorflow/THIRD_PARTY_NOTICES.txt": "notices",
  [`tensorflow/${LIBRARY}`]: "library ".repeat(10000),
  [`tensorflow/${FRAMEWORK}`]: "framework",
  "tensorflow/include/LICENSE": "Apache",
  "tensorflow/include/other/LICENSE": "another",
  [`tensorflow/include/${LIBRARY}.h`]: "header",
};

async function world(pip?: (wheel: string, log: string) => string): Promise<World> {
  const folder = await Deno.makeTempDir(), cache = `${folder}/cache/nepa`, wheelPath = `${folder}/served.whl`;
  const bytes = zip(WHEEL_FILES), log = `${folder}/pip.log`;
  await Deno.writeFile(wheelPath, bytes);
  await Deno.mkdir(`${folder}/bin`);
  const command = (name: string, script: string) =>
    Deno.writeTextFile(`${folder}/bin/${name}`, `#!/bin/sh\n${script}\n`, { mode: 0o755 });
  if (pip) await command("python3", pip(wheelPath, log));
  const list = (path: string): string[] =>
    [...Deno.readDirSync(path)].flatMap(({ name, isDirectory }) =>
      isDirectory ? [`${path}/${name}`, ...list(`${path}/${name}`)] : [`${path}/${name}`]
    );
  return {
    folder,
    environment: { HOME: folder, XDG_CACHE_HOME: `${folder}/cache`, PATH: `${folder}/bin` },
    wheel: {
      name: "tensorflow-test",
      platform: "any",
      sha256: createHash("sha256").update(bytes).digest("hex"),
      bytes: bytes.length,
      kept: 80_000,
    },
    cache,
    cached: () => list(cache).map((path) => path.slice(cache.length + 1)).toSorted(),
    command,
    pipCalls: () => Deno.readTextFileSync(log).trim().split("\n"),
    [Symbol.asyncDispose]: () => Deno.remove(folder, { recursive: true }),
  };
}

/** python3 without TensorFlow, whose pip logs its call, runs `before`, then does what `pip download` does. */
const workingPip = (before = "") => (wheel: string, log: string) => `
[ "$1" = -c ] && exit 0
[ "$3" = --version ] && exit 0
echo "$@" >> ${log}
${before}
while [ $# -gt 0 ]; do [ "$1" = --dest ] && folder=$2; shift; done
/bin/cp ${wheel} $TMPDIR/
/bin/mv $TMPDIR/served.whl $folder/tensorflow_test-2.21.0-cp311-cp311-any.whl`;

/** What a complete cache holds. */
const COMPLETE = [
  `tensorflow-2.21.0-cpu-${PLATFORM}`,
  `tensorflow-2.21.0-cpu-${PLATFORM}.lock`,
  ...["LICENSE", "THIRD_PARTY_NOTICES.txt", LIBRARY, FRAMEWORK].map((name) =>
    `tensorflow-2.21.0-cpu-${PLATFORM}/${name}`
  ),
].toSorted();

/** findTensorFlow in a process of its own. */
function start({ environment, wheel }: World): Deno.ChildProcess {
  const module = new URL("../lib/engine/install.ts", import.meta.url).href;
  const code = `import { findTensorFlow } from "${module}";
    console.log(JSON.stringify(await findTensorFlow(${JSON.stringify({ environment, wheel })})));`;
  return new Deno.Command(Deno.execPath(), {
    args: ["eval", "--ext=ts", code],
    stdout: "piped",
    stderr: "piped",
  }).spawn();
}

async function outcome(
  child: Deno.ChildProcess,
): Promise<{ found: Record<string, unknown>; stderr: string }> {
  const { stdout, stderr } = await child.output(), decoder = new TextDecoder();
  return { found: JSON.parse(decoder.decode(stdout)), stderr: decoder.decode(stderr) };
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 20));
}

/** What findTensorFlow says is missing. */
async function missing(w: World): Promise<string> {
  const result = await findTensorFlow(w);
  if ("library" in result) throw new Error(`expected nothing to be found, got ${result.library}`);
  return result.missing;
}

/** A folder with the libraries, as a Python package has them. */
async function package_(folder: string, files: string[] = [LIBRARY, FRAMEWORK]): Promise<string> {
  await Deno.mkdir(`${folder}/tensorflow`, { recursive: true });
  await Deno.writeTextFile(`${folder}/tensorflow/__init__.py`, `raise ImportError("imported")`);
  for (const name of files) await Deno.writeTextFile(`${folder}/tensorflow/${name}`, "");
  return `${folder}/tensorflow`;
}

Deno.test("NEPA_TENSORFLOW may be the library, its folder, or the folder of the package", async () => {
  await using w = await world(workingPip());
  const folder = await package_(w.folder);
  for (const path of [`${folder}/${LIBRARY}`, folder, w.folder]) {
    const found = await findTensorFlow({ ...w, environment: { ...w.environment, NEPA_TENSORFLOW: path } });
    assertEquals(found, {
      library: `${folder}/${LIBRARY}`,
      version: undefined,
      source: "NEPA_TENSORFLOW",
      notes: [],
    });
  }
});

Deno.test("a NEPA_TENSORFLOW that leads nowhere, or to half of it, is an error that says what to do", async () => {
  await using w = await world(workingPip());
  const half = await package_(w.folder, [LIBRARY]);
  for (const path of ["/nowhere", half, `${half}/${LIBRARY}`]) {
    const options = { ...w, environment: { ...w.environment, NEPA_TENSORFLOW: path } };
    await assertRejects(() => findTensorFlow(options), Error, `got "${path}". Correct it, or unset it`);
  }
});

const PYTHON = await new Deno.Command("python3", { args: ["-c", "import sys; print(sys.executable)"] })
  .output()
  .then(
    ({ success, stdout }) => success ? new TextDecoder().decode(stdout).trim() : undefined,
    () => undefined,
  );

/** The machine's own Python, which finds a package of this version and these files. */
async function withPython(w: World, version: string, files?: string[]): Promise<string> {
  const site = `${w.folder}/site`, folder = await package_(site, files);
  await Deno.mkdir(`${site}/tensorflow_cpu-${version}.dist-info`);
  await Deno.writeTextFile(
    `${site}/tensorflow_cpu-${version}.dist-info/METADATA`,
    `Metadata-Version: 2.1\nName: tensorflow-cpu\nVersion: ${version}\n`,
  );
  const pip = workingPip()(`${w.folder}/served.whl`, `${w.folder}/pip.log`);
  await w.command("python3", `[ "$1" = -c ] && PYTHONPATH=${site} exec ${PYTHON} "$@"\n${pip}`);
  return folder;
}

Deno.test({
  name: "a TensorFlow 2.21 of the user's Python is taken, without importing it or asking pip",
  ignore: PYTHON === undefined,
  async fn() {
    await using w = await world();
    const folder = await withPython(w, "2.21.4");
    const found = await findTensorFlow(w);
    assertEquals(found, {
      library: `${folder}/${LIBRARY}`,
      version: "2.21.4",
      source: "python3's own",
      notes: [],
    });
  },
});

Deno.test({
  name:
    "another version, or one without the library, is named and passed over, and the next place is looked at",
  ignore: PYTHON === undefined,
  async fn() {
    for (
      const [version, files, reason] of [["2.15.0", undefined, "2.21.x is needed"], [
        "2.21.0",
        [],
        LIBRARY,
      ]] as const
    ) {
      await using w = await world();
      const folder = await withPython(w, version, files && [...files]);
      const found = await findTensorFlow(w);
      if ("missing" in found) throw new Error(found.missing);
      assertEquals(found.library, `${w.cache}/tensorflow-2.21.0-cpu-${PLATFORM}/${LIBRARY}`);
      assertEquals(found.notes.length, 1);
      for (const part of [version, folder, reason]) assertStringIncludes(found.notes[0]!, part);
    }
  },
});

Deno.test("with nothing there, pip is asked once, the size is said before, libraries and licences are kept", async () => {
  await using w = await world(workingPip());
  w.wheel.bytes = 274e6;
  w.wheel.kept = 854e6;
  const first = await outcome(start(w));
  assertStringIncludes(first.stderr, `downloading 274 MB with pip, once; 854 MB are kept in ${w.cache}`);
  assertEquals(w.cached(), COMPLETE);
  const folder = `${w.cache}/tensorflow-2.21.0-cpu-${PLATFORM}`;
  assertEquals(first.found, {
    library: `${folder}/${LIBRARY}`,
    version: "2.21.0",
    source: folder.replace(w.folder, "~"),
    notes: [],
  });
  for (const [path, text] of Object.entries(WHEEL_FILES).slice(1, 5)) {
    assertEquals(await Deno.readTextFile(`${folder}/${path.split("/").at(-1)}`), text);
  }
  assertEquals(await findTensorFlow(w), first.found);
  const [call, ...others] = w.pipCalls();
  assertEquals(others, []);
  assert(call!.startsWith("-m pip download tensorflow-test==2.21.0 --no-deps --only-binary=:all: "), call);
  assertStringIncludes(
    call!,
    "--python-version 3.11 --implementation cp --abi cp311 --platform any --no-cache-dir",
  );
});

Deno.test("a wheel with another sha256 is refused, and nothing of it stays", async () => {
  await using w = await world(workingPip());
  w.wheel.sha256 = "0".repeat(64);
  const message = await missing(w);
  for (const part of [`expected sha256 ${w.wheel.sha256}, got `, "pip config list"]) {
    assertStringIncludes(message, part);
  }
  assertEquals(w.cached(), [`tensorflow-2.21.0-cpu-${PLATFORM}.lock`]);
});

Deno.test("pip's own last words are passed on, and nothing stays", async () => {
  await using w = await world((_, log) => `
    [ "$1" = -c ] && exit 0
    [ "$3" = --version ] && exit 0
    echo x >> ${log}
    echo half > $TMPDIR/half.whl
    echo "WARNING: slow" >&2
    echo "ERROR: No matching distribution found" >&2
    exit 1`);
  const message = await missing(w);
  for (const part of ["ERROR: No matching distribution found", "Try again", "pip config list"]) {
    assertStringIncludes(message, part);
  }
  assert(!message.includes("slow"));
  assertEquals(w.cached(), [`tensorflow-2.21.0-cpu-${PLATFORM}.lock`]);
});

Deno.test("NEPA_OFFLINE=1 never asks pip, and says so; what is cached is still found", async () => {
  await using w = await world(workingPip());
  const offline = { ...w, environment: { ...w.environment, NEPA_OFFLINE: "1" } };
  assertStringIncludes(await missing(offline), "NEPA_OFFLINE=1");
  await assertRejects(() => Deno.stat(w.cache), Deno.errors.NotFound);
  await findTensorFlow(w);
  assert("library" in await findTensorFlow(offline));
});

Deno.test("without Python, and with a Python without pip, the remedy is named", async () => {
  await using w = await world();
  assertStringIncludes(await missing(w), "apt install python3-pip");
  await w.command("python3", `[ "$1" = -c ] && exit 0; echo "No module named pip" >&2; exit 1`);
  assertStringIncludes(await missing(w), "NEPA_TENSORFLOW");
  await w.command(
    "pip",
    workingPip()(`${w.folder}/served.whl`, `${w.folder}/pip.log`).replace('"$3"', '"$1"'),
  );
  assert("library" in await findTensorFlow(w));
});

Deno.test("a download that is killed leaves nothing that looks complete; the next one clears up and succeeds", async () => {
  await using w = await world(
    workingPip(`[ -e $HOME/second ] || { echo half > $TMPDIR/half.whl; /bin/sleep 5; exit 1; }`),
  );
  const child = start(w);
  const folder = `${w.cache}/tensorflow-2.21.0-cpu-${PLATFORM}`;
  const half = () => {
    try {
      return w.cached().some((path) => path.endsWith("half.whl"));
    } catch {
      return false;
    }
  };
  await until(half);
  child.kill("SIGKILL");
  await child.output();
  assert(w.cached().some((path) => path.includes(".partial-")));
  await assertRejects(() => Deno.stat(folder), Deno.errors.NotFound);
  await Deno.writeTextFile(`${w.folder}/second`, "");
  assert("library" in await findTensorFlow(w));
  assertEquals(w.cached(), COMPLETE);
});

Deno.test("of two processes at once one downloads and the other says that it waits, and both have it", async () => {
  await using w = await world(workingPip("until [ -e $HOME/go ]; do /bin/sleep 0.1; done"));
  const children = [start(w), start(w)], decoder = new TextDecoder();
  const waits = async (child: Deno.ChildProcess) => {
    let said = "";
    for await (const chunk of child.stderr.values({ preventCancel: true })) {
      if ((said += decoder.decode(chunk)).includes("another process is fetching it")) return;
    }
    throw new Error(`expected it to wait, got ${said}`);
  };
  const waiting = children.map(waits);
  await Promise.any(waiting);
  assertEquals(w.pipCalls().length, 1);
  await Deno.writeTextFile(`${w.folder}/go`, "");
  const [a, b] = await Promise.all(children.map((child) => child.stdout.text()));
  await Promise.allSettled([
    ...waiting,
    ...children.flatMap(({ status, stderr }) => [status, stderr.cancel()]),
  ]);
  assertEquals(JSON.parse(a!), JSON.parse(b!));
  assertEquals(JSON.parse(a!).version, "2.21.0");
  assertEquals(w.pipCalls().length, 1);
  assertEquals(w.cached(), COMPLETE);
});

Deno.test("without a home, and where the cache cannot be written, the reason is named", async () => {
  await using w = await world(workingPip());
  assertStringIncludes(await missing({ ...w, environment: { PATH: w.environment.PATH! } }), "HOME");
  await Deno.writeTextFile(`${w.folder}/file`, "");
  const blocked = { ...w, environment: { ...w.environment, XDG_CACHE_HOME: `${w.folder}/file` } };
  assertStringIncludes(await missing(blocked), `${w.folder}/file`);
});

Deno.test({
  name: "the GPU build is installed whole when it is asked for, and preferred from then on",
  ignore: Deno.build.os !== "linux",
  async fn() {
    await using w = await world((_, log) => `
      [ "$1" = -c ] && exit 0
      [ "$3" = --version ] && exit 0
      echo "$@" >> ${log}
      while [ $# -gt 0 ]; do [ "$1" = --target ] && folder=$2; shift; done
      /bin/mkdir -p $folder/tensorflow $folder/nvidia
      echo > $folder/tensorflow/${LIBRARY}
      echo > $folder/tensorflow/${FRAMEWORK}`);
    const folder = `${w.cache}/tensorflow-2.21.0-gpu-${PLATFORM}`;
    const found = await installTensorFlow({ ...w, gpu: true });
    assertEquals(found.library, `${folder}/tensorflow/${LIBRARY}`);
    assertEquals((await Deno.stat(`${folder}/nvidia`)).isDirectory, true);
    assertStringIncludes(
      w.pipCalls()[0]!,
      "pip install tensorflow[and-cuda]==2.21.0 --only-binary=:all: --no-compile",
    );
    assertEquals(await findTensorFlow(w), found);
  },
});

Deno.test("installTensorFlow throws what findTensorFlow would only tell", async () => {
  await using w = await world();
  await assertRejects(() => installTensorFlow(w), DownloadError, "no Python with pip");
});
