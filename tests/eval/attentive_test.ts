import { assert, assertAlmostEquals, assertEquals, assertRejects } from "@std/assert";
import {
  attentiveProbe,
  crossEntropy,
  fashionMnist,
  lossAndGradients,
  Nepa,
  Random,
  tf,
  useEngine,
} from "nepa";
import { attend, AttentiveHead } from "../../lib/eval/attentive.ts";
import { LogisticRegression } from "../../lib/eval/logistic.ts";

await useEngine("tensorflow");
const settings = { heads: 2, epochs: 40, batchSize: 50, learningRate: 3e-3, weightDecay: 0.05, seed: 1 };

/** Images of T tokens of D numbers: noise, but one token somewhere, told by its first number, says the class by the others. */
function hidden(count: number, seed: number): { data: Float32Array; labels: Int32Array } {
  const T = 8, D = 8, random = new Random(seed), data = new Float32Array(count * T * D);
  const labels = Int32Array.from({ length: count }, () => random.integer(3));
  for (let i = 0; i < data.length; i++) data[i] = random.normal();
  labels.forEach((label, i) => {
    const at = (i * T + random.integer(T)) * D;
    data.set([6, 0, 0, 0], at);
    data[at + 1 + label] = 2;
  });
  return { data, labels };
}

const share = (guesses: Int32Array, labels: Int32Array) =>
  guesses.filter((guess, i) => guess === labels[i]).length / labels.length;

/** Accuracy of a converged linear probe on the mean of the tokens. */
async function linearly(fit: ReturnType<typeof hidden>, judged: ReturnType<typeof hidden>): Promise<number> {
  const mean = (data: Float32Array) =>
    Float32Array.from({ length: data.length / 8 }, (_, i) => {
      let sum = 0;
      for (let t = 0; t < 8; t++) sum += data[Math.floor(i / 8) * 64 + t * 8 + i % 8]! / 8;
      return sum;
    });
  const order = fit.labels.map((_, i) => i), options = { classes: 3, order, heldOut: 0 };
  const regression = new LogisticRegression({ data: mean(fit.data), size: 8 }, fit.labels, options);
  const found = await regression.fit({ lambda: 1e-3, selecting: false, excess: 1e-5, maxIterations: 300 });
  const guesses = await regression.predict({ data: mean(judged.data), size: 8 }, found);
  regression.dispose();
  return share(guesses, judged.labels);
}

Deno.test("one query finds the token that says the class, where the mean of all tokens blurs it", async () => {
  const fit = hidden(600, 1), judged = hidden(300, 2), before = tf.memory().numTensors;
  const features = { data: fit.data, size: 8 }, head = new AttentiveHead(features, 8, 3, settings);
  const losses = await head.fit(features, fit.labels);
  const attentive = share(await head.predict({ data: judged.data, size: 8 }), judged.labels);
  head.dispose();
  assertEquals(tf.memory().numTensors, before);
  assertEquals(losses.length, 40);
  assertAlmostEquals(losses[0]!, Math.log(3), 0.1); // a head that starts at zero
  const linear = await linearly(fit, judged);
  assert(attentive > 0.97 && attentive > linear + 0.05, `attentive ${attentive}, linear ${linear}`);
});

Deno.test("the same seed gives the same probe, another one another", async () => {
  const fit = hidden(100, 3), features = { data: fit.data, size: 8 }, losses: number[] = [];
  for (const seed of [1, 1, 2]) {
    const head = new AttentiveHead(features, 8, 3, { ...settings, seed, epochs: 2 });
    losses.push((await head.fit(features, fit.labels)).at(-1)!);
    head.dispose();
  }
  assertEquals(losses[0], losses[1]);
  assert(losses[0] !== losses[2]);
});

Deno.test("the gradients of an attentive probe are those of finite differences", () => {
  const random = new Random(4),
    values = (n: number) => Float32Array.from({ length: n }, () => random.normal());
  const shapes = {
    query: [4],
    key: [4, 4],
    value: [4, 4],
    "classifier.weight": [4, 3],
    "classifier.bias": [3],
  };
  const parameters = new Map(
    Object.entries(shapes).map(([name, shape]) => [
      name,
      tf.tidy(() => tf.variable(tf.tensor(values(tf.util.sizeFromShape(shape)), shape))),
    ]),
  );
  tf.tidy(() => {
    const tokens = tf.tensor2d(values(2 * 3 * 4), [6, 4]), labels = tf.tensor1d([2, 0], "int32");
    const loss = () => crossEntropy(attend(tokens, parameters, 2, 2), labels);
    const { gradients } = lossAndGradients(loss, parameters);
    for (const [name, variable] of parameters) {
      const at = variable.dataSync().slice(), gradient = gradients[name]!.dataSync();
      at.forEach((value, i) => {
        const h = 1e-2,
          [up, down] = [h, -h].map((step) => {
            variable.assign(tf.tensor(Float32Array.from(at).with(i, value + step), variable.shape));
            return loss().dataSync()[0]!;
          });
        assertAlmostEquals(gradient[i]!, (up! - down!) / (2 * h), 2e-4, `${name} ${i}`);
      });
      variable.assign(tf.tensor(at, variable.shape));
    }
  });
  tf.dispose([...parameters.values()]);
});

Deno.test("an attentive probe reads a network's tokens, says how it did, and refuses what cannot be", async () => {
  const { train, test } = await fashionMnist(), few = train.balanced(30), judged = test.balanced(10);
  const model = new Nepa({ preset: "mini", numHiddenLayers: 1, layerscaleValue: null }, { seed: 1 });
  const before = tf.memory().numTensors;
  const result = await attentiveProbe(model, few, judged, {
    layer: 1,
    epochs: 40,
    batchSize: 64,
    learningRate: 3e-3,
  });
  assertEquals(tf.memory().numTensors, before);
  assert(result.accuracy > 0.5 && result.interval[0] < result.accuracy, `${result.accuracy}`);
  assert(result.losses.at(-1)! < result.losses[0]!);
  assert(Deno.inspect(result).includes("block 1"));
  await assertRejects(
    () => attentiveProbe(model, few, judged, { heads: 3 }),
    RangeError,
    "divisor of 128, got 3",
  );
  await assertRejects(() => attentiveProbe(model, few, judged, { epochs: 0 }), RangeError, "epochs");
  assertEquals(tf.memory().numTensors, before);
  model.dispose();
});
