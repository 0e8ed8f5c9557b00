/** The one reader of what stands behind a task's name. @module */
import { parseArgs } from "node:util";
import { didYouMean } from "../lib/base/check.ts";

/** What a task is given that it does not take. */
export class OptionError extends TypeError {
  override name = "OptionError";
}

/** `--help` was asked for; the message is a line for each option. */
class Help extends Error {}

/** Options by name, and what stands beside them. */
export type Options<T> = { [K in keyof T]: T[K] extends boolean ? boolean : string } & { operands: string[] };

/**
 * Reads a task's options.
 *
 * @param args `--name value`, `--name=value`, or `--name` for what is true or false; after `--` nothing is an option.
 * @param defaults Every option with what holds where it is left out.
 * @param operands What may stand beside the options, for `--help`; "": nothing.
 * @throws {OptionError} If there is no such option, a value is missing, or something stands where nothing may.
 */
export function readOptions<T extends Record<string, string | boolean>>(
  args: readonly string[],
  defaults: T,
  operands = "",
): Options<T> {
  const names = Object.keys(defaults), kinds = Object.entries({ ...defaults, help: false });
  const options = Object.fromEntries(
    kinds.map(([name, value]) => [name, { type: typeof value as "string" | "boolean" }]),
  );
  const { tokens } = parseArgs({ args: [...args], options, strict: false, tokens: true });
  for (const token of tokens) {
    if (token.kind === "positional" && !operands) {
      throw new OptionError(`expected only options, got "${token.value}"`);
    }
    if (token.kind !== "option") continue;
    const { name, rawName, value, inlineValue } = token, kind = options[name]?.type;
    if (!kind || !rawName.startsWith("--")) {
      const shown = names.map((known) => `--${known}`);
      throw new OptionError(`unknown option ${rawName}${didYouMean(rawName, [...shown, "--help"])}`);
    }
    const missing = value === undefined || value.startsWith("--") && !inlineValue;
    if (kind === "string" && missing) throw new OptionError(`${rawName}: expected a value, got none`);
    if (kind === "boolean" && inlineValue) {
      throw new OptionError(`${rawName}: expected no value, got "${value}"`);
    }
  }
  const { help, ...given } = parseArgs({ args: [...args], options, allowPositionals: true }).values;
  if (help) {
    const lines = kinds.map(([name, value]) =>
      `  --${name}${typeof value === "string" ? ` ${value || "…"}` : ""}`
    );
    throw new Help([...operands ? [`  ${operands}`] : [], ...lines].join("\n"));
  }
  const beside = tokens.flatMap((token) => token.kind === "positional" ? token.value : []);
  return { ...defaults, ...given, operands: beside } as Options<T>;
}

/** The same options on a command line; what is "" or false is left out. */
export function toArguments(given: Readonly<Record<string, string | boolean>>): string[] {
  return Object.entries(given).flatMap(([name, value]) =>
    value ? `--${name}${value === true ? "" : `=${value}`}` : []
  );
}

/** The first comment of a file, as plain text. */
function headOf(source: string): string {
  const [, comment = ""] = /\/\*\*([^]*?)\*\//.exec(source) ?? [];
  return comment.replace(/^ *\* ?/gm, "").replace(/@module/, "").trim();
}

/**
 * Does a task's work. `--help` prints the file's first comment and every option with its default; what the task does not
 * take is said in a line, and the status is 2.
 *
 * @param file The URL of the file that says what the task does.
 * @param work Reads the options first.
 */
export async function runTask(file: string, work: () => unknown): Promise<void> {
  try {
    await work();
  } catch (error) {
    if (error instanceof Help) {
      console.log(
        `${headOf(await Deno.readTextFile(new URL(file)))}\n\nOptions and defaults:\n${error.message}`,
      );
      Deno.exit(0);
    }
    if (!(error instanceof OptionError)) throw error;
    console.error(`${error.message}; --help says what there is`);
    Deno.exit(2);
  }
}
