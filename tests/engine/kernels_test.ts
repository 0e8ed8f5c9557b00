import { assertEquals } from "@std/assert";
import * as RESAMPLE from "../../lib/data/resample_binary.ts";
import * as ENGINE from "../../lib/engine/wasm_binary.ts";
import { PROJECT } from "../../notebooks/.tools/setup.ts";

Deno.test("the committed kernels are those of their sources", async () => {
  const task = ["run", "--config", "kernels/deno.json", "-P=kernels", "kernels/build.ts", "--check"];
  const { code, stderr } = await new Deno.Command(Deno.execPath(), { args: task, cwd: PROJECT }).output();
  assertEquals(code, 0, new TextDecoder().decode(stderr));
  for (const { KERNELS, KERNELS_SHA256 } of [ENGINE, RESAMPLE]) {
    const digest = await crypto.subtle.digest("SHA-256", Uint8Array.fromBase64(KERNELS));
    assertEquals(new Uint8Array(digest).toHex(), KERNELS_SHA256);
  }
});
