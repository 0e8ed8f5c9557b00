/** How far this toolkit's numbers lie from the official code's: shared by the test and by the table of `bench/parity.ts`. */
import { dirname } from "node:path";
import * as tf from "@tensorflow/tfjs";
import { collapse } from "../../lib/eval/collapse.ts";
import { attentionMap, displayContrast, predictionMap } from "../../lib/plot/maps.ts";
import { augmentCoordinates, patchCoordinates, ropeFrequencies, rotation } from "../../lib/model/rope.ts";
import { nepaLoss } from "../../lib/model/nepa.ts";
import { crossEntropy } from "../../lib/model/ops.ts";
import { type Engine, useEngine } from "../../lib/engine/mod.ts";
import { findAdapter } from "../../lib/engine/webgpu.ts";
import { fromOfficial } from "../../lib/files/model_folder.ts";
import { lossAndGradients } from "../../lib/base/gradient.ts";
import { Nepa } from "../../lib/model/nepa.ts";
import { nepaConfig } from "../../lib/model/config.ts";
import { NepaClassifier } from "../../lib/model/classifier.ts";
import { uncompiled } from "../../lib/engine/uncompiled.ts";

import { at, type Fixture, folder, images, type Measure, Measures, open, readTensors } from "./measures.ts";
import { ijepa } from "./parity_ijepa.ts";
import { miou } from "./parity_scores.ts";
import { segmentation } from "./parity_segmentation.ts";
import { ema, optimisation, schedules } from "./parity_training.ts";

export type { Measure };

/** A way to run a function of tensors. */
export interface Way {
  name: string;
  open(): Promise<Engine["compile"]>;
  /** Why it cannot be had here. */
  missing?: string;
}

const withEngine =
  (name: "wasm" | "tensorflow" | "webgpu", how: (engine: Engine) => Engine["compile"]) => async () =>
    how(await useEngine(name));

/** The ways that have to agree with the official code. */
export const ways: readonly Way[] = [
  { name: "wasm", open: withEngine("wasm", () => uncompiled) },
  { name: "tensorflow, op by op", open: withEngine("tensorflow", () => uncompiled) },
  {
    name: "tensorflow, graph",
    open: withEngine("tensorflow", ({ compile }) => (fn, options) => compile(fn, { ...options, xla: false })),
  },
  { name: "tensorflow, compiled", open: withEngine("tensorflow", ({ compile }) => compile) },
  {
    name: "webgpu",
    open: withEngine("webgpu", () => uncompiled),
    ...(!await findAdapter() && { missing: "Deno finds no adapter" }),
  },
];

type Result = Record<string, tf.Tensor>;

/** Outputs of a forward, the loss and its gradients under the fixtures' names. */
function named(
  outputs: ReturnType<Nepa["forward"]>,
  { loss, gradients }: ReturnType<typeof lossAndGradients>,
): Result {
  const list = (name: string, tensors: tf.Tensor[] = []) =>
    tensors.map((t, i) => [`${name}.${i}`, t] as const);
  return {
    input_embedding: outputs.embeddings,
    last_hidden_state: outputs.predictions,
    ...Object.fromEntries(list("hidden", outputs.hidden)),
    ...Object.fromEntries(list("attention", outputs.attentions)),
    loss,
    ...Object.fromEntries(Object.entries(gradients).map(([name, gradient]) => [`grad.${name}`, gradient])),
  };
}

const tolerances: [RegExp, string, number, boolean?][] = [
  [/^input_embedding$/, "input_embedding", 3e-6],
  [/^attention\./, "attention", 5e-6],
  [/^hidden\./, "hidden", 4e-5],
  [/last_hidden_state$/, "last_hidden_state", 2e-5],
  [/^(pooled|logits)$/, "pooled, logits", 2e-5],
  [/^grad\./, "gradients, relative", 2e-5, true],
  [/\.grad\./, "gradients of the ablations, relative", 2e-5, true],
];

