/** What is said of a source that is no model. @module */
import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { HubError, Nepa, useEngine } from "nepa";
import { modelFolder } from "../../lib/files/hub.ts";
import { CheckpointError } from "../../lib/files/model_folder.ts";
import { withFolder } from "../support/folder.ts";
import { config, tinyRun } from "../support/tiny.ts";

await useEngine("cpu");

Deno.test("a mistyped path of two parts is told to be no folder, with what stands beside it", async () => {
  await withFolder(async (home) => {
    const before = Deno.cwd(), environment = { HF_HUB_OFFLINE: "1", HOME: home };
    await Deno.mkdir(`${home}/runs/mini`, { recursive: true });
    Deno.chdir(home);
    try {
      const { message } = await assertRejects(() => modelFolder("runs/minni", { environment }), HubError);
      assertStringIncludes(message, "There is no folder runs/minni here either; did you mean mini?");
      const other = await assertRejects(() => modelFolder("nowhere/mini", { environment }), HubError);
      assert(other.message.endsWith("There is no folder nowhere/mini here either"), other.message);
    } finally {
      Deno.chdir(before);
    }
  });
});

Deno.test("a run's folder is told to hold checkpoints, by their names", async () => {
  await withFolder(async (folder) => {
    const run = tinyRun({ steps: 4, emaDecay: null, checkpoint: { folder, every: 2 } });
    await run.finish();
    run.model.dispose();
    const { message } = await assertRejects(() => Nepa.load(folder), CheckpointError);
    assertStringIncludes(message, `models in step-00000002, step-00000004: load "${folder}/step-00000004"`);
    await withFolder(async (empty) => {
      const { message } = await assertRejects(() => Nepa.load(empty), CheckpointError);
      assert(!message.includes("models in"), message);
    });
  });
});

Deno.test("an address of the hub, a name with a revision and a folder's file are refused with what to write", async () => {
  await withFolder(async (folder) => {
    const model = new Nepa(config, { seed: 0 });
    await model.save(folder);
    model.dispose();
    const meant: Record<string, string> = {
      "https://huggingface.co/lab/model": '"lab/model"',
      "https://huggingface.co/lab/model/": '"lab/model"',
      "http://mirror.example/lab/model/tree/main": '"lab/model" with { revision: "main" }',
      "https://hf.co/lab/model/blob/v1/config.json": '"lab/model" with { revision: "v1" }',
      "huggingface.co/lab/model": '"lab/model"',
      "hf://lab/model@v1": '"lab/model" with { revision: "v1" }',
      "lab/model@refs/pr/1": '"lab/model" with { revision: "refs/pr/1" }',
      "lab/model/tree/main": '"lab/model" with { revision: "main" }',
      [`${folder}/model.safetensors`]: JSON.stringify(folder),
      [`${folder}/config.json`]: JSON.stringify(folder),
    };
    for (const [source, write] of Object.entries(meant)) {
      const { message } = await assertRejects(() => Nepa.load(source), TypeError, undefined, source);
      const expected = 'source: expected a folder or a name on the hub, "organisation/name"';
      assertEquals(message, `${expected}, got ${JSON.stringify(source)}; write ${write}`);
    }
    for (const source of ["./runs/mini", "a", "../x/y/z"]) {
      await assertRejects(() => Nepa.load(source), CheckpointError);
    }
  });
});
