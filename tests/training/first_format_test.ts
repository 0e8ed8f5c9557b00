/** Run folders that were written before moments had their parameters' names. @module */
import { fileURLToPath } from "node:url";
import { assertEquals, assertRejects } from "@std/assert";
import { RunFolderError, useEngine } from "nepa";
import { withFolder } from "../support/folder.ts";
import { noise, tinyRun, tinyTuning } from "../support/tiny.ts";

await useEngine("wasm");

const FIXTURES = fileURLToPath(new URL("../fixtures/runs/", import.meta.url));

/** Copies a folder and all in it. */
async function copy(from: string, to: string): Promise<void> {
  await Deno.mkdir(to, { recursive: true });
  for await (const { name, isDirectory } of Deno.readDir(from)) {
    if (isDirectory) await copy(`${from}/${name}`, `${to}/${name}`);
    else await Deno.copyFile(`${from}/${name}`, `${to}/${name}`);
  }
}

for (const kind of ["pretrain", "finetune"] as const) {
  Deno.test(`a ${kind} folder of the first format goes on to the same bytes`, async () => {
    await withFolder(async (folder) => {
      await copy(`${FIXTURES}${kind}`, folder);
      const options = { steps: 10, checkpoint: { folder, every: 100, keep: 1, resume: true as const } };
      const run = kind === "pretrain"
        ? tinyRun(options, 7)
        : tinyTuning({ ...options, validation: noise.subset([1, 2, 3, 4]) }, 7);
      const { history } = await run.finish();
      assertEquals(history.length, 10);
      for (const file of ["model", "ema/model"]) {
        const expected = `${FIXTURES}${kind}-whole/${file === "model" ? "model" : "ema"}.safetensors`;
        assertEquals(
          await Deno.readFile(`${folder}/step-00000010/${file}.safetensors`),
          await Deno.readFile(expected),
          file,
        );
      }
      const log = (place: string) => Deno.readTextFile(`${place}/metrics.csv`);
      assertEquals(await log(folder), await log(`${FIXTURES}${kind}-whole`));
      run.model.dispose();
      run.ema?.dispose();
    });
  });
}

Deno.test("a folder of the first format is refused where the options that were used differ", async () => {
  await withFolder(async (folder) => {
    await copy(`${FIXTURES}pretrain`, folder);
    const checkpoint = { folder, resume: true } as const;
    const error = await assertRejects(
      () => tinyRun({ steps: 10, betas: [0.5, 0.9], checkpoint }).finish(),
      RunFolderError,
    );
    assertEquals(error.kind, "different");
    assertEquals(
      error.message.includes("options.betas: [0.9,0.95] then, [0.5,0.9] now"),
      true,
      error.message,
    );
  });
});