async function compareAll(measures: Measures, fixture: Fixture, result: Result, prefix = ""): Promise<void> {
  for (const [name, tensor] of Object.entries(result)) {
    if (name === "loss" || name.endsWith(".loss")) continue;
    const [, quantity, tolerance, relative] = tolerances.find(([pattern]) => pattern.test(prefix + name))!;
    const expected = fixture.get(prefix + name), [, parameter] = name.split("grad.");
    const numbers = parameter === undefined ? expected.data : fromOfficial(parameter, expected);
    measures.compare(quantity, await tensor.data(), numbers, tolerance, relative);
  }
}

/** Outputs, loss, gradients and ablations of a pretraining model. */
async function pretrain(name: string, compile: Engine["compile"], weights = name): Promise<Measure[]> {
  const fixture = await open(name), measures = new Measures(name), model = await Nepa.load(at(weights));
  const input = images(fixture.get("pixel_values"));
  const whole = compile((input: tf.Tensor4D) =>
    named(
      model.forward(input, { hidden: true, attentions: true }),
      lossAndGradients(() => nepaLoss(model.forward(input)), model.parameters),
    ), { name });
  const result = await whole(input);
  await compareAll(measures, fixture, result);
  measures.compare("cosine loss", await result.loss!.data(), fixture.get("loss").data, 3e-7);
  whole.dispose();
  tf.dispose(result);
  const ablations = {
    no_shift: [{}, { shift: false }],
    non_causal: [{ causal: false }, {}],
    no_stop_grad: [{}, { stopGradient: false }],
  } as const;
  for (const [ablation, [forward, objective]] of Object.entries(ablations)) {
    const gradientNames = fixture.names(new RegExp(`^${ablation}\\.grad\\.`)).map((n) =>
      n.slice(`${ablation}.grad.`.length)
    );
    if (gradientNames.length === 0) continue; // the non-square fixture has none
    const parameters = new Map(gradientNames.map((n) => [n, model.parameters.get(n)!]));
    const ablated = compile((input: tf.Tensor4D): Result => {
      const { predictions } = model.forward(input, forward);
      const { loss, gradients } = lossAndGradients(
        () => nepaLoss(model.forward(input, forward), objective),
        parameters,
      );
      const grads = Object.entries(gradients).map(([n, gradient]) => [`grad.${n}`, gradient]);
      return {
        loss,
        ...(ablation === "non_causal" && { last_hidden_state: predictions }),
        ...Object.fromEntries(grads),
      };
    }, { name: `${name} ${ablation}` });
    const result = await ablated(input);
    await compareAll(measures, fixture, result, `${ablation}.`);
    const expected = fixture.get(`${ablation}.loss`).data;
    measures.compare("cosine loss of the ablations", await result.loss!.data(), expected, 3e-7);
    ablated.dispose();
    tf.dispose(result);
  }
  input.dispose();
  model.dispose();
  return measures.all;
}

/** Outputs, losses and gradients of a classifier. */
async function classify(name: string, compile: Engine["compile"]): Promise<Measure[]> {
  const fixture = await open(name), measures = new Measures(name);
  const classifier = await NepaClassifier.load(at(name)), input = images(fixture.get("pixel_values"));
  const labels = tf.tensor1d(fixture.get("labels").data as Int32Array, "int32");
  const soft = fixture.get("soft_labels"), shares = tf.tensor2d(soft.data, soft.shape as [number, number]);
  const whole = compile((input: tf.Tensor4D, labels: tf.Tensor1D, shares: tf.Tensor2D): Result => {
    const outputs = classifier.forward(input, { hidden: true, attentions: true }),
      { logits, pooled } = outputs;
    const loss = () => crossEntropy(classifier.forward(input).logits, labels);
    const { input_embedding: _, ...rest } = named(outputs, lossAndGradients(loss, classifier.parameters));
    return {
      ...rest,
      pooled,
      logits,
      "soft_target.loss": crossEntropy(logits, shares),
      "soft_target_smoothing0.1.loss": crossEntropy(logits, shares, 0.1),
    };
  }, { name });
  const result = await whole(input, labels, shares);
  await compareAll(measures, fixture, result);
  for (const loss of ["loss", "soft_target.loss", "soft_target_smoothing0.1.loss"]) {
    measures.compare("cross-entropy", await result[loss]!.data(), fixture.get(loss).data, 3e-6);
  }
  whole.dispose();
  tf.dispose([result, input, labels, shares]);
  classifier.dispose();
  return measures.all;
}

