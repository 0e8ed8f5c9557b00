import { assertEquals } from "@std/assert";
import { arrayDataset, tf, useEngine } from "nepa";
import { disc, discs, trainOnDiscs } from "./generated.ts";

for (const engine of ["tensorflow", "wasm"] as const) {
  Deno.test(`a training on a set that is a function goes on to the bit, and is the one in memory, on ${engine}`, async () => {
    await useEngine(engine);
    const place = await Deno.makeTempDir(), before = tf.memory().numTensors;
    const whole = await trainOnDiscs(discs(), `${place}/whole`, 8);
    assertEquals(tf.memory().numTensors, before);
    await trainOnDiscs(discs(), `${place}/parts`, 3);
    assertEquals(await trainOnDiscs(discs(), `${place}/parts`, 8), whole);
    const length = 20, images = new Uint8Array(length * 64 * 64 * 3);
    for (let i = 0; i < length; i++) images.set(disc(i), i * 64 * 64 * 3);
    const memory = arrayDataset({
      name: "discs",
      images,
      shape: [length, 64, 64, 3],
      labels: new Int32Array(length),
      classes: ["disc"],
    });
    const few = await trainOnDiscs(discs(length), `${place}/few`, 8);
    assertEquals(few, await trainOnDiscs(memory, `${place}/memory`, 8));
    assertEquals(few.losses.length, 8);
    await Deno.remove(place, { recursive: true });
  });
}
