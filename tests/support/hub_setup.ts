/** A hub, a cache and a model for a test. @module */
import { fileURLToPath } from "node:url";
import { assert, assertEquals } from "@std/assert";
import * as tf from "@tensorflow/tfjs";
import { modelFolder, type SourceOptions } from "../../lib/files/hub.ts";
import { type HubChanges, HubServer } from "./hub_server.ts";

export const TOKEN = "hf_FirstSecretOfThisTest", MODEL = "lab/model";
export const fixture = (name: string): string =>
  fileURLToPath(new URL(`../fixtures/${name}`, import.meta.url));
export type Files = Map<string, Uint8Array<ArrayBuffer>>;

/** The files of a fixture's model. */
export async function filesOf(name: string): Promise<Files> {
  const names = ["config.json", "model.safetensors"];
  return new Map(
    await Promise.all(
      names.map(async (file) => [file, await Deno.readFile(`${fixture(name)}/${file}`)] as const),
    ),
  );
}

export const files: Files = await filesOf("pretrain-a");
files.set("README.md", new TextEncoder().encode("# model")).set("pytorch_model.bin", new Uint8Array(9));
export const weights = files.get("model.safetensors")!, config = files.get("config.json")!;

/** What a test works with. */
export interface Setup {
  hub: HubServer;
  /** HF_HOME. */
  home: string;
  /** Everything printed so far. */
  lines: string[];
  load(options?: SourceOptions & { environment?: Record<string, string> }): Promise<string>;
}

/** Runs a test on a hub and a cache of its own; nothing that it prints or throws may hold the token. */
export function withHub(
  name: string,
  changes: HubChanges,
  fn: (setup: Setup) => Promise<void>,
  held = files,
): void {
  Deno.test(name, async () => {
    const home = await Deno.makeTempDir(), lines: string[] = [], { error } = console;
    const { numTensors } = tf.memory();
    await using hub = new HubServer(held, changes);
    console.error = (...words: unknown[]) => lines.push(words.join(" "));
    const load: Setup["load"] = async ({ environment, ...options } = {}) => {
      const variables = { HF_HOME: home, HF_ENDPOINT: hub.endpoint, HF_TOKEN: TOKEN, ...environment };
      try {
        return await modelFolder(MODEL, { pause: 1, ...options, environment: variables });
      } catch (error) {
        lines.push(Deno.inspect(error), JSON.stringify(error), (error as Error).stack!);
        throw error;
      }
    };
    try {
      await fn({ hub, home, lines, load });
    } finally {
      console.error = error;
      await Deno.remove(home, { recursive: true });
    }
    assert(!/Secret|Signature/.test(lines.join("\n")), lines.join("\n"));
    assertEquals(tf.memory().numTensors, numTensors, "tensors left over");
  });
}

/** All files below a folder, locks apart. */
export function below(folder: string): string[] {
  try {
    return [...Deno.readDirSync(folder)].flatMap(({ name, isDirectory }) =>
      name === ".locks"
        ? []
        : isDirectory
        ? below(`${folder}/${name}`).map((path) => `${name}/${path}`)
        : [name]
    ).sort();
  } catch {
    return [];
  }
}

/** An address at which nobody listens. */
export function deadAddress(): string {
  using listener = Deno.listen({ port: 0, hostname: "127.0.0.1" });
  return `http://127.0.0.1:${listener.addr.port}`;
}
