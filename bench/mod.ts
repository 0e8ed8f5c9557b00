/** `deno task bench NAME …`: the timings by name. */
import { benchFuzz } from "./fuzz.ts";
import { benchInterop } from "./interop.ts";
import { benchKill } from "./kill.ts";
import { benchMemory } from "./memory.ts";
import { benchParity } from "./parity.ts";
import { benchStep } from "./step.ts";

const benches: Record<string, (args: readonly string[]) => void | Promise<void>> = {
  fuzz: benchFuzz,
  interop: benchInterop,
  kill: benchKill,
  step: benchStep,
  memory: benchMemory,
  parity: benchParity,
};

const [name = "", ...args] = Deno.args, bench = benches[name];
if (!bench) {
  console.error(`expected one of ${Object.keys(benches).join(", ")}, got "${name}"`);
  Deno.exit(2);
}
await bench(args);
Deno.exit(0); // a kernel thread may still wait for work
