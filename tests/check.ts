/**
 * `deno task check`: types of all code, the README and the notebooks included, and the packages as they would be published.
 * `deno task ok`: format, lint, all that, and every test: what has to pass before a commit.
 *
 * @module
 */
import { join } from "node:path";
import { readOptions, runTask } from "../bench/options.ts";
import { PROJECT } from "../notebooks/.tools/setup.ts";

const CHECKS = [
  "check mod.ts lib tests bench notebooks notebooks/.tools",
  "check --config kernels/deno.json kernels/build.ts",
  "check --doc-only README.md lib/engine/README.md docs/ade20k.md",
  "publish --dry-run --allow-dirty",
];

async function check(): Promise<void> {
  const { all } = readOptions(Deno.args, { all: false });
  const commands = [...all ? ["fmt --check", "lint"] : [], ...CHECKS];
  const places = [...commands.map((command) => [command, PROJECT]), [
    CHECKS.at(-1)!,
    join(PROJECT, "lib/engine"),
  ]];
  if (all) places.push(["task test", PROJECT]);
  for (const [command, cwd] of places) {
    const child = new Deno.Command(Deno.execPath(), { args: command!.split(" "), cwd: cwd! }).spawn();
    const { code } = await child.status;
    if (code !== 0) Deno.exit(code);
  }
}

if (import.meta.main) await runTask(import.meta.url, check);
