import { fileURLToPath } from "node:url";
import { assert, assertEquals, assertRejects } from "@std/assert";
import { Uint8ArrayReader, Uint8ArrayWriter, ZipWriter } from "@zip.js/zip.js";
import { visible } from "../../lib/base/check.ts";
import { CheckpointError } from "../../lib/files/model_folder.ts";
import { openTorchFile, TorchFileError } from "../../lib/files/torch_file.ts";
import { Nepa, NepaClassifier, tf, useEngine, writeSafetensors } from "nepa";
import { withFolder } from "../support/folder.ts";

await useEngine("cpu");

const fixture = (name: string) => fileURLToPath(new URL(`../fixtures/${name}`, import.meta.url));

/** A folder with a fixture's weights and another configuration. */
async function configured(folder: string, name: string, change: Record<string, unknown>): Promise<void> {
  const json = JSON.parse(await Deno.readTextFile(`${fixture(name)}/config.json`));
  await Deno.writeTextFile(`${folder}/config.json`, JSON.stringify({ ...json, ...change }));
  await Deno.copyFile(`${fixture(name)}/model.safetensors`, `${folder}/model.safetensors`);
}

async function archive(folder: string, files: Iterable<readonly [name: string, bytes: Uint8Array]>) {
  const zip = new ZipWriter(new Uint8ArrayWriter(), { useWebWorkers: false, level: 0 });
  for (const [name, bytes] of files) await zip.add(`a/${name}`, new Uint8ArrayReader(bytes));
  await Deno.writeFile(`${folder}/weights.bin`, await zip.close());
  return `${folder}/weights.bin`;
}

/** The list at an archive's end, of so many empty entries. */
function listing(count: number): Uint8Array {
  const entry = new Uint8Array(52), end = new Uint8Array(22), whole = new Uint8Array(52 * count + 22);
  entry.set([0x50, 0x4b, 1, 2], 0);
  entry[28] = 6; // the name's length
  for (let i = 0; i < count; i++) {
    entry.set(new TextEncoder().encode(`a/${i.toString(36).padStart(4, "0")}`), 46);
    whole.set(entry, 52 * i);
  }
  end.set([0x50, 0x4b, 5, 6], 0);
  const view = new DataView(end.buffer);
  for (const at of [8, 10]) view.setUint16(at, count, true);
  view.setUint32(12, 52 * count, true);
  whole.set(end, 52 * count);
  return whole;
}

Deno.test("sizes in a configuration that no weight has are refused before anything is made by them", async () => {
  const before = tf.memory().numTensors;
  const sizes = {
    num_hidden_layers: 1_000_000,
    hidden_size: 2 ** 40,
    intermediate_size: 1e9,
    num_channels: 1e9,
    patch_size: 1e6,
  };
  for (const [name, size] of Object.entries(sizes)) {
    await withFolder(async (folder) => {
      const even = name === "patch_size" ? { image_size: 1e7 } : {};
      await configured(folder, "pretrain-a", { [name]: size, ...even });
      const error = await assertRejects(
        () => Nepa.load(folder),
        RangeError,
        `${folder}/config.json: ${name}`,
      );
      assert(error.message.includes(`got ${size}`), error.message);
    });
  }
  assertEquals(tf.memory().numTensors, before);
});

Deno.test("preprocessing that no image survives is refused by file and field", async () => {
  const wrong = {
    image_std: [[0], [-0.5], [1e-320], [null], ["0.5"], [0.5, 0.5], 0.5],
    image_mean: [["0"], [1e300], {}],
    size: [0, -1, 1e9, 2.5, { height: 0, width: 4 }, "big"],
    resample: [7, -1, "bilinear"],
    rescale_factor: [0, -1, 1e-320, "1/255"],
  };
  await withFolder(async (folder) => {
    await configured(folder, "pretrain-a", {});
    const file = `${folder}/preprocessor_config.json`;
    for (const [field, values] of Object.entries(wrong)) {
      for (const value of values) {
        await Deno.writeTextFile(file, JSON.stringify({ [field]: value }));
        await assertRejects(() => Nepa.load(folder), RangeError, `${file}: ${field}: expected`);
      }
    }
  });
});

