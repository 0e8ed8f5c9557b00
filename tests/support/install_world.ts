/** A machine with nothing on it but a pip that hands out a wheel, for tests of the installation. */
import { createHash } from "node:crypto";
import { crc32, deflateRawSync } from "node:zlib";
import { type Environment, FRAMEWORK, LIBRARY, type Wheel } from "../../lib/engine/download.ts";

/** As wheels name it. */
export const PLATFORM = `${Deno.build.os}-${Deno.build.arch}`;

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
export interface World extends AsyncDisposable {
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

/** What is in the wheel. */
export const WHEEL_FILES = {
  "tensorflow/__init__.py": "raise ImportError",
  "tensorflow/THIRD_PARTY_NOTICES.txt": "notices",
  [`tensorflow/${LIBRARY}`]: "library ".repeat(10000),
  [`tensorflow/${FRAMEWORK}`]: "framework",
  "tensorflow/include/LICENSE": "Apache",
  "tensorflow/include/other/LICENSE": "another",
  [`tensorflow/include/${LIBRARY}.h`]: "header",
};

/** Makes one; `pip` is the script of its python3. */
export async function world(pip?: (wheel: string, log: string) => string): Promise<World> {
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
export const workingPip = (before = "") => (wheel: string, log: string) => `
[ "$1" = -c ] && exit 0
[ "$3" = --version ] && exit 0
echo "$@" >> ${log}
${before}
while [ $# -gt 0 ]; do [ "$1" = --dest ] && folder=$2; shift; done
/bin/cp ${wheel} $TMPDIR/
/bin/mv $TMPDIR/served.whl $folder/tensorflow_test-2.21.0-cp311-cp311-any.whl`;

/** What a complete cache holds. */
export const COMPLETE = [
  `tensorflow-2.21.0-cpu-${PLATFORM}`,
  `tensorflow-2.21.0-cpu-${PLATFORM}.lock`,
  ...["LICENSE", "THIRD_PARTY_NOTICES.txt", ...[LIBRARY, FRAMEWORK].flatMap((name) => [name, `${name}.sum`])]
    .map((name) => `tensorflow-2.21.0-cpu-${PLATFORM}/${name}`),
].toSorted();

/** findTensorFlow in a process of its own. */
export function start({ environment, wheel }: World): Deno.ChildProcess {
  const module = new URL("../../lib/engine/install.ts", import.meta.url).href;
  const code = `import { findTensorFlow } from "${module}";
    console.log(JSON.stringify(await findTensorFlow(${JSON.stringify({ environment, wheel })})));`;
  return new Deno.Command(Deno.execPath(), {
    args: ["eval", "--ext=ts", code],
    stdout: "piped",
    stderr: "piped",
  }).spawn();
}

/** What it found, and what it said. */
export async function outcome(
  child: Deno.ChildProcess,
): Promise<{ found: Record<string, unknown>; stderr: string }> {
  const { stdout, stderr } = await child.output(), decoder = new TextDecoder();
  return { found: JSON.parse(decoder.decode(stdout)), stderr: decoder.decode(stderr) };
}

/** Waits for it. */
export async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 20));
}
