import { assert, assertEquals, assertMatch, assertThrows } from "@std/assert";
import { join } from "node:path";
import { OptionError, readOptions, toArguments } from "../../bench/options.ts";
import { jsonc } from "../../bench/source.ts";
import { PROJECT } from "../../notebooks/.tools/setup.ts";
import { withFolder } from "../support/folder.ts";

const read = (path: string) => Deno.readTextFile(join(PROJECT, path));
const { tasks } = jsonc<{ tasks: Record<string, unknown> }>(await read("deno.json"));

/** Runs `deno task` with these words. */
async function task(...words: string[]): Promise<{ code: number; out: string; said: string }> {
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["task", "--quiet", ...words],
    cwd: PROJECT,
    env: { NO_COLOR: "1" },
  }).output();
  const [out, said] = [stdout, stderr].map((bytes) => new TextDecoder().decode(bytes));
  return { code, out: out!, said: said! };
}

Deno.test("a task's options are read; unknown ones, missing values and stray words are refused", () => {
  const defaults = { out: "here", json: false }, given = (...args: string[]) => readOptions(args, defaults);
  assertEquals(given("--out=a", "--json"), { out: "a", json: true, operands: [] });
  assertEquals(given(), { out: "here", json: false, operands: [] });
  assertEquals(readOptions(["a", "--", "--b"], {}, "[NAME …]").operands, ["a", "--b"]);
  for (
    const [args, message] of [
      [["--jsn"], "unknown option --jsn; did you mean --json?"],
      [["-j"], "unknown option -j"],
      [["--out"], "--out: expected a value, got none"],
      [["--out", "--json"], "--out: expected a value, got none"],
      [["--json=no"], '--json: expected no value, got "no"'],
      [["json"], 'expected only options, got "json"'],
      [["--constructor"], "unknown option --constructor"],
    ] as const
  ) assertThrows(() => given(...args), OptionError, message);
  assertEquals(toArguments({ port: "1", debug: true, ip: "", quiet: false }), ["--port=1", "--debug"]);
});

for (const name of Object.keys(tasks)) {
  Deno.test(`deno task ${name} --help says what it takes, and an unknown option is refused before any work`, async () => {
    const help = await task(name, "--help");
    assertEquals(help.code, 0, help.said);
    assertMatch(help.out, /Options and defaults:\n[^]*--help/);
    const refused = await task(name, "--nonsense");
    assertEquals([refused.code, refused.out], [2, ""]);
    assertMatch(refused.said, /unknown option --nonsense/);
  });
}

Deno.test("every command in the documentation is one that its task takes", async () => {
  const text = await read("README.md") + await read("CONTRIBUTING.md");
  const commands = [...text.matchAll(/deno task ([a-z]+[^\n`#,:]*)/g)].map(([, words]) => words!.trim());
  const distinct = new Set(commands.map((words) => words.replace(/\s*\[.*\]/, "")));
  assert(distinct.size > 15 && distinct.has("jupyter --notebook-dir=../mine"), [...distinct].join("\n"));
  await withFolder(async (mine) => {
    for (const command of distinct) {
      const words = command.replace("../mine", mine).replaceAll('"', "").split(/\s+/);
      const { code, out, said } = await task(...words, "--help");
      assertEquals([code, out.includes("--help")], [0, true], `deno task ${command}: ${said}`);
    }
  });
});

Deno.test("a folder that is not there is refused before JupyterLab is installed", async () => {
  const { code, said } = await task("jupyter", "--notebook-dir=nowhere");
  assertEquals(code, 2);
  assertMatch(said, /--notebook-dir: expected a folder that is there, got ".*nowhere"/);
  const { said: hint } = await task("jupyter", "../mine");
  assertMatch(hint, /--notebook-dir=\.\.\/mine/);
});

/** An address on this machine that nobody listens at. */
function freePort(): number {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  return listener.addr.port;
}

Deno.test("deno task jupyter --notebook-dir starts JupyterLab in that folder", async () => {
  await withFolder(async (mine) => {
    await Deno.writeTextFile(join(mine, "mine.ipynb"), "{}");
    const port = freePort(), options = ["--no-browser", `--port=${port}`, "--ip=127.0.0.1"];
    const own = [
      "--",
      "--IdentityProvider.token=secret",
      ...(Deno.build.os !== "windows" && Deno.uid() === 0) ? ["--allow-root"] : [],
    ];
    const child = new Deno.Command(Deno.execPath(), {
      args: ["task", "--quiet", "jupyter", `--notebook-dir=${mine}`, ...options, ...own],
      cwd: PROJECT,
      stdout: "null",
      stderr: "piped",
    }).spawn();
    const said = new Response(child.stderr).text(), address = `http://127.0.0.1:${port}/api`;
    const ask = (path: string, method = "GET") =>
      fetch(`${address}/${path}`, { method, headers: { authorization: "token secret" } }).catch(() =>
        undefined
      );
    try {
      let ended = false, answer: Response | undefined;
      child.status.then(() => ended = true);
      while (!ended && !(answer = await ask("contents"))) await new Promise((next) => setTimeout(next, 200));
      if (!answer) throw new Error(await said);
      const { content } = await answer.json() as { content: { name: string }[] };
      assertEquals(content.map(({ name }) => name), ["mine.ipynb"]);
    } finally {
      await (await ask("shutdown", "POST"))?.body?.cancel();
      assertEquals((await child.status).code, 0, await said);
    }
  });
});
