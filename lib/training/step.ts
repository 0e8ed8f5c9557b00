/**
 * The training step, whole: a batch goes in, the weights change, loss and gradient norm come out. It is a function of tensors,
 * to be compiled by the engine or run as it is.
 *
 * @module
 */
import * as tf from "@tensorflow/tfjs";
import { watch } from "@nepa/engine";
import { callSite, checkOptions, type Rule } from "../base/check.ts";
import * as is from "../base/check.ts";
import { labelOf, type LossAndGradients, lossAndGradients, type LossOutput } from "../base/gradient.ts";
import { type Draws, Random } from "../base/random.ts";
import { type AdamW, clipByGlobalNorm } from "../optim/adamw.ts";
import type { Ema } from "../optim/ema.ts";

/** Scalars by name: what changes by schedule. */
export type Numbers = Record<string, tf.Scalar>;

/** What an update is made of; see {@linkcode update}. */
export interface UpdateOptions<B extends tf.TensorContainer> {
  /** What is made smaller, and other numbers to be told of. Called once if the update is compiled, else at each. */
  loss: (batch: B, draws: Draws, numbers: Numbers) => LossOutput;
  /** All that the loss is to move, by name; those with `trainable = false` stay as they are. */
  parameters: ReadonlyMap<string, tf.Variable>;
  /** Of the same parameters. */
  optimizer: AdamW;
  /** Largest norm of all gradients together. Default null: no limit. */
  clipNorm?: number | null;
  /** Gets the averaged weights, after each update. */
  average?: Ema | undefined;
  /** Variables that the loss may read besides, and `after` assign. */
  state?: ReadonlyMap<string, tf.Variable>;
  /** Called once an update, after the weights have moved. */
  after?: ((batch: B, draws: Draws, numbers: Numbers, left: tf.NamedTensorMap) => void) | undefined;
  /** Told of parameters that the loss does not reach, which stay as they are. Default: a warning. */
  unreached?: (names: readonly string[]) => void;
  /** For messages: where the loss comes from. Default: where `update` was called. */
  from?: string | undefined;
}

const RULES: Record<keyof UpdateOptions<never>, Rule> = {
  ...{
    loss: is.callable,
    parameters: is.any,
    optimizer: is.any,
    clipNorm: is.orNull(is.positive),
    average: is.any,
    state: is.any,
  },
  ...{ after: is.callable, unreached: is.callable, from: is.any },
};

/** What one update takes: all that changes from one to the next. */
export interface UpdateInputs<B extends tf.TensorContainer> {
  batch: B;
  /** The random numbers of the update, from `model.draws`. Default: none. */
  draws?: Draws;
  /** From `AdamW.rates`. */
  rates: tf.Tensor1D;
  /** What the averaged weights keep of themselves, where there are such. */
  decay?: tf.Scalar;
  numbers?: Numbers;
}

/** Loss and gradient norm before clipping, and what else the loss tells. */
export type UpdateOutputs = { loss: tf.Scalar; gradNorm: tf.Scalar; [metric: string]: tf.Scalar };

/**
 * One update of the weights: gradients, clipping, AdamW, the average. If the gradients' norm is not finite, the weights stay.
 *
 * @param options The loss and what it moves.
 * @returns A function for `engine.compile`.
 * @throws {TypeError} When it runs: if the loss reads a variable that nothing trains, or assigns one; or is no scalar.
 *
 * @example
 * ```ts
 * import { AdamW, Nepa, nepaLoss, Random, tf, update, useEngine } from "nepa";
 *
 * const engine = await useEngine("wasm");
 * const model = new Nepa({ preset: "mini", numHiddenLayers: 1 }, { seed: 0 });
 * const optimizer = new AdamW(model.parameters, { weightDecay: 0.05 });
 * const step = engine.compile(update({
 *   loss: (batch: { images: tf.Tensor4D }, draws) => nepaLoss(model.forward(batch.images, { draws })),
 *   parameters: model.parameters,
 *   optimizer,
 *   clipNorm: 1,
 * }));
 * const batch = { images: tf.zeros<tf.Rank.R4>([2, 28, 28, 1]) }, draws = model.draws(2, new Random(0));
 * const { loss, gradNorm } = await step({ batch, draws, rates: optimizer.rates(0, [1e-3]) });
 * console.log((await loss.data())[0], (await gradNorm.data())[0]);
 * ```
 */
