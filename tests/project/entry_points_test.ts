import { assert, assertEquals } from "@std/assert";
import * as nepa from "nepa";
import { dirname, join, relative } from "node:path";
import { jsonc } from "../../bench/source.ts";
import { PROJECT } from "../../notebooks/.tools/setup.ts";
import { withFolder } from "../support/folder.ts";

/** Uses each entry point for something small, and prints its name. */
const PROGRAM = `
import { Nepa, pretrain, useEngine } from "nepa";
import { arrayDataset } from "nepa/data";
import { knn } from "nepa/eval";
import { readSafetensors, writeSafetensors } from "nepa/files";
import { nepaLoss, Random, tf } from "nepa/parts";
import { Table } from "nepa/plot";

await useEngine("cpu");
const random = new Random(0), shape = [16, 8, 8, 1] as const;
const images = Uint8Array.from({ length: 16 * 8 * 8 }, () => random.integer(256)), classes = ["even", "odd"];
const set = arrayDataset({ name: "mine", images, shape, labels: images.slice(0, 16).map((_, i) => i % 2), classes });
console.log("nepa/data", set.length);
const size = { imageSize: 8, patchSize: 4, numChannels: 1, hiddenSize: 8, intermediateSize: 16 };
const model = new Nepa({ ...size, numHiddenLayers: 1, numAttentionHeads: 2 }, { seed: 0 });
const { steps } = await pretrain(model, set, { steps: 1, batchSize: 8, augment: null }).finish();
console.log("nepa", steps);
console.log("nepa/eval", (await knn(model, set, set, { k: 1, overlap: "allow" })).accuracy);
const bytes = writeSafetensors(new Map([["x", { shape: [2], data: new Float32Array([1, 2]) }]]));
console.log("nepa/files", [...readSafetensors(bytes).tensors.keys()].join());
const embeddings = tf.ones<tf.Rank.R3>([1, 3, 2]);
console.log("nepa/parts", nepaLoss({ embeddings, predictions: embeddings }).dataSync()[0]!.toFixed(3));
console.log("nepa/plot", String(new Table([{ a: 1 }])).includes("a"));
`;
const PRINTED = [
  "nepa/data 16",
  "nepa 1",
  "nepa/eval 1",
  "nepa/files x",
  "nepa/parts -1.000",
  "nepa/plot true",
];

