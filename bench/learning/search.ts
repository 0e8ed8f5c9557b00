/** The search for I-JEPA's default recipe: short trainings of nano, judged by training images held out. @module */
import { IJepa, type IJepaOptions, Nepa, pretrain, type PretrainOptions, type Step, tf } from "nepa";
import { encoderOf, ijepaConfig } from "../../lib/model/ijepa_config.ts";
import { randomInitial } from "../../lib/model/network.ts";
import { augmented, curveOf, ended, type Plain, setsOf, type Split, type Task } from "./cells.ts";
import { judgedBy, type Read, readMeans, readRaw } from "./layers.ts";
import type { Budget } from "./plan.ts";
import type { Cell, Place } from "./run.ts";
import json from "./search.json" with { type: "json" };

/** An I-JEPA and how it is trained. */
export interface Jepa {
  network: IJepaOptions;
  training: Plain<PretrainOptions<IJepa>>;
  /** Standard deviation of the patch embedding's first weights. */
  patches: number;
}

/** What a try came to: probes and neighbours are of the mean of the patches, from the target encoder. */
export interface Tried extends Read {
  /** Updates, and seconds that they took. */
  steps: number;
  seconds?: number;
  lossLast: number;
  curve: { step: number[]; loss: number[] };
  /** Of the targets when the training ended. */
  featureStd: number;
  effectiveRank: number;
  /** Mean cosine of the targets with the mean of those at the same place of other images; at first, and at the end. */
  place?: number[];
  /** Four times during the training: the update, a quick probe of the last norm's outputs, the targets' rank. */
  path?: number[][];
}

/** Updates of NEPA whose floating-point operations each training may take. */
export const STEPS = json.steps;

/** What part of them a try has. */
const SHARES: Readonly<Record<"long" | "short", number>> = json.shares;

/** Floating-point operations of so many updates of NEPA. */
export function computeOf(steps: number, preset: "nano" | "mini" = "nano"): number {
  const nepa = new Nepa({ preset }, { seed: 0 });
  try {
    return steps * nepa.flops(64);
  } finally {
    nepa.dispose();
  }
}

/** What the updates of a run took, those before it was gone on with too. */
export const secondsOf = (history: readonly Step[], batchSize: number): number =>
  history.reduce((sum, { imagesPerSecond }) => sum + batchSize / imagesPerSecond, 0);

/** A new model; the patch embedding starts with a deviation of its own. */
export function makeJepa({ network, patches }: Pick<Jepa, "network" | "patches">, seed: number): IJepa {
  const config = encoderOf(ijepaConfig(network)), first = randomInitial(config, seed);
  const name = "patch_embeddings.projection.weight", factor = patches / config.initializerRange;
  const initial = (of: string, shape: number[]) => {
    return of.endsWith(name) ? tf.tidy(() => tf.mul(first(of, shape), factor)) : first(of, shape);
  };
  return new IJepa(network, { seed, initial });
}

/** The search's plan: what all tries have, and what each changes. */
const { base, tried } = json as unknown as { base: Jepa; tried: Readonly<Record<string, Try>> };

/** What a try changes, and how much of the compute it has. Default: long. */
type Try = Partial<Jepa> & { share?: keyof typeof SHARES };

/** A try in full. */
export const jepaOf = (title: string): Jepa => {
  const own = tried[title]!;
  return {
    network: { ...base.network, ...own.network },
    training: { ...base.training, ...own.training },
    patches: own.patches ?? base.patches,
  };
};

/** The one that the default recipe is. */
export const CHOSEN_TITLE = json.chosen, CHOSEN: Jepa = jepaOf(CHOSEN_TITLE);

/** The cells of the search. */
export interface SearchPlan {
  pixels: Cell<Read>;
  /** By the deviations of the patch embedding and, where it is not the usual one, of the rest. */
  untrained: Record<string, Cell<Read>>;
  tried: Record<string, Cell<Tried>>;
}

