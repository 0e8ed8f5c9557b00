import { assert, assertEquals } from "@std/assert";
import { join } from "node:path";
import { Nepa, useEngine } from "nepa";
import { PROJECT } from "../../notebooks/.tools/setup.ts";

/** The keys of result.json, in their order. */
const KEYS = [
  "engine",
  "preset",
  "recipe",
  "seed",
  "steps",
  "seconds",
  "lossFirst",
  "lossLast",
  "probeAccuracy",
  "probeBestLayerAccuracy",
  "probeAllTokensAccuracy",
  "rawPixelsAccuracy",
  "randomInitAccuracy",
  "fewLabelsAccuracy",
  "fewLabelsScratchAccuracy",
];

Deno.test("the demo, at the tests' budget, writes its numbers, a model and a report that stands alone", async () => {
  await Deno.mkdir(join(PROJECT, "out"), { recursive: true });
  const out = await Deno.makeTempDir({ dir: join(PROJECT, "out"), prefix: "test-" }); // the task may write there
  try {
    const { success, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
      args: ["task", "demo", "--out", out],
      cwd: PROJECT,
      env: { NEPA_BUDGET: "test", NO_COLOR: "1" },
    }).output();
    const said = new TextDecoder().decode(stdout);
    assert(success, new TextDecoder().decode(stderr));
    const result = JSON.parse(await Deno.readTextFile(join(out, "result.json")));
    assertEquals(Object.keys(result), KEYS);
    const engine = await useEngine();
    assertEquals(result.engine, String(engine));
    assertEquals([result.preset, result.seed], ["mini", 0]);
    for (const key of KEYS.slice(4)) assert(Number.isFinite(result[key]), `${key}: ${result[key]}`);
    assert(result.lossLast < result.lossFirst && result.lossLast > -1, "the loss fell");
    for (const key of KEYS.filter((name) => name.endsWith("Accuracy"))) {
      assert(result[key] > 0.1 && result[key] <= 1, `${key}: ${result[key]}`);
    }
    assert(result.probeBestLayerAccuracy >= result.probeAccuracy);
    for (const words of ["from scratch", "raw pixels", "previous patch"]) assert(said.includes(words), said);

    const model = await Nepa.load(join(out, "model"));
    assertEquals(model.config.patchSize, 7);
    model.dispose();
    const html = await Deno.readTextFile(join(out, "report.html"));
    assert(html.includes("NEPA on Fashion-MNIST") && html.includes("data:image/"));
    assertEquals(html.match(/(?:src|href)="(?!data:)[^"]*"/g), null, "the report loads something");
  } finally {
    await Deno.remove(out, { recursive: true });
  }
});
