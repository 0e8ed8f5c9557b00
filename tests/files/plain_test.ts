/** Pipes and folders where files belong. @module */
import { cp } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { DataError, idxImages, imageFolder, Nepa, openSafetensors, parquetImages, useEngine } from "nepa";
import { withFolder } from "../support/folder.ts";
import { config } from "../support/tiny.ts";
import { has, needs } from "../support/needs.ts";

await useEngine("cpu");

const FIXTURES = fileURLToPath(new URL("../fixtures/images/folder/", import.meta.url));
const pipe = (path: string) => new Deno.Command("mkfifo", { args: [path] }).output();

Deno.test("a pipe or a folder in the place of a file is refused by every reader, without waiting for it", async () => {
  await withFolder(async (place) => {
    const kinds = [[pipe, "a pipe"], [Deno.mkdir, "a folder"]] as const;
    for (const [make, got] of has("pipes", "a pipe in the place of a file") ? kinds : kinds.slice(1)) {
      for (const file of ["config.json", "preprocessor_config.json", "model.safetensors"]) {
        const folder = `${place}/${file} ${got}`, model = new Nepa(config, { seed: 0 });
        await model.save(folder);
        await Deno.remove(`${folder}/${file}`);
        await make(`${folder}/${file}`);
        const { message } = await assertRejects(() => Nepa.load(folder), Error, "expected a file, got ");
        assertStringIncludes(message, `${folder}/${file}: expected a file, got ${got}`);
        await assertRejects(() => model.save(folder), Error, "expected a file, got ");
        model.dispose();
      }
      const path = `${place}/${got}`;
      await make(path);
      await make(`${path}.index.json`);
      await assertRejects(() => openSafetensors(path), Error, "expected a file");
      await assertRejects(() => openSafetensors(`${path}.index.json`), Error, "expected a file");
      await assertRejects(() => idxImages({ images: path, labels: path }), DataError, "expected a file");
      await assertRejects(() => parquetImages(path), Error, "expected a file");
    }
  });
});

Deno.test("a pipe among a folder's images is left out and told of", needs("pipes"), async () => {
  await withFolder(async (place) => {
    await cp(FIXTURES, `${place}/images`, { recursive: true });
    await pipe(`${place}/images/cat/a.png`);
    const before = console.error;
    console.error = () => {};
    const images = await imageFolder(`${place}/images`, { size: 16 }).finally(() => console.error = before);
    assertEquals(images.length, 4);
    assertEquals(images.skipped!.filter(({ message }) => message.includes("a pipe or a device")).length, 1);
  });
});