Deno.test("labels that are no names, or more than any file has, are refused by their number", async () => {
  const wrong = [
    [{ id2label: { 0: "a", 1: 7 } }, "id2label: 1: expected a name, got 7"],
    [{ id2label: { 0: "a", 1: null } }, "id2label: 1: expected a name, got null"],
    [{ id2label: { 0: "a", 1: ["b"] } }, "id2label: 1: expected a name, got [b]"],
    [{ id2label: { 0: "a", 1e9: "b" } }, "id2label: 1: expected a name, got undefined"],
    [{ id2label: "a" }, 'id2label: expected names of classes by number, got "a"'],
    [{ id2label: null, num_labels: 1e9 }, "num_labels: expected 0 to 1000000, got 1000000000"],
    [{ id2label: null, num_labels: -1 }, "num_labels: expected 0 to 1000000, got -1"],
    [{ id2label: null, num_labels: "many" }, 'num_labels: expected 0 to 1000000, got "many"'],
  ] as const;
  for (const [change, message] of wrong) {
    await withFolder(async (folder) => {
      await configured(folder, "classify-pool", change);
      await assertRejects(() => NepaClassifier.load(folder), CheckpointError, `config.json: ${message}`);
    });
  }
});

Deno.test("a pickle of too many instructions and an archive of too many entries are given up", async () => {
  await withFolder(async (folder) => {
    const endless = new Uint8Array(2_000_000).fill("N".charCodeAt(0)); // None, two million times
    const path = await archive(folder, [["data.pkl", endless]]);
    await assertRejects(
      () => openTorchFile(path),
      TorchFileError,
      `${path}: expected a dictionary of tensors: expected at most 1000000 instructions`,
    );
    await Deno.writeFile(path, listing(20_001));
    await assertRejects(() => openTorchFile(path), TorchFileError, "expected at most 20000 entries");
  });
});

Deno.test("a long list in a pickle is read, not spread over the stack", async () => {
  await withFolder(async (folder) => {
    const list = `](${"N".repeat(300_000)}e.`; // a list of 300,000 times None
    const path = await archive(folder, [["data.pkl", new TextEncoder().encode(list)]]);
    await assertRejects(() => openTorchFile(path), TorchFileError, "got something else");
  });
});

Deno.test("names of any length and kind leave a message of a page, without what a terminal obeys", async () => {
  await withFolder(async (folder) => {
    const odd = (i: number) => `\x1b[2J\x07\u202e${i}${"x".repeat(100_000)}`;
    const tensors = Array.from(
      { length: 50 },
      (_, i) => [odd(i), { shape: [1], data: new Float32Array(1) }] as const,
    );
    await configured(folder, "pretrain-a", {});
    await Deno.writeFile(`${folder}/model.safetensors`, writeSafetensors(new Map(tensors)));
    const { message } = await assertRejects(() => Nepa.load(folder), Error);
    assert(message.length < 8_000, `${message.length} characters`);
    assertEquals(message, visible(message, Infinity));
    const called = `cos\n${"y".repeat(1_000_000)}\x1b\n.`;
    const path = await archive(folder, [["data.pkl", new TextEncoder().encode(called)]]);
    const refused = await assertRejects(() => openTorchFile(path), TorchFileError, "which is not run");
    assert(refused.message.length < 1_500 && !refused.message.includes("\x1b"), refused.message);
  });
});

Deno.test("a text from elsewhere is shown without what a terminal obeys or what turns the writing", () => {
  assertEquals(
    visible("caf\u00e9, \u732b, \u{1f469}\u200d\u{1f52c}\n\tعربي"),
    "caf\u00e9, \u732b, \u{1f469}\u200d\u{1f52c}\n\tعربي",
  );
  assertEquals(
    visible("a\x1b[31mb\x07\x00\x9b\u202e\u2066\ufeff\ud800"),
    "a\ufffd[31mb\ufffd\ufffd\ufffd\ufffd\ufffd\ufffd\ufffd",
  );
  assertEquals(visible("x".repeat(1000)).length, 301);
});
