import { fileURLToPath } from "node:url";
import { assert, assertEquals, assertRejects } from "@std/assert";
import { Uint8ArrayReader, Uint8ArrayWriter, ZipReader, ZipWriter } from "@zip.js/zip.js";
import * as tf from "@tensorflow/tfjs";
import { CheckpointError } from "../../lib/files/model_folder.ts";
import { useEngine } from "../../lib/engine/mod.ts";
import { Nepa } from "../../lib/model/nepa.ts";
import { openSafetensors } from "../../lib/files/tensor_files.ts";
import { openTorchFile, TorchFileError } from "../../lib/files/torch_file.ts";
import { Random } from "../../lib/base/random.ts";
import { withFolder } from "../support/folder.ts";

await useEngine("cpu");

const fixture = (name: string) => fileURLToPath(new URL(`../fixtures/${name}`, import.meta.url));

const latin = (text: string) => Uint8Array.from(text, (c) => c.charCodeAt(0));

/** An archive as PyTorch's, of a pickle and of four numbers, under the key 0. */
async function archive(
  pickle: string | Uint8Array,
  { level = 0, byteorder = "little", numbers = 16, folder = "a/" } = {},
): Promise<Uint8Array> {
  const zip = new ZipWriter(new Uint8ArrayWriter(), { useWebWorkers: false, level });
  const add = (name: string, bytes: Uint8Array) => zip.add(folder + name, new Uint8ArrayReader(bytes));
  await add("data.pkl", typeof pickle === "string" ? latin(pickle) : pickle);
  await add("byteorder", latin(byteorder));
  await add("data/0", new Uint8Array(new Float32Array([1, 2, 3, 4]).buffer, 0, numbers));
  return await zip.close();
}

const text = (words: string) => `X${String.fromCharCode(words.length)}\0\0\0${words}`;
const numbers = (...counts: number[]) => `(${counts.map((n) => `K${String.fromCharCode(n)}`).join("")}t`;

/** A dictionary with one tensor named w of a storage of four numbers. */
function dictionary(
  { shape = [4], strides = [1], offset = 0, type = "torch\nFloatStorage", length = 4, key = "0" } = {},
) {
  const storage = `(${text("storage")}c${type}\n${text(key)}${text("cpu")}K${String.fromCharCode(length)}tQ`;
  const call = `ctorch._utils\n_rebuild_tensor_v2\n(${storage}K${String.fromCharCode(offset)}`;
  return `\x80\x02}(${text("w")}${call}${numbers(...shape)}${
    numbers(...strides)
  }\x89ccollections\nOrderedDict\n)RtRu.`;
}

/** Whether a file is read, with the first tensor's numbers. */
async function read(bytes: Uint8Array): Promise<number[]> {
  const path = await Deno.makeTempFile();
  try {
    await Deno.writeFile(path, bytes);
    await using file = await openTorchFile(path);
    return [...(await file.read([...file.infos.keys()][0]!)).data].map(Number);
  } finally {
    await Deno.remove(path);
  }
}

Deno.test("tensors of every type, parts of others and shared ones are read as PyTorch reads them", async () => {
  await using expected = await openSafetensors(fixture("torch/every.safetensors"));
  await using file = await openTorchFile(fixture("torch/every.bin"));
  assertEquals([...file.infos.keys()].sort(), [...expected.infos.keys()].sort());
  for (const [name, info] of expected.infos) {
    const got = await file.read(name), { dtype, shape, data } = await expected.read(name);
    assertEquals(file.infos.get(name), info, name);
    assertEquals([got.dtype, got.shape, [...got.data]], [dtype, shape, [...data]], name);
  }
  await assertRejects(() => file.read("none"), TorchFileError, "there is no tensor none");
});

