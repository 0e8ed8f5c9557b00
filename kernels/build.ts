/**
 * Compiles `kernels.ts` with AssemblyScript and writes `lib/engine/wasm_binary.ts`.
 *
 * @module
 */
import asc from "assemblyscript/asc";

const HERE = new URL(".", import.meta.url), OUT = new URL("../lib/engine/wasm_binary.ts", HERE);

/** The WebAssembly module; the same source gives the same bytes. */
export async function compileKernels(): Promise<Uint8Array<ArrayBuffer>> {
  let binary: Uint8Array<ArrayBuffer> | undefined;
  const options = ["-O3", "--runtime", "stub", "--enable", "simd,relaxed-simd,bulk-memory"];
  const { error, stderr } = await asc.main(
    ["kernels.ts", "--outFile", "kernels.wasm", ...options, "--importMemory", "--noExportMemory"],
    {
      readFile: (name) => name === "kernels.ts" ? Deno.readTextFileSync(new URL(name, HERE)) : null,
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
  const bytes = await compileKernels(), sum = await checksum(bytes);
  await Deno.writeTextFile(
    OUT,
    `/** What \`deno task kernels\` made of \`kernels/kernels.ts\`, in base64, and its SHA-256. @module */

export const KERNELS =
  "${bytes.toBase64()}";

export const KERNELS_SHA256 = "${sum}";
`,
  );
  console.log(`${bytes.length} bytes, SHA-256 ${sum}`);
}
