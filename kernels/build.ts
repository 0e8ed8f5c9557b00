/**
 * Compiles the sources beside it with AssemblyScript and writes a module of `lib/` for each.
 *
 * @module
 */
import asc from "assemblyscript/asc";

const HERE = new URL(".", import.meta.url);

/** Each source's name, and where what becomes of it is kept. */
export const SOURCES = {
  kernels: "lib/engine/wasm_binary.ts",
  resample: "lib/data/resample_binary.ts",
} as const;

/** The WebAssembly module of a source; the same source gives the same bytes. */
export async function compileKernels(name: keyof typeof SOURCES): Promise<Uint8Array<ArrayBuffer>> {
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

/** SHA-256, in hexadecimal. */
export async function checksum(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).toHex();
}

if (import.meta.main) {
  for (const name of Object.keys(SOURCES) as (keyof typeof SOURCES)[]) {
    const bytes = await compileKernels(name), sum = await checksum(bytes);
    await Deno.writeTextFile(
      new URL(`../${SOURCES[name]}`, HERE),
      `/** What \`deno task kernels\` made of \`kernels/${name}.ts\`, in base64, and its SHA-256. @module */

export const KERNELS =
  "${bytes.toBase64()}";

export const KERNELS_SHA256 = "${sum}";
`,
    );
    console.log(`${name}: ${bytes.length} bytes, SHA-256 ${sum}`);
  }
}