/** Rotary tables, with and without augmentation. */
async function rope(compile: Engine["compile"]): Promise<Measure[]> {
  const fixture = await open("rope"), measures = new Measures("rope");
  const { tables, augmented } = fixture.json as unknown as {
    tables: Record<string, { grid: [number, number]; head_dim: number; theta: number }>;
    augmented: Record<string, {
      grid: [number, number];
      head_dim: number;
      draws: { what: string; log: boolean; values: number[] }[];
    }>;
  };
  const config = (headSize: number, ropeTheta = 100) =>
    nepaConfig({ hiddenSize: headSize, numAttentionHeads: 1, ropeTheta });
  const patchesOnly = (x: tf.Tensor2D) => tf.slice(x, [1, 0]); // the first row is CLS
  for (const [key, { grid, head_dim, theta }] of Object.entries(tables)) {
    const tables = rotation(config(head_dim, theta), ...grid);
    const frequencies = ropeFrequencies(head_dim, theta).map((frequency) => frequency / (2 * Math.PI));
    measures.compare("rope coordinates", patchCoordinates(...grid), fixture.get(`${key}.coords`).data, 3e-6);
    measures.compare("rope frequencies", frequencies, fixture.get(`${key}.inv_freq`).data, 3e-6);
    for (const part of ["cos", "sin"] as const) {
      const rows = patchesOnly(tables[part]);
      measures.compare("rope cos, sin", await rows.data(), fixture.get(`${key}.${part}`).data, 3e-6);
      tf.dispose([rows, tables[part]]);
    }
  }
  for (const [key, { grid, head_dim, draws }] of Object.entries(augmented)) {
    const names = draws.map(({ what }) => `rope${what[0]!.toUpperCase()}${what.slice(1)}`);
    const drawn = draws.map(({ log, values }) => tf.tensor1d(log ? values.map(Math.exp) : values));
    const augment = compile((...drawn: tf.Tensor1D[]) => {
      const draws = Object.fromEntries(names.map((name, i) => [name, drawn[i]!]));
      const { cos, sin } = rotation(config(head_dim), ...grid, draws);
      const centres = tf.tensor2d(patchCoordinates(...grid), [grid[0] * grid[1], 2]);
      return { coords: augmentCoordinates(centres, draws), cos: patchesOnly(cos), sin: patchesOnly(sin) };
    }, { name: "rope" });
    const result = await augment(...drawn);
    for (const [part, tensor] of Object.entries(result)) {
      const quantity = part === "coords" ? "rope coordinates, augmented" : "rope cos, sin, augmented";
      measures.compare(quantity, await tensor.data(), fixture.get(`aug.${key}.${part}`).data, 3e-6);
    }
    augment.dispose();
    tf.dispose([result, drawn]);
  }
  return measures.all;
}

