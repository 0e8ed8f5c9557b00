/** Which folder of `lib` may import which. @module */
import { join, posix } from "node:path";
import { importsOf } from "../../bench/source.ts";
import { PROJECT } from "../../notebooks/.tools/setup.ts";

/** The rooms: each imports only rooms before it, and `engine` only itself. */
export const ROOMS = [
  "base",
  "display",
  "engine",
  "files",
  "data",
  "optim",
  "model",
  "eval",
  "training",
  "plot",
] as const;

/** The room of a file, by its path from the project's folder; undefined: none, as of `mod.ts` and `lib/parts.ts`. */
function roomOf(path: string): string | undefined {
  return /^lib\/([^/]+)\//.exec(path)?.[1];
}

/** The room that an import leads to; "outside" is what no room may import; undefined: a package. */
function target(path: string, specifier: string): string | undefined {
  if (/^@nepa\/engine(\/|$)/.test(specifier)) return "engine";
  if (/^(@nepa\/nepa|nepa)(\/|$)/.test(specifier)) return "outside";
  if (!/^(\.{0,2}\/|file:)/.test(specifier)) return undefined;
  return roomOf(posix.join(posix.dirname(path), specifier)) ?? "outside";
}

/**
 * The lines of a file that break the rule, types included.
 *
 * @param path From the project's folder: "lib/data/idx.ts".
 * @param text What the file holds.
 * @returns "file:line: the import".
 */
export function wrongImports(path: string, text: string): string[] {
  const room = roomOf(path), order: readonly string[] = ROOMS, place = order.indexOf(room!);
  if (room === undefined) return [];
  if (place < 0) return [`${path}: expected a folder among ${order.join(", ")}, got ${room}`];
  return importsOf(text).filter(({ specifier }) => {
    const other = target(path, specifier);
    if (other === undefined || other === room) return false;
    return room === "engine" || !order.slice(0, place).includes(other);
  }).map(({ line, text }) => `${path}:${line}: ${text}`);
}

/** All of `lib`. */
export async function wrongImportsOfLib(folder = "lib"): Promise<string[]> {
  const found: string[] = [];
  for await (const { name, isDirectory } of Deno.readDir(join(PROJECT, folder))) {
    const path = `${folder}/${name}`;
    if (isDirectory) found.push(...await wrongImportsOfLib(path));
    else if (/\.(ts|tsx|js)$/.test(name)) {
      found.push(...wrongImports(path, await Deno.readTextFile(join(PROJECT, path))));
    }
  }
  return found.sort();
}
