/** What decides about a training, as JSON: what a run that goes on has to have the same. @module */
import { crc32 } from "node:zlib";
import { fingerprintOf } from "../data/fingerprint.ts";
import { describeTransform } from "../data/transforms.ts";
import { isObject } from "../files/safetensors.ts";
import type { Kept } from "./checkpoints.ts";

/** Where two trainings, as JSON, differ; the data set's name does not count. */
export function differences(then: unknown, now: unknown, name = ""): string[] {
  if (isObject(then) && isObject(now)) {
    const keys = Object.keys({ ...then, ...now }).filter((key) => name !== "data" || key !== "name");
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

/** Functions of the update as some of their values, so that a run can be compared with another. */
function sampled(schedules: Record<string, unknown>, steps: number): Record<string, unknown> {
  const at = [
    ...new Set([0, 1, 2, 10, 100, ...[0.1, 0.25, 0.5, 0.75].map((x) => Math.floor(x * steps)), steps - 1]),
  ];
  const checksum = (schedule: (k: number) => number) => {
    const every = Math.ceil(steps / 100_000); // each update of all but the longest
    const all = Float64Array.from({ length: Math.floor(steps / every) }, (_, i) => schedule(i * every));
    return crc32(new Uint8Array(all.buffer));
  };
  const values = (schedule: unknown) =>
    typeof schedule === "function"
      ? [
        ...at.filter((k) => k < steps).map((k) => [k, schedule(k)]),
        checksum(schedule as (k: number) => number),
      ]
      : schedule;
  return Object.fromEntries(Object.entries(schedules).map(([name, schedule]) => [name, values(schedule)]));
}

/**
 * What a checkpoint says and what is now, to be compared. One of the first format says less; of a fine-tuning it has the options
 * as they were given beside those that were used, so that only what both name counts.
 */
export function comparable(
  { format, about: then }: Record<string, unknown>,
  now: Record<string, unknown>,
): [unknown, unknown] {
  if (format === FORMAT) return [then, now];
  const [before, here] = [then, now] as Record<string, Record<string, unknown>>[];
  const both = (at: "options" | "data") => {
    const names = Object.keys(before![at]!).filter((name) => name in here![at]! && !UNSURE.includes(name));
    return [before, here].map((one) => Object.fromEntries(names.map((name) => [name, one![at]![name]])));
  };
  const [options, data] = [both("options"), both("data")];
  const own = (here!.objective as { name: string } | undefined)?.name, loss = "loss" in before!.options!; // then there were these two
  const objectives = own === undefined ? [] : [loss ? "loss" : "nepa", own];
  if ("augment" in options[0]!) options[1]!.augment = here!.options!.augment !== null; // it was said whether there is one
  return [before!, here!].map(({ kind, config }, i) => ({
    kind,
    config,
    objective: objectives[i],
    options: options[i],
    data: data[i],
  })) as [
    unknown,
    unknown,
  ];
}

/** The groups of parameters that have anything of their own. */
function grouped(
  groups: (name: string) => object,
  parameters: ReadonlyMap<string, unknown>,
): Record<string, object> {
  const all = [...parameters.keys()].map((name) => [name, groups(name)] as const);
  return Object.fromEntries(all.filter(([, group]) => Object.keys(group).length > 0));
}

/** What decides about a training. */
export async function decided(
  { kind, model: { config, parameters }, subject, plan, options, data, validation }: Kept,
): Promise<Record<string, unknown>> {
  const { signal: _, checkpoint: __, augment, groups, weightDecayAt: ___, ...rest } = plan;
  const { name, length, height, width, channels, classes, fingerprint } = data;
  const images = { name, length, height, width, channels, classes, fingerprint };
  const all = subject?.parameters ?? parameters;
  const frozen = [...all].filter(([, { trainable }]) => !trainable).map(([name]) => name);
  return {
    ...(validation && { validation: await fingerprintOf(validation) }),
    ...{ kind, config, frozen, data: { ...images, contents: await fingerprintOf(data) } },
    options: {
      ...rest,
      ...sampled({ learningRate: plan.learningRate, weightDecay: plan.weightDecay }, plan.steps),
      augment: augment && (describeTransform(augment) ?? UNNAMED),
      ...(groups && { groups: grouped(groups, all) }),
      ...options,
    },
    ...subject?.about,
  };
}
