import { assertEquals } from "@std/assert";
import { wrongImports, wrongImportsOfLib } from "../support/rooms.ts";

Deno.test("a folder of lib imports only those above it, types included, and the engine nothing but itself", async () => {
  assertEquals(await wrongImportsOfLib(), []);
});

Deno.test("a line that breaks the rule is named with its file, whatever kind of import it is", () => {
  const wrong = (path: string, text: string) => wrongImports(path, text);
  const lines = [
    `import * as tf from "@tensorflow/tfjs";`,
    `import { Random } from "../base/random.ts"; // import "../plot/run.ts" in a comment`,
    `import { plotRun } from "../plot/run.ts";`,
    `export type {`,
    `  Step,`,
    `} from "../training/run.ts";`,
    `export type Lazy = import("../eval/knn.ts").Knn;`,
    `const late = await import("../training/log.ts");`,
    `import { Nepa } from "nepa";`,
    `import { parts } from "../parts.ts";`,
  ];
  assertEquals(wrong("lib/model/nepa.ts", lines.join("\n")), [
    `lib/model/nepa.ts:3: import { plotRun } from "../plot/run.ts";`,
    `lib/model/nepa.ts:4: export type { Step, } from "../training/run.ts";`,
    `lib/model/nepa.ts:7: import("../eval/knn.ts").Knn`,
    `lib/model/nepa.ts:8: import("../training/log.ts")`,
    `lib/model/nepa.ts:9: import { Nepa } from "nepa";`,
    `lib/model/nepa.ts:10: import { parts } from "../parts.ts";`,
  ]);
  assertEquals(wrong("lib/engine/xla/graph.ts", `import { shown } from "../../base/check.ts";`).length, 1);
  assertEquals(wrong("lib/engine/xla/graph.ts", `import { streams } from "../streams.ts";`), []);
  assertEquals(wrong("lib/model/nepa.ts", `import { useEngine } from "@nepa/engine";`), []);
  assertEquals(wrong("lib/base/random.ts", `import { useEngine } from "@nepa/engine";`).length, 1);
  assertEquals(wrong("lib/parts.ts", `export { plotRun } from "./plot/run.ts";`), []);
  assertEquals(wrong("lib/stuff/a.ts", "").length, 1);
});
