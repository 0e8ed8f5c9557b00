/** The gradient of bilinear resizing, right for all of its conventions. @module */
import * as tf from "@tensorflow/tfjs";

/** Where pixels' places are measured from. */
export interface Convention {
  alignCorners: boolean;
  halfPixelCenters: boolean;
}

/** How much each of `from` pixels gives to each of `to`, the two next ones: [to, from]. */
export function bilinear(
  { alignCorners, halfPixelCenters }: Convention,
  from: number,
  to: number,
): tf.Tensor2D {
  const step = alignCorners && to > 1 ? (from - 1) / (to - 1) : from / to,
    weights = new Float32Array(to * from);
  for (let i = 0; i < to; i++) {
    const place = halfPixelCenters ? (i + 0.5) * step - 0.5 : i * step, low = Math.floor(place);
    weights[i * from + Math.max(low, 0)]! += 1 - (place - low);
    weights[i * from + Math.min(Math.ceil(place), from - 1)]! += place - low;
  }
  return tf.tensor2d(weights, [to, from]);
}

/** dy [B, H', W', C], x [B, H, W, C] -> [B, H, W, C]: resizing is a product with a matrix along each side. */
export function bilinearGradient(dy: tf.Tensor4D, x: tf.Tensor4D, convention: Convention): tf.Tensor {
  const [batch, height, width, channels] = x.shape, [, toHeight, toWidth] = dy.shape;
  const down = tf.expandDims(bilinear(convention, height, toHeight)), // [1, H', H]
    across = tf.expandDims(bilinear(convention, width, toWidth)); // [1, W', W]
  const rows = tf.matMul(down, tf.reshape(dy, [batch, toHeight, toWidth * channels]), true); // [B, H, W' × C]
  const all = tf.matMul(across, tf.reshape(rows, [batch * height, toWidth, channels]), true); // [B × H, W, C]
  return tf.reshape(all, x.shape); // [B × H, W, C] -> [B, H, W, C]
}
