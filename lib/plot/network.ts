/** Networks show their layers and parameters as a table. Imported for its effect. @module */
import { showAs } from "../display/jupyter.ts";
import { Table } from "../display/table.ts";
import { IJepa } from "../model/ijepa.ts";
import { Network, prefixOf } from "../model/network.ts";

showAs(Network.prototype, summary);

showAs(IJepa.prototype, threeNetworks);

/** The layer that a parameter belongs to. */
function layerOf(name: string): string {
  const block = /encoder\.layer\.(\d+)\./.exec(name)?.[1];
  if (block !== undefined) return `block ${Number(block) + 1}`;
  if (name.includes(".embeddings.")) return "embedding";
  return /^\w+\.layernorm\./.test(name) ? "final norm" : name.split(".")[0]!;
}

/** How many numbers parameters have. */
const sizeOf = (parameters: Iterable<readonly [string, { size: number }]>) =>
  [...parameters].reduce((sum, [, { size }]) => sum + size, 0);

/** A row for the embedding, for each block, and for what comes after. */
function summary(network: Network): Table {
  const { config, parameters, parameterCount } = network;
  const { imageSize, patchSize: p, numChannels: C } = config;
  const patches = (imageSize / p) ** 2, tokens = patches + (config.positions ? 0 : 1);
  const rows = [...Map.groupBy(parameters, ([name]) => layerOf(name))].map(([layer, own]) => {
    const [name, { shape }] = own[0]!, inside = name.startsWith(prefixOf(config));
    const output = inside ? `[B, ${tokens}, ${config.hiddenSize}]` : `[B, ${shape.at(-1)}]`;
    return { layer, output, tensors: own.length, parameters: sizeOf(own) };
  });
  const note =
    `${parameterCount.toLocaleString("en-US")} parameters, ${patches} patches of ${p}×${p}×${C}, ` +
    `${config.numAttentionHeads} heads, ${config.isCausal ? "causal" : "bidirectional"}`;
  return new Table(rows, { title: network.constructor.name, note });
}

/** A row for each of I-JEPA's networks. */
function threeNetworks({ config, parameters, state, parameterCount }: IJepa): Table {
  const { imageSize, patchSize: p, numChannels: C, hiddenSize: D, predictorHiddenSize: P } = config;
  const of = (prefix: string) => sizeOf([...parameters].filter(([name]) => name.startsWith(prefix)));
  const encoder = { blocks: config.numHiddenLayers, width: D };
  const rows = [
    { network: "context encoder", ...encoder, parameters: of("context.") },
    { network: "predictor", blocks: config.predictorNumHiddenLayers, width: P, parameters: of("predictor.") },
    { network: "target encoder", ...encoder, parameters: sizeOf(state) },
  ];
  const note = `${parameterCount.toLocaleString("en-US")} parameters, ${(imageSize / p) ** 2} patches of ` +
    `${p}×${p}×${C}, ${config.numAttentionHeads} heads, ${config.masks} masks`;
  return new Table(rows, { title: "IJepa", note });
}
