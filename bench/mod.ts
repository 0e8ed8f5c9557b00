/**
 * `deno task bench NAME …`: measurements. What one takes: `deno task bench NAME --help`.
 *
 * Names: engines, features, fuzz, images, interop, kill, learning, memory, parity, profile, same, step, wine.
 *
 * @module
 */
import { OptionError, readOptions, runTask } from "./options.ts";

/** Each is loaded when it is asked for. */
const BENCHES: Record<string, () => Promise<(args: readonly string[]) => unknown>> = {
  engines: async () => (await import("./engines.ts")).benchEngines,
  features: async () => (await import("./features.ts")).benchFeatures,
  fuzz: async () => (await import("./fuzz/mod.ts")).benchFuzz,
  images: async () => (await import("./images.ts")).benchImages,
  interop: async () => (await import("./interop.ts")).benchInterop,
  kill: async () => (await import("./kill.ts")).benchKill,
  learning: async () => (await import("./learning/mod.ts")).benchLearning,
  memory: async () => (await import("./memory.ts")).benchMemory,
  parity: async () => (await import("./parity.ts")).benchParity,
  profile: async () => (await import("./profile.ts")).benchProfile,
  same: async () => (await import("./same.ts")).benchSame,
  step: async () => (await import("./step.ts")).benchStep,
  wine: async () => (await import("./wine/mod.ts")).benchWine,
};

const [name = "", ...args] = Deno.args;
if (Object.hasOwn(BENCHES, name)) {
  const file = new URL(
    ["fuzz", "learning", "wine"].includes(name) ? `${name}/mod.ts` : `${name}.ts`,
    import.meta.url,
  );
  await runTask(file.href, async () => (await BENCHES[name]!())(args));
} else {
  await runTask(import.meta.url, () => {
    readOptions(name.startsWith("-") ? Deno.args : [], {});
    throw new OptionError(`expected one of ${Object.keys(BENCHES).join(", ")}, got "${name}"`);
  });
}
Deno.exit(); // a kernel thread may still wait for work
