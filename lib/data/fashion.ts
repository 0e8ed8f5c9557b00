/** Fashion-MNIST: of this clone, of a folder, or from the Hugging Face hub. @module */
import { createHash } from "node:crypto";
import { fileURLToPath } from "node:url";
import { checkOptions, text } from "../base/check.ts";
import { decodePng } from "../display/png.ts";
import { dataSetFolder } from "../files/hub.ts";
import type { MemoryDataset } from "./dataset.ts";
import { pixelsIn } from "./checks.ts";
import { DataError, idxImages } from "./idx.ts";
import { parquetSource } from "./parquet.ts";
import { inMemory } from "./rows.ts";

/** The classes, in the order of the labels. */
export const FASHION_CLASSES: readonly string[] =
  "T-shirt/top, Trouser, Pullover, Dress, Coat, Sandal, Shirt, Sneaker, Bag, Ankle boot".split(", ");

/** SHA-256 of all pixels, then all labels, a byte each. */
const SUMS = {
  train: "16d82e2b505296aa2b78bd5ea0992634f30419a4c97def7c907d154a35ac6157",
  test: "9f1ec356a747bfe4ebab3cfb722d3694c9ca737e2570f6f90cf31d7b6fd689d4",
};
type Split = keyof typeof SUMS;
const SPLITS = Object.keys(SUMS) as Split[];

const HOME = new URL("../../data/fashion-mnist/", import.meta.url), HUB = "zalando-datasets/fashion_mnist";
const REMEDY = "get the four files from https://github.com/zalandoresearch/fashion-mnist (data/fashion) " +
  "and name their folder: fashionMnist({ path })";

/** Options of {@linkcode fashionMnist}. */
export interface FashionOptions {
  /**
   * A folder with the four IDX files of MNIST's layout, gzipped or not. Default: the files of this clone; where there are
   * none, since the package was installed, `zalando-datasets/fashion_mnist` on the Hugging Face hub, fetched once.
   */
  path?: string;
}

/**
 * Fashion-MNIST: 60,000 training and 10,000 test images of clothes, 28 x 28, grey, ten classes (Xiao, Rasul and
 * Vollgraf, 2017). Unless they are of a folder of yours, pixels and labels are compared with the sums of the authors' files.
 *
 * @throws {DataError} If a file is missing or damaged, of another kind, images and labels are not as many, or they are not
 *   the authors'.
 * @throws {HubError} If they have to come from the hub and cannot.
 *
 * @example
 * ```ts
 * import { fashionMnist } from "nepa";
 * import { assertEquals } from "@std/assert";
 *
 * const { train, test } = await fashionMnist();
 * assertEquals([train.length, test.length], [60000, 10000]);
 * ```
 */
export async function fashionMnist(options: FashionOptions = {}): Promise<Record<Split, MemoryDataset>> {
  checkOptions("fashionMnist", options, { path: text });
  const { path } = options, read = path === undefined ? await published() : fromFiles(path);
  const [train, test] = await Promise.all([read("train"), read("test")]);
  return { train, test };
}

type Read = (split: Split) => Promise<MemoryDataset>;

/** Reads what the authors published: the files of this clone, or those on the hub. */
async function published(): Promise<Read> {
  const here = HOME.protocol === "file:" && await Deno.stat(HOME).catch((error) => {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  });
  const read = here
    ? fromFiles(fileURLToPath(HOME))
    : fromParquet(await dataSetFolder(HUB, SPLITS.map(parquetOf)));
  return async (split) => authentic(await read(split), split);
}

const nameOf = (split: Split) => `Fashion-MNIST ${split}`;
const parquetOf = (split: Split) => `fashion_mnist/${split}-00000-of-00001.parquet`;

const fromFiles = (folder: string): Read => async (split) => {
  const start = `${folder.replace(/\/+$/, "")}/${split === "test" ? "t10k" : split}`;
  const files = { images: `${start}-images-idx3-ubyte.gz`, labels: `${start}-labels-idx1-ubyte.gz` };
  return await idxImages({ ...files, classes: FASHION_CLASSES, name: nameOf(split) }).catch((error) => {
    if (error instanceof DataError && error.kind === "missing") error.message += `; ${REMEDY}`;
    throw error;
  });
};

const fromParquet = (folder: string): Read => async (split) => {
  const columns = { image: "image", label: "label" }, file = `${folder}/${parquetOf(split)}`;
  const { labels, bytesOf, nameOf: rowName } = await parquetSource([file], columns, FASHION_CLASSES);
  const images = new Uint8Array(labels.length * 28 * 28), shape = [labels.length, 28, 28, 1] as const;
  for (let i = 0; i < labels.length; i++) {
    images.set(pixelsIn(rowName(i), decodePng(await bytesOf(i)), [28, 28, 1]), i * 28 * 28);
  }
  return inMemory({ name: nameOf(split), images, shape, labels, classes: FASHION_CLASSES }, file);
};

/** Refuses images or labels that are not the authors'. */
function authentic(set: MemoryDataset, split: Split): MemoryDataset {
  const hash = createHash("sha256");
  for (const { images } of set.batches({ size: 10000, shuffle: false, dropLast: false })) hash.update(images);
  const sum = hash.update(Uint8Array.from(set.labels)).digest("hex");
  if (sum === SUMS[split]) return set;
  const expected = SUMS[split], not = "not the data that were published";
  const text = `expected sha256 ${expected} of pixels and labels, got ${sum}: ${not}`;
  throw new DataError("checksum", set.name, `${text}; restore the files (git checkout), or ${REMEDY}`);
}
