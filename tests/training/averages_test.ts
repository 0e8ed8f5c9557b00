import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { finetune, NepaClassifier, useEngine } from "nepa";
import { config, noise, tinyRun, tinyTuning } from "../support/tiny.ts";

await useEngine("cpu");

Deno.test("averaged weights that still hold much of their start are told of, with what to write", () => {
  const said: string[] = [], before = console.error;
  console.error = (line: string) => said.push(line);
  try {
    const told = (run: { notices: readonly string[] }) =>
      run.notices.filter((text) => text.includes("emaDecay"));
    const [one] = told(tinyRun({ steps: 60, emaDecay: 0.9999 }));
    assertStringIncludes(
      one!,
      "emaDecay: 99 % of the averaged weights are still those at the start after 60 updates",
    );
    const better = Number(/write emaDecay: ([\d.]+)/.exec(one!)![1]);
    assert(better ** 60 < 0.02 && better > 0.8, one);
    assertEquals(told(tinyRun({ steps: 60, emaDecay: better })), []);
    assertEquals(told(tinyRun({ steps: 60, emaDecay: null })), []);
    assertEquals(told(tinyTuning({ steps: 10, emaDecay: 0.5 })), []);
    assertEquals(told(tinyTuning({ steps: 10, emaDecay: 0.9 })).length, 1);
    const classifier = new NepaClassifier(config, { classes: noise.classes, seed: 1 });
    assertEquals(told(finetune(classifier, noise, { recipe: "official-base", batchSize: 8 })).length, 1); // 1,200 updates
    for (const steps of [1, 2, 7, 300, 10_000]) {
      const [text] = told(tinyRun({ steps, emaDecay: 1 - 1e-6 }));
      const decay = Number(/write emaDecay: ([\d.]+)/.exec(text!)![1]);
      assertEquals(told(tinyRun({ steps, emaDecay: decay })), [], text);
    }
    assert(said.some((line) => line === one), "it is printed, too");
  } finally {
    console.error = before;
  }
});
