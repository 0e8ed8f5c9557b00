import { assertEquals, assertRejects } from "@std/assert";
import { ahead } from "../../lib/data/ahead.ts";

Deno.test("what was begun ahead has ended where its reader leaves early, or one of it fails", async () => {
  let begun = 0, ended = 0;
  const make = async (i: number) => {
    begun++;
    await new Promise((resolve) => setTimeout(resolve, 5 * (i + 1)));
    ended++;
    if (i === 1) throw new Error("broken");
    return i;
  };
  for await (const first of ahead(100, make, 4)) {
    assertEquals(first, 0);
    break;
  }
  assertEquals([begun, ended], [4, 4]);
  await assertRejects(() => Array.fromAsync(ahead(100, make, 4)), Error, "broken");
  assertEquals([begun, ended], [9, 9]);
});
