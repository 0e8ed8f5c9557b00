import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import { tf, useEngine } from "nepa";
import { checkOptions, count, didYouMean, oneOf, orNull, share } from "../../lib/base/check.ts";

const isMatrix = (value: unknown) => value instanceof tf.Tensor && value.rank === 2;
const rules = { batchSize: count, clipNorm: orNull(share), recipe: oneOf("small", "official") };

Deno.test("options that are known and can be pass, undefined ones are not looked at", () => {
  checkOptions("pretrain", { batchSize: 3, clipNorm: null, recipe: undefined }, rules);
  checkOptions("", {}, rules);
});

Deno.test("an unknown option is refused with the one that was probably meant", () => {
  const refuse = (options: object) => assertThrows(() => checkOptions("pretrain", options, rules), TypeError);
  assertEquals(
    refuse({ batchsize: 1 }).message,
    "pretrain: unknown option batchsize; did you mean batchSize? There are: batchSize, clipNorm, recipe",
  );
  assertEquals(
    refuse({ zzzzzz: 1 }).message,
    "pretrain: unknown option zzzzzz; there are: batchSize, clipNorm, recipe",
  );
  assertEquals(didYouMean("a", []), "; there are: ");
  assertThrows(
    () => checkOptions("f", 3 as unknown as object, rules),
    TypeError,
    "f: expected an object of options, got 3",
  );
});

Deno.test("a value that cannot be is refused with what was expected", () => {
  const refuse = (options: object, text: string) =>
    assertEquals(assertThrows(() => checkOptions("", options, rules), RangeError).message, text);
  refuse({ batchSize: 0 }, "batchSize: expected an integer from 1, got 0");
  refuse({ batchSize: "3" }, 'batchSize: expected an integer from 1, got "3"');
  refuse({ clipNorm: 2 }, "clipNorm: expected a number from 0 to 1, or null, got 2");
  refuse({ recipe: () => 1 }, 'recipe: expected one of "small", "official", got a function');
  refuse({ batchSize: [1, 2] }, "batchSize: expected an integer from 1, got [1,2]");
});

Deno.test("a tensor is an option of a compiled function's work, and is shown by type and shape", async () => {
  const engine = await useEngine("tensorflow"), rules = { mask: ["a matrix", isMatrix] as const };
  const isMasked = engine.compile((mask: tf.Tensor) => {
    checkOptions("forward", { mask }, rules);
    return tf.neg(mask);
  });
  const [matrix, row] = [tf.ones([2, 2]), tf.ones([2])];
  (await isMasked(matrix)).dispose();
  await assertRejects(() => isMasked(row), RangeError, "mask: expected a matrix, got a tensor float32 [2]");
  isMasked.dispose();
  tf.dispose([matrix, row]);
});
