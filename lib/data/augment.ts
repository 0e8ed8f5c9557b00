/** What is done to a batch after it is normalised: random erasing, mixup and cutmix, as timm does them. @module */
import type { Random } from "../base/random.ts";
import { roundEven } from "../base/round.ts";

/**
 * Overwrites a random part of an image with noise (arXiv 1708.04896; timm's "pixel" mode: standard normal, 2 % to a third
 * of the area, ten tries).
 *
 * @param image [H, W, C] normalised floats, changed in place.
 * @param shape H, W, C.
 * @param probability Of doing so.
 */
export function eraseRandomly(
  image: Float32Array,
  [height, width, channels]: readonly [number, number, number],
  probability: number,
  random: Random,
): void {
  if (random.uniform() > probability) return;
  for (let attempt = 0; attempt < 10; attempt++) {
    const area = random.uniform(0.02, 1 / 3) * height * width;
    const aspect = Math.exp(random.uniform(Math.log(0.3), Math.log(1 / 0.3)));
    const h = roundEven(Math.sqrt(area * aspect)), w = roundEven(Math.sqrt(area / aspect));
    if (w >= width || h >= height) continue;
    const top = random.integer(height - h + 1), left = random.integer(width - w + 1);
    for (let y = top; y < top + h; y++) {
      const start = (y * width + left) * channels;
      for (let i = start; i < start + w * channels; i++) image[i] = random.normal();
    }
    return;
  }
}

/** How two images become one. */
export interface MixOptions {
  /** α of the Beta(α, α) distribution that shares are drawn from where images are blended (arXiv 1710.09412); 0: never. */
  mixup: number;
  /** The same where a rectangle of one is put into the other (arXiv 1905.04899); 0: never. Both: each with chance 1/2. */
  cutmix: number;
}

/**
 * Mixes each image of a batch with the one as far from the end as it is from the start; all in the same way.
 *
 * @param images [B, H, W, C] normalised floats, changed in place.
 * @param shape B, H, W, C.
 * @returns Which share of each image is its own, 0 to 1: so much of the target is its own label, the rest the other's.
 */
export function mixImages(
  images: Float32Array,
  [batch, height, width, channels]: readonly [number, number, number, number],
  { mixup, cutmix }: MixOptions,
  random: Random,
): number {
  const cuts = cutmix > 0 && (mixup === 0 || random.uniform() < 0.5), alpha = cuts ? cutmix : mixup;
  let share = random.beta(alpha, alpha), [top, bottom, left, right] = [0, height, 0, width];
  if (cuts) {
    const side = Math.sqrt(1 - share), [h, w] = [height, width].map((x) => Math.trunc(x * side) >> 1);
    const y = random.integer(height), x = random.integer(width);
    [top, bottom] = [Math.max(0, y - h!), Math.min(height, y + h!)];
    [left, right] = [Math.max(0, x - w!), Math.min(width, x + w!)];
    share = 1 - (bottom - top) * (right - left) / (height * width);
  }
  const own = cuts ? 0 : share, size = height * width * channels;
  for (let i = 0, j = batch - 1; i < j; i++, j--) {
    for (let y = top; y < bottom; y++) {
      for (let at = (y * width + left) * channels; at < (y * width + right) * channels; at++) {
        const [a, b] = [images[i * size + at]!, images[j * size + at]!];
        images[i * size + at] = own * a + (1 - own) * b;
        images[j * size + at] = own * b + (1 - own) * a;
      }
    }
  }
  return share;
}

/**
 * The targets of mixed images.
 *
 * @param labels [B].
 * @param share From {@linkcode mixImages}.
 * @returns [B, classes], each row a distribution.
 */
export function mixedLabels(labels: Int32Array, classes: number, share: number): Float32Array {
  const shares = new Float32Array(labels.length * classes);
  labels.forEach((label, i) => {
    shares[i * classes + label]! += share;
    shares[i * classes + labels.at(-1 - i)!]! += 1 - share;
  });
  return shares;
}
