/** Refusals in one form, and the one checker of options. @module */
import { distance } from "fastest-levenshtein";

/**
 * Refuses what does not hold.
 *
 * @param holds Whether all is well.
 * @param name Of what is wrong.
 * @param expected In words.
 * @param got What there is.
 * @throws {RangeError} "name: expected …, got …".
 */
export function expect(holds: boolean, name: string, expected: string, got: unknown): asserts holds {
  if (!holds) throw new RangeError(`${name}: expected ${expected}, got ${String(got)}`);
}

/** Whether a value is an integer from 1 up. */
export function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 1;
}

/** What a value may be: in words, and whether one is. */
export type Rule = readonly [expected: string, holds: (value: unknown) => boolean];

const isNumber = (value: unknown): value is number => Number.isFinite(value);

/** A rule for numbers that meet a condition. */
export const numberThat = (
  expected: string,
  holds: (x: number) => boolean,
): Rule => [expected, (value) => isNumber(value) && holds(value)];
/** The same, or null. */
export const orNull = (
  [expected, holds]: Rule,
): Rule => [`${expected}, or null`, (value) => value === null || holds(value)];
/** One of these values. */
export const oneOf = (
  ...values: readonly unknown[]
): Rule => [`one of ${values.map((v) => JSON.stringify(v)).join(", ")}`, (value) => values.includes(value)];

/** An integer from 1. */
export const count: Rule = ["an integer from 1", isCount];
/** An integer from 0. */
export const index: Rule = numberThat("an integer from 0", (x) => Number.isSafeInteger(x) && x >= 0);
/** True or false. */
export const flag: Rule = ["true or false", (value) => typeof value === "boolean"];
/** Above 0. */
export const positive: Rule = numberThat("a number above 0", (x) => x > 0);
/** 0 or more. */
export const notNegative: Rule = numberThat("a number from 0", (x) => x >= 0);
/** 0 to 1. */
export const share: Rule = numberThat("a number from 0 to 1", (x) => x >= 0 && x <= 1);
/** 0 to below 1. */
export const belowOne: Rule = numberThat("a number from 0 to below 1", (x) => x >= 0 && x < 1);
/** AdamW's. */
export const betas: Rule = [
  "two numbers from 0 to below 1",
  (value) => Array.isArray(value) && value.length === 2 && value.every(belowOne[1]),
];
/** A function. */
export const callable: Rule = ["a function", (value) => typeof value === "function"];
/** A string that is not empty. */
export const text: Rule = ["a text", (value) => typeof value === "string" && value !== ""];
/** Anything: what is checked elsewhere. */
export const any: Rule = ["anything", () => true];

/** So many characters of a message, a title or a note are shown. */
export const LONG = 5000;

/**
 * A text from elsewhere, as it can be shown anywhere: what a terminal obeys or what turns the direction of writing is "\u{FFFD}",
 * and of a long one the middle is left out.
 *
 * @param text A file's name, a class, a note, a tensor's name.
 * @param most Characters to show.
 */
export function visible(text: string, most: number = 300): string {
  const short = text.length > most ? `${text.slice(0, most / 2)}…${text.slice(-most / 2)}` : text;
  return short.replace(/[^\P{C}\n\t\u200c\u200d]|[\u2028\u2029]/gu, "\u{FFFD}");
}

/** What is wrong with something from elsewhere: its message can be shown, whatever texts it holds. */
export class ForeignError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(visible(message, LONG), options);
  }
}

/** What an argument may be: in words, what tells one, and where one comes from. */
export type Kind = readonly [expected: string, holds: (value: unknown) => boolean, remedy: string];

const has = (...names: string[]) => (value: unknown) =>
  names.every((name) => typeof Object(value)[name] === "function");

/** Labelled images. */
export const images: Kind = [
  "a data set",
  has("get", "batches"),
  "imageFolder, parquetImages and arrayDataset open one",
];
/** A network whose tokens are read. */
export const network: Kind = [
  "a network",
  has("tokens"),
  'such as new Nepa({ preset: "mini" }) or await Nepa.load(…)',
];
/** What `pretrain` trains. */
export const method: Kind = ["a network or a method of your own", has("loss", "draws"), network[2]];
/** What classifies. */
export const classifier: Kind = [
  "a NepaClassifier",
  (value) => has("forward")(value) && Array.isArray(Object(value).classes) && "backbone" in Object(value),
  "NepaClassifier.from(model, { classes }) makes one of a network",
];
/** What gives each pixel a class. */
export const segmenter: Kind = [
  "a NepaSegmenter or a function from images to logits",
  (value) => {
    const { classes, encoder } = Object(value);
    return typeof value === "function" || Array.isArray(classes) && network[1](encoder);
  },
  "NepaSegmenter.from(model, { classes }) makes one of a network",
];
/** Images with a class for each pixel. */
export const masked: Kind = [
  "images with masks",
  (value) => Object(value).masked === true,
  "fashionScenes and segmentationFolder open some",
];
/** A training. */
export const run: Kind = ["a run", has("finish", "result"), "pretrain and finetune give one"];
/** One image. */
export const image: Kind = [
  "an image { data, height, width, channels }",
  (value) => ArrayBuffer.isView(Object(value).data) && isCount(Object(value).channels),
  "of a data set: { data: set.get(0).image, height, width, channels }",
];
/** A list. */
export const list: Kind = ["a list", Array.isArray, ""];
/** Variables by name. */
export const variables: Kind = [
  "a Map of variables by name",
  has("get", "entries"),
  "such as model.parameters",
];
/** Options, or none. */
export const optional: Kind = [
  "an object of options",
  (value) => typeof value === "object" && value !== null,
  "",
];

