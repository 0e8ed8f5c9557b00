/** Other orders and other masks: each image read in an order of its own, or with a beginning that sees all of itself. @module */
import { type Nepa, nepaLoss, type Objective, perImage, tf } from "nepa";

/** The patches of each image in random order: a permutation [B, N] for `forward`, fresh at every update. */
export function anyOrder(patches: number): Objective {
  return {
    name: "any order",
    draws: ({ batchSize, random }) => {
      const orders = Array.from({ length: batchSize }, () => [...random.permutation(patches)]);
      return { order: perImage(tf.tensor2d(orders, [batchSize, patches], "int32")) };
    },
    loss: ({ model, images, draws }) =>
      nepaLoss(model.forward(images, { draws, order: draws.order as tf.Tensor2D })),
  };
}

/** Which tokens see which, where the first `prefix` see each other: [T, T], 0 or −Infinity. */
export function prefixMask(tokens: number, prefix: number): number[][] {
  const row = (t: number) => Array.from({ length: tokens }, (_, s) => s <= t || s < prefix ? 0 : -Infinity); // t reads s
  return Array.from({ length: tokens }, (_, t) => row(t));
}

/** The first tokens of each image, from 1 to all but one, are given whole; the patches after them are predicted one by one. */
export function prefixCausal(model: Nepa): Objective {
  const tokens = 1 + (model.config.imageSize / model.config.patchSize) ** 2;
  return {
    name: "prefix-causal",
    draws: ({ batchSize, random }) => {
      const prefixes = Array.from({ length: batchSize }, () => 1 + random.integer(tokens - 1));
      const masks = prefixes.map((prefix) => [prefixMask(tokens, prefix)]);
      const where = prefixes.map((prefix) =>
        Array.from({ length: tokens }, (_, t) => Number(t >= prefix - 1))
      );
      return { mask: perImage(tf.tensor4d(masks)), where: perImage(tf.tensor2d(where)) };
    },
    loss: ({ model, images, draws }) =>
      nepaLoss(model.forward(images, { draws, mask: draws.mask }), { where: draws.where! }),
  };
}