export function update<B extends tf.TensorContainer>(
  options: UpdateOptions<B>,
): (inputs: UpdateInputs<B>) => UpdateOutputs {
  checkOptions("update", options, RULES);
  const { optimizer, clipNorm, average, after, parameters } = options;
  const from = options.from ?? callSite(new Error());
  return ({ batch, draws = {}, rates, decay, numbers = {} }) => {
    const lacking = [...parameters].find(([name, x]) => x.trainable && optimizer.parameters.get(name) !== x);
    if (lacking) {
      throw new TypeError(`update: expected an optimizer of the same parameters, got none for ${lacking[0]}`);
    }
    const { loss, gradients, metrics, left } = gradientsOf({ ...options, from }, batch, draws, numbers);
    const { clipped, norm } = clipByGlobalNorm(optimizer.join(gradients), clipNorm ?? Infinity);
    optimizer.update(clipped, rates, tf.isFinite(norm));
    after?.(batch, draws, numbers, left);
    average?.update(decay ?? tf.scalar(0));
    return { loss, gradNorm: norm, ...metrics };
  };
}

/** What was warned about: once for each set of parameters, where an engine calls the loss at every update. */
const warned = new WeakSet<ReadonlyMap<string, tf.Variable>>();

/** What is thrown where a loss assigns to a variable of that name. */
export function refuseAssign(name: string): TypeError {
  return new TypeError(
    `loss: assigns to the variable ${name}; a loss only reads. Move it in \`after\`, as \`state\``,
  );
}

/** The loss of a batch and its gradients by those parameters that it reaches, checked for what would be silently wrong. */
export function gradientsOf<B extends tf.TensorContainer>(
  options: Omit<UpdateOptions<B>, "optimizer">,
  batch: B,
  draws: Draws,
  numbers: Numbers,
): LossAndGradients {
  const { loss, parameters, state = new Map() } = options;
  const tell = options.unreached ?? ((names) => {
    if (!warned.has(parameters)) console.warn(unreachedNotice(names));
    warned.add(parameters);
  });
  try {
    const { result, read } = watch(() => lossAndGradients(() => loss(batch, draws, numbers), parameters), {
      refuseAssign,
    });
    if ("gradNorm" in result.metrics) {
      throw new TypeError("loss: gradNorm: expected another name, this one is the gradients' norm");
    }
    const broken = Object.keys(result.metrics).find((name) => /[\r\n]/.test(name));
    if (broken) throw new TypeError(`loss: expected a name of one line, got ${JSON.stringify(broken)}`);
    refuseStrangers(read, new Set([...parameters.values(), ...state.values()]));
    if (result.unreached.length > 0) tell(result.unreached);
    const gone = [...parameters].filter(([name, { trainable }]) =>
      !trainable || result.unreached.includes(name)
    );
    const gradients = { ...result.gradients };
    for (const [name] of gone) delete gradients[name];
    return { ...result, gradients };
  } catch (error) {
    if (error instanceof TypeError && error.message.startsWith("loss: ") && options.from) {
      error.message += `\nthe loss was given at ${options.from}`;
    }
    throw error;
  }
}

function refuseStrangers(read: ReadonlySet<tf.Variable>, known: ReadonlySet<tf.Variable>): void {
  const strangers = [...read].filter((variable) => variable.trainable && !known.has(variable));
  if (strangers.length === 0) return;
  const named = strangers.slice(0, 5).map((x) => `${labelOf(x)} [${x.shape}]`).join(", ");
  throw new TypeError(
    `loss: reads ${strangers.length} variables that nothing trains: ${named}. Give them as \`parameters\` to train ` +
      "them, as `state` if `after` moves them, or set `trainable = false` to leave them as they are",
  );
}

/** What is said of parameters that a loss does not reach. */
export function unreachedNotice(names: readonly string[]): string {
  const few = names.slice(0, 8).join(", ") + (names.length > 8 ? ", …" : "");
  return `the loss does not reach ${names.length} parameters, which stay as they are: ${few}`;
}

/**
 * Where the random numbers of an update of `pretrain` come from, for a step by hand that is to have the same.
 *
 * @param seed The training's.
 * @param update Its number, from 0.
 * @param whose "draws", the model's own (default), or "objective".
 * @returns For `model.draws`, or an objective's.
 *
 * @example
 * ```ts
 * import { Random, updateRandom } from "nepa";
 * import { assertEquals } from "@std/assert";
 *
 * assertEquals(updateRandom(0, 7).uniform(), updateRandom(0, 7).uniform());
 * ```
 */
export function updateRandom(
  seed: number,
  update: number,
  whose: "draws" | "objective" = "draws",
): Random {
  return new Random(seed, whose, update);
}
