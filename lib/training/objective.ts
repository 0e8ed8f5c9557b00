/** What is trained: a method, or a model and the objective that changes what it is trained for, as one. @module */
import * as tf from "@tensorflow/tfjs";
import { checkOptions, expect, type Rule } from "../base/check.ts";
import * as is from "../base/check.ts";
import type { LossOutput } from "../base/gradient.ts";
import { type Draws, guardedDraws, imageAxis } from "../base/random.ts";
import type { AfterContext, LossContext, Method, Objective, Outputs } from "../model/method.ts";
import type { TrainingBatch } from "./compiled_step.ts";
import { type Numbers, updateRandom } from "./step.ts";
import { METER } from "./history.ts";
import { isCosine } from "../model/nepa.ts";
import type { Savable } from "./checkpoints.ts";

type Variables = ReadonlyMap<string, tf.Variable>;

/** A model and its objective, if it has one of its own, joined. */
export interface Trained {
  readonly name: string;
  readonly model: Method;
  readonly views: number;
  /** The model's parameters, then the objective's. */
  readonly parameters: Variables;
  /** Of both. */
  readonly state: Variables;
  /** Both as they are now, where somebody may have added to them. */
  present(): Iterable<readonly [string, tf.Variable]>;
  /** The objective's own, which are kept beside the model. */
  readonly own: { readonly parameters: Variables; readonly state: Variables };
  /** The random numbers of batch `batch`, from 0. */
  draws(batchSize: number, seed: number, batch: number): Draws;
  numbers(k: number, steps: number): Record<string, number>;
  loss(batch: TrainingBatch, draws: Draws, numbers: Numbers, training?: boolean): LossOutput;
  /** The embeddings [B, T, D] that the meter watches, computed with the loss. */
  read(batch: TrainingBatch, draws: Draws, numbers: Numbers): { targets: tf.Tensor3D; loss: LossOutput };
  after: ((batch: TrainingBatch, draws: Draws, numbers: Numbers) => void) | undefined;
  /** Whether the loss is minus a cosine, as far as it was computed. */
  cosine(): boolean;
  /** What a resumed run has to have the same. */
  readonly about: Record<string, unknown>;
}

const RULES: Record<keyof Objective, Rule> = {
  ...{ name: is.text, config: ["an object", (value) => typeof value === "object"], views: is.count },
  ...{ parameters: is.any, state: is.any, draws: is.callable, numbers: is.callable, loss: is.callable },
  ...{ targets: is.callable, after: is.callable },
};

/** Variables by name: a Map, or a record of them. */
function variables(where: string, given: unknown): Map<string, tf.Variable> {
  const entries = given instanceof Map ? [...given] : Object.entries(given ?? {});
  for (const [name, variable] of entries) {
    if (variable instanceof tf.Variable) continue;
    throw new TypeError(`${where}: expected tf.variable by name, got ${name}: ${String(variable)}`);
  }
  return new Map(entries);
}

/** Two sets of named things as one; a name that both have is refused. */
function joined<T>(
  what: string,
  first: Iterable<readonly [string, T]>,
  second: Iterable<readonly [string, T]>,
) {
  const all = new Map(first), names = new Map([...all].map(([name, value]) => [value, name]));
  for (const [name, value] of second) {
    if (all.has(name)) {
      throw new TypeError(`objective: ${what}: expected names that the model has not, got ${name}`);
    }
    const twin = value instanceof tf.Variable ? names.get(value) : undefined;
    if (twin !== undefined) {
      throw new TypeError(`objective: ${what}: expected each variable once, got it as ${twin} and ${name}`);
    }
    names.set(value, name);
    all.set(name, value);
  }
  return all;
}

/** The averaged weights: a second model, copies of the objective's own parameters, and both by name. */
export interface Averages {
  readonly model: (Method & Pick<Savable, "save">) | undefined;
  readonly own: Variables;
  readonly all: Variables;
}

/** Room for averaged weights, where there are to be some. */
export function averagesOf({ model, own }: Trained, decay: number | null): Averages | undefined {
  if (decay === null) return undefined;
  const { clone } = model as { clone?(): Method };
  if (!clone && decay !== null) {
    throw new TypeError(`emaDecay: expected a model with a clone() to average into, ${model.name} has none`);
  }
  const copies = [...own.parameters].map(([name, x]) =>
    [name, tf.tidy(() => tf.variable(tf.add(x, 0), false))] as const
  );
  const second = clone!.call(model), mine = new Map(copies);
  return { model: second, own: mine, all: new Map([...second.parameters, ...mine]) };
}

/** Checks that draws are tensors, and that those for each image have as many as the batch. */
function checkDraws(draws: unknown, batchSize: number): Draws {
  const right = typeof draws === "object" && draws !== null && !(draws instanceof Promise);
  if (!right) throw new TypeError(`draws: expected tensors by name, got ${String(draws)}`);
  for (const [name, draw] of Object.entries(draws)) {
    if (!(draw instanceof tf.Tensor)) {
      throw new TypeError(`draws: ${name}: expected a tensor, got ${String(draw)}`);
    }
    const axis = imageAxis(draw);
    if (axis === undefined) continue;
    expect(
      draw.shape[axis] === batchSize,
      `draws: ${name}`,
      `${batchSize} along axis ${axis}`,
      `[${draw.shape}]`,
    );
  }
  return draws as Draws;
}

/** The variables of a model and its objective as they are now, without a look at their names. */
function* everything(
  ...both: (Method | Objective<never> | undefined)[]
): Generator<readonly [string, tf.Variable]> {
  for (const one of both) {
    for (const some of [one?.parameters, one?.state]) {
      if (some) yield* some instanceof Map ? some : Object.entries(some) as [string, tf.Variable][];
    }
  }
}

