import { assert, assertAlmostEquals, assertEquals, assertNotEquals, assertThrows } from "@std/assert";
import { eraseRandomly, mixedLabels, mixImages } from "../../lib/data/augment.ts";
import type { Image } from "../../lib/data/dataset.ts";
import { randAugment } from "../../lib/data/randaugment.ts";
import { compose, horizontalFlip, normalize, randomResizedCrop } from "../../lib/data/transforms.ts";
import { Random } from "../../lib/base/random.ts";

interface Case {
  image: string;
  operations: string[];
  draws: number[];
  data: string;
}

// Made with timm 1.0.22 itself by make.py, which lies beside it.
const timm = JSON.parse(
  await Deno.readTextFile(new URL("../fixtures/augment/timm.json", import.meta.url)),
) as {
  images: Record<string, { shape: [number, number, number]; data: string }>;
  randaugment: Case[];
  train: Case[];
  batch: { shape: [number, number, number, number]; data: string; labels: number[]; classes: number };
  mix: { draws: number[]; data: string; targets: string }[];
};

const bytes = (text: string) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
const floats = (text: string) => new Float32Array(bytes(text).buffer);

function imageOf(name: string): Image {
  const { shape: [height, width, channels], data } = timm.images[name]!;
  return { data: bytes(data), height, width, channels };
}

/** Gives the numbers that timm drew, in its order, and none beyond them. */
class Replay extends Random {
  readonly #draws: number[];
  constructor(draws: readonly number[]) {
    super(0);
    this.#draws = [...draws];
  }
  #take(low: number, high: number): number {
    const x = this.#draws.shift() ?? NaN; // NaN: more was drawn than timm drew
    assert(x >= low && x <= high, `${x} was not drawn from ${low} to ${high}`);
    return x;
  }
  override uniform(low: number | readonly number[] = 0, high = 1): never {
    return this.#take(Math.min(Number(low), high), Math.max(Number(low), high)) as never;
  }
  override integer(n: number): number {
    return this.#take(0, n - 1);
  }
  override normal(): never {
    return this.#take(-Infinity, Infinity) as never;
  }
  override beta(): number {
    return this.#take(0, 1);
  }
  get left(): number {
    return this.#draws.length;
  }
}

const farthest = (a: ArrayLike<number>, b: ArrayLike<number>): number => {
  assertEquals(a.length, b.length);
  return Array.from(a, (x, i) => Math.abs(x - b[i]!)).reduce((m, x) => Math.max(m, x), 0);
};

Deno.test("RandAugment makes timm's images, bit for bit, of timm's random numbers", () => {
  const seen = new Set<string>();
  timm.randaugment.forEach(({ image, operations, draws, data }) => {
    const random = new Replay(draws), made = randAugment()(imageOf(image), random);
    assertEquals(farthest(made.data, bytes(data)), 0, `${image}: ${operations.join(", ")}`);
    assertEquals(random.left, 0);
    for (const name of operations) seen.add(name);
  });
  assertEquals(seen.size, 15);
});

Deno.test("crop, flip, RandAugment and erasing together make timm's training images", () => {
  const erased = timm.train.map(({ image, draws, data }, i) => {
    const random = new Replay(draws);
    const transform = compose(
      randomResizedCrop({ size: 20, resample: "bicubic" }),
      horizontalFlip(),
      randAugment(),
    );
    const { data: made } = transform(imageOf(image), random);
    const pixels = normalize(made, [1, 20, 20, 3], { imageMean: [0.5], imageStd: [0.5] }),
      before = random.left;
    eraseRandomly(pixels, [20, 20, 3], 0.25, random);
    assert(farthest(pixels, floats(data)) < 1e-6, `image ${i}`);
    assertEquals(random.left, 0);
    return before > 1;
  });
  assert(erased.includes(true) && erased.includes(false));
});

Deno.test("mixup and cutmix make timm's batches and targets", () => {
  const { batch } = timm, labels = Int32Array.from(batch.labels);
  const kinds = timm.mix.map(({ draws, data, targets }) => {
    const random = new Replay(draws), images = floats(batch.data);
    const share = mixImages(images, batch.shape, { mixup: 0.8, cutmix: 1 }, random);
    assert(farthest(images, floats(data)) < 1e-6);
    const smoothed = mixedLabels(labels, batch.classes, share).map((x) => 0.9 * x + 0.1 / batch.classes);
    assert(farthest(smoothed, floats(targets)) < 1e-6);
    assertEquals(random.left, 0);
    return draws.length > 2 ? "cutmix" : "mixup";
  });
  assertEquals(new Set(kinds).size, 2);
});

Deno.test("mixing alone blends, cutting alone keeps every number, and the middle of an odd batch stays", () => {
  const shape = [3, 4, 4, 1] as const, images = () => Float32Array.from({ length: 48 }, (_, i) => i);
  const blended = images(), cut = images();
  const share = mixImages(blended, shape, { mixup: 0.4, cutmix: 0 }, new Random(1));
  assertAlmostEquals(blended[0]!, (1 - share) * 32, 1e-5);
  assertEquals(blended.slice(16, 32), images().slice(16, 32));
  const kept = mixImages(cut, shape, { mixup: 0, cutmix: 1 }, new Random(3));
  assertEquals(cut.toSorted(), images());
  assertAlmostEquals(cut.slice(0, 16).filter((x) => x < 16).length / 16, kept, 1e-6);
});

Deno.test("Beta draws have the distribution's quantiles", () => {
  // scipy 1.17: beta.cdf([0.01, 0.1, 0.3], 0.8, 0.8), beta.cdf([0.1, 0.3], 2.5, 2.5)
  const known: [number, number, number][] = [
    [0.8, 0.01, 0.02071677],
    [0.8, 0.1, 0.13180567],
    [0.8, 0.3, 0.3240606],
    [2.5, 0.1, 0.01537472],
    [2.5, 0.3, 0.18696696],
  ];
  for (const [a, x, expected] of known) {
    const random = new Random(5, a), n = 40_000;
    const below = Array.from({ length: n }, () => random.beta(a, a)).filter((draw) => draw < x).length / n;
    const error = Math.sqrt(expected * (1 - expected) / n);
    assert(Math.abs(below - expected) < 4 * error, `Beta(${a}, ${a}) below ${x}: ${below}, not ${expected}`);
  }
});

Deno.test("the same seed makes the same change, another seed another", () => {
  const image = imageOf("rgb"),
    made = (seed: number) => randAugment({ probability: 1 })(image, new Random(seed));
  assertEquals(made(3).data, made(3).data);
  assertNotEquals(made(3).data, made(4).data);
  assertThrows(() => randAugment({ magnitude: 11 }), RangeError, "magnitude: expected a number from 0 to 10");
});
