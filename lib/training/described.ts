/** What decides about a training, as JSON: what a run that goes on has to have the same. @module */
import { crc32 } from "node:zlib";
import type { Dataset } from "../data/dataset.ts";
import { fingerprintOf } from "../data/fingerprint.ts";
import { describeTransform } from "../data/transforms.ts";
import { isObject } from "../files/safetensors.ts";
import type { Kept } from "./checkpoints.ts";
import type { Plan } from "./options.ts";

/** Of a training, what changes no weight: the data sets' names, what stood beside their contents, when the meter reads. */
const INDIFFERENT = ["data.name", "data.fingerprint", "options.every.collapse"];

/** Where two trainings, as JSON, differ in what decides. */
export function differences(then: unknown, now: unknown, name = ""): string[] {
  const isNone = (value: unknown) => value === undefined || JSON.stringify(value) === "{}";
  if (INDIFFERENT.includes(name) || isNone(then) && isNone(now)) return [];
  if (isObject(then) && isObject(now)) {
    const keys = Object.keys({ ...then, ...now });
    return keys.flatMap((key) => differences(then[key], now[key], name ? `${name}.${key}` : key));
  }
  const [before = "undefined", here = "undefined"] = [JSON.stringify(then), JSON.stringify(now)];
  if (before === here) return [];
  const first = [...before].findIndex((letter, i) => letter !== here[i]), from = Math.max(0, first - 40);
  const short = (text: string) =>
    text.length <= 80
      ? text
      : `${from > 0 ? "…" : ""}${text.slice(from, from + 80)}${from + 80 < text.length ? "…" : ""}`;
  return [`${name}: ${short(before)} then, ${short(here)} now`];
}

/** What stands for an augmentation that cannot be described. */
export const UNNAMED = "a function without a name";

/** Options of which the first format may name what was given instead of what was used. */
const UNSURE = ["steps", "learningRate", "weightDecay", "prepare"];

/** Of a checkpoint: 2 since moments have their parameters' names and options are written out. */
export const FORMAT = 2;

/** Functions of the update as some of their values and a checksum of all, so that a run can be compared with another. */
function sampled(schedules: Record<string, unknown>, steps: number): Fields {
  const quarters = [0.1, 0.25, 0.5, 0.75].map((share) => Math.floor(share * steps));
  const at = [...new Set([0, 1, 2, 10, 100, ...quarters, steps - 1])].filter((k) => k < steps);
  const every = Math.ceil(steps / 100_000); // each update of all but the longest
  const values = (schedule: (k: number) => number) => {
    const all = Float64Array.from({ length: Math.floor(steps / every) }, (_, i) => schedule(i * every));
    return [...at.map((k) => [k, schedule(k)]), crc32(new Uint8Array(all.buffer))];
  };
  return Object.fromEntries(
    Object.entries(schedules).map((
      [name, schedule],
    ) => [name, typeof schedule === "function" ? values(schedule as (k: number) => number) : schedule]),
  );
}

/** What both name, of some fields of two records. */
function common(then: unknown, now: unknown, but: readonly string[] = []): [Fields, Fields] {
  const both = [then, now].map((one) => isObject(one) ? one : {});
  const names = Object.keys(both[0]!).filter((name) => name in both[1]! && !but.includes(name));
  return both.map((one) => Object.fromEntries(names.map((name) => [name, one[name]]))) as [Fields, Fields];
}

type Fields = Record<string, unknown>;

/**
 * What a checkpoint says and what is now, to be compared. One of the first format says less; of a fine-tuning it has the options
 * as they were given beside those that were used, so that only what both name counts. Later, of held-out images there was the
 * fingerprint alone.
 */
export function comparable({ format, about }: Fields, now: Fields): [unknown, unknown] {
  const then = about as Fields, options = now.options as Fields;
  const whole = ({ validation, ...rest }: Fields) => ({
    ...rest,
    validation: isObject(validation) ? validation.contents : validation,
  });
  if (format === FORMAT) return [whole(then), whole(now)];
  const given = then.options as Fields, data = common(then.data, now.data);
  const used = common(given, { ...options, augment: options.augment !== null }, UNSURE); // it was said whether there is one
  const own = (now.objective as Fields | undefined)?.name, loss = "loss" in given ? "loss" : "nepa"; // then there were these two
  const objectives = own === undefined ? [] : [loss, own], { kind, config } = now;
  return [
    { kind: then.kind, config: then.config, objective: objectives[0], options: used[0], data: data[0] },
    { kind, config, objective: objectives[1], options: used[1], data: data[1] },
  ];
}

/** The groups of parameters that have anything of their own. */
function grouped(groups: NonNullable<Plan["groups"]>, parameters: ReadonlyMap<string, unknown>): Fields {
  const all = [...parameters.keys()].map((name) => [name, groups(name)] as const);
  return Object.fromEntries(all.filter(([, group]) => Object.keys(group).length > 0));
}

/** What tells a data set from others, and its name. */
async function dataOf(dataset: Dataset): Promise<Fields> {
  const { name, length, height, width, channels, classes } = dataset;
  return { name, length, height, width, channels, classes, contents: await fingerprintOf(dataset) };
}

/** What decides about a training. */
export async function decided(
  { kind, model: { config, parameters }, subject, plan, options, data, validation }: Kept,
): Promise<Fields> {
  const { signal: _, checkpoint: __, notices: ___, weightDecayAt: ____, augment, groups, ...rest } = plan;
  const all = subject?.parameters ?? parameters;
  const frozen = [...all].filter(([, { trainable }]) => !trainable).map(([name]) => name);
  return {
    ...{ kind, config, frozen, data: await dataOf(data) },
    ...(validation && { validation: await dataOf(validation) }),
    options: {
      ...rest,
      ...sampled({ learningRate: plan.learningRate, weightDecay: plan.weightDecay }, plan.steps),
      augment: augment && (describeTransform(augment) ?? UNNAMED),
      groups: groups && grouped(groups, all),
      ...options,
    },
    ...subject?.about,
  };
}