Deno.test("the averages that the official trainer saved are loaded, asked for or alone in a folder", async () => {
  await withFolder(async (folder) => {
    const before = tf.memory().numTensors;
    for (const file of ["config.json", "model.safetensors"]) {
      await Deno.copyFile(`${fixture("pretrain-a")}/${file}`, `${folder}/${file}`);
    }
    await assertRejects(
      () => Nepa.load(folder, { ema: true }),
      CheckpointError,
      "there is no pytorch_model_ema.bin",
    );
    await Deno.copyFile(fixture("torch/pytorch_model_ema.bin"), `${folder}/pytorch_model_ema.bin`);
    const [model, average] = [await Nepa.load(folder), await Nepa.load(folder, { ema: true })];
    await Deno.rename(`${folder}/model.safetensors`, `${folder}/away`);
    const alone = await Nepa.load(folder);
    await Deno.rename(`${folder}/pytorch_model_ema.bin`, `${folder}/pytorch_model.bin`);
    const plain = await Nepa.load(folder);
    for (const [name, x] of model.parameters) {
      const twice = x.dataSync().map((value) => 2 * value);
      for (const other of [average, alone, plain]) {
        assertEquals(other.parameters.get(name)!.dataSync(), twice, name);
      }
    }
    for (const owner of [model, average, alone, plain]) owner.dispose();
    await Deno.writeTextFile(`${folder}/pytorch_model.bin`, "short");
    await assertRejects(
      () => Nepa.load(folder),
      CheckpointError,
      "pytorch_model.bin: expected a dictionary of tensors",
    );
    assertEquals(tf.memory().numTensors, before);
  });
});

/** A file of PyTorch's whose pickle was changed. */
async function repickled(path: string, change: (pickle: string) => string): Promise<Uint8Array> {
  const reader = new ZipReader(new Uint8ArrayReader(await Deno.readFile(path)));
  const zip = new ZipWriter(new Uint8ArrayWriter(), { useWebWorkers: false, level: 0 });
  for (const entry of await reader.getEntries()) {
    if (entry.directory) continue;
    const bytes = await entry.getData(new Uint8ArrayWriter(), { useWebWorkers: false });
    const pickle = () => latin(change(Array.from(bytes, (x) => String.fromCharCode(x)).join("")));
    await zip.add(
      entry.filename,
      new Uint8ArrayReader(entry.filename.endsWith("data.pkl") ? pickle() : bytes),
    );
  }
  return await zip.close();
}

Deno.test("weights under a name beside an optimizer's state, options and numbers are taken from there", async () => {
  await withFolder(async (folder) => {
    const bin = fixture("torch/pytorch_model_ema.bin"), file = `${folder}/pytorch_model.bin`;
    await Deno.copyFile(`${fixture("pretrain-a")}/config.json`, `${folder}/config.json`);
    await Deno.copyFile(bin, file);
    const plain = await Nepa.load(folder), half = "G\x3f\xe0\0\0\0\0\0\0";
    const beside = `${text("epoch")}K\x03${text("rates")}](${half}\x88N\x8a\x02\x01\x02e${text("last")}]Na` +
      `${text("args")}cargparse\nNamespace\n)\x81}${text("lr")}${half}sb${text("optimizer")}}${
        text("state")
      }}s`;
    for (const name of ["model", "state_dict", "weights"]) {
      const nested = (pickle: string) => `\x80\x02}(${text(name)}${pickle.slice(2, -1)}${beside}u.`;
      await Deno.writeFile(file, await repickled(bin, nested));
      const model = await Nepa.load(folder);
      for (const [name, x] of plain.parameters) {
        assertEquals(model.parameters.get(name)!.dataSync(), x.dataSync(), name);
      }
      model.dispose();
    }
    plain.dispose();
    await Deno.writeFile(file, await repickled(bin, () => `\x80\x02}(${beside}u.`));
    await assertRejects(() => Nepa.load(folder), CheckpointError, "got something else as epoch");
    const two = (pickle: string) =>
      `\x80\x02}(${["student", "teacher"].map((name) => text(name) + pickle.slice(2, -1)).join("")}u.`;
    await Deno.writeFile(file, await repickled(bin, two));
    await assertRejects(
      () => Nepa.load(folder),
      CheckpointError,
      "got several: student, teacher; save one alone",
    );
  });
});

