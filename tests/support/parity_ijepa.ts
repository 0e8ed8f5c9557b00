/** How far I-JEPA lies from the public code: forward, loss, gradients, averages, positions, schedules, and five updates. */
import * as tf from "@tensorflow/tfjs";
import { AdamW } from "../../lib/optim/adamw.ts";
import type { Engine } from "../../lib/engine/mod.ts";
import { fromOfficial } from "../../lib/files/model_folder.ts";
import { lossAndGradients } from "../../lib/base/gradient.ts";
import { type IJepa, ijepaLoss, type Masks } from "../../lib/model/ijepa.ts";
import { buildIJepa, fromPublic } from "../../lib/model/ijepa_files.ts";
import { layerNorm } from "../../lib/model/ops.ts";
import { positionTable } from "../../lib/model/patches.ts";
import { warmupCosine } from "../../lib/optim/schedule.ts";
import { type Fixture, images, type Measure, Measures, open, readTensors } from "./measures.ts";

interface Update {
  lr: number;
  weight_decay: number;
  momentum: number;
  loss: number;
  /** [B][K] and [M][B][n]. */
  context: number[][];
  target: number[][][];
}

interface Expected {
  config: { num_heads: number; layer_norm_eps?: number };
  schedule?: {
    [name: string]: number | number[] | Record<string, Pick<Update, "lr" | "weight_decay" | "momentum">>;
  };
  updates?: Update[];
}

/** The fixture's weights. */
async function load(name: string, { config }: Expected): Promise<IJepa> {
  const tensors = fromPublic(await readTensors(`${name}/model.safetensors`));
  return buildIJepa(name, tensors, {
    numAttentionHeads: config.num_heads,
    layerNormEps: config.layer_norm_eps ?? 1e-6,
  });
}

/** The values of what the public code calls `name`, in this toolkit's layout; query, key and value joined. */
function theirs(name: string, fixture: { get(name: string): ReturnType<Fixture["get"]> }, prefix: string) {
  const parts = [...fromPublic([[name, fixture.get(prefix + name)]])];
  return {
    names: parts.map(([part]) => part),
    data: parts.flatMap(([part, tensor]) => [...fromOfficial(part, tensor)]),
  };
}

const joined = async (tensors: (tf.Tensor | undefined)[]) =>
  (await Promise.all(tensors.map((x) => x!.data()))).flatMap((data) => [...data]);

/** Block by block, [B, M, n, D] to [M · B, n, D], as the public code has it. */
const byBlock = (x: tf.Tensor4D) => {
  const [B, M, n, D] = x.shape;
  return tf.transpose(x, [1, 0, 2, 3]).reshape([M * B, n, D]);
};

/** Masks as the fixtures have them, [M, B, n] for targets, to ours. */
function masksOf(fixture: Fixture): Masks {
  const int = ({ data, shape }: ReturnType<Fixture["get"]>) => tf.tensor(data, shape as number[], "int32");
  return tf.tidy(() => ({
    context: int(fixture.get("mask.context")) as tf.Tensor2D,
    targets: tf.transpose(int(fixture.get("mask.target")), [1, 0, 2]) as tf.Tensor3D,
  }));
}

