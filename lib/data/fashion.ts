/** Fashion-MNIST, which comes with this package. @module */
import type { MemoryDataset } from "./dataset.ts";
import { arrayDataset } from "./rows.ts";
import { DataError, type Idx, readIdx } from "./idx.ts";

/** The classes, in the order of the labels. */
export const FASHION_CLASSES: readonly string[] = [
  "T-shirt/top",
  "Trouser",
  "Pullover",
  "Dress",
  "Coat",
  "Sandal",
  "Shirt",
  "Sneaker",
  "Bag",
  "Ankle boot",
];

const FILES = {
  trainImages: [
    "train-images-idx3-ubyte.gz",
    "b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7",
  ],
  trainLabels: [
    "train-labels-idx1-ubyte.gz",
    "0ae29f65d86684f32d1b9c85147786c547b9c6aebcaf235f0400a0cce308b056",
  ],
  testImages: [
    "t10k-images-idx3-ubyte.gz",
    "cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa",
  ],
  testLabels: [
    "t10k-labels-idx1-ubyte.gz",
    "8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05",
  ],
} as const;

const HOME = new URL("../../data/fashion-mnist/", import.meta.url);
const REMEDY = "get the four files from https://github.com/zalandoresearch/fashion-mnist (data/fashion) " +
  "and name their folder: fashionMnist({ path })";

/** Options of {@linkcode fashionMnist}. */
export interface FashionOptions {
  /** A folder with the four IDX files of MNIST's layout, gzipped or not. Default: the files of this package. */
  path?: string;
}

/**
 * Fashion-MNIST: 60,000 training and 10,000 test images of clothes, 28 x 28, grey, ten classes (Xiao, Rasul and
 * Vollgraf, 2017).
 *
 * @throws {DataError} If a file is missing or damaged, not an IDX file, images and labels are not as many, or a file
 *   of this package is not the one that was shipped.
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
export async function fashionMnist(
  { path }: FashionOptions = {},
): Promise<{ train: MemoryDataset; test: MemoryDataset }> {
  const read = ([file, sha256]: readonly [string, string]) =>
    path === undefined ? shipped(file, sha256) : given(path, file);
  const dimensions = { trainImages: 3, trainLabels: 1, testImages: 3, testLabels: 1 };
  const load = async (key: keyof typeof FILES): Promise<[string, Idx]> => {
    const { file, bytes, check } = await read(FILES[key]);
    const array = await readIdx(file, bytes, dimensions[key]);
    await check?.();
    return [file, array];
  };
  const [trainImages, trainLabels, testImages, testLabels] = await Promise.all([
    load("trainImages"),
    load("trainLabels"),
    load("testImages"),
    load("testLabels"),
  ]);
  return {
    train: joined("Fashion-MNIST train", trainImages, trainLabels),
    test: joined("Fashion-MNIST test", testImages, testLabels),
  };
}

interface Content {
  file: string;
  bytes: Uint8Array<ArrayBuffer>;
  check?: () => Promise<void>;
}

async function given(path: string, name: string): Promise<Content> {
  const names = [name, name.replace(/\.gz$/, "")].map((file) => `${path.replace(/\/+$/, "")}/${file}`);
  for (const file of names) {
    try {
      return { file, bytes: await Deno.readFile(file) };
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
  }
  throw new DataError("missing", names[0]!, `expected this file or ${names[1]}, found neither; ${REMEDY}`);
}

async function shipped(name: string, sha256: string): Promise<Content> {
  const url = new URL(name, HOME), response = await fetch(url).catch((cause) => cause as Error);
  if (response instanceof Error || !response.ok) {
    const got = response instanceof Error ? response.message : `${response.status} ${response.statusText}`;
    throw new DataError("missing", url.href, `expected the file of this package, got ${got}; ${REMEDY}`);
  }
  const bytes = new Uint8Array(await response.arrayBuffer());
  const check = async () => {
    const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).toHex();
    if (digest !== sha256) {
      throw new DataError(
        "checksum",
        url.href,
        `expected sha256 ${sha256}, got ${digest}: not the file that was shipped; restore it (git checkout), or ${REMEDY}`,
      );
    }
  };
  return { file: url.href, bytes, check };
}

function joined(
  name: string,
  [imageFile, images]: [string, Idx],
  [labelFile, labels]: [string, Idx],
): MemoryDataset {
  const [n = 0, height = 0, width = 0] = images.shape;
  if (labels.shape[0] !== n) {
    throw new DataError(
      "count",
      labelFile,
      `expected a label for each of the ${n} images of ${imageFile}, got ${
        labels.shape[0]
      }; take both files from one source`,
    );
  }
  const wrong = labels.data.findIndex((label) => label >= FASHION_CLASSES.length);
  if (wrong >= 0) {
    throw new DataError(
      "labels",
      labelFile,
      `expected labels 0 to 9, got ${
        labels.data[wrong]
      } for image ${wrong}; this is not a data set of ten classes`,
    );
  }
  return arrayDataset({
    name,
    images: images.data,
    shape: [n, height, width, 1],
    labels: labels.data,
    classes: FASHION_CLASSES,
  });
}
