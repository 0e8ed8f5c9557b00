import { fileURLToPath } from "node:url";
import { assertEquals, assertThrows } from "@std/assert";
import { configureEngine } from "../../lib/engine/mod.ts";
import { withFolder } from "../support/folder.ts";

const CLONE = fileURLToPath(new URL("../../", import.meta.url));

/** What a program prints that lies in a folder of its own, with these imports in its deno.json. */
async function elsewhere(imports: Record<string, string>, code: string): Promise<string> {
  let printed = "";
  await withFolder(async (folder) => {
    await Deno.writeTextFile(`${folder}/deno.json`, JSON.stringify({ imports }));
    await Deno.writeTextFile(`${folder}/program.ts`, code);
    const args = ["run", "--allow-all", "--quiet", "program.ts"];
    const { stdout, stderr, success } = await new Deno.Command(Deno.execPath(), { args, cwd: folder })
      .output();
    printed = new TextDecoder().decode(success ? stdout : stderr);
  });
  return printed;
}

Deno.test("the engine's example runs as it stands, in a program that has the engine alone", async () => {
  const readme = await Deno.readTextFile(`${CLONE}lib/engine/README.md`);
  const [, code] = readme.match(/```ts\n([^]*?)```/)!;
  assertEquals(code!.trim().split("\n").length, 13);
  const printed = await elsewhere({ "@nepa/engine": `${CLONE}lib/engine/mod.ts` }, code!);
  assertEquals(printed, "tensorflow slope 2.000\n");
});

Deno.test("a script in another folder needs one line to use the library, its rooms too", async () => {
  const code = `import { tf, useEngine } from "nepa";
import { currentEngine } from "@nepa/engine";
await useEngine("cpu");
console.log(currentEngine().name, (await tf.add(1, 2).data())[0]);`;
  const imports = { nepa: `${CLONE}mod.ts`, "@nepa/engine": `${CLONE}lib/engine/mod.ts` };
  assertEquals(await elsewhere(imports, code), "cpu 3\n");
  const alone = code.replaceAll(/import .*@nepa.*\n|currentEngine\(\).name, /g, "");
  assertEquals(await elsewhere({ nepa: `${CLONE}mod.ts` }, alone), "3\n");
});

Deno.test("the engine imports nothing of the library", async () => {
  for await (const { name } of Deno.readDir(`${CLONE}lib/engine`)) {
    if (!name.endsWith(".ts")) continue;
    const text = await Deno.readTextFile(`${CLONE}lib/engine/${name}`);
    for (const [, specifier] of text.matchAll(/^(?!\s*\*).*(?:from|import\() ?"([^"]+)"/gm)) {
      assertEquals(
        /^(\.\/\w+\.(?:ts|json)|node:.*|@tensorflow\/.*|@zip\.js\/zip\.js)$/.test(specifier!),
        true,
        `${name}: ${specifier}`,
      );
    }
  }
});

Deno.test("an option that the engine does not know is refused with the one that was meant", () => {
  assertThrows(
    () => configureEngine({ sya: () => {} } as never),
    TypeError,
    "configureEngine: unknown option sya; did you mean say? There are: say, progress, inNotebook",
  );
  assertThrows(() => configureEngine({ colour: 1 } as never), TypeError, "colour; there are: say");
});
