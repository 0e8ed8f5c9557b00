/** The pictures among the fixtures, and what Pillow makes of them. @module */
import { fileURLToPath } from "node:url";
import { readSafetensors } from "../../lib/files/safetensors.ts";

/** The folder of the pictures. */
export const fixtures = fileURLToPath(new URL("../fixtures/images/", import.meta.url));

/** By a picture's name its pixels [height, width, 3], and what else Pillow makes of it. */
export const { tensors } = readSafetensors(await Deno.readFile(`${fixtures}expect.safetensors`));

/** Names of the pictures, sorted. */
export const pictures = [...Deno.readDirSync(fixtures)].map(({ name }) => name)
  .filter((name) => tensors.has(name)).sort();
