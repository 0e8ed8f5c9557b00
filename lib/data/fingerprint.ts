/** What tells two data sets apart. @module */
import { expectNamed } from "../base/check.ts";
import { createHash } from "node:crypto";
import { Random } from "../base/random.ts";
import type { Dataset } from "./dataset.ts";
import { Rows } from "./rows.ts";

/** A hash of `most` of the images. */
async function sampled(dataset: Dataset, most: number): Promise<string> {
  const { length } = dataset, random = new Random(0, "fingerprint"), hash = createHash("sha256");
  for (let k = 0; k < Math.min(most, length); k++) {
    hash.update((await dataset.get(length <= most ? k : random.integer(length))).image);
  }
  return hash.digest("hex");
}

/**
 * A text that changes when the images of a data set, their order, their labels or the classes' names do; names do not count.
 *
 * - In memory: all pixels are looked at.
 * - `imageFolder`, `parquetImages`: the contents of all files, remembered as long as names, sizes and times of change are the
 *   same; above 4 GiB the sizes and times of change.
 * - `generatedImages`, and data sets of your own: their `fingerprint`, else 64 of their images.
 *
 * @param dataset The images.
 * @param most How many images are looked at where nothing is known about them. Default 64.
 *
 * @example
 * ```ts
 * import { fashionMnist, fingerprintOf } from "nepa";
 * import { assertNotEquals } from "@std/assert";
 *
 * const { test } = await fashionMnist();
 * assertNotEquals(await fingerprintOf(test.subset([0, 1])), await fingerprintOf(test.subset([1, 0])));
 * ```
 */
export async function fingerprintOf(dataset: Dataset, most = 64): Promise<string> {
  expectNamed("fingerprintOf", { dataset });
  const { length, height, width, channels, classes, labels } = dataset;
  const known = dataset instanceof Rows ? await dataset.contents() : dataset.fingerprint;
  return createHash("sha256").update(JSON.stringify([length, height, width, channels, classes]))
    .update(new Uint8Array(labels.buffer, labels.byteOffset, labels.byteLength))
    .update(known ?? await sampled(dataset, most)).digest("hex");
}
