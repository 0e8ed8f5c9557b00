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

/** A row for the embedding, for each block, and for what comes after. */
function summary(network: Network): Table {
  const { config, parameters, parameterCount } = network;
  const { imageSize, patchSize: p, numChannels: C } = config;
  const rows = new Map<string, { layer: string; output: string; tensors: number; parameters: number }>();
  const patches = (imageSize / p) ** 2, tokens = patches + (config.positions ? 0 : 1);
  for (const [name, { size, shape }] of parameters) {
    const layer = layerOf(name), inside = name.startsWith(prefixOf(config));
    const output = inside ? `[B, ${tokens}, ${config.hiddenSize}]` : `[B, ${shape.at(-1)}]`;
    const row = rows.get(layer) ?? { layer, output, tensors: 0, parameters: 0 };
    rows.set(layer, { ...row, tensors: row.tensors + 1, parameters: row.parameters + size });
  }
  const note =
    `${parameterCount.toLocaleString("en-US")} parameters, ${patches} patches of ${p}×${p}×${C}, ` +
    `${config.numAttentionHeads} heads, ${config.isCausal ? "causal" : "bidirectional"}`;
  return new Table([...rows.values()], { title: network.constructor.name, note });
}

/** A row for each of I-JEPA's networks. */
function threeNetworks({ config, parameters, state, parameterCount }: IJepa): Table {
  const { imageSize, patchSize: p, numChannels: C, hiddenSize: D, predictorHiddenSize: P } = config;
  const size = (some: Iterable<readonly [string, { size: number }]>) =>
    [...some].reduce((sum, [, { size }]) => sum + size, 0);
  const of = (prefix: string) => size([...parameters].filter(([name]) => name.startsWith(prefix)));
  const encoder = { blocks: config.numHiddenLayers, width: D };
  const rows = [
    { network: "context encoder", ...encoder, parameters: of("context.") },
    { network: "predictor", blocks: config.predictorNumHiddenLayers, width: P, parameters: of("predictor.") },
    { network: "target encoder", ...encoder, parameters: size(state) },
  ];
  const note = `${parameterCount.toLocaleString("en-US")} parameters, ${(imageSize / p) ** 2} patches of ` +
    `${p}×${p}×${C}, ${config.numAttentionHeads} heads, ${config.masks} masks`;
  return new Table(rows, { title: "IJepa", note });
}
