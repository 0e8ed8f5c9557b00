import { fileURLToPath } from "node:url";
import { assertEquals } from "@std/assert";
import { countTests } from "../run.ts";

Deno.test("the closing line of deno test gives the counts; steps are not counted", () => {
  const output = "one ... ok\n\nok | 12 passed (34 steps) | 0 failed | 2 ignored | 5 filtered out (1s)\n\n";
  assertEquals(countTests(output, true), { passed: 12, failed: 0, ignored: 2 });
  assertEquals(countTests("ok | 1 passed | 0 failed (3ms)", true), { passed: 1, failed: 0, ignored: 0 });
  assertEquals(countTests("known to fail: a\n7 passed, 1 failed\n", false), {
    passed: 7,
    failed: 1,
    ignored: 0,
  });
});

Deno.test("failures are counted, in colour too, and the last closing line counts", () => {
  const inner = "ok | 7 passed | 0 failed (1ms)\n";
  const output =
    `${inner}\x1b[31mFAILED\x1b[0m | 3 passed (1 step) | 2 failed (1 step) (8s)\n\nerror: Test failed\n`;
  assertEquals(countTests(output, false), { passed: 3, failed: 2, ignored: 0 });
});

Deno.test("a run of deno that broke off is a failure, whatever it printed", () => {
  assertEquals(countTests("running 3 tests from ./a.ts\n", false), { passed: 0, failed: 1, ignored: 0 });
  assertEquals(countTests("ok | 3 passed | 0 failed (1ms)\n", false), { passed: 3, failed: 1, ignored: 0 });
  assertEquals(countTests("", true), { passed: 0, failed: 0, ignored: 0 });
});

/** The runner itself, on a folder of its own with real tests in it. */
async function run(...args: string[]): Promise<{ code: number; lastLine: string }> {
  const { code, stdout } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "--allow-all", fileURLToPath(new URL("../run.ts", import.meta.url)), ...args],
    stderr: "null",
  }).output();
  return { code, lastLine: new TextDecoder().decode(stdout).trimEnd().split("\n").at(-1)! };
}

Deno.test("the runner ends with the count alone on a line and a status that agrees", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const write = (name: string, text: string) => Deno.writeTextFile(`${folder}/${name}`, text);
    await write("good_test.ts", `Deno.test("a", async (t) => { await t.step("b", () => {}); });`);
    await write("bad_test.ts", `Deno.test("c", () => { throw new Error("c"); });`);
    await write("crash_test.ts", `Deno.test("d", () => Deno.exit(0)); Deno.kill(Deno.pid, "SIGKILL");`);
    assertEquals(await run(`${folder}/good_test.ts`), { code: 0, lastLine: "1 passed, 0 failed" });
    assertEquals(await run(folder + "/good_test.ts", folder + "/bad_test.ts"), {
      code: 1,
      lastLine: "1 passed, 1 failed",
    });
    assertEquals(await run(`${folder}/crash_test.ts`), { code: 1, lastLine: "0 passed, 1 failed" });
    assertEquals(await run("--filter", "none of these", `${folder}/good_test.ts`), {
      code: 1,
      lastLine: "0 passed, 1 failed",
    });
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
