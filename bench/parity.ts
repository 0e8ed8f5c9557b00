/**
 * Prints how far this toolkit's numbers lie from the official PyTorch code's, as a Markdown table: the worst difference
 * of each quantity over all fixtures, for each engine.
 *
 *     deno task bench parity [way, such as wasm]
 */
import { fixtures, type Measure, ways } from "../tests/parity.ts";

/** `deno task bench parity`. */
export async function benchParity(args: readonly string[]): Promise<void> {
  const columns: { name: string; measures: Measure[] }[] = [];
  for (const { name, open, missing } of ways) {
    if (args.length > 0 && !args.includes(name)) continue;
    if (missing) {
      console.error(`${name} is left out: ${missing}`);
      continue;
    }
    const compile = await open();
    const measures: Measure[] = [];
    for (const measure of fixtures.values()) measures.push(...await measure(compile));
    columns.push({ name, measures });
  }
  const quantities = [
    ...new Set(columns.flatMap(({ measures }) => measures.map(({ quantity }) => quantity))),
  ];
  console.log(`| quantity | tolerance | ${columns.map(({ name }) => name).join(" | ")} |`);
  console.log(`| --- | --- |${" --- |".repeat(columns.length)}`);
  for (const quantity of quantities) {
    const cells = columns.map(({ measures }) => {
      const { difference, tolerance, fixture } = measures.filter((m) => m.quantity === quantity)
        .reduce((a, b) => (b.difference <= a.difference ? a : b));
      return `${difference.toExponential(1)} (${fixture})${difference <= tolerance ? "" : " **too far**"}`;
    });
    const tolerance = columns[0]!.measures.filter((m) => m.quantity === quantity).map((m) => m.tolerance);
    console.log(`| ${quantity} | ${Math.max(...tolerance).toExponential(0)} | ${cells.join(" | ")} |`);
  }
  if (columns.some(({ measures }) => measures.some((m) => !(m.difference <= m.tolerance)))) Deno.exit(1);
}
