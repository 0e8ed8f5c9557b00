import { assert, assertEquals, assertMatch } from "@std/assert";
import { compareRuns, imageFolder, LowShotResult, tf, useEngine } from "nepa";
import { jupyterDisplay, type MediaBundle, type Shown } from "../../lib/display/jupyter.ts";
import { warningLines } from "../../lib/display/lines.ts";
import { withFolder } from "../support/folder.ts";
import { tinyRun } from "../support/tiny.ts";

await useEngine("cpu");

/** What a notebook shows of a value, as text. */
async function plain(value: unknown): Promise<string> {
  const bundle: MediaBundle = await (value as Shown)[jupyterDisplay]();
  return String(bundle["text/plain"]);
}

Deno.test("a tensor shows its type, shape and numbers, a large or disposed one no numbers", async () => {
  const { numTensors } = tf.memory(), x = tf.tensor2d([[1, 2], [3, 4]]), large = tf.zeros([1001, 1000]);
  const one = tf.scalar(1, "int32");
  assertEquals(Deno.inspect(x), "Tensor float32 [2, 2]\n    [[1, 2],\n     [3, 4]]");
  assertEquals(await plain(x), Deno.inspect(x));
  assertEquals(await plain(large), "Tensor float32 [1001, 1000]");
  const variable = tf.variable(one, true, "counter");
  assertMatch(await plain(variable), /^Variable counter int32 \[\]\n\s+1$/);
  tf.dispose([x, large, one, variable]);
  assertEquals(await plain(x), "Tensor float32 [2, 2], disposed");
  assertEquals(tf.memory().numTensors, numTensors);
});

Deno.test("a tensor without numbers yet, in a compiled function, prints its type and shape", async () => {
  const engine = await useEngine(), said: string[] = [], x = tf.tensor1d([1, 2]);
  const double = engine.compile((x: tf.Tensor1D) => {
    const y = tf.mul(x, 2);
    said.push(Deno.inspect(y));
    return y;
  });
  const y = await double(x);
  assertEquals([...await y.data()], [2, 4]);
  assertMatch(said[0]!, /^Tensor float32 \[2\]/);
  tf.dispose([x, y]);
  double.dispose();
  await useEngine("cpu");
});

Deno.test("a run's result is a row, not its history; its fields stay", async () => {
  const run = tinyRun({ steps: 3 }), result = await run.finish(), text = Deno.inspect(result);
  assertEquals(text.split("\n").length, 2, text);
  assertMatch(text, /^steps\s+lossFirst\s+lossLast\s+stopped\s+history\n/);
  assertMatch(await plain(result), /3 steps/);
  assertEquals(Object.keys(result), ["steps", "lossFirst", "lossLast", "history", "stopped"]);
  assertEquals(JSON.parse(JSON.stringify(result)).history.length, 3);
  run.model.dispose();
  run.ema?.dispose();
});

Deno.test("every line of compared runs says what it is of, and runs of one name are told apart", async () => {
  await withFolder(async (folder) => {
    for (const name of ["a", "b/a"]) {
      const run = tinyRun({ steps: 2, checkpoint: { folder: `${folder}/${name}`, every: 2 } });
      await run.finish();
      run.model.dispose();
      run.ema?.dispose();
    }
    const one = String(await compareRuns([`${folder}/a`])).split("\n").slice(2).map((line) =>
      line.split(":")[0]
    );
    assertEquals(new Set(one).size, one.length);
    assert(one.includes("  Loss, a") && one.includes("  Learning rate, a"), one.join());
    const two = String(await compareRuns([`${folder}/a`, `${folder}/b/a`]));
    assert(two.includes(`Loss, ${folder}/b/a:`), two);
  });
});

Deno.test("a folder of images shows how many there are, and of which classes", async () => {
  const photos = await imageFolder("tests/fixtures/images/folder", { size: 8 });
  const bundle = await (photos as unknown as Shown)[jupyterDisplay]();
  const graph = JSON.stringify(bundle["application/vnd.plotly.v1+json"]);
  for (const words of ["4 images 8×8×3, 2 classes", "cat", "dog"]) assert(graph.includes(words), words);
});

Deno.test("a long warning takes the lines it needs, whole", () => {
  const notice = "the embeddings have collapsed ".repeat(12).trim(),
    lines = warningLines({ notice, width: 820 });
  assertEquals(lines.join(" "), notice);
  assert(lines.length > 2 && lines.every(({ length }) => length <= 112));
  assertEquals(warningLines({ notice: undefined, width: 820 }), []);
});

Deno.test("a comparison by number of labels has error bars, and words on them, only with several seeds", () => {
  const runs = (seeds: number[]) =>
    seeds.flatMap((seed) =>
      [10, 20].map((labels) => ({ labels, seed, arm: "fine-tuned", accuracy: 0.5 } as const))
    );
  const shown = (seeds: number[]) => JSON.stringify(new LowShotResult(runs(seeds)).plot());
  assert(!shown([0]).includes("standard deviation") && !shown([0]).includes(`"visible":true`));
  assert(shown([0, 1]).includes("standard deviation") && shown([0, 1]).includes(`"visible":true`));
});
