/**
 * Runs tfjs-core's own specs on the tensorflow engine, with the exclusions of tfjs-node's own test runner. The last line
 * it prints is the count, alone. An argument that is no option runs only the specs with that text in their names;
 * `--leave-out-known` leaves the specs in known_failures.json out of the count and fails if one of them passes.
 *
 * @module
 */
import { version_core } from "@tensorflow/tfjs-core";
import * as esbuild from "esbuild";
import jasmineRequire from "jasmine-core";
import { useEngine } from "nepa";
import { createRequire } from "node:module";
import { dirname } from "node:path";
import { compileFunction } from "node:vm";
import { readOptions, runTask } from "../../bench/options.ts";
import knownFailures from "./known_failures.json" with { type: "json" };
import { type SpecResult, tally } from "./tally.ts";

/** What of jasmine's environment is used here. */
interface Jasmine {
  configure(options: { random: boolean; specFilter(spec: { getFullName(): string }): boolean }): void;
  addReporter(reporter: { specDone(ended: Ended): void; suiteDone(ended: Ended): void }): void;
  execute(): Promise<{ overallStatus: string; incompleteReason?: string }>;
}

interface Ended {
  fullName: string;
  status: "passed" | "failed" | "pending" | "excluded";
  failedExpectations: { message: string }[];
}

/** Finds files of the npm packages that this program and the library import. */
const { resolve } = createRequire(Deno.execPath());
const CORE = dirname(resolve("@tensorflow/tfjs-core/package.json"));

/** The same as tfjs-node's runner: the environment is set before the specs are defined. */
const ENTRY = `
  import "./dist/public/chained_ops/register_all_chained_ops";
  import "./dist/register_all_gradients";
  import { setTestEnvs } from "./dist/jasmine_util";
  setTestEnvs([{ name: "test-tensorflow", backendName: "tensorflow", flags: {}, isDataSync: true }]);
  require("./dist/tests");
`;

/** Defines the specs. They are modules for a bundler: no extensions, and marked as having no effect. */
async function defineSpecs(): Promise<void> {
  const { outputFiles: [bundle] } = await esbuild.build({
    stdin: { contents: ENTRY, resolveDir: CORE },
    bundle: true,
    write: false,
    platform: "node",
    format: "cjs",
    ignoreAnnotations: true,
    packages: "external",
    alias: { "jasmine-core": dirname(resolve("jasmine-core/package.json")) },
  });
  await esbuild.stop();
  const define = compileFunction(bundle!.text, ["require"], { filename: "tfjs-core-specs.cjs" });
  define(createRequire(`${CORE}/dist/tests.js`));
}

/** Parts of the names of specs that tfjs-node's runner leaves out, from its source. */
async function exclusions(): Promise<string[]> {
  const source = await Deno.readTextFile(resolve("@tensorflow/tfjs-node-gpu/src/run_tests.ts"));
  const [, list] = source.match(/IGNORE_LIST: string\[\] = \[\n(.*?)\n\];/s)!;
  return [...list!.matchAll(/^ *'(.*?)',/gm)].map(([, name]) => name!);
}

async function runSpecs(text: string): Promise<{ results: SpecResult[]; pending: number; excluded: number }> {
  const jasmine: Jasmine = jasmineRequire.boot(jasmineRequire).getEnv();
  await defineSpecs();
  const excluded = await exclusions(), results: SpecResult[] = [];
  const counts = { pending: 0, excluded: 0 };
  const add = ({ fullName: name, status, failedExpectations }: Ended) => {
    const messages = failedExpectations.map(({ message }) => message).join("; ");
    results.push({ name, failure: status === "failed" ? messages : undefined });
  };
  jasmine.addReporter({
    specDone: (spec) => {
      if (spec.status === "pending" || spec.status === "excluded") counts[spec.status]++;
      else add(spec);
    },
    suiteDone: (suite) => {
      if (suite.status === "failed") add(suite);
    },
  });
  jasmine.configure({
    random: false,
    specFilter: (spec) => {
      const name = spec.getFullName();
      return name.includes(text) && !excluded.some((part) => name.includes(part));
    },
  });
  const { overallStatus, incompleteReason } = await jasmine.execute();
  if (overallStatus === "incomplete") {
    results.push({ name: "the run as a whole", failure: incompleteReason! });
  }
  return { results, ...counts };
}

async function conformance(): Promise<void> {
  const { operands: [text = ""], ...given } = readOptions(Deno.args, { "leave-out-known": false }, "[TEXT]");
  const leaveOut = given["leave-out-known"];
  const engine = await useEngine("tensorflow");
  const { results, pending, excluded } = await runSpecs(text);
  const known = Object.entries<string>(knownFailures).filter(([name]) => name.includes(text));
  const { passed, failed, lines } = tally(results, Object.fromEntries(known), leaveOut);
  for (const line of lines) console.log(line);
  console.log(
    `specs of tfjs-core ${version_core} on ${engine}: ` +
      `${excluded} ${text ? "not chosen or " : ""}excluded by tfjs-node's own runner, ` +
      `${pending} pending in tfjs-core, ${known.length} known to fail${leaveOut ? " and left out" : ""}`,
  );
  console.log(`${passed} passed, ${failed} failed`);
  Deno.exit(failed > 0 || passed === 0 ? 1 : 0);
}

if (import.meta.main) await runTask(import.meta.url, conformance);