/** Attention and prediction maps. */
async function viz(name: string, compile: Engine["compile"]): Promise<Measure[]> {
  const fixture = await open(name), measures = new Measures(name);
  const { weights, token } = fixture.json as unknown as { weights: string; token: number };
  const model = await Nepa.load(folder + weights), input = images(fixture.get("pixel_values"));
  const maps = compile((input: tf.Tensor4D): Result => {
    const outputs = model.forward(input, { attentions: true }), all = outputs.attentions!;
    const result: Result = {
      "prediction.plain": predictionMap(outputs, token),
      "prediction.top_p1": predictionMap(outputs, token, { topP: 1, renormalize: true }),
      "prediction.top_p0.5": predictionMap(outputs, token, { topP: 0.5, renormalize: true }),
      "prediction.top_p0.5_not_renormalised": predictionMap(outputs, token, { topP: 0.5 }),
      "prediction.cosine": predictionMap(outputs, token, { scale: "cosine" }),
    };
    for (const heads of ["mean", "max"] as const) {
      result[`attention.layers_all.${heads}`] = attentionMap(all, token, { heads });
      for (const layers of [[0], [2], [-1], [0, 2]]) {
        const blocks = layers.map((layer) => (layer + all.length) % all.length + 1); // the fixture's count from 0
        result[`attention.layers_${layers.join("+")}.${heads}`] = attentionMap(all, token, { heads, blocks });
      }
    }
    return result;
  }, { name });
  const result = await maps(input);
  for (const [map, tensor] of Object.entries(result)) {
    measures.compare("viz", await tensor.data(), fixture.get(map).data, 5e-6);
  }
  const displays = {
    "attention.display": ["attention.layers_all.mean", 0.25],
    "prediction.display": ["prediction.top_p1", 10],
  } as const;
  for (const [display, [map, gamma]] of Object.entries(displays)) {
    measures.compare(
      "viz",
      displayContrast(await result[map]!.data(), gamma),
      fixture.get(display).data,
      5e-6,
    );
  }
  maps.dispose();
  tf.dispose([result, input]);
  model.dispose();
  return measures.all;
}

/** Spread, rank and likeness. */
async function collapsed(): Promise<Measure[]> {
  const tensors = await readTensors("collapse/embeddings.safetensors");
  const json = JSON.parse(await Deno.readTextFile(`${folder}collapse/expect.json`)),
    measures = new Measures("collapse");
  for (const [name, { data, shape }] of tensors) {
    const embeddings = tf.tensor2d(data, shape as [number, number]), got = await collapse(embeddings);
    const { feature_std, effective_rank, mean_pairwise_cosine } = json[name];
    if (feature_std < 1e-6) {
      measures.compare("collapse, std of rank 1", [got.featureStd], [feature_std], 1e-6);
    } else measures.compare("collapse, relative", [got.featureStd], [feature_std], 1e-4, true);
    measures.compare("collapse, relative", [got.effectiveRank], [effective_rank], 1e-4, true);
    measures.compare("collapse, relative", [got.meanCosine], [mean_pairwise_cosine], 1e-4, true);
    embeddings.dispose();
  }
  return measures.all;
}

/** Every fixture and how it is measured, with the function that runs tensors. */
export const fixtures: ReadonlyMap<string, (compile: Engine["compile"]) => Promise<Measure[]>> = new Map([
  ...["pretrain-a", "pretrain-b", "pretrain-c", "pretrain-d"].map((name) =>
    [name, (compile: Engine["compile"]) => pretrain(name, compile)] as const
  ),
  ["pretrain-a-nonsquare", (compile) => pretrain("pretrain-a-nonsquare", compile, "pretrain-a")],
  ["classify-pool", (compile) => classify("classify-pool", compile)],
  ["classify-last", (compile) => classify("classify-last", compile)],
  ["rope", rope],
  ["optim-a", (compile) => optimisation("optim-a", compile)],
  ["ema", ema],
  ["viz", (compile) => viz("viz", compile)],
  ["schedules", schedules],
  ["ijepa", (compile) => ijepa("ijepa", compile)],
  ["collapse", collapsed],
  ["miou", (compile) => miou("miou", compile)],
  ...["segment-linear", "segment-upernet"].map((name) =>
    [name, (compile: Engine["compile"]) => segmentation(name, compile)] as const
  ),
]);

/** How a folder in the fixtures' format is measured, by the `kind` in its `expect.json`. */
export const kinds: Readonly<
  Record<string, (path: string, compile: Engine["compile"]) => Promise<Measure[]>>
> = {
  async pretrain(path, compile) {
    const { json } = await open(path), { weights } = json as { weights?: string };
    return await pretrain(path, compile, weights ? `${dirname(path)}/${weights}` : path);
  },
  classification: (path, compile) => classify(path, compile),
  ijepa,
  miou,
  segmentation,
};