/** Joins a model and its objective; one that is not `given`, but the library's, may be written otherwise in its next version. */
export function trained(
  model: Method,
  objective: Objective<never> | undefined,
  causal?: boolean,
  given: boolean = true,
  needLabels: () => void = () => {},
): Trained {
  if (objective) checkOptions("objective", objective, RULES);
  if (objective && typeof objective.loss !== "function") {
    throw new TypeError("objective: expected a loss, got none");
  }
  if (objective && !objective.name) throw new TypeError("objective: expected a name, got none");
  const own = {
    parameters: variables("objective: parameters", objective?.parameters),
    state: variables("objective: state", objective?.state),
  };
  const parameters = joined("parameters", joined("parameters", [], model.parameters), own.parameters);
  const state = joined("state", model.state ?? [], own.state);
  joined("state", parameters, state);
  const views = objective?.views ?? model.views ?? 1;
  const context = contexts(model, views, causal, needLabels);
  const lossOf = (objective ?? model).loss.bind(objective ?? model);
  let cosine = objective !== undefined && !given;
  const targets = (objective?.targets ?? model.targets)?.bind(objective?.targets ? objective : model);
  const steps = [model, objective].flatMap((one) => one?.after ? [one.after.bind(one)] : []);
  return {
    name: objective?.name ?? model.name,
    ...{ model, views, parameters, state, own, present: () => everything(model, objective) },
    draws(batchSize, seed, batch) {
      const models = checkDraws(model.draws({ batchSize, random: updateRandom(seed, batch) }), batchSize);
      const random = updateRandom(seed, batch, "objective");
      const others = checkDraws(objective?.draws?.({ batchSize, random }) ?? {}, batchSize);
      return Object.fromEntries(joined("draws", Object.entries(models), Object.entries(others)));
    },
    numbers: (k, steps) => {
      const all = joined(
        "numbers",
        Object.entries(model.numbers?.(k, steps) ?? {}),
        Object.entries(objective?.numbers?.(k, steps) ?? {}),
      );
      for (const [name, x] of all) expect(Number.isFinite(x), `numbers: ${name}`, "a number", x);
      return Object.fromEntries(all);
    },
    loss(batch, draws, numbers, training = true) {
      const output = named(lossOf(context(batch, draws, numbers, training) as never));
      cosine ||= isCosine(output);
      return output;
    },
    cosine: () => cosine,
    read(batch, draws, numbers) {
      const here = context(batch, draws, numbers, false) as never;
      const last = () => model.encoder.tokens(batch.images, ["final"])[0]!;
      return { targets: targets ? tokensOf(targets(here)) : last(), loss: lossOf(here) };
    },
    after: steps.length === 0 ? undefined : (batch, draws, numbers) => {
      const here = context(batch, draws, numbers, true) as unknown as AfterContext<never>;
      for (const step of steps) step(here);
    },
    about: {
      method: model.name,
      objective: objective &&
        { name: objective.name, config: objective.config ?? {}, ...(given && texts(objective)) },
      views,
      shapes: Object.fromEntries([...parameters, ...state].map(([name, { shape }]) => [name, shape])),
    },
  };
}

/** The source texts of an objective's functions: what can be seen of them. */
function texts(objective: Objective<never>): Record<string, string> {
  const functions = Object.entries(objective).filter(([, value]) => typeof value === "function");
  return Object.fromEntries(functions.map(([name, value]) => [name, String(value)]));
}

/** A loss whose other numbers have names of their own. */
function named(output: LossOutput): LossOutput {
  const taken = output instanceof tf.Tensor
    ? undefined
    : METER.find((name) => Object.hasOwn(output ?? {}, name));
  if (taken === undefined) return output;
  throw new TypeError(`loss: ${taken}: expected another name, this one is the collapse meter's`);
}

/** The tokens that the meter watches, checked. */
function tokensOf(targets: unknown): tf.Tensor3D {
  if (targets instanceof tf.Tensor && targets.rank === 3) return targets as tf.Tensor3D;
  const got = targets instanceof tf.Tensor ? `[${targets.shape}]` : is.shown(targets);
  throw new TypeError(`targets: expected embeddings [B, T, D], got ${got}`);
}

/** Makes what a loss reads; the model's outputs are computed when they are first read. */
function contexts(model: Method, views: number, causal: boolean | undefined, needLabels: () => void) {
  return (
    batch: TrainingBatch | undefined,
    all: Draws,
    numbers: Numbers,
    training: boolean,
  ): LossContext<Method> => {
    const draws = guardedDraws(all, training);
    let made: Outputs | undefined;
    const of = <K extends keyof TrainingBatch>(name: K): NonNullable<TrainingBatch[K]> => {
      if (batch) return batch[name]!;
      throw new TypeError(`after: expected not to read the batch where accumulate cuts it, got ${name}`);
    };
    const outputs = () => {
      if (!model.outputs) {
        throw new TypeError(`${model.name}: has no outputs; compute them from images in the loss`);
      }
      return made ??= model.outputs({ images: of("images"), draws: training ? draws : undefined, causal });
    };
    return {
      ...{ model, draws, numbers, training },
      get images() {
        return of("images");
      },
      get labels() {
        needLabels();
        return of("labels") as tf.Tensor1D;
      },
      get views() {
        return batch?.views ?? Array.from({ length: views }, () => of("images"));
      },
      get outputs() {
        return outputs();
      },
      get embeddings() {
        return outputs().embeddings;
      },
      get predictions() {
        return outputs().predictions;
      },
    };
  };
}
