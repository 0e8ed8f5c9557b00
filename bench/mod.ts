/** `deno task bench NAME …`: measurements by name; each file says what its options are. */
import { benchEngines } from "./engines.ts";
import { benchFeatures } from "./features.ts";
import { benchFuzz } from "./fuzz.ts";
import { benchImages } from "./images.ts";
import { benchInterop } from "./interop.ts";
import { benchKill } from "./kill.ts";
import { benchLearning } from "./learning/mod.ts";
import { benchMemory } from "./memory.ts";
import { benchParity } from "./parity.ts";
import { benchProfile } from "./profile.ts";
import { benchSame } from "./same.ts";
import { benchStep } from "./step.ts";

const benches: Record<string, (args: readonly string[]) => void | Promise<void>> = {
  fuzz: benchFuzz,
  images: benchImages,
  interop: benchInterop,
  kill: benchKill,
  same: benchSame,
  step: benchStep,
  engines: benchEngines,
  profile: benchProfile,
  features: benchFeatures,
  learning: benchLearning,
  memory: benchMemory,
  parity: benchParity,
};

const [name = "", ...args] = Deno.args, bench = benches[name];
if (!bench) {
  console.error(`expected one of ${Object.keys(benches).join(", ")}, got "${name}"`);
  Deno.exit(2);
}
await bench(args);
Deno.exit(); // a kernel thread may still wait for work
