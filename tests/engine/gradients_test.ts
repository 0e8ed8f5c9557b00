import { assertEquals } from "@std/assert";
import * as tf from "@tensorflow/tfjs";
import { type Engine, type EngineName, useEngine } from "../../lib/engine/mod.ts";
import { type Operation, operations, spaced, wave } from "../support/operations.ts";
import { REFUSED, unexpected } from "../support/refused.ts";

/** A scalar of an operation's result, to which every number of it counts differently. */
const weighed = (operation: Operation) => (x: tf.Tensor): tf.Scalar => {
  const y = operation.of(x);
  return tf.sum(tf.mul(y, wave(y.shape)));
};

/** The slopes along a few directions in which all numbers change at once, by central differences. */
function slopes(operation: Operation, directions: readonly Float32Array[]): number[] {
  const x = spaced(operation), f = weighed(operation), h = 2e-3;
  const at = (step: Float32Array, h: number) =>
    tf.tidy(() => f(tf.tensor(x.map((value, i) => value + h * step[i]!), operation.shape)).dataSync()[0]!);
  return directions.map((step) => (at(step, h) - at(step, -h)) / (2 * h));
}

/** In each of them every number goes up or down; no two are alike. */
const directionsOf = ({ shape }: Operation): Float32Array[] =>
  Array.from({ length: 6 }, (_, k) =>
    Float32Array.from(
      { length: tf.util.sizeFromShape(shape) },
      (_, i) => Math.sin((k + 1) * (i * i + 3 * i + 1)) < 0 ? -1 : 1,
    ));

const gradientOf = (operation: Operation) => (x: tf.Tensor): tf.Tensor => tf.grad(weighed(operation))(x);

/** What is wrong with a gradient; undefined if it fits the differences. */
function fault(operation: Operation, gradient: Float32Array): string | undefined {
  const directions = directionsOf(operation), expected = slopes(operation, directions);
  const got = directions.map((step) => gradient.reduce((sum, value, i) => sum + value * step[i]!, 0));
  const scale = Math.max(1, ...expected.map(Math.abs));
  const worst = Math.max(...got.map((value, i) => Math.abs(value - expected[i]!)));
  return worst <= 0.02 * scale ? undefined : `off by ${worst.toFixed(3)} of ${scale.toFixed(3)}`;
}

/** What is wrong with it on the engine, op by op. */
function faultOn(operation: Operation): string | undefined {
  try {
    const x = spaced(operation);
    const gradient = tf.tidy(() =>
      gradientOf(operation)(tf.tensor(x, operation.shape)).dataSync<"float32">()
    );
    return fault(operation, gradient);
  } catch (error) {
    return (error as Error).message;
  }
}

/** The gradients of several operations, compiled in one. */
async function compiledGradients(
  engine: Engine,
  some: readonly Operation[],
  xla: boolean,
): Promise<Float32Array[]> {
  const compiled = engine.compile(
    ({ xs }: { xs: tf.Tensor[] }) => xs.map((x, i) => gradientOf(some[i]!)(x)),
    { xla, name: "gradients" },
  );
  const xs = some.map((operation) => tf.tensor(spaced(operation), operation.shape));
  try {
    const got = await compiled({ xs }), values = got.map((gradient) => gradient.dataSync<"float32">());
    tf.dispose(got);
    return values;
  } finally {
    tf.dispose(xs);
    compiled.dispose();
  }
}

for (const name of ["tensorflow", "wasm", "cpu"] as EngineName[]) {
  Deno.test(`every operation's gradient is that of central differences on ${name}, or refused as the list says`, async () => {
    await useEngine(name);
    const faults = operations().map((operation) => [operation.name, faultOn(operation)] as const);
    assertEquals(unexpected("gradients", name, faults), []);
  });
}

Deno.test("compiled, the gradients are those of central differences too", async () => {
  const engine = await useEngine("tensorflow"), faults: string[] = [];
  const listed = (kind: string) => new Set(Object.keys(REFUSED[kind]!));
  const all = operations().filter(({ name }) => !listed("gradients").has(name));
  for (const xla of [true, false]) {
    const some = xla ? all.filter(({ name }) => !listed("xla").has(name)) : all;
    for (let i = 0; i < some.length; i += 40) {
      const part = some.slice(i, i + 40), gradients = await compiledGradients(engine, part, xla);
      gradients.forEach((gradient, k) => {
        const wrong = fault(part[k]!, gradient);
        if (wrong) faults.push(`${part[k]!.name}${xla ? " with XLA" : ""}: ${wrong}`);
      });
    }
  }
  assertEquals(faults, []);
});
