import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { Nepa, nepaLoss, type Objective, perImage, Random, tf, useEngine } from "nepa";
import { nepaAnd, parts, refusal, still, tried, WAYS } from "../support/objectives.ts";
import { config } from "../support/tiny.ts";

/** A loss that tells of its random numbers: one for each image, and one for all. */
const telling = nepaAnd({
  draws: ({ batchSize, random }) => ({
    noise: perImage(random.normal([batchSize, 1])),
    shift: random.normal([1]),
  }),
  loss: ({ outputs, draws: { noise, shift } }) => ({
    loss: nepaLoss(outputs),
    noise: tf.mean(noise!),
    shift: tf.mean(shift!),
    images: tf.scalar(noise!.shape[0]!),
  }),
});

/** The same, drawn by hand. */
function expected(k: number, batchSize: number): { noise: number; shift: number } {
  const random = new Random(0, "objective", k), normals = () => random.normal();
  const noise = Array.from({ length: batchSize }, normals), [shift] = [random.normal()];
  return { noise: noise.reduce((sum, x) => sum + x, 0) / batchSize, shift };
}

for (const [engine, compile] of WAYS) {
  Deno.test(`an objective's draws are fresh at every update and cut with the batch, on ${engine}, compile: ${compile}`, async () => {
    await useEngine(engine);
    const before = tf.memory().numTensors;
    for (const accumulate of parts(engine, compile)) {
      const run = tried(telling, { compile, accumulate }), { history } = await run.finish();
      for (const { step, metrics } of history) {
        const { noise, shift } = expected(step - 1, 8);
        assert(Math.abs(metrics!.noise as number - noise) < 1e-6, `${step}: ${metrics!.noise}, ${noise}`);
        assert(Math.abs(metrics!.shift as number - shift) < 1e-6, `${step}: ${metrics!.shift}, ${shift}`);
        assertEquals(metrics!.images, 8 / accumulate);
      }
      run.model.dispose();
    }
    assertEquals(tf.memory().numTensors, before);
  });

  Deno.test(`chance that a step would freeze, and draws that nobody knows, are refused on ${engine}, compile: ${compile}`, async () => {
    await useEngine(engine);
    const before = tf.memory().numTensors;
    const refused: [Partial<Objective>, says: string][] = [
      [{ loss: ({ draws }) => tf.mean(draws.niose!) }, "unknown draw niose; did you mean noise?"],
      [
        { loss: ({ model, images }) => nepaLoss(model.forward(images, { training: true })) },
        "forward(…, { training: true }): its random numbers would be drawn once",
      ],
      [
        { loss: ({ embeddings }) => tf.mean(tf.mul(embeddings, tf.randomNormal(embeddings.shape))) },
        "tf.randomNormal: its random numbers would be drawn once",
      ],
      [
        {
          loss: ({ model, images }) =>
            nepaLoss(model.forward(images, { draws: { dropPth: tf.ones([4, 8]) } })),
        },
        "forward: draws: unknown draw dropPth; did you mean dropPath?",
      ],
      [
        { loss: ({ model, images }) => nepaLoss(model.forward(images, { draws: {} })) },
        "forward: draws: expected ropeShift, ropeRescale, dropPath, got no ropeShift; model.draws makes all of them",
      ],
      [
        { draws: () => ({ ropeShift: tf.zeros([2]) }) },
        "expected names that the model has not, got ropeShift",
      ],
      [
        { draws: ({ random }) => ({ noise: perImage(random.normal([4, 1])) }) },
        "draws: noise: expected 8 along axis 0, got [4,1]",
      ],
      [{ draws: () => ({ noise: 3 }) as never }, "draws: noise: expected a tensor, got 3"],
      [
        { draws: () => Promise.resolve({}) as never },
        "draws: expected tensors by name, got [object Promise]",
      ],
    ];
    for (const [objective, says] of refused) {
      const model = new Nepa(config, { seed: 1 }), own = { draws: telling.draws!, ...objective };
      assertStringIncludes(await refusal(nepaAnd(own), { compile }, model), says);
      assertEquals(tf.memory().numTensors, before, says);
    }
  });
}

Deno.test("forward takes its own draws of an update's, and refuses others and missing ones", async () => {
  await useEngine("wasm");
  const model = new Nepa(config, { seed: 1 }),
    plain = new Nepa(still),
    images = tf.ones([2, 8, 8, 1]) as tf.Tensor4D;
  const draws = model.draws(2, new Random(0)), before = tf.memory().numTensors;
  const { ropeShift, dropPath } = draws;
  for (
    const [network, given, says] of [
      [model, { ropeShift }, "expected ropeShift, ropeRescale, dropPath, got no ropeRescale"],
      [model, { ...draws, noise: ropeShift }, "unknown draw noise"],
      [plain, { dropPth: dropPath }, "unknown draw dropPth"],
      [model, { ...draws, dropPath: tf.tidy(() => tf.ones([4, 3])) }, "dropPath"],
    ] as const
  ) {
    assertThrows(() => network.forward(images, { draws: given as never }).predictions, Error, says);
  }
  assertEquals(tf.memory().numTensors, before + 1);
  model.dispose();
  plain.dispose();
});
