import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { nepaLoss, type Objective, tf, useEngine } from "nepa";
import { nepaAnd, refusal, tried, WAYS } from "../support/objectives.ts";

type Loss = Objective["loss"];
const good: Loss = ({ outputs }) => nepaLoss(outputs);
const bad = (loss: (context: Parameters<Loss>[0]) => unknown) => loss as Loss;

const REFUSED: Record<string, [loss: Loss, says: string]> = {
  "a number": [bad(() => 3), "expected a scalar tensor, got number"],
  "undefined": [bad(() => undefined), "expected a scalar tensor, got undefined"],
  "null": [bad(() => null), "expected a scalar tensor, got null"],
  "a promise": [bad((context) => Promise.resolve(good(context))), "got a promise (a loss cannot be async)"],
  "an async function": [
    bad(async ({ outputs }) => {
      const loss = nepaLoss(outputs);
      await Promise.resolve();
      return loss.mul(2); // it is gone by then
    }),
    "got a promise (a loss cannot be async)",
  ],
  "a vector": [bad(({ predictions }) => tf.mean(predictions, [0, 1])), "got [16] float32; take its mean"],
  "an integer": [bad(() => tf.scalar(3, "int32")), "got [] int32"],
  "a boolean": [bad(() => tf.scalar(true)), "got [] bool"],
  "nothing named loss": [bad(() => ({})), "expected { loss, … }, got {  } without loss"],
  "a metric that is a number": [bad((context) => ({ loss: good(context), x: 3 })), "x: expected a float32"],
  "a metric that is a vector": [
    bad((context) => ({ loss: good(context), spread: tf.ones([2]) })),
    "spread: expected a float32 scalar tensor, shape [], got [2] float32",
  ],
  "no dependence on parameters": [bad(() => tf.scalar(1)), "expected it to depend on the parameters"],
};

for (const [engine, compile] of WAYS) {
  Deno.test(`a loss that is no scalar is refused with the caller's line and leaves no tensors, on ${engine}, compile: ${compile}`, async () => {
    await useEngine(engine);
    const before = tf.memory().numTensors;
    for (const [what, [loss, says]] of Object.entries(REFUSED)) {
      const message = await refusal(nepaAnd({ loss }), { compile });
      assertStringIncludes(message, says, what);
      assertStringIncludes(message, "objectives.ts:", what); // where pretrain is called
      assert(message.startsWith("TypeError: loss: "), message);
      assertEquals(tf.memory().numTensors, before, what);
    }
    assertStringIncludes(
      await refusal(
        nepaAnd({
          loss: () => {
            throw new Error("mine");
          },
        }),
        { compile },
      ),
      "Error: mine",
    );
    assertEquals(tf.memory().numTensors, before);
    const { model, history } = await (async () => {
      const run = tried(nepaAnd({}), { compile });
      return { ...await run.finish(), model: run.model };
    })();
    assertEquals(history.length, 3);
    model.dispose();
    assertEquals(tf.memory().numTensors, before);
  });
}

Deno.test("a held-out reading that throws leaves no tensors", async () => {
  await useEngine("wasm");
  const { noise } = await import("../support/tiny.ts"), before = tf.memory().numTensors;
  const loss = bad((context) => context.training ? good(context) : 3);
  assertStringIncludes(await refusal(nepaAnd({ loss }), { validation: noise.subset(0.5) }), "got number");
  assertEquals(tf.memory().numTensors, before);
});

Deno.test("an objective of another form is refused when the run is made", async () => {
  await useEngine("wasm");
  const before = tf.memory().numTensors, x = tf.tidy(() => tf.variable(tf.scalar(1)));
  const forms: [object, string][] = [
    [{ losses: good }, "objective: unknown option losses; did you mean loss?"],
    [{ loss: undefined }, "objective: expected a loss, got none"],
    [{ loss: 3 }, "loss: expected a function"],
    [{ name: undefined }, "objective: expected a name"],
    [{ views: 0 }, "views: expected an integer from 1"],
    [{ parameters: { w: 3 } }, "objective: parameters: expected tf.variable by name, got w: 3"],
    [{ parameters: { "vit_nepa.layernorm.bias": x } }, "expected names that the model has not"],
    [{ parameters: { w: x }, state: { w: x } }, "expected names that the model has not, got w"],
    [{ parameters: { w: x, v: x } }, "expected each variable once, got it as w and v"],
    [{ numbers: () => ({ tau: NaN }) }, "numbers: tau: expected a number, got NaN"],
  ];
  for (const [form, says] of forms) {
    assertStringIncludes(await refusal(nepaAnd(form as Partial<Objective>)), says);
    assertEquals(tf.memory().numTensors, before + 1, says);
  }
  x.dispose();
});
