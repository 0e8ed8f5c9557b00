import { fileURLToPath } from "node:url";
import { assert, assertEquals, assertRejects } from "@std/assert";
import {
  type HostTensor,
  readSafetensors,
  SafetensorsError,
  writeSafetensors,
} from "../../lib/files/safetensors.ts";
import { openSafetensors } from "../../lib/files/tensor_files.ts";
import { file, mutant } from "../support/mutate.ts";

const every = fileURLToPath(new URL("../fixtures/safetensors/every.safetensors", import.meta.url));

/** Runs a test in a folder of its own; Deno's sanitizer sees to it that files are closed. */
function inFolder(name: string, fn: (folder: string) => Promise<void>): void {
  Deno.test(name, async () => {
    const folder = await Deno.makeTempDir();
    try {
      await fn(folder);
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
  });
}

/** Bytes this process has read so far, where the system counts them. */
async function bytesRead(): Promise<number | undefined> {
  try {
    return Number(/rchar: (\d+)/.exec(await Deno.readTextFile("/proc/self/io"))![1]);
  } catch {
    return undefined;
  }
}

Deno.test("a file that is opened has the tensors of one that is read whole, also when they are read at once", async () => {
  await using file = await openSafetensors(every);
  const { tensors, metadata } = readSafetensors(await Deno.readFile(every));
  assertEquals(file.metadata, metadata);
  assertEquals([...file.infos.keys()], [...tensors.keys()]);
  const names = Array.from({ length: 5 }, () => [...tensors.keys()]).flat();
  const read = await Promise.all(names.map((name) => file.read(name)));
  for (const [i, name] of names.entries()) assertEquals(read[i], tensors.get(name), name);
  for (const [name, { dtype, shape }] of tensors) {
    assertEquals([file.infos.get(name)!.dtype, file.infos.get(name)!.shape], [dtype!, shape]);
  }
  await assertRejects(() => file.read("none"), SafetensorsError, "there is no tensor none");
});

inFolder("opening a file of 2 GB reads the header, and then what is asked for", async (folder) => {
  const path = `${folder}/large.safetensors`, large = 2 * 2 ** 30;
  const header = file({
    large: { dtype: "F32", shape: [large / 4], data_offsets: [0, large] },
    small: { dtype: "I16", shape: [2], data_offsets: [large, large + 4] },
  });
  await Deno.writeFile(path, header);
  await Deno.truncate(path, header.length + large);
  await Deno.writeFile(path, Uint8Array.of(1, 0, 2, 0), { append: true });
  const before = await bytesRead(), memory = Deno.memoryUsage().rss, start = performance.now();
  await using opened = await openSafetensors(path);
  assertEquals(opened.infos.get("large"), { dtype: "F32", shape: [large / 4], byteLength: large });
  assertEquals((await opened.read("small")).data, Int16Array.of(1, 2));
  const after = await bytesRead();
  if (before !== undefined) assert(after! - before < 65536, `${after! - before} bytes read`);
  assert(Deno.memoryUsage().rss - memory < 100e6);
  assert(performance.now() - start < 5000);
  await Deno.truncate(path, header.length + 1000);
  await assertRejects(() => opened.read("small"), SafetensorsError, "cut off");
  await assertRejects(() => openSafetensors(path), SafetensorsError, `cut off: expected ${large + 4} bytes`);
});

inFolder("a header's length is not believed", async (folder) => {
  const path = `${folder}/x.safetensors`;
  for (
    const [length, message] of [[2n ** 62n, "at most 100000000"], [99_999_999n, "got a file of 9"]] as const
  ) {
    await Deno.writeFile(path, new Uint8Array([...new Uint8Array(BigUint64Array.of(length).buffer), 0x7b]));
    const memory = Deno.memoryUsage().rss;
    await assertRejects(() => openSafetensors(path), SafetensorsError, message);
    assert(Deno.memoryUsage().rss - memory < 50e6);
  }
});

inFolder("broken files are refused when opened as when read", async (folder) => {
  const path = `${folder}/x.safetensors`;
  for (let i = 0; i < 200; i++) {
    const bytes = mutant(i);
    await Deno.writeFile(path, bytes);
    let whole: Map<string, HostTensor> | undefined;
    try {
      whole = readSafetensors(bytes).tensors;
    } catch { /* refused */ }
    if (!whole) await assertRejects(() => openSafetensors(path), SafetensorsError, `${path}: safetensors: `);
    else {
      await using opened = await openSafetensors(path);
      for (const [name, tensor] of whole) assertEquals(await opened.read(name), tensor);
    }
  }
  await assertRejects(() => openSafetensors(folder), SafetensorsError, "expected a file");
  await assertRejects(() => openSafetensors(`${folder}/none`), Deno.errors.NotFound);
});

const numbers = (...numbers: number[]) => ({ shape: [numbers.length], data: Float32Array.from(numbers) });

/** Two files, and an index that puts tensors into them. */
async function shards(folder: string, weight_map: unknown): Promise<string> {
  await Deno.mkdir(`${folder}/deep`, { recursive: true });
  const one = new Map([["a", numbers(1)], ["__proto__", numbers(2, 3)]]), two = new Map([["b", numbers(4)]]);
  await Deno.writeFile(`${folder}/one.safetensors`, writeSafetensors(one, { format: "pt" }));
  await Deno.writeFile(`${folder}/deep/two.safetensors`, writeSafetensors(two, { more: "x" }));
  const path = `${folder}/model.safetensors.index.json`;
  const text = typeof weight_map === "string"
    ? weight_map
    : JSON.stringify({ metadata: { total_size: 16 }, weight_map });
  await Deno.writeTextFile(path, text);
  return path;
}

inFolder("files with an index are read as one", async (folder) => {
  const map =
    '{"weight_map":{"a":"one.safetensors","__proto__":"one.safetensors","b":"deep/two.safetensors"}}';
  await using opened = await openSafetensors(await shards(folder, map));
  assertEquals([...opened.infos.keys()], ["a", "__proto__", "b"]);
  assertEquals(opened.metadata, { format: "pt", more: "x" });
  assertEquals((await opened.read("__proto__")).data, Float32Array.of(2, 3));
  assertEquals((await opened.read("b")).data, Float32Array.of(4));
  await assertRejects(() => opened.read("c"), SafetensorsError, "there is no tensor c");
});

inFolder("an index that names files elsewhere, or none, is refused", async (folder) => {
  await shards(folder, {});
  const elsewhere = [
    "../one.safetensors",
    "deep/../../one.safetensors",
    "deep/..",
    "..",
    ".",
    "./one.safetensors",
    "",
    "/etc/passwd",
    `${folder}/one.safetensors`,
    "//host/one.safetensors",
    "deep//two.safetensors",
    "deep\\two.safetensors",
    "..\\one.safetensors",
    "C:one.safetensors",
    "file:///etc/passwd",
    "https://example.org/one.safetensors",
    "one.safetensors\0",
    1,
    null,
    ["one.safetensors"],
  ];
  for (const name of elsewhere) {
    const path = await shards(folder, { a: name });
    await assertRejects(() => openSafetensors(path), SafetensorsError, "a: expected a file beside the index");
  }
  const cases: [unknown, string][] = [
    [{ a: "none.safetensors" }, "expected none.safetensors beside it"],
    [{ a: "deep/two.safetensors" }, "a: expected in deep/two.safetensors, which lacks it"],
    [{ a: "deep" }, "expected a file"],
    [[], "expected a weight_map"],
    ['{"weight_map":{"a":"one.safetensors","a":"one.safetensors"}}', "a key twice"],
    ["{}", "expected a weight_map"],
    ["[]", "begins with {"],
    ["", "begins with {"],
  ];
  for (const [map, message] of cases) {
    const path = await shards(folder, map);
    await assertRejects(() => openSafetensors(path), SafetensorsError, message);
  }
  await Deno.writeFile(`${folder}/one.safetensors`, new Uint8Array(3));
  const path = `${folder}/model.safetensors.index.json`;
  await Deno.writeTextFile(path, '{"weight_map":{"b":"deep/two.safetensors","a":"one.safetensors"}}');
  await assertRejects(
    () => openSafetensors(path),
    SafetensorsError,
    "one.safetensors: safetensors: expected 8 bytes",
  );
});
