/** Reads broken files in a process that may die of it: `child.ts KIND FROM TO SEED`; a line of JSON after each. @module */
import { attempts } from "./kinds.ts";

const [kind = "", from, to, seed] = Deno.args;

/** MB that this process has held at most. */
function peak(): number {
  const [, kilobytes = "0"] = /VmHWM:\s+(\d+)/.exec(Deno.readTextFileSync("/proc/self/status")) ?? [];
  return Number(kilobytes) / 1000;
}

await attempts(kind, [Number(from), Number(to)], Number(seed), (index, outcome) => {
  console.log(JSON.stringify({ index, peak: peak(), ...outcome }));
});
Deno.exit();
