import { assertEquals, assertThrows } from "@std/assert";
import { checkOptions, count, didYouMean, oneOf, orNull, share } from "../../lib/base/check.ts";

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
