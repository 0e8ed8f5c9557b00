/** Scenes of Fashion-MNIST's clothes, with a class for each pixel. @module */
import { any, checkOptions, count, expect, index, isCount, numberThat, type Rule } from "../base/check.ts";
import { Random } from "../base/random.ts";
import type { Image, MemoryDataset, SegmentationSet } from "./dataset.ts";
import { FASHION_CLASSES, fashionMnist, type FashionOptions } from "./fashion.ts";
import { fingerprintOf } from "./fingerprint.ts";
import { generatedImages } from "./generated.ts";
import { resized } from "./resample.ts";

/** Options of {@linkcode fashionScenes}. */
export interface FashionScenesOptions extends FashionOptions {
  /** Decides about every pixel. Default 0. */
  seed?: number;
  /** Height and width, from 16. Default 64. */
  size?: number;
  /** Clothes in a scene: so many, or from the least to the most. Default [2, 5]. */
  items?: number | readonly [least: number, most: number];
  /** Scenes to train by; each is drawn when it is asked for, so any number costs nothing. Default 10,000. */
  train?: number;
  /** Scenes to choose by. Default 1,000. */
  validation?: number;
  /** Scenes to judge by. Default 1,000. */
  test?: number;
}

/** The parts of {@linkcode fashionScenes}: no piece of clothing is in two of them. */
export interface FashionScenes {
  train: SegmentationSet;
  validation: SegmentationSet;
  test: SegmentationSet;
}

const side = numberThat("an integer from 16", (x) => Number.isInteger(x) && x >= 16);
const ITEMS: Rule = ["an integer from 1, or [least, most]", (value) => {
  const [least, most = least, ...others] = [value].flat() as number[];
  return isCount(least) && isCount(most) && least <= most && others.length === 0;
}];
const COUNTS = { train: count, validation: count, test: count };

/** What is lighter than this belongs to the piece of clothing, the rest is what it lies on. */
const DARKEST = 32;

/** What clothes are laid on: smooth noise, coarse and fine, about a grey. */
function canvas(size: number, random: Random): Uint8Array {
  const layer = (cells: number) => {
    const data = Uint8Array.from({ length: cells * cells }, () => random.integer(256));
    const image = { data, height: cells, width: cells, channels: 1 };
    return resized(image, { height: size, width: size }, "bicubic").data;
  };
  const coarse = layer(2 + random.integer(4)), fine = layer(8 + random.integer(size / 2));
  const grey = random.uniform(48, 176), strength = random.uniform(0.15, 0.5), share = random.uniform();
  const noise = (i: number) => share * (coarse[i]! - 128) + (1 - share) * (fine[i]! - 128);
  return Uint8Array.from(coarse, (_, i) => Math.min(255, Math.max(0, grey + strength * noise(i))));
}

/** Lays a piece of clothing at a random size on a random place, at least half of it inside. */
function lay(scene: Required<Image>, item: Uint8Array, label: number, random: Random): void {
  const { data, mask, width: size } = scene, side = Math.round(size * random.uniform(0.3, 0.7));
  const source = { data: item, height: 28, width: 28, channels: 1 };
  const made = resized(source, { height: side, width: side }, "bilinear").data;
  const place = () => random.integer(size) - (side >> 1), top = place(), left = place();
  for (let y = Math.max(0, -top); y < Math.min(side, size - top); y++) {
    for (let x = Math.max(0, -left); x < Math.min(side, size - left); x++) {
      const value = made[y * side + x]!, at = (top + y) * size + left + x;
      if (value < DARKEST) continue;
      data[at] = value;
      mask[at] = label + 1;
    }
  }
}

/**
 * Scenes to segment: clothes of Fashion-MNIST at different sizes, some over others, on a textured canvas. One channel, and eleven
 * classes: 0 is the background, then those of Fashion-MNIST. Scenes to train by are made of its training images; those of
 * validation and test of the two halves of its test images. A scene is drawn when it is asked for, the same for the same seed.
 *
 * @throws {TypeError | RangeError} If an option is unknown or cannot be.
 * @throws {DataError | HubError} If Fashion-MNIST cannot be read.
 *
 * @example
 * ```ts
 * import { fashionScenes } from "nepa";
 * import { assertEquals } from "@std/assert";
 *
 * const { train, test } = await fashionScenes({ seed: 1, size: 64, items: [2, 5] });
 * const { image, mask } = await test.get(0); // [64, 64, 1] and [64, 64]
 * assertEquals([image.length, mask.length, train.classes[0]], [4096, 4096, "background"]);
 * ```
 */
export async function fashionScenes(options: FashionScenesOptions = {}): Promise<FashionScenes> {
  const { train = 10_000, validation = 1000, test = 1000, ...scene } = options;
  const { seed = 0, size = 64, items = [2, 5], ...from } = scene;
  checkOptions("fashionScenes", options, { seed: index, size: side, items: ITEMS, ...COUNTS, path: any });
  const clothes = await fashionMnist(from), half = clothes.test.length >> 1;
  expect(half > 0, "fashionScenes", "test images for validation and for test", clothes.test.length);
  const halves = (start: number) => clothes.test.subset(Array.from({ length: half }, (_, i) => start + i));
  const [least, most = least] = [items].flat() as [number, number?];
  const part = async (name: string, from: MemoryDataset, length: number) => {
    const made = ["fashionScenes", name, seed, size, least, most, await fingerprintOf(from)];
    return generatedImages({
      name: `Fashion scenes ${name}`,
      classes: ["background", ...FASHION_CLASSES],
      masks: true,
      ...{ length, height: size, width: size, channels: 1 },
      fingerprint: JSON.stringify(made),
      get: (i) => {
        const random = new Random(seed, "scene", name, i), count = least + random.integer(most - least + 1);
        const extent = { height: size, width: size, channels: 1 }, mask = new Uint8Array(size * size);
        const scene = { data: canvas(size, random), mask, ...extent };
        for (let k = 0; k < count; k++) {
          const { image, label } = from.get(random.integer(from.length));
          lay(scene, image, label, random);
        }
        return scene;
      },
    });
  };
  return {
    train: await part("train", clothes.train, train),
    validation: await part("validation", halves(0), validation),
    test: await part("test", halves(half), test),
  };
}
