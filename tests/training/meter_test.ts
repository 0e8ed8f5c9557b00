import { assert, assertEquals } from "@std/assert";
import { pretrain, tf, useEngine } from "nepa";
import { Denoiser } from "../prototypes/method.ts";
import { noise } from "../support/tiny.ts";

await useEngine("wasm");

Deno.test("a method with one token for an image is metered, without guesses from tokens before it", async () => {
  const before = tf.memory().numTensors, method = new Denoiser({ side: 8, noise: 0.1 });
  const { history } = await pretrain(method, noise, { steps: 1, batchSize: 8 }).finish();
  const { featureStd, effectiveRank, previousPatch } = history[0]!.metrics!;
  assert(featureStd > 0 && effectiveRank > 1 && effectiveRank <= 16);
  assertEquals(previousPatch, undefined);
  tf.dispose([...method.parameters.values()]);
  assertEquals(tf.memory().numTensors, before);
});