async function forward(fixture: Fixture, model: IJepa, measures: Measures, compile: Engine["compile"]) {
  const input = images(fixture.get("pixel_values")), masks = masksOf(fixture);
  const whole = compile((input: tf.Tensor4D, masks: Masks) => {
    const outputs = model.forward(input, masks), target = model.forward(input).predictions;
    const { loss, gradients } = lossAndGradients(
      () => ijepaLoss(model.forward(input, masks)),
      model.parameters,
    );
    const named = Object.entries(gradients).map(([name, x]) => [`grad.${name}`, x]);
    return {
      ...{
        context: outputs.context,
        prediction: byBlock(outputs.predictions),
        target: byBlock(outputs.targets),
      },
      ...{ target_encoder_output: target, target_normalised: layerNorm(target, 1e-5) },
      ...{ encoder_unmasked_output: model.context.forward(input).predictions, loss },
      ...Object.fromEntries(named) as Record<string, tf.Tensor>,
    } as Record<string, tf.Tensor>;
  }, { name: "i-jepa" });
  const result = await whole(input, masks);
  for (const [name, x] of Object.entries(result)) {
    if (name.startsWith("grad.") || name === "loss") continue;
    measures.compare("I-JEPA outputs", await x.data(), fixture.get(name).data, 2e-5);
  }
  measures.compare("smooth-L1 loss", await result.loss!.data(), fixture.get("loss").data, 3e-6);
  for (const tensor of fixture.names(/^grad\./)) {
    const { names, data } = theirs(tensor.slice(5), fixture, "grad.");
    const got = await joined(names.map((name) => result[`grad.${name}`]));
    measures.compare("gradients, relative", got, data, 2e-5, true);
  }
  whole.dispose();
  tf.dispose([result, input, { ...masks }]);
}

async function averages(fixture: Fixture, model: IJepa, measures: Measures, compile: Engine["compile"]) {
  const names = fixture.names(/^ema[\d.]+\.target\./),
    momentum = Number(/^ema(\d+\.\d+)/.exec(names[0] ?? "")?.[1]);
  if (names.length === 0) return;
  const after = compile((momentum: tf.Scalar) => {
    model.after({ numbers: { momentum } });
    return momentum;
  }, { name: "average" });
  const given = tf.scalar(momentum);
  tf.dispose([await after(given), given]);
  for (const tensor of names) {
    const { names: [name], data } = theirs(
      tensor.slice(`ema${momentum}.`.length),
      fixture,
      `ema${momentum}.`,
    );
    if (name?.includes(".query.")) {
      const parts = ["query", "key", "value"].map((part) => model.state.get(name.replace("query", part)));
      measures.compare("ema", await joined(parts), data, 1e-6);
    } else measures.compare("ema", await joined([model.state.get(name!)]), data, 1e-6);
  }
  after.dispose();
}

/** Tables of positions, which no engine computes. */
function tables(fixture: Fixture, measures: Measures) {
  for (const name of fixture.names(/^pos_embed\./)) {
    const [, grid, size] = /grid(\d+)\.d(\d+)/.exec(name)!.map(Number);
    measures.compare("position tables", positionTable(size!, grid!, grid!), fixture.get(name).data, 1e-6);
  }
}

/** What the public code's schedules give at some updates. */
function schedules({ schedule }: Expected, measures: Measures) {
  if (!schedule) return;
  const number = (name: string) => schedule[name] as number,
    pair = (name: string) => schedule[name] as [number, number];
  const epoch = number("iterations_per_epoch"), steps = epoch * number("epochs");
  const rate = warmupCosine({
    ...{ start: number("start_lr"), peak: number("lr"), end: number("final_lr") },
    ...{ steps, warmupSteps: epoch * number("warmup_epochs") },
  });
  const [low, high] = pair("weight_decay"), [first, last] = pair("momentum");
  const decay = warmupCosine({ peak: low, end: high, steps, warmupSteps: 0 });
  for (const [k, expected] of Object.entries(schedule.at_update as Record<string, Update>)) {
    const got = [rate(+k + 1), decay(+k + 1), first + +k * (last - first) / steps];
    const wanted = [expected.lr, expected.weight_decay, expected.momentum];
    got.forEach((x, i) => measures.compare("schedules, relative", [x], [wanted[i]!], 1e-12, true));
  }
}

/** Lists as int32, with zeros up to `size`, and what says which count. */
function padded(lists: number[][], size: number): { index: number[][]; padding: tf.Tensor2D } {
  const fill = <T>(list: T[], with_: T) => Array.from({ length: size }, (_, i) => list[i] ?? with_);
  const count = lists[0]!.length, counts = Array.from({ length: size }, (_, i) => i < count ? 0 : -Infinity);
  return { index: lists.map((list) => fill(list, 0)), padding: tf.tensor2d(counts, [1, size]) };
}

