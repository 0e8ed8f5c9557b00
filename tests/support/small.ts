/** A small network for Fashion-MNIST's images; tests add to it what they are about. */
export const small = {
  imageSize: 28,
  patchSize: 7,
  numChannels: 1,
  hiddenSize: 32,
  numHiddenLayers: 2,
  numAttentionHeads: 2,
  intermediateSize: 64,
} as const;
