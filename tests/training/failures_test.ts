import { assertEquals, assertRejects } from "@std/assert";
import {
  Nepa,
  nepaLoss,
  type Objective,
  perImage,
  pretrain,
  type PretrainOptions,
  tf,
  useEngine,
} from "nepa";
import { config, noise } from "../support/tiny.ts";

const loss: Objective["loss"] = ({ outputs }) => nepaLoss(outputs);
const fails = (): never => {
  throw new Error("on purpose");
};

/** What goes wrong in an update, or beside it. */
const failures: Record<string, PretrainOptions> = {
  "a rate that is no number": { learningRate: () => NaN },
  "a rate that throws": { learningRate: fails },
  "a weight decay that throws": { weightDecay: (k) => k < 1 ? 0.05 : fails() },
  "draws that throw": { objective: { name: "x", loss, draws: fails } },
  "draws of another batch size": {
    objective: { name: "x", loss, draws: ({ random }) => ({ noise: perImage(random.normal([3, 2])) }) },
  },
  "draws that are no tensors": {
    objective: {
      name: "x",
      loss,
      draws: ({ random }) => ({ noise: random.normal([3]), more: 1 as unknown as tf.Tensor }),
    },
  },
  "numbers that are none": { objective: { name: "x", loss, numbers: () => ({ momentum: NaN }) } },
  "a loss that throws": { objective: { name: "x", loss: fails } },
  "a loss that throws where it is metered": {
    objective: { name: "x", loss: (context) => context.training ? loss(context) : fails() },
  },
  "targets that throw": { objective: { name: "x", loss, targets: fails } },
  "targets of another rank": {
    objective: {
      name: "x",
      loss,
      targets: ({ embeddings }) => tf.mean(embeddings) as unknown as tf.Tensor3D,
    },
  },
  "an update's end that throws": { objective: { name: "x", loss, after: fails } },
};

for (const engine of ["tensorflow", "wasm"] as const) {
  for (const compile of [true, false]) {
    Deno.test(`what fails in an update leaves no tensors, on ${engine}, compile: ${compile}`, async () => {
      await useEngine(engine);
      for (const [what, options] of Object.entries(failures)) {
        const before = tf.memory().numTensors, model = new Nepa(config, { seed: 0 });
        const run = pretrain(model, noise, { steps: 3, batchSize: 8, compile, ...options });
        await assertRejects(() => run.finish(), Error, undefined, what);
        run.dispose();
        model.dispose();
        assertEquals(tf.memory().numTensors - before, 0, what);
      }
    });
  }
}