/**
 * Refuses an argument of another kind.
 *
 * @param where The function's name.
 * @param args Each with its kind, by name.
 * @throws {TypeError} "where: name: expected …, got …".
 */
export function expectKinds(where: string, args: Readonly<Record<string, readonly [unknown, Kind]>>): void {
  for (const [name, [value, [expected, holds, remedy]]] of Object.entries(args)) {
    if (holds(value)) continue;
    const advice = has("then")(value) ? "write await before it" : remedy;
    throw new TypeError(
      `${where}: ${name}: expected ${expected}, got ${shown(value)}${advice && `; ${advice}`}`,
    );
  }
}

const KINDS = {
  ...{ model: network, classifier, run, image, parameters: variables },
  ...{ images, dataset: images, train: images, test: images, bank: images },
};

/** {@linkcode expectKinds} of arguments whose names say what they are. */
export function expectNamed(where: string, args: Partial<Record<keyof typeof KINDS, unknown>>): void {
  const named = Object.entries(args).map(([name, value]) => [name, [value, KINDS[name as "model"]]] as const);
  expectKinds(where, Object.fromEntries(named));
}

/** What an object is, in words. */
function kindOf(value: object): string {
  if (has("then")(value)) return "a promise";
  const [known] = [images, classifier, network, run].filter(([, holds]) => holds(value));
  if (known) return known[0];
  const { name } = value.constructor ?? {};
  return name && name !== "Object"
    ? `a ${name}`
    : `an object { ${Object.keys(value).join(", ")} }`.replace("{  }", "{}");
}

/** What a message shows of a value. */
export function shown(value: unknown): string {
  if (typeof value === "function") return "a function";
  if (typeof value === "string") return JSON.stringify(visible(value));
  const { dtype, shape } = Object(value) as { dtype?: string; shape?: readonly number[] };
  if (dtype && shape) return `a tensor ${dtype} [${shape}]`;
  if (Array.isArray(value)) return visible(`[${value}]`);
  return typeof value === "object" && value !== null ? kindOf(value) : String(value);
}

/**
 * What to say of a name that nobody knows: the one that was probably meant, and all there are.
 *
 * @param name The unknown one.
 * @param known All others.
 * @returns "; did you mean …? There are: …".
 */
export function didYouMean(name: string, known: readonly string[]): string {
  const far = (other: string) => distance(name.toLowerCase(), other.toLowerCase());
  const [nearest] = [...known].sort((a, b) => far(a) - far(b));
  const close = nearest !== undefined && far(nearest) <= Math.ceil(name.length / 3);
  return `; ${close ? `did you mean ${nearest}? There` : "there"} are: ${known.join(", ")}`;
}

/**
 * Checks a function's options: a name that it does not know, then each value. Values left out, or undefined, are not looked at.
 *
 * @param where The function's name, for messages; "" for none.
 * @param options As they were given.
 * @param rules What each option may be, by its name.
 * @param prefix What stands before a name in messages about its value, such as "checkpoint.".
 * @throws {TypeError} If there is an option of another name, or the options are no object.
 * @throws {RangeError} If a value cannot be: "name: expected …, got …".
 */
export function checkOptions(
  where: string,
  options: object,
  rules: Readonly<Record<string, Rule>>,
  prefix: string = "",
): void {
  const at = where && `${where}: `;
  if (typeof options !== "object" || options === null || has("then")(options) || Symbol.iterator in options) {
    throw new TypeError(`${at}expected an object of options, got ${shown(options)}`);
  }
  for (const name of Object.keys(options)) {
    if (Object.hasOwn(rules, name)) continue;
    throw new TypeError(`${at}unknown option ${name}${didYouMean(name, Object.keys(rules))}`);
  }
  for (const [name, [expected, holds]] of Object.entries(rules)) {
    const value = (options as Record<string, unknown>)[name];
    if (value === undefined || holds(value)) continue; // only what is refused is shown: a tensor may have no values yet
    expect(false, prefix + name, expected, shown(value));
  }
}

const LIBRARY = import.meta.resolve("../");

/**
 * Where the library was called from: the innermost place on the stack outside of it, "file:///home/me/train.ts:12:20".
 *
 * @param error Made where it is called.
 */
export function callSite({ stack = "" }: Error): string | undefined {
  const places = [...stack.matchAll(/^ {4}at (?:.* \()?([^()\s]+:\d+:\d+)\)?$/gm)].map(([, place]) => place!);
  return places.find((place) => !place.startsWith(LIBRARY) && !/^(ext|node):/.test(place));
}
