import { assertEquals } from "@std/assert";
import { join } from "node:path";
import { closureOf, countLib } from "../../bench/count.ts";
import { codeLines } from "../../bench/source.ts";
import { withFolder } from "../support/folder.ts";

Deno.test("comments and blank lines are no code, what only looks like them is", () => {
  const text = [
    "/**",
    " * A doc comment.",
    " */",
    "export const a = `// not a comment",
    "",
    "  /* nor this */ `; // but this",
    "",
    "// a line of words",
    "const pattern = /\\/\\*/; /* a comment",
    "   that goes on */ const b = 1;",
  ];
  assertEquals(codeLines(text.join("\n")), 4);
});

/** A library of three rooms, two barrels and a program with a step. */
const TREE = {
  "deno.json": `{ "imports": { "made-up": "./mod.ts" /* the library */ } }`,
  "mod.ts": `import "./lib/start.ts";
export * from "./lib/parts.ts";
export * as box from "./lib/data/box.ts";
export { run as train } from "./lib/training/run.ts";
export { far } from "npm:far";`,
  "lib/parts.ts": `export { add, type Sum } from "./base/sum.ts";
export * from "./training/mixed.ts";
export type { Other } from "./base/types.ts";`,
  "lib/start.ts": `console.log("hello");`,
  "lib/base/sum.ts": `// adds
import type { Other } from "./types.ts";
export type Sum = number;
export const add = (a: Sum, b: Sum): Sum => a + b;`,
  "lib/base/types.ts": "export type Other = string;\nexport const unread = 1;",
  "lib/base/late.ts": "export const late = 1;",
  "lib/data/box.ts": `import "../base/types.ts";`,
  "lib/training/run.ts": `import { load } from "../data/load.ts";
export async function run() {
  load();
  await import("../base/late.ts");
}`,
  "lib/training/mixed.ts": `export { helper } from "./helper.ts";
const own = 2;
export { own as mine };`,
  "lib/training/helper.ts": "export function helper() {}",
  "lib/data/load.ts": "export function load() {}",
  "lib/training/more/deep.ts": "",
};

async function withTree(work: (project: string) => void | Promise<void>): Promise<void> {
  await withFolder(async (project) => {
    for (const [path, text] of Object.entries(TREE)) {
      await Deno.mkdir(join(project, path, ".."), { recursive: true });
      await Deno.writeTextFile(join(project, path), text);
    }
    await work(project);
  });
}

Deno.test("one step takes the files that give it values, through files that only pass them on", async () => {
  await withTree(async (project) => {
    const takes = async (program: string) => {
      await Deno.writeTextFile(join(project, "step.ts"), program);
      return Object.fromEntries(
        closureOf(join(project, "step.ts"), project).map(({ path, lines }) => [path, lines]),
      );
    };
    assertEquals(await takes(`import { add, type Other, type Sum } from "made-up";`), {
      "step.ts": 1,
      "lib/base/sum.ts": 3,
    });
    assertEquals(await takes(`import { box, far, train } from "made-up";\n\ntrain();`), {
      "step.ts": 2,
      "lib/training/run.ts": 5,
    });
    assertEquals(await takes(`import { helper } from "made-up";`), {
      "step.ts": 1,
      "lib/training/mixed.ts": 3,
      "lib/training/helper.ts": 1,
    });
    assertEquals(await takes(`import { mine } from "made-up";`), {
      "step.ts": 1,
      "lib/training/mixed.ts": 3,
      "lib/training/helper.ts": 1,
    });
    assertEquals(Object.keys(await takes(`import * as all from "./lib/parts.ts";`)), [
      "step.ts",
      "lib/base/sum.ts",
      "lib/training/mixed.ts",
      "lib/training/helper.ts",
    ]);
  });
});

Deno.test("every file of lib is counted, folders within folders too", async () => {
  await withTree((project) => {
    const counted = Object.fromEntries(countLib(project).map(({ path, lines }) => [path, lines]));
    assertEquals(
      Object.keys(counted).sort(),
      Object.keys(TREE).filter((path) => path.startsWith("lib/")).sort(),
    );
    assertEquals([counted["lib/base/sum.ts"], counted["lib/training/more/deep.ts"]], [3, 0]);
  });
});
