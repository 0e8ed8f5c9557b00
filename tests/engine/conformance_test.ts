import { fileURLToPath } from "node:url";
import { assertEquals, assertMatch } from "@std/assert";
import { tally } from "../conformance/tally.ts";

const RESULTS = [
  { name: "good", failure: undefined },
  { name: "mended", failure: undefined },
  { name: "broken", failure: "expected 1, got 2" },
  { name: "old", failure: "no such kernel" },
];
const KNOWN = { mended: "was slow", old: "TensorFlow has none" };

Deno.test("the whole count has every spec in it, those that are known to fail included", () => {
  assertEquals(tally(RESULTS, KNOWN, false), {
    passed: 2,
    failed: 2,
    lines: [
      "passes, take it out of known_failures.json: mended",
      "FAILED: broken: expected 1, got 2",
      "known to fail: old: TensorFlow has none",
    ],
  });
});

Deno.test("a known failure is left out and named; one that passes, or that no spec has the name of, is a failure", () => {
  const without = tally(RESULTS, { ...KNOWN, gone: "?" }, true);
  assertEquals([without.passed, without.failed], [1, 3]);
  assertEquals(without.lines.slice(2), [
    "known to fail, left out: old: TensorFlow has none",
    "did not run, take it out of known_failures.json: gone",
  ]);
  assertEquals(tally(RESULTS.slice(2), { broken: "?", old: "?" }, true).failed, 0);
});

async function run(...args: string[]): Promise<{ code: number; last: string }> {
  const { code, stdout } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "--allow-all", fileURLToPath(new URL("../conformance/run.ts", import.meta.url)), ...args],
    stderr: "null",
  }).output();
  return { code, last: new TextDecoder().decode(stdout).trimEnd().split("\n").at(-1)! };
}

Deno.test("specs chosen by a text run, and the count stands alone on the last line", async () => {
  const { code, last } = await run("string tensor", "--leave-out-known");
  assertEquals(code, 0);
  assertMatch(last, /^\d\d passed, 0 failed$/);
  assertEquals(await run("no spec is called this"), { code: 1, last: "0 passed, 0 failed" });
});
