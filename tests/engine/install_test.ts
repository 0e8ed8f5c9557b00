import { assert, assertEquals, assertRejects, assertStringIncludes, assertThrows } from "@std/assert";
import { DownloadError, FRAMEWORK, LIBRARY } from "../../lib/engine/download.ts";
import { findTensorFlow, installTensorFlow } from "../../lib/engine/install.ts";
import { LibTensorFlow, TensorFlowError } from "../../lib/engine/libtensorflow.ts";

import {
  COMPLETE,
  outcome,
  PLATFORM,
  start,
  until,
  WHEEL_FILES,
  workingPip,
  type World,
  world,
} from "../support/install_world.ts";
import { needs } from "../support/needs.ts";

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

Deno.test(
  "NEPA_TENSORFLOW may be the library, its folder, or the folder of the package",
  needs("sh"),
  async () => {
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
  },
);

Deno.test(
  "a NEPA_TENSORFLOW that leads nowhere, or to half of it, is an error that says what to do",
  needs("sh"),
  async () => {
    await using w = await world(workingPip());
    const half = await package_(w.folder, [LIBRARY]);
    for (const path of ["/nowhere", half, `${half}/${LIBRARY}`]) {
      const options = { ...w, environment: { ...w.environment, NEPA_TENSORFLOW: path } };
      await assertRejects(() => findTensorFlow(options), Error, `got "${path}". Correct it, or unset it`);
    }
  },
);

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
  ignore: PYTHON === undefined || needs("sh").ignore,
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
  ignore: PYTHON === undefined || needs("sh").ignore,
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

Deno.test(
  "with nothing there, pip is asked once, the size is said before, libraries and licences are kept",
  needs("sh"),
  async () => {
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
  },
);

Deno.test("a wheel with another sha256 is refused, and nothing of it stays", needs("sh"), async () => {
  await using w = await world(workingPip());
  w.wheel.sha256 = "0".repeat(64);
  const message = await missing(w);
  for (const part of [`expected sha256 ${w.wheel.sha256}, got `, "pip config list"]) {
    assertStringIncludes(message, part);
  }
  assertEquals(w.cached(), [`tensorflow-2.21.0-cpu-${PLATFORM}.lock`]);
});

