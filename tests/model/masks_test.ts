import { assert, assertEquals, assertThrows } from "@std/assert";
import { type BlockOptions, BlockSampler, plotMask, Random } from "nepa";
import { maskTensors } from "../../lib/model/masks.ts";
import { folder } from "../support/measures.ts";

const options = (more: Partial<BlockOptions> = {}): BlockOptions => ({
  ...{ masks: "corrected", targetBlocks: 4, targetScale: [0.15, 0.2], targetAspect: [0.75, 1.5] },
  ...{ contextScale: [0.85, 1], minKeep: 10, ...more },
});

/** Batches of the sampler, each with random numbers of its own. */
const batches = (sampler: BlockSampler, count: number, size: number) =>
  Array.from({ length: count }, (_, k) => sampler.draw(size, new Random(k, "masks")));

const side = (patches: number[], of: (patch: number) => number) => new Set(patches.map(of)).size;
const mean = (all: number[]) => all.reduce((sum, x) => sum + x, 0) / all.length;

Deno.test("published masks have the block sizes and the cover of the public code's", async () => {
  const json = JSON.parse(await Deno.readTextFile(`${folder}ijepa/expect.json`)).mask_statistics;
  const [rows, columns] = json.grid, count = 2000, size = 4;
  const drawn = batches(new BlockSampler(options({ masks: "published" }), rows, columns), count, size);
  const row = (patch: number) => Math.floor(patch / columns), column = (patch: number) => patch % columns;
  const sizes = new Map<string, number>();
  for (const { targets: [[target]] } of drawn as unknown as { targets: [[number[]]] }[]) {
    const name = `${side(target, row)}x${side(target, column)}`;
    sizes.set(name, (sizes.get(name) ?? 0) + 1 / count);
  }
  const near = (got: number, wanted: number, variance: number, there: number, of: string) => {
    const error = Math.sqrt(variance / count + variance / there); // of both samples
    assert(
      Math.abs(got - wanted) <= 4 * error + 1e-9,
      `${of}: ${got}, ${wanted} there, standard error ${error}`,
    );
  };
  for (
    const [name, share] of Object.entries(
      json.block_size_frequency_height_x_width.target as Record<string, number>,
    )
  ) {
    near(sizes.get(name) ?? 0, share, share * (1 - share), 4000, name);
  }
  const cover = (
    patches: (batch: typeof drawn[number]) => number[][],
    at: (patch: number) => number,
    index: number,
  ) => {
    const shares = drawn.map((batch) =>
      mean(patches(batch).map((all) => all.filter((p) => at(p) === index).length / columns))
    );
    const average = mean(shares);
    return { average, variance: mean(shares.map((x) => (x - average) ** 2)) };
  };
  const [context, target] = [
    (b: typeof drawn[number]) => b.context,
    (b: typeof drawn[number]) => b.targets.flat(),
  ];
  for (const [kind, patches] of [["context", context], ["target", target]] as const) {
    for (const [axis, at] of [["row", row], ["col", column]] as const) {
      (json[`${kind}_rate_by_${axis}`] as number[]).forEach((rate, index) => {
        const { average, variance } = cover(patches, at, index);
        near(average, rate, variance, 500, `${kind}, ${axis} ${index}`);
      });
    }
  }
  near(
    mean(drawn.map(({ context }) => context[0]!.length)),
    json.context_patches_per_batch_of_4.mean,
    400,
    500,
    "patches",
  );
});

Deno.test("published masks are padded to what comes in a batch of that size, not to what comes in one image", () => {
  const sampler = new BlockSampler(options({ masks: "published" }), 14, 14);
  const [one, many] = [sampler.contextSizeOf(1), sampler.contextSizeOf(64)];
  assert(one === sampler.contextSize && many < 0.7 * one, `${one} and ${many}`);
  for (const { context } of batches(sampler, 40, 64)) {
    const counts = new Set(context.map(({ length }) => length));
    assert(counts.size === 1 && context[0]!.length <= many && context[0]!.length > 10, String([...counts]));
  }
  const { context, contextPadding } = maskTensors(sampler.draw(64, new Random(0)), sampler);
  assertEquals([context!.shape, contextPadding!.shape], [[64, many], [1, many]]);
});

Deno.test("corrected masks reach every row and column alike, of one count, and seeds decide", () => {
  for (const grid of [7, 14]) {
    const sampler = new BlockSampler(options({ minKeep: 4 }), grid, grid), drawn = batches(sampler, 300, 8);
    const cover = (of: (patch: number) => number) => {
      const counts = new Array(grid).fill(0);
      for (const { context } of drawn) for (const patch of context.flat()) counts[of(patch)]++;
      return counts.map((x) => x / (300 * 8 * grid));
    };
    for (const  of of[(p: number) => Math.floor(p / grid), (p: number) => p % grid]) {
      const shares = cover(of), mirrored = shares.toReversed();
      assert(shares.every((x) => x > 0.2), String(shares));
      shares.forEach((x, i) => assert(Math.abs(x - mirrored[i]!) < 0.02, `${x} and ${mirrored[i]}`));
    }
    for (const { context, targets } of drawn) {
      for (const [i, seen] of context.entries()) {
        assertEquals([seen.length, new Set(seen).size], [sampler.contextSize, sampler.contextSize]);
        const asked = new Set(targets[i]!.flat());
        assert(seen.every((patch) => !asked.has(patch) && patch >= 0 && patch < grid ** 2));
        for (const target of targets[i]!) assertEquals(target.length, sampler.targetSize);
      }
    }
    assertEquals(sampler.draw(8, new Random(3, "masks")), drawn[3]);
  }
});

Deno.test("masks that do not fit a grid are refused, with what would", () => {
  const make = (more: Partial<BlockOptions>, grid: number) => () =>
    new BlockSampler(options(more), grid, grid);
  for (const masks of ["corrected", "published"] as const) {
    assertThrows(
      make({ masks }, 6),
      RangeError,
      `minKeep: expected at most 3 with ${masks} masks on 6 × 6 patches`,
    );
    make({ masks, minKeep: 3 }, 6)();
    assertThrows(make({ masks, minKeep: 0 }, 1), RangeError, "patches left of context and targets");
  }
  assertThrows(make({ targetScale: [0.9, 1], minKeep: 0 }, 8), RangeError, "patches left");
});

Deno.test("masks are drawn on a picture", async () => {
  const image = { data: new Uint8Array(64).fill(9), height: 8, width: 8, channels: 1 } as const;
  const svg = await (await plotMask(image, { context: [0, 1], targets: [[2], [3]] }, 4)).svg();
  assert(["context: 2 of 4 patches", "target 2: 1 patches"].every((text) => String(svg).includes(text)));
  for (const context of [[4], [-1], [0.5]]) {
    const drawn = async () => await plotMask(image, { context, targets: [] }, 4);
    await drawn().then(() => assert(false), (error) => assert(error instanceof RangeError));
  }
});
