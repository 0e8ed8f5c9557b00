import { assert, assertAlmostEquals, assertEquals, assertRejects } from "@std/assert";
import { join } from "node:path";
import { ratiosOf, type Stepper, takeTurns } from "../../bench/against.ts";
import { Checkout } from "../../bench/checkout.ts";
import { apart } from "../../bench/same.ts";
import { jsonc } from "../../bench/source.ts";
import { PROJECT } from "../../notebooks/.tools/setup.ts";
import { withFolder } from "../support/folder.ts";

const bytes = (...values: number[]) => new Uint8Array(new Float32Array(values).buffer);

Deno.test("trainings are compared by each loss and each byte, and what only one of them has differs", () => {
  const one = { losses: [1, 0.5], weights: new Map([["a", bytes(1, 2)], ["b", bytes(0)]]) };
  assertEquals(apart(one, structuredClone(one)), { losses: 0, loss: 0, tensors: 0, weight: 0 });
  const other = { losses: [1, 0.75], weights: new Map([["a", bytes(1, 2.5)], ["b", bytes(-0)]]) };
  assertEquals(apart(one, other), { losses: 1, loss: 0.25, tensors: 2, weight: 0.5 });
  const short = { losses: [1], weights: new Map([["a", bytes(1, 2)]]) };
  assertEquals(apart(one, short), { losses: 1, loss: NaN, tensors: 1, weight: NaN });
});

Deno.test("processes take turns in every order, and a ratio is to what was measured beside it", async () => {
  const order: string[] = [];
  const stepper = (name: string, seconds: number): Stepper => ({
    seconds: (n) => (order.push(name), Promise.resolve(seconds * n)),
  });
  const [here, one, other] = [stepper("h", 3), stepper("o", 1), stepper("p", 2)];
  const turns = await takeTurns([here, one, other], 6, 4, 0);
  const all = order.slice(1).join("").replaceAll(/(.)\1/g, "$1"); // a step to wake up, then the block
  for (const place of [0, 1, 2]) {
    const there = all.match(/.../g)!.map((turn) => turn[place]).toSorted().join("");
    assertEquals(there, "hhoopp", `place ${place}`);
  }
  const { ratio, control, here: mine, there } = ratiosOf(turns);
  assertAlmostEquals(ratio, 2, 1e-12);
  assertEquals([control, mine, there], [0.5, 3, 1.5]);
});

Deno.test("a checkout is trained in a process of its own, by its own library", async () => {
  await assertRejects(() => Checkout.start("/nowhere", "/tmp"), TypeError, "/nowhere");
  await withFolder(async (place) => {
    const checkout = await Checkout.start(PROJECT, place);
    await checkout.open({ engine: "wasm", preset: "mini" });
    assert(await checkout.seconds(1) > 0);
    await checkout.stop();
  });
});

Deno.test("what trains otherwise than this checkout is found, and what does not passes", async () => {
  await withFolder(async (other) => {
    const library = join(PROJECT, "mod.ts");
    const own = jsonc<{ imports: object }>(await Deno.readTextFile(join(PROJECT, "deno.json")));
    const imports = { ...own.imports, "@nepa/engine": join(PROJECT, "lib/engine/mod.ts"), nepa: "./mod.ts" };
    await Deno.writeTextFile(join(other, "deno.json"), JSON.stringify({ imports }));
    await Deno.writeTextFile(
      join(other, "mod.ts"),
      `import { pretrain as as } from "${library}";
export * from "${library}";
export const pretrain: typeof as = (model, train, options) => as(model, train, { ...options, seed: 1 });`,
    );
    const { stdout, code } = await new Deno.Command(Deno.execPath(), {
      args: [
        "run",
        "--no-check",
        "--allow-all",
        "bench/mod.ts",
        "same",
        "--against",
        other,
        "--engine",
        "wasm",
        "--json",
      ]
        .concat(["--steps", "20", "--finetune-steps", "10"]),
      cwd: PROJECT,
      stderr: "null",
    }).output();
    const lines = new TextDecoder().decode(stdout).trim().split("\n"), last = lines.pop();
    assertEquals([last, code], ["1 passed, 1 failed", 1]);
    const [pretrained, finetuned] = lines.map((line) => JSON.parse(line));
    assertEquals([pretrained.task, pretrained.steps, pretrained.apart.losses], ["pretrain", 2, 2]);
    assert(pretrained.apart.tensors > 100);
    assertEquals(finetuned.apart, { losses: 0, loss: 0, tensors: 0, weight: 0 });
  });
});