const named = (title: string) => title.replaceAll(/[^\w.]+/g, "-");

/** How a try's first weights are drawn. */
const drawnAs = ({ patches, network: { initializerRange } }: Jepa) =>
  initializerRange ? `${patches}, the rest with ${initializerRange}` : `${patches}`;

/** What is read of a network, or of the pixels, without a training. */
function readCell(
  name: string,
  options: object,
  split: Split,
  read: (sets: ReturnType<typeof setsOf>) => Promise<Read>,
): Cell<Read> {
  const task: Task = { name: `search/${name}`, rank: 10, seconds: json.cost.read };
  return { ...task, options: { ...options, split }, run: (place) => read(setsOf(place, split)) };
}

/** One try: trains for the same compute, then reads every layer. */
function tryCell(title: string, jepa: Jepa, steps: number, split: Split): Cell<Tried> {
  const { batchSize = 64 } = jepa.training, name = `search/${named(title)}`;
  const run = async (place: Place): Promise<Tried> => {
    const model = makeJepa(jepa, 0), updates = Math.floor(computeOf(steps) / model.flops(batchSize));
    const quarter = Math.ceil(updates / 4), every = { collapse: quarter, probe: quarter };
    const options = { ...augmented(jepa.training), steps: updates, seed: 0, every };
    const running = pretrain(model, place.train, {
      ...options as PretrainOptions<IJepa>,
      checkpoint: { folder: `${place.folder}/run`, resume: "auto", keep: 1, every: Math.ceil(updates / 10) },
    });
    try {
      await ended(running);
      const sets = setsOf(place, split), { history } = running;
      const read = await judgedBy(sets, await readMeans(model.encoder, sets));
      const [first, last] = [history[0]!.metrics!, history.at(-1)!.metrics!];
      await Deno.remove(`${place.folder}/run`, { recursive: true });
      return {
        ...{
          steps: updates,
          seconds: secondsOf(history, batchSize),
          lossLast: running.result().lossLast,
          curve: curveOf(history, 20),
        },
        ...{ featureStd: last.featureStd, effectiveRank: last.effectiveRank },
        place: [first.meanDirectionPerPosition, last.meanDirectionPerPosition],
        path: history.flatMap(({ step, probe, metrics }) =>
          probe ? [[step, probe, metrics!.effectiveRank]] : []
        ),
        ...read,
      };
    } finally {
      model.dispose();
    }
  };
  const seconds = 1.17 * steps * json.cost.update + json.cost.read;
  return { name, rank: 11, seconds, options: { jepa, steps, split }, run };
}

/** Every cell of the search. */
export function makeSearchPlan({ split, steps }: Budget): SearchPlan {
  const whole = steps.mini < 1000 ? steps.nano : STEPS;
  const stepsOf = (title: string) => Math.round(SHARES[tried[title]!.share ?? "long"] * whole);
  const titles = Object.keys(tried), drawn = new Map(titles.map((title) => [drawnAs(jepaOf(title)), title]));
  const fresh = (how: string, title: string) => {
    const { patches, network: { initializerRange } } = jepaOf(title);
    const network = { ...base.network, ...initializerRange && { initializerRange } };
    return readCell(`untrained-${named(how)}`, { network, patches }, split, async (sets) => {
      const model = makeJepa({ network, patches }, 0);
      const features = await readMeans(model.encoder, sets).finally(() => model.dispose());
      return await judgedBy(sets, features);
    });
  };
  return {
    pixels: readCell("pixels", { pixels: true }, split, async (sets) => judgedBy(sets, await readRaw(sets))),
    untrained: Object.fromEntries([...drawn].map(([how, title]) => [how, fresh(how, title)])),
    tried: Object.fromEntries(
      titles.map((title) => [title, tryCell(title, jepaOf(title), stepsOf(title), split)]),
    ),
  };
}
