import { assertEquals } from "@std/assert";
import { attempts, KINDS } from "../../bench/fuzz/kinds.ts";

for (const [kind, { share }] of Object.entries(KINDS)) {
  Deno.test(`broken at random, ${kind} files are refused by name, or whole`, async () => {
    const wrong: string[] = [];
    await attempts(kind, [0, 10 + share], 1, (index, outcome) => {
      if (outcome.wrong) wrong.push(`${kind}:${index}: ${outcome.wrong}`);
    });
    assertEquals(wrong, []);
  });
}
