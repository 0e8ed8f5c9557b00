/** What images, batches and labels have to be, and what is said where they are not. @module */
import { expect, isCount, shown } from "../base/check.ts";
import { type Batch, type Dataset, IGNORED, type Image } from "./dataset.ts";
import type { Extent, Transform } from "./transforms.ts";

/** Refuses options without one that has no default. */
export function refuseMissing(where: string, options: object, needed: readonly string[]): void {
  const missing = needed.find((name) => (options as Record<string, unknown>)[name] === undefined);
  if (missing !== undefined) throw new TypeError(`${where}: expected ${missing}, got none`);
}

/**
 * 8-bit values.
 *
 * @param name Of what they are, for messages.
 * @param shape How many, as a shape.
 * @throws {TypeError | RangeError} If they are of another type, or not as many.
 */
export function bytesOf(name: string, data: unknown, shape: readonly number[]): Uint8Array {
  const length = shape.reduce((a, b) => a * b, 1);
  if (!(data instanceof Uint8Array || data instanceof Uint8ClampedArray)) {
    const help = "multiply by 255 and round what lies between 0 and 1, then `Uint8ClampedArray.from` it";
    throw new TypeError(`${name}: expected 8-bit values in a Uint8Array, got ${shown(data)}; ${help}`);
  }
  expect(data.length === length, name, `${length} bytes for [${shape}]`, data.length);
  const plain = data.constructor === Uint8Array; // a Buffer's `slice` shares its memory
  return plain ? data as Uint8Array : new Uint8Array(data.buffer, data.byteOffset, length);
}

/** An image, as somebody's function gave it. Throws a `TypeError` or a `RangeError` if it is none. */
export function imageOf(name: string, made: unknown): Image {
  const image = (made ?? {}) as Image, { height, width, channels } = image;
  if (![height, width, channels].every(isCount)) {
    throw new TypeError(`${name}: expected an image { data, height, width, channels }, got ${shown(made)}`);
  }
  const data = bytesOf(name, image.data, [height, width, channels]);
  return data === image.data ? image : { ...image, data };
}

/** The mask of an image, which has to be one of such classes. Throws a `TypeError` or a `RangeError` if it is not. */
export function maskIn(name: string, { mask, height, width }: Image, classes: number): Uint8Array {
  const isThere = mask instanceof Uint8Array && mask.length === height * width;
  const got = mask instanceof Uint8Array ? `${mask.length} bytes` : shown(mask);
  expect(isThere, name, `a mask of ${height}x${width}, a class for each pixel in a Uint8Array`, got);
  const wrong = mask.find((k) => k >= classes && k !== IGNORED);
  const expected = `classes from 0 to ${classes - 1} in the mask, or ${IGNORED} for none`;
  expect(wrong === undefined, name, expected, wrong);
  return mask;
}

/** Height, width and channels. */
export type ImageShape = readonly [height: number, width: number, channels: number];

/** The pixels of an image that has to be of a shape. Throws a `TypeError` or a `RangeError` if it is not. */
export function pixelsIn(name: string, made: unknown, shape: ImageShape, comes = "", help = ""): Uint8Array {
  const { data, height, width, channels } = imageOf(name, made), got = [height, width, channels].join("x");
  expect(got === shape.join("x"), name, `${shape.join("x")}${comes}`, `${got}${help}`);
  return data;
}

/** What to call a transform in messages. */
export const nameOf = ({ description, name }: Transform): string =>
  description ?? (name || "a function without a name");

/** The pixels of image `index` that came out of a transform; refused unless they have the shape that is expected. */
export function pixelsOf(made: Image, shape: ImageShape, index: number, transform: Transform): Uint8Array {
  const { data, height, width, channels } = made ?? {}, [rows, columns, colours] = shape;
  const fits = height === rows && width === columns && channels === colours;
  if (fits && data?.constructor === Uint8Array && data.length === rows * columns * colours) return data;
  const at = placeOf(transform, index); // no text is made where all is well: this is asked of each image
  return pixelsIn(at, made, shape, " to come out", "; end it with a resize");
}

const placeOf = (transform: Transform, index: number) => `augment: ${nameOf(transform)}: image ${index}`;

/** The pixels of image `index` and, where there was one, the mask that came out of a transform with them. */
export function madeOf(
  given: Pick<Image, "mask">,
  made: Image,
  shape: ImageShape,
  index: number,
  transform: Transform,
): Pick<Image, "data" | "mask"> {
  const data = pixelsOf(made, shape, index, transform);
  if (!given.mask) return { data };
  return { data, mask: maskIn(placeOf(transform, index), { ...made, data }, IGNORED) };
}

/**
 * A batch that is what was asked for. Throws a `TypeError` or a `RangeError` if its images are not 8-bit values of that size,
 * its labels not those of the data set, or its numbers do not agree.
 */
export function checkedBatch(
  { name, length, channels, classes, labels: all, masked = false }: Dataset,
  batch: Batch,
  { size, height, width }: Extent & { size: number },
): Batch {
  const at = `${name}: batches`, shape = [size, height, width, channels];
  expect(String(batch?.shape) === String(shape), at, `images [${shape}]`, shown(batch?.shape));
  expect(batch.size === size, at, `size ${size}`, batch.size);
  const images = bytesOf(at, batch.images, shape), { labels, indices } = batch;
  for (const [what, values] of Object.entries({ labels, ...indices !== undefined && { indices } })) {
    const fits = values instanceof Int32Array && values.length === size;
    expect(fits, at, `${what} in an Int32Array of ${size}`, `${shown(values)}, ${values?.length}`);
  }
  indices?.forEach((i, k) => {
    expect(i >= 0 && i < length, at, `indices from 0 to ${length - 1}`, i);
    expect(labels[k] === all[i], at, `the label of image ${i}, ${all[i]}`, labels[k]);
  });
  const most = Math.max(0, classes.length - 1);
  const together = { data: images, mask: batch.masks!, height: size * height, width, channels };
  if (masked) maskIn(at, together, classes.length);
  const wrong = labels.find((label) => !(label >= -1 && label <= most));
  expect(indices !== undefined || wrong === undefined, at, `labels from 0 to ${most}`, wrong);
  return images === batch.images ? batch : { ...batch, images };
}
