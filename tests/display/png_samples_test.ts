import { assert, assertEquals, assertThrows } from "@std/assert";
import { pngHeader, pngSamples } from "../../lib/display/png.ts";

const folder = new URL("../fixtures/masks/", import.meta.url);
const expected: Record<string, { height: number; width: number; samples: string }> = JSON.parse(
  await Deno.readTextFile(new URL("expect.json", folder)),
);
const read = (name: string) => Deno.readFileSync(new URL(`${name}.png`, folder));

Deno.test("the samples of 1-, 2-, 4-, 8- and 16-bit masks, grey and palette, are those that Pillow reads", () => {
  const kinds = new Set<string>();
  for (const [name, { height, width, samples }] of Object.entries(expected)) {
    const file = read(name), header = pngHeader(file)!;
    assertEquals([header.height, header.width], [height, width]);
    if (header.interlaced && header.bits < 8) {
      assertThrows(() => pngSamples(file), RangeError, "bits without interlacing, got interlacing");
      continue;
    }
    kinds.add(`${header.kind} ${header.bits}`);
    assertEquals([...pngSamples(file)], [...new Uint16Array(Uint8Array.fromBase64(samples).buffer)], name);
  }
  assertEquals(kinds.size, 9);
});

Deno.test("what is no PNG has no header; a damaged or cut one has no samples", () => {
  const file = read("palette8");
  assertEquals(pngHeader(file.subarray(0, 28)), undefined);
  assertEquals(pngHeader(new Uint8Array(100)), undefined);
  assertThrows(
    () => pngSamples(new Uint8Array(100)),
    RangeError,
    "expected grey or a palette, got undefined",
  );
  for (let cut = 29; cut < file.length - 12; cut += 7) assertThrows(() => pngSamples(file.subarray(0, cut)));
  const broken = file.slice();
  broken[file.length - 20]! ^= 1;
  assertThrows(() => pngSamples(broken));
  assert(pngSamples(file).length > 0);
});
