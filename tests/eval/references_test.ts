import { assert, assertEquals } from "@std/assert";
import { arrayDataset, type Dataset, linearProbe, Nepa, Random, useEngine } from "nepa";
import { config } from "../support/tiny.ts";

Deno.env.set("XDG_CACHE_HOME", await Deno.makeTempDir()); // where the raw pixels' results are kept
await useEngine("cpu");

const labels = Uint8Array.from({ length: 80 }, (_, i) => i % 2);

/** Images of one name and size, each pixel made by its class and chance. */
function images(seed: number, pixel: (label: number, chance: number) => number): Dataset {
  const random = new Random(seed);
  const all = Uint8Array.from(
    { length: 80 * 64 },
    (_, i) => pixel(Math.floor(i / 64) % 2, random.integer(100)),
  );
  return arrayDataset({ name: "same", shape: [80, 8, 8, 1], images: all, labels, classes: ["a", "b"] });
}

Deno.test("the raw pixels' figure is not that of other images of the same name, size and labels", async () => {
  const model = new Nepa(config, { seed: 0 });
  const told = async (train: Dataset, test: Dataset) =>
    (await linearProbe(model, train, test, { references: true, lambdas: [1e-3] })).rawPixels!;
  const bright = [
    images(1, (label, chance) => 100 * label + chance),
    images(2, (label, chance) => 100 * label + chance),
  ] as const;
  const noise = [images(3, (_, chance) => chance), images(4, (_, chance) => chance)] as const;
  assertEquals(await told(...bright), 1);
  assert(await told(...noise) < 0.8);
  assert(await told(bright[0], noise[1]) < 0.8);
  assertEquals(await told(...bright), 1);
  model.dispose();
});