/** The public loop's updates: one step, compiled once, whatever the masks. */
async function updates(name: string, json: Expected, measures: Measures, compile: Engine["compile"]) {
  const tensors = await readTensors(`${name}/updates.safetensors`), model = await load(name, json);
  const fixture = { get: (tensor: string) => tensors.get(tensor)! };
  const most = (lists: number[][][]) => Math.max(...lists.map(([first]) => first!.length));
  const K = most(json.updates!.map(({ context }) => context)),
    n = most(json.updates!.map(({ target }) => target[0]!));
  const optimizer = new AdamW(model.parameters, { betas: [0.9, 0.999] }), losses: number[] = [];
  const step = compile((input: tf.Tensor4D, masks: Masks, rates: tf.Tensor1D, momentum: tf.Scalar) => {
    const loss = () => ijepaLoss(model.forward(input, masks), masks.targetPadding);
    const { loss: value, gradients } = lossAndGradients(loss, model.parameters);
    optimizer.update(gradients, rates);
    model.after({ numbers: { momentum } });
    return value;
  }, { name: "i-jepa update" });
  for (const [k, { lr, weight_decay, momentum, context, target }] of json.updates!.entries()) {
    const seen = padded(context, K), asked = padded(target.flat(), n), B = context.length;
    const flat = tf.tensor3d(asked.index.flat(), [target.length, B, n], "int32");
    const masks = {
      ...{ context: tf.tensor2d(seen.index.flat(), [B, K], "int32"), contextPadding: seen.padding },
      ...{ targets: tf.transpose(flat, [1, 0, 2]), targetPadding: asked.padding },
    };
    const input = images(fixture.get(`update.${k}.pixel_values`));
    const inputs = [input, masks, optimizer.rates(k, [lr], weight_decay), tf.scalar(momentum)] as const;
    const loss = await step(...inputs);
    losses.push((await loss.data())[0]!);
    tf.dispose([loss, flat, ...inputs] as tf.TensorContainer);
  }
  measures.compare("smooth-L1 loss", losses, json.updates!.map(({ loss }) => loss), 3e-6);
  const all = new Map([...model.parameters, ...model.state]), apart: number[] = [];
  for (const tensor of [...tensors.keys()].filter((name) => name.startsWith("updated."))) {
    const { names, data } = theirs(tensor.slice("updated.".length), fixture, "updated.");
    const got = await joined(names.map((part) => all.get(part))), third = got.length / 3;
    got.forEach((x, i) => {
      // a key's bias moves all scores alike: its gradient is rounding, which the optimizer makes large
      const isKey = tensor.endsWith("qkv.bias") && i >= third && i < 2 * third;
      if (!isKey) apart.push(Math.abs(x - data[i]!));
    });
  }
  apart.sort((a, b) => a - b);
  measures.compare("optim parameters", [apart.at(-1)!], [0], 3e-5);
  measures.compare("optim parameters, 99.9 %", [apart[Math.floor(0.999 * (apart.length - 1))]!], [0], 2e-6);
  step.dispose();
  optimizer.dispose();
  model.dispose();
}

/** All that a folder of the kind "ijepa" holds, but for its masks' statistics. */
export async function ijepa(name: string, compile: Engine["compile"]): Promise<Measure[]> {
  const fixture = await open(name), measures = new Measures(name), json = fixture.json as unknown as Expected;
  const model = await load(name, json);
  tables(fixture, measures);
  schedules(json, measures);
  await forward(fixture, model, measures, compile);
  await averages(fixture, model, measures, compile);
  model.dispose();
  if (json.updates) await updates(name, json, measures, compile);
  return measures.all;
}
