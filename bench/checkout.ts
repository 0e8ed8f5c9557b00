/** Processes that train with the library as another checkout has it. @module */
import { join, resolve } from "node:path";
import { PROJECT } from "../notebooks/.tools/setup.ts";
import type { Opening, Trained, Training } from "./checkout_child.ts";
import { Answering } from "./process.ts";

/** This checkout's folder. */
export const HERE: string = PROJECT;

/** A process with the library of one checkout. */
export class Checkout {
  readonly #process: Answering;

  private constructor(process: Answering, readonly place: string) {
    this.#process = process;
  }

  /**
   * Starts one.
   *
   * @param folder The checkout: a folder with `deno.json` and `mod.ts`, of this version or an older one.
   * @param place A folder that the process may fill.
   * @throws {TypeError} If there is no checkout.
   */
  static async start(folder: string, place: string): Promise<Checkout> {
    const there = (name: string) => Deno.stat(join(resolve(folder), name)).then(() => true, () => false);
    if (!folder || !await there("deno.json")) {
      throw new TypeError(
        `--against: expected a checkout of this repository, got "${folder}", without deno.json`,
      );
    }
    // Lies beside neither checkout, so that no other deno.json than this one is found for it.
    const script = join(place, "child.ts");
    await Deno.copyFile(new URL("checkout_child.ts", import.meta.url), script);
    const config = [
      "--config",
      join(resolve(folder), "deno.json"),
      ...await there("deno.lock") ? ["--frozen"] : [],
    ];
    const args = ["run", "--no-check", "--allow-all", ...config, script];
    return new Checkout(new Answering(folder, Deno.execPath(), { args, cwd: place }), place);
  }

  /** Trains from start to end; gives the losses and each tensor's bytes. */
  async train(
    training: Omit<Training, "weights">,
  ): Promise<{ losses: number[]; weights: Map<string, Uint8Array<ArrayBuffer>> }> {
    const file = join(this.place, "weights"), ask = { training: { ...training, weights: file } };
    const { losses, ends } = await this.#process.ask<Trained>(ask), bytes = await Deno.readFile(file);
    await Deno.remove(file);
    let start = 0;
    const weights = Object.entries(ends).map(([name, end]) => {
      const tensor = bytes.slice(start, end);
      start = end;
      return [name, tensor] as const;
    });
    return { losses, weights: new Map(weights) };
  }

  /** Makes ready for {@linkcode seconds}. */
  async open(opening: Opening): Promise<void> {
    await this.#process.ask({ opening });
  }

  /** Seconds for so many steps, together. */
  async seconds(count: number): Promise<number> {
    return (await this.#process.ask<{ seconds: number }>({ count })).seconds;
  }

  stop(): Promise<void> {
    return this.#process.stop();
  }
}
