import { assert, assertEquals } from "@std/assert";
import { join } from "node:path";
import { toNotebook } from "../../notebooks/.tools/build.ts";
import { executeNotebook } from "../../notebooks/.tools/execute.ts";
import { PROJECT } from "../../notebooks/.tools/setup.ts";
import { withFolder } from "../support/folder.ts";
import { HubServer } from "../support/hub_server.ts";
import { files } from "../support/hub_setup.ts";
import { parquetFile } from "../support/parquet.ts";
import { noise } from "../support/tiny.ts";

/** The README's cells: blocks of TypeScript, and calls in its text that begin with `await`. */
async function cellsOf(path: string): Promise<string[]> {
  const text = await Deno.readTextFile(path);
  return [...text.matchAll(/```ts\b[^\n]*\n([^]*?)```|`(await [^`]+)`/g)].map(([, block, call]) =>
    block ?? call!
  );
}

Deno.test("every cell of the README runs in a notebook, those with the hub too", async () => {
  const cells = await cellsOf(join(PROJECT, "README.md"));
  assert(cells.length > 6, `${cells.length} cells`);
  const short = cells.map((cell) =>
    cell.replaceAll("1000", "2").replace("warmupSteps: 100", "warmupSteps: 1")
  );
  const names =
    "IJepa, imageFolder, linearProbe, Nepa, NepaClassifier, parquetImages, pretrain, unpackParquet";
  const sources = [`import { ${names} } from "nepa";`, ...short].map((cell) =>
    cell.replaceAll("(64,", "(8,")
  );
  await withFolder(async (home) => {
    const mine = join(home, "mine");
    for (const part of ["photos/cat", "photos/dog"]) {
      await Deno.mkdir(join(mine, part), { recursive: true });
      await Deno.copyFile(join(PROJECT, "tests/fixtures/images/rgb.png"), join(mine, part, "1.png"));
    }
    await Deno.writeFile(join(mine, "train.parquet"), parquetFile(noise.balanced(2)));
    const imports = { nepa: join(PROJECT, "tests/support/quick.ts") };
    await Deno.writeTextFile(join(mine, "deno.json"), JSON.stringify({ imports }));
    await using hub = new HubServer(files, { repo: "SixAILab/nepa-base-patch14-224" });
    const environment = {
      NEPA_BUDGET: "test",
      NEPA_ENGINE: "wasm",
      HF_HOME: home,
      HF_ENDPOINT: hub.endpoint,
    };
    const code = sources.map((source) => ({ kind: "code" as const, source }));
    const { cells: ran } = JSON.parse(await executeNotebook(toNotebook(code), mine, environment));
    assertEquals(ran.length, sources.length);
    assert(hub.seen.length > 0, "the hub was not asked");
    assert((await Deno.stat(join(home, "runs/mini/model.safetensors"))).isFile);
  });
});