Deno.test("pip's own last words are passed on, and nothing stays", needs("sh"), async () => {
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

Deno.test(
  "NEPA_OFFLINE=1 never asks pip, and says so; what is cached is still found",
  needs("sh"),
  async () => {
    await using w = await world(workingPip());
    const offline = { ...w, environment: { ...w.environment, NEPA_OFFLINE: "1" } };
    assertStringIncludes(await missing(offline), "NEPA_OFFLINE=1");
    await assertRejects(() => Deno.stat(w.cache), Deno.errors.NotFound);
    await findTensorFlow(w);
    assert("library" in await findTensorFlow(offline));
  },
);

Deno.test("without Python, and with a Python without pip, the remedy is named", needs("sh"), async () => {
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

Deno.test(
  "a download that is killed leaves nothing that looks complete; the next one clears up and succeeds",
  needs("sh"),
  async () => {
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
  },
);

/** Whether a process of this number runs. */
const runs = (pid: string) => Deno.stat(`/proc/${pid}`).then(() => true, () => false);

/** A pip that tells its own number and that of what it has started, and never ends. */
const endless = workingPip(`/bin/sleep 600 & echo $$ $! > $HOME/pids; wait`);

async function assertEnded(w: World): Promise<void> {
  for (const pid of (await Deno.readTextFile(`${w.folder}/pids`)).trim().split(" ")) {
    for (let i = 0; await runs(pid); i++) {
      assert(i < 200, `process ${pid} is still there`);
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }
}

Deno.test({
  name: "a pip from which nothing comes is told of, and ended after a time that can be set",
  ...needs("proc"),
  async fn() {
    await using w = await world(endless);
    const { found, stderr } = await outcome(
      start({ ...w, environment: { ...w.environment, NEPA_PIP_SECONDS: "0.6" } }),
    );
    assertStringIncludes(stderr, "nothing came for 0.3 s; after 0.6 (NEPA_PIP_SECONDS) pip is ended");
    assertStringIncludes(String(found.missing), "nothing came for 0.6 s (NEPA_PIP_SECONDS). Try again");
    await assertEnded(w);
    assertEquals(w.cached(), [`tensorflow-2.21.0-cpu-${PLATFORM}.lock`]);
    const never = { ...w, environment: { ...w.environment, NEPA_PIP_SECONDS: "never" } };
    assertStringIncludes(await missing(never), 'NEPA_PIP_SECONDS: expected a number above 0, got "never"');
  },
});

Deno.test({
  name: "a process that is interrupted or terminated as it downloads leaves no pip behind",
  ...needs("proc"),
  async fn() {
    for (const [signal, code] of [["SIGINT", 130], ["SIGTERM", 143]] as const) {
      await using w = await world(endless);
      const child = start(w);
      await until(() => [...Deno.readDirSync(w.folder)].some(({ name }) => name === "pids"));
      await new Promise((resolve) => setTimeout(resolve, 50));
      child.kill(signal);
      assertEquals((await child.output()).code, code);
      await assertEnded(w);
    }
  },
});

Deno.test("a download that goes on beyond its size is ended", needs("sh"), async () => {
  await using w = await world(
    workingPip("while :; do echo more and more and more; done >> $TMPDIR/more.whl"),
  );
  w.wheel.kept = 1_500_000;
  assertStringIncludes(await missing(w), "more than 3 MB came");
  assertEquals(w.cached(), [`tensorflow-2.21.0-cpu-${PLATFORM}.lock`]);
});

Deno.test(
  "a library that was cut off or overwritten is refused before it is opened, with the remedy",
  needs("sh"),
  async () => {
    await using w = await world(workingPip());
    const found = await findTensorFlow(w);
    if ("missing" in found) throw new Error(found.missing);
    const { library } = found, whole = await Deno.readFile(library), folder = library.replace(LIBRARY, "");
    const refused = (words: string) =>
      assertThrows(
        () => new LibTensorFlow(library),
        TensorFlowError,
        `${library} is damaged: ${words}. Remove ${folder}`,
      );
    for (const damaged of [whole.subarray(0, 1000), whole.with(40_000, 0), new Uint8Array(whole.length)]) {
      await Deno.writeFile(library, damaged);
      refused("it is not what was unpacked");
    }
    await Deno.writeFile(library, whole);
    assertThrows(() => new LibTensorFlow(library), TensorFlowError, "cannot open"); // it is a text, after all

    // Of others the header says how long they are.
    for (const name of [LIBRARY, FRAMEWORK]) await Deno.remove(`${folder}${name}.sum`);
    const header = new DataView(new ArrayBuffer(64));
    header.setUint32(0, 0x7f454c46);
    header.setBigUint64(40, 99_000n, true);
    header.setUint16(58, 64, true);
    header.setUint16(60, 10, true);
    await Deno.writeFile(library, new Uint8Array(header.buffer));
    refused("expected 99640 bytes, got 64");
    const windows = new DataView(new ArrayBuffer(1024)), section = 64 + 24 + 16; // behind both headers
    windows.setUint16(0, 0x4d5a);
    windows.setUint32(60, 64, true);
    windows.setUint32(64, 0x50450000);
    windows.setUint16(64 + 6, 2, true); // sections
    windows.setUint16(64 + 20, 16, true); // bytes of the optional header
    for (const [i, place] of [512, 768].entries()) {
      windows.setUint32(section + 40 * i + 16, 256, true);
      windows.setUint32(section + 40 * i + 20, place, true);
    }
    for (const length of [70, 600, 1023]) {
      await Deno.writeFile(library, new Uint8Array(windows.buffer, 0, length));
      refused(`expected ${length < 100 ? 88 : 1024} bytes, got ${length}`);
    }
    await Deno.writeFile(library, new Uint8Array(windows.buffer));
    assertThrows(() => new LibTensorFlow(library), TensorFlowError, "cannot open"); // whole, and for another system
    await Deno.writeTextFile(library, "");
    assertThrows(() => new LibTensorFlow(library), TensorFlowError, "cannot open");
  },
);

Deno.test(
  "of two processes at once one downloads and the other says that it waits, and both have it",
  needs("sh"),
  async () => {
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
  },
);

Deno.test(
  "without a home, and where the cache cannot be written, the reason is named",
  needs("sh"),
  async () => {
    await using w = await world(workingPip());
    assertStringIncludes(await missing({ ...w, environment: { PATH: w.environment.PATH! } }), "HOME");
    await Deno.writeTextFile(`${w.folder}/file`, "");
    const blocked = { ...w, environment: { ...w.environment, XDG_CACHE_HOME: `${w.folder}/file` } };
    assertStringIncludes(await missing(blocked), `${w.folder}/file`);
  },
);

Deno.test({
  name: "the GPU build is installed whole when it is asked for, and preferred from then on",
  ...needs("proc"),
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

Deno.test("installTensorFlow throws what findTensorFlow would only tell", needs("sh"), async () => {
  await using w = await world();
  await assertRejects(() => installTensorFlow(w), DownloadError, "no Python with pip");
});
