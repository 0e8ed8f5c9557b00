/** How far training lies from the official code: the optimizer, averaged weights, learning rates. */
import * as tf from "@tensorflow/tfjs";
import { AdamW, clipByGlobalNorm } from "../../lib/optim/adamw.ts";
import { nepaLoss } from "../../lib/model/nepa.ts";
import { Ema } from "../../lib/optim/ema.ts";
import type { Engine } from "../../lib/engine/mod.ts";
import { fromOfficial } from "../../lib/files/model_folder.ts";
import { lossAndGradients } from "../../lib/base/gradient.ts";
import { Nepa } from "../../lib/model/nepa.ts";
import { warmupCosine } from "../../lib/optim/schedule.ts";

import { type Fixture, folder, images, type Measure, Measures, open } from "./measures.ts";

interface OptimisationRun {
  max_grad_norm: number | null;
  losses: number[];
  grad_norms_before_clipping: number[];
}

/** Five updates of AdamW with each way of clipping, and their averaged weights. */
export async function optimisation(name: string, compile: Engine["compile"]): Promise<Measure[]> {
  const fixture = await open(name),
    measures = new Measures(name),
    json = fixture.json as unknown as
      & { weights: string; base_lr: number; total_steps: number; warmup_steps: number; steps_run: number }
      & { lr_used: number[]; ema_decay: number }
      & Record<string, OptimisationRun>;
  const rate = warmupCosine({ peak: json.base_lr, steps: json.total_steps, warmupSteps: json.warmup_steps });
  measures.compare(
    "learning rates, relative",
    json.lr_used.map((_, k) => rate(k)),
    json.lr_used,
    1e-12,
    true,
  );
  const input = images(fixture.get("pixel_values"));
  for (const way of ["clip1", "noclip", "clip0.1"]) {
    const model = await Nepa.load(folder + json.weights), average = model.clone(), run = json[way]!;
    const optimizer = new AdamW(model.parameters), ema = new Ema(model.parameters, average.parameters);
    const update = compile((input: tf.Tensor4D, rates: tf.Tensor1D, decay: tf.Scalar) => {
      const { loss, gradients } = lossAndGradients(() => nepaLoss(model.forward(input)), model.parameters);
      const { clipped, norm } = clipByGlobalNorm(gradients, run.max_grad_norm ?? Infinity);
      optimizer.update(clipped, rates, tf.isFinite(norm));
      ema.update(decay);
      return { loss, norm };
    }, { name: way });
    const losses: number[] = [], norms: number[] = [];
    for (let k = 0; k < json.steps_run; k++) {
      const rates = optimizer.rates(k, [rate(k)]), decay = tf.scalar(Ema.decayAt(k, json.ema_decay));
      const { loss, norm } = await update(input, rates, decay);
      losses.push((await loss.data())[0]!);
      norms.push((await norm.data())[0]!);
      tf.dispose([loss, norm, rates, decay]);
    }
    const last = tf.tidy(() => nepaLoss(model.forward(input)));
    measures.compare("optim losses", [...losses, (await last.data())[0]!], run.losses, 1e-6);
    measures.compare("optim gradient norms, relative", norms, run.grad_norms_before_clipping, 2e-5, true);
    await compareParameters(measures, fixture, `${way}.param.`, model);
    if (way === "clip1") await compareParameters(measures, fixture, "ema.", average);
    update.dispose();
    optimizer.dispose();
    last.dispose();
    model.dispose();
    average.dispose();
  }
  input.dispose();
  return measures.all;
}

/** The largest difference over all of a model's parameters, and what 99.9 % of the numbers stay below. */
async function compareParameters(
  measures: Measures,
  fixture: Fixture,
  prefix: string,
  model: Nepa,
): Promise<void> {
  const differences: number[] = [];
  for (const name of fixture.names(new RegExp(`^${prefix.replaceAll(".", "\\.")}`))) {
    const parameter = name.slice(prefix.length), expected = fromOfficial(parameter, fixture.get(name));
    const got = await model.parameters.get(parameter)!.data();
    for (let i = 0; i < got.length; i++) differences.push(Math.abs(got[i]! - expected[i]!));
  }
  differences.sort((a, b) => a - b);
  const most = differences[Math.floor(0.999 * (differences.length - 1))]!;
  const quantity = prefix === "ema." ? "optim averaged weights" : "optim parameters";
  measures.compare(quantity, [differences.at(-1)!], [0], 3e-5);
  measures.compare(`${quantity}, 99.9 %`, [most], [0], 2e-6);
}

/** Averages of weights that change by hand. */
export async function ema(compile: Engine["compile"]): Promise<Measure[]> {
  const fixture = await open("ema"), measures = new Measures("ema");
  const { decays, updates } = fixture.json as unknown as { decays: number[]; updates: number };
  const names = fixture.names(/^weights\.0\./).map((name) => name.slice("weights.0.".length));
  const weight = (k: number, name: string) => {
    const { data, shape } = fixture.get(`weights.${k}.${name}`);
    return tf.tensor(data, shape as number[]);
  };
  for (const decay of decays) {
    const make = () =>
      new Map(names.map((name) => [name, tf.tidy(() => tf.variable(tf.zerosLike(weight(0, name))))]));
    const weights = make(), averages = make(), ema = new Ema(weights, averages);
    const update = compile((keep: tf.Scalar) => {
      ema.update(keep);
      return keep;
    }, { name: "ema" });
    for (let k = 0; k < updates; k++) {
      tf.tidy(() => names.forEach((name) => weights.get(name)!.assign(weight(k, name))));
      const keep = tf.scalar(Ema.decayAt(k, decay));
      tf.dispose([await update(keep), keep]);
      for (const name of names) {
        const expected = fixture.get(`ema${decay}.${k}.${name}`).data;
        measures.compare("ema", await averages.get(name)!.data(), expected, 1e-6);
      }
    }
    update.dispose();
    tf.dispose([...weights.values(), ...averages.values()]);
  }
  return measures.all;
}

/** Learning rates, which no engine computes. */
export async function schedules(): Promise<Measure[]> {
  const measures = new Measures("schedules");
  const { schedules } = JSON.parse(await Deno.readTextFile(`${folder}schedules/pretrain.json`)) as {
    schedules: { base_lr: number; total_steps: number; warmup_steps: number; lr: Record<string, number> }[];
  };
  for (const { base_lr: peak, total_steps: steps, warmup_steps: warmupSteps, lr } of schedules) {
    const rate = warmupCosine({ peak, steps, warmupSteps });
    for (const [k, expected] of Object.entries(lr)) {
      const tolerance = expected === 0 ? 0 : 1e-12;
      measures.compare("learning rates, relative", [rate(Number(k))], [expected], tolerance, expected !== 0);
    }
  }
  return measures.all;
}
