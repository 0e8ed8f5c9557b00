/**
 * Compiles the sources beside it with AssemblyScript and writes a module of `lib/` for each; with `--check` it only fails
 * if those that are there are others.
 *
 * @module
 */
import asc from "assemblyscript/asc";
import { readOptions, runTask } from "../bench/options.ts";

const HERE = new URL(".", import.meta.url);

/** Each source's name, and where what becomes of it is kept. */
const SOURCES = {
  kernels: "lib/engine/wasm_binary.ts",
  resample: "lib/data/resample_binary.ts",
} as const;

/** The WebAssembly module of a source; the same source gives the same bytes. */
async function compileKernels(name: keyof typeof SOURCES): Promise<Uint8Array<ArrayBuffer>> {
  let binary: Uint8Array<ArrayBuffer> | undefined;
  const options = ["-O3", "--runtime", "stub", "--enable", "simd,relaxed-simd,bulk-memory"];
  const { error, stderr } = await asc.main(
    [`${name}.ts`, "--outFile", "kernels.wasm", ...options, "--importMemory", "--noExportMemory"],
    {
      readFile: (file) => file === `${name}.ts` ? Deno.readTextFileSync(new URL(file, HERE)) : null,
      writeFile: (_, contents) => void (binary = Uint8Array.from(contents as Uint8Array)),
      listFiles: () => [],
    },
  );
  if (error || !binary) throw new Error(`asc: ${stderr}`, { cause: error });
  return binary;
}

/** The module of `lib/` that holds a source's WebAssembly. */
async function moduleOf(name: keyof typeof SOURCES): Promise<string> {
  const bytes = await compileKernels(name);
  const sum = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).toHex();
  console.log(`${name}: ${bytes.length} bytes, SHA-256 ${sum}`);
  return `/** What \`deno task kernels\` made of \`kernels/${name}.ts\`, in base64, and its SHA-256. @module */

export const KERNELS =
  "${bytes.toBase64()}";

export const KERNELS_SHA256 = "${sum}";
`;
}

async function build(): Promise<void> {
  const { check } = readOptions(Deno.args, { check: false });
  for (const name of Object.keys(SOURCES) as (keyof typeof SOURCES)[]) {
    const file = new URL(`../${SOURCES[name]}`, HERE), made = await moduleOf(name);
    if (!check) await Deno.writeTextFile(file, made);
    else if (await Deno.readTextFile(file) !== made) {
      throw new Error(`${SOURCES[name]} is not what kernels/${name}.ts gives; run: deno task kernels`);
    }
  }
}

if (import.meta.main) await runTask(import.meta.url, build);
