/**
 * Reads safetensors files broken at random: each has to be refused by name, or be whole; none may end in another error,
 * take long, or give bytes from outside the file.
 *
 *     deno task bench fuzz [--count 100000] [--seed 0]
 */
import process from "node:process";
import { checkRead, mutant } from "../tests/support/mutate.ts";
import { count as countOf, readOptions } from "./common.ts";

/** Seconds of processor time that a file of a few kilobytes may take. */
const LIMIT = 2;

/** `deno task bench fuzz`. */
export function benchFuzz(args: readonly string[]): void {
  const given = readOptions(args, { count: "100000", seed: "0" });
  const count = countOf("count", given.count), seed = countOf("seed", given.seed, 0);
  let whole = 0, failed = 0, slowest = 0;
  for (let i = 0; i < count; i++) {
    const bytes = mutant(i, seed), start = process.cpuUsage();
    let wrong: unknown;
    try {
      if (checkRead(bytes)) whole++;
    } catch (error) {
      wrong = error;
    }
    const { user, system } = process.cpuUsage(start), seconds = (user + system) / 1e6;
    slowest = Math.max(slowest, seconds);
    if (seconds > LIMIT) wrong ??= `took ${seconds.toFixed(1)} s`;
    if (wrong === undefined) continue;
    failed++;
    console.error(`file ${i} of seed ${seed}: ${wrong}`);
  }
  console.log(`${whole} whole, ${count - whole - failed} refused; slowest ${(slowest * 1000).toFixed(0)} ms`);
  console.log(`${count - failed} passed, ${failed} failed`);
  if (failed > 0) Deno.exit(1);
}
