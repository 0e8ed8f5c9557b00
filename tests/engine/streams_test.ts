import { assert, assertEquals } from "@std/assert";
import * as tf from "@tensorflow/tfjs";
import { useEngine } from "nepa";
import { inStreams } from "../../lib/engine/streams.ts";
import { inProcess, tensorflowLibrary } from "../support/in_process.ts";
import { largestDifference, normal, variable } from "../support/tensors.ts";

const engine = await useEngine("tensorflow");

Deno.test("batches of large products, and of small ones, give the same; in bfloat16 as near as its digits are", async () => {
  const f = (x: tf.Tensor, y: tf.Tensor) => {
    const scores = tf.softmax(tf.mul(tf.matMul(x, y, false, true), 0.1)); // [2, 3, n, m]
    return [scores, tf.matMul(scores, y), tf.matMul(scores, x, true)];
  };
  for (const [n, m] of [[70, 66], [70, 5]] as const) {
    const x = normal([2, 3, n, 64], "x"), y = normal([2, 3, m, 64], "y"), expected = f(x, y);
    for (const [precision, tolerance] of [["float32", 1e-5], ["bfloat16", 3e-2]] as const) {
      const compiled = engine.compile(f, { precision }), got = await compiled(x, y);
      const differences = got.map((one, i) => largestDifference(one, expected[i]!));
      assert(Math.max(...differences) < tolerance, `${precision}, ${n} × ${m}: ${differences}`);
      assert(precision === "float32" || m < 64 || differences[0]! > 1e-6, "the products were rounded");
      compiled.dispose();
      tf.dispose(got);
    }
    tf.dispose([x, y, expected]);
  }
});

Deno.test("parts of a batch are computed side by side in a compiled function, and joined in order", async () => {
  const weight = variable([4, 3], "weight"), counts: number[] = [];
  const f = (x: tf.Tensor) => {
    const whole = x.shape[0]!;
    return inStreams(whole, (from, count) => {
      counts.push(count);
      const y = tf.matMul(tf.slice(x, from, count) as tf.Tensor2D, weight as unknown as tf.Tensor2D);
      return { y, all: [tf.relu(y), tf.sum(y, 1)] };
    });
  };
  const compiled = engine.compile(f), several = navigator.hardwareConcurrency > 1;
  for (const [rows, parts] of [[6, several ? [3, 3] : [6]], [5, [5]]] as const) {
    const x = normal([rows, 4], "x"),
      expected = tf.matMul(x as tf.Tensor2D, weight as unknown as tf.Tensor2D);
    counts.length = 0;
    const { y, all } = await compiled(x);
    assertEquals(counts, [...parts, ...parts]); // recorded, and once more to compare
    assert(largestDifference(y, expected) < 1e-6);
    assert(largestDifference(all[0]!, tf.tidy(() => tf.relu(expected))) < 1e-6);
    assert(largestDifference(all[1]!, tf.tidy(() => tf.sum(expected, 1))) < 1e-6);
    counts.length = 0;
    tf.tidy(() => void f(x));
    assertEquals(counts, [rows], "what is not compiled is computed at once");
    tf.dispose([x, expected, y, all]);
  }
  compiled.dispose();
  weight.dispose();
});

Deno.test("XLA writes the code of sums itself, beside the settings that the user has for it", async () => {
  const folder = await Deno.makeTempDir(), dumped: Record<string, string[]> = {};
  const sums = `
    const engine = await useEngine("tensorflow");
    const compiled = engine.compile((x: tf.Tensor) => tf.softmax(tf.exp(x)));
    (await compiled(tf.ones([8, 512, 64]))).dispose();`;
  for (const option of ["", " --xla_cpu_experimental_ynn_fusion_type=+reduce"]) {
    const dump = await Deno.makeTempDir({ dir: folder });
    const { stderr } = await inProcess(sums, {
      NEPA_TENSORFLOW: await tensorflowLibrary(),
      XLA_FLAGS: `--xla_dump_to=${dump}${option}`,
    });
    assertEquals(stderr, "");
    const modules = [...Deno.readDirSync(dump)].filter(({ name }) =>
      name.includes("after_optimizations.txt")
    );
    dumped[option] = modules.map(({ name }) => Deno.readTextFileSync(`${dump}/${name}`));
    assert(dumped[option].some((text) => text.includes("reduce(")), "a sum was compiled");
  }
  const [ours, users] = Object.values(dumped).map((texts) =>
    texts.some((text) => text.includes("__ynn_fusion"))
  );
  assertEquals([ours, users], [false, true]);
  await Deno.remove(folder, { recursive: true });
});