/** The import map that the README tells for a folder beside the clone. */
async function readmeMap(): Promise<{ imports: Record<string, string> }> {
  const readme = await Deno.readTextFile(join(PROJECT, "README.md"));
  return JSON.parse(/```json\n(\{\s*"imports"[^`]*)```/.exec(readme)![1]!);
}

async function deno(folder: string, ...args: string[]): Promise<{ out: string; said: string; code: number }> {
  const command = new Deno.Command(Deno.execPath(), { args, cwd: folder, env: { NO_COLOR: "1" } });
  const { stdout, stderr, code } = await command.output();
  const [out, said] = [stdout, stderr].map((bytes) => new TextDecoder().decode(bytes));
  return { out: out!, said: said!, code };
}

/** Runs the program in a folder whose import map leads to the library. */
async function runIn(folder: string, imports: Record<string, string>): Promise<void> {
  await Deno.mkdir(folder, { recursive: true });
  await Deno.writeTextFile(join(folder, "deno.json"), JSON.stringify({ imports }));
  await Deno.writeTextFile(join(folder, "program.ts"), PROGRAM);
  const { out, said, code } = await deno(folder, "run", "--check", "--allow-all", "program.ts");
  assertEquals([out.trim().split("\n"), code], [PRINTED, 0], said);
}

Deno.test("every entry point is used from a folder beside the clone, by the README's import map", async () => {
  await withFolder(async (folder) => {
    const { imports } = await readmeMap();
    const here = Object.entries(imports).map(([name, path]) => {
      assert(path.startsWith("../nepa/"), path);
      return [name, relative(folder, join(PROJECT, path.slice("../nepa/".length)))];
    });
    await runIn(folder, Object.fromEntries(here));
  });
});

Deno.test("with the lock as the README takes it along, another folder has the tested versions, transitive ones too", async () => {
  const readme = await Deno.readTextFile(join(PROJECT, "README.md"));
  const script = /deno eval '([^']*)'/.exec(readme)![1]!.replace(
    "../nepa/deno.lock",
    join(PROJECT, "deno.lock"),
  );
  await withFolder(async (folder) => {
    const imports = { nepa: relative(folder, join(PROJECT, "mod.ts")) };
    await Deno.writeTextFile(join(folder, "deno.json"), JSON.stringify({ imports }));
    await Deno.writeTextFile(join(folder, "a.ts"), `import { Random } from "nepa";\nnew Random(0);`);
    assertEquals((await deno(folder, "eval", script)).code, 0);
    assertEquals((await deno(folder, "run", "--no-check", "--allow-all", "a.ts")).code, 0);
    const [here, there] = await Promise.all(
      [PROJECT, folder].map(async (place) =>
        Object.keys(JSON.parse(await Deno.readTextFile(join(place, "deno.lock"))).npm)
      ),
    );
    assertEquals(there!.filter((name) => !here!.includes(name)), []);
    assert(there!.some((name) => name.startsWith("tldts@")));
  });
});

/** The files that a package of the workspace would be published with. */
async function published(folder: string): Promise<string[]> {
  const { said, code } = await deno(folder, "publish", "--dry-run", "--allow-dirty", "--no-check");
  assertEquals(code, 0, said);
  return [...said.matchAll(/^\s+file:\/\/(\S+) \(/gm)].map(([, path]) => path!);
}

Deno.test("every entry point is used from the files that would be published, and no others", async () => {
  const files = [...await published(PROJECT), ...await published(join(PROJECT, "lib", "engine"))];
  await withFolder(async (folder) => {
    for (const path of files) {
      const copy = join(folder, "nepa", relative(PROJECT, path));
      await Deno.mkdir(dirname(copy), { recursive: true });
      await Deno.copyFile(path, copy);
    }
    await runIn(join(folder, "mine"), (await readmeMap()).imports);
  });
});

Deno.test("README, import map and package list the same entry points, each of which loads without permissions", async () => {
  const { imports } = await readmeMap(), names = Object.keys(imports);
  const own = jsonc<{ imports: Record<string, string>; exports: Record<string, string> }>(
    await Deno.readTextFile(join(PROJECT, "deno.json")),
  );
  for (const name of names) {
    assertEquals(own.imports[name], imports[name]!.replace("../nepa/", "./"), name);
    assertEquals(own.exports[name.replace("nepa", ".")], own.imports[name], name);
  }
  assertEquals(Object.keys(own.exports).length, names.length);
  await withFolder(async (folder) => {
    await Deno.writeTextFile(join(folder, "all.ts"), names.map((name) => `import "${name}";`).join("\n"));
    const config = join(PROJECT, "deno.json");
    const { said, code } = await deno(
      folder,
      "run",
      "--no-prompt",
      "--no-check",
      "--config",
      config,
      "all.ts",
    );
    assertEquals(code, 0, said);
  });
});

Deno.test("every name that was public stays public, values and types", async () => {
  const { values, types } = JSON.parse(await Deno.readTextFile(new URL("names.json", import.meta.url)));
  const missing = values.filter((name: string) => !(name in nepa));
  assertEquals(missing, []);
  await withFolder(async (folder) => {
    await Deno.writeTextFile(join(folder, "types.ts"), `export type { ${types.join(", ")} } from "nepa";`);
    const { said, code } = await deno(folder, "check", "--config", join(PROJECT, "deno.json"), "types.ts");
    assertEquals(code, 0, said);
  });
});
