import { assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import { AdamW, Nepa, nepaConfig, tf, trainingFlops, useEngine } from "nepa";
import { choices, type Contender, count, median, race, readOptions } from "../../bench/common.ts";
import { OptionError } from "../../bench/options.ts";
import { outsideByChance } from "../../bench/learning/page.ts";
import { optimizerPiece, piecesOf } from "../../bench/pieces.ts";
import { ratios } from "../../bench/step_ijepa.ts";

Deno.test("a bench's options are read, and an unknown one is refused", () => {
  const defaults = { case: "mini", steps: "10", json: false };
  assertEquals(readOptions(["--steps", "3", "--json"], defaults), {
    ...{ case: "mini", steps: "3", json: true, operands: [] },
  });
  assertThrows(() => readOptions(["--step", "3"], defaults), TypeError, "--step");
  assertThrows(() => count("steps", "3.5"), OptionError, "--steps");
  assertThrows(() => choices("case", "mini,nanno", ["mini", "nano"]), OptionError, "nanno");
});

Deno.test("the median of an even number of values lies between the middle two", () => {
  assertEquals([median([3, 1, 2]), median([4, 1, 2, 10])], [2, 3]);
});

Deno.test("how often equal figures lie outside the noise falls from Cauchy's share to the normal's", () => {
  assertAlmostEquals(outsideByChance(1), 1 - 2 * Math.atan(2) / Math.PI, 1e-12);
  assertAlmostEquals(outsideByChance(2), 1 - 2 / Math.sqrt(6), 1e-12);
  assertAlmostEquals(outsideByChance(10_001), 0.0455, 1e-4);
  assertAlmostEquals(outsideByChance(10_000), 0.0455, 1e-4);
});

Deno.test("contenders run by turns, as often as asked for, after warming up", async () => {
  const order: string[] = [];
  const contender = (name: string, seconds: number): Contender => ({
    name,
    steps: (n) => Promise.resolve(Array.from({ length: n }, () => (order.push(name), seconds))),
    stop: () => {},
  });
  const [a, b] = [contender("a", 1), contender("b", 2)], result = await race([a, b], 3, 1);
  assertEquals(order.join(""), "ab" + "aabb" + "ab");
  assertEquals([result.get(a), result.get(b)], [1, 2]);
});

Deno.test("the pieces of a step hold all its products, the patches' unneeded gradient apart", () => {
  for (const [preset, batch] of [["mini", 64], ["base", 4]] as const) {
    const config = nepaConfig({ preset }), { imageSize, numChannels, hiddenSize } = config;
    const sum = piecesOf(config, batch).reduce((sum, { flops = 0, times }) => sum + flops * times, 0);
    const patches = 2 * batch * imageSize ** 2 * numChannels * hiddenSize;
    assertAlmostEquals((sum + patches) / trainingFlops(config, batch), 1, 1e-12, preset);
  }
});

Deno.test("every piece of a step runs at its shapes and leaves no tensors", async () => {
  await useEngine("cpu");
  const model = new Nepa({ preset: "mini", numHiddenLayers: 1 }), optimizer = new AdamW(model.parameters);
  const before = tf.memory().numTensors;
  for (const piece of [...piecesOf(model.config, 2), optimizerPiece(model, optimizer)]) {
    tf.tidy(() => {
      const outputs = piece.run(...piece.shapes.map((shape) => tf.ones(shape)));
      for (const output of outputs) {
        assertEquals(Number.isFinite(output.sum().dataSync()[0]), true, piece.name);
      }
    });
  }
  assertEquals(tf.memory().numTensors, before);
  optimizer.dispose();
  model.dispose();
});

Deno.test("I-JEPA's ratio to its peer is set against NEPA's, where both were timed", () => {
  const row = (method: string, peer: boolean, seconds: number, peak: number | undefined) => ({
    method,
    peer,
    seconds,
    peak,
  });
  const ijepa = [row("ijepa", true, 3, 400), row("ijepa", false, 2, undefined)];
  const nepa = [row("nepa", true, 5, 300), row("nepa", false, 4, 600)];
  assertEquals(ratios([...ijepa, ...nepa]), [
    { "peer / ours": "seconds", ijepa: 1.5, nepa: 1.25, "ijepa / nepa": 1.2 },
    { "peer / ours": "peak", ijepa: undefined, nepa: 0.5, "ijepa / nepa": undefined },
  ]);
  assertEquals(ratios(ijepa)[0]!["ijepa / nepa"], undefined);
});
