import { validateWorkflow } from "@action-validator/core";
import { assert, assertEquals } from "@std/assert";
import { join } from "node:path";
import { jsonc } from "../../bench/source.ts";
import { PROJECT } from "../../notebooks/.tools/setup.ts";

/** What the repository holds, as git tells it; undefined where this is no clone. */
async function git(...args: string[]): Promise<string[] | undefined> {
  const command = new Deno.Command("git", { args, cwd: PROJECT, stderr: "null" });
  const result = await command.output().catch(() => undefined);
  return result?.success ? new TextDecoder().decode(result.stdout).trim().split("\n") : undefined;
}

const files = await git("ls-files", "--eol"), ignore = files === undefined;

Deno.test("lines end alike, and what has none is named as binary", { ignore }, () => {
  for (const line of files!) {
    const [, index, attributes, path] = /^i\/(\S*)\s+w\/\S*\s+attr\/(.*?)\s*\t(.*)$/.exec(line)!;
    if (index === "none") continue; // an empty file
    assertEquals(index, attributes!.startsWith("-text") ? "-text" : "lf", `${path}: see .gitattributes`);
  }
});

Deno.test("addresses of files become paths as the system writes them", { ignore }, async () => {
  const sources = files!.map((line) => line.split("\t")[1]!).filter((path) => path.endsWith(".ts"));
  assert(sources.length > 300);
  for (const path of sources) {
    const text = await Deno.readTextFile(join(PROJECT, path));
    const found = /import\.meta\.url\)\.pathname|\.lastIndexOf\("\/"\)/.exec(text)?.[0];
    assertEquals(found, undefined, `${path}: write fileURLToPath, basename, dirname`);
  }
});

Deno.test("a task's folders may have spaces in their names", async () => {
  const { tasks } = jsonc<{ tasks: Record<string, { command: string }> }>(
    await Deno.readTextFile(join(PROJECT, "deno.json")),
  );
  for (const [name, { command }] of Object.entries(tasks)) {
    const unquoted = command.replaceAll(/"[^"]*"/g, "");
    assertEquals(/\$\w+/.exec(unquoted)?.[0], undefined, `${name}: ${command}`);
  }
  const folder = await Deno.makeTempDir({ suffix: " of Zoë" });
  const json = {
    tasks: { show: tasks.setup!.command.replace(/notebooks.*/, "show.ts") },
    permissions: { setup: { env: true } },
  };
  await Deno.writeTextFile(join(folder, "deno.json"), JSON.stringify(json));
  const code = `Deno.mkdirSync(Deno.env.get("XDG_CACHE_HOME") + "/nepa/a", { recursive: true });
    console.log("may write");`;
  await Deno.writeTextFile(join(folder, "show.ts"), code);
  const { stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["task", "--quiet", "show"],
    cwd: folder,
    env: { XDG_CACHE_HOME: join(folder, "a cache"), NO_COLOR: "1" },
  }).output();
  assertEquals(new TextDecoder().decode(stdout).trim(), "may write", new TextDecoder().decode(stderr));
  await Deno.remove(folder, { recursive: true });
});

Deno.test("the workflow fits GitHub's published schema, and runs the README's two commands on three systems", async () => {
  const text = await Deno.readTextFile(join(PROJECT, ".github/workflows/test.yml"));
  assertEquals(validateWorkflow(text).errors, []);
  assert(validateWorkflow(text.replace("runs-on", "run-on")).errors.length > 0);
  const readme = await Deno.readTextFile(join(PROJECT, "README.md"));
  const [, block = ""] = /## Two commands[^]*?```sh\n([^]*?)```/.exec(readme) ?? [];
  const commands = [...block.matchAll(/^(npx .*?)\s*#/gm)].map(([, command]) => command!);
  assertEquals([...text.matchAll(/- run: (.*)/g)].map(([, command]) => command), commands);
  for (const system of ["ubuntu", "windows", "macos"]) assert(text.includes(`${system}-latest`), system);
});
