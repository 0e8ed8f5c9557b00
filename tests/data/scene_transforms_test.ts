import { assert, assertEquals, assertThrows } from "@std/assert";
import { compose, horizontalFlip, type Image, pad, photometricDistortion, randAugment, Random } from "nepa";
import { randomCrop, randomResizedCrop, randomScale, resize, type Transform } from "nepa";

interface Stored {
  shape: [number, number, number];
  image: string;
  mask: string;
}
// deno-lint-ignore no-explicit-any
type Drawn = any;
const { inputs, cases }: {
  inputs: Stored[];
  cases: (Stored & { name: string; of: number; drawn: Drawn })[];
} = JSON
  .parse(await Deno.readTextFile(new URL("../fixtures/segmentation/torchvision.json", import.meta.url)));

function imageOf({ shape: [height, width, channels], image, mask }: Stored): Image {
  return { data: Uint8Array.fromBase64(image), mask: Uint8Array.fromBase64(mask), height, width, channels };
}

/** Gives numbers one after another, whatever they are asked as. */
function scripted(numbers: number[]): Random {
  const next = () => numbers.shift()!;
  return { uniform: next, integer: next } as unknown as Random;
}

const extent = ([height, width]: [number, number]) => ({ height, width });
const fixed = (x: number | null) => x === null ? [1, 0] : [0, x]; // not done, or done by so much
/** The transform of a case, and what its draws have to be for that. */
const made: Record<string, (drawn: Drawn) => [Transform, number[]]> = {
  resize: ({ size, filter }) => [resize(extent(size), filter), []],
  randomScale: ({ size, scale }) => [randomScale({ size }), [scale]],
  // the area's share and the logarithm of the aspect, from which height and width come by rounding
  randomResizedCrop: ({ box: [top, left, height, width], size }) => [
    Object.assign((image: Image, random: Random) => {
      const share = height * width / (image.height * image.width);
      return randomResizedCrop({ size })(
        image,
        scripted([share, Math.log(width / height), random.integer(1), random.integer(1)]),
      );
    }),
    [top, left],
  ],
  horizontalFlip: () => [horizontalFlip(), [0]],
  randomCrop: ({ size, top, left }) => [randomCrop({ size: extent(size), most: 1 }), [top, left]],
  pad: ({ size }) => [pad(extent(size)), []],
  photometricDistortion: ({ early, ...by }) => [
    photometricDistortion(),
    [...["brightness", "contrast", "saturation", "hue"].flatMap((kind) => fixed(by[kind])), early ? 0 : 1],
  ],
};

for (const name of Object.keys(made)) {
  Deno.test(`${name} makes of images and masks what torchvision's transforms v2 make of them`, () => {
    const some = cases.filter((each) => each.name === name);
    assert(some.length > 0);
    for (const { drawn, of, ...expected } of some) {
      const [transform, draws] = made[name]!(drawn),
        given = imageOf(inputs[of]!),
        kept = structuredClone(given);
      const out = transform(given, scripted(draws)), wanted = imageOf(expected);
      assertEquals([out.height, out.width, out.channels], expected.shape);
      assertEquals([...out.data], [...wanted.data], `${JSON.stringify(drawn)} of ${inputs[of]!.shape}`);
      assertEquals(
        [...out.mask!],
        [...wanted.mask!],
        `mask: ${JSON.stringify(drawn)} of ${inputs[of]!.shape}`,
      );
      assertEquals(given, kept);
    }
  });
}

Deno.test("a crop has at most its share of one class where there is such a place, and is taken anyway where there is none", () => {
  const half = { height: 40, width: 40, channels: 1, data: new Uint8Array(1600), mask: new Uint8Array(1600) };
  half.mask.fill(1, 800).fill(255, 1400);
  const crop = randomCrop({ size: 8, most: 0.75 });
  const shares = Array.from({ length: 200 }, (_, i) => {
    const { mask } = crop(half, new Random(i)), classes = mask!.filter((k) => k < 255);
    return Math.max(classes.filter((k) => k === 0).length, classes.filter((k) => k === 1).length) /
      classes.length;
  });
  assert(shares.filter((share) => share <= 0.75).length > 100); // one place of eight has it: 1 - (7/8)^10 is 74 %
  assert(shares.some((share) => share === 1));
  const any = randomCrop({ size: 8, most: 1 }),
    first = Array.from({ length: 200 }, (_, i) => any(half, new Random(i)));
  assert(first.filter(({ mask }) => new Set(mask!).size > 1).length < 100);
  const grey = { ...half, mask: undefined } as never as Image;
  assertEquals(crop(grey, new Random(0)).data.length, 64);
});

Deno.test("image and mask are moved by the same draws through a whole pipeline, and the same seed gives the same", () => {
  const mask = Uint8Array.from({ length: 50 * 60 }, (_, i) => (i * 7919 >> 4) % 5);
  const image = { data: mask.map((k) => 40 * k), mask, height: 50, width: 60, channels: 1 };
  const moves = compose(randomCrop({ size: 70, fill: 0 }), randomCrop({ size: 32 }), horizontalFlip());
  for (let seed = 0; seed < 20; seed++) {
    const out = moves(image, new Random(seed));
    assertEquals(out.data, out.mask!.map((k) => k === 255 ? 0 : 40 * k));
    assertEquals(out, moves(image, new Random(seed)));
  }
});

Deno.test("options of scenes' transforms that cannot be are refused, and a mask where it would not be moved", () => {
  assertThrows(() => randomScale({ size: 0 }), RangeError, "randomScale: expected sides");
  assertThrows(() => randomScale({ size: 8, scale: [2, 1] }), RangeError, "scale: expected [least, most]");
  assertThrows(() => randomCrop({ size: 8, most: 2 }), RangeError, "most: expected");
  assertThrows(() => pad(8, 256), RangeError, "fill: expected");
  assertThrows(() => photometricDistortion({ hue: [-1, 1] }), RangeError, "hue: expected");
  assertThrows(() => photometricDistortion({ hues: 1 } as never), TypeError, "did you mean hue");
  assertThrows(() => randAugment()(imageOf(inputs[0]!), new Random(0)), RangeError, "images without masks");
});