Deno.test("a file that names anything but tensors is refused, and nothing of it is run", async () => {
  assertEquals(await read(await archive(dictionary())), [1, 2, 3, 4]);
  const refused: [string, string][] = [
    ["\x80\x02cos\nsystem\n(X\x04\0\0\0exittR.", 'got "os\\nsystem", which is not run'],
    ["c__builtin__\neval\n(X\x01\0\0\x001tR.", '"__builtin__\\neval", which is not run'],
    ["ctorch\nload\n.", "which is not run"],
    ["ctorch._utils\n_rebuild_tensor_v3\n.", "which is not run"],
    ["c\nconstructor\n.", "which is not run"],
    ["c__proto__\n__proto__\n.", "which is not run"],
    ["(ios\nsystem\n.", "instruction i"],
    ["}(c", "which is not run"],
    ["\x80\x04\x95\0\0\0\0\0\0\0\0}.", "instruction"],
    [`${text("os")}${text("system")}\x93.`, "instruction"],
    [`}${text("constructor")})R.`, "expected a call"],
    [`K\x01)R.`, "expected a call"],
    ["", "expected a dictionary"],
    ["K\x01.", "expected a dictionary"],
    ["}", "expected a dictionary"],
    [`}(${text("w")}K\x01u.`, "got something else as w"],
    [`}(K\x01K\x01u.`, "got something else as 1"],
    [`}(${text("w")}}u.`, "got something else as w"],
    ["K\x01)s.", "expected a dictionary"],
    [dictionary({ type: "torch\nComplexFloatStorage" }), "which is not run"],
    [dictionary({ shape: [5] }), "expected a tensor within 4 numbers, got [5] from 0 by [1]"],
    [dictionary({ offset: 1 }), "got [4] from 1 by [1]"],
    [dictionary({ shape: [2], strides: [4] }), "got [2] from 0 by [4]"],
    [dictionary({ shape: [4, 200], strides: [1, 0] }), "got [4,200]"],
    [dictionary({ shape: [2, 2] }), "expected a tensor"],
    [dictionary({ length: 5 }), "got 16 bytes"],
    [dictionary({ key: "1" }), "expected data/1 in the archive"],
    [dictionary({ key: "../b" }), "expected data/../b in the archive"],
    [dictionary({ type: "torch\nLongStorage" }), "got 16 bytes"],
  ];
  for (const [pickle, message] of refused) {
    const error = await assertRejects(async () => await read(await archive(pickle)), TorchFileError);
    assert(error.message.includes(message), `${JSON.stringify(pickle)}: ${error.message}`);
  }
  const changes: [Parameters<typeof archive>[1], string][] = [
    [{ level: 9 }, "not compressed"],
    [{ byteorder: "big" }, "big-endian"],
    [{ numbers: 12 }, "got 12 bytes"],
  ];
  for (const [change, message] of changes) {
    const bytes = await archive(dictionary() + "\0".repeat(1000), change);
    await assertRejects(() => read(bytes), TorchFileError, message);
  }
});

Deno.test("broken files are refused by name: none crashes, hangs or is read outside", async () => {
  const whole = await archive(dictionary({ shape: [2, 2], strides: [2, 1] })),
    random = new Random(0, "torch");
  let refused = 0;
  for (let i = 0; i < 500; i++) {
    const bytes = whole.slice(0, random.integer(4) === 0 ? random.integer(whole.length) : whole.length);
    for (let n = 0; n <= random.integer(4) && bytes.length > 0; n++) {
      bytes[random.integer(bytes.length)] = random.integer(256);
    }
    try {
      assert((await read(bytes)).length <= 4);
    } catch (error) {
      assert(error instanceof TorchFileError, String(error));
      refused++;
    }
  }
  assert(refused > 250, `${refused} of 500`);
});
