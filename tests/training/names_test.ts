import { assertRejects } from "@std/assert";
import { Nepa, nepaLoss, type Objective, pretrain, tf, useEngine } from "nepa";
import { config, noise } from "../support/tiny.ts";

await useEngine("wasm");

const refused = async (objective: Partial<Objective>, message: string) => {
  const model = new Nepa(config, { seed: 0 });
  const loss: Objective["loss"] = ({ outputs }) => nepaLoss(outputs);
  const run = pretrain(model, noise, {
    steps: 2,
    batchSize: 8,
    objective: { name: "x", loss, ...objective },
  });
  await assertRejects(() => run.finish(), TypeError, message);
  run.dispose();
  model.dispose();
};

Deno.test("a number of a loss cannot have the name of another", async () => {
  for (const [name, whose] of [["gradNorm", "the gradients' norm"], ["featureStd", "the collapse meter's"]]) {
    const loss: Objective["loss"] = ({ outputs }) => ({ loss: nepaLoss(outputs), [name!]: tf.scalar(0) });
    await refused({ loss }, `loss: ${name}: expected another name, this one is ${whose}`);
  }
});

Deno.test("targets that are no tokens are refused", async () => {
  const expected = "targets: expected embeddings [B, T, D], got ";
  await refused(
    { targets: ({ embeddings }) => tf.mean(embeddings, 1) as unknown as tf.Tensor3D },
    `${expected}[8,16]`,
  );
  await refused({ targets: () => 3 as unknown as tf.Tensor3D }, `${expected}3`);
});
