import { assertEquals } from "@std/assert";
import { fashionMnist, Nepa, pretrain, tf, useEngine } from "nepa";
import { stepByHand } from "./step.ts";

const { train } = await fashionMnist(), steps = 12;

for (const engine of ["tensorflow", "wasm"] as const) {
  Deno.test(`the step by hand has pretrain's losses and weights, to the bit, on ${engine}`, async () => {
    Deno.env.set("NEPA_ENGINE", engine);
    await useEngine();
    const batchSize = engine === "wasm" ? 8 : 32, before = tf.memory().numTensors;
    const make = () => new Nepa({ preset: "mini", numHiddenLayers: 2, dropPathProb: 0.1 }, { seed: 3 });
    const [mine, theirs] = [make(), make()];
    const losses = await stepByHand(mine, train, steps, batchSize);
    const { history } = await pretrain(theirs, train, { steps, batchSize }).finish();
    assertEquals(losses, history.map(({ loss }) => loss));
    for (const [name, x] of mine.parameters) {
      assertEquals(x.dataSync(), theirs.parameters.get(name)!.dataSync(), name);
    }
    mine.dispose();
    theirs.dispose();
    assertEquals(tf.memory().numTensors, before);
  });
}
